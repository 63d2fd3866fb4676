//! The transport from its outside: an HTTP/2 client and an HTTP/2 upstream, both in memory or on loopback, and a test
//! that stands for Python.

use crate::active::{Active, ActiveModel};
use crate::budget::Budget;
use crate::counters::ModelCounters;
use crate::dial::Target;
use crate::grpc::Frame;
use crate::handover::{Command, Event, Handed, Limits, Outcome, Queue};
use crate::refused::Refused;
use crate::worker::{Refusal, Refusals, Shared, Times, Worker};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use gate::{
    Coverage, CoverageArrays, Datatype, GateArrays, Gates, LiteralArrays, LiteralTable, Mode, Model, ModelParts, Tensor,
};
use h2::Reason;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

mod streamed;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// What the upstream does with a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Answer,
    Refuse,
    /// RST_STREAM with this reason.
    Reset(Reason),
    /// Nothing, ever.
    Nothing,
    /// Read, and nothing else.
    Read,
    /// The connection is dropped.
    HangUp,
    /// HTTP status.
    Http(u16),
    /// Two messages.
    Twice,
    /// Status OK, and no message.
    Empty,
    Status(&'static str),
}

/// An upstream that does one thing with each request, in turn, and the last for ever.
struct Upstream {
    asked: Rc<Cell<usize>>,
    resets: Rc<Cell<usize>>,
    bodies: Bodies,
    connections: Rc<Cell<usize>>,
    address: String,
}

/// What came of each body that was read, and how it ended: with why it was reset, or properly.
type Bodies = Rc<RefCell<Vec<(Vec<u8>, Option<Option<Reason>>)>>>;

impl Upstream {
    async fn new(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (asked, resets) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let bodies = Bodies::default();
        let connections = Rc::new(Cell::new(0));
        let connected = connections.clone();
        let (counted, given_up, read) = (asked.clone(), resets.clone(), bodies.clone());
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connected.set(connected.get() + 1);
                spawn_local(serve(stream, script, counted.clone(), given_up.clone(), read.clone()));
            }
        });
        Upstream {
            asked,
            resets,
            bodies,
            connections,
            address,
        }
    }
}

async fn serve(
    stream: tokio::net::TcpStream,
    script: &'static [Does],
    asked: Rc<Cell<usize>>,
    resets: Rc<Cell<usize>>,
    bodies: Bodies,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let does = script[asked.get().min(script.len() - 1)];
        asked.set(asked.get() + 1);
        let (resets, bodies) = (resets.clone(), bodies.clone());
        match does {
            Does::HangUp => return,
            Does::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
            Does::Reset(reason) => respond.send_reset(reason),
            Does::Nothing => drop(spawn_local(async move {
                let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
                resets.set(resets.get() + 1);
            })),
            other => drop(spawn_local(async move {
                if read(request.into_body(), &bodies).await.is_err() {
                    return;
                }
                if other == Does::Read {
                    std::future::pending::<()>().await;
                }
                let mut head = Response::builder()
                    .header("content-type", "application/grpc")
                    .header("from", "upstream");
                if let Does::Http(status) = other {
                    head = head.status(status);
                }
                let mut stream = respond
                    .send_response(head.body(()).expect("a head"), false)
                    .expect("sent");
                let copies = match other {
                    Does::Twice => 2,
                    Does::Answer => 1,
                    _ => 0,
                };
                for _ in 0..copies {
                    stream.send_data(Frame::of(&response()).bytes(), false).expect("sent");
                }
                let mut end = HeaderMap::new();
                let status = if let Does::Status(status) = other { status } else { "0" };
                end.insert("grpc-status", status.parse().expect("a value"));
                end.insert("grpc-message", "from%20upstream".parse().expect("a value"));
                let _ = stream.send_trailers(end);
            })),
        }
    }
}

async fn read(mut body: h2::RecvStream, bodies: &Bodies) -> Result<(), h2::Error> {
    let at = bodies.borrow().len();
    bodies.borrow_mut().push((vec![], None));
    while let Some(piece) = body.data().await {
        match piece {
            Ok(piece) => {
                let _ = body.flow_control().release_capacity(piece.len());
                bodies.borrow_mut()[at].0.extend_from_slice(&piece);
            }
            Err(error) => {
                bodies.borrow_mut()[at].1 = Some(error.reason());
                return Err(error);
            }
        }
    }
    bodies.borrow_mut()[at].1 = Some(None);
    Ok(())
}

