//! Long requests, forwarded while they arrive.

use super::*;
use h2::SendStream;
use h2::client::ResponseFuture;

pub const INPUTS: usize = 100_000;

/// Of model `long`: just so many that a request is long.
pub const LONG: usize = 20_000;

/// ModelInfer of one row, framed, whose last value is as given.
fn request_of(model: &str, inputs: usize, last: f32) -> Bytes {
    let size: Vec<u8> = [inputs & 0x7f | 0x80, inputs >> 7 & 0x7f | 0x80, inputs >> 14]
        .map(|byte| byte as u8)
        .into();
    let shape = [field(1, b"x"), field(2, b"FP32"), field(3, &[&[1], &size[..]].concat())].concat();
    let mut row = vec![0; 4 * inputs];
    row[4 * inputs - 4..].copy_from_slice(&last.to_le_bytes());
    Frame::of(&[field(1, model.as_bytes()), field(5, &shape), field(7, &row)].concat()).bytes()
}

/// Not admitted, for its last value.
fn spoilt_of(model: &str, inputs: usize) -> Bytes {
    request_of(model, inputs, f32::NAN)
}

fn long(is_spoilt: bool) -> Bytes {
    request_of("wide", INPUTS, if is_spoilt { f32::NAN } else { 0.0 })
}

/// A client that has begun a call.
async fn begun(sidecar: &Sidecar, headers: &[(&'static str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
    let mut requests = sidecar.requests.clone().ready().await.expect("connected");
    requests.send_request(head(INFER, headers), false).expect("sent")
}

/// Send some of a request, and see it arrive upstream.
async fn send_beginning(stream: &mut SendStream<Bytes>, upstream: &Upstream, message: &Bytes, count: usize) {
    stream.send_data(message.slice(..count), false).expect("sent");
    until(|| {
        upstream
            .bodies
            .borrow()
            .last()
            .is_some_and(|body| body.0.len() == count)
    })
    .await;
    assert_eq!(upstream.bodies.borrow().last().expect("a body").0, message[..count]);
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn patient() -> Setting {
    let mut setting = Setting::default();
    setting.times.receive = Duration::from_secs(5);
    setting
}

#[test]
fn a_long_request_goes_upstream_while_it_arrives_but_for_its_end() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(false);
        let (response, mut stream) = begun(&sidecar, &[]).await;
        let first = 64 << 10;
        stream.send_data(message.slice(..first - 1), false).expect("sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(upstream.asked.get(), 0, "so much is looked at before a byte goes on");
        let length = message.len();
        stream
            .send_data(message.slice(first - 1..length - 1), false)
            .expect("sent");
        let seen = || upstream.bodies.borrow().first().map_or(0, |body| body.0.len());
        until(|| seen() > length - (8 << 10)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(seen() < length, "{}", seen());
        stream
            .send_data(message.slice(message.len() - 1..), true)
            .expect("sent");
        assert_eq!(got(response).await.status(), "0");
        assert_eq!(*upstream.bodies.borrow(), [(message.to_vec(), Some(None))]);
        let counted = [
            sidecar.counted(|all| &all.streamed),
            sidecar.counted(|all| &all.streams_given_up),
        ];
        assert_eq!(counted, [1, 0]);
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_request_that_is_not_admitted_is_never_whole_upstream() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(true);
        let requests = sidecar.requests.clone();
        let sent = message.slice(5..);
        let asking = spawn_local(async move { ask(requests, INFER, &[], Some(&sent)).await });
        let handed = sidecar.started().await;
        assert_eq!(handed.request.as_deref(), Some(&message[5..]), "all of it is Python's");
        assert!(handed.outcome.is_none());
        let end = Command::End {
            code: 3,
            details: "not finite".to_owned(),
            trailing: vec![],
        };
        handed.commands.send(end).expect("the call waits");
        assert_eq!(asking.await.expect("an answer").status(), "3");
        until(|| upstream.bodies.borrow()[0].1.is_some()).await;
        let (body, end) = upstream.bodies.borrow()[0].clone();
        assert!(
            body.len() < message.len() && message.starts_with(&body),
            "{}",
            body.len()
        );
        assert_eq!(end, Some(Some(Reason::CANCEL)));
        let counted = [
            sidecar.counted(|all| &all.streamed),
            sidecar.counted(|all| &all.streams_given_up),
        ];
        assert_eq!((counted, upstream.asked.get()), ([0, 1], 1));
        sidecar.holds_nothing().await;
    });
}

#[test]
fn one_client_may_have_so_many_given_up() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        // No place before Python: what is handed over is refused at once.
        let mut setting = patient();
        setting.handover.waiting = 0;
        let sidecar = Sidecar::new(&upstream.address, setting).await;
        let message = spoilt_of("long", LONG);
        let flooded = || sidecar.counted(|all| &all.floods[crate::flood::Flood::Resets as usize]) > 0;
        let mut ended = 0;
        while !flooded() {
            let (response, mut stream) = begun(&sidecar, &[]).await;
            let _ = stream.send_data(message.clone(), true);
            match response.await {
                Ok(response) => assert_eq!(response.headers()["gate-reason"], "python_lane_full"),
                Err(_) => break,
            }
            ended += 1;
        }
        assert!((199..2000).contains(&ended) && flooded(), "{ended}");
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_slow_body_is_gathered_and_holds_no_stream_upstream() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(false);
        let (response, mut stream) = begun(&sidecar, &[]).await;
        send_beginning(&mut stream, &upstream, &message, 100_000).await;
        until(|| upstream.bodies.borrow()[0].1.is_some()).await;
        assert_eq!(upstream.bodies.borrow()[0].1, Some(Some(Reason::CANCEL)));
        stream.send_data(message.slice(100_000..), true).expect("sent");
        assert_eq!(got(response).await.status(), "0");
        assert_eq!(upstream.bodies.borrow()[1], (message.to_vec(), Some(None)));
        // One that is slow from the beginning is not even begun.
        let (response, mut stream) = begun(&sidecar, &[]).await;
        stream.send_data(message.slice(..10), false).expect("sent");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        stream.send_data(message.slice(10..), true).expect("sent");
        assert_eq!(got(response).await.status(), "0");
        let counted = [
            sidecar.counted(|all| &all.streamed),
            sidecar.counted(|all| &all.streams_given_up),
        ];
        assert_eq!((counted, upstream.asked.get()), ([0, 1], 3));
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_body_that_stays_away_is_refused_and_forgotten_upstream() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let mut setting = patient();
        setting.times.receive = Duration::from_millis(800);
        let sidecar = Sidecar::new(&upstream.address, setting).await;
        let message = long(false);
        let (response, mut stream) = begun(&sidecar, &[]).await;
        send_beginning(&mut stream, &upstream, &message, 100_000).await;
        let got = got(response).await;
        assert_eq!((got.status(), got.reason()), ("8", "slow_request"));
        until(|| upstream.bodies.borrow()[0].1 == Some(Some(Reason::CANCEL))).await;
        assert_eq!(sidecar.counted(|all| &all.slow_request), 1);
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_client_that_goes_midway_is_forgotten_upstream() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(false);
        for is_ended in [false, true] {
            let (response, mut stream) = begun(&sidecar, &[]).await;
            send_beginning(&mut stream, &upstream, &message, 100_000).await;
            if is_ended {
                // Its body ends in the middle of the message: what that is called, Python says.
                stream.send_data(Bytes::new(), true).expect("sent");
                let handed = sidecar.started().await;
                assert!(handed.request.is_none());
                let _ = handed.commands.send(Command::End {
                    code: 13,
                    details: String::new(),
                    trailing: vec![],
                });
                assert_eq!(got(response).await.status(), "13");
            } else {
                stream.send_reset(Reason::CANCEL);
            }
            until(|| upstream.bodies.borrow().last().expect("a body").1 == Some(Some(Reason::CANCEL))).await;
            sidecar.holds_nothing().await;
        }
        assert_eq!(sidecar.counted(|all| &all.streamed), 0);
    });
}

