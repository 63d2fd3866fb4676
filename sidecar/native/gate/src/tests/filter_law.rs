//! The filter never says what exact arithmetic does not say.
//!
//! Values and coefficients are whole multiples of 2**-53 and so small that a sum of their products is a whole multiple
//! of 2**-106 within 128 bits: exact.

use super::build::{Literal, WIDTH, table};
use super::random::Random;
use crate::evaluate::Known;

const UNIT: f64 = 1.0 / 9_007_199_254_740_992.0; // 2**-53

fn in_units(value: f64) -> i128 {
    let units = value / UNIT;
    assert_eq!(units, units.trunc(), "a multiple of the unit");
    units as i128
}

fn exactly(terms: &[(usize, f64)], row: &[f64]) -> i128 {
    terms
        .iter()
        .map(|&(column, coefficient)| in_units(row[column]) * in_units(coefficient))
        .sum()
}

/// Below 8, with up to 53 bits that matter.
fn value(random: &mut Random) -> f64 {
    let magnitude = match random.below(4) {
        0 => random.pick(&[0.0, 0.5, 1.0, 2.0, 7.0]),
        1 => f64::from(random.below(1 << 24) as u32) / 16_777_216.0,
        _ => ((random.bits() >> 11) as f64) * UNIT * random.pick(&[1.0, 2.0, 8.0]),
    };
    if random.chance(2) { -magnitude } else { magnitude }
}

/// As `sidecar.gates.filter` bounds the error, rounded up.
fn bounded(terms: Vec<(usize, f64)>, strict: bool) -> Literal {
    let operations = (2 * terms.len() + 8) as f64;
    let weight: f64 = terms.iter().map(|(_, coefficient)| coefficient.abs()).sum();
    let up = 1.0 + 1e-12;
    Literal {
        relative: operations * UNIT * up / (1.0 - operations * UNIT),
        absolute: (operations + weight) * f64::MIN_POSITIVE * up,
        terms,
        strict,
    }
}

/// A row on which the literal is about zero: its last term makes up for the others, but for a few of the last bits.
fn nearly_tied(random: &mut Random, terms: &mut [(usize, f64)], row: &mut [f64]) {
    let last = terms.len() - 1;
    let (column, _) = terms[last];
    if column == 0 || terms[..last].iter().any(|&(other, _)| other == column) {
        return;
    }
    let sum: f64 = terms[..last]
        .iter()
        .map(|&(column, coefficient)| row[column] * coefficient)
        .sum();
    let off = random.below(9) as f64 - 4.0;
    terms[last].1 = 1.0;
    row[column] = ((-sum / UNIT).trunc() + off) * UNIT;
}

#[test]
fn what_the_filter_decides_is_so() {
    let rounds = if cfg!(miri) { 300 } else { 40_000 };
    let mut random = Random::of(1);
    let mut seen = [[0; 3]; 2];
    for _ in 0..rounds {
        let mut terms: Vec<_> = (0..=random.below(5))
            .map(|_| (random.below(WIDTH), value(&mut random)))
            .collect();
        let mut row: Vec<f64> = (0..WIDTH).map(|_| value(&mut random)).collect();
        row[0] = 1.0;
        let near = !random.chance(3);
        if near {
            nearly_tied(&mut random, &mut terms, &mut row);
        }
        let exact = exactly(&terms, &row);
        let strict = random.chance(2);
        let holds = if strict { exact > 0 } else { exact >= 0 };
        let known = table(&[bounded(terms.clone(), strict)]).holds(0, &row);
        match known {
            Known::Yes => assert!(holds, "{terms:?} {row:?} {strict}"),
            Known::No => assert!(!holds, "{terms:?} {row:?} {strict}"),
            Known::Unknown => {}
        }
        seen[usize::from(near)][known as usize] += 1;
    }
    let least = rounds / 100;
    assert!(
        seen[0][0] > least && seen[0][1] > least,
        "decides ordinary rows: {seen:?}"
    );
    assert!(
        seen[1].iter().all(|&count| count > least),
        "meets ties from all sides: {seen:?}"
    );
}

#[test]
fn two_terms_without_rounding_are_always_decided_and_right() {
    let mut random = Random::of(2);
    for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
        let (a, b) = (
            f64::from(value(&mut random) as f32),
            f64::from(value(&mut random) as f32),
        );
        let b = if random.chance(3) { a } else { b };
        let row = [1.0, a, b, 0.0, 0.0, 0.0, 0.0];
        for (strict, holds) in [(true, a > b), (false, a >= b)] {
            let literal = Literal {
                terms: vec![(1, 1.0), (2, -1.0)],
                strict,
                relative: 0.0,
                absolute: 0.0,
            };
            assert_eq!(
                table(&[literal]).holds(0, &row),
                if holds { Known::Yes } else { Known::No },
                "{a} {b}"
            );
        }
    }
}
