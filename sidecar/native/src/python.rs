//! What Python sees: a transport, and the calls that it is given.

use crate::active::{Active, ActiveModel};
use crate::budget::Budget;
use crate::caught::caught;
use crate::counters::ModelCounters;
use crate::dial::Target;
use crate::flood::Flood;
use crate::grpc::Code;
use crate::handover::{Command, Event, Handed, Limits, Outcome, Queue};
use crate::metadata::Pairs;
use crate::refused::Refused;
use crate::worker::{Other, Refusal, Refusals, Shared, Times, Work, Worker};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use gate::{
    Coverage, CoverageArrays, Datatype, GateArrays, Gates, LiteralArrays, LiteralTable, Mode, Model, ModelParts,
    TableError, Tensor, UNUSUAL, Unusual,
};
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Refusals that wait for their audit records; some hundred KiB.
const REFUSED_WAITING: usize = 1000;

/// Of the arrays that `activate` takes; Python says the same.
pub const TABLE_FORMAT: &str = "1";

/// Takes connections and answers calls, in threads of its own.
#[pyclass(frozen)]
pub struct Transport {
    shared: Arc<Shared>,
    awakened: UnixStream,
    port: u16,
    workers: usize,
    listening: Mutex<Option<Listening>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    counters: Mutex<HashMap<String, Arc<ModelCounters>>>,
    call_bounds: Vec<f64>,
    gate_bounds: Vec<f64>,
}