/// ModelInfer of model `m` with one row of input `x`: FP32, one number.
fn request() -> Bytes {
    let tensor = field(5, &[field(1, b"x"), field(2, b"FP32"), field(3, &[1, 1])].concat());
    [field(1, b"m"), tensor, field(7, &1f32.to_le_bytes())].concat().into()
}

fn response() -> Bytes {
    let tensor = field(6 - 1, &[field(1, b"y"), field(2, b"FP32"), field(3, &[1, 1])].concat());
    [field(1, b"m"), tensor, field(6, &1f32.to_le_bytes())].concat().into()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut length, mut left) = (vec![], bytes.len());
    while left > 0x7f {
        length.push(left as u8 | 0x80);
        left >>= 7;
    }
    length.push(left as u8);
    [&[number << 3 | 2], &length[..], bytes].concat()
}

/// One gate, far from where requests are: each row is outside.
fn model(inputs: usize) -> Model {
    let none = LiteralArrays {
        offsets: vec![0],
        ..LiteralArrays::default()
    };
    let always = LiteralArrays {
        offsets: vec![0, 1],
        columns: vec![0],
        coefficients: vec![1.0],
        strict: vec![false],
        relative: vec![0.0],
        absolute: vec![0.0],
    };
    let gates = Gates::new(GateArrays {
        inputs,
        lower: vec![-9.0; inputs],
        upper: vec![-8.0; inputs],
        gate_regions: vec![0, 1],
        cut_regions: vec![],
        region_cuts: vec![0],
        cuts: LiteralTable::new(none, inputs + 2).expect("fits"),
        gate_clauses: vec![0, 1],
        clause_literals: vec![0, 1],
        literals: LiteralTable::new(always, inputs + 2).expect("fits"),
    })
    .expect("fits");
    let leaf = CoverageArrays {
        root: vec![0],
        feature: vec![-1],
        threshold: vec![0.0],
        left: vec![0],
        right: vec![0],
        label: vec![1],
    };
    let coverage = Coverage::new(inputs, leaf).expect("fits");
    let tensor = |name: &str, size: usize| {
        Tensor::new(
            name.to_owned(),
            Datatype::from_name("FP32").expect("known"),
            vec![size as u64],
        )
        .expect("a tensor")
    };
    Model::new(ModelParts {
        inputs: vec![tensor("x", inputs)],
        outputs: vec![tensor("y", 1)],
        batched: true,
        gates,
        coverage,
        modes: vec![Mode::Enforce],
        limit_rows: 8,
        refuses_outside: false,
        versions: vec![],
    })
    .expect("a model")
}

fn refusal(reason: &'static str) -> Refusal {
    Refusal {
        code: 8,
        details: format!("{reason} in words"),
        reason,
        refused: Arc::new(Refused::new(10)),
    }
}

struct Setting {
    limit_calls: usize,
    limit_held_bytes: usize,
    times: Times,
    handover: Limits,
}

impl Default for Setting {
    fn default() -> Self {
        let times = Times {
            upstream: Duration::from_secs(5),
            receive: Duration::from_millis(300),
            stall: Duration::from_millis(300),
            keepalive: Duration::from_millis(200),
            keepalive_answer: Duration::from_millis(200),
        };
        let handover = Limits {
            waiting: 8,
            waiting_by_peer: 4,
            judging: 2,
            asking: 2,
        };
        Setting {
            limit_calls: 10,
            limit_held_bytes: 1 << 20,
            times,
            handover,
        }
    }
}

/// A worker, and one client's connection to it.
struct Sidecar {
    worker: Rc<Worker>,
    awakened: RefCell<std::os::unix::net::UnixStream>,
    requests: SendRequest<Bytes>,
}

impl Sidecar {
    async fn new(upstream: &str, setting: Setting) -> Self {
        Sidecar::beside(upstream, setting, None).await
    }