#[test]
fn a_request_is_python_s_after_it_was_forwarded_and_counts_once() {
    run(async {
        let upstream = Upstream::new(&[Does::Read, Does::Status("5")]).await;
        let setting = Setting {
            limit_held_bytes: 900_000,
            ..patient()
        };
        let sidecar = Sidecar::new(&upstream.address, setting).await;
        let message = long(false);
        let (requests, sent) = (sidecar.requests.clone(), message.slice(5..));
        let waiting = spawn_local({
            let (requests, sent) = (requests.clone(), sent.clone());
            async move { ask(requests, INFER, &[], Some(&sent)).await }
        });
        until(|| {
            upstream
                .bodies
                .borrow()
                .first()
                .is_some_and(|body| body.1 == Some(None))
        })
        .await;
        assert_eq!(sidecar.shared().budget.held_bytes.load(Relaxed), message.len());
        let asking = spawn_local(async move { ask(requests, INFER, &[], Some(&sent)).await });
        let handed = sidecar.started().await;
        assert_eq!(handed.request.as_deref(), Some(&message[5..]));
        assert!(matches!(
            &handed.outcome,
            Some(Outcome::Failure {
                code: 5,
                answered: true,
                ..
            })
        ));
        assert_eq!(sidecar.shared().budget.held_bytes.load(Relaxed), 2 * message.len());
        let _ = handed.commands.send(Command::End {
            code: 5,
            details: String::new(),
            trailing: vec![],
        });
        assert_eq!(asking.await.expect("an answer").status(), "5");
        waiting.abort();
        sidecar.holds_nothing().await;
    });
}

