//! The call upstream of an ordinary request: forwarded as it came, answered with one message.

use crate::call::Call;
use crate::caught::stage;
use crate::counters::add;
use crate::grpc::{self, APPLICATION_GRPC, Code, Frame, Kept, MESSAGE, Messages, NoMessage, STATUS};
use crate::handover::Outcome;
use crate::metadata::{copy_travelling, pairs};
use crate::piece::Piece;
use crate::reply::Reply;
use crate::upstream::{Line, Sender};
use crate::worker::Long;
use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What became of it.
pub enum Upstream {
    Reply {
        frame: Frame,
        initial: HeaderMap,
        trailing: HeaderMap,
    },
    Failure(Outcome),
    /// The answer is more than may be held.
    Exhausted,
    /// The client gave up.
    Cancelled,
}

/// How one try ended.
enum Tried {
    Answered(Upstream),
    /// The upstream cannot have looked at it.
    Unprocessed(h2::Error),
}

/// A call upstream that is begun.
pub struct Opened {
    sender: Sender,
    response: ResponseFuture,
    stream: SendStream<Piece>,
    long: Option<Long>,
}

/// Forward a request, and wait for its answer as long as the client or we may. `opened`: where all of it is forwarded but
/// these last bytes.
pub async fn ask(call: &Call, request: &Kept, opened: Option<(Opened, Bytes)>, reply: &mut Reply) -> Upstream {
    let left = left(call);
    if left.is_zero() {
        return failure(
            Code::DeadlineExceeded,
            "the client's deadline had passed before the upstream was asked",
        );
    }
    stage(&call.headers, "ask");
    tokio::select! {
        biased;
        () = reply.given_up() => Upstream::Cancelled,
        asked = tokio::time::timeout(left, exchange(call, request, opened)) => asked.unwrap_or_else(|_| {
            call.client.traffic.reset_upstream();
            failure(Code::DeadlineExceeded, "the upstream did not answer in time")
        }),
    }
}

/// How long the upstream may take.
pub fn left(call: &Call) -> Duration {
    match call.deadline {
        Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        None => call.worker.shared.times.upstream,
    }
}

/// Once, and once more over the next connection where the upstream cannot have looked at the request.
async fn exchange(call: &Call, request: &Kept, opened: Option<(Opened, Bytes)>) -> Upstream {
    let tried = match opened {
        Some((opened, last)) => finish(call, opened, last).await,
        None => attempt(call, request).await,
    };
    match tried {
        Tried::Answered(upstream) => upstream,
        Tried::Unprocessed(_) => {
            add(&call.worker.shared.counters.retried, 1);
            match attempt(call, request).await {
                Tried::Answered(upstream) => upstream,
                Tried::Unprocessed(error) => broken(&error),
            }
        }
    }
}

async fn attempt(call: &Call, request: &Kept) -> Tried {
    match open(call, call.worker.line()).await {
        Ok(opened) => finish(call, opened, request.frame().bytes()).await,
        Err(tried) => tried,
    }
}

async fn open(call: &Call, line: &Rc<Line>) -> Result<Opened, Tried> {
    let mut sender = match line.ready().await {
        Ok(sender) => sender,
        Err(unreachable) => return Err(Tried::Answered(failure(Code::Unavailable, &unreachable.0))),
    };
    match sender.send(request(call)) {
        Ok((response, stream)) => Ok(Opened {
            sender,
            response,
            stream,
            long: None,
        }),
        Err(error) => Err(Tried::Unprocessed(error)),
    }
}

impl Opened {
    /// Begin a call whose message is still to come; None where that cannot be now.
    pub async fn begin(call: &Call) -> Option<Self> {
        let (line, long) = call.worker.long_line();
        let mut opened = open(call, line).await.ok()?;
        opened.long = Some(long);
        Some(opened)
    }

    /// Send some of the message, which does not end with it; whether the upstream takes it.
    pub async fn send(&mut self, bytes: Bytes, call: &Call) -> bool {
        push(&mut self.stream, bytes, call, false).await
    }
}

/// Send the end of the message, and wait for the answer.
async fn finish(call: &Call, opened: Opened, last: Bytes) -> Tried {
    let Opened {
        sender,
        response,
        mut stream,
        long: _until_answered,
    } = opened;
    let id = u32::from(stream.stream_id());
    // Reads the answer even while the request is still on its way: an upstream may refuse it early.
    let sending = pin!(async move {
        // What fails here is seen by who waits for the answer.
        if push(&mut stream, last, call, true).await {
            // Kept: a stream that is dropped is one that we gave up.
            std::future::pending().await
        }
    });
    let answering = pin!(answered(call, response, &sender));
    let tried = both(sending, answering).await;
    tried.unwrap_or_else(|error| {
        if sender.is_unprocessed(&error, id) {
            Tried::Unprocessed(error)
        } else {
            Tried::Answered(broken(&error))
        }
    })
}

