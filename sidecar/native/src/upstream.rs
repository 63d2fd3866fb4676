//! The model server: connections of one worker to it, made when needed and remade with growing pauses.

use crate::caught::caught;
use crate::counters::add;
use crate::piece::Piece;
use crate::tls::UpstreamTls;
use crate::traffic::{Traffic, Watched, unanswered};
use crate::worker::{Shared, Times};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const WINDOW: u32 = 16 << 20;
/// Of an answer: its metadata, and its trailers.
const MAX_HEADERS: u32 = 64 << 10;

/// Where the model server listens.
#[derive(Clone, Debug)]
pub enum Target {
    Tcp(String),
    Unix(String),
}

impl Target {
    /// `host:port` or `unix:/path`.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Target::Unix(path.to_owned()),
            None => Target::Tcp(text.to_owned()),
        }
    }

    /// For `:authority`.
    pub fn authority(&self) -> &str {
        match self {
            Target::Tcp(address) => address,
            Target::Unix(_) => "localhost",
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub struct Unreachable(pub String);

/// A connection that is there.
#[derive(Clone)]
struct Connected {
    requests: SendRequest<Piece>,
    traffic: Rc<Traffic>,
}

/// For one request.
pub struct Sender {
    line: Rc<Line>,
    connected: Connected,
}

impl Sender {
    fn new(line: &Rc<Line>, requests: SendRequest<Piece>, traffic: Rc<Traffic>) -> Self {
        traffic.in_flight.set(traffic.in_flight.get() + 1);
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
        let in_flight = &self.connected.traffic.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
    }
}

/// One connection, remade when lost.
pub struct Line {
    shared: Arc<Shared>,
    max_frame: u32,
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
    pub fn new(shared: Arc<Shared>, max_frame: u32) -> Rc<Self> {
        Rc::new(Line {
            shared,
            max_frame,
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
    fn lose(&self, traffic: &Rc<Traffic>, why: &str) {
        if self
            .connected
            .borrow()
            .as_ref()
            .is_some_and(|connected| Rc::ptr_eq(&connected.traffic, traffic))
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
        match caught(pin!(tokio::time::timeout(CONNECT_WITHIN, self.connect()))).await {
            Ok(Ok(Ok(connected))) => {
                self.not_before.set(None);
                *self.connected.borrow_mut() = Some(connected);
            }
            Ok(Ok(Err(why))) => self.failed(&why),
            Ok(Err(_)) => self.failed("no connection in time"),
            Err(_) => {
                add(&self.shared.counters.panics, 1);
                self.failed("connecting failed");
            }
        }
        self.is_connecting.set(false);
        self.settled.notify_waiters();
    }

    fn failed(&self, why: &str) {
        self.not_before.set(Some(Instant::now() + self.pause.get()));
        self.pause.set((self.pause.get() * 2).min(LONGEST_PAUSE));
        why.clone_into(&mut self.why.borrow_mut());
    }

    async fn connect(self: &Rc<Self>) -> Result<Connected, String> {
        match &self.shared.upstream {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                self.secured(stream).await
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
                self.secured(stream).await
            }
        }
    }

    async fn secured(
        self: &Rc<Self>,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    ) -> Result<Connected, String> {
        let tls = self.made_with.borrow().clone();
        match tls {
            None => self.handshake(stream).await,
            Some(tls) => {
                let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
                let stream = connector
                    .connect(tls.server_name.clone(), stream)
                    .await
                    .map_err(|error| format!("TLS: {error}"))?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake(
        self: &Rc<Self>,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    ) -> Result<Connected, String> {
        let traffic = Traffic::new(None);
        let stream = Watched::new(stream, traffic.clone(), self.shared.times.stall);
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(self.max_frame)
            .max_header_list_size(MAX_HEADERS)
            .enable_push(false)
            .handshake::<_, Piece>(stream)
            .await
            .map_err(|error| error.to_string())?;
        let (line, times) = (Rc::downgrade(self), self.shared.times);
        let connected = Connected {
            requests,
            traffic: traffic.clone(),
        };
        tokio::task::spawn_local(async move {
            let pings = connection.ping_pong();
            let mut driven = pin!(async {
                tokio::select! {
                    ended = connection => match ended {
                        Ok(()) => "the upstream closed the connection".to_owned(),
                        Err(error) => error.to_string(),
                    },
                    () = silence(pings, &traffic, times) => "the upstream does not answer pings".to_owned(),
                }
            });
            let why = caught(driven.as_mut())
                .await
                .unwrap_or_else(|_| "the connection failed".to_owned());
            if let Some(line) = line.upgrade() {
                line.lose(&traffic, &why);
            }
        });
        Ok(connected)
    }
}

/// Servers end connections on which too much is asked without any call.
async fn silence(pings: Option<h2::PingPong>, traffic: &Traffic, times: Times) {
    match pings {
        Some(pings) => {
            let in_use = |traffic: &Traffic| traffic.in_flight.get() > 0;
            unanswered(pings, traffic, times.keepalive, times.keepalive_answer, in_use).await;
        }
        None => std::future::pending().await,
    }
}
