//! Requirements, batches, modes and versions.

use crate::laws::build::{
    Gate, Literal, above, at_least, evaluated, field, gate, model, parts, request, response, strip, unknown,
};
use crate::{Domain, Mode, Model, Seen, Unusual};

const INSIDE: [f64; 3] = [0.5, 0.0, 0.0];
const BEYOND: [f64; 3] = [50.0, 0.0, 0.0];

fn judged(clauses: Vec<Vec<Literal>>, outputs: [f64; 3]) -> Result<(), Unusual> {
    let gate = Gate {
        clauses,
        ..gate(strip(0.0, 1.0), unknown())
    };
    let seen = evaluated(
        &model(&[gate]),
        &request(&[INSIDE]).bytes(),
        &response(&[outputs]).bytes(),
    )?;
    assert_eq!(
        seen,
        Seen {
            outside: 0,
            untouched: 1,
            domains: vec![Domain { gate: 0, label: 1 }]
        }
    );
    Ok(())
}

#[test]
fn ties_satisfy_what_is_closed_and_violate_what_is_strict() {
    let form = [(4, 1.0), (5, -1.0)];
    for value in [0.0, -0.0, 1.0, -7.25, 3e38] {
        assert_eq!(judged(vec![vec![at_least(&form)]], [value, value, 0.0]), Ok(()));
        assert_eq!(
            judged(vec![vec![above(&form)]], [value, value, 0.0]),
            Err(Unusual::Fired)
        );
    }
    assert_eq!(judged(vec![vec![above(&form)]], [0.0, -0.0, 0.0]), Err(Unusual::Fired));
}

#[test]
fn the_neighbours_of_a_tie_are_told_from_it() {
    let form = [(4, 1.0), (5, -1.0)];
    for value in [1f32, -7.25, f32::MIN_POSITIVE, 1e30] {
        let (here, up, down) = (
            f64::from(value),
            f64::from(value.next_up()),
            f64::from(value.next_down()),
        );
        for literal in [at_least(&form), above(&form)] {
            assert_eq!(judged(vec![vec![literal.clone()]], [up, here, 0.0]), Ok(()), "{value}");
            assert_eq!(
                judged(vec![vec![literal]], [down, here, 0.0]),
                Err(Unusual::Fired),
                "{value}"
            );
        }
    }
}

#[test]
fn within_the_error_bound_nothing_is_known() {
    let bounded = |strict| Literal {
        strict,
        relative: 0.0,
        absolute: 0.5,
        ..at_least(&[(6, 1.0)])
    };
    let decided = |strict, z| judged(vec![vec![bounded(strict)]], [0.0, 0.0, z]);
    for (z, closed, strict) in [
        (0.75, Ok(()), Ok(())),
        (0.5, Ok(()), Err(Unusual::Filter)),
        (0.5f64.next_down(), Err(Unusual::Filter), Err(Unusual::Filter)),
        (0.0, Err(Unusual::Filter), Err(Unusual::Filter)),
        (-0.5f64.next_down(), Err(Unusual::Filter), Err(Unusual::Filter)),
        (-0.5, Err(Unusual::Filter), Err(Unusual::Fired)),
        (-0.75, Err(Unusual::Fired), Err(Unusual::Fired)),
    ] {
        assert_eq!((decided(false, z), decided(true, z)), (closed, strict), "{z}");
    }
}

#[test]
fn the_relative_bound_grows_with_the_magnitudes_of_all_terms() {
    let literal = Literal {
        relative: 0.25,
        ..at_least(&[(4, 1.0), (5, 1.0)])
    };
    let decided = |y0, y1| judged(vec![vec![literal.clone()]], [y0, y1, 0.0]);
    assert_eq!(decided(8.0, 0.0), Ok(()));
    assert_eq!(decided(8.0, -4.0), Ok(())); // 4 and an error of 3
    assert_eq!(decided(8.0, -5.0), Err(Unusual::Filter)); // 3 and an error of 3.25
    assert_eq!(decided(5.0, -8.0), Err(Unusual::Filter));
    assert_eq!(decided(4.0, -8.0), Err(Unusual::Fired));
}

#[test]
fn overflow_decides_nothing() {
    let largest = f64::MAX;
    for (terms, z) in [
        (vec![(6, 2.0)], largest), // a product
        (vec![(6, 2.0)], -largest),
        (vec![(6, 1.0), (6, 1.0)], largest),  // the sum
        (vec![(6, 1.0), (6, -1.0)], largest), // only the sum of magnitudes
        (vec![(6, 2.0), (6, -2.0)], largest), // infinity less infinity
    ] {
        for (strict, relative) in [(false, 0.0), (true, 0.0), (false, 0.5), (true, 0.5)] {
            let literal = Literal {
                strict,
                relative,
                ..at_least(&terms)
            };
            let judged = judged(vec![vec![literal]], [0.0, 0.0, z]);
            assert_eq!(judged, Err(Unusual::Filter), "{terms:?} {z} {strict} {relative}");
        }
    }
    let bound = Literal {
        relative: 2.0,
        ..at_least(&[(6, 1.0)])
    }; // only the bound
    assert_eq!(judged(vec![vec![bound]], [0.0, 0.0, largest]), Err(Unusual::Filter));
}

#[test]
fn a_bound_of_nan_decides_nothing() {
    for z in [0.0, 1e300, -1e300] {
        let literal = |strict| Literal {
            strict,
            absolute: f64::NAN,
            ..at_least(&[(6, 1.0)])
        };
        assert_eq!(judged(vec![vec![literal(false)]], [0.0, 0.0, z]), Err(Unusual::Filter));
        assert_eq!(judged(vec![vec![literal(true)]], [0.0, 0.0, z]), Err(Unusual::Filter));
    }
}

