//! A request that is looked at while it arrives comes to what it comes to as a whole.

use crate::laws::arriving::{self as law, whole};
use crate::laws::build::{at_least, field, gate, model, number, parts, request, strip, tensor};
use crate::laws::random::Random;
use crate::laws::wide::{message, some_rows, wide};
use crate::{Arriving, Beginning, Model, Plan, Unusual};

/// In pieces of some sizes.
fn arrived(model: &Model, message: &[u8], first: usize, random: &mut Random) -> Option<Result<Plan, Unusual>> {
    law::arrived(model, message, first, || {
        let most = random.pick(&[1, 3, 100, 30_000]);
        1 + random.below(most)
    })
}

/// Where the contents begin.
fn structure(message: &[u8]) -> usize {
    let beginning = Beginning::read(message, message.len()).expect("contents come last");
    message.len() - beginning.contents.len()
}

#[test]
fn the_plan_is_that_of_the_whole_request() {
    let (model, mut random) = (wide(), Random::of(8));
    let mut seen = [0; 3];
    for round in 0..if cfg!(miri) { 2 } else { 300 } {
        let mut message = message(&some_rows(&mut random));
        let structure = structure(&message);
        if round % 2 == 1 {
            let any = structure + random.below(message.len() - structure);
            let at = random.pick(&[structure, structure + 1, any]);
            message[at] = random.bits() as u8;
        }
        let first = structure + 1 + random.below(100);
        match arrived(&model, &message, first, &mut random) {
            None => seen[0] += 1, // it does not begin as contents do
            Some(Ok(_)) => seen[1] += 1,
            Some(Err(_)) => seen[2] += 1,
        }
    }
    assert!(cfg!(miri) || seen.iter().all(|&count| count > 5), "{seen:?}");
}

#[test]
fn small_messages_come_to_the_same_at_every_cut() {
    let model = model(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    let rows = [[0.5, 1.0, 2.0], [7.0, 0.0, 0.0], [1.0, 0.25, -3.0]];
    let message = request(&rows).bytes();
    let expected = whole(&model, &message);
    assert!(expected.as_ref().is_ok_and(|plan| plan.is_watched));
    for first in structure(&message) + 1..=message.len() {
        assert_eq!(
            arrived(&model, &message, first, &mut Random::of(9)),
            Some(expected.clone())
        );
    }
    for first in 0..=structure(&message) {
        assert_eq!(arrived(&model, &message, first, &mut Random::of(9)), None, "{first}");
    }
}

#[test]
fn what_is_not_all_there_is_not_admitted() {
    let model = model(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    let message = request(&[[0.5, 1.0, 2.0]]).bytes();
    for missing in 1..message.len() - structure(&message) {
        let (here, _) = message.split_at(message.len() - missing);
        let beginning = Beginning::read(here, message.len()).expect("contents come last");
        let mut arriving = Arriving::begin(&model, &beginning).expect("usual");
        assert_eq!(arriving.feed(&model, beginning.contents), Ok(()));
        assert_eq!(arriving.end(&model), Err(Unusual::Encoding), "{missing}");
    }
    let beginning = Beginning::read(&message, message.len()).expect("contents come last");
    let mut arriving = Arriving::begin(&model, &beginning).expect("usual");
    assert_eq!(arriving.feed(&model, beginning.contents), Ok(()));
    assert_eq!(arriving.feed(&model, b"x"), Err(Unusual::Encoding), "more than it said");
}

#[test]
fn unusual_requests_are_looked_at_as_a_whole() {
    let model = model(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    let row = [[0.5, 1.0, 2.0]];
    let [name, x, w, raw_x, raw_w] = <[Vec<u8>; 5]>::try_from(request(&row).0).expect("five fields");
    let other = [field(5, &tensor("other", "BYTES", &[1])), field(7, b"")];
    let x_of = |shape: &[u64]| field(5, &tensor("x", "FP32", shape));
    for (message, why) in [
        (vec![&name, &x, &w, &raw_x, &raw_w], None),
        (vec![&name, &w, &x, &raw_w, &raw_x], None),
        (
            vec![&name, &x, &w, &raw_x, &raw_w, &field(3, b"id")],
            Some("a field comes after the contents"),
        ),
        (
            vec![&name, &x, &raw_x, &w, &raw_w],
            Some("a tensor comes after contents"),
        ),
        (
            vec![&name, &x, &w, &other[0], &raw_x, &raw_w, &other[1]],
            Some("a tensor that nobody knows"),
        ),
        (vec![&name, &x, &w, &raw_x], Some("contents are missing")),
        (vec![&name, &x, &w], Some("there are no contents")),
        (vec![&name, &x, &raw_x], Some("a tensor is missing")),
        (vec![&name, &x, &x, &raw_x, &raw_x], Some("a tensor is there twice")),
        (vec![&name, &x_of(&[1, 3]), &w, &raw_x, &raw_w], Some("another shape")),
        (vec![&name, &x_of(&[2, 2]), &w, &raw_x, &raw_w], Some("more rows")),
        (vec![&name, &x_of(&[]), &w, &raw_x, &raw_w], Some("no shape")),
        (
            vec![&name, &x_of(&[1 << 62, 2]), &w, &raw_x, &raw_w],
            Some("more than there is memory"),
        ),
        (
            vec![&name, &x_of(&[1 << 40, 2]), &w, &raw_x, &raw_w],
            Some("more than it has bytes"),
        ),
        (
            vec![&name, &field(9, b""), &x, &w, &raw_x, &raw_w],
            Some("a field that nobody knows"),
        ),
        (
            vec![&name, &field(6, &field(1, b"y")), &x, &w, &raw_x, &raw_w],
            Some("an output that gates need is missing"),
        ),
    ] {
        let message: Vec<u8> = message.into_iter().flatten().copied().collect();
        let first = message.len().min(message.len() - raw_w.len() + 1);
        let found = arrived(&model, &message, first, &mut Random::of(1));
        assert_eq!(found.is_none(), why.is_some(), "{why:?}");
    }
    let seventeen = [&x, &w, &other[0]].map(|field| field.repeat(6)).concat();
    assert!(arrived(&model, &[name, seventeen, raw_x].concat(), 300, &mut Random::of(1)).is_none());
}

#[test]
fn a_model_without_batches_has_one_row() {
    let mut parts = parts(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    parts.batched = false;
    let model = Model::new(parts).expect("a model");
    let mut message = request(&[[0.5, 1.0, 2.0]]);
    message.0[1] = field(5, &tensor("x", "FP32", &[2]));
    message.0[2] = field(5, &tensor("w", "FP64", &[]));
    let bytes = message.bytes();
    let found = arrived(&model, &bytes, bytes.len() - 3, &mut Random::of(1));
    assert_eq!(found, Some(whole(&model, &bytes)));
}

#[test]
fn lengths_of_more_bytes_than_they_take_are_not_what_was_expected() {
    let model = model(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    let mut message = request(&[[0.5, 1.0, 2.0]]);
    message.0[3] = [vec![7 << 3 | 2, 0x88, 0x00], vec![0; 8]].concat();
    let bytes = message.bytes();
    assert!(arrived(&model, &bytes, bytes.len() - 3, &mut Random::of(1)).is_none());
    assert_eq!(number(8), [8]);
}
