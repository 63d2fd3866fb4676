//! Which tensors of a message are those that the gates look at, and how many rows they have.

use crate::Unusual;
use crate::columns::Looked;
use crate::datatype::Datatype;
use crate::message::{MAX_TENSORS, Short, Tensors};
use crate::tables::Tensor;

/// The tensors of a message that the gates look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// How many rows they have, each.
    pub count: usize,
    /// By the model's own order: where they stand in the message.
    pub places: Short<usize, MAX_TENSORS>,
}

impl Tensors<'_> {
    /// Find tensors. `lengths`: of the contents, in the message's order; `count`: how many rows there must be, None for
    /// any number from 1 to `limit`.
    pub fn find<'s>(
        &self,
        specs: impl Iterator<Item = &'s Tensor>,
        lengths: &[usize],
        batched: bool,
        count: Option<usize>,
        limit: usize,
    ) -> Result<Found, Unusual> {
        self.refuse_doubled(lengths.len())?;
        let mut places = Short::default();
        let mut agreed = count;
        for spec in specs {
            let place = self.place(spec)?;
            let rows = self.count(place, lengths[place], spec, batched)?;
            if rows > limit || agreed.is_some_and(|count| count != rows) {
                return Err(Unusual::Tensors);
            }
            agreed = Some(rows);
            places.push(place)?;
        }
        Ok(Found {
            count: agreed.ok_or(Unusual::Tensors)?,
            places,
        })
    }

    /// How long the contents are that are here.
    pub fn lengths(&self) -> Short<usize, MAX_TENSORS> {
        self.raw.map(|raw| raw.len())
    }

    /// Keep what is to be kept of an answer's tensors, of which there must be `rows.len() / width` rows.
    pub fn take(
        &self,
        outputs: &[Looked],
        batched: bool,
        limit: usize,
        width: usize,
        rows: &mut [f64],
    ) -> Result<(), Unusual> {
        let specs = outputs.iter().map(|output| &output.tensor);
        let lengths = self.lengths();
        let found = self.find(specs, lengths.as_slice(), batched, Some(rows.len() / width), limit)?;
        for (output, &place) in outputs.iter().zip(found.places.as_slice()) {
            let raw = self.raw.as_slice()[place].chunks_exact(output.tensor.row_bytes);
            for (row, raw) in rows.chunks_exact_mut(width).zip(raw) {
                output.take(0, raw, row)?;
            }
        }
        Ok(())
    }

    fn refuse_doubled(&self, contents: usize) -> Result<(), Unusual> {
        let tensors = self.described.as_slice();
        if contents != tensors.len() {
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
    fn count(&self, place: usize, length: usize, spec: &Tensor, batched: bool) -> Result<usize, Unusual> {
        let tensor = &self.described.as_slice()[place];
        let shape = tensor.shape.as_slice();
        let (rows, row_shape) = match (batched, shape.split_first()) {
            (true, Some((&rows, rest))) => (rows, rest),
            (true, None) => return Err(Unusual::Tensors),
            (false, _) => (1, shape),
        };
        if Datatype::from_name(tensor.datatype) != Some(spec.datatype)
            || row_shape != spec.row_shape
            || rows < 1
            || rows.checked_mul(spec.row_bytes as u64) != Some(length as u64)
        {
            return Err(Unusual::Tensors);
        }
        usize::try_from(rows).map_err(|_| Unusual::Tensors)
    }
}
