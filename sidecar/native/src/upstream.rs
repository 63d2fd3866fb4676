//! The model server: connections of one worker to it, made when needed and remade with growing pauses.

use crate::tls::UpstreamTls;
use crate::worker::Shared;
use bytes::Bytes;
use h2::client::SendRequest;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const WINDOW: u32 = 16 << 20;

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

/// One connection, remade when lost.
pub struct Line {
    shared: Arc<Shared>,
    max_frame: u32,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// The credentials that the sender's connection was made with.
    made_with: RefCell<Option<Arc<UpstreamTls>>>,
    connecting: tokio::sync::Mutex<()>,
    pause: Cell<Duration>,
    not_before: Cell<Option<Instant>>,
    why: RefCell<String>,
}

impl Line {
    pub fn new(shared: Arc<Shared>, max_frame: u32) -> Rc<Self> {
        Rc::new(Line {
            shared,
            made_with: RefCell::new(None),
            max_frame,
            sender: RefCell::new(None),
            connecting: tokio::sync::Mutex::new(()),
            pause: Cell::new(FIRST_PAUSE),
            not_before: Cell::new(None),
            why: RefCell::new(String::new()),
        })
    }

    /// A sender that has room for a request.
    ///
    /// # Errors
    /// There is no connection, and none could be made; or a moment ago none could.
    pub async fn ready(self: &Rc<Self>) -> Result<SendRequest<Bytes>, Unreachable> {
        for _ in 0..2 {
            let sender = self.connected().await?;
            match sender.clone().ready().await {
                Ok(ready) => return Ok(ready),
                Err(error) => {
                    self.lose(&error.to_string());
                }
            }
        }
        Err(Unreachable(self.why.borrow().clone()))
    }

    fn lose(&self, why: &str) {
        *self.sender.borrow_mut() = None;
        why.clone_into(&mut self.why.borrow_mut());
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
            *self.sender.borrow_mut() = None;
            *self.made_with.borrow_mut() = current.clone();
        }
    }

    async fn connected(self: &Rc<Self>) -> Result<SendRequest<Bytes>, Unreachable> {
        self.look_at_credentials();
        if let Some(sender) = self.sender.borrow().clone() {
            return Ok(sender);
        }
        let _turn = self.connecting.lock().await;
        if let Some(sender) = self.sender.borrow().clone() {
            return Ok(sender);
        }
        if self.not_before.get().is_some_and(|at| Instant::now() < at) {
            return Err(Unreachable(self.why.borrow().clone()));
        }
        match tokio::time::timeout(CONNECT_WITHIN, self.connect()).await {
            Ok(Ok(sender)) => {
                self.pause.set(FIRST_PAUSE);
                self.not_before.set(None);
                *self.sender.borrow_mut() = Some(sender.clone());
                Ok(sender)
            }
            Ok(Err(why)) => Err(self.failed(why)),
            Err(_) => Err(self.failed("no connection in time".to_owned())),
        }
    }

    fn failed(&self, why: String) -> Unreachable {
        self.not_before.set(Some(Instant::now() + self.pause.get()));
        self.pause.set((self.pause.get() * 2).min(LONGEST_PAUSE));
        why.clone_into(&mut self.why.borrow_mut());
        Unreachable(why)
    }

    async fn connect(self: &Rc<Self>) -> Result<SendRequest<Bytes>, String> {
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
    ) -> Result<SendRequest<Bytes>, String> {
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
    ) -> Result<SendRequest<Bytes>, String> {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(self.max_frame)
            .enable_push(false)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(|error| error.to_string())?;
        let line = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let ended = connection.await;
            if let Some(line) = line.upgrade() {
                line.lose(&ended.err().map_or("the upstream closed the connection".to_owned(), |e| e.to_string()));
            }
        });
        Ok(sender)
    }
}
