//! The filter never says what exact arithmetic does not say.

use std::cmp::Ordering;

use super::build::{Literal, table};
use super::exact::sign_of_sum;
use crate::evaluate::Known;

/// Half of the distance from one to the next float64 value.
const ROUNDING: f64 = f64::EPSILON / 2.0;

/// As `sidecar.gates.filter` bounds the error, rounded up.
pub fn bounded(terms: Vec<(usize, f64)>, strict: bool) -> Literal {
    let operations = (2 * terms.len() + 8) as f64;
    let weight: f64 = terms.iter().map(|(_, coefficient)| coefficient.abs()).sum();
    let up = 1.0 + 1e-12;
    let is_bounded = terms
        .iter()
        .all(|&(_, coefficient)| coefficient == 0.0 || coefficient.is_normal());
    Literal {
        relative: operations * ROUNDING * up / (1.0 - operations * ROUNDING),
        absolute: if is_bounded {
            (operations + weight) * f64::MIN_POSITIVE * up
        } else {
            f64::NAN
        },
        terms,
        strict,
    }
}

/// A literal whose products are free of rounding: at most two terms, of plus or minus one, or of the constant.
pub fn without_rounding(terms: Vec<(usize, f64)>, strict: bool) -> Literal {
    assert!(terms.len() <= 2, "{terms:?}");
    assert!(
        terms
            .iter()
            .all(|&(column, coefficient)| column == 0 || coefficient.abs() == 1.0)
    );
    Literal {
        terms,
        strict,
        relative: 0.0,
        absolute: 0.0,
    }
}

/// What the filter says of a literal on an extended row; None where it does not decide.
///
/// # Panics
/// It is not so, or it was said of values that are not finite.
pub fn decided(literal: &Literal, row: &[f64]) -> Option<bool> {
    let said = match table(std::slice::from_ref(literal)).holds(0, row) {
        Known::Yes => true,
        Known::No => false,
        Known::Unknown => return None,
    };
    let terms = literal.terms.iter();
    let products: Vec<_> = terms.map(|&(column, coefficient)| (row[column], coefficient)).collect();
    let sign = sign_of_sum(&products);
    let holds = sign == Ordering::Greater || sign == Ordering::Equal && !literal.strict;
    assert_eq!(said, holds, "{:?} {row:?} {}", literal.terms, literal.strict);
    Some(said)
}

/// Bring a literal to about zero on a row: its last term makes up for the others, but for `off` float neighbours.
pub fn nearly_tied(terms: &mut [(usize, f64)], row: &mut [f64], off: i8) {
    let Some((last, others)) = terms.split_last_mut() else {
        return;
    };
    if last.0 == 0 || others.iter().any(|&(other, _)| other == last.0) {
        return;
    }
    let sum: f64 = others
        .iter()
        .map(|&(column, coefficient)| row[column] * coefficient)
        .sum();
    last.1 = 1.0;
    row[last.0] = neighbour(-sum, off);
}

/// The value so many float64 values further up, or down.
pub fn neighbour(value: f64, off: i8) -> f64 {
    let step = if off < 0 { f64::next_down } else { f64::next_up };
    (0..off.unsigned_abs()).fold(value, |value, _| step(value))
}
