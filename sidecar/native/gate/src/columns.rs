//! Which values of a row are kept: those that a literal, a cut or a tree looks at. All others are looked at only as
//! they pass, and a row of a hundred thousand values may come down to a handful.

use crate::Unusual;
use crate::tables::Tensor;

/// Columns of the extended row (the constant one, the inputs, the outputs) that are kept, ascending.
#[derive(Clone, Debug)]
pub(crate) struct Columns(Vec<usize>);

impl Columns {
    /// The constant one is kept in any case.
    pub fn of(used: impl Iterator<Item = usize>) -> Self {
        let mut kept: Vec<usize> = std::iter::once(0).chain(used).collect();
        kept.sort_unstable();
        kept.dedup();
        Columns(kept)
    }

    /// How many there are.
    pub fn width(&self) -> usize {
        self.0.len()
    }

    /// Where a column stands in a row of what is kept; or the next one that is kept does.
    pub fn place(&self, column: usize) -> usize {
        self.0.partition_point(|&kept| kept < column)
    }

    /// A tensor whose values begin at the column `first`.
    pub fn look_at(&self, tensor: Tensor, first: usize) -> Looked {
        let (from, until) = (self.place(first), self.place(first + tensor.row_size));
        Looked {
            kept: self.0[from..until].iter().map(|column| column - first).collect(),
            place: from,
            tensor,
        }
    }
}

/// A tensor that the gates look at.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub tensor: Tensor,
    /// Which values of a row are kept, ascending.
    kept: Vec<usize>,
    /// Where the first of them goes.
    place: usize,
}

impl Looked {
    /// Keep what is to be kept of values of a row, all of which have to be finite; `first`: where they begin.
    pub fn take(&self, first: usize, raw: &[u8], row: &mut [f64]) -> Result<(), Unusual> {
        let datatype = self.tensor.datatype;
        if !datatype.are_finite(raw) {
            return Err(Unusual::NotFinite);
        }
        let from = self.kept.partition_point(|&at| at < first);
        for (kept, &at) in self.kept.iter().enumerate().skip(from) {
            let begin = (at - first) * datatype.size();
            let Some(bytes) = raw.get(begin..begin + datatype.size()) else {
                break;
            };
            row[self.place + kept] = datatype.value(bytes);
        }
        Ok(())
    }
}
