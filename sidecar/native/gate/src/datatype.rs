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

    /// Decode `raw`, a whole number of values, to the places that `put` is told of, by index.
    pub(crate) fn decode(self, raw: &[u8], mut put: impl FnMut(usize, f64)) {
        match self {
            Datatype::Fp16 => each(raw, |at, bytes| put(at, half(u16::from_le_bytes(bytes)))),
            Datatype::Bf16 => each(raw, |at, bytes| {
                put(at, f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)));
            }),
            Datatype::Fp32 => each(raw, |at, bytes| put(at, f64::from(f32::from_le_bytes(bytes)))),
            Datatype::Fp64 => each(raw, |at, bytes| put(at, f64::from_le_bytes(bytes))),
        }
    }
}

fn each<const N: usize>(raw: &[u8], mut take: impl FnMut(usize, [u8; N])) {
    let (values, _) = raw.as_chunks::<N>();
    for (at, value) in values.iter().enumerate() {
        take(at, *value);
    }
}

/// IEEE 754 binary16, exactly.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => sign * f64::INFINITY,
        0x1f => f64::NAN,
        _ => sign * (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
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
    fn values_are_little_endian_and_in_order() {
        let mut seen = Vec::new();
        Datatype::Fp32.decode(&[0, 0, 128, 63, 0, 0, 0, 192], |at, value| seen.push((at, value)));
        assert_eq!(seen, [(0, 1.0), (1, -2.0)]);
        seen.clear();
        Datatype::Bf16.decode(&[128, 63], |at, value| seen.push((at, value)));
        Datatype::Fp16.decode(&[0, 60], |at, value| seen.push((at, value)));
        Datatype::Fp64.decode(&1.5f64.to_le_bytes(), |at, value| seen.push((at, value)));
        assert_eq!(seen, [(0, 1.0), (0, 1.0), (0, 1.5)]);
    }

    #[test]
    fn names_go_both_ways() {
        for kind in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
            assert_eq!(Datatype::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Datatype::from_name("INT8"), None);
    }
}
