//! The flat arrays of `sidecar.gates.prepare` and `sidecar.bundle.coverage`, checked once so that evaluation never
//! looks beyond their ends.

use crate::boxes::Bounds;
use crate::datatype::Datatype;

/// The arrays do not fit together: a defect of whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError(pub &'static str);

pub(crate) fn check(holds: bool, what: &'static str) -> Result<(), TableError> {
    if holds { Ok(()) } else { Err(TableError(what)) }
}

/// What a gate may do. A gate that is off contains nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Shadow,
    Off,
}

/// Segments of a flat array, none of them empty; one longer than what they count.
#[derive(Clone, Debug)]
pub(crate) struct Offsets(Vec<usize>);

impl Offsets {
    fn new(offsets: Vec<usize>, end: usize) -> Result<Self, TableError> {
        check(offsets.first() == Some(&0), "offsets start at 0")?;
        check(offsets.is_sorted_by(|a, b| a < b), "no segment is empty")?;
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

/// The arrays of `sidecar.gates.filter.LiteralTable`.
#[derive(Clone, Debug, Default)]
pub struct LiteralArrays {
    pub offsets: Vec<usize>,
    pub columns: Vec<usize>,
    pub coefficients: Vec<f64>,
    pub strict: Vec<bool>,
    pub relative: Vec<f64>,
    pub absolute: Vec<f64>,
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
    pub fn new(arrays: LiteralArrays, width: usize) -> Result<Self, TableError> {
        let LiteralArrays {
            offsets,
            columns,
            coefficients,
            strict,
            relative,
            absolute,
        } = arrays;
        let terms = Offsets::new(offsets, columns.len())?;
        let count = terms.len();
        check(coefficients.len() == columns.len(), "one coefficient for each term")?;
        check(
            columns.iter().all(|&column| column < width),
            "columns of the extended row",
        )?;
        check(
            [strict.len(), relative.len(), absolute.len()] == [count; 3],
            "one entry for each literal",
        )?;
        // Below zero an error bound would decide both ways at once; NaN decides nothing.
        let bounds = || relative.iter().chain(&absolute);
        check(
            !bounds().any(|bound| bound.is_sign_negative() && !bound.is_nan()),
            "error bounds are not negative",
        )?;
        Ok(LiteralTable {
            terms,
            columns,
            coefficients,
            strict,
            relative,
            absolute,
        })
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
    /// Values of a row.
    pub(crate) row_size: usize,
    /// Bytes of a row.
    pub(crate) row_bytes: usize,
}

impl Tensor {
    /// # Errors
    /// A row without values, or of more than memory holds.
    pub fn new(name: String, datatype: Datatype, row_shape: Vec<u64>) -> Result<Self, TableError> {
        let size = row_shape
            .iter()
            .try_fold(1usize, |size, &more| size.checked_mul(usize::try_from(more).ok()?));
        let bytes = size.and_then(|size| size.checked_mul(datatype.size()));
        let (Some(row_size), Some(row_bytes)) = (size, bytes) else {
            return Err(TableError("rows fit in memory"));
        };
        check(row_size >= 1, "rows have values")?;
        Ok(Tensor {
            name,
            datatype,
            row_shape,
            row_size,
            row_bytes,
        })
    }
}

/// The arrays of `sidecar.gates.prepare.PreparedGates`.
#[derive(Clone, Debug)]
pub struct GateArrays {
    /// How many input values a row has.
    pub inputs: usize,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    pub gate_regions: Vec<usize>,
    pub cut_regions: Vec<usize>,
    pub region_cuts: Vec<usize>,
    pub cuts: LiteralTable,
    pub gate_clauses: Vec<usize>,
    pub clause_literals: Vec<usize>,
    pub literals: LiteralTable,
}

/// Gates of one model.
#[derive(Clone, Debug)]
pub struct Gates {
    pub(crate) inputs: usize,
    /// By region and input; a model has them by its tensors instead.
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
    pub fn new(arrays: GateArrays) -> Result<Self, TableError> {
        let GateArrays {
            inputs,
            lower,
            upper,
            cuts,
            literals,
            ..
        } = arrays;
        check(inputs >= 1, "a model has inputs")?;
        check(
            lower.len() == upper.len() && lower.len().is_multiple_of(inputs),
            "bounds for each region and input",
        )?;
        let count = lower.len() / inputs;
        let regions = Offsets::new(arrays.gate_regions, count)?;
        let clause_literals = Offsets::new(arrays.clause_literals, literals.len())?;
        let clauses = Offsets::new(arrays.gate_clauses, clause_literals.len())?;
        check(clauses.len() == regions.len(), "clauses and regions for each gate")?;
        check(clauses.len() >= 1, "a model has gates")?;
        let of_cut = Offsets::new(arrays.region_cuts, cuts.len())?;
        check(
            of_cut.len() == arrays.cut_regions.len(),
            "cuts for each region that has some",
        )?;
        check(
            arrays.cut_regions.is_sorted_by(|a, b| a < b),
            "a region has its cuts in one place",
        )?;
        let mut region_cuts = vec![0..0; count];
        for (at, region) in arrays.cut_regions.into_iter().enumerate() {
            *region_cuts.get_mut(region).ok_or(TableError("cuts of regions"))? = of_cut.segment(at);
        }
        Ok(Gates {
            inputs,
            lower,
            upper,
            regions,
            region_cuts,
            cuts,
            clauses,
            clause_literals,
            literals,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.clauses.len()
    }

    pub(crate) fn region_count(&self) -> usize {
        self.region_cuts.len()
    }

    /// What the input whose values begin at `first` is compared with.
    pub(crate) fn bounds(&self, tensor: &Tensor, first: usize) -> Bounds {
        let of = |side: &[f64]| -> Vec<f64> {
            let rows = side.chunks_exact(self.inputs);
            rows.flat_map(|row| &row[first..first + tensor.row_size])
                .copied()
                .collect()
        };
        let sides = of(&self.lower).into_iter().zip(of(&self.upper));
        Bounds::new(tensor.datatype, tensor.row_size, sides)
    }
}

/// In `Coverage::columns`: this node is a leaf. No node splits the constant one.
pub(crate) const LEAF: usize = 0;

/// In `CoverageArrays::feature`: the same.
const NO_FEATURE: i32 = -1;

/// The arrays of `sidecar.bundle.coverage.PreparedCoverage`, but for the boxes: those of the gates' regions.
#[derive(Clone, Debug, Default)]
pub struct CoverageArrays {
    pub root: Vec<usize>,
    pub feature: Vec<i32>,
    pub threshold: Vec<f64>,
    pub left: Vec<usize>,
    pub right: Vec<usize>,
    pub label: Vec<u8>,
}

/// The coverage trees of all regions.
#[derive(Clone, Debug)]
pub struct Coverage {
    pub(crate) inputs: usize,
    pub(crate) root: Vec<usize>,
    /// Of the extended row.
    pub(crate) columns: Vec<usize>,
    pub(crate) threshold: Vec<f64>,
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
    pub(crate) label: Vec<u8>,
}

impl Coverage {
    /// # Errors
    /// The arrays do not fit together, or a walk might not end.
    pub fn new(inputs: usize, arrays: CoverageArrays) -> Result<Self, TableError> {
        let CoverageArrays {
            root,
            feature,
            threshold,
            left,
            right,
            label,
        } = arrays;
        let count = feature.len();
        check(
            [threshold.len(), left.len(), right.len(), label.len()] == [count; 4],
            "one entry for each node",
        )?;
        check(root.iter().all(|&node| node < count), "roots are nodes")?;
        let mut columns = vec![LEAF; count];
        for node in 0..count {
            check(label[node] < 4, "labels are labels")?;
            if feature[node] == NO_FEATURE {
                continue;
            }
            let split = usize::try_from(feature[node]).ok().filter(|&split| split < inputs);
            columns[node] = 1 + split.ok_or(TableError("nodes split features"))?;
            let down = |child: usize| node < child && child < count;
            check(down(left[node]) && down(right[node]), "children come later")?;
        }
        Ok(Coverage {
            inputs,
            root,
            columns,
            threshold,
            left,
            right,
            label,
        })
    }
}
