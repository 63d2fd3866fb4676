//! One call: the ordinary one is answered here, all others go to Python.

use crate::active::{Active, ActiveModel};
use crate::budget::Lease;
use crate::caught::{caught, stage};
use crate::counters::add;
use crate::exchange::{self, Opened, Upstream};
use crate::grpc::{self, Arrived, Frame, Kept, Messages, NoMessage};
use crate::handover::{Command, Handed, Outcome, Turn};
use crate::metadata::pairs;
use crate::piece::Piece;
use crate::python_lane::PythonLane;
use crate::reply::{Reply, Unsent};
use crate::streamed;
use crate::worker::{CallId, Client, Worker};
use bytes::Bytes;
use gate::{Plan, UNUSUAL, Unusual};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, StatusCode, Uri};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Answer a call to its end, whatever that is. A panic is an answer too: INTERNAL, and other calls go on.
pub async fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<RecvStream>,
    respond: SendResponse<Piece>,
) {
    let mut reply = Reply::new(respond, worker.shared.times.stall);
    if caught(pin!(taken(&worker, client, request, &mut reply))).await.is_err() {
        add(&worker.shared.counters.panics, 1);
        reply.refuse(&worker.shared.refusals.internal);
    }
}

async fn taken(worker: &Rc<Worker>, client: Rc<Client>, request: Request<RecvStream>, reply: &mut Reply) {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let shared = &worker.shared;
    let call_id = worker.new_call_id();
    reply.name(&call_id);
    let Ok(lease) = shared.budget.open() else {
        add(&shared.counters.too_many_calls, 1);
        if shared.infer_methods.iter().any(|method| method == path(&head.uri)) {
            add(&shared.counters.too_many_requests, 1);
        }
        return reply.refuse(&shared.refusals.too_many_calls);
    };
    if head.method != http::Method::POST || !grpc::is_grpc(&head.headers) {
        add(&shared.counters.not_grpc, 1);
        return reply.refuse_http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "gRPC only: POST application/grpc\n",
            &lease,
        );
    }
    let call = Call {
        deadline: grpc::timeout(&head.headers).and_then(|left| began.checked_add(left)),
        uri: head.uri,
        headers: head.headers,
        call_id,
        client,
        began,
        worker: worker.clone(),
        lease,
    };
    stage(&call.headers, "taken");
    let messages = Messages::new(body, shared.limit_bytes, Some(shared.times.receive));
    if shared.infer_methods.iter().any(|method| method == path(&call.uri)) {
        call.infer(messages, reply).await;
    } else {
        call.give_to_python(reply, Some(messages), None, None, None).await;
    }
}

/// A query is part of it: no method has one.
fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |path| path.as_str())
}

/// A request whose message is here.
pub struct Asked {
    pub request: Kept,
    /// The bundles that it started with.
    pub active: Arc<Active>,
    pub admitted: Result<(Arc<ActiveModel>, Plan), Unusual>,
    /// Where it was forwarded while it arrived: but for these last bytes.
    pub opened: Option<(Opened, Bytes)>,
    /// How long checking it took.
    pub admitting: Duration,
}

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One call as it goes along.
pub struct Call {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub call_id: CallId,
    pub client: Rc<Client>,
    pub began: Instant,
    pub deadline: Option<Instant>,
    pub worker: Rc<Worker>,
    pub lease: Arc<Lease>,
}