#[test]
fn an_upstream_that_does_not_take_it_is_asked_with_the_whole() {
    for script in [
        &[Does::Refuse, Does::Answer] as &'static [Does],
        &[Does::Reset(Reason::INTERNAL_ERROR), Does::Answer],
        &[Does::HangUp, Does::Answer],
    ] {
        run(async {
            let upstream = Upstream::new(script).await;
            let sidecar = Sidecar::new(&upstream.address, patient()).await;
            let message = long(false);
            let (response, mut stream) = begun(&sidecar, &[]).await;
            stream.send_data(message.slice(..100_000), false).expect("sent");
            until(|| upstream.asked.get() == 1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.send_data(message.slice(100_000..), true).expect("sent");
            assert_eq!(got(response).await.status(), "0", "{script:?}");
            assert_eq!(*upstream.bodies.borrow(), [(message.to_vec(), Some(None))]);
            sidecar.holds_nothing().await;
        });
    }
}

#[test]
fn a_deadline_that_passes_midway_is_one_that_passed() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(false);
        let (_response, mut stream) = begun(&sidecar, &[("grpc-timeout", "200m")]).await;
        send_beginning(&mut stream, &upstream, &message, 100_000).await;
        until(|| upstream.bodies.borrow()[0].1 == Some(Some(Reason::CANCEL))).await;
        stream.send_data(message.slice(100_000..), true).expect("sent");
        let handed = sidecar.started().await;
        assert!(matches!(&handed.outcome, Some(Outcome::Failure { code: 4, .. })));
        assert_eq!(upstream.asked.get(), 1);
    });
}

#[test]
fn a_panic_while_it_arrives_ends_its_call_only() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(false);
        for (count, at) in ["begin", "admit", "ask"].into_iter().enumerate() {
            let injected = [("panic-at", at)];
            let (broken, other) = tokio::join!(
                ask(sidecar.requests.clone(), INFER, &injected, Some(&message[5..])),
                sidecar.infer(&[])
            );
            assert_eq!((broken.status(), broken.reason()), ("13", "internal"), "{at}");
            assert_eq!(
                (other.status(), sidecar.counted(|all| &all.panics)),
                ("0", count as u64 + 1)
            );
        }
        sidecar.holds_nothing().await;
    });
}

#[test]
fn small_pieces_and_what_follows_the_message_do_no_harm() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let sidecar = Sidecar::new(&upstream.address, patient()).await;
        let message = long(false);
        let (response, mut stream) = begun(&sidecar, &[]).await;
        for piece in message.chunks(1234) {
            stream.send_data(Bytes::copy_from_slice(piece), false).expect("sent");
            tokio::task::yield_now().await;
        }
        stream
            .send_data(Bytes::from_static(b"\0\0\0\0\x01x"), true)
            .expect("sent");
        assert_eq!(got(response).await.status(), "0");
        assert_eq!(*upstream.bodies.borrow(), [(message.to_vec(), Some(None))]);
        assert_eq!(sidecar.counted(|all| &all.streamed), 1);
        sidecar.holds_nothing().await;
    });
}

#[test]
fn another_worker_moves_a_long_request_while_it_has_none_of_its_own() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let (work, given) = tokio::sync::mpsc::unbounded_channel();
        let long = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let other = crate::worker::Other {
            work,
            long: long.clone(),
        };
        let sidecar = Sidecar::beside(&upstream.address, patient(), Some(other)).await;
        let dials = Rc::new(Cell::new(0));
        let (helper, counted, mut given) = (sidecar.worker.clone(), dials.clone(), given);
        spawn_local(async move {
            // As a worker does with its work.
            while let Some(work) = given.recv().await {
                let (each, is_work) = tokio::sync::mpsc::unbounded_channel();
                counted.set(counted.get() + 1);
                each.send(work).expect("taken");
                spawn_local(helper.clone().run(is_work));
            }
        });
        let message = long_message();
        let asked = |requests: SendRequest<Bytes>| {
            let message = message.clone();
            async move { ask(requests, INFER, &[], Some(&message)).await }
        };
        assert_eq!(sidecar.infer(&[]).await.status(), "0");
        assert_eq!((dials.get(), upstream.connections.get()), (0, 1), "it is not long");
        for _ in 0..2 {
            assert_eq!(asked(sidecar.requests.clone()).await.status(), "0");
            assert_eq!((dials.get(), upstream.connections.get()), (1, 2));
        }
        long.store(1, Relaxed);
        assert_eq!(asked(sidecar.requests.clone()).await.status(), "0");
        assert_eq!((dials.get(), upstream.connections.get()), (1, 2), "over its own");
        assert_eq!(sidecar.counted(|all| &all.streamed), 3);
        sidecar.holds_nothing().await;
    });
}

#[test]
fn a_worker_that_has_ended_moves_nothing() {
    run(async {
        let upstream = Upstream::new(&[Does::Answer]).await;
        let (work, _) = tokio::sync::mpsc::unbounded_channel();
        let other = crate::worker::Other {
            work,
            long: Arc::default(),
        };
        let sidecar = Sidecar::beside(&upstream.address, patient(), Some(other)).await;
        let got = ask(sidecar.requests.clone(), INFER, &[], Some(&long_message())).await;
        assert_eq!(
            (got.status(), sidecar.counted(|all| &all.streamed)),
            ("0", 0),
            "gathered, and asked over its own"
        );
        sidecar.holds_nothing().await;
    });
}

/// Without its prefix.
fn long_message() -> Bytes {
    long(false).slice(5..)
}
