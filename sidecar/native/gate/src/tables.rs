//! The flat arrays of `sidecar.gates.prepare` and `sidecar.bundle.coverage`, checked once so that evaluation never
//! looks beyond their ends.

use crate::datatype::Datatype;

/// The arrays do not fit together: a defect of whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError(pub &'static str);

fn check(holds: bool, what: &'static str) -> Result<(), TableError> {
    if holds { Ok(()) } else { Err(TableError(what)) }
}

/// What a gate may do. A gate that is off contains nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Shadow,
    Off,
}

/// Segments of a flat array; one longer than what they count.
#[derive(Clone, Debug)]
pub struct Offsets(Vec<usize>);

impl Offsets {
    /// # Errors
    /// They do not start at 0, do not ascend, or do not end at `end`.
    pub fn new(offsets: Vec<usize>, end: usize) -> Result<Self, TableError> {
        check(offsets.first() == Some(&0), "offsets start at 0")?;
        check(offsets.is_sorted(), "offsets ascend")?;
        check(offsets.last() == Some(&end), "offsets end at the end")?;
        Ok(Offsets(offsets))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() - 1
    }

    pub(crate) fn segment(&self, at: usize) -> std::ops::Range<usize> {
        self.0[at]..self.0[at + 1]
    }
}

/// Inequalities over an extended row: the constant one, the inputs, the outputs.
#[derive(Clone, Debug)]
pub struct LiteralTable {
    pub(crate) terms: Offsets,
    pub(crate) columns: Vec<usize>,
    pub(crate) coefficients: Vec<f64>,
    pub(crate) strict: Vec<bool>,
    pub(crate) relative: Vec<f64>,
    pub(crate) absolute: Vec<f64>,
}

impl LiteralTable {
    /// # Errors
    /// The arrays differ in length, or a column is beyond `width`.
    pub fn new(
        offsets: Vec<usize>,
        columns: Vec<usize>,
        coefficients: Vec<f64>,
        strict: Vec<bool>,
        relative: Vec<f64>,
        absolute: Vec<f64>,
        width: usize,
    ) -> Result<Self, TableError> {
        let terms = Offsets::new(offsets, columns.len())?;
        let count = terms.len();
        check(coefficients.len() == columns.len(), "one coefficient for each term")?;
        check(columns.iter().all(|&column| column < width), "columns of the extended row")?;
        check(
            [strict.len(), relative.len(), absolute.len()] == [count; 3],
            "one entry for each literal",
        )?;
        Ok(LiteralTable { terms, columns, coefficients, strict, relative, absolute })
    }

    pub(crate) fn len(&self) -> usize {
        self.strict.len()
    }
}

/// An input or output that the gates look at.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) row_shape: Vec<u64>,
    pub(crate) row_size: usize,
}

impl Tensor {
    /// # Errors
    /// A row without values.
    pub fn new(name: String, datatype: Datatype, row_shape: Vec<u64>) -> Result<Self, TableError> {
        let size: u64 = row_shape.iter().product();
        check(size >= 1, "rows have values")?;
        let row_size = usize::try_from(size).map_err(|_| TableError("rows fit in memory"))?;
        Ok(Tensor { name, datatype, row_shape, row_size })
    }
}

/// Gates of one model.
#[derive(Clone, Debug)]
pub struct Gates {
    pub(crate) inputs: usize,
    pub(crate) lower: Vec<f64>,
    pub(crate) upper: Vec<f64>,
    pub(crate) regions: Offsets,
    /// By region: which cuts it has; most have none.
    pub(crate) region_cuts: Vec<std::ops::Range<usize>>,
    pub(crate) cuts: LiteralTable,
    pub(crate) clauses: Offsets,
    pub(crate) clause_literals: Offsets,
    pub(crate) literals: LiteralTable,
}

