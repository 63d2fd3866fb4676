//! One thread with a runtime of its own: takes connections, and answers the calls on them.

use crate::active::Active;
use crate::ahead::Ahead;
use crate::budget::Budget;
use crate::call;
use crate::caught::caught;
use crate::counters::{Counters, add};
use crate::dial::{Dial, Target};
use crate::flood::Allowance;
use crate::gathered::Gathered;
use crate::grpc;
use crate::handover::Queue;
use crate::piece::Piece;
use crate::refused::Refused;
use crate::tls::UpstreamTls;
use crate::traffic::{Traffic, Watched, unanswered};
use crate::upstream::Line;
use arc_swap::{ArcSwap, ArcSwapOption};
use h2::Reason;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// An answer of the upstream, where the client sets no deadline.
    pub upstream: Duration,
    /// A request, from its head to its last byte.
    pub receive: Duration,
    /// A peer may not read for this long.
    pub stall: Duration,
    /// A silent peer is asked after this long whether it is there.
    pub keepalive: Duration,
    /// And has this long to answer.
    pub keepalive_answer: Duration,
}

/// What all workers share.
pub struct Shared {
    pub active: ArcSwap<Active>,
    /// Their calls are answered here; those of all other methods are Python's.
    pub infer_methods: Vec<String>,
    pub queue: Queue,
    pub counters: Counters,
    pub budget: Arc<Budget>,
    pub refusals: Refusals,
    /// Of these, for their records.
    pub refused: Arc<Refused>,
    pub limit_bytes: usize,
    /// Of one connection.
    pub limit_streams: u32,
    pub limit_connections: u64,
    pub listen_tls: ArcSwapOption<rustls::ServerConfig>,
    pub upstream_tls: ArcSwapOption<UpstreamTls>,
    pub upstream: Target,
    pub upstream_connections: usize,
    pub times: Times,
    pub draining: watch::Sender<bool>,
}

/// A status of Python's table, for what is refused here.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: i32,
    pub details: String,
    pub reason: &'static str,
    pub refused: Arc<Refused>,
}

/// What is refused without asking Python: it may come in floods.
#[derive(Clone, Debug)]
pub struct Refusals {
    pub too_many_calls: Refusal,
    pub memory_exhausted: Refusal,
    pub message_too_large: Refusal,
    pub slow_request: Refusal,
    pub python_lane_full: Refusal,
    pub internal: Refusal,
}

/// As much of one request may stand unread here, beside the budget; and of one connection.
const WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const MAX_HEADERS: u32 = 64 << 10;
const MAX_FRAME: u32 = 64 << 10;
const MAX_FRAME_UPSTREAM: u32 = 1 << 20;
/// Streams that were reset are remembered: so many, so long.
const MAX_RESETS: usize = 200;
const RESETS_FOR: Duration = Duration::from_secs(2);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// For telling a client why its connection ends.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// One worker.
pub struct Worker {
    pub shared: Arc<Shared>,
    /// `grpc-timeout` for calls without a deadline.
    pub upstream_timeout: HeaderValue,
    lines: Vec<Rc<Line>>,
    next_line: Cell<usize>,
    /// For long requests while the other worker has none: it moves the bytes, so that one client may take two cores.
    far: Option<(Rc<Line>, Other)>,
    /// How many long requests there are.
    long: Arc<AtomicUsize>,
    ids: RefCell<Ids>,
    uris: Uris,
}

/// 128 random bits in lower-case hex.
pub type CallId = [u8; 32];

/// One client's connection, for its calls.
pub struct Client {
    pub peer: u64,
    pub traffic: Arc<Traffic>,
}

/// Where the infer methods are upstream, over plain connections and over TLS.
struct Uris([Vec<(String, Uri)>; 2]);