#[pymethods]
impl Transport {
    /// Bind; nothing is accepted before `start`. `listen` is `host:port` or `unix:/path`.
    #[new]
    #[pyo3(signature = (*, listen, upstream, workers, upstream_connections, upstream_timeout_seconds, limit_bytes, limit_held_bytes, limit_calls, refusals, infer_methods, call_bounds, gate_bounds, limit_connections=20_000, limit_streams=None, limit_waiting=1000, limit_waiting_by_peer=250, python_judging=16, python_asking=256, receive_timeout_seconds=30.0, stall_timeout_seconds=30.0, keepalive_seconds=30.0, keepalive_timeout_seconds=10.0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        listen: &str,
        upstream: &str,
        workers: usize,
        upstream_connections: usize,
        upstream_timeout_seconds: f64,
        limit_bytes: usize,
        limit_held_bytes: usize,
        limit_calls: usize,
        refusals: HashMap<String, (i32, String)>,
        infer_methods: Vec<String>,
        call_bounds: Vec<f64>,
        gate_bounds: Vec<f64>,
        limit_connections: u64,
        limit_streams: Option<u32>,
        limit_waiting: usize,
        limit_waiting_by_peer: usize,
        python_judging: usize,
        python_asking: usize,
        receive_timeout_seconds: f64,
        stall_timeout_seconds: f64,
        keepalive_seconds: f64,
        keepalive_timeout_seconds: f64,
    ) -> PyResult<Self> {
        if workers == 0 || upstream_connections == 0 || python_judging == 0 || python_asking == 0 {
            return Err(PyValueError::new_err(
                "workers, upstream_connections, python_judging and python_asking must each be at least 1",
            ));
        }
        let limits = Limits {
            waiting: limit_waiting,
            waiting_by_peer: limit_waiting_by_peer,
            judging: python_judging,
            asking: python_asking,
        };
        let (queue, awakened) = Queue::new(limits)?;
        let times = Times {
            upstream: seconds("upstream_timeout_seconds", upstream_timeout_seconds)?,
            receive: seconds("receive_timeout_seconds", receive_timeout_seconds)?,
            stall: seconds("stall_timeout_seconds", stall_timeout_seconds)?,
            keepalive: seconds("keepalive_seconds", keepalive_seconds)?,
            keepalive_answer: seconds("keepalive_timeout_seconds", keepalive_timeout_seconds)?,
        };
        let half = u32::try_from(limit_calls / 2).unwrap_or(u32::MAX).max(1);
        let refused = Arc::new(Refused::new(REFUSED_WAITING));
        let shared = Arc::new(Shared {
            active: ArcSwap::from_pointee(Active {
                models: HashMap::new(),
                python: None,
            }),
            infer_methods,
            queue,
            counters: Default::default(),
            budget: Budget::new(limit_calls, limit_held_bytes),
            refusals: refusals_of(&refusals, &refused)?,
            refused,
            limit_bytes,
            // By default no connection alone can take the room of all calls.
            limit_streams: limit_streams.unwrap_or(half),
            limit_connections,
            listen_tls: ArcSwapOption::empty(),
            upstream_tls: ArcSwapOption::empty(),
            upstream: Target::parse(upstream),
            upstream_connections,
            times,
            draining: watch::channel(false).0,
        });
        let (stop, _) = watch::channel(false);
        let (listening, port) = bind(listen)?;
        Ok(Transport {
            shared,
            awakened,
            port,
            workers,
            listening: Mutex::new(Some(listening)),
            threads: Mutex::default(),
            stop,
            counters: Mutex::default(),
            call_bounds,
            gate_bounds,
        })
    }

    /// Accept connections from now on.
    fn start(&self) -> PyResult<()> {
        let listening = self
            .listening
            .lock()
            .map_err(|_| PyRuntimeError::new_err("poisoned"))?
            .take();
        let listening = listening.ok_or_else(|| PyRuntimeError::new_err("started already"))?;
        let threads = start(listening, self.workers, &self.shared, &self.stop)?;
        self.threads
            .lock()
            .map_err(|_| PyRuntimeError::new_err("poisoned"))?
            .extend(threads);
        Ok(())
    }

    /// As bound; 0 for a Unix socket.
    #[getter]
    fn port(&self) -> u16 {
        self.port
    }

    /// Readable when `take` gives something.
    fn fileno(&self) -> i32 {
        self.awakened.as_raw_fd()
    }

    /// What happened since the last time: (kind, call, payload, why).
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut byte = [0u8; 64];
        let _ = std::io::Read::read(&mut &self.awakened, &mut byte);
        let events = self.shared.queue.take();
        let list = PyList::empty(py);
        for event in events {
            let entry = match event {
                Event::Started(handed) => ("started", Call { handed }, None, None),
                Event::Read(handed, message, why) => (
                    "read",
                    Call { handed },
                    message.map(|message| PyBytes::new(py, &message)),
                    why,
                ),
                Event::Written(handed) => ("written", Call { handed }, None, None),
                Event::Cancelled(handed) => ("cancelled", Call { handed }, None, None),
            };
            list.append(entry.into_pyobject(py)?)?;
        }
        Ok(list)
    }

    /// Judge by these models from now on. `python` is handed back with calls, as the set that they started with.
    fn activate(&self, models: &Bound<'_, PyDict>, python: Py<PyAny>) -> PyResult<()> {
        let mut counters = self.counters.lock().map_err(|_| PyRuntimeError::new_err("poisoned"))?;
        let mut active = HashMap::new();
        for (name, tables) in models.iter() {
            let (name, tables): (String, Bound<'_, PyDict>) = (name.extract()?, tables.cast_into()?);
            let key: String = get(&tables, "key")?;
            let model = model(&tables)?;
            let gates: usize = get::<Vec<String>>(&tables, "modes")?.len();
            let counters = counters
                .entry(key)
                .or_insert_with(|| Arc::new(ModelCounters::new(gates, &self.call_bounds, &self.gate_bounds)))
                .clone();
            active.insert(name, Arc::new(ActiveModel { model, counters }));
        }
        self.shared.active.store(Arc::new(Active {
            models: active,
            python: Some(python),
        }));
        Ok(())
    }

    /// Counts of each key that was ever active: a dict by name.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        let counters = self.counters.lock().map_err(|_| PyRuntimeError::new_err("poisoned"))?;
        for (key, of) in counters.iter() {
            let entry = PyDict::new(py);
            entry.set_item("outside_requests", of.outside_requests.load(Relaxed))?;
            entry.set_item("untouched_requests", of.untouched_requests.load(Relaxed))?;
            entry.set_item("cancelled_requests", of.cancelled_requests.load(Relaxed))?;
            entry.set_item("outside_rows", of.outside_rows.load(Relaxed))?;
            entry.set_item("untouched_rows", of.untouched_rows.load(Relaxed))?;
            let domains: Vec<[u64; 4]> = of
                .domains
                .iter()
                .map(|labels| std::array::from_fn(|label| labels[label].load(Relaxed)))
                .collect();
            entry.set_item("domains", domains)?;
            entry.set_item("call_seconds", of.call_seconds.read())?;
            entry.set_item("gate_seconds", of.gate_seconds.read())?;
            all.set_item(key, entry)?;
        }
        Ok(all)
    }

    /// What is in flight: calls, and bytes of their messages.
    fn in_flight(&self) -> (usize, usize) {
        let budget = &self.shared.budget;
        (budget.calls.load(Relaxed), budget.held_bytes.load(Relaxed))
    }

    /// One more call that Python counts, a request on a stream; false where there are as many as may be.
    fn take_call(&self) -> bool {
        self.shared.budget.take_call().is_ok()
    }

    /// It has ended.
    fn give_call(&self) {
        self.shared.budget.give_call();
    }

    /// Hold some bytes that Python counts; false where that would be too many.
    fn hold(&self, count: usize) -> bool {
        self.shared.budget.hold(count).is_ok()
    }

    /// So many are gone.
    fn give_back(&self, count: usize) {
        self.shared.budget.give_back(count);
    }

    /// Whether all threads run.
    fn is_alive(&self) -> PyResult<bool> {
        let threads = self.threads.lock().map_err(|_| PyRuntimeError::new_err("poisoned"))?;
        Ok(!threads.iter().any(JoinHandle::is_finished))
    }

    /// Calls that wait for Python, and those that it has, beside streams.
    fn handed(&self) -> (usize, usize) {
        self.shared.queue.lengths()
    }

    /// What was refused, given up or went wrong without Python, by name.
    fn endings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        let counters = &self.shared.counters;
        for (name, count) in [
            ("cancelled", &counters.cancelled),
            ("too_many_calls", &counters.too_many_calls),
            ("too_many_requests", &counters.too_many_requests),
            ("memory_exhausted", &counters.memory_exhausted),
            ("message_too_large", &counters.message_too_large),
            ("panics", &counters.panics),
            ("connections", &counters.connections),
            ("open_connections", &counters.open_connections),
            ("too_many_connections", &counters.too_many_connections),
            ("dead_connections", &counters.dead_connections),
            ("failed_handshakes", &counters.failed_handshakes),
            ("protocol_errors", &counters.protocol_errors),
            ("slow_request", &counters.slow_request),
            ("python_lane_full", &counters.python_lane_full),
            ("not_grpc", &counters.not_grpc),
            ("stalled", &counters.stalled),
            ("retried", &counters.retried),
            ("streamed", &counters.streamed),
            ("streams_given_up", &counters.streams_given_up),
            ("reset_flood", &counters.floods[Flood::Resets as usize]),
            ("settings_flood", &counters.floods[Flood::Settings as usize]),
            ("ping_flood", &counters.floods[Flood::Pings as usize]),
            ("window_update_flood", &counters.floods[Flood::WindowUpdates as usize]),
            ("frame_flood", &counters.floods[Flood::Frames as usize]),
            ("too_much", &counters.too_much),
            ("unrecorded_refusals", &self.shared.refused.unrecorded),
        ] {
            all.set_item(name, count.load(Relaxed))?;
        }
        Ok(all)
    }

    /// Calls that were refused without Python since the last time, of which only so many wait: (call id, why).
    fn refused(&self) -> Vec<(String, &'static str)> {
        self.shared.refused.take()
    }

    /// How many calls Python was given after they were looked at here, by reason.
    fn handed_over<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (why, count) in UNUSUAL.iter().zip(&self.shared.counters.handed_over) {
            all.set_item(why.name(), count.load(Relaxed))?;
        }
        Ok(all)
    }

    /// TLS towards clients from the next connection on; all in PEM.
    #[pyo3(signature = (certificate, key, client_ca=None))]
    fn listen_tls(&self, certificate: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> PyResult<()> {
        let config = crate::tls::server(certificate, key, client_ca).map_err(PyValueError::new_err)?;
        self.shared.listen_tls.store(Some(config));
        Ok(())
    }

    /// TLS towards the upstream from the next call on; all in PEM.
    #[pyo3(signature = (ca, server_name, certificate=None, key=None))]
    fn upstream_tls(
        &self,
        ca: &[u8],
        server_name: &str,
        certificate: Option<&[u8]>,
        key: Option<&[u8]>,
    ) -> PyResult<()> {
        let tls = crate::tls::client(ca, certificate.zip(key), server_name).map_err(PyValueError::new_err)?;
        self.shared.upstream_tls.store(Some(Arc::new(tls)));
        Ok(())
    }

    /// Take no new connections, and no new calls on those that are there.
    fn drain(&self) {
        let _ = self.shared.draining.send(true);
    }

    /// End everything.
    fn stop(&self, py: Python<'_>) {
        let _ = self.shared.draining.send(true);
        let _ = self.stop.send(true);
        let threads = self
            .threads
            .lock()
            .map(|mut threads| std::mem::take(&mut *threads))
            .unwrap_or_default();
        py.detach(|| threads.into_iter().for_each(|thread| drop(thread.join())));
    }
}

