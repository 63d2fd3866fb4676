//! From here to Python and back. Nothing here waits for the interpreter: what Python is to know stands in a queue,
//! a byte through a socket wakes its event loop, and what Python wants comes back through a channel of the call's own.

use crate::active::Active;
use crate::metadata::Pairs;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How the call upstream ended, where it was made here.
#[derive(Clone, Debug)]
pub enum Outcome {
    Reply { body: Bytes, initial: Pairs, trailing: Pairs },
    /// `answered`: the text is the upstream's own.
    Failure { code: i32, details: String, answered: bool, initial: Pairs, trailing: Pairs },
}

/// A call that Python answers.
pub struct Handed {
    pub method: String,
    pub call_id: String,
    pub peer: u64,
    pub metadata: Pairs,
    /// What the client's deadline leaves.
    pub timeout: Option<Duration>,
    /// Where the request was read already.
    pub request: Option<Bytes>,
    /// Where it was forwarded already, and how long ago the call began.
    pub outcome: Option<Outcome>,
    pub active: Option<Arc<Active>>,
    pub age: Duration,
    pub commands: UnboundedSender<Command>,
}

/// What Python wants of a call.
#[derive(Debug)]
pub enum Command {
    /// The next message.
    Read,
    /// Send the initial metadata.
    Open(Pairs),
    /// Send a message.
    Write(Bytes),
    /// End the call.
    End { code: i32, details: String, trailing: Pairs },
}

/// What Python is told.
pub enum Event {
    Started(Arc<Handed>),
    /// A message, or None where no more follow; the second is why, where that was no proper end.
    Read(Arc<Handed>, Option<Bytes>, Option<&'static str>),
    Written(Arc<Handed>),
    /// The client gave up.
    Cancelled(Arc<Handed>),
}

/// Events for Python, in their order.
pub struct Queue {
    events: Mutex<VecDeque<Event>>,
    wake: UnixStream,
}

impl Queue {
    /// The queue, and the socket that becomes readable when something stands in it.
    pub fn new() -> std::io::Result<(Self, UnixStream)> {
        let (wake, awakened) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        awakened.set_nonblocking(true)?;
        Ok((Queue { events: Mutex::default(), wake }, awakened))
    }

    pub fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        events.push_back(event);
        if events.len() == 1 {
            // Where the socket is full it is readable already.
            let _ = (&self.wake).write(&[1]);
        }
    }

    /// All that stands in it.
    pub fn take(&self) -> VecDeque<Event> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}