impl Worker {
    /// `long`: where it counts its long requests; `other`: None where there is no other worker.
    pub fn new(shared: Arc<Shared>, long: Arc<AtomicUsize>, other: Option<Other>) -> Rc<Self> {
        let line = |mover| Line::new(shared.clone(), MAX_FRAME_UPSTREAM, mover);
        let lines = (0..shared.upstream_connections.max(1)).map(|_| line(None)).collect();
        let far = other.map(|other| (line(Some(other.work.clone())), other));
        let uris = [Scheme::HTTP, Scheme::HTTPS].map(|scheme| {
            let of = |method: &String| (method.clone(), uri(&shared, scheme.clone(), method));
            shared.infer_methods.iter().map(of).collect()
        });
        Rc::new(Worker {
            lines,
            far,
            long,
            upstream_timeout: grpc::timeout_value(shared.times.upstream),
            shared,
            next_line: Cell::new(0),
            ids: RefCell::default(),
            uris: Uris(uris),
        })
    }

    /// The connection for a call whose request is long, until it is over.
    pub fn long_line(&self) -> (&Rc<Line>, Long) {
        let line = match &self.far {
            Some((line, other)) if other.long.load(Relaxed) == 0 => line,
            _ => self.line(),
        };
        self.long.fetch_add(1, Relaxed);
        (line, Long(self.long.clone()))
    }

    /// The connection for the next call.
    pub fn line(&self) -> &Rc<Line> {
        let at = self.next_line.get();
        self.next_line.set((at + 1) % self.lines.len());
        // There is at least one, and `at` is always below their number.
        &self.lines[at]
    }

    /// Where an infer method is upstream.
    pub fn uri(&self, method: &str) -> Uri {
        let [plain, secured] = &self.uris.0;
        let known = if self.shared.upstream_tls.load().is_some() {
            secured
        } else {
            plain
        };
        known
            .iter()
            .find(|known| known.0 == method)
            .map(|known| known.1.clone())
            .unwrap_or_default()
    }

    /// 128 random bits in lower-case hex.
    pub fn new_call_id(&self) -> CallId {
        self.ids.borrow_mut().next()
    }

    /// Answer the calls of a connection, with TLS where that is asked for; a panic ends only this connection.
    pub async fn welcome(self: Rc<Self>, peer: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let shared = self.shared.clone();
        let counters = &shared.counters;
        add(&counters.connections, 1);
        let open = counters.open_connections.fetch_add(1, Relaxed);
        if open >= shared.limit_connections {
            add(&counters.too_many_connections, 1);
        } else if caught(pin!(self.secured(peer, stream))).await.is_err() {
            add(&counters.panics, 1);
        }
        counters.open_connections.fetch_sub(1, Relaxed);
    }

    /// In boxes: an idle connection is to hold only what it needs, and not what its beginning needed.
    async fn secured(self: Rc<Self>, peer: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
        match self.shared.listen_tls.load_full() {
            None => Box::pin(self.serve(peer, stream)).await,
            Some(config) => {
                let accepting = Box::pin(tokio_rustls::TlsAcceptor::from(config).accept(stream));
                match tokio::time::timeout(HANDSHAKE_WITHIN, accepting).await {
                    Ok(Ok(stream)) => Box::pin(self.serve(peer, stream)).await,
                    Ok(Err(_)) | Err(_) => add(&self.shared.counters.failed_handshakes, 1),
                }
            }
        }
    }

    /// Answer the calls of a connection until it ends.
    async fn serve(self: Rc<Self>, peer: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (shared, times) = (&self.shared, self.shared.times);
        let traffic = Traffic::new(Some(Allowance::new(Instant::now())));
        let gathered = Gathered::new(Watched::new(Ahead::new(stream), traffic.clone(), times.stall));
        let handshake = h2::server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(shared.limit_streams)
            .max_concurrent_reset_streams(MAX_RESETS)
            .reset_stream_duration(RESETS_FOR)
            .max_send_buffer_size(shared.limit_bytes)
            .handshake::<_, Piece>(gathered.clone());
        let Ok(Ok(mut connection)) = tokio::time::timeout(HANDSHAKE_WITHIN, gathered.drive(Box::pin(handshake))).await
        else {
            return add(&shared.counters.failed_handshakes, 1);
        };
        let Some(pings) = connection.ping_pong() else { return };
        let client = Rc::new(Client {
            peer,
            traffic: traffic.clone(),
        });
        let mut is_dead = pin!(unanswered(
            pings,
            &traffic,
            times.keepalive,
            times.keepalive_answer,
            |_| true
        ));
        let mut signal = pin!(self.signal(&traffic));
        let mut is_signalled = false;
        loop {
            tokio::select! {
                biased;
                accepted = gathered.drive(connection.accept()) => match accepted {
                    Some(Ok((request, respond))) => {
                        tokio::task::spawn_local(call::answer(self.clone(), client.clone(), request, respond));
                    }
                    Some(Err(error)) => return self.count_end(&error, &traffic),
                    None => return,
                },
                signal = &mut signal, if !is_signalled => {
                    is_signalled = true;
                    match signal {
                        Signal::Drain => connection.graceful_shutdown(),
                        Signal::Flood(flood) => {
                            add(&shared.counters.floods[flood as usize], 1);
                            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                            let goodbye = std::future::poll_fn(|context| connection.poll_closed(context));
                            let _ = tokio::time::timeout(GOODBYE_WITHIN, gathered.drive(goodbye)).await;
                            return;
                        }
                    }
                }
                () = &mut is_dead => return add(&shared.counters.dead_connections, 1),
            }
        }
    }

