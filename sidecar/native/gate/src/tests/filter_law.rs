//! Literals on rows of ordinary values, and on ties and their neighbours, as `laws::literals` holds them to exact
//! arithmetic.

use crate::laws::build::WIDTH;
use crate::laws::literals::{bounded, decided, nearly_tied, without_rounding};
use crate::laws::random::Random;

/// Of any magnitude now and then; mostly below 8, with up to 53 bits that matter.
fn value(random: &mut Random) -> f64 {
    let magnitude = match random.below(5) {
        0 => random.pick(&[0.0, 0.5, 1.0, 2.0, 7.0]),
        1 => f64::from(random.below(1 << 24) as u32) / 16_777_216.0,
        2 => random.pick(&[f64::MAX, f64::MIN_POSITIVE, 1e-310, f64::from_bits(1), 1e155, 1e-155]),
        _ => ((random.bits() >> 11) as f64) * (f64::EPSILON / 2.0) * random.pick(&[1.0, 2.0, 8.0]),
    };
    if random.chance(2) { -magnitude } else { magnitude }
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
            let off = random.pick(&[-4, -3, -2, -1, 0, 1, 2, 3, 4]);
            nearly_tied(&mut terms, &mut row, off);
        }
        let known = decided(&bounded(terms, random.chance(2)), &row);
        seen[usize::from(near)][known.map_or(2, usize::from)] += 1;
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
        let mut single = || f64::from(value(&mut random) as f32);
        let (a, b) = (single(), single());
        let b = if random.chance(3) { a } else { b };
        let row = [1.0, a, b, 0.0, 0.0, 0.0, 0.0];
        for strict in [true, false] {
            let found = decided(&without_rounding(vec![(1, 1.0), (2, -1.0)], strict), &row);
            assert_eq!(found.is_some(), a.is_finite() && b.is_finite(), "{a} {b}");
        }
    }
}
