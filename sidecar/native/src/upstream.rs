//! The model server: connections of one worker to it, made when needed and remade with growing pauses.

use crate::dial::{Connected, Dial};
use crate::piece::Piece;
use crate::tls::UpstreamTls;
use crate::traffic::Traffic;
use crate::worker::{Shared, Work};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Clone, Debug)]
pub struct Unreachable(pub String);

/// For one request.
pub struct Sender {
    line: Rc<Line>,
    connected: Connected,
}

impl Sender {
    fn new(line: &Rc<Line>, requests: SendRequest<Piece>, traffic: Arc<Traffic>) -> Self {
        traffic.in_flight.fetch_add(1, Relaxed);
        Sender {
            line: line.clone(),
            connected: Connected { requests, traffic },
        }
    }

    /// # Errors
    /// The connection is lost, and the request has not left.
    pub fn send(&mut self, request: Request<()>) -> Result<(ResponseFuture, SendStream<Piece>), h2::Error> {
        self.connected.requests.send_request(request, false)
    }

    /// The upstream has answered something: it is there, and the next loss is not one of a row.
    pub fn proved(&self) {
        self.line.pause.set(FIRST_PAUSE);
        self.line.lost_in_a_row.set(0);
    }

    /// Whether the upstream has not looked at a request that failed so, and never will.
    pub fn is_unprocessed(&self, error: &h2::Error, stream: u32) -> bool {
        let is_reset = error.is_reset();
        (is_reset && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM))
            || self.connected.traffic.is_unprocessed(stream, !is_reset)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.connected.traffic.in_flight.fetch_sub(1, Relaxed);
    }
}

/// One connection, remade when lost.
pub struct Line {
    shared: Arc<Shared>,
    max_frame: u32,
    /// The worker that moves its bytes; None: this one.
    mover: Option<mpsc::UnboundedSender<Work>>,
    connected: RefCell<Option<Connected>>,
    /// The credentials that the connection was made with.
    made_with: RefCell<Option<Arc<UpstreamTls>>>,
    is_connecting: Cell<bool>,
    /// Told when a connection is there, or could not be made.
    settled: Notify,
    pause: Cell<Duration>,
    not_before: Cell<Option<Instant>>,
    /// Connections over which nothing was ever answered. The first may be a server that is just going away.
    lost_in_a_row: Cell<u32>,
    why: RefCell<String>,
}

impl Line {
    pub fn new(shared: Arc<Shared>, max_frame: u32, mover: Option<mpsc::UnboundedSender<Work>>) -> Rc<Self> {
        Rc::new(Line {
            shared,
            max_frame,
            mover,
            connected: RefCell::new(None),
            made_with: RefCell::new(None),
            is_connecting: Cell::new(false),
            settled: Notify::new(),
            pause: Cell::new(FIRST_PAUSE),
            not_before: Cell::new(None),
            lost_in_a_row: Cell::new(0),
            why: RefCell::new(String::new()),
        })
    }

    /// A sender that has room for a request.
    ///
    /// # Errors
    /// There is no connection, and none could be made; or a moment ago none could.
    pub async fn ready(self: &Rc<Self>) -> Result<Sender, Unreachable> {
        for _ in 0..2 {
            let Connected { requests, traffic } = self.connection().await?;
            match requests.ready().await {
                Ok(ready) => return Ok(Sender::new(self, ready, traffic)),
                Err(error) => self.lose(&traffic, &error.to_string()),
            }
        }
        Err(self.unreachable())
    }

    fn unreachable(&self) -> Unreachable {
        Unreachable(self.why.borrow().clone())
    }

    /// Forget a connection, if it is still the one that calls get. Several in a row over which nothing was answered count
    /// as a failed try.
    fn lose(&self, traffic: &Arc<Traffic>, why: &str) {
        if self
            .connected
            .borrow()
            .as_ref()
            .is_some_and(|connected| Arc::ptr_eq(&connected.traffic, traffic))
        {
            *self.connected.borrow_mut() = None;
            why.clone_into(&mut self.why.borrow_mut());
            self.lost_in_a_row.set(self.lost_in_a_row.get() + 1);
            if self.lost_in_a_row.get() > 2 {
                self.failed(why);
            }
        }
    }

    /// Calls from now on go over a new connection where the credentials are new; those in flight end on the old one.
    fn look_at_credentials(&self) {
        let current = self.shared.upstream_tls.load();
        let same = match (&*current, &*self.made_with.borrow()) {
            (None, None) => true,
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            _ => false,
        };
        if !same {
            *self.connected.borrow_mut() = None;
            *self.made_with.borrow_mut() = current.clone();
            self.not_before.set(None);
        }
    }

    async fn connection(self: &Rc<Self>) -> Result<Connected, Unreachable> {
        self.look_at_credentials();
        loop {
            if let Some(connected) = &*self.connected.borrow() {
                return Ok(connected.clone());
            }
            if self.not_before.get().is_some_and(|at| Instant::now() < at) {
                return Err(self.unreachable());
            }
            let settled = self.settled.notified();
            if !self.is_connecting.replace(true) {
                // In a task of its own: whoever wants it may give up, others wait for it too.
                tokio::task::spawn_local(self.clone().make());
            }
            settled.await;
        }
    }

    async fn make(self: Rc<Self>) {
        let tls = self.made_with.borrow().clone();
        let (dial, made, lost) = Dial::new(self.shared.clone(), tls, self.max_frame);
        match &self.mover {
            None => drop(tokio::task::spawn_local(dial.run())),
            // One that has ended drops it, and that is seen below.
            Some(mover) => drop(mover.send(Work::Upstream(dial))),
        }
        match made.await.unwrap_or_else(|_| Err("connecting failed".to_owned())) {
            Ok(connected) => {
                self.not_before.set(None);
                *self.connected.borrow_mut() = Some(connected.clone());
                let line = Rc::downgrade(&self);
                tokio::task::spawn_local(async move {
                    let traffic = connected.traffic;
                    drop(connected.requests); // an idle connection without calls may end
                    let why = lost.await.unwrap_or_else(|_| "the connection failed".to_owned());
                    if let Some(line) = line.upgrade() {
                        line.lose(&traffic, &why);
                    }
                });
            }
            Err(why) => self.failed(&why),
        }
        self.is_connecting.set(false);
        self.settled.notify_waiters();
    }

    fn failed(&self, why: &str) {
        self.not_before.set(Some(Instant::now() + self.pause.get()));
        self.pause.set((self.pause.get() * 2).min(LONGEST_PAUSE));
        why.clone_into(&mut self.why.borrow_mut());
    }
}
