//! A request in any pieces comes to what it comes to as a whole.
#![no_main]

use std::sync::LazyLock;

use gate::Model;
use gate::laws::arriving::arrived;
use gate::laws::build::{INPUTS, at_least, field, gate, model, request, strip, tensor};
use gate::laws::random::Random;
use gate::laws::wide;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    message: Message<'a>,
    /// Places, and the bytes that go there.
    changes: Vec<(u16, u8)>,
    /// How much is there at once: so many bytes fewer than all.
    later: u16,
    sizes: Vec<u16>,
}

#[derive(Arbitrary, Debug)]
enum Message<'a> {
    /// Of small rows, with fields in any order, missing or doubled; none: in their own.
    Rows(Vec<[f32; INPUTS]>, Vec<u8>),
    /// Of rows longer than what is looked at together.
    Wide(u64),
    Bytes(&'a [u8]),
}

static SMALL: LazyLock<Model> = LazyLock::new(|| model(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]));
static WIDE: LazyLock<Model> = LazyLock::new(wide::wide);

fuzz_target!(|case: Case<'_>| {
    let (model, mut message): (&Model, _) = match case.message {
        Message::Rows(rows, order) => (&SMALL, small(&rows, &order)),
        Message::Wide(seed) => (&WIDE, wide::message(&wide::some_rows(&mut Random::of(seed)))),
        Message::Bytes(bytes) => (&SMALL, bytes.to_vec()),
    };
    for (place, byte) in case.changes {
        if let Some(there) = message.get_mut(usize::from(place)) {
            *there = byte;
        }
    }
    let first = message.len().saturating_sub(usize::from(case.later));
    let mut sizes = case.sizes.iter().copied().cycle();
    arrived(model, &message, first, || sizes.next().map_or(1000, usize::from));
});

fn small(rows: &[[f32; INPUTS]], order: &[u8]) -> Vec<u8> {
    let rows: Vec<_> = rows.iter().take(6).map(|row| row.map(f64::from)).collect();
    let mut fields = request(&rows).0;
    if order.is_empty() {
        return fields.concat();
    }
    fields.extend([
        field(2, b"1"),
        field(3, b"id"),
        field(5, &tensor("other", "BYTES", &[1])),
        field(6, &field(1, b"y")),
        field(6, &field(1, b"z")),
        field(7, b"value"),
    ]);
    let chosen = order
        .iter()
        .take(20)
        .map(|&at| fields[usize::from(at) % fields.len()].as_slice());
    chosen.collect::<Vec<_>>().concat()
}