    /// With another worker.
    async fn beside(upstream: &str, setting: Setting, other: Option<crate::worker::Other>) -> Self {
        let (queue, awakened) = Queue::new(setting.handover).expect("sockets");
        let models = [("m", 1), ("wide", streamed::INPUTS), ("long", streamed::LONG)].map(|(name, inputs)| {
            let counters = Arc::new(ModelCounters::new(1, &[1.0], &[1.0]));
            let model = model(inputs);
            (name.to_owned(), Arc::new(ActiveModel { model, counters }))
        });
        let active = Active {
            models: HashMap::from(models),
            python: None,
        };
        let shared = Arc::new(Shared {
            active: ArcSwap::from_pointee(active),
            infer_methods: vec![INFER.to_owned()],
            queue,
            counters: Default::default(),
            budget: Budget::new(setting.limit_calls, setting.limit_held_bytes),
            refusals: Refusals {
                too_many_calls: refusal("too_many_calls"),
                memory_exhausted: refusal("memory_exhausted"),
                message_too_large: refusal("message_too_large"),
                slow_request: refusal("slow_request"),
                python_lane_full: refusal("python_lane_full"),
                internal: Refusal {
                    code: 13,
                    ..refusal("internal")
                },
            },
            refused: Arc::new(Refused::new(10)),
            limit_bytes: 1 << 19,
            limit_streams: 100,
            limit_connections: 3,
            listen_tls: ArcSwapOption::empty(),
            upstream_tls: ArcSwapOption::empty(),
            upstream: Target::parse(upstream),
            upstream_connections: 1,
            times: setting.times,
            draining: watch::channel(false).0,
        });
        let worker = Worker::new(shared, Arc::default(), other);
        let requests = connect(&worker, 1).await;
        Sidecar {
            worker,
            awakened: RefCell::new(awakened),
            requests,
        }
    }

    fn shared(&self) -> &Shared {
        &self.worker.shared
    }

