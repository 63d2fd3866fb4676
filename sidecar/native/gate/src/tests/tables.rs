//! Arrays that do not fit together are refused when they are handed in, never found out in evaluation.

use crate::laws::build::{arrays, at_least, coverage_arrays, gate, gate_arrays, parts, strip};
use crate::tables::{Coverage, CoverageArrays, GateArrays, Gates, LiteralArrays, LiteralTable, TableError, Tensor};
use crate::{Datatype, Mode, Model, ModelParts};

fn literals(change: impl FnOnce(&mut LiteralArrays)) -> Result<LiteralTable, TableError> {
    let mut given = arrays(&[at_least(&[(4, 1.0), (5, -1.0)]), at_least(&[(6, 1.0)])]);
    change(&mut given);
    LiteralTable::new(given, 7)
}

fn gates(change: impl FnOnce(&mut GateArrays)) -> Result<Gates, TableError> {
    let mut cut = strip(0.0, 1.0);
    cut.cuts = vec![at_least(&[(1, 1.0)])];
    let mut given = gate_arrays(&[
        gate(cut.clone(), at_least(&[(4, 1.0)])),
        gate(cut, at_least(&[(5, 1.0)])),
    ]);
    change(&mut given);
    Gates::new(given)
}

fn coverage(change: impl FnOnce(&mut CoverageArrays)) -> Result<Coverage, TableError> {
    let mut region = strip(0.0, 1.0);
    region.tree = crate::laws::build::Tree::split(2, 0.5, 1, 3);
    let mut given = coverage_arrays(&[gate(region, at_least(&[(4, 1.0)]))]);
    change(&mut given);
    Coverage::new(3, given)
}

fn model(change: impl FnOnce(&mut ModelParts)) -> Result<Model, TableError> {
    let mut given = parts(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    change(&mut given);
    Model::new(given)
}

fn refused<T: std::fmt::Debug>(result: Result<T, TableError>) -> &'static str {
    result.expect_err("must be refused").0
}

#[test]
fn literals_fit_together() {
    assert!(literals(|_| ()).is_ok());
    assert_eq!(refused(literals(|given| given.offsets[0] = 1)), "offsets start at 0");
    assert_eq!(refused(literals(|given| given.offsets.clear())), "offsets start at 0");
    assert_eq!(refused(literals(|given| given.offsets[1] = 0)), "no segment is empty");
    assert_eq!(refused(literals(|given| given.offsets[1] = 4)), "no segment is empty");
    assert_eq!(
        refused(literals(|given| given.offsets[2] = 4)),
        "offsets end at the end"
    );
    assert_eq!(refused(literals(|given| given.offsets[2] = 2)), "no segment is empty");
    assert_eq!(
        refused(literals(|given| _ = given.coefficients.pop())),
        "one coefficient for each term"
    );
    assert_eq!(
        refused(literals(|given| given.columns[0] = 7)),
        "columns of the extended row"
    );
    assert_eq!(
        refused(literals(|given| _ = given.strict.pop())),
        "one entry for each literal"
    );
    assert_eq!(
        refused(literals(|given| _ = given.relative.pop())),
        "one entry for each literal"
    );
    assert_eq!(
        refused(literals(|given| given.absolute.push(0.0))),
        "one entry for each literal"
    );
    for bound in [-1.0, -0.0, f64::NEG_INFINITY] {
        assert_eq!(
            refused(literals(|given| given.absolute[1] = bound)),
            "error bounds are not negative"
        );
        assert_eq!(
            refused(literals(|given| given.relative[0] = bound)),
            "error bounds are not negative"
        );
    }
    assert!(literals(|given| given.absolute[1] = -f64::NAN).is_ok());
}

#[test]
fn gates_fit_together() {
    assert!(gates(|_| ()).is_ok());
    assert_eq!(refused(gates(|given| given.inputs = 0)), "a model has inputs");
    assert_eq!(
        refused(gates(|given| given.lower.push(0.0))),
        "bounds for each region and input"
    );
    let odd = |given: &mut GateArrays| {
        given.lower.push(0.0);
        given.upper.push(0.0);
    };
    assert_eq!(refused(gates(odd)), "bounds for each region and input");
    assert_eq!(
        refused(gates(|given| given.gate_regions = vec![0, 1])),
        "offsets end at the end"
    );
    assert_eq!(
        refused(gates(|given| given.clause_literals = vec![0, 1])),
        "offsets end at the end"
    );
    assert_eq!(
        refused(gates(|given| given.gate_clauses = vec![0, 1])),
        "offsets end at the end"
    );
    assert_eq!(
        refused(gates(|given| given.gate_clauses = vec![0, 2])),
        "clauses and regions for each gate"
    );
    assert_eq!(
        refused(gates(|given| given.region_cuts = vec![0, 1])),
        "offsets end at the end"
    );
    assert_eq!(
        refused(gates(|given| given.cut_regions = vec![0])),
        "cuts for each region that has some"
    );
    assert_eq!(
        refused(gates(|given| given.cut_regions = vec![1, 1])),
        "a region has its cuts in one place"
    );
    assert_eq!(
        refused(gates(|given| given.cut_regions = vec![1, 0])),
        "a region has its cuts in one place"
    );
    assert_eq!(
        refused(gates(|given| given.cut_regions = vec![0, 2])),
        "cuts of regions"
    );
    assert_eq!(refused(Gates::new(gate_arrays(&[]))), "a model has gates");
}