fn refusals_of(given: &HashMap<String, (i32, String)>, refused: &Arc<Refused>) -> PyResult<Refusals> {
    let of = |reason: &'static str, otherwise: Option<(i32, &str)>| {
        let otherwise = otherwise.map(|(code, details)| (code, details.to_owned()));
        let (code, details) = given
            .get(reason)
            .cloned()
            .or(otherwise)
            .ok_or_else(|| PyValueError::new_err(format!("no refusal for {reason}")))?;
        let refused = refused.clone();
        Ok::<_, PyErr>(Refusal {
            code,
            details,
            reason,
            refused,
        })
    };
    let exhausted = Code::ResourceExhausted as i32;
    Ok(Refusals {
        too_many_calls: of("too_many_calls", None)?,
        memory_exhausted: of("memory_exhausted", None)?,
        message_too_large: of("message_too_large", None)?,
        slow_request: of(
            "slow_request",
            Some((exhausted, "the request did not arrive in time; retry later")),
        )?,
        python_lane_full: of(
            "python_lane_full",
            Some((exhausted, "too many answers wait; retry later")),
        )?,
        internal: of(
            "internal",
            Some((Code::Internal as i32, "the sidecar failed; nothing was answered")),
        )?,
    })
}

fn seconds(name: &str, given: f64) -> PyResult<Duration> {
    match Duration::try_from_secs_f64(given) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(PyValueError::new_err(format!(
            "{name} is {given}: it must be above 0 and finite"
        ))),
    }
}

