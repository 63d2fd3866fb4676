//! gRPC over HTTP/2: length-prefixed messages, time-outs, statuses.
//!
//! Source: "gRPC over HTTP2".

use crate::budget::Lease;
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// Before each message: whether it is compressed, and its length.
pub const PREFIX: usize = 5;

pub const OK: &str = "0";

pub const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Status codes that are said here; all others come from Python or from the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
}

/// A message as it came, with its prefix.
#[derive(Clone, Debug)]
pub struct Frame(Bytes);

impl Frame {
    pub fn is_compressed(&self) -> bool {
        self.0[0] != 0
    }

    pub fn message(&self) -> &[u8] {
        &self.0[PREFIX..]
    }

    pub fn into_message(mut self) -> Bytes {
        self.0.advance(PREFIX);
        self.0
    }

    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// With a prefix before it.
    pub fn of(message: &[u8]) -> Self {
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.extend_from_slice(&[0]);
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(message);
        Frame(framed.freeze())
    }
}

/// Why there is no message.
#[derive(Debug)]
pub enum NoMessage {
    /// The body ended, in the middle of one or before.
    Ended { within: bool },
    /// It would be longer than allowed.
    TooLarge,
    /// All that is in flight together would be more than may be held.
    Exhausted,
    /// The stream broke.
    Broken(h2::Error),
}

/// A body, read message by message.
pub struct Messages {
    body: RecvStream,
    /// What was received beyond the last message.
    rest: BytesMut,
    limit: usize,
}

impl Messages {
    pub fn new(body: RecvStream, limit: usize) -> Self {
        Messages { body, rest: BytesMut::new(), limit }
    }

    /// The next message.
    pub async fn next(&mut self, lease: &Lease) -> Result<Frame, NoMessage> {
        if self.rest.is_empty() {
            // The usual case: the first piece is the message, and is not copied.
            let piece = self.piece(lease).await?;
            match whole(&piece, self.limit)? {
                Some(end) if end == piece.len() => return Ok(Frame(piece)),
                _ => self.rest.extend_from_slice(&piece),
            }
        }
        loop {
            if let Some(end) = whole(&self.rest, self.limit)? {
                return Ok(Frame(self.rest.split_to(end).freeze()));
            }
            match self.piece(lease).await {
                Ok(piece) => self.rest.extend_from_slice(&piece),
                Err(NoMessage::Ended { .. }) => return Err(NoMessage::Ended { within: true }),
                Err(other) => return Err(other),
            }
        }
    }

    /// What follows the messages.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        while let Some(piece) = self.body.data().await {
            let piece = piece?;
            self.body.flow_control().release_capacity(piece.len())?;
        }
        self.body.trailers().await
    }

    /// At least one byte of the body.
    async fn piece(&mut self, lease: &Lease) -> Result<Bytes, NoMessage> {
        loop {
            let piece = match self.body.data().await {
                None => return Err(NoMessage::Ended { within: false }),
                Some(piece) => piece.map_err(NoMessage::Broken)?,
            };
            self.body.flow_control().release_capacity(piece.len()).map_err(NoMessage::Broken)?;
            if !piece.is_empty() {
                lease.hold(piece.len()).map_err(|_| NoMessage::Exhausted)?;
                return Ok(piece);
            }
        }
    }
}

/// Where the first message of a buffer ends, if all of it is there.
fn whole(buffer: &[u8], limit: usize) -> Result<Option<usize>, NoMessage> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if length > limit {
        return Err(NoMessage::TooLarge);
    }
    Ok((rest.len() >= length).then_some(PREFIX + length))
}

/// What a client's `grpc-timeout` says.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// `grpc-timeout` for what is left; at most eight digits.
pub fn timeout_value(left: Duration) -> HeaderValue {
    let micros = left.as_micros();
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else if micros / 1000 < 100_000_000 {
        format!("{}m", micros / 1000)
    } else {
        format!("{}S", (micros / 1_000_000).min(99_999_999))
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("1S"))
}

/// A status's text as it travels: percent-encoded.
pub fn encoded_details(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// And back.
pub fn decoded_details(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.first_chunk::<2>().and_then(|two| std::str::from_utf8(two).ok());
        match (byte, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(text));
        timeout(&headers)
    }

    #[test]
    fn timeouts_have_units() {
        assert_eq!(said("5S"), Some(Duration::from_secs(5)));
        assert_eq!(said("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(said("20m"), Some(Duration::from_millis(20)));
        for wrong in ["", "S", "5", "5x", "-5S", "123456789S"] {
            assert_eq!(said(wrong), None, "{wrong}");
        }
        assert_eq!(timeout_value(Duration::from_micros(1500)), "1500u");
        assert_eq!(timeout_value(Duration::from_secs(1000)), "1000000m");
        assert_eq!(timeout_value(Duration::from_secs(u64::MAX)), "99999999S");
    }

    #[test]
    fn details_go_there_and_back() {
        for text in ["", "plain", "100 % änderung\n", "%41"] {
            assert_eq!(decoded_details(encoded_details(text).as_bytes()), text);
        }
        assert_eq!(decoded_details(b"a%4"), "a%4");
    }

    #[test]
    fn a_message_ends_where_its_prefix_says() {
        assert!(matches!(whole(b"\0\0\0\0", 9), Ok(None)));
        assert!(matches!(whole(b"\0\0\0\0\x02a", 9), Ok(None)));
        assert!(matches!(whole(b"\0\0\0\0\x02abc", 9), Ok(Some(7))));
        assert!(matches!(whole(b"\0\0\0\0\x0a", 9), Err(NoMessage::TooLarge)));
        assert_eq!(Frame::of(b"ab").bytes(), &b"\0\0\0\0\x02ab"[..]);
        assert_eq!(Frame::of(b"ab").into_message(), &b"ab"[..]);
    }
}
