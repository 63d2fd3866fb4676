//! What is proved where a row lies.

use crate::laws::build::{Gate, Region, Tree, at_least, evaluated, gate, model, request, response, strip, unknown};

fn label(regions: Vec<Region>, x0: f64, x1: f64) -> u8 {
    let gate = Gate {
        regions,
        ..gate(strip(0.0, 0.0), at_least(&[(0, 1.0)]))
    };
    let seen = evaluated(
        &model(&[gate]),
        &request(&[[x0, x1, 0.0]]).bytes(),
        &response(&[[0.0; 3]]).bytes(),
    );
    seen.unwrap().domains[0].label
}

fn labelled(label: u8) -> Region {
    Region {
        tree: Tree::Leaf(label),
        ..strip(0.0, 1.0)
    }
}

#[test]
fn the_threshold_itself_goes_left() {
    let region = || {
        vec![Region {
            tree: Tree::split(0, 0.5, 1, 3),
            ..strip(0.0, 1.0)
        }]
    };
    assert_eq!(label(region(), 0.5, 0.0), 1);
    assert_eq!(label(region(), f64::from(0.5f32.next_up()), 0.0), 3);
    assert_eq!(label(region(), 0.25, 0.0), 1);
    assert_eq!(label(region(), 1.0, 0.0), 3);
}

#[test]
fn trees_may_be_deep_and_split_any_feature() {
    let tree = Tree::Split {
        feature: 0,
        threshold: 0.5,
        left: Box::new(Tree::Split {
            feature: 1,
            threshold: 0.0,
            left: Box::new(Tree::Leaf(1)),
            right: Box::new(Tree::split(0, 0.25, 2, 3)),
        }),
        right: Box::new(Tree::Leaf(2)),
    };
    let region = || {
        vec![Region {
            tree: tree.clone(),
            ..strip(0.0, 1.0)
        }]
    };
    assert_eq!(label(region(), 0.5, -1.0), 1);
    assert_eq!(label(region(), 0.125, 1.0), 2);
    assert_eq!(label(region(), 0.375, 1.0), 3);
    assert_eq!(label(region(), 0.75, 1.0), 2);
}

#[test]
fn where_regions_overlap_violating_counts_before_open_and_open_before_silent() {
    for (first, second, expected) in [
        (1, 1, 1),
        (1, 2, 2),
        (1, 3, 3),
        (2, 2, 2),
        (2, 3, 2),
        (3, 3, 3),
        (0, 1, 1),
        (0, 0, 0),
    ] {
        assert_eq!(
            label(vec![labelled(first), labelled(second)], 0.5, 0.0),
            expected,
            "{first} {second}"
        );
        assert_eq!(
            label(vec![labelled(second), labelled(first)], 0.5, 0.0),
            expected,
            "{second} {first}"
        );
    }
}

#[test]
fn a_region_elsewhere_says_nothing() {
    let elsewhere = Region {
        tree: Tree::Leaf(2),
        ..strip(2.0, 3.0)
    };
    assert_eq!(label(vec![elsewhere.clone(), labelled(1)], 0.5, 0.0), 1);
    assert_eq!(label(vec![labelled(1), elsewhere], 2.5, 0.0), 2);
}

#[test]
fn labels_do_not_ask_for_cuts() {
    let cut = Region {
        cuts: vec![unknown()],
        ..labelled(2)
    };
    assert_eq!(label(vec![labelled(1), cut], 0.5, 0.0), 2);
}

#[test]
fn each_gate_has_its_own_trees() {
    let gates = [1, 2, 3].map(|here| gate(labelled(here), at_least(&[(0, 1.0)])));
    let seen = evaluated(
        &model(&gates),
        &request(&[[0.5, 0.0, 0.0]]).bytes(),
        &response(&[[0.0; 3]]).bytes(),
    )
    .unwrap();
    assert_eq!(
        seen.domains.iter().map(|domain| domain.label).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}
