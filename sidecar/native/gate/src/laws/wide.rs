//! A model of wide rows, and messages to it.

use super::build::{Message, field, tensor};
use super::random::Random;
use crate::tables::{Coverage, CoverageArrays, GateArrays, Gates, LiteralArrays, LiteralTable, Mode, Tensor};
use crate::{Datatype, Model, ModelParts};

/// Of each input: more than one block, and no whole number of them.
pub const WIDE: [(&str, Datatype, usize); 4] = [
    ("a", Datatype::Fp32, 1500),
    ("b", Datatype::Fp16, 2100),
    ("c", Datatype::Fp64, 700),
    ("d", Datatype::Bf16, 3),
];

/// One gate, whose two regions are [-1, 1] and [0, 2] everywhere, and cut where the last value of `c` is not above zero.
pub fn wide() -> Model {
    let inputs: usize = WIDE.iter().map(|each| each.2).sum();
    let last_of_c = inputs - 3;
    let cut = LiteralArrays {
        offsets: vec![0, 1],
        columns: vec![last_of_c],
        coefficients: vec![1.0],
        strict: vec![true],
        relative: vec![0.0],
        absolute: vec![0.0],
    };
    let always = LiteralArrays {
        columns: vec![0],
        ..cut.clone()
    };
    let bounds = |first, second| [vec![first; inputs], vec![second; inputs]].concat();
    let gates = Gates::new(GateArrays {
        inputs,
        lower: bounds(-1.0, 0.0),
        upper: bounds(1.0, 2.0),
        gate_regions: vec![0, 2],
        cut_regions: vec![0],
        region_cuts: vec![0, 1],
        cuts: LiteralTable::new(cut, inputs + 2).expect("fits"),
        gate_clauses: vec![0, 1],
        clause_literals: vec![0, 1],
        literals: LiteralTable::new(always, inputs + 2).expect("fits"),
    });
    let leaves = CoverageArrays {
        root: vec![0, 1],
        feature: vec![-1; 2],
        threshold: vec![0.0; 2],
        left: vec![0; 2],
        right: vec![0; 2],
        label: vec![1; 2],
    };
    let tensor = |name: &str, kind, size| Tensor::new(name.to_owned(), kind, vec![size as u64]).expect("a tensor");
    Model::new(ModelParts {
        inputs: WIDE.map(|(name, kind, size)| tensor(name, kind, size)).to_vec(),
        outputs: vec![tensor("y", Datatype::Fp32, 1)],
        batched: true,
        gates: gates.expect("fits"),
        coverage: Coverage::new(inputs, leaves).expect("fits"),
        modes: vec![Mode::Enforce],
        limit_rows: 4,
        refuses_outside: false,
        versions: vec![],
    })
    .expect("a model")
}

/// A value of halves, as bytes of a datatype.
fn bytes_of(kind: Datatype, value: f32) -> Vec<u8> {
    let half: u16 = [0xbc00, 0xb800, 0, 0x3800, 0x3c00, 0x3e00, 0x4000][(value * 2.0 + 2.0) as usize];
    match kind {
        Datatype::Fp16 => half.to_le_bytes().to_vec(),
        Datatype::Bf16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        Datatype::Fp32 => value.to_le_bytes().to_vec(),
        Datatype::Fp64 => f64::from(value).to_le_bytes().to_vec(),
    }
}

pub fn message(rows: &[Vec<f32>]) -> Vec<u8> {
    let mut fields = vec![field(1, b"m")];
    fields
        .extend(WIDE.map(|(name, kind, size)| field(5, &tensor(name, kind.name(), &[rows.len() as u64, size as u64]))));
    let mut first = 0;
    for (_, kind, size) in WIDE {
        let values = rows.iter().flat_map(|row| &row[first..first + size]);
        fields.push(field(
            7,
            &values.flat_map(|&value| bytes_of(kind, value)).collect::<Vec<_>>(),
        ));
        first += size;
    }
    Message(fields).bytes()
}

/// Some rows, most of them nearly within one of the regions.
pub fn some_rows(random: &mut Random) -> Vec<Vec<f32>> {
    let size: usize = WIDE.iter().map(|each| each.2).sum();
    let one = |random: &mut Random| {
        let mut row = vec![random.pick(&[0.5, 1.0, 0.0, 1.5, -0.5]); size];
        for _ in 0..random.below(3) {
            let any = random.below(size);
            let at = random.pick(&[0, 1023, 1024, 1499, 1500, size - 4, size - 1, any]);
            row[at] = random.pick(&[-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]);
        }
        row
    };
    (0..=random.below(3)).map(|_| one(random)).collect()
}
