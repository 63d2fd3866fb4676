//! Writing behind: what HTTP/2 writes in one turn leaves together.
//!
//! `h2` writes each DATA frame of 256 bytes and more with a call of its own. Here they are gathered, and whoever drives
//! the connection writes them out once HTTP/2 has nothing more to say. Nothing waits for longer than that turn, but for a
//! peer that gives no room: then one buffer stands here, and HTTP/2 waits until all of it has left.

use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much is gathered before it is written within the turn.
const AT_ONCE: usize = 128 << 10;
/// Room for the frames of small messages. An idle connection has none.
const SMALL: usize = 1 << 10;

/// A stream for HTTP/2, whose clone drives it.
pub struct Gathered<S>(Rc<RefCell<Gathering<S>>>);

struct Gathering<S> {
    stream: S,
    /// What is not written yet.
    buffer: BytesMut,
    /// All of it is being written and flushed; nothing is added until that is done.
    is_leaving: bool,
    /// HTTP/2 waits for that.
    is_awaited: bool,
    /// What writing came to when HTTP/2 had not asked.
    error: Option<io::Error>,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Gathered(self.0.clone())
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub fn new(stream: S) -> Self {
        Gathered(Rc::new(RefCell::new(Gathering {
            stream,
            buffer: BytesMut::new(),
            is_leaving: false,
            is_awaited: false,
            error: None,
        })))
    }

