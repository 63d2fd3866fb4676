//! HTTP/2 frames as they pass by: only their heads are looked at. `h2` does the protocol; what it does not tell is how
//! many frames of which kind a peer sends, which stream a GOAWAY names, and which requests were written at all.
//!
//! Source: RFC 9113, section 4.1 and 6.

/// A frame's head, with the first four bytes of its payload where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    /// Of a GOAWAY only: the last stream that was or may yet be processed.
    pub last_stream: u32,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const ACK: u8 = 1;

const HEAD: usize = 9;
const STREAM_BITS: u32 = 0x7fff_ffff;

/// Where in the stream of frames we are.
#[derive(Debug, Default)]
pub struct Walker {
    /// Bytes to pass over before the next head.
    skip: usize,
    /// A head that is not complete yet.
    partial: [u8; HEAD + 4],
    have: usize,
}

impl Walker {
    /// `preface`: the bytes that come before the first frame.
    pub fn new(preface: usize) -> Self {
        Walker {
            skip: preface,
            ..Walker::default()
        }
    }

    /// Look at the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8], mut see: impl FnMut(Head)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let Some(head) = self.head(&mut bytes) else { return };
            let looked_at = if head.kind == GOAWAY && head.length >= 4 { 4 } else { 0 };
            self.skip = (head.length - looked_at) as usize;
            self.have = 0;
            see(head);
        }
    }

    fn head(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        self.gather(bytes, HEAD)?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, ..] = self.partial;
        let mut head = Head {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_BITS,
            last_stream: 0,
        };
        if kind == GOAWAY && head.length >= 4 {
            self.gather(bytes, HEAD + 4)?;
            let [.., p0, p1, p2, p3] = self.partial;
            head.last_stream = u32::from_be_bytes([p0, p1, p2, p3]) & STREAM_BITS;
        }
        Some(head)
    }

    /// Have `count` bytes of the head.
    fn gather(&mut self, bytes: &mut &[u8], count: usize) -> Option<()> {
        let missing = count.saturating_sub(self.have).min(bytes.len());
        let (now, later) = bytes.split_at_checked(missing)?;
        self.partial
            .get_mut(self.have..self.have + missing)?
            .copy_from_slice(now);
        self.have += missing;
        *bytes = later;
        (self.have >= count).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn heads_are_the_same_however_the_bytes_are_cut() {
        let frames = [
            frame(SETTINGS, 0, 0, &[0; 12]),
            frame(HEADERS, 4, 1, b"abc"),
            frame(DATA, 1, 1, b""),
            frame(GOAWAY, 0, 0, &[0x80, 0, 0, 9, 0, 0, 0, 0, 1, 2]),
            frame(GOAWAY, 0, 0, &[1]),
            frame(PING, 0, 0, &[7; 8]),
        ];
        let bytes = [b"PRI".to_vec(), frames.concat()].concat();
        for step in 1..=bytes.len() {
            let (mut walker, mut seen) = (Walker::new(3), vec![]);
            bytes
                .chunks(step)
                .for_each(|chunk| walker.feed(chunk, |head| seen.push(head)));
            let kinds: Vec<_> = seen.iter().map(|head| (head.kind, head.stream, head.length)).collect();
            let expected = [
                (SETTINGS, 0, 12),
                (HEADERS, 1, 3),
                (DATA, 1, 0),
                (GOAWAY, 0, 10),
                (GOAWAY, 0, 1),
                (PING, 0, 8),
            ];
            assert_eq!(kinds, expected, "{step}");
            assert_eq!((seen[3].last_stream, seen[4].last_stream), (9, 0), "{step}");
        }
    }
}