    async fn signal(&self, traffic: &Traffic) -> Signal {
        let mut draining = self.shared.draining.subscribe();
        tokio::select! {
            flood = traffic.flood() => Signal::Flood(flood),
            _ = draining.wait_for(|draining| *draining) => Signal::Drain,
        }
    }

    /// Why a connection ended, where it was no proper end.
    fn count_end(&self, error: &h2::Error, traffic: &Traffic) {
        let counters = &self.shared.counters;
        if traffic.stalled.load(Relaxed) {
            add(&counters.stalled, 1);
        } else if error.is_go_away() && !error.is_remote() {
            let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
            add(
                if is_flood {
                    &counters.too_much
                } else {
                    &counters.protocol_errors
                },
                1,
            );
        }
    }

    /// Take what there is to do as it comes; never returns, for what goes on ends with this.
    pub async fn run(self: Rc<Self>, mut work: mpsc::UnboundedReceiver<Work>) {
        while let Some(work) = work.recv().await {
            let worker = self.clone();
            match work {
                Work::Tcp(peer, stream) => {
                    if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                        tokio::task::spawn_local(worker.welcome(peer, stream));
                    }
                }
                Work::Unix(peer, stream) => {
                    if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                        tokio::task::spawn_local(worker.welcome(peer, stream));
                    }
                }
                Work::Upstream(dial) => drop(tokio::task::spawn_local(dial.run())),
            }
        }
        std::future::pending().await
    }
}

/// What a connection is told while it waits for calls.
enum Signal {
    Drain,
    Flood(crate::flood::Flood),
}

fn uri(shared: &Shared, scheme: Scheme, method: &str) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = shared.upstream.authority().parse().ok();
    parts.path_and_query = method.parse::<PathAndQuery>().ok();
    Uri::from_parts(parts).unwrap_or_default()
}

/// A long request, while there is one.
pub struct Long(Arc<AtomicUsize>);

impl Drop for Long {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Another worker.
pub struct Other {
    pub work: mpsc::UnboundedSender<Work>,
    pub long: Arc<AtomicUsize>,
}

/// What a worker is given to do.
pub enum Work {
    /// A client's connection, by its number.
    Tcp(u64, std::net::TcpStream),
    Unix(u64, std::os::unix::net::UnixStream),
    /// A connection to the upstream, for another worker's calls.
    Upstream(Dial),
}

/// Random bits, fetched from the system for many ids at once.
#[derive(Default)]
struct Ids {
    bits: Vec<u8>,
}

impl Ids {
    const AT_ONCE: usize = 256;

    fn next(&mut self) -> CallId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let Some((rest, bits)) = self.bits.split_last_chunk::<16>() else {
            self.bits.resize(16 * Self::AT_ONCE, 0);
            getrandom::fill(&mut self.bits).expect("the system gives random bits");
            return self.next();
        };
        let mut id = [0; 32];
        for (digits, byte) in id.as_chunks_mut::<2>().0.iter_mut().zip(bits) {
            *digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        let left = rest.len();
        self.bits.truncate(left);
        id
    }
}
