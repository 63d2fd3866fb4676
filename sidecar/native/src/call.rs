//! One call: the ordinary one is answered here, all others go to Python.

use crate::active::{Active, ActiveModel};
use crate::counters::add;
use crate::grpc::{self, Code, Frame, Messages, NoMessage};
use crate::handover::{Command, Event, Handed, Outcome};
use crate::metadata::{Pairs, add_pairs, copy_travelling, pairs};
use crate::worker::{Lane, Worker};
use bytes::Bytes;
use gate::{Plan, UNUSUAL, Unusual};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const CALL_ID: HeaderName = HeaderName::from_static("gate-call-id");
const DECISION: HeaderName = HeaderName::from_static("gate-decision");
const OUTCOME: HeaderName = HeaderName::from_static("gate-outcome");

/// Answer a call to its end, whatever that is.
pub async fn answer(worker: Rc<Worker>, peer: u64, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let deadline = grpc::timeout(&head.headers).map(|left| began + left);
    let is_grpc = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if head.method != http::Method::POST || !is_grpc {
        let refusal = Response::builder().status(415).body(()).unwrap_or_default();
        let _ = respond.send_response(refusal, true);
        return;
    }
    let call = Call {
        method: head.uri.path().to_owned(),
        headers: head.headers,
        call_id: worker.new_call_id(),
        peer,
        began,
        deadline,
        worker,
    };
    match call.worker.shared.lanes.get(&call.method) {
        Some(Lane::Infer) => call.infer(body, respond).await,
        None => {
            let messages = Messages::new(body, call.worker.shared.limit_bytes);
            call.give_to_python(messages, respond, None, None, None).await;
        }
    }
}

struct Call {
    method: String,
    headers: HeaderMap,
    call_id: String,
    peer: u64,
    began: Instant,
    deadline: Option<Instant>,
    worker: Rc<Worker>,
}

/// What became of the call upstream.
enum Upstream {
    Reply { frame: Frame, initial: HeaderMap, trailing: HeaderMap },
    Failure(Outcome),
    /// The client gave up.
    Cancelled,
}

