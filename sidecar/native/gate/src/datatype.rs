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

    /// Whether all values of `raw` are finite: none has an exponent of ones only.
    pub(crate) fn are_finite(self, raw: &[u8]) -> bool {
        match self {
            Datatype::Fp16 => none(raw, |bytes| u16::from_le_bytes(bytes) & 0x7c00 == 0x7c00),
            Datatype::Bf16 => none(raw, |bytes| u16::from_le_bytes(bytes) & 0x7f80 == 0x7f80),
            Datatype::Fp32 => none(raw, |bytes| u32::from_le_bytes(bytes) & 0x7f80_0000 == 0x7f80_0000),
            Datatype::Fp64 => none(raw, |bytes| u64::from_le_bytes(bytes) >> 52 & 0x7ff == 0x7ff),
        }
    }

    /// The value of which `raw` holds the bytes.
    pub(crate) fn value(self, raw: &[u8]) -> f64 {
        match self {
            Datatype::Fp16 => f64::from(half(first(raw))),
            Datatype::Bf16 => f64::from(brain(first(raw))),
            Datatype::Fp32 => f64::from(f32::from_le_bytes(first(raw))),
            Datatype::Fp64 => f64::from_le_bytes(first(raw)),
        }
    }
}

/// Looks at all of them, without a branch: that is what processors do fastest.
fn none<const N: usize>(raw: &[u8], is_it: impl Fn([u8; N]) -> bool) -> bool {
    !raw.as_chunks::<N>()
        .0
        .iter()
        .fold(false, |any, bytes| any | is_it(*bytes))
}

/// Zeros where there are fewer; there never are.
fn first<const N: usize>(raw: &[u8]) -> [u8; N] {
    raw.first_chunk().copied().unwrap_or([0; N])
}

/// bfloat16, exactly: the upper half of a binary32.
pub(crate) fn brain(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// IEEE 754 binary16, exactly.
///
/// By its bits, for what powers of two a library computes is for the library to say.
pub(crate) fn half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => (f32::from(bits & 0x3ff) / 16_777_216.0).to_bits(), // 2**24, exact
        0x1f => 0xff << 23 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bits(bits: u16) -> f64 {
        Datatype::Fp16.value(&bits.to_le_bytes())
    }

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
            assert_eq!(of_bits(bits), value, "{bits:#x}");
        }
        assert!(of_bits(0x7e00).is_nan());
        assert!(of_bits(0x8000).is_sign_negative());
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
            let found = of_bits(bits);
            // The sign of what is no number is nobody's business, and Rust leaves it open.
            let is_negative = bits & 0x8000 != 0;
            assert!(found.is_nan() || found.is_sign_negative() == is_negative, "{bits:#x}");
            assert_eq!(
                Datatype::Fp16.are_finite(&bits.to_le_bytes()),
                found.is_finite(),
                "{bits:#x}"
            );
            match (exponent, bits & 0x3ff) {
                (0x1f, 0) => assert!(found.is_infinite(), "{bits:#x}"),
                (0x1f, _) => assert!(found.is_nan(), "{bits:#x}"),
                _ => assert_eq!(found.abs(), expected, "{bits:#x}"),
            }
        }
    }

    #[test]
    fn every_brain_float_is_the_single_of_its_bits() {
        for bits in (0..=u16::MAX).step_by(if cfg!(miri) { 641 } else { 1 }) {
            let (raw, single) = (bits.to_le_bytes(), f32::from_bits(u32::from(bits) << 16));
            assert_eq!(Datatype::Bf16.are_finite(&raw), single.is_finite(), "{bits:#x}");
            assert!(
                Datatype::Bf16.value(&raw) == f64::from(single) || single.is_nan(),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn values_are_little_endian() {
        assert_eq!(Datatype::Fp32.value(&[0, 0, 0, 192]), -2.0);
        assert_eq!(Datatype::Bf16.value(&[0, 192]), -2.0);
        assert_eq!(Datatype::Fp16.value(&[0, 192]), -2.0);
        assert_eq!(Datatype::Fp64.value(&1.5f64.to_le_bytes()), 1.5);
    }

    #[test]
    fn what_is_not_finite_is_seen_wherever_it_stands() {
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
                f32::MAX.to_le_bytes().to_vec(),
                [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0x7f80_0001)]
                    .map(|bad| bad.to_le_bytes().to_vec())
                    .to_vec(),
            ),
            (
                Datatype::Fp64,
                f64::MAX.to_le_bytes().to_vec(),
                [
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    f64::NAN,
                    f64::from_bits(0x7ff0_0000_0000_0001),
                ]
                .map(|bad| bad.to_le_bytes().to_vec())
                .to_vec(),
            ),
        ] {
            for count in [1, 3, 33] {
                assert!(kind.are_finite(&one.repeat(count)), "{kind:?}");
                for at in 0..count {
                    for bad in &bad {
                        let mut items = vec![one.clone(); count];
                        items[at].clone_from(bad);
                        assert!(!kind.are_finite(&items.concat()), "{kind:?} {items:?}");
                    }
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
