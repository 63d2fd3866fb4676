//! What is read of a message is what a general reader of protobuf reads, which takes whatever protobuf allows.

use super::build::{field, number};
use super::random::Random;
use crate::message::{Tensors, read_response};
use crate::read_request;

#[derive(Debug, Default, PartialEq)]
struct Read {
    model_name: Vec<u8>,
    model_version: Vec<u8>,
    tensors: Vec<(Vec<u8>, Vec<u8>, Vec<u64>)>,
    raw: Vec<Vec<u8>>,
    asked: Vec<Vec<u8>>,
}

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Other,
}

/// The general reader: (field, value) pairs, or None where they end in the middle.
fn pairs(mut rest: &[u8]) -> Option<Vec<(u64, Value)>> {
    let mut found = vec![];
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => other(&mut rest, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                Value::Bytes(bytes.to_vec())
            }
            5 => other(&mut rest, 4)?,
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    Some(found)
}

fn other(rest: &mut &[u8], length: usize) -> Option<Value> {
    *rest = rest.get(length..)?;
    Some(Value::Other)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn varints(mut rest: &[u8]) -> Option<Vec<u64>> {
    let mut found = vec![];
    while !rest.is_empty() {
        found.push(varint(&mut rest)?);
    }
    Some(found)
}

fn read(message: &[u8], is_request: bool) -> Option<Read> {
    let mut read = Read::default();
    for (at, value) in pairs(message)? {
        match (at, value) {
            (1, Value::Bytes(bytes)) => read.model_name = bytes,
            (2, Value::Bytes(bytes)) => read.model_version = bytes,
            (5, Value::Bytes(bytes)) => read.tensors.push(read_tensor(&bytes)?),
            (6, Value::Bytes(bytes)) if is_request => {
                let mut name = vec![];
                for (at, value) in pairs(&bytes)? {
                    if let (1, Value::Bytes(bytes)) = (at, value) {
                        name = bytes;
                    }
                }
                read.asked.push(name);
            }
            (6 | 7, Value::Bytes(bytes)) if (at == 7) == is_request => read.raw.push(bytes),
            _ => {}
        }
    }
    if !is_request {
        read.model_name.clear(); // nobody needs it
    }
    Some(read)
}

fn read_tensor(message: &[u8]) -> Option<(Vec<u8>, Vec<u8>, Vec<u64>)> {
    let (mut name, mut datatype, mut shape) = (vec![], vec![], vec![]);
    for (at, value) in pairs(message)? {
        match (at, value) {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => datatype = bytes,
            (3, Value::Number(size)) => shape.push(size),
            (3, Value::Bytes(bytes)) => shape.extend(varints(&bytes)?),
            _ => {}
        }
    }
    Some((name, datatype, shape))
}

fn of_tensors(tensors: &Tensors<'_>) -> Read {
    let tuples = tensors.described.as_slice().iter().map(|tensor| {
        (
            tensor.name.into(),
            tensor.datatype.into(),
            tensor.shape.as_slice().to_vec(),
        )
    });
    Read {
        tensors: tuples.collect(),
        raw: tensors.raw.as_slice().iter().map(|raw| raw.to_vec()).collect(),
        ..Read::default()
    }
}

fn ours(message: &[u8], is_request: bool) -> Option<Read> {
    if is_request {
        let request = read_request(message).ok()?;
        return Some(Read {
            model_name: request.model_name.into(),
            model_version: request.model_version.into(),
            asked: request.asked.as_slice().iter().map(|name| (*name).into()).collect(),
            ..of_tensors(&request.tensors)
        });
    }
    let response = read_response(message).ok()?;
    Some(Read {
        model_version: response.model_version.into(),
        ..of_tensors(&response.tensors)
    })
}

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
        let mut usual = 0;
        for _ in 0..rounds {
            let message = some_message(&mut random);
            if let Some(found) = ours(&message, is_request) {
                usual += 1;
                let mut expected = read(&message, is_request).expect("what is usual is a message");
                if !is_request {
                    expected.asked.clear();
                }
                assert_eq!(found, expected, "{message:?}");
            }
        }
        assert!(usual > rounds / 20, "{usual} of {rounds}");
    }
}

#[test]
fn bytes_of_any_kind_are_read_or_handed_over() {
    let mut random = Random::of(4);
    for _ in 0..if cfg!(miri) { 300 } else { 40_000 } {
        let bytes: Vec<u8> = (0..random.below(24)).map(|_| random.bits() as u8 & 0x3f).collect();
        for is_request in [true, false] {
            if let Some(found) = ours(&bytes, is_request) {
                assert_eq!(Some(found), read(&bytes, is_request), "{bytes:?}");
            }
        }
    }
}
