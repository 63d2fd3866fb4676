//! A long request, forwarded while it arrives and is looked at; its last piece only when all of it was admitted.
//!
//! Until then the upstream has no complete message, so it may be given up at any moment, and all is as if it had never
//! been tried: the stream upstream is reset, and the request is gathered and looked at as a whole. So it goes where
//! something in it is not usual, where the client is slow, and where the upstream does not take it.

use crate::active::{Active, ActiveModel};
use crate::call::{Asked, Call};
use crate::caught::stage;
use crate::counters::add;
use crate::exchange::{self, Opened};
use crate::grpc::{BEGINNING, Kept, Messages, NoMessage, PREFIX, announced};
use crate::reply::Reply;
use bytes::Bytes;
use gate::{Arriving, Beginning, Plan};
use h2::Reason;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// As long may the client let us wait for so many bytes, or it keeps a stream upstream for nothing.
const PATIENCE: Duration = Duration::from_secs(1);
const FOR_BYTES: usize = BEGINNING;

/// Why a request is not forwarded further as it arrives.
enum Stopped {
    /// Something in it is not usual, or the client is slow: what was begun is given up on the client's account.
    ByClient,
    /// The upstream does not take it.
    ByUpstream,
    NoMessage(NoMessage),
}

/// One request on its way.
struct Stream<'a> {
    call: &'a Call,
    model: Arc<ActiveModel>,
    arriving: Arriving,
    length: usize,
    admitting: Duration,
    /// How long we waited for the client since it last sent enough, and what it sent since.
    waited: Duration,
    since: usize,
}

/// All but the last piece went upstream.
struct Forwarded {
    opened: Opened,
    plan: Plan,
    admitting: Duration,
}

/// Take in a request that begins with `first`; forwarded as it comes, where it may be.
///
/// # Errors
/// It does not come to its end.
pub async fn arrive(call: &Call, mut messages: Messages, first: Bytes, reply: &mut Reply) -> Result<Asked, NoMessage> {
    let mut pieces = vec![first];
    if let Some((active, stream)) = begin(call, &pieces[0]) {
        let model = stream.model.clone();
        let forward = tokio::time::timeout(exchange::left(call), stream.forward(&mut messages, &mut pieces));
        let forwarded = tokio::select! {
            biased;
            () = reply.given_up() => return Err(NoMessage::Broken(Reason::CANCEL.into())),
            forwarded = forward => forwarded,
        };
        match forwarded.unwrap_or(Err(Stopped::ByClient)) {
            Ok(Forwarded {
                opened,
                plan,
                admitting,
            }) => {
                add(&call.worker.shared.counters.streamed, 1);
                let last = pieces.last().cloned().unwrap_or_default();
                return Ok(Asked {
                    request: Kept::Pieces(pieces),
                    active,
                    admitted: Ok((model, plan)),
                    opened: Some((opened, last)),
                    admitting,
                });
            }
            Err(Stopped::NoMessage(why)) => return Err(why),
            Err(why) => {
                add(&call.worker.shared.counters.streams_given_up, 1);
                if matches!(why, Stopped::ByClient) {
                    call.client.traffic.reset_upstream();
                }
            }
        }
    }
    messages.take_back(&pieces);
    drop(pieces);
    let left = call.worker.shared.times.receive.saturating_sub(call.began.elapsed());
    let gathered = tokio::time::timeout(left, messages.next(&call.lease)).await;
    Ok(call.asked(gathered.unwrap_or(Err(NoMessage::TooSlow))?))
}

/// None where the request must be looked at as a whole.
fn begin<'a>(call: &'a Call, first: &[u8]) -> Option<(Arc<Active>, Stream<'a>)> {
    stage(&call.headers, "begin");
    let started = Instant::now();
    if call.began.elapsed() > PATIENCE || exchange::left(call).is_zero() || !call.has_text_metadata() {
        return None;
    }
    let length = announced(first);
    let active = call.worker.shared.active.load_full();
    let beginning = Beginning::read(first.get(PREFIX..)?, length - PREFIX)?;
    let model = active.models.get(beginning.request.model_name)?.clone();
    let mut arriving = Arriving::begin(&model.model, &beginning)?;
    arriving.feed(&model.model, beginning.contents).ok()?;
    let stream = Stream {
        call,
        model,
        arriving,
        length,
        admitting: started.elapsed(),
        waited: Duration::ZERO,
        since: 0,
    };
    Some((active, stream))
}

impl Stream<'_> {
    /// Forward all but the last piece, which is the last of `pieces` then.
    async fn forward(mut self, messages: &mut Messages, pieces: &mut Vec<Bytes>) -> Result<Forwarded, Stopped> {
        let mut opened = Opened::begin(self.call).await.ok_or(Stopped::ByUpstream)?;
        let mut left = self.length;
        loop {
            let piece = pieces.last().cloned().unwrap_or_default();
            left -= piece.len();
            if left == 0 {
                return self.admit(opened);
            }
            if !opened.send(piece, self.call).await {
                return Err(Stopped::ByUpstream);
            }
            let piece = self.next(messages, left).await?;
            pieces.push(piece.clone());
            self.look(&piece)?;
        }
    }

    fn look(&mut self, piece: &[u8]) -> Result<(), Stopped> {
        let started = Instant::now();
        let looked = self.arriving.feed(&self.model.model, piece);
        self.admitting += started.elapsed();
        looked.map_err(|_| Stopped::ByClient)
    }

    fn admit(self, opened: Opened) -> Result<Forwarded, Stopped> {
        stage(&self.call.headers, "admit");
        let started = Instant::now();
        let plan = self.arriving.end(&self.model.model).map_err(|_| Stopped::ByClient)?;
        Ok(Forwarded {
            opened,
            plan,
            admitting: self.admitting + started.elapsed(),
        })
    }

    /// The next piece: usually it is there already, and then no timer is set.
    async fn next(&mut self, messages: &mut Messages, left: usize) -> Result<Bytes, Stopped> {
        let mut more = pin!(messages.more(left, &self.call.lease));
        let now = poll_fn(|context| Poll::Ready(more.as_mut().poll(context))).await;
        let piece = match now {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                let began = Instant::now();
                let in_all = self
                    .call
                    .worker
                    .shared
                    .times
                    .receive
                    .saturating_sub(self.call.began.elapsed());
                let patience = PATIENCE.saturating_sub(self.waited).min(in_all);
                let piece = tokio::time::timeout(patience, more)
                    .await
                    .map_err(|_| Stopped::ByClient)?;
                self.waited += began.elapsed();
                piece
            }
        };
        let piece = piece.map_err(Stopped::NoMessage)?;
        self.since += piece.len();
        if self.since >= FOR_BYTES {
            (self.since, self.waited) = (0, Duration::ZERO);
        }
        Ok(piece)
    }
}
