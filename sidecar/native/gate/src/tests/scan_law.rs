//! Messages of all kinds, as `laws::messages` holds them to what a general reader of protobuf reads.

use crate::laws::build::{field, number};
use crate::laws::messages::is_usual;
use crate::laws::random::Random;

/// A number, now and then in more bytes than it takes.
fn some_number(random: &mut Random, value: u64) -> Vec<u8> {
    let mut bytes = number(value);
    if random.chance(40) {
        *bytes.last_mut().expect("a byte") |= 0x80;
        bytes.push(0);
    }
    bytes
}

fn some_field(random: &mut Random, at: u8, payload: &[u8]) -> Vec<u8> {
    let length = some_number(random, payload.len() as u64);
    [vec![at << 3 | 2], length, payload.to_vec()].concat()
}

fn some_text(random: &mut Random) -> Vec<u8> {
    random
        .pick(&[&b""[..], b"x", b"FP32", "ö".as_bytes(), b"model", b"\xff"])
        .to_vec()
}

fn some_tensor(random: &mut Random) -> Vec<u8> {
    let mut message = vec![];
    for _ in 0..random.below(5) {
        let piece = match random.below(9) {
            0 | 1 => field(1, &some_text(random)),
            2 | 3 => field(2, &some_text(random)),
            4 => {
                let size = random.bits() >> random.below(64);
                [vec![3 << 3], some_number(random, size)].concat()
            }
            5 | 6 => {
                let sizes: Vec<u8> = (0..random.below(4)).flat_map(|_| some_number(random, 300)).collect();
                field(3, &sizes)
            }
            7 => field(4, &field(1, &some_text(random))),
            _ => field(5, b""),
        };
        message.extend(piece);
    }
    message
}

fn some_message(random: &mut Random) -> Vec<u8> {
    let mut message = vec![];
    for _ in 0..random.below(8) {
        let (at, payload) = match random.below(8) {
            0 => (1, some_text(random)),
            1 => (2, some_text(random)),
            2 => (3, some_text(random)),
            3 => (4, [field(1, &some_text(random)), field(2, b"\x08\x01")].concat()),
            4 | 5 => (5, some_tensor(random)),
            6 => (6, field(1, &some_text(random))),
            _ => (7, some_text(random)),
        };
        message.extend(some_field(random, at, &payload));
    }
    if random.chance(4) && !message.is_empty() {
        let at = random.below(message.len());
        match random.below(3) {
            0 => message[at] = random.bits() as u8,
            1 => message.truncate(at),
            _ => message.insert(at, random.bits() as u8),
        }
    }
    message
}

#[test]
fn what_is_read_is_what_a_general_reader_reads() {
    let rounds = if cfg!(miri) { 300 } else { 40_000 };
    for is_request in [true, false] {
        let mut random = Random::of(3);
        let usual = (0..rounds)
            .filter(|_| is_usual(&some_message(&mut random), is_request))
            .count();
        assert!(usual > rounds / 20, "{usual} of {rounds}");
    }
}

#[test]
fn bytes_of_any_kind_are_read_or_handed_over() {
    let mut random = Random::of(4);
    for _ in 0..if cfg!(miri) { 300 } else { 40_000 } {
        let bytes: Vec<u8> = (0..random.below(24)).map(|_| random.bits() as u8 & 0x3f).collect();
        for is_request in [true, false] {
            is_usual(&bytes, is_request);
        }
    }
}
