//! Compressed messages: inflated for Python, never beyond the limit.

use crate::grpc::{Frame, NoMessage};
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use std::io::Read;

/// The message of a frame, inflated where it is compressed.
///
/// # Errors
/// It is longer than `limit`, or is not compressed as `encoding` says.
pub fn message(frame: Frame, encoding: Option<&[u8]>, limit: usize) -> Result<Bytes, NoMessage> {
    if !frame.is_compressed() {
        return Ok(frame.into_message());
    }
    let compressed = frame.into_message();
    match encoding {
        Some(b"gzip") => inflated(GzDecoder::new(&compressed[..]), limit),
        Some(b"deflate") => inflated(ZlibDecoder::new(&compressed[..]), limit),
        _ => Err(NoMessage::Ended { within: true }),
    }
}

fn inflated(reader: impl Read, limit: usize) -> Result<Bytes, NoMessage> {
    let mut message = Vec::new();
    let read = reader.take(limit as u64 + 1).read_to_end(&mut message);
    match read {
        Ok(length) if length > limit => Err(NoMessage::TooLarge),
        Ok(_) => Ok(message.into()),
        Err(_) => Err(NoMessage::Ended { within: true }),
    }
}
