//! What is counted without Python: by worker, read by whoever scrapes.

use gate::UNUSUAL;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A histogram with given upper bounds, in nanoseconds.
pub struct Histogram {
    bounds: Vec<u64>,
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds_seconds: &[f64]) -> Self {
        Histogram {
            bounds: bounds_seconds.iter().map(|bound| (bound * 1e9) as u64).collect(),
            counts: (0..=bounds_seconds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let at = self.bounds.partition_point(|&bound| bound < nanos);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }

    /// Counts by bucket (not cumulative), and the sum in seconds.
    pub fn read(&self) -> (Vec<u64>, f64) {
        (
            self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            self.sum.load(Relaxed) as f64 / 1e9,
        )
    }
}

/// Of one model.
pub struct ModelCounters {
    pub outside_requests: AtomicU64,
    pub untouched_requests: AtomicU64,
    pub cancelled_requests: AtomicU64,
    pub outside_rows: AtomicU64,
    pub untouched_rows: AtomicU64,
    /// By gate and label.
    pub domains: Vec<[AtomicU64; 4]>,
    pub call_seconds: Histogram,
    pub gate_seconds: Histogram,
}

impl ModelCounters {
    pub fn new(gates: usize, call_bounds: &[f64], gate_bounds: &[f64]) -> Self {
        ModelCounters {
            outside_requests: AtomicU64::new(0),
            untouched_requests: AtomicU64::new(0),
            cancelled_requests: AtomicU64::new(0),
            outside_rows: AtomicU64::new(0),
            untouched_rows: AtomicU64::new(0),
            domains: (0..gates).map(|_| Default::default()).collect(),
            call_seconds: Histogram::new(call_bounds),
            gate_seconds: Histogram::new(gate_bounds),
        }
    }
}

/// Of the whole process.
#[derive(Default)]
pub struct Counters {
    /// By reason, in the order of [`UNUSUAL`].
    pub handed_over: [AtomicU64; UNUSUAL.len()],
    pub connections: AtomicU64,
    pub panics: AtomicU64,
    /// Before it was known for which model, or while the call waited for Python.
    pub cancelled: AtomicU64,
    pub failed_handshakes: AtomicU64,
    pub too_many_calls: AtomicU64,
    /// Those of them that were for infer methods.
    pub too_many_requests: AtomicU64,
    pub memory_exhausted: AtomicU64,
    pub message_too_large: AtomicU64,
    pub slow_request: AtomicU64,
    pub python_lane_full: AtomicU64,
    pub not_grpc: AtomicU64,
    /// The client gave no room for its answer.
    pub stalled: AtomicU64,
    /// Asked again, where the upstream cannot have looked at the request.
    pub retried: AtomicU64,
    /// Requests that were forwarded while they arrived, to their end.
    pub streamed: AtomicU64,
    /// Requests that were begun so, and then not: the upstream was told to forget them.
    pub streams_given_up: AtomicU64,
    pub open_connections: AtomicU64,
    pub too_many_connections: AtomicU64,
    pub dead_connections: AtomicU64,
    pub protocol_errors: AtomicU64,
    /// What the HTTP/2 library itself does not put up with: CONTINUATION without end, resets before we look.
    pub too_much: AtomicU64,
    /// By [`Flood`], in its order.
    pub floods: [AtomicU64; 5],
}

pub fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}
