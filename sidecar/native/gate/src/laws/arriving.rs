//! A request that is looked at while it arrives comes to what it comes to as a whole, or to none.

use crate::{Arriving, Beginning, Model, Plan, Unusual, admit, read_request};

/// The plan of a message as a whole.
///
/// # Errors
/// It is not usual.
pub fn whole(model: &Model, message: &[u8]) -> Result<Plan, Unusual> {
    admit(model, &read_request(message)?)
}

/// The plan of a message of which the first `first` bytes are there at once, and the others in pieces of any sizes;
/// None where it has to be looked at as a whole.
///
/// # Panics
/// It is not that of the whole message, or there is one before all of the message was there.
pub fn arrived(
    model: &Model,
    message: &[u8],
    first: usize,
    mut size: impl FnMut() -> usize,
) -> Option<Result<Plan, Unusual>> {
    let (first, mut left) = message.split_at(first);
    let beginning = Beginning::read(first, message.len())?;
    let mut arriving = Arriving::begin(model, &beginning)?;
    let mut fed = arriving.feed(model, beginning.contents);
    while fed.is_ok() && !left.is_empty() {
        let (now, later) = left.split_at(left.len().min(size().max(1)));
        if later.is_empty() {
            let early = arriving.clone().end(model);
            assert!(early.is_err(), "admitted before all of it was there: {early:?}");
        }
        fed = arriving.feed(model, now);
        left = later;
    }
    let found = fed.and_then(|()| arriving.end(model));
    let expected = whole(model, message);
    match &found {
        Ok(_) => assert_eq!(found, expected),
        Err(_) => assert!(expected.is_err(), "{found:?}, as a whole {expected:?}"),
    }
    Some(found)
}