impl Call {
    async fn infer(&self, body: RecvStream, mut respond: SendResponse<Bytes>) {
        let mut messages = Messages::new(body, self.worker.shared.limit_bytes);
        let frame = match messages.next().await {
            Ok(frame) => frame,
            Err(why) => return self.end_without_message(messages, respond, why).await,
        };
        let active = self.worker.shared.active.load_full();
        let started = Instant::now();
        let admitted = self.admit(&active, &frame);
        let admitting = started.elapsed();
        let (model, mut plan) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                self.count_handed(why);
                return self.give_to_python(messages, respond, Some(frame), None, Some(active.clone())).await;
            }
        };
        let (reply, initial, trailing) = match self.ask(&frame, &mut respond).await {
            Upstream::Reply { frame, initial, trailing } => (frame, initial, trailing),
            Upstream::Failure(outcome) => {
                return self.give_to_python(messages, respond, Some(frame), Some(outcome), Some(active.clone())).await;
            }
            Upstream::Cancelled => return,
        };
        let started = Instant::now();
        let seen = if reply.is_compressed() { Err(Unusual::Encoding) } else { gate::judge(&model.model, &mut plan, reply.message()) };
        let judging = started.elapsed();
        match seen {
            Ok(seen) => {
                self.count(model, &seen, admitting + judging);
                let outcome = if plan.is_watched { "untouched" } else { "outside" };
                self.send(&mut respond, reply, initial, trailing, outcome);
            }
            Err(why) => {
                self.count_handed(why);
                let outcome = Outcome::Reply {
                    body: reply.into_message(),
                    initial: pairs(&initial),
                    trailing: pairs(&trailing),
                };
                self.give_to_python(messages, respond, Some(frame), Some(outcome), Some(active.clone())).await;
            }
        }
    }

    fn admit<'a>(&self, active: &'a Active, frame: &Frame) -> Result<(&'a ActiveModel, Plan), Unusual> {
        if frame.is_compressed() {
            return Err(Unusual::Encoding);
        }
        let request = gate::read_request(frame.message())?;
        let model = active.models.get(request.model_name).ok_or(Unusual::Model)?;
        let plan = gate::admit(&model.model, &request)?;
        Ok((model, plan))
    }

    fn count_handed(&self, why: Unusual) {
        let at = UNUSUAL.iter().position(|each| *each == why).unwrap_or_default();
        add(&self.worker.shared.counters.handed_over[at], 1);
    }

    fn count(&self, model: &ActiveModel, seen: &gate::Seen, gate_time: Duration) {
        let counters = &model.counters;
        add(&counters.outside_rows, seen.outside);
        add(&counters.untouched_rows, seen.untouched);
        for domain in &seen.domains {
            add(&counters.domains[domain.gate][usize::from(domain.label)], 1);
        }
        add(if seen.untouched == 0 { &counters.outside_requests } else { &counters.untouched_requests }, 1);
        counters.gate_seconds.observe(gate_time);
        counters.call_seconds.observe(self.began.elapsed());
    }

    // -- upstream ---------------------------------------------------------------------------------------------

    async fn ask(&self, frame: &Frame, respond: &mut SendResponse<Bytes>) -> Upstream {
        let left = match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => self.worker.shared.upstream_timeout,
        };
        tokio::select! {
            biased;
            _ = poll_fn(|context| respond.poll_reset(context)) => Upstream::Cancelled,
            asked = tokio::time::timeout(left, self.exchange(frame, left)) => match asked {
                Ok(answered) => answered,
                Err(_) => failure(Code::DeadlineExceeded, "the upstream did not answer in time"),
            },
        }
    }

    async fn exchange(&self, frame: &Frame, left: Duration) -> Upstream {
        let mut sender = match self.worker.line().ready().await {
            Ok(sender) => sender,
            Err(unreachable) => return failure(Code::Unavailable, &unreachable.0),
        };
        let (response, mut stream) = match sender.send_request(self.request(left), false) {
            Ok(sent) => sent,
            Err(error) => return failure(Code::Unavailable, &error.to_string()),
        };
        if let Err(error) = stream.send_data(frame.bytes(), true) {
            return failure(Code::Unavailable, &error.to_string());
        }
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return broken(&error),
        };
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            return failure(Code::Unavailable, &format!("the upstream answered HTTP status {}", head.status));
        }
        if head.headers.contains_key(STATUS) {
            return ended(head.headers, HeaderMap::new());
        }
        let mut messages = Messages::new(body, self.worker.shared.limit_bytes);
        let reply = match messages.next().await {
            Ok(frame) => Some(frame),
            Err(NoMessage::Ended { within: false }) => None,
            Err(NoMessage::Ended { within: true }) => return failure(Code::Internal, "the upstream's answer broke off"),
            Err(NoMessage::TooLarge) => return failure(Code::ResourceExhausted, "the upstream's answer is over the limit"),
            Err(NoMessage::Broken(error)) => return broken(&error),
        };
        let trailing = match messages.trailers().await {
            Ok(trailing) => trailing.unwrap_or_default(),
            Err(error) => return broken(&error),
        };
        match reply {
            Some(frame) if trailing.get(STATUS).is_some_and(|status| status == grpc::OK) => {
                Upstream::Reply { frame, initial: head.headers, trailing }
            }
            _ => ended(trailing, head.headers),
        }
    }

    fn request(&self, left: Duration) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.worker.uri(&self.method);
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        headers.insert("grpc-timeout", grpc::timeout_value(left));
        copy_travelling(&self.headers, headers);
        request
    }

    // -- to the client ----------------------------------------------------------------------------------------

    fn send(
        &self,
        respond: &mut SendResponse<Bytes>,
        reply: Frame,
        initial: HeaderMap,
        trailing: HeaderMap,
        outcome: &'static str,
    ) {
        let id = HeaderValue::try_from(self.call_id.as_str()).unwrap_or(APPLICATION_GRPC);
        let mut response = Response::new(());
        response.headers_mut().insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
        copy_travelling(&initial, response.headers_mut());
        response.headers_mut().insert(CALL_ID, id.clone());
        let mut end = HeaderMap::new();
        end.insert(STATUS, HeaderValue::from_static(grpc::OK));
        copy_travelling(&trailing, &mut end);
        if let Ok(decision) = HeaderValue::try_from(format!("{}/1", self.call_id)) {
            end.insert(DECISION, decision);
        }
        end.insert(OUTCOME, HeaderValue::from_static(outcome));
        end.insert(CALL_ID, id);
        // Where the client is gone nobody is there to tell.
        if let Ok(mut stream) = respond.send_response(response, false)
            && stream.send_data(reply.bytes(), false).is_ok()
        {
            let _ = stream.send_trailers(end);
        }
    }

    async fn end_without_message(&self, messages: Messages, respond: SendResponse<Bytes>, why: NoMessage) {
        if let NoMessage::Broken(_) = why {
            return;
        }
        self.give_ended(messages, respond, Some(why)).await;
    }

    async fn give_ended(&self, messages: Messages, respond: SendResponse<Bytes>, why: Option<NoMessage>) {
        let handed = self.handed(None, None, None);
        Lane2 { messages, respond, stream: None, first: None, ended: why }.run(self, handed).await;
    }

    // -- Python -----------------------------------------------------------------------------------------------

    fn handed(
        &self,
        request: Option<Bytes>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) -> (Arc<Handed>, mpsc::UnboundedReceiver<Command>) {
        let (commands, wanted) = mpsc::unbounded_channel();
        let handed = Handed {
            method: self.method.clone(),
            call_id: self.call_id.clone(),
            peer: self.peer,
            metadata: pairs(&self.headers),
            timeout: self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
            request,
            outcome,
            active,
            age: self.began.elapsed(),
            commands,
        };
        (Arc::new(handed), wanted)
    }

    async fn give_to_python(
        &self,
        messages: Messages,
        respond: SendResponse<Bytes>,
        frame: Option<Frame>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) {
        let encoding = self.headers.get("grpc-encoding").map(|value| value.as_bytes().to_vec());
        let first = match frame {
            Some(frame) => match crate::inflate::message(frame, encoding.as_deref(), self.worker.shared.limit_bytes) {
                Ok(message) => Some(message),
                Err(why) => {
                    let handed = self.handed(None, None, None);
                    return Lane2 { messages, respond, stream: None, first: None, ended: Some(why) }
                        .run(self, handed)
                        .await;
                }
            },
            None => None,
        };
        let handed = self.handed(first.clone(), outcome, active);
        Lane2 { messages, respond, stream: None, first, ended: None }.run(self, handed).await;
    }
}

