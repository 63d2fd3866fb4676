//! From here to Python and back. Nothing here waits for the interpreter: what Python is to know stands in a queue,
//! a byte through a socket wakes its event loop, and what Python wants comes back through a channel of the call's own.
//!
//! Calls whose message was read here wait for their turn, by client connection, and only some are in Python at once;
//! those that wait are bounded. All others (streams, other methods) are told at once: they are bounded by the calls in
//! flight. So a client that sends nothing but counterexamples waits for itself.

use crate::active::Active;
use crate::fair::{Fair, Full, QUANTUM};
use crate::metadata::Pairs;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How the call upstream ended, where it was made here.
#[derive(Clone, Debug)]
pub enum Outcome {
    Reply {
        body: Bytes,
        initial: Pairs,
        trailing: Pairs,
    },
    /// `answered`: the text is the upstream's own.
    Failure {
        code: i32,
        details: String,
        answered: bool,
        initial: Pairs,
        trailing: Pairs,
    },
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
    pub turn: Turn,
}

impl Handed {
    /// What Python's time depends on: the call itself, and the bytes of its rows.
    fn cost(&self) -> usize {
        let answer = match &self.outcome {
            Some(Outcome::Reply { body, .. }) => body.len(),
            _ => 0,
        };
        QUANTUM + self.request.as_ref().map_or(0, Bytes::len) + answer
    }

    fn kind(&self) -> Kind {
        match (&self.request, &self.outcome) {
            (None, _) => Kind::Stream,
            (Some(_), None) => Kind::Ask,
            (Some(_), Some(_)) => Kind::Judge,
        }
    }
}

/// What Python does with a call.
#[derive(Clone, Copy)]
enum Kind {
    /// Reads and writes as it likes: no turns.
    Stream,
    /// Asks the upstream, and waits for it.
    Ask,
    /// Judges an answer that is there: all of it is work.
    Judge,
}

/// Where a call stands; changed under the queue's lock.
#[derive(Default)]
pub struct Turn(AtomicU8);

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const OVER: u8 = 2;

/// What Python wants of a call.
#[derive(Debug)]
pub enum Command {
    /// The next message.
    Read,
    /// Send the initial metadata.
    Open(Pairs),
    /// Send a message.
    Write(Bytes),
    /// Send all of a unary call's answer, and end it.
    Answer {
        initial: Pairs,
        message: Bytes,
        trailing: Pairs,
    },
    /// End the call.
    End {
        code: i32,
        details: String,
        trailing: Pairs,
    },
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

/// How many calls wait for Python, and how many it has at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub waiting: usize,
    pub waiting_by_peer: usize,
    pub judging: usize,
    pub asking: usize,
}

struct Lane {
    waiting: Fair<Arc<Handed>>,
    running: usize,
    at_once: usize,
}

impl Lane {
    fn new(limits: Limits, at_once: usize) -> Self {
        Lane {
            waiting: Fair::new(limits.waiting, limits.waiting_by_peer),
            running: 0,
            at_once,
        }
    }

    fn has_work(&self) -> bool {
        self.running < self.at_once && self.waiting.len() > 0
    }

    fn next(&mut self) -> Option<Arc<Handed>> {
        if !self.has_work() {
            return None;
        }
        let handed = self.waiting.pop()?;
        handed.turn.0.store(RUNNING, Relaxed);
        self.running += 1;
        Some(handed)
    }

    fn over(&mut self, handed: &Arc<Handed>) {
        match handed.turn.0.swap(OVER, Relaxed) {
            WAITING => self.waiting.remove(handed.peer, |each| Arc::ptr_eq(each, handed)),
            RUNNING => self.running = self.running.saturating_sub(1),
            _ => {}
        }
    }
}

struct State {
    events: VecDeque<Event>,
    judging: Lane,
    asking: Lane,
    /// A byte is in the socket, and Python did not take yet.
    is_awake: bool,
}

/// What Python has to do.
pub struct Queue {
    state: Mutex<State>,
    wake: UnixStream,
}

impl Queue {
    /// The queue, and the socket that becomes readable when something stands in it.
    pub fn new(limits: Limits) -> std::io::Result<(Self, UnixStream)> {
        let (wake, awakened) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        awakened.set_nonblocking(true)?;
        let state = State {
            events: VecDeque::new(),
            judging: Lane::new(limits, limits.judging),
            asking: Lane::new(limits, limits.asking),
            is_awake: false,
        };
        Ok((
            Queue {
                state: Mutex::new(state),
                wake,
            },
            awakened,
        ))
    }

