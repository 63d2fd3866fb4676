//! Admission and judgement of the ordinary request, after `sidecar.proxy.request_path`.

use crate::Unusual;
use crate::evaluate::Known;
use crate::message::{Layout, Request, read_response};
use crate::tables::{Mode, Model};

/// What judging the answer needs to know of an admitted request.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Extended rows, with room for the outputs.
    rows: Vec<f64>,
    /// By row and gate; gates that are off contain nothing.
    contained: Vec<bool>,
    /// How many rows there are.
    pub count: usize,
    /// Whether any gate contains any row.
    pub is_watched: bool,
    /// Whether what is proved is proved of the version that the client asked for.
    is_proved: bool,
}

/// How many rows lay in a gate's domain, by what is proved there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The gate.
    pub gate: usize,
    /// 0 outside (of all boxes), 1 silent, 2 violating, 3 open.
    pub label: u8,
}

/// What was seen of an answer that goes to the client as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Rows in no domain.
    pub outside: usize,
    /// Rows that satisfy all that contains them.
    pub untouched: usize,
    /// An entry for each row and gate that contains it.
    pub domains: Vec<Domain>,
}

/// Check a request before anything is forwarded.
///
/// # Errors
/// The Python functions must check it.
pub fn admit(model: &Model, request: &Request<'_>) -> Result<Plan, Unusual> {
    let asked = request.asked.as_slice();
    for (at, name) in asked.iter().enumerate() {
        if asked[..at].contains(name) {
            return Err(Unusual::Outputs);
        }
    }
    if !asked.is_empty() && !model.outputs.iter().all(|output| asked.contains(&output.name.as_str())) {
        return Err(Unusual::Outputs);
    }
    let mut rows = Vec::new();
    let layout = Layout {
        first: 1,
        width: model.width(),
    };
    let count = request
        .tensors
        .rows(&model.inputs, model.batched, None, model.limit_rows, layout, &mut rows)?;
    let gates = model.modes.len();
    let mut contained = vec![false; count * gates];
    let mut is_watched = false;
    for (row, contained) in rows.chunks_exact(layout.width).zip(contained.chunks_exact_mut(gates)) {
        for (gate, mode) in model.modes.iter().enumerate() {
            contained[gate] = *mode != Mode::Off && decided(model.gates.contains(gate, row))?;
            is_watched |= contained[gate];
        }
        if model.refuses_outside && !contained.contains(&true) {
            return Err(Unusual::Model);
        }
    }
    let is_proved = model.is_proved(request.model_version);
    Ok(Plan {
        rows,
        contained,
        count,
        is_watched,
        is_proved,
    })
}

/// Judge the upstream's response to an admitted request before anything is answered.
///
/// # Errors
/// The Python functions must judge it.
pub fn judge(model: &Model, plan: &mut Plan, response: &[u8]) -> Result<Seen, Unusual> {
    if !plan.is_watched {
        return Ok(Seen {
            outside: plan.count,
            ..Seen::default()
        });
    }
    let response = read_response(response)?;
    // What the upstream says counts; where it says nothing, what the client asked for.
    let named = response.model_version;
    if !(if named.is_empty() {
        plan.is_proved
    } else {
        model.is_proved(named)
    }) {
        return Err(Unusual::Model);
    }
    let layout = Layout {
        first: 1 + model.gates.inputs,
        width: model.width(),
    };
    response.tensors.rows(
        &model.outputs,
        model.batched,
        Some(plan.count),
        model.limit_rows,
        layout,
        &mut plan.rows,
    )?;
    let mut seen = Seen::default();
    let gates = model.modes.len();
    for (row, contained) in plan
        .rows
        .chunks_exact(layout.width)
        .zip(plan.contained.chunks_exact(gates))
    {
        if !contained.contains(&true) {
            seen.outside += 1;
            continue;
        }
        seen.untouched += 1;
        for gate in (0..gates).filter(|&gate| contained[gate]) {
            match model.gates.satisfied(gate, row) {
                Known::Yes => {}
                Known::No => return Err(Unusual::Fired),
                Known::Unknown => return Err(Unusual::Filter),
            }
            seen.domains.push(Domain {
                gate,
                label: model.gates.label(&model.coverage, gate, row),
            });
        }
    }
    Ok(seen)
}

fn decided(known: Known) -> Result<bool, Unusual> {
    match known {
        Known::Yes => Ok(true),
        Known::No => Ok(false),
        Known::Unknown => Err(Unusual::Filter),
    }
}
