//! ModelInfer requests and responses of the usual kind: raw contents, no parameters.
//!
//! Source: Open Inference Protocol v2, "ModelInfer".

use crate::Unusual;
use crate::wire::{Field, Fields, Payload};

/// Of tensors in a message, inputs or outputs; there are more in no usual one.
pub(crate) const MAX_TENSORS: usize = 16;

/// Of dimensions of a tensor.
pub(crate) const MAX_DIMENSIONS: usize = 8;

/// Of fields at the top of a request, beside contents.
const MAX_FIELDS: usize = 128;

/// Bytes of a field that is no tensor's contents.
const MAX_STRUCTURE: usize = 4096;

pub(crate) const RAW_INPUT_CONTENTS: u8 = 7;

/// A list of at most `N`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short<T, const N: usize> {
    items: [T; N],
    length: usize,
}

impl<T: Copy + Default, const N: usize> Default for Short<T, N> {
    fn default() -> Self {
        Short {
            items: [T::default(); N],
            length: 0,
        }
    }
}

impl<T: Copy, const N: usize> Short<T, N> {
    pub fn push(&mut self, item: T) -> Result<(), Unusual> {
        *self.items.get_mut(self.length).ok_or(Unusual::Size)? = item;
        self.length += 1;
        Ok(())
    }

    pub fn as_slice(&self) -> &[T] {
        &self.items[..self.length]
    }

    pub fn map<U: Copy + Default>(&self, of: impl Fn(&T) -> U) -> Short<U, N> {
        let mut mapped = Short {
            length: self.length,
            ..Short::default()
        };
        for (to, from) in mapped.items.iter_mut().zip(self.as_slice()) {
            *to = of(from);
        }
        mapped
    }
}

/// A tensor without its contents.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Described<'a> {
    pub name: &'a str,
    pub datatype: &'a str,
    pub shape: Short<u64, MAX_DIMENSIONS>,
}

/// The tensors of a message, and their raw contents.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tensors<'a> {
    pub described: Short<Described<'a>, MAX_TENSORS>,
    pub raw: Short<&'a [u8], MAX_TENSORS>,
}

/// A request that may be ordinary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The model asked for.
    pub model_name: &'a str,
    /// Its version; empty where the client named none.
    pub model_version: &'a str,
    pub(crate) tensors: Tensors<'a>,
    pub(crate) asked: Short<&'a str, MAX_TENSORS>,
}

/// A response that may be ordinary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Response<'a> {
    pub model_version: &'a str,
    pub tensors: Tensors<'a>,
}

/// Read a request's bytes.
///
/// # Errors
/// [`Unusual`] where anything in them is not of the usual kind.
pub fn read_request(message: &[u8]) -> Result<Request<'_>, Unusual> {
    let mut request = Request::default();
    let (mut texts, mut bulk) = (Once::default(), Bulk::default());
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        bulk.refuse(&field)?;
        match field.number {
            1 => request.model_name = texts.first(1, field.payload)?,
            2 => request.model_version = texts.first(2, field.payload)?,
            3 => _ = texts.first(3, field.payload)?,
            4 => parameter(field.payload.bytes()?)?,
            5 => request
                .tensors
                .described
                .push(described(field.payload.bytes()?, false)?)?,
            6 => request.asked.push(asked(field.payload.bytes()?)?)?,
            RAW_INPUT_CONTENTS => request.tensors.raw.push(field.payload.bytes()?)?,
            _ => return Err(Unusual::Field),
        }
    }
    Ok(request)
}

/// Read a response's bytes.
pub(crate) fn read_response(message: &[u8]) -> Result<Response<'_>, Unusual> {
    let mut response = Response::default();
    let mut texts = Once::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 | 3 => _ = texts.first(field.number, field.payload)?,
            2 => response.model_version = texts.first(2, field.payload)?,
            4 => parameter(field.payload.bytes()?)?,
            5 => response
                .tensors
                .described
                .push(described(field.payload.bytes()?, true)?)?,
            6 => response.tensors.raw.push(field.payload.bytes()?)?,
            _ => return Err(Unusual::Field),
        }
    }
    Ok(response)
}

/// Large messages of anything but tensors are for Python to look into: it bounds what they cost.
#[derive(Default)]
struct Bulk(usize);

impl Bulk {
    fn refuse(&mut self, field: &Field<'_>) -> Result<(), Unusual> {
        if field.number == RAW_INPUT_CONTENTS {
            return Ok(());
        }
        self.0 += 1;
        let is_large = matches!(field.payload, Payload::Bytes(bytes) if bytes.len() > MAX_STRUCTURE);
        if self.0 > MAX_FIELDS || is_large {
            return Err(Unusual::Size);
        }
        Ok(())
    }
}

/// Sees that a field that means one value stands in a message at most once.
#[derive(Default)]
struct Once(u8);

impl Once {
    fn first<'a>(&mut self, number: u8, payload: Payload<'a>) -> Result<&'a str, Unusual> {
        self.mark(number)?;
        payload.text()
    }

    fn mark(&mut self, number: u8) -> Result<(), Unusual> {
        let bit = 1 << number;
        if self.0 & bit != 0 {
            return Err(Unusual::Encoding);
        }
        self.0 |= bit;
        Ok(())
    }
}

/// A tensor. One of an answer may have parameters, which nobody looks into.
fn described(message: &[u8], is_answer: bool) -> Result<Described<'_>, Unusual> {
    let mut tensor = Described::default();
    let mut once = Once::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.payload) {
            (1, text) => tensor.name = once.first(1, text)?,
            (2, text) => tensor.datatype = once.first(2, text)?,
            (3, Payload::Number(size)) => tensor.shape.push(size)?,
            // A list of none says nothing, any number of times: that would be much to look at for what it is.
            (3, Payload::Bytes(packed)) if !packed.is_empty() => {
                let mut numbers = Fields::of(packed);
                while !numbers.is_empty() {
                    tensor.shape.push(numbers.number()?)?;
                }
            }
            (4, entry) if is_answer => parameter(entry.bytes()?)?,
            // MLServer writes typed contents without anything in them beside raw ones.
            (5, Payload::Bytes(b"")) if is_answer => {}
            _ => return Err(Unusual::Field),
        }
    }
    Ok(tensor)
}

/// An entry of a map of parameters: nobody looks into it, but it must be one.
fn parameter(entry: &[u8]) -> Result<(), Unusual> {
    let mut once = Once::default();
    let mut fields = Fields::of(entry);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => _ = once.first(1, field.payload)?,
            2 => {
                once.mark(2)?;
                value(field.payload.bytes()?)?;
            }
            _ => return Err(Unusual::Field),
        }
    }
    Ok(())
}

fn value(message: &[u8]) -> Result<(), Unusual> {
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match (field.number, field.payload) {
            (1 | 2 | 5, Payload::Number(_)) | (4, Payload::Fixed64) => {}
            (3, text) => _ = text.text()?,
            _ => return Err(Unusual::Field),
        }
    }
    Ok(())
}

fn asked(message: &[u8]) -> Result<&str, Unusual> {
    let mut name = "";
    let mut once = Once::default();
    let mut fields = Fields::of(message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = once.first(1, field.payload)?,
            _ => return Err(Unusual::Field),
        }
    }
    Ok(name)
}