    async fn infer(&self, headers: &[(&'static str, &str)]) -> Got {
        ask(self.requests.clone(), INFER, headers, Some(&request())).await
    }

    /// What Python is given next.
    async fn handed(&self) -> Vec<Event> {
        use std::io::Read;
        loop {
            if self.awakened.borrow_mut().read(&mut [0; 64]).is_ok() {
                return self.shared().queue.take().into();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn started(&self) -> Arc<Handed> {
        for event in self.handed().await {
            if let Event::Started(handed) = event {
                return handed;
            }
        }
        panic!("no call was handed over");
    }

    fn counted(&self, counter: impl Fn(&crate::counters::Counters) -> &AtomicU64) -> u64 {
        counter(&self.shared().counters).load(Relaxed)
    }

    /// Nothing is held once all calls are over and all answers are sent.
    async fn holds_nothing(&self) {
        for _ in 0..100 {
            let budget = &self.shared().budget;
            if (budget.calls.load(Relaxed), budget.held_bytes.load(Relaxed)) == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("held for ever");
    }
}

async fn connect(worker: &Rc<Worker>, peer: u64) -> SendRequest<Bytes> {
    let (near, far) = tokio::io::duplex(64 << 10);
    spawn_local(worker.clone().welcome(peer, far));
    let (requests, connection) = h2::client::handshake(near).await.expect("a handshake");
    spawn_local(connection);
    requests
}

/// What a client gets.
#[derive(Debug)]
struct Got {
    body: Vec<u8>,
    head: HeaderMap,
    end: HeaderMap,
    http: u16,
}

impl Got {
    fn status(&self) -> &str {
        let of = if self.end.is_empty() { &self.head } else { &self.end };
        of.get("grpc-status")
            .map_or("none", |status| status.to_str().expect("text"))
    }

    fn reason(&self) -> &str {
        let of = if self.end.is_empty() { &self.head } else { &self.end };
        of.get("gate-reason")
            .map_or("none", |reason| reason.to_str().expect("text"))
    }
}

fn head(method: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://sidecar{method}"));
    if !headers.iter().any(|header| header.0 == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

async fn ask(
    requests: SendRequest<Bytes>,
    method: &str,
    headers: &[(&'static str, &str)],
    message: Option<&[u8]>,
) -> Got {
    let mut requests = requests.ready().await.expect("connected");
    let (response, mut stream) = requests
        .send_request(head(method, headers), message.is_none())
        .expect("sent");
    if let Some(message) = message {
        stream.send_data(Frame::of(message).bytes(), true).expect("sent");
    }
    got(response).await
}

async fn got(response: h2::client::ResponseFuture) -> Got {
    let (head, mut body) = response.await.expect("an answer").into_parts();
    let mut got = Got {
        body: vec![],
        head: head.headers,
        end: HeaderMap::new(),
        http: head.status.as_u16(),
    };
    while let Some(piece) = body.data().await {
        let piece = piece.expect("a piece");
        let _ = body.flow_control().release_capacity(piece.len());
        got.body.extend_from_slice(&piece);
    }
    got.end = body.trailers().await.expect("an end").unwrap_or_default();
    got
}

/// Within ten seconds, on one thread as a worker is.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let timed = async {
        tokio::time::timeout(Duration::from_secs(10), test)
            .await
            .expect("in time")
    };
    LocalSet::new().block_on(&runtime, timed);
}

#[test]
fn an_ordinary_request_is_answered_without_python() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        let got = sidecar.infer(&[]).await;
        assert_eq!(
            (got.status(), &got.body[..]),
            ("0", &Frame::of(&response()).bytes()[..])
        );
        let id = got.head["gate-call-id"].to_str().expect("text").to_owned();
        assert_eq!(id.len(), 32);
        assert_eq!([&got.end["gate-call-id"], &got.head["from"]], [&id[..], "upstream"]);
        assert_eq!(
            [&got.end["gate-decision"], &got.end["gate-outcome"]],
            [&format!("{id}/1")[..], "outside"]
        );
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_panic_at_any_stage_ends_its_call_only() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        for (count, at) in ["taken", "admit", "ask", "judge", "answer"].into_iter().enumerate() {
            let injected = [("panic-at", at)];
            let (broken, whole) = tokio::join!(sidecar.infer(&injected), sidecar.infer(&[]));
            assert_eq!(
                (broken.status(), broken.reason(), broken.body.len()),
                ("13", "internal", 0),
                "{at}"
            );
            assert_eq!(
                (whole.status(), sidecar.counted(|all| &all.panics)),
                ("0", count as u64 + 1)
            );
        }
        let broken = ask(
            sidecar.requests.clone(),
            "/other/Method",
            &[("panic-at", "python")],
            None,
        )
        .await;
        assert_eq!((broken.status(), broken.reason()), ("13", "internal"));
        let told = sidecar.handed().await;
        assert!(matches!(told[..], [Event::Started(_), Event::Cancelled(_)]));
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_request_that_was_not_looked_at_is_asked_once_more() {
    run(async {
        let upstream = Upstream::new(&[Does::Refuse, Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        let got = sidecar.infer(&[]).await;
        assert_eq!(
            (got.status(), upstream.asked.get(), sidecar.counted(|all| &all.retried)),
            ("0", 2, 1)
        );
    });
}

/// The failure that Python is given, with the given upstream.
fn failure(script: &'static [Does]) -> (i32, bool, usize) {
    let seen = Cell::new((0, false, 0));
    run(async {
        let upstream = Upstream::new(script).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        let requests = sidecar.requests.clone();
        let asking = spawn_local(async move { ask(requests, INFER, &[], Some(&request())).await });
        let handed = sidecar.started().await;
        let Some(Outcome::Failure { code, answered, .. }) = &handed.outcome else {
            panic!("no failure")
        };
        seen.set((*code, *answered, upstream.asked.get()));
        let end = Command::End {
            code: 14,
            details: "no upstream".to_owned(),
            trailing: vec![],
        };
        handed.commands.send(end).expect("the call waits");
        assert_eq!(asking.await.expect("an answer").status(), "14");
        sidecar.holds_nothing().await;
        assert_eq!(sidecar.shared().queue.lengths(), (0, 0));
    });
    seen.get()
}

#[test]
fn an_upstream_that_fails_is_asked_once_unless_it_cannot_have_looked() {
    for (script, expected) in [
        (&[Does::Refuse] as &'static [Does], (14, false, 2)),
        (&[Does::HangUp], (14, false, 1)),
        (&[Does::Reset(Reason::INTERNAL_ERROR)], (13, false, 1)),
        (&[Does::Reset(Reason::CANCEL)], (1, false, 1)),
        (&[Does::Reset(Reason::ENHANCE_YOUR_CALM)], (8, false, 1)),
        (&[Does::Http(503)], (14, false, 1)),
        (&[Does::Http(404)], (12, false, 1)),
        (&[Does::Twice], (13, false, 1)),
        (&[Does::Empty], (0, false, 1)), // what becomes of it is said in Python
        (&[Does::Status("5")], (5, true, 1)),
        (&[Does::Status("many")], (2, false, 1)),
    ] {
        assert_eq!(failure(script), expected, "{script:?}");
    }
}

#[test]
fn no_upstream_is_a_failure_at_once_and_waits_before_the_next_try() {
    run(async {
        let sidecar = Sidecar::new("127.0.0.1:1", Setting::default()).await;
        for _ in 0..2 {
            let requests = sidecar.requests.clone();
            spawn_local(async move { ask(requests, INFER, &[], Some(&request())).await });
            let handed = sidecar.started().await;
            assert!(matches!(&handed.outcome, Some(Outcome::Failure { code: 14, details, .. }) if !details.is_empty()));
            let _ = handed.commands.send(Command::End {
                code: 14,
                details: String::new(),
                trailing: vec![],
            });
        }
    });
}

#[test]
fn a_deadline_that_has_passed_is_not_forwarded_and_one_that_passes_resets_the_upstream() {
    run(async {
        let upstream = Upstream::new(&[Does::Nothing]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        for (timeout, asked) in [("0n", 0), ("50m", 1)] {
            let requests = sidecar.requests.clone();
            spawn_local(async move { ask(requests, INFER, &[("grpc-timeout", timeout)], Some(&request())).await });
            let handed = sidecar.started().await;
            assert!(matches!(
                &handed.outcome,
                Some(Outcome::Failure {
                    code: 4,
                    answered: false,
                    ..
                })
            ));
            assert_eq!(upstream.asked.get(), asked);
            let _ = handed.commands.send(Command::End {
                code: 4,
                details: String::new(),
                trailing: vec![],
            });
        }
        while upstream.resets.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_client_that_gives_up_frees_the_upstream() {
    run(async {
        let upstream = Upstream::new(&[Does::Nothing]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        let requests = sidecar.requests.clone();
        let asking = spawn_local(async move { ask(requests, INFER, &[], Some(&request())).await });
        while upstream.asked.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asking.abort();
        while upstream.resets.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sidecar.holds_nothing().await;
        let active = sidecar.shared().active.load_full();
        let counters = &active.models.get("m").expect("the model").counters;
        assert_eq!(counters.cancelled_requests.load(Relaxed), 1);
        assert_eq!(sidecar.counted(|all| &all.cancelled), 0, "counted once");
    });
}

#[test]
fn a_request_that_does_not_come_to_its_end_is_refused_and_nothing_is_forwarded() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        for begun in [&b""[..], b"\0\0\0\0\x09par"] {
            let mut requests = sidecar.requests.clone().ready().await.expect("connected");
            let (response, mut stream) = requests.send_request(head(INFER, &[]), false).expect("sent");
            stream.send_data(Bytes::from_static(begun), false).expect("sent");
            let got = got(response).await;
            assert_eq!((got.status(), got.reason()), ("8", "slow_request"));
        }
        assert_eq!((upstream.asked.get(), sidecar.counted(|all| &all.slow_request)), (0, 2));
        sidecar.holds_nothing().await;
    });
}

#[test]
fn calls_bytes_and_connections_have_limits() {
    run(async {
        let upstream = Upstream::new(&[Does::Nothing]).await;
        let setting = Setting {
            limit_calls: 1,
            ..Setting::default()
        };
        let sidecar = Sidecar::new(&upstream.address, setting).await;
        let requests = sidecar.requests.clone();
        spawn_local(async move { ask(requests, INFER, &[], Some(&request())).await });
        while upstream.asked.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(sidecar.infer(&[]).await.reason(), "too_many_calls");
        for peer in 2..=3 {
            let other = connect(&sidecar.worker, peer).await;
            assert_eq!(
                ask(other, INFER, &[], Some(&request())).await.reason(),
                "too_many_calls"
            );
        }

        let setting = Setting {
            limit_held_bytes: 8,
            ..Setting::default()
        };
        let small = Sidecar::new(&upstream.address, setting).await;
        assert_eq!(small.infer(&[]).await.reason(), "memory_exhausted");
        small.holds_nothing().await;
    });
}

#[test]
fn one_client_fills_only_its_own_places_before_python() {
    run(async {
        // Each call is one that Python must judge: the upstream fails.
        let upstream = Upstream::new(&[Does::Status("5")]).await;
        let setting = Setting {
            limit_calls: 100,
            ..Setting::default()
        };
        let sidecar = Sidecar::new(&upstream.address, setting).await;
        let calls: Vec<_> = (0..7)
            .map(|_| {
                let requests = sidecar.requests.clone();
                spawn_local(async move { ask(requests, INFER, &[], Some(&request())).await })
            })
            .collect();
        while sidecar.counted(|all| &all.python_lane_full) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let neighbour = connect(&sidecar.worker, 2).await;
        spawn_local(async move { ask(neighbour, INFER, &[], Some(&request())).await });
        while sidecar.shared().queue.lengths().0 < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let peers: Vec<_> = sidecar
            .handed()
            .await
            .iter()
            .map(|event| if let Event::Started(h) = event { h.peer } else { 0 })
            .collect();
        assert_eq!(peers, [1, 2]);
        assert_eq!(sidecar.shared().queue.lengths(), (3, 2));
        calls.iter().for_each(|call| call.abort());
        while sidecar.shared().queue.lengths().0 > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn what_is_no_grpc_gets_a_line_to_read() {
    run(async {
        let sidecar = Sidecar::new("127.0.0.1:1", Setting::default()).await;
        for kind in ["application/json", "application/grpc-web", "application/grpcfoo"] {
            let got = ask(sidecar.requests.clone(), INFER, &[("content-type", kind)], None).await;
            assert_eq!(
                (got.http, got.body.is_empty(), got.status()),
                (415, false, "none"),
                "{kind}"
            );
        }
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_client_without_room_loses_its_stream_and_what_it_holds() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        let (near, far) = tokio::io::duplex(64 << 10);
        spawn_local(sidecar.worker.clone().welcome(2, far));
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake(near)
            .await
            .expect("a handshake");
        spawn_local(connection);
        let mut requests: SendRequest<Bytes> = requests.ready().await.expect("connected");
        let (response, mut stream) = requests.send_request(head(INFER, &[]), false).expect("sent");
        stream.send_data(Frame::of(&request()).bytes(), true).expect("sent");
        let mut body = response.await.expect("a head").into_body();
        let began = Instant::now();
        let ended = body.data().await;
        assert!(matches!(ended, Some(Err(error)) if error.reason() == Some(Reason::CANCEL)));
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert_eq!(sidecar.counted(|all| &all.stalled), 1);
        sidecar.holds_nothing().await;
        assert_eq!(sidecar.infer(&[]).await.status(), "0");
    });
}

#[test]
fn a_drain_lets_calls_end_and_takes_no_new_ones() {
    run(async {
        let upstream = Upstream::new(&[Does::Status("5"), Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, Setting::default()).await;
        let requests = sidecar.requests.clone();
        let asking = spawn_local(async move { ask(requests, INFER, &[], Some(&request())).await });
        let handed = sidecar.started().await;
        sidecar.shared().draining.send(true).expect("heard");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = handed.commands.send(Command::End {
            code: 5,
            details: String::new(),
            trailing: vec![],
        });
        assert_eq!(asking.await.expect("an answer").status(), "5");
        let refused = async {
            sidecar
                .requests
                .clone()
                .ready()
                .await?
                .send_request(head(INFER, &[]), true)?
                .0
                .await
        };
        assert!(refused.await.is_err());
    });
}
