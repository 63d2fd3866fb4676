//! A connection's bytes as they pass: what a peer sends besides requests is counted, a peer that does not read is
//! noticed, and it is known which requests were written at all.

use crate::flood::{Allowance, Flood};
use crate::frames::{GOAWAY, HEADERS, Walker};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

/// The preface that a client sends before its first frame.
const PREFACE: usize = 24;

/// What is known of a connection. One thread moves its bytes; calls may ask from others.
pub struct Traffic {
    /// How often something was read.
    pub reads: AtomicU64,
    /// The last stream whose HEADERS we began to write.
    opened: AtomicU32,
    /// The last stream that the peer processes, as it says.
    processed: AtomicU32,
    pub in_flight: AtomicUsize,
    /// Of a client only.
    allowance: Option<Mutex<Allowance>>,
    flood: OnceLock<Flood>,
    flooded: Notify,
    /// The peer did not read for too long.
    pub stalled: AtomicBool,
}

impl Traffic {
    pub fn new(allowance: Option<Allowance>) -> Arc<Self> {
        Arc::new(Traffic {
            reads: AtomicU64::new(0),
            opened: AtomicU32::new(0),
            processed: AtomicU32::new(u32::MAX),
            in_flight: AtomicUsize::new(0),
            allowance: allowance.map(Mutex::new),
            flood: OnceLock::new(),
            flooded: Notify::new(),
            stalled: AtomicBool::new(false),
        })
    }

    /// Whether the peer cannot have seen this stream, once its connection is lost; or has said that it never will.
    pub fn is_unprocessed(&self, stream: u32, is_lost: bool) -> bool {
        stream > self.processed.load(Relaxed) || (is_lost && stream > self.opened.load(Relaxed))
    }

    /// Returns once the peer sends too much of something.
    pub async fn flood(&self) -> Flood {
        loop {
            if let Some(flood) = self.flood.get() {
                return *flood;
            }
            self.flooded.notified().await;
        }
    }

    /// A call upstream was given up on this client's account.
    pub fn reset_upstream(&self) {
        if let Some(allowance) = &self.allowance {
            self.judge(lock(allowance).reset_upstream(Instant::now));
        }
    }

    fn judge(&self, seen: Result<(), Flood>) {
        if let Err(flood) = seen
            && self.flood.set(flood).is_ok()
        {
            self.flooded.notify_one();
        }
    }
}

fn lock(allowance: &Mutex<Allowance>) -> MutexGuard<'_, Allowance> {
    allowance.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A stream of bytes that is looked at.
pub struct Watched<S> {
    stream: S,
    traffic: Arc<Traffic>,
    reads: Walker,
    writes: Walker,
    stall: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// `stall`: for how long the peer may not read.
    pub fn new(stream: S, traffic: Arc<Traffic>, stall: Duration) -> Self {
        let (reads, writes) = if traffic.allowance.is_some() {
            (PREFACE, 0)
        } else {
            (0, PREFACE)
        };
        Watched {
            stream,
            traffic,
            reads: Walker::new(reads),
            writes: Walker::new(writes),
            stall,
            waiting: None,
        }
    }

    fn look_at_read(&mut self, bytes: &[u8]) {
        let traffic = &self.traffic;
        traffic.reads.fetch_add(1, Relaxed);
        match &traffic.allowance {
            Some(allowance) => {
                let mut allowance = lock(allowance);
                self.reads
                    .feed(bytes, |head| traffic.judge(allowance.see(head, Instant::now)));
            }
            None => self.reads.feed(bytes, |head| {
                if head.kind == GOAWAY {
                    traffic.processed.fetch_min(head.last_stream, Relaxed);
                }
            }),
        }
    }

    fn look_at_written(&mut self, bytes: &[u8]) {
        let traffic = &self.traffic;
        match &traffic.allowance {
            Some(allowance) => lock(allowance).wrote(bytes.len()),
            None => self.writes.feed(bytes, |head| {
                if head.kind == HEADERS {
                    traffic.opened.fetch_max(head.stream, Relaxed);
                }
            }),
        }
    }