enum Listening {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

fn bind(listen: &str) -> std::io::Result<(Listening, u16)> {
    match listen.strip_prefix("unix:") {
        Some(path) => {
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok((Listening::Unix(listener), 0))
        }
        None => {
            let listener = std::net::TcpListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((Listening::Tcp(listener), port))
        }
    }
}

fn start(
    listening: Listening,
    workers: usize,
    shared: &Arc<Shared>,
    stop: &watch::Sender<bool>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let long: Vec<Arc<AtomicUsize>> = (0..workers).map(|_| Arc::default()).collect();
    let mut threads = Vec::new();
    for (number, work) in receivers.into_iter().enumerate() {
        let (shared, stopped) = (shared.clone(), stop.subscribe());
        let (own, next) = (long[number].clone(), (number + 1) % workers);
        let other = (next != number).then(|| Other {
            work: senders[next].clone(),
            long: long[next].clone(),
        });
        threads.push(thread(format!("gate-worker-{number}"), stopped, move || {
            let worker = Worker::new(shared, own, other);
            async move { worker.run(work).await }
        })?);
    }
    let draining = shared.draining.subscribe();
    threads.push(thread("gate-acceptor".to_owned(), stop.subscribe(), move || {
        accept(listening, senders, draining)
    })?);
    Ok(threads)
}

/// A thread with a runtime of its own, until `stopped` is told.
fn thread<F: Future<Output = ()>>(
    name: String,
    mut stopped: watch::Receiver<bool>,
    work: impl FnOnce() -> F + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let mut working = pin!(work());
            tokio::select! {
                // Every task below it catches its own panics.
                _ = caught(working.as_mut()) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    })
}