    /// Have a call answered.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn start(&self, handed: &Arc<Handed>) -> Result<(), Full> {
        let mut state = self.lock();
        match handed.kind() {
            Kind::Stream => state.events.push_back(Event::Started(handed.clone())),
            Kind::Ask => state.asking.waiting.push(handed.peer, handed.cost(), handed.clone())?,
            Kind::Judge => state.judging.waiting.push(handed.peer, handed.cost(), handed.clone())?,
        }
        self.wake(&mut state);
        Ok(())
    }

    /// Tell of a call that was started.
    pub fn push(&self, event: Event) {
        let mut state = self.lock();
        state.events.push_back(event);
        self.wake(&mut state);
    }

    /// A call is over: another may have its turn. Python is told where it has it and does not know; whether it has it.
    pub fn over(&self, handed: &Arc<Handed>, is_cancelled: bool) -> bool {
        let mut state = self.lock();
        let is_known = match handed.kind() {
            Kind::Stream => true,
            Kind::Ask | Kind::Judge => handed.turn.0.load(Relaxed) == RUNNING,
        };
        match handed.kind() {
            Kind::Stream => {}
            Kind::Ask => state.asking.over(handed),
            Kind::Judge => state.judging.over(handed),
        }
        if is_cancelled && is_known {
            state.events.push_back(Event::Cancelled(handed.clone()));
        }
        self.wake(&mut state);
        is_known
    }

    /// All that Python should look at now.
    pub fn take(&self) -> VecDeque<Event> {
        let mut state = self.lock();
        state.is_awake = false;
        let mut events = std::mem::take(&mut state.events);
        events.extend(std::iter::from_fn(|| state.judging.next()).map(Event::Started));
        events.extend(std::iter::from_fn(|| state.asking.next()).map(Event::Started));
        events
    }

    /// How many wait for their turn, and how many have it.
    pub fn lengths(&self) -> (usize, usize) {
        let state = self.lock();
        let (judging, asking) = (&state.judging, &state.asking);
        (
            judging.waiting.len() + asking.waiting.len(),
            judging.running + asking.running,
        )
    }

    fn wake(&self, state: &mut State) {
        let has_work = !state.events.is_empty() || state.judging.has_work() || state.asking.has_work();
        if has_work && !state.is_awake {
            state.is_awake = true;
            // Where the socket is full it is readable already.
            let _ = (&self.wake).write(&[1]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        waiting: 6,
        waiting_by_peer: 4,
        judging: 2,
        asking: 1,
    };

    fn handed(peer: u64, outcome: Option<Outcome>, request: Option<Bytes>) -> Arc<Handed> {
        let (commands, _) = tokio::sync::mpsc::unbounded_channel();
        Arc::new(Handed {
            method: String::new(),
            call_id: String::new(),
            peer,
            metadata: vec![],
            timeout: None,
            request,
            outcome,
            active: None,
            age: Duration::ZERO,
            commands,
            turn: Turn::default(),
        })
    }

    fn judged(peer: u64) -> Arc<Handed> {
        let outcome = Outcome::Reply {
            body: Bytes::new(),
            initial: vec![],
            trailing: vec![],
        };
        handed(peer, Some(outcome), Some(Bytes::from_static(b"message")))
    }

    fn started(queue: &Queue) -> Vec<u64> {
        queue
            .take()
            .into_iter()
            .map(|event| match event {
                Event::Started(handed) => handed.peer,
                _ => 0,
            })
            .collect()
    }

    #[test]
    fn only_some_are_in_python_and_peers_take_turns() {
        let (queue, _awakened) = Queue::new(LIMITS).expect("sockets");
        let calls: Vec<_> = [1, 1, 1, 1, 2].map(judged).into_iter().collect();
        calls.iter().for_each(|call| queue.start(call).expect("room"));
        assert_eq!(queue.start(&judged(1)), Err(Full));
        assert_eq!(started(&queue), [1, 2]);
        assert_eq!(started(&queue), [0u64; 0]);
        queue.over(&calls[4], false);
        assert_eq!(started(&queue), [1]);
        assert_eq!(queue.lengths(), (2, 2));
        // One that waits is forgotten; of one that Python has it is told.
        queue.over(&calls[3], true);
        assert_eq!(queue.lengths(), (1, 2));
        assert_eq!(started(&queue), [0u64; 0]);
        queue.over(&calls[0], true);
        assert_eq!(started(&queue), [0, 1]);
    }

    #[test]
    fn waiting_for_the_upstream_keeps_no_answer_waiting() {
        let (queue, _awakened) = Queue::new(LIMITS).expect("sockets");
        for peer in [1, 2] {
            queue.start(&handed(peer, None, Some(Bytes::new()))).expect("room");
        }
        queue.start(&judged(3)).expect("room");
        queue.start(&handed(4, None, None)).expect("room");
        assert_eq!(started(&queue), [4, 3, 1]);
    }

    #[test]
    fn the_socket_is_readable_while_there_is_something_to_do() {
        use std::io::Read;
        let (queue, mut awakened) = Queue::new(LIMITS).expect("sockets");
        let mut is_readable = || awakened.read(&mut [0; 8]).is_ok();
        assert!(!is_readable());
        let calls = [1, 2, 3].map(judged);
        calls.iter().for_each(|call| queue.start(call).expect("room"));
        assert!(is_readable() && !is_readable());
        assert_eq!(started(&queue), [1, 2]);
        assert!(!is_readable());
        queue.over(&calls[0], false);
        assert!(is_readable());
        assert_eq!(started(&queue), [3]);
    }
}
