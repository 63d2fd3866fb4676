//! A model: its tensors, its gates and what is proved of them, checked to fit together, and brought to the columns that
//! are kept of a row.

use crate::boxes::Bounds;
use crate::columns::{Columns, Looked};
use crate::tables::{Coverage, Gates, Mode, TableError, Tensor, check};

/// What judging a model's answers takes.
#[derive(Clone, Debug)]
pub struct ModelParts {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub batched: bool,
    pub gates: Gates,
    pub coverage: Coverage,
    /// One for each gate.
    pub modes: Vec<Mode>,
    pub limit_rows: usize,
    /// Whether requests with rows in no domain are refused, which Python does.
    pub refuses_outside: bool,
    /// Of the model, for which something is proved; none makes no distinction.
    pub versions: Vec<String>,
}

/// An input: the values that are kept of it, and the boxes that it is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub looked: Looked,
    pub bounds: Bounds,
}

/// All that is needed to judge a model's answers; its parts fit together. Columns are those of what is kept of a row.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Looked>,
    pub(crate) batched: bool,
    pub(crate) gates: Gates,
    pub(crate) coverage: Coverage,
    pub(crate) modes: Vec<Mode>,
    pub(crate) limit_rows: usize,
    pub(crate) refuses_outside: bool,
    versions: Vec<String>,
    /// Of a row of what is kept.
    pub(crate) width: usize,
}

impl Model {
    /// # Errors
    /// The parts do not fit together.
    pub fn new(parts: ModelParts) -> Result<Self, TableError> {
        let size = |tensors: &[Tensor]| {
            tensors
                .iter()
                .try_fold(0usize, |size, tensor| size.checked_add(tensor.row_size))
        };
        let (mut gates, mut coverage) = (parts.gates, parts.coverage);
        check(size(&parts.inputs) == Some(gates.inputs), "inputs of the gates")?;
        check(!parts.outputs.is_empty(), "a model has outputs")?;
        let outputs = size(&parts.outputs).and_then(|outputs| outputs.checked_add(1)?.checked_add(gates.inputs));
        let width = outputs.ok_or(TableError("rows fit in memory"))?;
        check(
            gates.literals.columns.iter().all(|&column| column < width),
            "columns of the model",
        )?;
        check(
            gates.cuts.columns.iter().all(|&column| column <= gates.inputs),
            "cuts are of inputs",
        )?;
        check(parts.modes.len() == gates.len(), "a mode for each gate")?;
        check(coverage.inputs == gates.inputs, "coverage of the gates' inputs")?;
        check(coverage.root.len() == gates.region_count(), "a tree for each region")?;
        let used = [&gates.literals.columns, &gates.cuts.columns, &coverage.columns];
        let columns = Columns::of(used.into_iter().flatten().copied());
        let mut first = 1;
        let mut look_at = |tensor: Tensor| {
            let looked = columns.look_at(tensor, first);
            first += looked.tensor.row_size;
            looked
        };
        let looked: Vec<_> = parts.inputs.into_iter().map(&mut look_at).collect();
        let outputs = parts.outputs.into_iter().map(&mut look_at).collect();
        let mut first = 0;
        let inputs = looked.into_iter().map(|looked| {
            let bounds = gates.bounds(&looked.tensor, first);
            first += looked.tensor.row_size;
            Input { looked, bounds }
        });
        let inputs = inputs.collect();
        (gates.lower, gates.upper) = (vec![], vec![]);
        for used in [
            &mut gates.literals.columns,
            &mut gates.cuts.columns,
            &mut coverage.columns,
        ] {
            used.iter_mut().for_each(|column| *column = columns.place(*column));
        }
        Ok(Model {
            inputs,
            outputs,
            batched: parts.batched,
            gates,
            coverage,
            modes: parts.modes,
            limit_rows: parts.limit_rows,
            refuses_outside: parts.refuses_outside,
            versions: parts.versions,
            width: columns.width(),
        })
    }

    /// Whether what is proved is proved of a version of the model.
    pub(crate) fn is_proved(&self, version: &str) -> bool {
        self.versions.is_empty() || self.versions.iter().any(|known| known == version)
    }
}
