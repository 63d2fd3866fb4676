//! The client's side of a call: what it gets, and whether it still wants it.

use crate::grpc::{self, APPLICATION_GRPC, Frame, MESSAGE, STATUS};
use crate::metadata::{Pairs, add_pairs, copy_travelling};
use crate::worker::Refusal;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use std::future::poll_fn;

const CALL_ID: HeaderName = HeaderName::from_static("gate-call-id");
const DECISION: HeaderName = HeaderName::from_static("gate-decision");
const OUTCOME: HeaderName = HeaderName::from_static("gate-outcome");
const REASON: HeaderName = HeaderName::from_static("gate-reason");

/// A message up to this size is sent at once, whether or not the client has room for it.
const AT_ONCE: usize = 16 << 10;

/// What goes to the client.
pub struct Reply {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    call_id: HeaderValue,
}

impl Reply {
    pub fn new(respond: SendResponse<Bytes>, call_id: &str) -> Self {
        let call_id = HeaderValue::try_from(call_id).unwrap_or_else(|_| HeaderValue::from_static(""));
        Reply { respond, stream: None, call_id }
    }

    /// Returns once the client does not want an answer any more.
    pub async fn given_up(&mut self) {
        let _ = match &mut self.stream {
            Some(stream) => poll_fn(|context| stream.poll_reset(context)).await,
            None => poll_fn(|context| self.respond.poll_reset(context)).await,
        };
    }

    /// The upstream's answer as it is. Where the client is gone nobody is there to tell.
    pub async fn answer(
        &mut self,
        answer: Frame,
        initial: &HeaderMap,
        trailing: &HeaderMap,
        outcome: &'static str,
    ) {
        let mut response = head();
        copy_travelling(initial, response.headers_mut());
        response.headers_mut().insert(CALL_ID, self.call_id.clone());
        let mut end = HeaderMap::with_capacity(trailing.len() + 4);
        end.insert(STATUS, HeaderValue::from_static(grpc::OK));
        copy_travelling(trailing, &mut end);
        end.insert(DECISION, self.decision());
        end.insert(OUTCOME, HeaderValue::from_static(outcome));
        end.insert(CALL_ID, self.call_id.clone());
        self.stream = self.respond.send_response(response, false).ok();
        if self.send(answer.bytes()).await.is_ok()
            && let Some(stream) = &mut self.stream
        {
            let _ = stream.send_trailers(end);
        }
    }

    /// An error of ours, as Python's table has it.
    pub fn refuse(&mut self, refusal: &Refusal) {
        let mut end = HeaderMap::new();
        end.insert(DECISION, self.decision());
        end.insert(REASON, HeaderValue::from_static(refusal.reason));
        end.insert(OUTCOME, HeaderValue::from_static("refused"));
        end.insert(CALL_ID, self.call_id.clone());
        self.finish(refusal.code, &refusal.details, end);
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
    pub async fn write(&mut self, message: &[u8]) -> Result<(), h2::Error> {
        self.send(Frame::of(message).bytes()).await
    }

    /// The end of the call.
    pub fn end(&mut self, code: i32, details: &str, trailing: &Pairs) {
        let mut end = HeaderMap::new();
        add_pairs(trailing, &mut end);
        self.finish(code, details, end);
    }

    fn decision(&self) -> HeaderValue {
        let id = [self.call_id.as_bytes(), b"/1"].concat();
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    async fn send(&mut self, mut left: Bytes) -> Result<(), h2::Error> {
        let stream = self.stream.as_mut().ok_or(Reason::CANCEL)?;
        if left.len() <= AT_ONCE {
            return stream.send_data(left, false);
        }
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let room = poll_fn(|context| stream.poll_capacity(context)).await.ok_or(Reason::CANCEL)??;
            stream.send_data(left.split_to(room.min(left.len())), false)?;
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
    response.headers_mut().insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
    response
}
