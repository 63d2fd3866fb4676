//! What is read of a message is what a general reader of protobuf reads, which takes whatever protobuf allows.

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

/// What others read of a message.
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

/// Whether a message is read here, and not handed over.
///
/// # Panics
/// Something else is read of it than the general reader reads.
pub fn is_usual(message: &[u8], is_request: bool) -> bool {
    let Some(found) = ours(message, is_request) else {
        return false;
    };
    assert_eq!(Some(found), read(message, is_request), "{message:?}");
    true
}
