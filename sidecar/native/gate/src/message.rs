//! ModelInfer requests and responses of the usual kind: raw contents, no parameters.
//!
//! Source: Open Inference Protocol v2, "ModelInfer".

use crate::Unusual;
use crate::datatype::Datatype;
use crate::tables::Tensor;
use crate::wire::{Field, Fields, Payload};

/// Of tensors in a message, inputs or outputs; there are more in no usual one.
pub(crate) const MAX_TENSORS: usize = 16;

/// Of dimensions of a tensor.
pub(crate) const MAX_DIMENSIONS: usize = 8;

/// Of fields at the top of a request.
const MAX_FIELDS: usize = 128;

/// Bytes of a field that is no tensor's contents.
const MAX_STRUCTURE: usize = 4096;

const RAW_INPUT_CONTENTS: u8 = 7;

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
    described: Short<Described<'a>, MAX_TENSORS>,
    raw: Short<&'a [u8], MAX_TENSORS>,
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
        self.0 += 1;
        let is_large = matches!(field.payload, Payload::Bytes(bytes) if bytes.len() > MAX_STRUCTURE);
        if self.0 > MAX_FIELDS || (is_large && field.number != RAW_INPUT_CONTENTS) {
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

impl<'a> Tensors<'a> {
    /// Decode the tensors that the gates look at into `rows`, after `first` columns of `width` in all.
    ///
    /// `count` is how many rows there must be; None for any number from 1 to `limit`. Returns it, and resizes `rows`,
    /// whose further columns are left as they are.
    pub fn rows(
        &self,
        specs: &[Tensor],
        batched: bool,
        count: Option<usize>,
        limit: usize,
        layout: Layout,
        rows: &mut Vec<f64>,
    ) -> Result<usize, Unusual> {
        self.refuse_doubled()?;
        let places = specs.iter().map(|spec| self.place(spec));
        let mut found: Short<usize, MAX_TENSORS> = Short::default();
        let mut agreed = count;
        for (place, spec) in places.zip(specs) {
            let place = place?;
            let rows = self.count(place, spec, batched)?;
            if rows > limit || agreed.is_some_and(|count| count != rows) {
                return Err(Unusual::Tensors);
            }
            agreed = Some(rows);
            found.push(place)?;
        }
        let count = agreed.ok_or(Unusual::Tensors)?;
        rows.resize(count * layout.width, 1.0);
        let mut first = layout.first;
        for (&place, spec) in found.as_slice().iter().zip(specs) {
            let raw = self.raw.as_slice()[place].chunks_exact(spec.row_bytes);
            for (row, raw) in rows.chunks_exact_mut(layout.width).zip(raw) {
                if !spec.datatype.decode(raw, &mut row[first..first + spec.row_size]) {
                    return Err(Unusual::NotFinite);
                }
            }
            first += spec.row_size;
        }
        Ok(count)
    }

    #[cfg(test)]
    pub fn described(&self) -> &[Described<'a>] {
        self.described.as_slice()
    }

    #[cfg(test)]
    pub fn raw(&self) -> &[&'a [u8]] {
        self.raw.as_slice()
    }

    fn refuse_doubled(&self) -> Result<(), Unusual> {
        let tensors = self.described.as_slice();
        if self.raw.length != tensors.len() {
            return Err(Unusual::Tensors);
        }
        for (at, tensor) in tensors.iter().enumerate() {
            if tensors[..at].iter().any(|other| other.name == tensor.name) {
                return Err(Unusual::Tensors);
            }
        }
        Ok(())
    }

    fn place(&self, spec: &Tensor) -> Result<usize, Unusual> {
        self.described
            .as_slice()
            .iter()
            .position(|tensor| tensor.name == spec.name)
            .ok_or(Unusual::Tensors)
    }

    /// How many rows a tensor has, by its shape and by the length of its contents.
    fn count(&self, place: usize, spec: &Tensor, batched: bool) -> Result<usize, Unusual> {
        let tensor = &self.described.as_slice()[place];
        let shape = tensor.shape.as_slice();
        let (rows, row_shape) = match (batched, shape.split_first()) {
            (true, Some((&rows, rest))) => (rows, rest),
            (true, None) => return Err(Unusual::Tensors),
            (false, _) => (1, shape),
        };
        let length = self.raw.as_slice()[place].len() as u64;
        if Datatype::from_name(tensor.datatype) != Some(spec.datatype)
            || row_shape != spec.row_shape
            || rows < 1
            || rows.checked_mul(spec.row_bytes as u64) != Some(length)
        {
            return Err(Unusual::Tensors);
        }
        usize::try_from(rows).map_err(|_| Unusual::Tensors)
    }
}

/// Where decoded values go in a row: after `first` columns, of `width`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub first: usize,
    pub width: usize,
}
