//! A call that Python answers: moves messages as Python wants it.

use crate::call::Call;
use crate::caught::stage;
use crate::counters::add;
use crate::grpc::{Messages, NoMessage};
use crate::handover::{Command, Event, Handed};
use crate::reply::{Reply, Unsent};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// gRPC's status.
const OK: i32 = 0;

/// One call on its way through Python.
pub struct PythonLane<'a> {
    call: &'a Call,
    reply: &'a mut Reply,
    /// None where no message follows.
    messages: Option<Messages>,
    /// Read before Python had the call.
    first: Option<Bytes>,
}

/// Tells Python when the call is over, whatever ends it.
struct Told<'a> {
    call: &'a Call,
    handed: Arc<Handed>,
    is_cancelled: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let shared = &self.call.worker.shared;
        // What Python has, Python counts.
        if !shared.queue.over(&self.handed, self.is_cancelled) {
            add(&shared.counters.cancelled, 1);
        }
    }
}

impl<'a> PythonLane<'a> {
    pub fn new(call: &'a Call, reply: &'a mut Reply, messages: Option<Messages>, first: Option<Bytes>) -> Self {
        PythonLane {
            call,
            reply,
            messages,
            first,
        }
    }

    /// Do what Python wants until the call is over.
    pub async fn run(self, handed: Arc<Handed>, mut wanted: UnboundedReceiver<Command>) {
        let PythonLane {
            call,
            reply,
            mut messages,
            mut first,
        } = self;
        let shared = &call.worker.shared;
        let queue = &shared.queue;
        if queue.start(&handed).is_err() {
            add(&shared.counters.python_lane_full, 1);
            return reply.refuse(&shared.refusals.python_lane_full);
        }
        let mut told = Told {
            call,
            handed: handed.clone(),
            is_cancelled: true,
        };
        stage(&call.headers, "python");
        let mut reading = false;
        let held = call.lease.held();
        loop {
            tokio::select! {
                command = wanted.recv() => match command {
                    None => return,
                    Some(Command::Read) if first.is_some() || messages.is_none() => {
                        queue.push(Event::Read(handed.clone(), first.take(), None));
                    }
                    Some(Command::Read) => reading = true,
                    Some(Command::Open(initial)) => reply.open(&initial),
                    Some(Command::Write(message)) => {
                        if !write(call, reply, &[], &message).await {
                            return;
                        }
                        queue.push(Event::Written(handed.clone()));
                    }
                    Some(Command::Answer { initial, message, trailing }) => {
                        told.is_cancelled = false;
                        if write(call, reply, &initial, &message).await {
                            reply.end(OK, "", &trailing);
                        }
                        return;
                    }
                    Some(Command::End { code, details, trailing }) => {
                        told.is_cancelled = false;
                        return reply.end(code, &details, &trailing);
                    }
                },
                read = next(&mut messages, call), if reading => {
                    reading = false;
                    match read {
                        Ok(message) => {
                            // From here on it is Python that holds it.
                            let beyond = messages.as_ref().map_or(0, Messages::beyond);
                            call.lease.give_back(call.lease.held().saturating_sub(held + beyond));
                            queue.push(Event::Read(handed.clone(), Some(message), None));
                        }
                        Err(NoMessage::Broken(_)) => return,
                        Err(why) => {
                            messages = None;
                            queue.push(Event::Read(handed.clone(), None, name(&why)));
                        }
                    }
                },
                () = reply.given_up() => return,
            }
        }
    }
}

/// Send a message, after the initial metadata where these are not sent; false where the call is over without it.
async fn write(call: &Call, reply: &mut Reply, initial: &[(String, Vec<u8>)], message: &Bytes) -> bool {
    let shared = &call.worker.shared;
    if call.lease.hold(message.len()).is_err() {
        add(&shared.counters.memory_exhausted, 1);
        reply.refuse(&shared.refusals.memory_exhausted);
        return false;
    }
    reply.open(initial);
    let sent = reply.write(message, &call.lease).await;
    call.lease.give_back(message.len());
    match sent {
        Ok(()) => true,
        Err(why) => {
            if matches!(why, Unsent::Stalled) {
                call.count_unsent(why);
            }
            false
        }
    }
}

async fn next(messages: &mut Option<Messages>, call: &Call) -> Result<Bytes, NoMessage> {
    let messages = messages.as_mut().ok_or(NoMessage::Ended { within: false })?;
    call.inflated(messages.next(&call.lease).await?).await
}

fn name(why: &NoMessage) -> Option<&'static str> {
    match why {
        NoMessage::Ended { within: false } | NoMessage::Broken(_) => None,
        NoMessage::Ended { within: true } => Some("broke off"),
        NoMessage::TooLarge => Some("message_too_large"),
        NoMessage::Exhausted => Some("memory_exhausted"),
        NoMessage::TooSlow => Some("slow_request"),
    }
}
