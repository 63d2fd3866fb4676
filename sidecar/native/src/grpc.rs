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
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Up to this length a message is copied out of the buffer that it was received in, which may be far larger.
const COPIED: usize = 1 << 10;

/// As much room is made at once for a message that is announced and not there yet.
const ROOM: usize = 1 << 20;

/// A longer message may be forwarded while it arrives, once so much of it is here.
pub const BEGINNING: usize = 64 << 10;

/// Up to this length pieces are brought together, for what a piece itself takes.
const SMALL: usize = 4 << 10;

/// Status codes that are said here; all others come from Python or from the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a content-type is gRPC's: itself, or with an encoding or parameters; gRPC-Web is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else {
        return false;
    };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    }
}

/// A message as it came, with its prefix.
#[derive(Clone, Debug)]
pub struct Frame(Bytes);

impl Frame {
    pub fn is_compressed(&self) -> bool {
        self.0.first().is_some_and(|&flag| flag != 0)
    }

    pub fn message(&self) -> &[u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }

    pub fn into_message(mut self) -> Bytes {
        self.0.advance(PREFIX.min(self.0.len()));
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

/// A request's message, kept until its answer is judged.
pub enum Kept {
    Whole(Frame),
    /// As it came, with its prefix.
    Pieces(Vec<Bytes>),
}

impl Kept {
    /// In one piece; copied where it is not.
    pub fn frame(&self) -> Frame {
        match self {
            Kept::Whole(frame) => frame.clone(),
            Kept::Pieces(pieces) => Frame(pieces.concat().into()),
        }
    }
}

/// What is here of a message.
pub enum Arrived {
    Whole(Frame),
    /// The first bytes, with the prefix; it is not compressed.
    Beginning(Bytes),
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
    /// It was begun, and did not come to its end in time.
    TooSlow,
    /// The stream broke.
    Broken(h2::Error),
}

/// A body, read message by message.
pub struct Messages {
    body: RecvStream,
    /// What was received beyond the last message.
    rest: BytesMut,
    limit: usize,
    /// How long a message may be on its way, from its first byte.
    within: Option<Duration>,
}

impl Messages {
    pub fn new(body: RecvStream, limit: usize, within: Option<Duration>) -> Self {
        Messages {
            body,
            rest: BytesMut::new(),
            limit,
            within,
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// There is none.
    pub async fn next(&mut self, lease: &Lease) -> Result<Frame, NoMessage> {
        match self.arrive(lease, usize::MAX).await? {
            Arrived::Whole(frame) => Ok(frame),
            Arrived::Beginning(_) => Err(NoMessage::TooLarge), // of more than there is memory
        }
    }

    /// The next message, or the beginning of a long one.
    ///
    /// # Errors
    /// There is none.
    pub async fn begin(&mut self, lease: &Lease) -> Result<Arrived, NoMessage> {
        self.arrive(lease, BEGINNING).await
    }

    async fn arrive(&mut self, lease: &Lease, enough: usize) -> Result<Arrived, NoMessage> {
        if self.rest.is_empty() {
            // The usual case: the first piece is the message.
            let piece = self.piece(lease).await?;
            match whole(&piece, self.limit)? {
                Some(end) if end == piece.len() && end > COPIED => return Ok(Arrived::Whole(Frame(piece))),
                Some(end) if end == piece.len() => return Ok(Arrived::Whole(Frame(Bytes::copy_from_slice(&piece)))),
                _ => self.rest.extend_from_slice(&piece),
            }
        }
        match self.within {
            None => self.gathered(lease, enough).await,
            Some(within) => tokio::time::timeout(within, self.gathered(lease, enough))
                .await
                .unwrap_or(Err(NoMessage::TooSlow)),
        }
    }

    /// Bytes beyond the last message that are here already.
    pub fn beyond(&self) -> usize {
        self.rest.len()
    }

    async fn gathered(&mut self, lease: &Lease, enough: usize) -> Result<Arrived, NoMessage> {
        loop {
            if let Some(end) = whole(&self.rest, self.limit)? {
                return Ok(Arrived::Whole(Frame(self.rest.split_to(end).freeze())));
            }
            if self.rest.len() >= enough && self.rest.first() == Some(&0) {
                return Ok(Arrived::Beginning(self.rest.split().freeze()));
            }
            let room = announced(&self.rest).min(enough.saturating_add(BEGINNING));
            self.rest.reserve(room.saturating_sub(self.rest.len()).min(ROOM));
            match self.piece(lease).await {
                Ok(piece) => self.rest.extend_from_slice(&piece),
                Err(NoMessage::Ended { .. }) => return Err(NoMessage::Ended { within: true }),
                Err(other) => return Err(other),
            }
        }
    }

    /// At least one of the next bytes of a message, of which `left` are still to come. May be given up, and asked again.
    ///
    /// # Errors
    /// They do not come.
    pub async fn more(&mut self, left: usize, lease: &Lease) -> Result<Bytes, NoMessage> {
        let enough = left.min(SMALL);
        while self.rest.len() < enough {
            let mut piece = match self.piece(lease).await {
                Err(NoMessage::Ended { .. }) => return Err(NoMessage::Ended { within: true }),
                piece => piece?,
            };
            if self.rest.is_empty() && piece.len() >= enough {
                piece.truncate(left); // what follows the message is not looked at
                return Ok(piece);
            }
            self.rest.extend_from_slice(&piece);
        }
        Ok(self.rest.split_to(left.min(self.rest.len())).freeze())
    }

    /// Take back what is here of a message that is now wanted as a whole.
    pub fn take_back(&mut self, pieces: &[Bytes]) {
        let later = std::mem::take(&mut self.rest);
        self.rest
            .reserve(pieces.iter().map(Bytes::len).sum::<usize>() + later.len());
        pieces.iter().for_each(|piece| self.rest.extend_from_slice(piece));
        self.rest.extend_from_slice(&later);
    }

    /// What follows the only message; None where that is another one.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        if !self.rest.is_empty() {
            return Ok(None);
        }
        while let Some(piece) = self.body.data().await {
            if !piece?.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(self.body.trailers().await?.unwrap_or_default()))
    }

    /// At least one byte of the body.
    async fn piece(&mut self, lease: &Lease) -> Result<Bytes, NoMessage> {
        loop {
            let piece = match self.body.data().await {
                None => return Err(NoMessage::Ended { within: false }),
                Some(piece) => piece.map_err(NoMessage::Broken)?,
            };
            self.body
                .flow_control()
                .release_capacity(piece.len())
                .map_err(NoMessage::Broken)?;
            if !piece.is_empty() {
                lease.hold(piece.len()).map_err(|_| NoMessage::Exhausted)?;
                return Ok(piece);
            }
        }
    }
}

/// How long the first message of a buffer says that it will be, with its prefix.
pub fn announced(buffer: &[u8]) -> usize {
    match buffer.first_chunk::<PREFIX>() {
        Some([_, length @ ..]) => PREFIX.saturating_add(u32::from_be_bytes(*length) as usize),
        None => PREFIX,
    }
}

/// Where the first message of a buffer ends, if all of it is there.
fn whole(buffer: &[u8], limit: usize) -> Result<Option<usize>, NoMessage> {
    if buffer.len() < PREFIX {
        return Ok(None);
    }
    let end = announced(buffer);
    if end - PREFIX > limit {
        return Err(NoMessage::TooLarge);
    }
    Ok((buffer.len() >= end).then_some(end))
}

/// What a client's `grpc-timeout` says.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
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

/// `grpc-timeout` for what is left; at most eight digits. It never comes again: no place in tables of known headers.
pub fn timeout_value(left: Duration) -> HeaderValue {
    let micros = left.as_micros();
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else if micros / 1000 < 100_000_000 {
        format!("{}m", micros / 1000)
    } else {
        format!("{}S", (micros / 1_000_000).min(99_999_999))
    };
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("1S"));
    value.set_sensitive(true);
    value
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
                rest = after.get(2..).unwrap_or_default();
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
    fn content_types_of_grpc() {
        for (text, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcfoo", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            assert!(!is_grpc(&headers));
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(text));
            assert_eq!(is_grpc(&headers), expected, "{text}");
        }
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
