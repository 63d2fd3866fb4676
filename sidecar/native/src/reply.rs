//! The client's side of a call: what it gets, and whether it still wants it.

use crate::budget::Lease;
use crate::grpc::{self, APPLICATION_GRPC, Frame, MESSAGE, STATUS};
use crate::metadata::{Pairs, add_pairs, copy_travelling};
use crate::piece::Piece;
use crate::worker::{CallId, Refusal};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

const CALL_ID: HeaderName = HeaderName::from_static("gate-call-id");
const DECISION: HeaderName = HeaderName::from_static("gate-decision");
const OUTCOME: HeaderName = HeaderName::from_static("gate-outcome");
const REASON: HeaderName = HeaderName::from_static("gate-reason");

/// The number of a call's first answer.
const FIRST: &[u8] = b"/1";

/// What goes to the client.
pub struct Reply {
    respond: SendResponse<Piece>,
    stream: Option<SendStream<Piece>>,
    call_id: HeaderValue,
    /// The id of the only, or first, answer's decision.
    decision: HeaderValue,
    stall: Duration,
}

/// Why a message could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The client, or its connection, is gone.
    Gone,
    /// The client gave no room for it for too long.
    Stalled,
}

impl Reply {
    /// `stall`: for how long the client may leave us without room.
    pub fn new(respond: SendResponse<Piece>, stall: Duration) -> Self {
        Reply {
            respond,
            stream: None,
            call_id: HeaderValue::from_static(""),
            decision: HeaderValue::from_static(""),
            stall,
        }
    }

    /// Known from now on as.
    pub fn name(&mut self, call_id: &CallId) {
        let mut decision = BytesMut::with_capacity(call_id.len() + FIRST.len());
        decision.extend_from_slice(call_id);
        decision.extend_from_slice(FIRST);
        let decision = decision.freeze();
        self.call_id = passing(decision.slice(..call_id.len()));
        self.decision = passing(decision);
    }

    /// Returns once the client does not want an answer any more.
    pub async fn given_up(&mut self) {
        let _ = match &mut self.stream {
            Some(stream) => poll_fn(|context| stream.poll_reset(context)).await,
            None => poll_fn(|context| self.respond.poll_reset(context)).await,
        };
    }

    /// The upstream's answer as it is.
    ///
    /// # Errors
    /// It did not get there.
    pub async fn answer(
        &mut self,
        answer: Frame,
        lease: &Arc<Lease>,
        initial: &HeaderMap,
        trailing: &HeaderMap,
        outcome: &'static str,
    ) -> Result<(), Unsent> {
        let mut response = head();
        copy_travelling(initial, response.headers_mut());
        response.headers_mut().insert(CALL_ID, self.call_id.clone());
        let mut end = HeaderMap::with_capacity(trailing.len() + 4);
        end.insert(STATUS, HeaderValue::from_static(grpc::OK));
        copy_travelling(trailing, &mut end);
        end.insert(DECISION, self.decision.clone());
        end.insert(OUTCOME, HeaderValue::from_static(outcome));
        end.insert(CALL_ID, self.call_id.clone());
        self.stream = self.respond.send_response(response, false).ok();
        self.send(answer.bytes(), lease).await?;
        let stream = self.stream.as_mut().ok_or(Unsent::Gone)?;
        stream.send_trailers(end).map_err(|_| Unsent::Gone)
    }

    /// An error of ours, as Python's table has it.
    pub fn refuse(&mut self, refusal: &Refusal) {
        refusal.refused.note(self.call_id.as_bytes(), refusal.reason);
        let mut end = HeaderMap::new();
        end.insert(DECISION, self.decision.clone());
        end.insert(REASON, HeaderValue::from_static(refusal.reason));
        end.insert(OUTCOME, HeaderValue::from_static("refused"));
        end.insert(CALL_ID, self.call_id.clone());
        self.finish(refusal.code, &refusal.details, end);
    }

    /// For what is no gRPC at all: plain HTTP, with a line to read.
    pub fn refuse_http(&mut self, status: StatusCode, text: &'static str, lease: &Arc<Lease>) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if let Ok(mut stream) = self.respond.send_response(response, false) {
            let _ = stream.send_data(Piece::new(Bytes::from_static(text.as_bytes()), lease), true);
        }
    }

    /// The initial metadata, once.
    pub fn open(&mut self, initial: &[(String, Vec<u8>)]) {
        if self.stream.is_none() {
            let mut response = head();
            add_pairs(initial, response.headers_mut());
            self.stream = self.respond.send_response(response, false).ok();
        }
    }

    /// A message, as fast as the client takes it.
    ///
    /// # Errors
    /// It did not get there.
    pub async fn write(&mut self, message: &[u8], lease: &Arc<Lease>) -> Result<(), Unsent> {
        self.send(Frame::of(message).bytes(), lease).await
    }

    /// The end of the call.
    pub fn end(&mut self, code: i32, details: &str, trailing: &Pairs) {
        let mut end = HeaderMap::new();
        add_pairs(trailing, &mut end);
        self.finish(code, details, end);
    }

    /// Only as much as there is room for: what is given to HTTP/2 leaves as soon as the socket takes it.
    async fn send(&mut self, mut left: Bytes, lease: &Arc<Lease>) -> Result<(), Unsent> {
        let stream = self.stream.as_mut().ok_or(Unsent::Gone)?;
        stream.reserve_capacity(left.len());
        while !left.is_empty() {
            let room = match stream.capacity() {
                0 => {
                    let more = tokio::time::timeout(self.stall, poll_fn(|context| stream.poll_capacity(context)));
                    match more.await {
                        Ok(Some(Ok(room))) => room,
                        Ok(_) => return Err(Unsent::Gone),
                        Err(_) => {
                            stream.send_reset(Reason::CANCEL);
                            return Err(Unsent::Stalled);
                        }
                    }
                }
                room => room,
            };
            if room > 0 {
                let now = Piece::new(left.split_to(room.min(left.len())), lease);
                stream.send_data(now, false).map_err(|_| Unsent::Gone)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, code: i32, details: &str, mut end: HeaderMap) {
        end.insert(STATUS, HeaderValue::from(code));
        if !details.is_empty() {
            end.insert(MESSAGE, grpc::encoded_details(details));
        }
        match &mut self.stream {
            Some(stream) => {
                let _ = stream.send_trailers(end);
            }
            None => {
                let mut response = head();
                response.headers_mut().extend(end);
                let _ = self.respond.send_response(response, true);
            }
        }
    }
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
    response
}

/// A value that never comes again, and so must not drive others out of the peer's table of known headers.
fn passing(bytes: Bytes) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
