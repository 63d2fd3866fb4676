//! What a client may send beside its requests: so much at once, so much in a second, and some with each request.
//!
//! An ordinary client stays far below: a few settings, a ping now and then, window updates for what it received. One
//! that sends nothing else costs us time on every frame, and its neighbours with it; its connection is ended.

use crate::frames::{ACK, DATA, HEADERS, Head, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use std::time::Instant;

/// Of what there was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    Resets,
    Settings,
    Pings,
    WindowUpdates,
    /// Empty DATA, CONTINUATION, PRIORITY and what nobody knows.
    Frames,
}

/// So much at once, and so much again in a second.
#[derive(Debug)]
struct Bucket {
    left: f64,
    most: f64,
    by_second: f64,
    filled: Instant,
}

impl Bucket {
    fn new(most: f64, by_second: f64, now: Instant) -> Self {
        Bucket {
            left: most,
            most,
            by_second,
            filled: now,
        }
    }

    /// The clock is asked only when the bucket is empty.
    fn take(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left < 1.0 {
            let now = now();
            let since = now.saturating_duration_since(self.filled).as_secs_f64();
            self.left = (self.left + since * self.by_second).min(self.most);
            self.filled = now;
        }
        let has_one = self.left >= 1.0;
        if has_one {
            self.left -= 1.0;
        }
        has_one
    }

    fn add(&mut self, count: f64) {
        self.left = (self.left + count).min(self.most);
    }
}

/// Of one connection.
#[derive(Debug)]
pub struct Allowance {
    resets: Bucket,
    settings: Bucket,
    pings: Bucket,
    window_updates: Bucket,
    frames: Bucket,
}

impl Allowance {
    pub fn new(now: Instant) -> Self {
        Allowance {
            resets: Bucket::new(200.0, 100.0, now),
            settings: Bucket::new(20.0, 1.0, now),
            pings: Bucket::new(200.0, 50.0, now),
            window_updates: Bucket::new(4000.0, 1000.0, now),
            frames: Bucket::new(1000.0, 200.0, now),
        }
    }

    /// A frame came.
    ///
    /// # Errors
    /// It was one too many.
    pub fn see(&mut self, head: Head, now: impl FnOnce() -> Instant) -> Result<(), Flood> {
        let (bucket, flood) = match head.kind {
            HEADERS => {
                self.window_updates.add(8.0);
                self.pings.add(1.0);
                self.frames.add(2.0);
                return Ok(());
            }
            DATA if head.length > 0 => return Ok(()),
            PING | SETTINGS if head.flags & ACK != 0 => return Ok(()),
            RST_STREAM => (&mut self.resets, Flood::Resets),
            SETTINGS => (&mut self.settings, Flood::Settings),
            PING => (&mut self.pings, Flood::Pings),
            WINDOW_UPDATE => (&mut self.window_updates, Flood::WindowUpdates),
            _ => (&mut self.frames, Flood::Frames),
        };
        if bucket.take(now) { Ok(()) } else { Err(flood) }
    }

    /// So much was written: it is answered with window updates, and measured with pings.
    pub fn wrote(&mut self, bytes: usize) {
        self.window_updates.add(bytes as f64 / 512.0);
        self.pings.add(bytes as f64 / 65536.0);
    }

    /// A call upstream is given up on the client's account.
    ///
    /// # Errors
    /// It was one too many.
    pub fn reset_upstream(&mut self, now: impl FnOnce() -> Instant) -> Result<(), Flood> {
        if self.resets.take(now) {
            Ok(())
        } else {
            Err(Flood::Resets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn head(kind: u8, flags: u8, length: u32) -> Head {
        Head {
            length,
            kind,
            flags,
            stream: 1,
            last_stream: 0,
        }
    }

    /// How many frames in the same instant are taken.
    fn at_once(head: Head) -> usize {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        (0..10_000).take_while(|_| allowance.see(head, || now).is_ok()).count()
    }

    #[test]
    fn so_much_at_once() {
        assert_eq!(at_once(head(RST_STREAM, 0, 4)), 200);
        assert_eq!(at_once(head(SETTINGS, 0, 0)), 20);
        assert_eq!(at_once(head(PING, 0, 8)), 200);
        assert_eq!(at_once(head(9, 0, 1)), 1000);
        assert_eq!(at_once(head(DATA, 0, 0)), 1000);
        for endless in [
            head(PING, ACK, 8),
            head(SETTINGS, ACK, 0),
            head(DATA, 0, 1),
            head(HEADERS, 0, 1),
        ] {
            assert_eq!(at_once(endless), 10_000);
        }
    }

    #[test]
    fn so_much_in_a_second_and_with_requests() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let ping = head(PING, 0, 8);
        while allowance.see(ping, || start).is_ok() {}
        let later = start + Duration::from_secs(1);
        let taken = (0..1000).take_while(|_| allowance.see(ping, || later).is_ok()).count();
        assert!((48..=50).contains(&taken), "{taken}");
        for _ in 0..1000 {
            assert!(allowance.see(head(HEADERS, 0, 9), || later).is_ok());
            assert!(allowance.see(ping, || later).is_ok());
        }
    }
}