impl Call {
    async fn infer(&self, mut messages: Messages, reply: &mut Reply) {
        let Asked {
            request,
            active,
            admitted,
            opened,
            admitting,
        } = match self.received(&mut messages).await {
            // A second message is not looked at, as gRPC servers do; nor is it kept.
            Ok(Arrived::Whole(frame)) => {
                drop(messages);
                self.asked(frame)
            }
            Ok(Arrived::Beginning(first)) => match Box::pin(streamed::arrive(self, messages, first, reply)).await {
                Ok(asked) => asked,
                Err(why) => return self.end_without_message(reply, why).await,
            },
            Err(why) => return self.end_without_message(reply, why).await,
        };
        let (model, mut plan) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                self.count_handed(why);
                return self
                    .give_to_python(reply, None, Some(request), None, Some(active))
                    .await;
            }
        };
        let (answer, initial, trailing) = match exchange::ask(self, &request, opened, reply).await {
            Upstream::Reply {
                frame,
                initial,
                trailing,
            } => (frame, initial, trailing),
            Upstream::Failure(outcome) => {
                return self
                    .give_to_python(reply, None, Some(request), Some(outcome), Some(active))
                    .await;
            }
            Upstream::Exhausted => return self.end_without_message(reply, NoMessage::Exhausted).await,
            Upstream::Cancelled => return add(&model.counters.cancelled_requests, 1),
        };
        let started = Instant::now();
        let seen = self.judge(&model, &mut plan, &answer);
        let judging = started.elapsed();
        match seen {
            Ok(seen) => {
                stage(&self.headers, "answer");
                let outcome = if plan.is_watched { "untouched" } else { "outside" };
                match reply.answer(answer, &self.lease, &initial, &trailing, outcome).await {
                    Ok(()) => self.count(&model, &seen, admitting + judging),
                    Err(Unsent::Gone) => add(&model.counters.cancelled_requests, 1),
                    Err(Unsent::Stalled) => self.count_unsent(Unsent::Stalled),
                }
            }
            Err(why) => {
                self.count_handed(why);
                let outcome = Outcome::Reply {
                    body: answer.into_message(),
                    initial: pairs(&initial),
                    trailing: pairs(&trailing),
                };
                self.give_to_python(reply, None, Some(request), Some(outcome), Some(active))
                    .await;
            }
        }
    }

    /// A request that is here as a whole.
    pub fn asked(&self, frame: Frame) -> Asked {
        let active = self.worker.shared.active.load_full();
        let started = Instant::now();
        let admitted = self.admit(&active, &frame);
        Asked {
            request: Kept::Whole(frame),
            active,
            admitted,
            opened: None,
            admitting: started.elapsed(),
        }
    }

    /// The request's message: usually it is there already, and then no timer is set.
    async fn received(&self, messages: &mut Messages) -> Result<Arrived, NoMessage> {
        let mut next = pin!(messages.begin(&self.lease));
        match poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
            Poll::Ready(message) => message,
            Poll::Pending => {
                let receiving = tokio::time::timeout(self.worker.shared.times.receive, next);
                receiving.await.unwrap_or(Err(NoMessage::TooSlow))
            }
        }
    }

    fn admit(&self, active: &Active, frame: &Frame) -> Result<(Arc<ActiveModel>, Plan), Unusual> {
        stage(&self.headers, "admit");
        if frame.is_compressed() {
            return Err(Unusual::Encoding);
        }
        if !self.has_text_metadata() {
            return Err(Unusual::Field);
        }
        let request = gate::read_request(frame.message())?;
        let model = active.models.get(request.model_name).ok_or(Unusual::Model)?;
        let plan = gate::admit(&model.model, &request)?;
        Ok((model.clone(), plan))
    }

    /// gRPC allows no other.
    pub fn has_text_metadata(&self) -> bool {
        self.headers.values().all(|value| value.to_str().is_ok())
    }

    fn judge(&self, model: &ActiveModel, plan: &mut Plan, answer: &Frame) -> Result<gate::Seen, Unusual> {
        stage(&self.headers, "judge");
        gate::judge(&model.model, plan, answer.message())
    }

    fn count_handed(&self, why: Unusual) {
        let counters = &self.worker.shared.counters.handed_over;
        if let Some(counter) = UNUSUAL
            .iter()
            .position(|each| *each == why)
            .and_then(|at| counters.get(at))
        {
            add(counter, 1);
        }
    }

    fn count(&self, model: &ActiveModel, seen: &gate::Seen, gate_time: Duration) {
        let counters = &model.counters;
        add(&counters.outside_rows, seen.outside);
        add(&counters.untouched_rows, seen.untouched);
        for domain in &seen.domains {
            let labels = counters.domains.get(domain.gate);
            if let Some(counter) = labels.and_then(|labels| labels.get(usize::from(domain.label))) {
                add(counter, 1);
            }
        }
        add(
            if seen.untouched == 0 {
                &counters.outside_requests
            } else {
                &counters.untouched_requests
            },
            1,
        );
        counters.gate_seconds.observe(gate_time);
        counters.call_seconds.observe(self.began.elapsed());
    }

    pub fn count_unsent(&self, unsent: Unsent) {
        let counters = &self.worker.shared.counters;
        match unsent {
            Unsent::Gone => add(&counters.cancelled, 1),
            Unsent::Stalled => add(&counters.stalled, 1),
        }
    }

    /// In a box, as all that is not the ordinary way: that is to be small.
    fn end_without_message<'a>(&'a self, reply: &'a mut Reply, why: NoMessage) -> Boxed<'a> {
        Box::pin(self.ended(reply, why))
    }

    async fn ended(&self, reply: &mut Reply, why: NoMessage) {
        let shared = &self.worker.shared;
        let (counter, refusal) = match why {
            NoMessage::Broken(_) => return self.count_unsent(Unsent::Gone),
            NoMessage::Ended { .. } => {
                let (handed, wanted) = self.handed(None, None, None);
                return PythonLane::new(self, reply, None, None).run(handed, wanted).await;
            }
            NoMessage::TooLarge => (&shared.counters.message_too_large, &shared.refusals.message_too_large),
            NoMessage::Exhausted => (&shared.counters.memory_exhausted, &shared.refusals.memory_exhausted),
            NoMessage::TooSlow => (&shared.counters.slow_request, &shared.refusals.slow_request),
        };
        add(counter, 1);
        reply.refuse(refusal);
    }

    /// What Python gets to know of the call, and what it will want.
    fn handed(
        &self,
        request: Option<Bytes>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) -> (Arc<Handed>, mpsc::UnboundedReceiver<Command>) {
        let (commands, wanted) = mpsc::unbounded_channel();
        let handed = Handed {
            method: path(&self.uri).to_owned(),
            call_id: String::from_utf8_lossy(&self.call_id).into_owned(),
            peer: self.client.peer,
            metadata: pairs(&self.headers),
            timeout: self
                .deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now())),
            request,
            outcome,
            active,
            age: self.began.elapsed(),
            commands,
            turn: Turn::default(),
        };
        (Arc::new(handed), wanted)
    }

    fn give_to_python<'a>(
        &'a self,
        reply: &'a mut Reply,
        messages: Option<Messages>,
        request: Option<Kept>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) -> Boxed<'a> {
        Box::pin(self.given_to_python(reply, messages, request, outcome, active))
    }

    async fn given_to_python(
        &self,
        reply: &mut Reply,
        messages: Option<Messages>,
        request: Option<Kept>,
        outcome: Option<Outcome>,
        active: Option<Arc<Active>>,
    ) {
        let first = match request {
            None => None,
            Some(request) => match self.inflated(request.frame()).await {
                Ok(message) => Some(message),
                Err(why) => return self.end_without_message(reply, why).await,
            },
        };
        let (handed, wanted) = self.handed(first.clone(), outcome, active);
        PythonLane::new(self, reply, messages, first).run(handed, wanted).await;
    }

    /// A message that came from the client.
    ///
    /// # Errors
    /// It is too large, or is not what it says.
    pub async fn inflated(&self, frame: Frame) -> Result<Bytes, NoMessage> {
        let encoding = self.headers.get("grpc-encoding").map(|value| value.as_bytes());
        crate::inflate::message(frame, encoding, self.worker.shared.limit_bytes, &self.lease).await
    }
}
