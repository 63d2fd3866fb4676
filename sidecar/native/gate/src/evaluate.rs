//! Membership, satisfaction and labels of one row, read from the flat arrays.
//!
//! The filter is that of `sidecar.gates.filter`: the float64 sum of a literal's terms, with a proved bound on its error
//! in any order of summation. What it cannot decide is not decided here.

use crate::inside::Inside;
use crate::tables::{Coverage, Gates, LEAF, LiteralTable};

/// What is known of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
    Unknown,
}

/// One row: what is kept of it, and in which boxes it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub values: &'a [f64],
    pub inside: &'a Inside,
    pub at: usize,
}

impl Row<'_> {
    fn is_in(&self, region: usize) -> bool {
        self.inside.has(self.at, region)
    }
}

impl LiteralTable {
    /// Whether a literal holds on an extended row.
    pub(crate) fn holds(&self, literal: usize, extended: &[f64]) -> Known {
        let (mut value, mut magnitude) = (0.0, 0.0);
        for term in self.terms.segment(literal) {
            let product = extended[self.columns[term]] * self.coefficients[term];
            value += product;
            magnitude += product.abs();
        }
        // Overflow, or a value that is not finite: nothing is known. Where the filter must not decide, the absolute part
        // of the bound is NaN, and every comparison below is false.
        if !magnitude.is_finite() {
            return Known::Unknown;
        }
        let error = self.relative[literal] * magnitude + self.absolute[literal];
        let strict = self.strict[literal];
        if if strict { value > error } else { value >= error } {
            Known::Yes
        } else if if strict { value <= -error } else { value < -error } {
            Known::No
        } else {
            Known::Unknown
        }
    }
}

impl Gates {
    /// Whether a gate's effective domain contains a row.
    pub(crate) fn contains(&self, gate: usize, row: &Row<'_>) -> Known {
        let mut known = Known::No;
        for region in self.regions.segment(gate).filter(|&region| row.is_in(region)) {
            match all(self.region_cuts[region].clone(), |cut| self.cuts.holds(cut, row.values)) {
                Known::Yes => return Known::Yes,
                Known::Unknown => known = Known::Unknown,
                Known::No => {}
            }
        }
        known
    }

    /// Whether a row satisfies a gate's requirement.
    pub(crate) fn satisfied(&self, gate: usize, row: &Row<'_>) -> Known {
        all(self.clauses.segment(gate), |clause| {
            let mut known = Known::No;
            for literal in self.clause_literals.segment(clause) {
                match self.literals.holds(literal, row.values) {
                    Known::Yes => return Known::Yes,
                    Known::Unknown => known = Known::Unknown,
                    Known::No => {}
                }
            }
            known
        })
    }

    /// What is proved where a row lies, with respect to a gate: 0 outside, 1 silent, 2 violating, 3 open.
    ///
    /// Over the boxes of several regions violating counts before open, and open before silent.
    pub(crate) fn label(&self, coverage: &Coverage, gate: usize, row: &Row<'_>) -> u8 {
        const RANK: [u8; 4] = [0, 1, 3, 2]; // exchanging two values, it is its own inverse
        let mut rank = 0;
        for region in self.regions.segment(gate).filter(|&region| row.is_in(region)) {
            rank = rank.max(RANK[usize::from(coverage.leaf(coverage.root[region], row.values))]);
        }
        RANK[usize::from(rank)]
    }
}

impl Coverage {
    fn leaf(&self, root: usize, row: &[f64]) -> u8 {
        let mut node = root;
        while self.columns[node] != LEAF {
            let goes_left = row[self.columns[node]] <= self.threshold[node];
            node = if goes_left { self.left[node] } else { self.right[node] };
        }
        self.label[node]
    }
}

fn all(range: std::ops::Range<usize>, holds: impl Fn(usize) -> Known) -> Known {
    let mut known = Known::Yes;
    for at in range {
        match holds(at) {
            Known::No => return Known::No,
            Known::Unknown => known = Known::Unknown,
            Known::Yes => {}
        }
    }
    known
}