async fn accept(listening: Listening, workers: Vec<mpsc::UnboundedSender<Work>>, mut draining: watch::Receiver<bool>) {
    let accepting = async {
        let mut peer = 0u64;
        match listening {
            Listening::Tcp(listener) => {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let _ = stream.set_nodelay(true);
                            if let Ok(stream) = stream.into_std() {
                                let _ = workers[peer as usize % workers.len()].send(Work::Tcp(peer, stream));
                                peer += 1;
                            }
                        }
                        // Out of descriptors, most likely: others have to be closed first.
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
            Listening::Unix(listener) => {
                let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
                    return;
                };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            if let Ok(stream) = stream.into_std() {
                                let _ = workers[peer as usize % workers.len()].send(Work::Unix(peer, stream));
                                peer += 1;
                            }
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

/// A call that Python answers.
#[pyclass(frozen)]
pub struct Call {
    handed: Arc<Handed>,
}

#[pymethods]
impl Call {
    #[getter]
    fn method(&self) -> &str {
        &self.handed.method
    }

    #[getter]
    fn call_id(&self) -> &str {
        &self.handed.call_id
    }

    /// Which connection it came over.
    #[getter]
    fn peer(&self) -> u64 {
        self.handed.peer
    }

    /// Pairs of name and bytes.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        of_pairs(py, &self.handed.metadata)
    }

    /// Seconds that the client's deadline left when Python got the call; None where it set none.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.handed.timeout.map(|left| left.as_secs_f64())
    }

    /// Seconds since the call began, when Python got it.
    #[getter]
    fn age(&self) -> f64 {
        self.handed.age.as_secs_f64()
    }

    /// The request, where it was read already.
    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.handed.request.as_ref().map(|message| PyBytes::new(py, message))
    }

    /// The set of active bundles that it started with, where it was looked at.
    #[getter]
    fn models(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.handed
            .active
            .as_ref()?
            .python
            .as_ref()
            .map(|models| models.clone_ref(py))
    }

    /// How the call upstream ended, where it was made: (body, initial, trailing) or
    /// (code, details, answered, initial, trailing).
    #[getter]
    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        Ok(Some(match &self.handed.outcome {
            None => return Ok(None),
            Some(Outcome::Reply {
                body,
                initial,
                trailing,
            }) => (PyBytes::new(py, body), of_pairs(py, initial)?, of_pairs(py, trailing)?).into_pyobject(py)?,
            Some(Outcome::Failure {
                code,
                details,
                answered,
                initial,
                trailing,
            }) => (
                *code,
                details.as_str(),
                *answered,
                of_pairs(py, initial)?,
                of_pairs(py, trailing)?,
            )
                .into_pyobject(py)?,
        }))
    }

    /// Whether two values are the same call.
    fn key(&self) -> usize {
        Arc::as_ptr(&self.handed) as usize
    }

    /// Have the next message read; a "read" event brings it.
    fn read(&self) {
        let _ = self.handed.commands.send(Command::Read);
    }

    /// Send the initial metadata.
    fn open(&self, initial: Pairs) {
        let _ = self.handed.commands.send(Command::Open(initial));
    }

    /// Send a message; a "written" event follows.
    fn write(&self, message: &Bound<'_, PyBytes>) {
        let _ = self
            .handed
            .commands
            .send(Command::Write(Bytes::copy_from_slice(message.as_bytes())));
    }

    /// Send all of a unary call's answer, and end it: nothing more is told of it.
    fn answer(&self, initial: Pairs, message: &Bound<'_, PyBytes>, trailing: Pairs) {
        let message = Bytes::copy_from_slice(message.as_bytes());
        let _ = self.handed.commands.send(Command::Answer {
            initial,
            message,
            trailing,
        });
    }

    /// End the call.
    fn end(&self, code: i32, details: String, trailing: Pairs) {
        let _ = self.handed.commands.send(Command::End {
            code,
            details,
            trailing,
        });
    }
}

