//! Boxes, cuts and unions of regions.

use crate::laws::build::{
    Region, above, at_least, evaluated, gate, is_handed, model, request, response, strip, unknown,
};
use crate::{Mode, Unusual};

const OUTPUTS: [f64; 3] = [0.0; 3];

fn always() -> crate::laws::build::Literal {
    at_least(&[(0, 1.0)])
}

fn outside(regions: Vec<Region>, row: [f64; 3]) -> Result<usize, Unusual> {
    let gate = crate::laws::build::Gate {
        regions,
        ..gate(strip(0.0, 0.0), always())
    };
    evaluated(&model(&[gate]), &request(&[row]).bytes(), &response(&[OUTPUTS]).bytes()).map(|seen| seen.outside)
}

#[test]
fn boxes_contain_their_faces_and_nothing_beyond() {
    let region = Region {
        lower: [0.5, -1.0, 2.0],
        upper: [1.0, -0.0, 2.0],
        ..strip(0.0, 0.0)
    };
    let inside = [0.5, -1.0, 2.0];
    for (at, values) in [(0, [0.5, 1.0]), (1, [-1.0, 0.0]), (2, [2.0, 2.0])] {
        for value in values {
            let mut row = inside;
            row[at] = value;
            assert_eq!(outside(vec![region.clone()], row), Ok(0), "{row:?}");
        }
        let next = |value: f64, up: bool| match (at, up) {
            (2, true) => value.next_up(),
            (2, false) => value.next_down(),
            (_, true) => f64::from((value as f32).next_up()),
            (_, false) => f64::from((value as f32).next_down()),
        };
        for value in [next(values[0], false), next(values[1], true)] {
            let mut row = inside;
            row[at] = value;
            assert_eq!(outside(vec![region.clone()], row), Ok(1), "{row:?}");
        }
    }
}

#[test]
fn a_cut_takes_its_side_of_a_box_away() {
    let cut = |literal| Region {
        cuts: vec![literal],
        ..strip(0.0, 1.0)
    };
    let form = [(1, 1.0), (2, -1.0)];
    assert_eq!(outside(vec![cut(at_least(&form))], [0.5, 0.5, 0.0]), Ok(0));
    assert_eq!(outside(vec![cut(above(&form))], [0.5, 0.5, 0.0]), Ok(1));
    assert_eq!(outside(vec![cut(above(&form))], [0.5, 0.25, 0.0]), Ok(0));
    assert_eq!(outside(vec![cut(at_least(&form))], [0.5, 0.75, 0.0]), Ok(1));
    assert_eq!(outside(vec![cut(unknown())], [0.5, 0.5, 0.0]), Err(Unusual::Filter));
    assert_eq!(
        outside(vec![cut(unknown())], [1.5, 0.5, 0.0]),
        Ok(1),
        "outside the box nobody asks for cuts"
    );
}

#[test]
fn all_cuts_of_a_region_have_to_hold() {
    let region = |cuts: &[_]| Region {
        cuts: cuts.to_vec(),
        ..strip(0.0, 1.0)
    };
    let (no, yes) = (at_least(&[(0, -1.0)]), always());
    let row = [0.5, 0.0, 0.0];
    assert_eq!(outside(vec![region(&[yes.clone(), yes.clone()])], row), Ok(0));
    assert_eq!(outside(vec![region(&[yes.clone(), no.clone()])], row), Ok(1));
    assert_eq!(outside(vec![region(&[unknown(), no])], row), Ok(1));
    assert_eq!(outside(vec![region(&[unknown(), yes])], row), Err(Unusual::Filter));
}

#[test]
fn one_region_is_enough() {
    let unknown_there = Region {
        cuts: vec![unknown()],
        ..strip(0.0, 1.0)
    };
    let row = [0.5, 0.0, 0.0];
    assert_eq!(outside(vec![strip(2.0, 3.0), strip(0.0, 1.0)], row), Ok(0));
    assert_eq!(outside(vec![unknown_there.clone(), strip(0.0, 1.0)], row), Ok(0));
    assert_eq!(
        outside(vec![unknown_there.clone(), strip(2.0, 3.0)], row),
        Err(Unusual::Filter)
    );
    assert_eq!(outside(vec![strip(2.0, 3.0), strip(4.0, 5.0)], row), Ok(1));
}

#[test]
fn cuts_belong_to_their_own_region() {
    let never = Region {
        cuts: vec![at_least(&[(0, -1.0)])],
        ..strip(2.0, 3.0)
    };
    let gates = [strip(0.0, 1.0), never, strip(4.0, 5.0)].map(|region| gate(region, always()));
    let rows = [[0.5, 0.0, 0.0], [2.5, 0.0, 0.0], [4.5, 0.0, 0.0]];
    let seen = evaluated(
        &model(&gates),
        &request(&rows).bytes(),
        &response(&[OUTPUTS; 3]).bytes(),
    )
    .unwrap();
    assert_eq!((seen.outside, seen.untouched), (1, 2));
    assert_eq!(
        seen.domains.iter().map(|domain| domain.gate).collect::<Vec<_>>(),
        [0, 2]
    );
}

#[test]
fn a_gate_that_is_off_contains_nothing_and_is_not_looked_at() {
    let mut off = gate(
        Region {
            cuts: vec![unknown()],
            ..strip(0.0, 1.0)
        },
        at_least(&[(0, -1.0)]),
    );
    off.mode = Mode::Off;
    let row = [0.5, 0.0, 0.0];
    let seen = evaluated(&model(&[off.clone()]), &request(&[row]).bytes(), b"not even a message").unwrap();
    assert_eq!((seen.outside, seen.untouched, seen.domains.len()), (1, 0, 0));
    let seen = evaluated(
        &model(&[off, gate(strip(0.0, 1.0), always())]),
        &request(&[row]).bytes(),
        &response(&[OUTPUTS]).bytes(),
    );
    assert_eq!(seen.unwrap().domains.len(), 1);
}

#[test]
fn rows_in_no_domain_are_for_python_where_they_are_refused() {
    let mut parts = crate::laws::build::parts(&[gate(strip(0.0, 1.0), always())]);
    parts.refuses_outside = true;
    let model = crate::Model::new(parts).unwrap();
    let (inside, beyond) = ([0.5, 0.0, 0.0], [1.5, 0.0, 0.0]);
    assert_eq!(is_handed(&model, &request(&[inside]).bytes()), None);
    assert_eq!(is_handed(&model, &request(&[beyond]).bytes()), Some(Unusual::Model));
    assert_eq!(
        is_handed(&model, &request(&[inside, beyond]).bytes()),
        Some(Unusual::Model)
    );
}
