//! A model to judge, and messages to and from it.
//!
//! Inputs `x` FP32 (2) and `w` FP64 (a scalar), outputs `y` FP32 (2) and `z` FP64 (1). The columns of an extended row
//! are thus 0 the constant one, 1 and 2 of x, 3 of w, 4 and 5 of y, 6 of z.

use crate::tables::{Coverage, CoverageArrays, GateArrays, Gates, LiteralArrays, LiteralTable, Mode, Tensor};
use crate::{Datatype, Model, ModelParts, Seen, Unusual, admit, judge, read_request};

pub const INPUTS: usize = 3;
pub const WIDTH: usize = 7;

/// `terms` above zero where strict, else not below, known up to an error.
#[derive(Clone)]
pub struct Literal {
    pub terms: Vec<(usize, f64)>,
    pub strict: bool,
    pub relative: f64,
    pub absolute: f64,
}

pub fn at_least(terms: &[(usize, f64)]) -> Literal {
    Literal {
        terms: terms.to_vec(),
        strict: false,
        relative: 0.0,
        absolute: 0.0,
    }
}

pub fn above(terms: &[(usize, f64)]) -> Literal {
    Literal {
        strict: true,
        ..at_least(terms)
    }
}

/// Nothing is known of it, ever.
pub fn unknown() -> Literal {
    Literal {
        absolute: f64::NAN,
        ..at_least(&[(0, 1.0)])
    }
}

pub fn arrays(literals: &[Literal]) -> LiteralArrays {
    let terms = || literals.iter().flat_map(|literal| literal.terms.iter().copied());
    LiteralArrays {
        offsets: offsets(literals.iter().map(|literal| literal.terms.len())),
        columns: terms().map(|(column, _)| column).collect(),
        coefficients: terms().map(|(_, coefficient)| coefficient).collect(),
        strict: literals.iter().map(|literal| literal.strict).collect(),
        relative: literals.iter().map(|literal| literal.relative).collect(),
        absolute: literals.iter().map(|literal| literal.absolute).collect(),
    }
}

pub fn table(literals: &[Literal]) -> LiteralTable {
    LiteralTable::new(arrays(literals), WIDTH).expect("literals")
}

pub fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut all = vec![0];
    for length in lengths {
        all.push(all[all.len() - 1] + length);
    }
    all
}

/// Where a tree goes on, or the label there.
#[derive(Clone)]
pub enum Tree {
    Leaf(u8),
    Split {
        feature: usize,
        threshold: f64,
        left: Box<Tree>,
        right: Box<Tree>,
    },
}

impl Tree {
    pub fn split(feature: usize, threshold: f64, left: u8, right: u8) -> Tree {
        Tree::Split {
            feature,
            threshold,
            left: Box::new(Tree::Leaf(left)),
            right: Box::new(Tree::Leaf(right)),
        }
    }

    fn lay_out(&self, nodes: &mut CoverageArrays) -> usize {
        let here = nodes.feature.len();
        nodes.feature.push(-1);
        nodes.threshold.push(0.0);
        nodes.left.push(0);
        nodes.right.push(0);
        nodes.label.push(0);
        match self {
            Tree::Leaf(label) => nodes.label[here] = *label,
            Tree::Split {
                feature,
                threshold,
                left,
                right,
            } => {
                nodes.feature[here] = i32::try_from(*feature).expect("a feature");
                nodes.threshold[here] = *threshold;
                nodes.left[here] = left.lay_out(nodes);
                nodes.right[here] = right.lay_out(nodes);
            }
        }
        here
    }
}

#[derive(Clone)]
pub struct Region {
    pub lower: [f64; INPUTS],
    pub upper: [f64; INPUTS],
    pub cuts: Vec<Literal>,
    pub tree: Tree,
}

/// The first value of x within bounds, the others anything between -100 and 100.
pub fn strip(lower: f64, upper: f64) -> Region {
    Region {
        lower: [lower, -100.0, -100.0],
        upper: [upper, 100.0, 100.0],
        cuts: vec![],
        tree: Tree::Leaf(1),
    }
}

#[derive(Clone)]
pub struct Gate {
    pub regions: Vec<Region>,
    pub clauses: Vec<Vec<Literal>>,
    pub mode: Mode,
}

pub fn gate(region: Region, literal: Literal) -> Gate {
    Gate {
        regions: vec![region],
        clauses: vec![vec![literal]],
        mode: Mode::Enforce,
    }
}