impl Gates {
    /// # Errors
    /// The arrays do not fit together.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        inputs: usize,
        lower: Vec<f64>,
        upper: Vec<f64>,
        gate_regions: Vec<usize>,
        cut_regions: &[usize],
        region_cuts: Vec<usize>,
        cuts: LiteralTable,
        gate_clauses: Vec<usize>,
        clause_literals: Vec<usize>,
        literals: LiteralTable,
    ) -> Result<Self, TableError> {
        check(inputs >= 1, "a model has inputs")?;
        check(lower.len() == upper.len() && lower.len() % inputs == 0, "bounds for each region and input")?;
        let count = lower.len() / inputs;
        let regions = Offsets::new(gate_regions, count)?;
        let clause_literals = Offsets::new(clause_literals, literals.len())?;
        let clauses = Offsets::new(gate_clauses, clause_literals.len())?;
        check(clauses.len() == regions.len(), "clauses and regions for each gate")?;
        check((0..clauses.len()).all(|gate| !clauses.segment(gate).is_empty()), "gates have clauses")?;
        let of_cut = Offsets::new(region_cuts, cuts.len())?;
        check(of_cut.len() == cut_regions.len(), "cuts for each region that has some")?;
        let mut region_cuts = vec![0..0; count];
        for (at, &region) in cut_regions.iter().enumerate() {
            *region_cuts.get_mut(region).ok_or(TableError("cuts of regions"))? = of_cut.segment(at);
        }
        Ok(Gates { inputs, lower, upper, regions, region_cuts, cuts, clauses, clause_literals, literals })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clauses.len()
    }

    /// Never: a bundle has at least one gate, but clippy wants to know.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// In `Coverage::feature`: this node is a leaf.
pub(crate) const LEAF: i32 = -1;

/// The coverage trees of all regions.
#[derive(Clone, Debug)]
pub struct Coverage {
    pub(crate) root: Vec<usize>,
    pub(crate) feature: Vec<i32>,
    pub(crate) threshold: Vec<f64>,
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
    pub(crate) label: Vec<u8>,
}

impl Coverage {
    /// # Errors
    /// The arrays do not fit together, or a walk might not end.
    pub fn new(
        inputs: usize,
        root: Vec<usize>,
        feature: Vec<i32>,
        threshold: Vec<f64>,
        left: Vec<usize>,
        right: Vec<usize>,
        label: Vec<u8>,
    ) -> Result<Self, TableError> {
        let count = feature.len();
        check(
            [threshold.len(), left.len(), right.len(), label.len()] == [count; 4],
            "one entry for each node",
        )?;
        check(root.iter().all(|&node| node < count), "roots are nodes")?;
        for node in 0..count {
            let split = feature[node];
            let inner = usize::try_from(split).is_ok_and(|split| split < inputs);
            check(split == LEAF || inner, "nodes split features")?;
            let down = |child: usize| node < child && child < count;
            check(split == LEAF || (down(left[node]) && down(right[node])), "children come later")?;
            check(label[node] < 4, "labels are labels")?;
        }
        Ok(Coverage { root, feature, threshold, left, right, label })
    }
}

/// All that is needed to judge a model's answers.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) batched: bool,
    pub(crate) gates: Gates,
    pub(crate) coverage: Coverage,
    pub(crate) modes: Vec<Mode>,
    pub(crate) limit_rows: usize,
    /// Whether requests with rows in no domain are refused, which Python does.
    pub(crate) refuses_outside: bool,
}

impl Model {
    /// # Errors
    /// The parts do not fit together.
    pub fn new(
        inputs: Vec<Tensor>,
        outputs: Vec<Tensor>,
        batched: bool,
        gates: Gates,
        coverage: Coverage,
        modes: Vec<Mode>,
        limit_rows: usize,
        refuses_outside: bool,
    ) -> Result<Self, TableError> {
        let size = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.row_size).sum::<usize>();
        check(size(&inputs) == gates.inputs, "inputs of the gates")?;
        check(!outputs.is_empty(), "a model has outputs")?;
        let width = 1 + size(&inputs) + size(&outputs);
        check(gates.literals.columns.iter().all(|&column| column < width), "columns of the model")?;
        check(gates.cuts.columns.iter().all(|&column| column <= gates.inputs), "cuts are of inputs")?;
        check(modes.len() == gates.len(), "a mode for each gate")?;
        check(coverage.root.len() == gates.region_cuts.len(), "a tree for each region")?;
        Ok(Model { inputs, outputs, batched, gates, coverage, modes, limit_rows, refuses_outside })
    }

    /// Of an extended row.
    pub(crate) fn width(&self) -> usize {
        1 + self.gates.inputs + self.outputs.iter().map(|tensor| tensor.row_size).sum::<usize>()
    }
}
