//! A box contains bytes where it contains the values that they are, whatever its bounds.
#![no_main]

use gate::Datatype;
use gate::laws::boxes::{are_finite, contained, value};
use gate::laws::literals::neighbour;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case {
    kind: u8,
    /// Bits of a value, and its bounds.
    row: Vec<(u64, Bound, Bound)>,
    /// So often, which makes rows longer than what is looked at together.
    times: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Bound {
    Any(f64),
    /// Of the value, in float64 neighbours.
    Beside(i8),
    /// In float32 neighbours.
    BesideSingle(i8),
}

fuzz_target!(|case: Case| {
    let kinds = [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64];
    let kind = kinds[usize::from(case.kind) % kinds.len()];
    let (mut raw, mut sides) = (vec![], vec![]);
    for (bits, lower, upper) in case.row {
        let bytes = &bits.to_le_bytes()[..kind.size()];
        let value = value(kind, bytes);
        raw.extend_from_slice(bytes);
        sides.push((lower.of(value), upper.of(value)));
    }
    let times = usize::from(case.times).min(1024 / sides.len().max(1)).max(1);
    let (raw, sides) = (raw.repeat(times), sides.repeat(times));
    if are_finite(kind, &raw) {
        contained(kind, &sides, &raw);
    }
});

impl Bound {
    fn of(self, value: f64) -> f64 {
        match self {
            Bound::Any(bound) => bound,
            Bound::Beside(off) => neighbour(value, off),
            Bound::BesideSingle(off) => {
                let step = if off < 0 { f32::next_down } else { f32::next_up };
                f64::from((0..off.unsigned_abs()).fold(value as f32, |value, _| step(value)))
            }
        }
    }
}
