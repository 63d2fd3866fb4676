//! A connection to the model server: made, and its bytes moved, by whichever worker runs it.

use crate::ahead::Ahead;
use crate::caught::caught;
use crate::counters::add;
use crate::gathered::Gathered;
use crate::piece::Piece;
use crate::tls::UpstreamTls;
use crate::traffic::{Traffic, Watched, unanswered};
use crate::worker::{Shared, Times};
use h2::client::SendRequest;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

/// Streams that were given up are remembered: so many, so long. An upstream that stood still answers them all at once
/// afterwards; with `h2`'s own second what a Triton then sent was a protocol error, which ended all calls of the
/// connection (`make drill`, SIGSTOP: three times in three; with this, none in four).
const MAX_RESETS: usize = 1024;
const RESETS_FOR: Duration = Duration::from_secs(60);

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

/// A connection that is there.
#[derive(Clone)]
pub struct Connected {
    pub requests: SendRequest<Piece>,
    pub traffic: Arc<Traffic>,
}

/// Moves a connection's bytes until it ends; why it did.
type Driven = Pin<Box<dyn Future<Output = String>>>;

/// A connection that is to be made.
pub struct Dial {
    shared: Arc<Shared>,
    tls: Option<Arc<UpstreamTls>>,
    max_frame: u32,
    made: oneshot::Sender<Result<Connected, String>>,
    lost: oneshot::Sender<String>,
}

/// How making it went; and later, why it was lost.
type Made = oneshot::Receiver<Result<Connected, String>>;
type Lost = oneshot::Receiver<String>;

impl Dial {
    pub fn new(shared: Arc<Shared>, tls: Option<Arc<UpstreamTls>>, max_frame: u32) -> (Self, Made, Lost) {
        let ((made, is_made), (lost, is_lost)) = (oneshot::channel(), oneshot::channel());
        let dial = Dial {
            shared,
            tls,
            max_frame,
            made,
            lost,
        };
        (dial, is_made, is_lost)
    }

    /// Make it, and move its bytes until it ends.
    pub async fn run(self) {
        let connecting = tokio::time::timeout(CONNECT_WITHIN, self.connect());
        let result = match caught(pin!(connecting)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("no connection in time".to_owned()),
            Err(_) => {
                add(&self.shared.counters.panics, 1);
                Err("connecting failed".to_owned())
            }
        };
        match result {
            Ok((connected, mut driven)) => {
                let _ = self.made.send(Ok(connected));
                let ended = caught(driven.as_mut()).await;
                let _ = self
                    .lost
                    .send(ended.unwrap_or_else(|_| "the connection failed".to_owned()));
            }
            Err(why) => drop(self.made.send(Err(why))),
        }
    }

    async fn connect(&self) -> Result<(Connected, Driven), String> {
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
        &self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    ) -> Result<(Connected, Driven), String> {
        match &self.tls {
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
        &self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    ) -> Result<(Connected, Driven), String> {
        let traffic = Traffic::new(None);
        let gathered = Gathered::new(Watched::new(
            Ahead::new(stream),
            traffic.clone(),
            self.shared.times.stall,
        ));
        let handshake = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(self.max_frame)
            .max_header_list_size(MAX_HEADERS)
            .max_concurrent_reset_streams(MAX_RESETS)
            .reset_stream_duration(RESETS_FOR)
            .enable_push(false)
            .handshake::<_, Piece>(gathered.clone());
        let (requests, mut connection) = gathered.drive(handshake).await.map_err(|error| error.to_string())?;
        let (times, watched) = (self.shared.times, traffic.clone());
        let driven = async move {
            let pings = connection.ping_pong();
            tokio::select! {
                ended = gathered.drive(connection) => match ended {
                    Ok(()) => "the upstream closed the connection".to_owned(),
                    Err(error) => error.to_string(),
                },
                () = silence(pings, &watched, times) => "the upstream does not answer pings".to_owned(),
            }
        };
        Ok((Connected { requests, traffic }, Box::pin(driven)))
    }
}

/// Servers end connections on which too much is asked without any call.
async fn silence(pings: Option<h2::PingPong>, traffic: &Traffic, times: Times) {
    match pings {
        Some(pings) => {
            let in_use = |traffic: &Traffic| traffic.in_flight.load(Relaxed) > 0;
            unanswered(pings, traffic, times.keepalive, times.keepalive_answer, in_use).await;
        }
        None => std::future::pending().await,
    }
}
