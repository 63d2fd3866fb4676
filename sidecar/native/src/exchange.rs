//! The call upstream of an ordinary request: forwarded as it came, answered with one message.

use crate::call::Call;
use crate::grpc::{self, APPLICATION_GRPC, Code, Frame, MESSAGE, Messages, NoMessage, STATUS};
use crate::handover::Outcome;
use crate::metadata::{copy_travelling, pairs};
use crate::reply::Reply;
use http::{HeaderMap, HeaderValue, Request};
use std::time::{Duration, Instant};

/// What became of it.
pub enum Upstream {
    Reply { frame: Frame, initial: HeaderMap, trailing: HeaderMap },
    Failure(Outcome),
    /// The client gave up.
    Cancelled,
}

/// Forward a request, and wait for its answer as long as the client or we may.
pub async fn ask(call: &Call, frame: &Frame, reply: &mut Reply) -> Upstream {
    let left = match call.deadline {
        Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        None => call.worker.shared.upstream_timeout,
    };
    tokio::select! {
        biased;
        () = reply.given_up() => Upstream::Cancelled,
        asked = tokio::time::timeout(left, exchange(call, frame, left)) => match asked {
            Ok(answered) => answered,
            Err(_) => failure(Code::DeadlineExceeded, "the upstream did not answer in time"),
        },
    }
}

async fn exchange(call: &Call, frame: &Frame, left: Duration) -> Upstream {
    let mut sender = match call.worker.line().ready().await {
        Ok(sender) => sender,
        Err(unreachable) => return failure(Code::Unavailable, &unreachable.0),
    };
    let (response, mut stream) = match sender.send_request(request(call, left), false) {
        Ok(sent) => sent,
        Err(error) => return broken(&error),
    };
    if let Err(error) = stream.send_data(frame.bytes(), true) {
        return broken(&error);
    }
    let (head, body) = match response.await {
        Ok(response) => response.into_parts(),
        Err(error) => return broken(&error),
    };
    if head.status != http::StatusCode::OK {
        return failure(Code::Unavailable, &format!("the upstream answered HTTP status {}", head.status));
    }
    if head.headers.contains_key(STATUS) {
        return ended(&head.headers, &HeaderMap::new());
    }
    let mut messages = Messages::new(body, call.worker.shared.limit_bytes);
    let answer = match messages.next(&call.lease).await {
        Ok(frame) => Some(frame),
        Err(NoMessage::Ended { within: false }) => None,
        Err(NoMessage::Ended { within: true }) => return failure(Code::Internal, "the upstream's answer broke off"),
        Err(NoMessage::TooLarge) => {
            return failure(Code::ResourceExhausted, "the upstream's answer is over the limit");
        }
        Err(NoMessage::Exhausted) => {
            return failure(Code::ResourceExhausted, "calls in flight hold as many bytes as may be; retry later");
        }
        Err(NoMessage::Broken(error)) => return broken(&error),
    };
    let trailing = match messages.trailers().await {
        Ok(trailing) => trailing.unwrap_or_default(),
        Err(error) => return broken(&error),
    };
    match answer {
        Some(frame) if trailing.get(STATUS).is_some_and(|status| status == grpc::OK) => {
            Upstream::Reply { frame, initial: head.headers, trailing }
        }
        _ => ended(&trailing, &head.headers),
    }
}

fn request(call: &Call, left: Duration) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = call.worker.uri(&call.method);
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-timeout", grpc::timeout_value(left));
    copy_travelling(&call.headers, headers);
    request
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
fn broken(error: &h2::Error) -> Upstream {
    let code = match error.reason() {
        Some(h2::Reason::CANCEL) if error.is_remote() => Code::Cancelled,
        _ => Code::Unavailable,
    };
    failure(code, &error.to_string())
}

/// A call that the upstream ended with a status and without an answer.
fn ended(trailing: &HeaderMap, initial: &HeaderMap) -> Upstream {
    let status = trailing.get(STATUS).and_then(|status| status.to_str().ok()?.parse::<i32>().ok());
    let details = trailing.get(MESSAGE).map(|text| grpc::decoded_details(text.as_bytes()));
    match status {
        None => failure(Code::Unknown, "the upstream ended the call without a status"),
        Some(0) => failure(Code::Internal, "the call ended with status OK and without a message"),
        Some(code) => Upstream::Failure(Outcome::Failure {
            code,
            details: details.unwrap_or_default(),
            answered: true,
            initial: pairs(initial),
            trailing: pairs(trailing),
        }),
    }
}
