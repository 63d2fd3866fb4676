//! Compressed messages: inflated for Python, never beyond the limit, and never on the thread that moves others' bytes.

use crate::budget::Lease;
use crate::grpc::{Frame, NoMessage};
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use std::io::Read;
use std::sync::Arc;

/// What is inflated between two looks at the budget.
const STEP: usize = 64 << 10;

#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    Deflate,
}

/// The message of a frame, inflated where it is compressed.
///
/// # Errors
/// It is longer than `limit`, more than may be held, or not compressed as `encoding` says.
pub async fn message(
    frame: Frame,
    encoding: Option<&[u8]>,
    limit: usize,
    lease: &Arc<Lease>,
) -> Result<Bytes, NoMessage> {
    if !frame.is_compressed() {
        return Ok(frame.into_message());
    }
    let encoding = match encoding {
        Some(b"gzip") => Encoding::Gzip,
        Some(b"deflate") => Encoding::Deflate,
        _ => return Err(NoMessage::Ended { within: true }),
    };
    let (compressed, lease) = (frame.into_message(), lease.clone());
    let inflating = tokio::task::spawn_blocking(move || inflated(&compressed, encoding, limit, &lease));
    inflating.await.unwrap_or(Err(NoMessage::Ended { within: true }))
}

fn inflated(compressed: &[u8], encoding: Encoding, limit: usize, lease: &Lease) -> Result<Bytes, NoMessage> {
    match encoding {
        Encoding::Gzip => read(GzDecoder::new(compressed), limit, lease),
        Encoding::Deflate => read(ZlibDecoder::new(compressed), limit, lease),
    }
}

fn read(mut reader: impl Read, limit: usize, lease: &Lease) -> Result<Bytes, NoMessage> {
    let mut message = Vec::new();
    loop {
        let more = (limit + 1).saturating_sub(message.len()).min(STEP);
        let count = reader
            .by_ref()
            .take(more as u64)
            .read_to_end(&mut message)
            .map_err(|_| NoMessage::Ended { within: true })?;
        if message.len() > limit {
            return Err(NoMessage::TooLarge);
        }
        if count == 0 {
            return Ok(message.into());
        }
        lease.hold(count).map_err(|_| NoMessage::Exhausted)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;
    use std::sync::atomic::Ordering::Relaxed;

    fn zeros(count: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; count]).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn inflating_stops_at_the_limit_and_at_the_budget() {
        let bomb = zeros(10 << 20);
        let budget = Budget::new(9, 1 << 20);
        let lease = budget.open().expect("room");
        assert!(matches!(
            inflated(&bomb, Encoding::Gzip, 1 << 19, &lease),
            Err(NoMessage::TooLarge)
        ));
        drop(lease);
        let lease = budget.open().expect("room");
        assert!(matches!(
            inflated(&bomb, Encoding::Gzip, 64 << 20, &lease),
            Err(NoMessage::Exhausted)
        ));
        drop(lease);
        let lease = budget.open().expect("room");
        let message = inflated(&zeros(1000), Encoding::Gzip, 1000, &lease).expect("within");
        assert_eq!((message.len(), budget.held_bytes.load(Relaxed)), (1000, 1000));
        assert!(matches!(
            inflated(&zeros(1000), Encoding::Gzip, 999, &lease),
            Err(NoMessage::TooLarge)
        ));
    }

    #[test]
    fn deflate_is_zlib_and_rubbish_is_an_end() {
        let lease = Budget::new(1, 1 << 20).open().expect("room");
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"message").expect("in memory");
        let compressed = encoder.finish().expect("in memory");
        assert_eq!(
            inflated(&compressed, Encoding::Deflate, 9, &lease).expect("zlib"),
            &b"message"[..]
        );
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            assert!(matches!(
                inflated(b"rubbish", encoding, 9, &lease),
                Err(NoMessage::Ended { within: true })
            ));
        }
    }
}