fn of_pairs<'py>(py: Python<'py>, pairs: &Pairs) -> PyResult<Bound<'py, PyList>> {
    PyList::new(
        py,
        pairs
            .iter()
            .map(|(name, value)| (name.as_str(), PyBytes::new(py, value))),
    )
}

/// What the native evaluation makes of one request and its answer, for tests that compare it with Python's:
/// `("handed", reason)` or `("answered", outside rows, untouched rows, [(gate, label), ...])`.
#[pyfunction]
pub fn evaluate<'py>(
    py: Python<'py>,
    name: &str,
    tables: &Bound<'py, PyDict>,
    request: &[u8],
    response: &[u8],
) -> PyResult<Bound<'py, PyTuple>> {
    let model = model(tables)?;
    let admitted = gate::read_request(request)
        .and_then(|request| {
            if request.model_name == name {
                Ok(request)
            } else {
                Err(Unusual::Model)
            }
        })
        .and_then(|request| gate::admit(&model, &request));
    if let Some(arrived) = arrived(name, &model, request)
        && arrived.as_ref().ok() != admitted.as_ref().ok()
    {
        return Err(PyAssertionError::new_err("looked at in pieces it is another plan"));
    }
    let seen = admitted.and_then(|mut plan| gate::judge(&model, &mut plan, response));
    match seen {
        Err(why) => ("handed", why.name()).into_pyobject(py),
        Ok(seen) => {
            let domains: Vec<(usize, u8)> = seen.domains.iter().map(|domain| (domain.gate, domain.label)).collect();
            ("answered", seen.outside, seen.untouched, domains).into_pyobject(py)
        }
    }
}

/// Whether metadata of this name, in lower case, travels on: for tests that compare it with Python's rule.
#[pyfunction]
pub fn travels(name: &str) -> bool {
    crate::metadata::travels(name)
}

/// The plan of a request that is looked at while it arrives, byte by byte at first; None where it would not be.
fn arrived(name: &str, model: &Model, request: &[u8]) -> Option<Result<gate::Plan, Unusual>> {
    let beginning = gate::Beginning::read(request, request.len())?;
    let mut arriving = gate::Arriving::begin(model, &beginning).filter(|_| beginning.request.model_name == name)?;
    let (first, rest) = beginning.contents.split_at(beginning.contents.len().min(64));
    let mut pieces = first.chunks(1).chain(rest.chunks(1021));
    let fed = pieces.try_for_each(|piece| arriving.feed(model, piece));
    Some(fed.and_then(|()| arriving.end(model)))
}

// -- tables ---------------------------------------------------------------------------------------------------

fn get<'py, T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>> + 'py>(
    tables: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<T> {
    let value = tables
        .get_item(name)?
        .ok_or_else(|| PyValueError::new_err(format!("no table {name}")))?;
    value.extract().map_err(Into::into)
}

fn bad(error: TableError) -> PyErr {
    PyValueError::new_err(format!("tables do not fit together: {}", error.0))
}

/// Flat little-endian arrays come as bytes.
fn floats(tables: &Bound<'_, PyDict>, name: &str) -> PyResult<Vec<f64>> {
    let bytes: Bound<'_, PyBytes> = get(tables, name)?;
    Ok(bytes
        .as_bytes()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|chunk| f64::from_le_bytes(*chunk))
        .collect())
}

