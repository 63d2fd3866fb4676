//! The filter says of a literal what exact arithmetic says, or nothing.
#![no_main]

use gate::laws::build::WIDTH;
use gate::laws::literals::{bounded, decided, nearly_tied, neighbour, without_rounding};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case {
    terms: Vec<(u8, Value)>,
    row: [Value; WIDTH - 1],
    strict: bool,
    /// So many float neighbours from a tie; None where it falls.
    tied: Option<i8>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Any(f64),
    Single(f32),
    Whole(i16),
    /// Beside a power of two.
    Power(i16, i8),
    /// The value of the row that stands there, or beside it.
    Same(u8, i8),
}

fuzz_target!(|case: Case| {
    if case.terms.is_empty() {
        return;
    }
    let mut row = vec![1.0];
    for value in case.row {
        row.push(value.of(&row));
    }
    let mut terms: Vec<_> = case
        .terms
        .iter()
        .take(16)
        .map(|(at, value)| (usize::from(*at) % WIDTH, value.of(&row)))
        .collect();
    if let Some(off) = case.tied {
        nearly_tied(&mut terms, &mut row, off);
    }
    decided(&bounded(terms.clone(), case.strict), &row);
    if terms.len() <= 2 {
        for (column, coefficient) in &mut terms {
            if *column != 0 {
                *coefficient = 1f64.copysign(*coefficient);
            }
        }
        // Where the magnitudes overflow nothing is said.
        let magnitude: f64 = terms
            .iter()
            .map(|&(column, coefficient)| (row[column] * coefficient).abs())
            .sum();
        let found = decided(&without_rounding(terms, case.strict), &row);
        assert_eq!(found.is_some(), magnitude.is_finite(), "a sum of two is always decided");
    }
});

impl Value {
    fn of(self, row: &[f64]) -> f64 {
        match self {
            Value::Any(value) => value,
            Value::Single(value) => f64::from(value),
            Value::Whole(value) => f64::from(value),
            Value::Power(exponent, off) => neighbour(f64::from(exponent % 1075).exp2(), off),
            Value::Same(at, off) => neighbour(row[usize::from(at) % row.len()], off),
        }
    }
}
