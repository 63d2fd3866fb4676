//! Bytes on their way out, which count as held until HTTP/2 has written them.

use crate::budget::Lease;
use bytes::{Buf, Bytes};
use std::sync::Arc;

/// Part of a message, and what its call holds.
pub struct Piece {
    bytes: Bytes,
    _lease: Arc<Lease>,
}

impl Piece {
    pub fn new(bytes: Bytes, lease: &Arc<Lease>) -> Self {
        Piece {
            bytes,
            _lease: lease.clone(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
