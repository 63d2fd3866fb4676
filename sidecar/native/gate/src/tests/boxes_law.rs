//! Membership on the wire's own bytes is membership of the values that they are, in whatever pieces they come.

use crate::boxes::Bounds;
use crate::inside::Inside;
use crate::laws::boxes::{are_finite, contained};
use crate::laws::random::Random;
use crate::laws::wide::{WIDE, message, some_rows, wide};
use crate::scan::{Position, Scan};
use crate::{Datatype, Model, Unusual, admit, read_request};

const KINDS: [Datatype; 4] = [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64];

/// Bytes of a finite value, of all magnitudes.
fn some_value(random: &mut Random, kind: Datatype) -> Vec<u8> {
    let few = [
        0.0f32,
        -0.0,
        1.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
    ];
    loop {
        let bits = match (kind, random.below(3)) {
            (Datatype::Fp32, 0) => u64::from(random.pick(&few).to_bits()),
            (Datatype::Fp64, 0) => f64::from(random.pick(&few)).to_bits(),
            (_, 1) => random.bits() & 0x8000_8000_8000_8001, // zeros and the smallest of all
            _ => random.bits(),
        };
        let raw = bits.to_le_bytes()[..kind.size()].to_vec();
        if are_finite(kind, &raw) {
            return raw;
        }
    }
}

/// At a value, beside it in double or in single precision, or anywhere.
fn some_bound(random: &mut Random, value: f64) -> f64 {
    let single = value as f32;
    match random.below(9) {
        0..3 => value,
        3 => value.next_up(),
        4 => value.next_down(),
        5 => f64::from(single.next_up()),
        6 => f64::from(single.next_down()),
        7 => random.pick(&[
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MAX,
            f64::MIN,
            0.0,
            -0.0,
            1e-320,
        ]),
        _ => f64::from_bits(random.bits()),
    }
}

#[test]
fn a_box_contains_bytes_as_it_contains_their_values() {
    let mut random = Random::of(5);
    let mut seen = [0; 2];
    for _ in 0..if cfg!(miri) { 200 } else { 60_000 } {
        let kind = random.pick(&KINDS);
        let raw = some_value(&mut random, kind);
        let value = kind.value(&raw);
        let (lower, upper) = (some_bound(&mut random, value), some_bound(&mut random, value));
        seen[usize::from(contained(kind, &[(lower, upper)], &raw))] += 1;
    }
    assert!(seen[0] > 50 && seen[1] > 50, "{seen:?}");
}

#[test]
fn one_value_is_enough_to_be_outside_wherever_it_stands() {
    for kind in KINDS {
        let one: &[u8] = &[0; 8][..kind.size()];
        let size = if cfg!(miri) { 300 } else { 600 };
        let raw = one.repeat(size);
        let bounds = |at: usize, side: (f64, f64)| {
            let sides = (0..2 * size).map(move |each| if each == size + at { side } else { (0.0, 0.0) });
            Bounds::new(kind, size, sides)
        };
        for at in (0..size).step_by(7).chain([255, 256, 257, size - 1]) {
            for side in [(1.0, 2.0), (-2.0, -1.0)] {
                let bounds = bounds(at, side);
                assert!(bounds.contain(0, 0, &raw), "{kind:?} {at}");
                assert!(!bounds.contain(1, 0, &raw), "{kind:?} {at}");
                let (before, from) = raw.split_at(at * kind.size());
                assert!(bounds.contain(1, 0, before) && !bounds.contain(1, at, from));
                assert!(bounds.contain(1, at + 1, &from[kind.size()..]));
            }
        }
    }
}

#[test]
fn rows_and_regions_do_not_touch_each_other() {
    for regions in [1, 2, 63, 64, 65, 130] {
        let mut inside = Inside::new(3, regions);
        inside.keep(1, |region| region % 3 != 0);
        inside.keep(1, |region| region % 5 != 0);
        inside.keep(2, |_| false);
        for region in 0..regions {
            assert!(inside.has(0, region));
            assert_eq!(inside.has(1, region), region % 3 != 0 && region % 5 != 0);
            assert!(!inside.has(2, region));
        }
        let looked_at = std::cell::RefCell::new(vec![]);
        inside.keep(0, |region| {
            looked_at.borrow_mut().push(region);
            true
        });
        assert_eq!(looked_at.into_inner(), (0..regions).collect::<Vec<_>>());
    }
}

