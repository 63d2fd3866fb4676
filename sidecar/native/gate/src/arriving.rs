//! A request that is looked at while it arrives: one whose raw contents come last, as writers usually write them, so
//! that its beginning says everything but their values.
//!
//! It comes to the same plan as the whole request does, or to none.

use crate::Unusual;
use crate::decide::{Plan, find, plan};
use crate::message::{MAX_TENSORS, RAW_INPUT_CONTENTS, Request, Short, read_request};
use crate::model::{Input, Model};
use crate::scan::{Position, Scan};
use crate::wire::Fields;

/// A raw content's tag and length, and how many bytes they take: a tag of one byte, and up to nine of the length.
type Head = ([u8; 10], usize);

/// The beginning of a request.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// All fields before the first raw contents.
    pub request: Request<'a>,
    /// The bytes from there on.
    pub contents: &'a [u8],
    /// How long the contents will be, with tags and lengths.
    length: usize,
}

/// A request of which the raw contents are still to come, or some of them.
#[derive(Clone, Debug)]
pub struct Arriving {
    scan: Scan,
    count: usize,
    is_proved: bool,
    /// By the message's order: which input it is, how it begins, and how long it is.
    contents: Short<(usize, Head, usize), MAX_TENSORS>,
    /// Where we are in them.
    at: usize,
    in_head: usize,
    in_contents: usize,
    position: Position,
}

impl<'a> Beginning<'a> {
    /// The beginning of a message of `length` bytes, of which `first` are the first ones; None where it must be looked
    /// at as a whole.
    pub fn read(first: &'a [u8], length: usize) -> Option<Self> {
        let mut fields = Fields::of(first);
        while !fields.is_at_bytes(RAW_INPUT_CONTENTS) {
            fields.next().ok()??;
        }
        let contents = fields.rest();
        let (structure, _) = first.split_at(first.len() - contents.len());
        Some(Beginning {
            request: read_request(structure).ok()?,
            contents,
            length: length.checked_sub(structure.len())?,
        })
    }
}

impl Arriving {
    /// Nothing of the contents was looked at yet; None where the request must be looked at as a whole: what it says of
    /// its tensors does not come to its length, or is no usual request to this model.
    pub fn begin(model: &Model, beginning: &Beginning<'_>) -> Option<Self> {
        let request = &beginning.request;
        let tensors = request.tensors.described.as_slice();
        let mut contents = Short::default();
        let mut lengths: Short<usize, MAX_TENSORS> = Short::default();
        let mut left = beginning.length;
        for tensor in tensors {
            let known = |input: &Input| input.looked.tensor.name == tensor.name;
            let input = model.inputs.iter().position(known)?;
            let rows = if model.batched {
                *tensor.shape.as_slice().first()?
            } else {
                1
            };
            let row_bytes = model.inputs[input].looked.tensor.row_bytes;
            let length = usize::try_from(rows).ok()?.checked_mul(row_bytes)?;
            left = left.checked_sub(length)?;
            let head = head(length);
            left = left.checked_sub(head.1)?;
            contents.push((input, head, length)).ok()?;
            lengths.push(length).ok()?;
        }
        let found = find(model, request, lengths.as_slice()).ok().filter(|_| left == 0)?;
        Some(Arriving {
            scan: Scan::new(model, found.count),
            count: found.count,
            is_proved: model.is_proved(request.model_version),
            contents,
            at: 0,
            in_head: 0,
            in_contents: 0,
            position: Position::default(),
        })
    }

    /// Look at the next bytes of the contents.
    ///
    /// # Errors
    /// The Python functions must check the request.
    pub fn feed(&mut self, model: &Model, mut bytes: &[u8]) -> Result<(), Unusual> {
        while !bytes.is_empty() {
            let &(input, (head, head_length), length) =
                self.contents.as_slice().get(self.at).ok_or(Unusual::Encoding)?;
            let missing = &head[self.in_head..head_length];
            let (now, later) = bytes.split_at(bytes.len().min(missing.len()));
            if !missing.starts_with(now) {
                return Err(Unusual::Encoding);
            }
            self.in_head += now.len();
            let (now, later) = later.split_at(later.len().min(length - self.in_contents));
            self.scan.feed(model, input, &mut self.position, now)?;
            self.in_contents += now.len();
            if self.in_contents == length {
                (self.at, self.in_head, self.in_contents) = (self.at + 1, 0, 0);
                self.position = Position::default();
            }
            bytes = later;
        }
        Ok(())
    }

    /// All of it was looked at.
    ///
    /// # Errors
    /// As [`Arriving::feed`]; or it was not all.
    pub fn end(self, model: &Model) -> Result<Plan, Unusual> {
        if self.at < self.contents.as_slice().len() {
            return Err(Unusual::Encoding);
        }
        plan(model, self.scan, self.count, self.is_proved)
    }
}

/// In as few bytes as it takes: what readers of numbers here insist on.
fn head(length: usize) -> Head {
    let mut head = [0; 10];
    head[0] = RAW_INPUT_CONTENTS << 3 | 2;
    let (mut left, mut at) = (length, 1);
    while left > 0x7f {
        head[at] = left as u8 | 0x80;
        (left, at) = (left >> 7, at + 1);
    }
    head[at] = left as u8;
    (head, at + 1)
}