/// The Python lane of a call: moves messages as Python wants it.
struct Lane2 {
    messages: Messages,
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    /// Read before Python had the call.
    first: Option<Bytes>,
    ended: Option<NoMessage>,
}

impl Lane2 {
    async fn run(mut self, call: &Call, handed: (Arc<Handed>, mpsc::UnboundedReceiver<Command>)) {
        let (handed, mut wanted) = handed;
        let queue = &call.worker.shared.queue;
        let encoding = call.headers.get("grpc-encoding").map(|value| value.as_bytes().to_vec());
        let limit = call.worker.shared.limit_bytes;
        queue.push(Event::Started(handed.clone()));
        let mut reading = false;
        loop {
            tokio::select! {
                command = wanted.recv() => match command {
                    None => return,
                    Some(Command::Read) if self.first.is_some() => {
                        queue.push(Event::Read(handed.clone(), self.first.take(), None));
                    }
                    Some(Command::Read) if self.ended.is_some() => {
                        let why = self.ended.take().map(|why| name(&why));
                        self.ended = Some(NoMessage::Ended { within: false });
                        queue.push(Event::Read(handed.clone(), None, why.flatten()));
                    }
                    Some(Command::Read) => reading = true,
                    Some(Command::Open(initial)) => self.open(&initial),
                    Some(Command::Write(message)) => {
                        self.open(&[]);
                        if self.write(&message).await.is_err() {
                            queue.push(Event::Cancelled(handed.clone()));
                            return;
                        }
                        queue.push(Event::Written(handed.clone()));
                    }
                    Some(Command::End { code, details, trailing }) => return self.end(code, &details, &trailing),
                },
                read = self.messages.next(), if reading => {
                    reading = false;
                    let read = read.and_then(|frame| crate::inflate::message(frame, encoding.as_deref(), limit));
                    match read {
                        Ok(message) => queue.push(Event::Read(handed.clone(), Some(message), None)),
                        Err(NoMessage::Broken(_)) => {
                            queue.push(Event::Cancelled(handed.clone()));
                            return;
                        }
                        Err(why) => {
                            queue.push(Event::Read(handed.clone(), None, name(&why)));
                            self.ended = Some(NoMessage::Ended { within: false });
                        }
                    }
                },
                _ = reset(&mut self.respond, &mut self.stream) => {
                    queue.push(Event::Cancelled(handed.clone()));
                    return;
                }
            }
        }
    }