#[test]
fn coverage_fits_together() {
    assert!(coverage(|_| ()).is_ok());
    assert_eq!(
        refused(coverage(|given| _ = given.threshold.pop())),
        "one entry for each node"
    );
    assert_eq!(refused(coverage(|given| given.left.push(0))), "one entry for each node");
    assert_eq!(
        refused(coverage(|given| _ = given.right.pop())),
        "one entry for each node"
    );
    assert_eq!(
        refused(coverage(|given| _ = given.label.pop())),
        "one entry for each node"
    );
    assert_eq!(refused(coverage(|given| given.root[0] = 3)), "roots are nodes");
    assert_eq!(refused(coverage(|given| given.feature[0] = 3)), "nodes split features");
    assert_eq!(refused(coverage(|given| given.feature[0] = -2)), "nodes split features");
    assert_eq!(refused(coverage(|given| given.left[0] = 0)), "children come later");
    assert_eq!(refused(coverage(|given| given.right[0] = 3)), "children come later");
    assert_eq!(refused(coverage(|given| given.label[1] = 4)), "labels are labels");
}

#[test]
fn a_model_fits_together() {
    assert!(model(|_| ()).is_ok());
    assert_eq!(refused(model(|given| _ = given.inputs.pop())), "inputs of the gates");
    assert_eq!(refused(model(|given| given.outputs.clear())), "a model has outputs");
    assert_eq!(refused(model(|given| given.outputs.truncate(0))), "a model has outputs");
    let narrow = |given: &mut ModelParts| {
        given.gates.literals.columns[0] = 6;
        given.outputs.truncate(1);
    };
    assert_eq!(refused(model(narrow)), "columns of the model");
    let of_outputs = |given: &mut ModelParts| {
        given.gates.cuts = literals(|_| ()).unwrap();
    };
    assert_eq!(refused(model(of_outputs)), "cuts are of inputs");
    assert_eq!(
        refused(model(|given| given.modes.push(Mode::Off))),
        "a mode for each gate"
    );
    let other = |given: &mut ModelParts| given.coverage = Coverage::new(4, CoverageArrays::default()).unwrap();
    assert_eq!(refused(model(other)), "coverage of the gates' inputs");
    let none = |given: &mut ModelParts| given.coverage = Coverage::new(3, CoverageArrays::default()).unwrap();
    assert_eq!(refused(model(none)), "a tree for each region");
    let vast = Tensor::new("v".to_owned(), Datatype::Fp16, vec![(usize::MAX / 2) as u64]).unwrap();
    let scalar = Tensor::new("s".to_owned(), Datatype::Fp16, vec![]).unwrap();
    // Too many with the inputs, with the constant one, and by themselves.
    for vast in [
        vec![vast.clone(); 2],
        vec![vast.clone(), vast.clone(), scalar],
        vec![vast; 3],
    ] {
        assert_eq!(refused(model(|given| given.outputs = vast)), "rows fit in memory");
    }
}

#[test]
fn rows_have_values_and_fit_in_memory() {
    let tensor = |shape: &[u64]| Tensor::new("x".to_owned(), Datatype::Fp32, shape.to_vec());
    let scalar = tensor(&[]).unwrap();
    assert_eq!((scalar.row_size, scalar.row_bytes), (1, 4));
    assert_eq!(tensor(&[2, 3]).unwrap().row_size, 6);
    assert_eq!(refused(tensor(&[2, 0])), "rows have values");
    assert_eq!(refused(tensor(&[1 << 32, 1 << 32])), "rows fit in memory");
    assert_eq!(refused(tensor(&[(1 << 32) + 1, (1 << 32) + 1])), "rows fit in memory"); // would wrap to a small size
    assert_eq!(refused(tensor(&[u64::MAX])), "rows fit in memory"); // in values, not in bytes
}
