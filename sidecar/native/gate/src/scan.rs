//! A request's values, looked at piece by piece in whatever pieces they come: each is looked at once, all have to be
//! finite, and of a row it is kept which boxes it may still be in, and the values that something will look at.

use crate::Unusual;
use crate::inside::Inside;
use crate::model::Model;

/// So many bytes are looked at by all that looks at them before the next ones: they stay in the nearest cache.
const BLOCK: usize = 4 << 10;

/// What is known of the rows.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// What is kept of them.
    pub rows: Vec<f64>,
    pub inside: Inside,
}

/// Where in an input's contents the next byte belongs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    row: usize,
    value: usize,
    /// The beginning of a value that was cut in two.
    cut: [u8; 8],
    cut_length: usize,
}

impl Scan {
    pub fn new(model: &Model, count: usize) -> Self {
        Scan {
            rows: vec![1.0; count * model.width],
            inside: Inside::new(count, model.gates.region_count()),
        }
    }

    /// Look at an input's next bytes, of which there are no more than the rows have.
    pub fn feed(&mut self, model: &Model, input: usize, at: &mut Position, mut bytes: &[u8]) -> Result<(), Unusual> {
        let tensor = &model.inputs[input].looked.tensor;
        let size = tensor.datatype.size();
        if at.cut_length > 0 {
            let (missing, rest) = bytes.split_at(bytes.len().min(size - at.cut_length));
            at.keep(missing);
            bytes = rest;
            if at.cut_length == size {
                let (value, _) = at.cut.split_at(size);
                self.look(model, input, (at.row, at.value), value)?;
                at.pass(1, tensor.row_size);
            }
        }
        let (mut whole, cut) = bytes.split_at(bytes.len() / size * size);
        while !whole.is_empty() {
            let in_row = (tensor.row_size - at.value) * size;
            let (block, rest) = whole.split_at(whole.len().min(in_row).min(BLOCK));
            self.look(model, input, (at.row, at.value), block)?;
            at.pass(block.len() / size, tensor.row_size);
            whole = rest;
        }
        at.keep(cut);
        Ok(())
    }

    fn look(&mut self, model: &Model, input: usize, (row, first): (usize, usize), raw: &[u8]) -> Result<(), Unusual> {
        let input = &model.inputs[input];
        let kept = &mut self.rows[row * model.width..][..model.width];
        input.looked.take(first, raw, kept)?;
        self.inside.keep(row, |region| input.bounds.contain(region, first, raw));
        Ok(())
    }
}

impl Position {
    fn pass(&mut self, values: usize, row_size: usize) {
        self.cut_length = 0;
        self.value += values;
        if self.value == row_size {
            (self.row, self.value) = (self.row + 1, 0);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.cut[self.cut_length..][..bytes.len()].copy_from_slice(bytes);
        self.cut_length += bytes.len();
    }
}
