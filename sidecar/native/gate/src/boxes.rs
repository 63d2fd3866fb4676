//! Boxes, compared with an input's values as they stand on the wire.
//!
//! Whether `lower <= value <= upper` holds is the same whether a single-precision value is widened or a bound is moved
//! to the next single-precision value within the box: between the two there is no value of the wire's.

use crate::datatype::{Datatype, brain, half};

/// So many values are looked at before it is asked whether they were within: most of what is outside is so early on.
const AT_ONCE: usize = 256;

/// What one input is compared with: the bounds of all regions, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    datatype: Datatype,
    row_size: usize,
    sides: Sides,
}

#[derive(Clone, Debug)]
enum Sides {
    /// For all datatypes whose values are single-precision values.
    Single(Pair<f32>),
    Double(Pair<f64>),
}

#[derive(Clone, Debug)]
struct Pair<T> {
    lower: Vec<T>,
    upper: Vec<T>,
}

impl Bounds {
    /// `sides`: lower and upper, for each region and value of a row.
    pub fn new(datatype: Datatype, row_size: usize, sides: impl Iterator<Item = (f64, f64)>) -> Self {
        let sides = match datatype {
            Datatype::Fp64 => Sides::Double(Pair::of(sides)),
            Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 => {
                Sides::Single(Pair::of(sides.map(|(lower, upper)| (up(lower), down(upper)))))
            }
        };
        Bounds {
            datatype,
            row_size,
            sides,
        }
    }

    /// Whether values of a row, which are finite, are within a region's bounds; `first`: where in the row they begin.
    pub fn contain(&self, region: usize, first: usize, raw: &[u8]) -> bool {
        let from = region * self.row_size + first;
        match (&self.sides, self.datatype) {
            (Sides::Double(sides), _) => sides.contain(from, raw, f64::from_le_bytes),
            (Sides::Single(sides), Datatype::Fp16) => sides.contain(from, raw, half),
            (Sides::Single(sides), Datatype::Bf16) => sides.contain(from, raw, brain),
            (Sides::Single(sides), _) => sides.contain(from, raw, f32::from_le_bytes),
        }
    }
}

impl<T: PartialOrd + Copy> Pair<T> {
    fn of(sides: impl Iterator<Item = (T, T)>) -> Self {
        let (lower, upper) = sides.unzip();
        Pair { lower, upper }
    }

    fn contain<const N: usize>(&self, from: usize, raw: &[u8], value: impl Fn([u8; N]) -> T) -> bool {
        let values = raw.as_chunks::<N>().0;
        let range = from..from + values.len();
        let (lower, upper) = (&self.lower[range.clone()], &self.upper[range]);
        values
            .chunks(AT_ONCE)
            .zip(lower.chunks(AT_ONCE).zip(upper.chunks(AT_ONCE)))
            .all(|(values, (lower, upper))| {
                let sides = lower.iter().zip(upper);
                values.iter().zip(sides).fold(true, |all, (bytes, (lower, upper))| {
                    let value = value(*bytes);
                    all & (*lower <= value) & (value <= *upper)
                })
            })
    }
}

/// The least single-precision value that is not below.
fn up(bound: f64) -> f32 {
    let near = bound as f32;
    if f64::from(near) < bound { near.next_up() } else { near }
}

/// The greatest that is not above.
fn down(bound: f64) -> f32 {
    let near = bound as f32;
    if f64::from(near) > bound {
        near.next_down()
    } else {
        near
    }
}