/// The answer; sending goes on beside it as long as that takes.
async fn both<T>(
    mut sending: Pin<&mut impl Future<Output = ()>>,
    mut answering: Pin<&mut impl Future<Output = T>>,
) -> T {
    let mut is_sent = false;
    poll_fn(|context| {
        is_sent = is_sent || sending.as_mut().poll(context).is_ready();
        answering.as_mut().poll(context)
    })
    .await
}

/// As fast as the upstream takes it; whether it did.
async fn push(stream: &mut SendStream<Piece>, mut left: Bytes, call: &Call, is_end: bool) -> bool {
    stream.reserve_capacity(left.len());
    while !left.is_empty() {
        let room = match stream.capacity() {
            0 => match poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(room)) => room,
                _ => return false,
            },
            room => room,
        };
        if room > 0 {
            let now = left.split_to(room.min(left.len()));
            if stream
                .send_data(Piece::new(now, &call.lease), is_end && left.is_empty())
                .is_err()
            {
                return false;
            }
        }
    }
    true
}

async fn answered(call: &Call, response: ResponseFuture, sender: &Sender) -> Result<Tried, h2::Error> {
    let (head, body) = response.await?.into_parts();
    sender.proved();
    if head.status != StatusCode::OK {
        return said(
            code_of_http(head.status),
            &format!("the upstream answered HTTP status {}", head.status),
        );
    }
    if !grpc::is_grpc(&head.headers) {
        return said(
            Code::Unknown,
            "the upstream's answer is no gRPC: its content-type is another",
        );
    }
    if head.headers.contains_key(STATUS) {
        return Ok(Tried::Answered(ended(&head.headers, &HeaderMap::new())));
    }
    let mut messages = Messages::new(body, call.worker.shared.limit_bytes, None);
    let answer = match messages.next(&call.lease).await {
        // No encoding was accepted: we send none of `grpc-accept-encoding`.
        Ok(frame) if frame.is_compressed() => return said(Code::Internal, "the upstream's answer is compressed"),
        Ok(frame) => Some(frame),
        Err(NoMessage::Ended { within: false }) => None,
        Err(NoMessage::Ended { within: true } | NoMessage::TooSlow) => {
            return said(Code::Internal, "the upstream's answer broke off");
        }
        Err(NoMessage::TooLarge) => return said(Code::ResourceExhausted, "the upstream's answer is over the limit"),
        Err(NoMessage::Exhausted) => return Ok(Tried::Answered(Upstream::Exhausted)),
        Err(NoMessage::Broken(error)) => return Err(error),
    };
    let Some(trailing) = messages.trailers().await? else {
        return said(Code::Internal, "the upstream answered with more than one message");
    };
    Ok(Tried::Answered(match answer {
        Some(frame) if trailing.get(STATUS).is_some_and(|status| status == grpc::OK) => Upstream::Reply {
            frame,
            initial: head.headers,
            trailing,
        },
        _ => ended(&trailing, &head.headers),
    }))
}

fn request(call: &Call) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = call.worker.uri(call.uri.path());
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    headers.reserve(call.headers.len() + 3);
    headers.insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    let left = match call.deadline {
        Some(deadline) => grpc::timeout_value(deadline.saturating_duration_since(Instant::now())),
        None => call.worker.upstream_timeout.clone(),
    };
    headers.insert(grpc::TIMEOUT, left);
    copy_travelling(&call.headers, headers);
    request
}

fn said(code: Code, details: &str) -> Result<Tried, h2::Error> {
    Ok(Tried::Answered(failure(code, details)))
}

fn failure(code: Code, details: &str) -> Upstream {
    Upstream::Failure(Outcome::Failure {
        code: code as i32,
        details: details.to_owned(),
        answered: false,
        initial: vec![],
        trailing: vec![],
    })
}

/// A stream that broke.
///
/// Source: "gRPC over HTTP2", on HTTP/2 error codes.
fn broken(error: &h2::Error) -> Upstream {
    use h2::Reason;
    let code = match error.reason() {
        _ if !(error.is_reset() && error.is_remote()) => Code::Unavailable,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::REFUSED_STREAM) | None => Code::Unavailable,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
    };
    failure(code, &error.to_string())
}

/// Source: "HTTP to gRPC Status Code Mapping".
fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// A call that the upstream ended with a status and without an answer.
fn ended(trailing: &HeaderMap, initial: &HeaderMap) -> Upstream {
    let status = trailing
        .get(STATUS)
        .and_then(|status| status.to_str().ok()?.parse::<i32>().ok());
    let details = trailing.get(MESSAGE).map(|text| grpc::decoded_details(text.as_bytes()));
    match status {
        None => failure(Code::Unknown, "the upstream ended the call without a status"),
        // Zero, OK, is without a message: there is none, or nobody would have called this.
        Some(code) => Upstream::Failure(Outcome::Failure {
            code,
            details: details.unwrap_or_default(),
            answered: code != 0,
            initial: pairs(initial),
            trailing: pairs(trailing),
        }),
    }
}