#[test]
fn clauses_are_a_conjunction_of_disjunctions() {
    let (yes, no) = (at_least(&[(0, 1.0)]), at_least(&[(0, -1.0)]));
    let known = |shape: &[&[&Literal]]| {
        let clauses = shape
            .iter()
            .map(|clause| clause.iter().map(|literal| (*literal).clone()).collect());
        judged(clauses.collect(), [0.0; 3])
    };
    let unknown = &unknown();
    assert_eq!(known(&[&[&no, &yes]]), Ok(()));
    assert_eq!(known(&[&[&no, &no]]), Err(Unusual::Fired));
    assert_eq!(known(&[&[unknown, &yes]]), Ok(()));
    assert_eq!(known(&[&[unknown, &no]]), Err(Unusual::Filter));
    assert_eq!(known(&[&[&no, unknown]]), Err(Unusual::Filter));
    assert_eq!(known(&[&[&yes], &[&yes]]), Ok(()));
    assert_eq!(known(&[&[&yes], &[&no]]), Err(Unusual::Fired));
    assert_eq!(known(&[&[unknown], &[&no]]), Err(Unusual::Fired));
    assert_eq!(known(&[&[unknown], &[&yes]]), Err(Unusual::Filter));
    assert_eq!(known(&[&[&yes], &[unknown]]), Err(Unusual::Filter));
}

#[test]
fn literals_see_inputs_and_outputs_of_their_own_row() {
    // y0 >= x0, y1 >= x1, z >= w
    let clauses = vec![
        vec![at_least(&[(4, 1.0), (1, -1.0)])],
        vec![at_least(&[(5, 1.0), (2, -1.0)])],
        vec![at_least(&[(6, 1.0), (3, -1.0)])],
    ];
    let model = model(&[Gate {
        clauses,
        ..gate(strip(0.0, 10.0), unknown())
    }]);
    let rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]];
    let seen = evaluated(&model, &request(&rows).bytes(), &response(&rows).bytes()).unwrap();
    assert_eq!((seen.outside, seen.untouched, seen.domains.len()), (0, 3, 3));
    for row in 0..3 {
        for column in 0..3 {
            let mut outputs = rows;
            outputs[row][column] -= 0.5;
            let seen = evaluated(&model, &request(&rows).bytes(), &response(&outputs).bytes());
            assert_eq!(seen, Err(Unusual::Fired), "{row} {column}");
        }
    }
}

#[test]
fn a_batch_is_counted_row_by_row() {
    let gates = [
        gate(strip(0.0, 1.0), at_least(&[(4, 1.0)])),
        gate(strip(0.5, 2.0), at_least(&[(5, 1.0)])),
    ];
    let rows = [[0.25, 0.0, 0.0], BEYOND, [0.75, 0.0, 0.0], [1.5, 0.0, 0.0]];
    // What a gate does not contain may be anything.
    let outputs = [[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]];
    let seen = evaluated(&model(&gates), &request(&rows).bytes(), &response(&outputs).bytes()).unwrap();
    assert_eq!((seen.outside, seen.untouched), (1, 3));
    let gates: Vec<usize> = seen.domains.iter().map(|domain| domain.gate).collect();
    assert_eq!(gates, [0, 0, 1, 1]);
}

#[test]
fn a_gate_in_shadow_that_fires_is_for_python_too() {
    let mut shadow = gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]));
    shadow.mode = Mode::Shadow;
    let model = model(&[shadow]);
    let judged = |y0| {
        evaluated(
            &model,
            &request(&[INSIDE]).bytes(),
            &response(&[[y0, 0.0, 0.0]]).bytes(),
        )
    };
    assert_eq!(judged(1.0).unwrap().untouched, 1);
    assert_eq!(judged(-1.0), Err(Unusual::Fired));
}

#[test]
fn an_answer_to_rows_that_nobody_watches_is_not_looked_at() {
    let model = model(&[gate(strip(0.0, 1.0), at_least(&[(0, -1.0)]))]);
    let seen = evaluated(&model, &request(&[BEYOND, BEYOND]).bytes(), b"\xff").unwrap();
    assert_eq!(
        seen,
        Seen {
            outside: 2,
            ..Seen::default()
        }
    );
}

#[test]
fn an_answer_of_a_version_that_nothing_is_proved_of_is_for_python() {
    let mut parts = parts(&[gate(strip(0.0, 1.0), at_least(&[(4, 1.0)]))]);
    parts.versions = vec!["2".to_owned(), "3".to_owned()];
    let model = Model::new(parts).unwrap();
    let version = |version: Option<&str>| version.map_or(vec![], |version| field(2, version.as_bytes()));
    let judged = |asked, answered, row| {
        let request = request(&[row]).with(version(asked));
        evaluated(&model, &request, &response(&[[1.0, 0.0, 0.0]]).with(version(answered))).map(|_| ())
    };
    for (asked, answered, expected) in [
        (None, Some("2"), Ok(())),
        (Some("1"), Some("3"), Ok(())),
        (Some("3"), None, Ok(())),
        (Some("3"), Some(""), Ok(())),
        (Some("2"), Some("1"), Err(Unusual::Model)),
        (Some("1"), None, Err(Unusual::Model)),
        (None, None, Err(Unusual::Model)),
        (None, Some("22"), Err(Unusual::Model)),
    ] {
        assert_eq!(judged(asked, answered, INSIDE), expected, "{asked:?} {answered:?}");
        assert_eq!(judged(asked, answered, BEYOND), Ok(()), "nothing is said of it");
    }
}