pub fn gate_arrays(gates: &[Gate]) -> GateArrays {
    let regions = || gates.iter().flat_map(|gate| &gate.regions);
    let cut: Vec<usize> = regions()
        .enumerate()
        .filter(|(_, region)| !region.cuts.is_empty())
        .map(|(at, _)| at)
        .collect();
    let clauses = || gates.iter().flat_map(|gate| &gate.clauses);
    GateArrays {
        inputs: INPUTS,
        lower: regions().flat_map(|region| region.lower).collect(),
        upper: regions().flat_map(|region| region.upper).collect(),
        gate_regions: offsets(gates.iter().map(|gate| gate.regions.len())),
        cut_regions: cut,
        region_cuts: offsets(regions().map(|region| region.cuts.len()).filter(|&cuts| cuts > 0)),
        cuts: table(&regions().flat_map(|region| region.cuts.clone()).collect::<Vec<_>>()),
        gate_clauses: offsets(gates.iter().map(|gate| gate.clauses.len())),
        clause_literals: offsets(clauses().map(Vec::len)),
        literals: table(&clauses().flatten().cloned().collect::<Vec<_>>()),
    }
}

pub fn coverage_arrays(gates: &[Gate]) -> CoverageArrays {
    let mut nodes = CoverageArrays::default();
    for region in gates.iter().flat_map(|gate| &gate.regions) {
        let root = region.tree.lay_out(&mut nodes);
        nodes.root.push(root);
    }
    nodes
}

pub fn parts(gates: &[Gate]) -> ModelParts {
    let tensor =
        |name: &str, kind, shape: &[u64]| Tensor::new(name.to_owned(), kind, shape.to_vec()).expect("a tensor");
    ModelParts {
        inputs: vec![tensor("x", Datatype::Fp32, &[2]), tensor("w", Datatype::Fp64, &[])],
        outputs: vec![tensor("y", Datatype::Fp32, &[2]), tensor("z", Datatype::Fp64, &[1])],
        batched: true,
        gates: Gates::new(gate_arrays(gates)).expect("gates"),
        coverage: Coverage::new(INPUTS, coverage_arrays(gates)).expect("coverage"),
        modes: gates.iter().map(|gate| gate.mode).collect(),
        limit_rows: 4,
        refuses_outside: false,
        versions: vec![],
    }
}

pub fn model(gates: &[Gate]) -> Model {
    Model::new(parts(gates)).expect("a model")
}

// -- messages

pub fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub fn field(number_of: u8, payload: &[u8]) -> Vec<u8> {
    [vec![number_of << 3 | 2], number(payload.len() as u64), payload.to_vec()].concat()
}

pub fn tensor(name: &str, datatype: &str, shape: &[u64]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|&size| number(size)).collect();
    let shape = if shape.is_empty() { vec![] } else { field(3, &shape) };
    [field(1, name.as_bytes()), field(2, datatype.as_bytes()), shape].concat()
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Fields of a request, to be changed and joined.
#[derive(Clone)]
pub struct Message(pub Vec<Vec<u8>>);

impl Message {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    pub fn with(&self, field: Vec<u8>) -> Vec<u8> {
        [self.bytes(), field].concat()
    }

    pub fn replacing(&self, at: usize, field: Vec<u8>) -> Vec<u8> {
        let mut changed = self.clone();
        changed.0[at] = field;
        changed.bytes()
    }
}

/// Of rows of the inputs.
pub fn request(rows: &[[f64; INPUTS]]) -> Message {
    let count = rows.len() as u64;
    let x: Vec<f32> = rows.iter().flat_map(|row| [row[0] as f32, row[1] as f32]).collect();
    let w: Vec<f64> = rows.iter().map(|row| row[2]).collect();
    Message(vec![
        field(1, b"m"),
        field(5, &tensor("x", "FP32", &[count, 2])),
        field(5, &tensor("w", "FP64", &[count])),
        field(7, &floats(&x)),
        field(7, &doubles(&w)),
    ])
}

/// Of rows of the outputs.
pub fn response(rows: &[[f64; 3]]) -> Message {
    let count = rows.len() as u64;
    let y: Vec<f32> = rows.iter().flat_map(|row| [row[0] as f32, row[1] as f32]).collect();
    let z: Vec<f64> = rows.iter().map(|row| row[2]).collect();
    Message(vec![
        field(1, b"m"),
        field(5, &tensor("y", "FP32", &[count, 2])),
        field(5, &tensor("z", "FP64", &[count, 1])),
        field(6, &floats(&y)),
        field(6, &doubles(&z)),
    ])
}

pub fn evaluated(model: &Model, request: &[u8], response: &[u8]) -> Result<Seen, Unusual> {
    let request = read_request(request)?;
    let mut plan = admit(model, &request)?;
    judge(model, &mut plan, response)
}

pub fn is_handed(model: &Model, request: &[u8]) -> Option<Unusual> {
    read_request(request).and_then(|request| admit(model, &request)).err()
}
