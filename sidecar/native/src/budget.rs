//! How much is in flight in this process: calls, and the bytes of their messages, inflated; each with a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What is in flight, and how much may be.
pub struct Budget {
    pub calls: AtomicUsize,
    pub held_bytes: AtomicUsize,
    limit_calls: usize,
    limit_held_bytes: usize,
}

/// Nothing more may be held.
#[derive(Clone, Copy, Debug)]
pub struct Exhausted;

impl Budget {
    pub fn new(limit_calls: usize, limit_held_bytes: usize) -> Arc<Self> {
        Arc::new(Budget {
            calls: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            limit_calls,
            limit_held_bytes,
        })
    }

    /// Let a call in, unless there are too many.
    pub fn open(self: &Arc<Self>) -> Result<Arc<Lease>, Exhausted> {
        self.take_call()?;
        Ok(Arc::new(Lease {
            budget: self.clone(),
            held: AtomicUsize::new(0),
        }))
    }
}

/// For what is counted by who asks, not by a lease.
impl Budget {
    /// One more call.
    pub fn take_call(&self) -> Result<(), Exhausted> {
        if self.calls.fetch_add(1, Relaxed) >= self.limit_calls {
            self.calls.fetch_sub(1, Relaxed);
            return Err(Exhausted);
        }
        Ok(())
    }

    /// One has ended.
    pub fn give_call(&self) {
        self.calls.fetch_sub(1, Relaxed);
    }

    /// Hold some more bytes.
    pub fn hold(&self, count: usize) -> Result<(), Exhausted> {
        let before = self.held_bytes.fetch_add(count, Relaxed);
        if before.saturating_add(count) > self.limit_held_bytes {
            self.held_bytes.fetch_sub(count, Relaxed);
            return Err(Exhausted);
        }
        Ok(())
    }

    /// So many are gone.
    pub fn give_back(&self, count: usize) {
        self.held_bytes.fetch_sub(count, Relaxed);
    }
}

/// What one call holds; given back when the call is over and the last of its bytes is sent.
pub struct Lease {
    budget: Arc<Budget>,
    held: AtomicUsize,
}

impl Lease {
    /// Hold some more bytes.
    pub fn hold(&self, count: usize) -> Result<(), Exhausted> {
        self.budget.hold(count)?;
        self.held.fetch_add(count, Relaxed);
        Ok(())
    }

    /// How much that is.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Of what is held, so much is gone.
    pub fn give_back(&self, count: usize) {
        let mut gone = 0;
        let _ = self.held.fetch_update(Relaxed, Relaxed, |held| {
            gone = count.min(held);
            Some(held - gone)
        });
        self.budget.held_bytes.fetch_sub(gone, Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.held.load(Relaxed), Relaxed);
        self.budget.calls.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let budget = Budget::new(1, 10);
        let lease = budget.open().expect("one call");
        assert!(budget.open().is_err());
        lease.hold(6).expect("six bytes");
        assert!(lease.hold(5).is_err());
        assert_eq!(budget.held_bytes.load(Relaxed), 6);
        lease.hold(4).expect("all of it");
        lease.give_back(3);
        lease.hold(3).expect("again");
        let sending = lease.clone();
        drop(lease);
        assert_eq!(budget.held_bytes.load(Relaxed), 10);
        assert!(budget.open().is_err());
        drop(sending);
        assert_eq!(budget.held_bytes.load(Relaxed), 0);
        assert!(budget.open().is_ok());
    }
}