    fn open(&mut self, initial: &[(String, Vec<u8>)]) {
        if self.stream.is_none() {
            let mut response = Response::new(());
            response.headers_mut().insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
            add_pairs(initial, response.headers_mut());
            self.stream = self.respond.send_response(response, false).ok();
        }
    }

    async fn write(&mut self, message: &[u8]) -> Result<(), h2::Error> {
        let Some(stream) = &mut self.stream else {
            return Err(Reason::CANCEL.into());
        };
        let mut left = Frame::of(message).bytes();
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let room = match poll_fn(|context| stream.poll_capacity(context)).await {
                Some(room) => room?,
                None => return Err(Reason::CANCEL.into()),
            };
            stream.send_data(left.split_to(room.min(left.len())), false)?;
        }
        Ok(())
    }

    fn end(&mut self, code: i32, details: &str, trailing: &Pairs) {
        let mut end = HeaderMap::new();
        end.insert(STATUS, HeaderValue::from(code));
        if !details.is_empty() {
            end.insert(MESSAGE, grpc::encoded_details(details));
        }
        add_pairs(trailing, &mut end);
        match &mut self.stream {
            Some(stream) => {
                let _ = stream.send_trailers(end);
            }
            None => {
                let mut response = Response::new(());
                *response.headers_mut() = end;
                response.headers_mut().insert(http::header::CONTENT_TYPE, APPLICATION_GRPC);
                let _ = self.respond.send_response(response, true);
            }
        }
    }
}

async fn reset(respond: &mut SendResponse<Bytes>, stream: &mut Option<SendStream<Bytes>>) {
    let _ = match stream {
        Some(stream) => poll_fn(|context| stream.poll_reset(context)).await,
        None => poll_fn(|context| respond.poll_reset(context)).await,
    };
}

fn name(why: &NoMessage) -> Option<&'static str> {
    match why {
        NoMessage::Ended { within: false } => None,
        NoMessage::Ended { within: true } => Some("broke off"),
        NoMessage::TooLarge => Some("too large"),
        NoMessage::Broken(_) => Some("broken"),
    }
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

/// A stream that broke, and with what.
fn broken(error: &h2::Error) -> Upstream {
    match error.reason() {
        Some(Reason::CANCEL) if error.is_remote() => failure(Code::Cancelled, "the upstream cancelled the call"),
        Some(Reason::REFUSED_STREAM) | None => failure(Code::Unavailable, &error.to_string()),
        Some(_) if error.is_go_away() || error.is_io() => failure(Code::Unavailable, &error.to_string()),
        Some(_) => failure(Code::Unavailable, &error.to_string()),
    }
}

/// A call that the upstream ended with a status and without an answer.
fn ended(trailing: HeaderMap, initial: HeaderMap) -> Upstream {
    let status = trailing.get(STATUS).and_then(|status| status.to_str().ok()?.parse::<i32>().ok());
    let details = trailing.get(MESSAGE).map(|text| grpc::decoded_details(text.as_bytes()));
    match status {
        None => failure(Code::Unknown, "the upstream ended the call without a status"),
        Some(0) => failure(Code::Internal, "the call ended with status OK and without a message"),
        Some(code) => Upstream::Failure(Outcome::Failure {
            code,
            details: details.unwrap_or_default(),
            answered: true,
            initial: pairs(&initial),
            trailing: pairs(&trailing),
        }),
    }
}
