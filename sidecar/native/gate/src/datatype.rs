//! Wire datatypes whose values are float64 values exactly, and their raw little-endian contents.

/// A datatype that is decoded here. Others are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    Fp16,
    Bf16,
    Fp32,
    Fp64,
}

impl Datatype {
    /// By its name in the protocol.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "FP16" => Some(Datatype::Fp16),
            "BF16" => Some(Datatype::Bf16),
            "FP32" => Some(Datatype::Fp32),
            "FP64" => Some(Datatype::Fp64),
            _ => None,
        }
    }

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
        }
    }

    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Datatype::Fp16 | Datatype::Bf16 => 2,
            Datatype::Fp32 => 4,
            Datatype::Fp64 => 8,
        }
    }

    /// Decode `raw` to as many `values`, of which it holds the bytes; whether all are finite.
    pub(crate) fn decode(self, raw: &[u8], values: &mut [f64]) -> bool {
        match self {
            Datatype::Fp16 => each(raw, values, |bytes| half(u16::from_le_bytes(bytes))),
            Datatype::Bf16 => each(raw, values, |bytes| {
                f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
            }),
            Datatype::Fp32 => each(raw, values, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Datatype::Fp64 => each(raw, values, f64::from_le_bytes),
        }
    }
}

fn each<const N: usize>(raw: &[u8], values: &mut [f64], decoded: impl Fn([u8; N]) -> f64) -> bool {
    let mut finite = true;
    for (bytes, value) in raw.as_chunks::<N>().0.iter().zip(values) {
        *value = decoded(*bytes);
        finite &= value.is_finite();
    }
    finite
}

/// IEEE 754 binary16, exactly.
///
/// By its bits, for what powers of two a library computes is for the library to say.
fn half(bits: u16) -> f64 {
    let sign = u64::from(bits & 0x8000) << 48;
    let exponent = u64::from(bits >> 10 & 0x1f);
    let fraction = u64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => return f64::from_bits(sign | f64::from(bits & 0x3ff).to_bits()) / 16_777_216.0, // 2**24, exact
        0x1f => 0x7ff << 52,
        _ => (exponent + 1023 - 15) << 52,
    };
    f64::from_bits(sign | magnitude | fraction << 42)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x03ff, 6.097_555_160_522_461e-5),
            (0x0400, 6.103_515_625e-5),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
        assert!(half(0x8000).is_sign_negative());
    }

    #[test]
    fn every_half_is_its_digits() {
        for bits in (0..=u16::MAX).step_by(if cfg!(miri) { 641 } else { 1 }) {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            // By doubling and halving, which are exact.
            let mut expected = if exponent == 0 { fraction } else { 1024.0 + fraction };
            for _ in exponent.max(1)..25 {
                expected /= 2.0;
            }
            for _ in 25..exponent {
                expected *= 2.0;
            }
            let found = half(bits);
            assert_eq!(found.is_sign_negative(), bits & 0x8000 != 0, "{bits:#x}");
            match (exponent, bits & 0x3ff) {
                (0x1f, 0) => assert!(found.is_infinite(), "{bits:#x}"),
                (0x1f, _) => assert!(found.is_nan(), "{bits:#x}"),
                _ => assert_eq!(found.abs(), expected, "{bits:#x}"),
            }
        }
    }

    #[test]
    fn values_are_little_endian_and_in_order() {
        let mut values = [0.0; 2];
        assert!(Datatype::Fp32.decode(&[0, 0, 128, 63, 0, 0, 0, 192], &mut values));
        assert_eq!(values, [1.0, -2.0]);
        assert!(Datatype::Bf16.decode(&[128, 63, 0, 192], &mut values));
        assert_eq!(values, [1.0, -2.0]);
        assert!(Datatype::Fp16.decode(&[0, 60, 0, 192], &mut values));
        assert_eq!(values, [1.0, -2.0]);
        assert!(Datatype::Fp64.decode(&1.5f64.to_le_bytes(), &mut values[..1]));
        assert_eq!(values, [1.5, -2.0]);
    }

    #[test]
    fn what_is_not_finite_is_seen_wherever_it_stands() {
        let mut values = [0.0; 3];
        for at in 0..3 {
            for (kind, one, bad) in [
                (
                    Datatype::Fp16,
                    vec![0, 60],
                    vec![vec![0, 124], vec![0, 252], vec![1, 124]],
                ),
                (
                    Datatype::Bf16,
                    vec![128, 63],
                    vec![vec![128, 127], vec![128, 255], vec![129, 127]],
                ),
                (
                    Datatype::Fp32,
                    1f32.to_le_bytes().to_vec(),
                    [f32::INFINITY, f32::NEG_INFINITY, f32::NAN]
                        .map(|bad| bad.to_le_bytes().to_vec())
                        .to_vec(),
                ),
                (
                    Datatype::Fp64,
                    1f64.to_le_bytes().to_vec(),
                    [f64::INFINITY, f64::NEG_INFINITY, f64::NAN]
                        .map(|bad| bad.to_le_bytes().to_vec())
                        .to_vec(),
                ),
            ] {
                assert!(kind.decode(&one.repeat(3), &mut values));
                for bad in bad {
                    let mut items = vec![one.clone(); 3];
                    items[at] = bad;
                    assert!(!kind.decode(&items.concat(), &mut values), "{kind:?} {items:?}");
                }
            }
        }
    }

    #[test]
    fn sizes_are_those_of_the_protocol() {
        let kinds = [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64];
        assert_eq!(kinds.map(Datatype::size), [2, 2, 4, 8]);
    }

    #[test]
    fn names_go_both_ways() {
        for kind in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
            assert_eq!(Datatype::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Datatype::from_name("INT8"), None);
    }
}
