//! Which call metadata travels on, in both directions: the rule of `sidecar.proxy.metadata`.

use http::{HeaderMap, HeaderName, HeaderValue};

const HOP_BY_HOP: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

const GRPC_BUT_END_TO_END: [&str; 3] = ["grpc-status-details-bin", "grpc-tags-bin", "grpc-trace-bin"];

/// Pairs as Python holds them: a name, and the value's bytes.
pub type Pairs = Vec<(String, Vec<u8>)>;

/// Whether a name, in lower case, travels on.
pub fn travels(name: &str) -> bool {
    GRPC_BUT_END_TO_END.contains(&name)
        || !(HOP_BY_HOP.contains(&name) || name.starts_with("grpc-") || name.starts_with("gate-"))
}

/// Copy what travels on.
pub fn copy_travelling(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if travels(name.as_str()) {
            to.append(name, value.clone());
        }
    }
}

/// All of it, for Python: values of names in `-bin` decoded.
pub fn pairs(headers: &HeaderMap) -> Pairs {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), decoded(name, value)))
        .collect()
}

/// Add pairs of Python's. What HTTP/2 cannot carry is left out; Python has looked at it before.
pub fn add_pairs(pairs: &[(String, Vec<u8>)], to: &mut HeaderMap) {
    for (name, value) in pairs {
        let encoded = if name.ends_with("-bin") {
            base64::encode(value)
        } else {
            value.clone()
        };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(encoded)) {
            to.append(name, value);
        }
    }
}

fn decoded(name: &HeaderName, value: &HeaderValue) -> Vec<u8> {
    if name.as_str().ends_with("-bin") {
        base64::decode(value.as_bytes()).unwrap_or_default()
    } else {
        value.as_bytes().to_vec()
    }
}

/// Base64 as gRPC writes it: without padding; read with or without.
mod base64 {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
            for at in 0..=chunk.len() {
                text.push(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]);
            }
        }
        text
    }

    pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
        let end = text.iter().rposition(|&byte| byte != b'=').map_or(0, |at| at + 1);
        let mut bytes = Vec::with_capacity(end * 3 / 4);
        let (mut bits, mut count) = (0u32, 0);
        for &byte in &text[..end] {
            let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
            bits = bits << 6 | digit as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        Some(bytes)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn bytes_go_there_and_back() {
            for length in 0..20u8 {
                let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(97).wrapping_add(13)).collect();
                assert_eq!(decode(&encode(&bytes)), Some(bytes));
            }
            assert_eq!(encode(b"\xff\xfe"), b"//4");
            assert_eq!(decode(b"//4="), Some(vec![0xff, 0xfe]));
            assert_eq!(decode(b"*"), None);
        }
    }
}
