//! A call that Python answers: moves messages as Python wants it.

use crate::call::Call;
use crate::grpc::{Messages, NoMessage};
use crate::handover::{Command, Event, Handed};
use crate::reply::Reply;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// One call on its way through Python.
pub struct PythonLane<'a> {
    call: &'a Call,
    messages: Messages,
    reply: Reply,
    /// Read before Python had the call.
    first: Option<Bytes>,
    ended: bool,
}

impl<'a> PythonLane<'a> {
    pub fn new(call: &'a Call, messages: Messages, reply: Reply, first: Option<Bytes>) -> Self {
        PythonLane { call, messages, reply, first, ended: false }
    }

    /// No message follows.
    pub fn ended(mut self) -> Self {
        self.ended = true;
        self
    }

    /// Do what Python wants until the call is over.
    pub async fn run(mut self, handed: (Arc<Handed>, UnboundedReceiver<Command>)) {
        let (handed, mut wanted) = handed;
        let queue = &self.call.worker.shared.queue;
        queue.push(Event::Started(handed.clone()));
        let mut reading = false;
        loop {
            tokio::select! {
                command = wanted.recv() => match command {
                    None => return,
                    Some(Command::Read) if self.first.is_some() || self.ended => {
                        queue.push(Event::Read(handed.clone(), self.first.take(), None));
                    }
                    Some(Command::Read) => reading = true,
                    Some(Command::Open(initial)) => self.reply.open(&initial),
                    Some(Command::Write(message)) => {
                        self.reply.open(&[]);
                        if self.reply.write(&message).await.is_err() {
                            break;
                        }
                        queue.push(Event::Written(handed.clone()));
                    }
                    Some(Command::End { code, details, trailing }) => {
                        return self.reply.end(code, &details, &trailing);
                    }
                },
                read = self.messages.next(&self.call.lease), if reading => {
                    reading = false;
                    match read.and_then(|frame| self.call.inflated(frame)) {
                        Ok(message) => queue.push(Event::Read(handed.clone(), Some(message), None)),
                        Err(NoMessage::Broken(_)) => break,
                        Err(why) => {
                            self.ended = true;
                            queue.push(Event::Read(handed.clone(), None, name(&why)));
                        }
                    }
                },
                () = self.reply.given_up() => break,
            }
        }
        queue.push(Event::Cancelled(handed));
    }
}

fn name(why: &NoMessage) -> Option<&'static str> {
    match why {
        NoMessage::Ended { within: false } | NoMessage::Broken(_) => None,
        NoMessage::Ended { within: true } => Some("broke off"),
        NoMessage::TooLarge => Some("message_too_large"),
        NoMessage::Exhausted => Some("memory_exhausted"),
    }
}
