//! One call: the ordinary one is answered here, all others go to Python.

use crate::active::{Active, ActiveModel};
use crate::budget::Lease;
use crate::counters::add;
use crate::exchange::{self, Upstream};
use crate::grpc::{self, Frame, Messages, NoMessage};
use crate::handover::{Handed, Outcome};
use crate::metadata::pairs;
use crate::python_lane::PythonLane;
use crate::reply::Reply;
use crate::worker::{Lane, Worker};
use bytes::Bytes;
use gate::{Plan, UNUSUAL, Unusual};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Answer a call to its end, whatever that is.
pub async fn answer(worker: Rc<Worker>, peer: u64, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let is_grpc = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if head.method != http::Method::POST || !is_grpc {
        let refusal = Response::builder().status(http::StatusCode::UNSUPPORTED_MEDIA_TYPE).body(());
        let _ = respond.send_response(refusal.unwrap_or_default(), true);
        return;
    }
    let call_id = worker.new_call_id();
    let mut reply = Reply::new(respond, &call_id);
    let Ok(lease) = worker.shared.budget.open() else {
        add(&worker.shared.counters.too_many_calls, 1);
        return reply.refuse(&worker.shared.refusals.too_many_calls);
    };
    let call = Call {
        method: head.uri.path().to_owned(),
        deadline: grpc::timeout(&head.headers).and_then(|left| began.checked_add(left)),
        headers: head.headers,
        call_id,
        peer,
        began,
        worker,
        lease,
    };
    let messages = Messages::new(body, call.worker.shared.limit_bytes);
    match call.worker.shared.lanes.get(&call.method) {
        Some(Lane::Infer) => call.infer(messages, reply).await,
        None => call.give_to_python(messages, reply, None, None, None).await,
    }
}

/// One call as it goes along.
pub struct Call {
    pub method: String,
    pub headers: HeaderMap,
    pub call_id: String,
    pub peer: u64,
    pub began: Instant,
    pub deadline: Option<Instant>,
    pub worker: Rc<Worker>,
    pub lease: Lease,
}

impl Call {
    async fn infer(&self, mut messages: Messages, mut reply: Reply) {
        let frame = match messages.next(&self.lease).await {
            Ok(frame) => frame,
            Err(why) => return self.end_without_message(messages, reply, why).await,
        };
        let active = self.worker.shared.active.load_full();
        let started = Instant::now();
        let admitted = self.admit(&active, &frame);
        let admitting = started.elapsed();
        let (model, mut plan) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                self.count_handed(why);
                return self.give_to_python(messages, reply, Some(frame), None, Some(active.clone())).await;
            }
        };
        let (answer, initial, trailing) = match exchange::ask(self, &frame, &mut reply).await {
            Upstream::Reply { frame, initial, trailing } => (frame, initial, trailing),
            Upstream::Failure(outcome) => {
                return self.give_to_python(messages, reply, Some(frame), Some(outcome), Some(active.clone())).await;
            }
            Upstream::Cancelled => return add(&self.worker.shared.counters.cancelled, 1),
        };
        let started = Instant::now();
        let seen = self.judge(model, &mut plan, &answer);
        let judging = started.elapsed();
        match seen {
            Ok(seen) => {
                self.count(model, &seen, admitting + judging);
                let outcome = if plan.is_watched { "untouched" } else { "outside" };
                reply.answer(answer, &initial, &trailing, outcome).await;
            }
            Err(why) => {
                self.count_handed(why);
                let outcome = Outcome::Reply {
                    body: answer.into_message(),
                    initial: pairs(&initial),
                    trailing: pairs(&trailing),
                };
                self.give_to_python(messages, reply, Some(frame), Some(outcome), Some(active.clone())).await;
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

    fn judge(&self, model: &ActiveModel, plan: &mut Plan, answer: &Frame) -> Result<gate::Seen, Unusual> {
        if answer.is_compressed() {
            return Err(Unusual::Encoding);
        }
        gate::judge(&model.model, plan, answer.message())
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

    async fn end_without_message(&self, messages: Messages, mut reply: Reply, why: NoMessage) {
        let shared = &self.worker.shared;
        match why {
            NoMessage::Broken(_) => add(&shared.counters.cancelled, 1),
            NoMessage::TooLarge => {
                add(&shared.counters.message_too_large, 1);
                reply.refuse(&shared.refusals.message_too_large);
            }
            NoMessage::Exhausted => {
                add(&shared.counters.memory_exhausted, 1);
                reply.refuse(&shared.refusals.memory_exhausted);
            }
            NoMessage::Ended { .. } => {
                PythonLane::new(self, messages, reply, None).ended().run(self.handed(None, None, None)).await;
            }
        }
    }

    /// What Python gets to know of the call, and what it will want.
    fn handed(
        &self,
        request: Option<Bytes>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) -> (Arc<Handed>, mpsc::UnboundedReceiver<crate::handover::Command>) {
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
        reply: Reply,
        frame: Option<Frame>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) {
        let first = match frame.map(|frame| self.inflated(frame)).transpose() {
            Ok(first) => first,
            Err(why) => return Box::pin(self.end_without_message(messages, reply, why)).await,
        };
        let handed = self.handed(first.clone(), outcome, active);
        PythonLane::new(self, messages, reply, first).run(handed).await;
    }

    /// A message that came from the client.
    pub fn inflated(&self, frame: Frame) -> Result<Bytes, NoMessage> {
        if !frame.is_compressed() {
            return Ok(frame.into_message());
        }
        let encoding = self.headers.get("grpc-encoding").map(|value| value.as_bytes());
        let message = crate::inflate::message(frame, encoding, self.worker.shared.limit_bytes)?;
        self.lease.hold(message.len()).map_err(|_| NoMessage::Exhausted)?;
        Ok(message)
    }
}