    /// What HTTP/2 does over the clone; what it wrote is written out whenever it waits. Once this is ready, another must
    /// follow before the task waits, or the connection be at its end.
    pub async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            loop {
                if let Poll::Ready(value) = work.as_mut().poll(context) {
                    return Poll::Ready(value);
                }
                if !ready!(self.0.borrow_mut().poll_end_turn(context)) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    /// All is written; whether HTTP/2 is to go on, as there is room that it waited for, or an error.
    fn poll_end_turn(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let written = ready!(self.poll_write_out(context));
        let is_to_go_on = std::mem::take(&mut self.is_awaited) || written.is_err();
        self.error = self.error.take().or(written.err());
        Poll::Ready(is_to_go_on)
    }

    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() && !self.is_leaving {
            return Poll::Ready(Ok(()));
        }
        self.is_leaving = true;
        let written = ready!(self.poll_written(context));
        (self.is_leaving, self.buffer) = (false, BytesMut::new());
        Poll::Ready(written)
    }

    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.buffer))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.buffer.advance(count),
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// How many bytes more there is room for: at least one.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.failed()?;
        if self.is_leaving || self.buffer.len() == AT_ONCE {
            self.is_awaited = true;
            let written = ready!(self.poll_write_out(context));
            self.is_awaited = false;
            written?;
        }
        Poll::Ready(Ok(AT_ONCE - self.buffer.len()))
    }

    /// # Errors
    /// Writing failed, and HTTP/2 does not know.
    fn failed(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gathering = &mut *self.0.borrow_mut();
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = ready!(gathering.poll_room(context))?.min(wanted);
        let buffer = &mut gathering.buffer;
        let size = if buffer.len() + count > SMALL { AT_ONCE } else { SMALL };
        buffer.reserve(size - buffer.len());
        let mut left = count;
        for slice in slices {
            let now = left.min(slice.len());
            buffer.extend_from_slice(slice.get(..now).unwrap_or_default());
            left -= now;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done when the turn is over; but what failed is told.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow_mut().failed())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gathering = &mut *self.0.borrow_mut();
        gathering.failed()?;
        ready!(gathering.poll_write_out(context))?;
        Pin::new(&mut gathering.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::HEADERS;
    use crate::traffic::{Traffic, Watched};
    use std::cell::Cell;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Waker;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A socket that takes so many bytes, and counts how often it is written to.
    #[derive(Clone, Default)]
    struct Socket(Rc<Taken>);

    #[derive(Default)]
    struct Taken {
        room: Cell<usize>,
        bytes: RefCell<Vec<u8>>,
        writes: Cell<usize>,
        is_broken: Cell<bool>,
        /// It keeps what it took until it is flushed, as TLS does; whether it does not flush now.
        holds: Cell<bool>,
        flushed: Cell<usize>,
        is_shut: Cell<bool>,
    }

    impl AsyncWrite for Socket {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.0.is_broken.get() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let count = bytes.len().min(self.0.room.get());
            if count == 0 {
                return Poll::Pending;
            }
            self.0.room.set(self.0.room.get() - count);
            self.0.bytes.borrow_mut().extend_from_slice(&bytes[..count]);
            self.0.writes.set(self.0.writes.get() + 1);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.0.holds.get() {
                return Poll::Pending;
            }
            self.0.flushed.set(self.0.bytes.borrow().len());
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.is_shut.set(true);
            Poll::Ready(Ok(()))
        }
    }

    fn socket(room: usize) -> (Socket, Gathered<Socket>) {
        let socket = Socket::default();
        socket.0.room.set(room);
        (socket.clone(), Gathered::new(socket))
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// HTTP/2: writes frames of so many bytes, each flushed, and waits for what never comes.
    async fn frames(mut out: Gathered<Socket>, count: usize, size: usize) -> io::Result<()> {
        for number in 0..count {
            out.write_all(&vec![number as u8; size]).await?;
            out.flush().await?;
        }
        std::future::pending().await
    }

    fn expected(count: usize, size: usize) -> Vec<u8> {
        (0..count).flat_map(|number| vec![number as u8; size]).collect()
    }

    #[test]
    fn the_frames_of_a_turn_leave_together() {
        let (socket, gathered) = socket(usize::MAX);
        let mut driven = pin!(gathered.drive(frames(gathered.clone(), 7, 1000)));
        assert!(poll(driven.as_mut()).is_pending());
        assert!(*socket.0.bytes.borrow() == expected(7, 1000));
        assert_eq!((socket.0.writes.get(), socket.0.flushed.get()), (1, 7000));
        assert_eq!(gathered.0.borrow().buffer.capacity(), 0);
    }

    #[test]
    fn more_than_a_buffer_leaves_within_the_turn() {
        let (socket, gathered) = socket(usize::MAX);
        let mut driven = pin!(gathered.drive(frames(gathered.clone(), 20, 16 << 10)));
        assert!(poll(driven.as_mut()).is_pending());
        assert!(*socket.0.bytes.borrow() == expected(20, 16 << 10));
        assert_eq!(socket.0.writes.get(), 3);
    }

    #[test]
    fn a_peer_without_room_holds_up_one_buffer_and_then_gets_all() {
        let (socket, gathered) = socket(10);
        let mut driven = pin!(gathered.drive(frames(gathered.clone(), 40, 16 << 10)));
        let mut polls = 0;
        while socket.0.bytes.borrow().len() < 40 * (16 << 10) {
            assert!(poll(driven.as_mut()).is_pending());
            let held = gathered.0.borrow();
            assert!(held.buffer.len() <= AT_ONCE && held.buffer.capacity() <= AT_ONCE);
            socket.0.room.set(50_000);
            polls += 1;
        }
        assert_eq!(polls, 1 + (40usize * (16 << 10) - 10).div_ceil(50_000));
        assert!(*socket.0.bytes.borrow() == expected(40, 16 << 10));
    }

    #[test]
    fn what_the_stream_keeps_is_flushed_later() {
        let (socket, gathered) = socket(usize::MAX);
        socket.0.holds.set(true);
        let mut driven = pin!(gathered.drive(frames(gathered.clone(), 1, 5)));
        assert!(poll(driven.as_mut()).is_pending());
        assert_eq!((socket.0.writes.get(), socket.0.flushed.get()), (1, 0));
        socket.0.holds.set(false);
        assert!(poll(driven.as_mut()).is_pending());
        assert_eq!((socket.0.writes.get(), socket.0.flushed.get()), (1, 5));
    }

    #[test]
    fn an_error_of_writing_out_is_told_once_and_ends_the_turn() {
        let (socket, gathered) = socket(0);
        socket.0.is_broken.set(true);
        let mut out = gathered.clone();
        let mut turns = 0;
        let mut driven = pin!(gathered.drive(poll_fn(|context| {
            turns += 1;
            if turns == 1 {
                assert!(Pin::new(&mut out).poll_write(context, b"abc").is_ready());
                return Poll::Pending;
            }
            Pin::new(&mut out)
                .poll_flush(context)
                .map(|flushed| flushed.map_err(|error| error.kind()))
        })));
        assert_eq!(poll(driven.as_mut()), Poll::Ready(Err(io::ErrorKind::BrokenPipe)));

        let reading = gathered.drive(std::future::pending::<()>());
        assert!(poll(pin!(reading)).is_pending()); // nothing is left that would fail again
    }

    #[test]
    fn work_that_does_not_write_does_not_hear_of_an_error_and_does_not_spin() {
        let (socket, gathered) = socket(0);
        socket.0.is_broken.set(true);
        let mut out = gathered.clone();
        assert!(poll(pin!(out.write_all(b"abc"))).is_ready());
        let mut turns = 0;
        let mut driven = pin!(gathered.drive(poll_fn(|_| {
            turns += 1;
            assert!(turns < 9);
            Poll::<()>::Pending
        })));
        assert!(poll(driven.as_mut()).is_pending());
    }

    #[test]
    fn what_was_gathered_is_written_before_the_end() {
        let (socket, gathered) = socket(3);
        let mut out = gathered.clone();
        let mut ending = pin!(gathered.drive(async move {
            out.write_all(b"goodbye").await?;
            out.shutdown().await
        }));
        assert!(poll(ending.as_mut()).is_pending());
        assert!(!socket.0.is_shut.get());
        socket.0.room.set(9);
        assert!(matches!(poll(ending.as_mut()), Poll::Ready(Ok(()))));
        assert_eq!(
            (&socket.0.bytes.borrow()[..], socket.0.is_shut.get()),
            (&b"goodbye"[..], true)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_for_too_long_ends_what_http2_does() {
        let (near, _far) = tokio::io::duplex(16);
        let traffic = Traffic::new(None);
        let gathered = Gathered::new(Watched::new(near, traffic.clone(), Duration::from_secs(9)));
        let (mut out, began) = (gathered.clone(), tokio::time::Instant::now());
        let ended = gathered.drive(async move {
            loop {
                out.write_all(&[0; 1000]).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let ended: io::Result<()> = ended.await;
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(traffic.stalled.load(Relaxed) && began.elapsed() < Duration::from_secs(11));
    }

    #[tokio::test]
    async fn a_request_that_is_gathered_is_not_one_that_was_written() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let traffic = Traffic::new(None);
        let gathered = Gathered::new(Watched::new(near, traffic.clone(), Duration::from_secs(9)));
        let mut out = gathered.clone();
        let head = [0, 0, 0, HEADERS, 0, 0, 0, 0, 1];
        out.write_all(&[[b'p'; 24].as_slice(), &head].concat())
            .await
            .expect("gathered");
        assert!(traffic.is_unprocessed(1, true));
        let waiting = gathered.drive(std::future::pending::<()>());
        assert!(poll(pin!(waiting)).is_pending());
        assert!(!traffic.is_unprocessed(1, true));
    }

    #[tokio::test]
    async fn reading_passes_by() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut gathered = Gathered::new(near);
        far.write_all(b"ab").await.expect("written");
        let mut into = [0; 2];
        gathered.read_exact(&mut into).await.expect("read");
        assert_eq!(&into, b"ab");
    }
}
