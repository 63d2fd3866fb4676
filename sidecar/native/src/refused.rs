//! What was refused without Python, until it is asked for its audit records. It comes in floods, so only so much waits;
//! what does not is counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The id of a call, and why it was refused.
pub type Entry = (String, &'static str);

/// Entries in the order in which they came.
#[derive(Debug)]
pub struct Refused {
    entries: Mutex<Vec<Entry>>,
    limit: usize,
    pub unrecorded: AtomicU64,
}

impl Refused {
    pub fn new(limit: usize) -> Self {
        Refused {
            entries: Mutex::default(),
            limit,
            unrecorded: AtomicU64::new(0),
        }
    }

    /// Keep an entry, where there is room.
    pub fn note(&self, call_id: &[u8], reason: &'static str) {
        if let Ok(mut entries) = self.entries.lock()
            && entries.len() < self.limit
        {
            entries.push((String::from_utf8_lossy(call_id).into_owned(), reason));
            return;
        }
        self.unrecorded.fetch_add(1, Relaxed);
    }

    /// All that wait.
    pub fn take(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .map(|mut entries| std::mem::take(&mut *entries))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let refused = Refused::new(2);
        for id in ["one", "two", "three"] {
            refused.note(id.as_bytes(), "internal");
        }
        let taken: Vec<_> = refused.take().into_iter().map(|entry| entry.0).collect();
        assert_eq!(taken, ["one", "two"]);
        assert_eq!(refused.unrecorded.load(Relaxed), 1);
        refused.note(b"four", "internal");
        assert_eq!(refused.take(), [("four".to_owned(), "internal")]);
    }
}