fn indices(tables: &Bound<'_, PyDict>, name: &str) -> PyResult<Vec<usize>> {
    let bytes: Bound<'_, PyBytes> = get(tables, name)?;
    bytes
        .as_bytes()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|chunk| {
            usize::try_from(i64::from_le_bytes(*chunk))
                .map_err(|_| PyValueError::new_err(format!("{name} has a negative entry")))
        })
        .collect()
}

fn literal_table(tables: &Bound<'_, PyDict>, prefix: &str, width: usize) -> PyResult<LiteralTable> {
    let name = |part: &str| format!("{prefix}.{part}");
    let strict: Bound<'_, PyBytes> = get(tables, &name("strict"))?;
    let arrays = LiteralArrays {
        offsets: indices(tables, &name("offsets"))?,
        columns: indices(tables, &name("columns"))?,
        coefficients: floats(tables, &name("coefficients"))?,
        strict: strict.as_bytes().iter().map(|&byte| byte != 0).collect(),
        relative: floats(tables, &name("relative"))?,
        absolute: floats(tables, &name("absolute"))?,
    };
    LiteralTable::new(arrays, width).map_err(bad)
}

fn tensors(tables: &Bound<'_, PyDict>, name: &str) -> PyResult<Vec<Tensor>> {
    let given: Vec<(String, String, Vec<u64>)> = get(tables, name)?;
    given
        .into_iter()
        .map(|(name, datatype, shape)| {
            let datatype = Datatype::from_name(&datatype)
                .ok_or_else(|| PyValueError::new_err(format!("datatype {datatype} is not judged here")))?;
            Tensor::new(name, datatype, shape).map_err(bad)
        })
        .collect()
}

fn model(tables: &Bound<'_, PyDict>) -> PyResult<Model> {
    let (inputs, width): (usize, usize) = (get(tables, "input_size")?, get(tables, "width")?);
    let gates = Gates::new(GateArrays {
        inputs,
        lower: floats(tables, "lower")?,
        upper: floats(tables, "upper")?,
        gate_regions: indices(tables, "gate_regions")?,
        cut_regions: indices(tables, "cut_regions")?,
        region_cuts: indices(tables, "region_cuts")?,
        cuts: literal_table(tables, "cuts", width)?,
        gate_clauses: indices(tables, "gate_clauses")?,
        clause_literals: indices(tables, "clause_literals")?,
        literals: literal_table(tables, "literals", width)?,
    })
    .map_err(bad)?;
    let feature: Bound<'_, PyBytes> = get(tables, "coverage.feature")?;
    let label: Bound<'_, PyBytes> = get(tables, "coverage.label")?;
    let arrays = CoverageArrays {
        root: indices(tables, "coverage.root")?,
        feature: feature
            .as_bytes()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|chunk| i32::from_le_bytes(*chunk))
            .collect(),
        threshold: floats(tables, "coverage.threshold")?,
        left: indices(tables, "coverage.left")?,
        right: indices(tables, "coverage.right")?,
        label: label.as_bytes().to_vec(),
    };
    let coverage = Coverage::new(inputs, arrays).map_err(bad)?;
    let modes: Vec<String> = get(tables, "modes")?;
    let modes = modes
        .iter()
        .map(|mode| match mode.as_str() {
            "enforce" => Ok(Mode::Enforce),
            "shadow" => Ok(Mode::Shadow),
            "off" => Ok(Mode::Off),
            other => Err(PyValueError::new_err(format!("mode {other}"))),
        })
        .collect::<PyResult<Vec<_>>>()?;
    Model::new(ModelParts {
        inputs: tensors(tables, "inputs")?,
        outputs: tensors(tables, "outputs")?,
        batched: get(tables, "batched")?,
        gates,
        coverage,
        modes,
        limit_rows: get(tables, "limit_rows")?,
        refuses_outside: get(tables, "refuses_outside")?,
        versions: get(tables, "versions")?,
    })
    .map_err(bad)
}
