//! One thread with a runtime of its own: takes connections, and answers the calls on them.

use crate::active::Active;
use crate::budget::Budget;
use crate::call;
use crate::counters::{Counters, add};
use crate::handover::Queue;
use crate::upstream::{Line, Target};
use crate::tls::UpstreamTls;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// Who answers the calls of a method; those of all others are Python's.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    /// ModelInfer of the Open Inference Protocol.
    Infer,
}

/// What all workers share.
pub struct Shared {
    pub active: ArcSwap<Active>,
    pub lanes: HashMap<String, Lane>,
    pub queue: Queue,
    pub counters: Counters,
    pub budget: Arc<Budget>,
    pub refusals: Refusals,
    pub limit_bytes: usize,
    pub limit_streams: u32,
    pub listen_tls: ArcSwapOption<rustls::ServerConfig>,
    pub upstream_tls: ArcSwapOption<UpstreamTls>,
    pub upstream: Target,
    pub upstream_connections: usize,
    pub upstream_timeout: Duration,
    pub draining: watch::Sender<bool>,
}

/// A status of Python's table, for what is refused here.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: i32,
    pub details: String,
    pub reason: &'static str,
}

/// What is refused without asking Python: it may come in floods.
#[derive(Clone, Debug)]
pub struct Refusals {
    pub too_many_calls: Refusal,
    pub memory_exhausted: Refusal,
    pub message_too_large: Refusal,
}

const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_HEADERS: u32 = 64 << 10;
const MAX_FRAME: u32 = 1 << 20;
const MAX_RESETS: usize = 200;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// One worker.
pub struct Worker {
    pub shared: Arc<Shared>,
    lines: Vec<Rc<Line>>,
    next_line: Cell<usize>,
    ids: RefCell<Ids>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        let lines = (0..shared.upstream_connections)
            .map(|_| Line::new(shared.clone(), MAX_FRAME))
            .collect();
        Rc::new(Worker { shared, lines, next_line: Cell::new(0), ids: RefCell::default() })
    }

    /// The connection for the next call.
    pub fn line(&self) -> &Rc<Line> {
        let at = self.next_line.get();
        self.next_line.set((at + 1) % self.lines.len());
        &self.lines[at]
    }

    /// Where a method is upstream.
    pub fn uri(&self, method: &str) -> Uri {
        let mut parts = http::uri::Parts::default();
        let is_tls = self.shared.upstream_tls.load().is_some();
        parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = self.shared.upstream.authority().parse().ok();
        parts.path_and_query = method.parse::<PathAndQuery>().ok();
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// 128 random bits in lower-case hex.
    pub fn new_call_id(&self) -> String {
        self.ids.borrow_mut().next()
    }

    /// Answer the calls of a connection, with TLS where that is asked for.
    async fn welcome(self: Rc<Self>, peer: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
        match self.shared.listen_tls.load_full() {
            None => self.serve(peer, stream).await,
            Some(config) => {
                let accepting = tokio_rustls::TlsAcceptor::from(config).accept(stream);
                match tokio::time::timeout(HANDSHAKE_WITHIN, accepting).await {
                    Ok(Ok(stream)) => self.serve(peer, stream).await,
                    Ok(Err(_)) | Err(_) => add(&self.shared.counters.failed_handshakes, 1),
                }
            }
        }
    }

    /// Answer the calls of a connection until it ends.
    async fn serve(self: Rc<Self>, peer: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
        add(&self.shared.counters.connections, 1);
        let handshake = h2::server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(self.shared.limit_streams)
            .max_concurrent_reset_streams(MAX_RESETS)
            .max_send_buffer_size(self.shared.limit_bytes)
            .handshake::<_, Bytes>(stream);
        let Ok(Ok(mut connection)) = tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await else {
            return;
        };
        let mut draining = self.shared.draining.subscribe();
        let mut told = false;
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        tokio::task::spawn_local(call::answer(self.clone(), peer, request, respond));
                    }
                    Some(Err(_)) | None => return,
                },
                changed = draining.changed(), if !told => {
                    told = true;
                    if changed.is_ok() {
                        connection.graceful_shutdown();
                    }
                }
            }
        }
    }

    /// Take connections until there are no more to come.
    pub async fn run(self: Rc<Self>, mut connections: mpsc::UnboundedReceiver<(u64, Connection)>) {
        while let Some((peer, connection)) = connections.recv().await {
            let worker = self.clone();
            match connection {
                Connection::Tcp(stream) => {
                    if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                        tokio::task::spawn_local(worker.welcome(peer, stream));
                    }
                }
                Connection::Unix(stream) => {
                    if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                        tokio::task::spawn_local(worker.welcome(peer, stream));
                    }
                }
            }
        }
    }
}

/// A client's connection, on its way to a worker.
pub enum Connection {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Random bits, fetched from the system for many ids at once.
#[derive(Default)]
struct Ids {
    bits: Vec<u8>,
}

impl Ids {
    const AT_ONCE: usize = 256;

    fn next(&mut self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if self.bits.len() < 16 {
            self.bits.resize(16 * Self::AT_ONCE, 0);
            getrandom::fill(&mut self.bits).expect("the system gives random bits");
        }
        let from = self.bits.len() - 16;
        let id = self.bits[from..]
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
            .map(char::from)
            .collect();
        self.bits.truncate(from);
        id
    }
}