/// By its definition: in the first region with its cut, or in the second.
fn is_watched(row: &[f32]) -> bool {
    let all = |lower: f32, upper: f32| row.iter().all(|&value| lower <= value && value <= upper);
    (all(-1.0, 1.0) && row[row.len() - 4] > 0.0) || all(0.0, 2.0)
}

#[test]
fn wide_rows_are_watched_where_they_lie_in_a_domain() {
    let (model, mut random) = (wide(), Random::of(6));
    let mut seen = [0; 2];
    for _ in 0..if cfg!(miri) { 2 } else { 200 } {
        let rows = some_rows(&mut random);
        let bytes = message(&rows);
        let plan = admit(&model, &read_request(&bytes).expect("usual")).expect("admitted");
        let watched = rows.iter().filter(|row| is_watched(row)).count();
        assert_eq!((plan.count, plan.is_watched), (rows.len(), watched > 0));
        seen[usize::from(watched > 0)] += 1;
    }
    assert!(cfg!(miri) || seen.iter().all(|&count| count > 20), "{seen:?}");
}

/// A request's contents, looked at in pieces.
fn scanned(model: &Model, message: &[u8], count: usize, random: &mut Random) -> Result<Scan, Unusual> {
    let request = read_request(message)?;
    let mut scan = Scan::new(model, count);
    for (input, mut left) in request.tensors.raw.as_slice().iter().copied().enumerate() {
        let mut at = Position::default();
        while !left.is_empty() {
            let most = random.pick(&[1, 2, 3, 10, 5000, 20_000]);
            let (now, later) = left.split_at(left.len().min(1 + random.below(most)));
            scan.feed(model, input, &mut at, now)?;
            left = later;
        }
    }
    Ok(scan)
}

#[test]
fn pieces_are_looked_at_as_the_whole_is() {
    let (model, mut random) = (wide(), Random::of(7));
    for _ in 0..if cfg!(miri) { 1 } else { 100 } {
        let rows = some_rows(&mut random);
        let mut bytes = message(&rows);
        let whole = scanned(&model, &bytes, rows.len(), &mut Random::of(0)).expect("finite");
        let pieces = scanned(&model, &bytes, rows.len(), &mut random).expect("finite");
        assert_eq!(pieces.rows, whole.rows);
        for (row, values) in rows.iter().enumerate() {
            let all = |lower: f32, upper: f32| values.iter().all(|&value| lower <= value && value <= upper);
            assert_eq!(
                [pieces.inside.has(row, 0), pieces.inside.has(row, 1)],
                [all(-1.0, 1.0), all(0.0, 2.0)]
            );
        }
        let at = bytes.len() - 1 - random.below(5000);
        bytes[at - 9..=at].fill(0xff);
        let spoilt = scanned(&model, &bytes, rows.len(), &mut random).map(|_| ());
        assert!(
            matches!(spoilt, Err(Unusual::NotFinite | Unusual::Encoding)),
            "{spoilt:?}"
        );
    }
}

#[test]
fn nothing_that_is_not_finite_is_missed_in_a_wide_row() {
    let model = wide();
    let size: usize = WIDE.iter().map(|each| each.2).sum();
    let good = message(&[vec![0.5; size]]);
    for (tensor, (_, kind, values)) in WIDE.into_iter().enumerate() {
        let contents = read_request(&good).expect("usual").tensors.raw.as_slice()[tensor].as_ptr() as usize;
        let begin = contents - good.as_ptr() as usize;
        for at in [0, 1, 511, 512, 699, 1023, 1024, values - 1] {
            let mut bad = good.clone();
            let from = begin + at.min(values - 1) * kind.size();
            bad[from..from + kind.size()].copy_from_slice(&[0xff; 8][..kind.size()]);
            let admitted = admit(&model, &read_request(&bad).expect("usual"));
            assert_eq!(admitted.map(|_| ()), Err(Unusual::NotFinite), "{kind:?} {at}");
        }
    }
}
