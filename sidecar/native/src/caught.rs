//! Panics end where they happen: at one call, or at one connection.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// The future panicked; it was dropped where it stood.
#[derive(Clone, Copy, Debug)]
pub struct Panicked;

/// Run a future to its end, or to its panic. Pinned by the caller: a future that is handed over by value would stand in
/// this one twice, and calls are copied to where they run.
///
/// # Errors
/// It panicked. What it changed through references is as it left it: the caller may end it, and do nothing else.
pub async fn caught<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        },
    )
    .await
}

/// Panic here when a test wants it: the call's `panic-at` names the stage.
#[cfg(test)]
pub fn stage(headers: &http::HeaderMap, name: &str) {
    if headers.get("panic-at").is_some_and(|value| value == name) {
        panic!("injected at {name}");
    }
}

#[cfg(not(test))]
#[inline(always)]
pub fn stage(_: &http::HeaderMap, _: &str) {}