    /// What a write came to; too long without one is an error.
    fn progress<T>(&mut self, context: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.waiting = None;
            return write;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(waiting.as_mut().poll(context));
        self.traffic.stalled.store(true, Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.traffic.flood.get().is_some() {
            // No more of it; whoever waits for `flood` ends the connection.
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
        this.look_at_read(into.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = Pin::new(&mut this.stream).poll_write(context, bytes);
        let count = ready!(this.progress(context, write))?;
        this.look_at_written(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        let count = ready!(this.progress(context, write))?;
        let mut left = count;
        for slice in slices {
            let now = left.min(slice.len());
            this.look_at_written(slice.get(..now).unwrap_or_default());
            left -= now;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flush = Pin::new(&mut this.stream).poll_flush(context);
        this.progress(context, flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shutdown = Pin::new(&mut this.stream).poll_shutdown(context);
        this.progress(context, shutdown)
    }
}

/// Returns once a silent peer does not answer a ping. Asks only while `is_due`.
pub async fn unanswered(
    mut pings: h2::PingPong,
    traffic: &Traffic,
    every: Duration,
    within: Duration,
    is_due: impl Fn(&Traffic) -> bool,
) {
    loop {
        let before = traffic.reads.load(Relaxed);
        tokio::time::sleep(every).await;
        if traffic.reads.load(Relaxed) != before || !is_due(traffic) {
            continue;
        }
        if !matches!(
            tokio::time::timeout(within, pings.ping(h2::Ping::opaque())).await,
            Ok(Ok(_))
        ) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::RST_STREAM;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[tokio::test]
    async fn what_was_written_and_what_is_processed_is_known() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let traffic = Traffic::new(None);
        let mut watched = Watched::new(near, traffic.clone(), Duration::from_secs(9));
        assert!(traffic.is_unprocessed(1, true) && !traffic.is_unprocessed(1, false));
        watched.write_all(&[b'p'; PREFACE]).await.expect("written");
        watched.write_all(&frame(HEADERS, 5, b"")).await.expect("written");
        assert!(!traffic.is_unprocessed(5, true) && traffic.is_unprocessed(7, true));
        far.write_all(&frame(GOAWAY, 0, &[0, 0, 0, 3, 0, 0, 0, 0]))
            .await
            .expect("written");
        watched.read_exact(&mut [0; 17]).await.expect("read");
        assert!(traffic.is_unprocessed(5, false) && !traffic.is_unprocessed(3, true));
    }

    #[tokio::test]
    async fn a_flood_is_told_and_not_read_on() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let traffic = Traffic::new(Some(Allowance::new(Instant::now())));
        let mut watched = Watched::new(near, traffic.clone(), Duration::from_secs(9));
        far.write_all(&[b'p'; PREFACE]).await.expect("written");
        far.write_all(&frame(RST_STREAM, 1, &[0; 4]).repeat(300))
            .await
            .expect("written");
        watched.read_exact(&mut [0; PREFACE + 13 * 300]).await.expect("read");
        assert_eq!(traffic.flood().await, Flood::Resets);
        far.write_all(b"more").await.expect("written");
        let more = tokio::time::timeout(Duration::from_millis(50), watched.read_u8()).await;
        assert!(more.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_an_error() {
        let (near, _far) = tokio::io::duplex(16);
        let traffic = Traffic::new(Some(Allowance::new(Instant::now())));
        let mut watched = Watched::new(near, traffic.clone(), Duration::from_secs(9));
        let error = watched.write_all(&[0; 64]).await.expect_err("no room");
        assert_eq!(
            (error.kind(), traffic.stalled.load(Relaxed)),
            (io::ErrorKind::TimedOut, true)
        );
    }
}
