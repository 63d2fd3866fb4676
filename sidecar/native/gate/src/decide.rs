//! Admission and judgement of the ordinary request, after `sidecar.proxy.request_path`.

use crate::Unusual;
use crate::evaluate::{Known, Row};
use crate::inside::Inside;
use crate::message::{Request, read_response};
use crate::model::Model;
use crate::scan::{Position, Scan};
use crate::tables::Mode;
use crate::tensors::Found;

/// What judging the answer needs to know of an admitted request.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is kept of the rows, with room for the outputs.
    rows: Vec<f64>,
    inside: Inside,
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
    let tensors = &request.tensors;
    let found = find(model, request, tensors.lengths().as_slice())?;
    let mut scan = Scan::new(model, found.count);
    for (input, &place) in found.places.as_slice().iter().enumerate() {
        scan.feed(model, input, &mut Position::default(), tensors.raw.as_slice()[place])?;
    }
    plan(model, scan, found.count, model.is_proved(request.model_version))
}

/// The inputs of a request, whose contents have these lengths, where everything but their values is as it has to be.
pub(crate) fn find(model: &Model, request: &Request<'_>, lengths: &[usize]) -> Result<Found, Unusual> {
    let asked = request.asked.as_slice();
    for (at, name) in asked.iter().enumerate() {
        if asked[..at].contains(name) {
            return Err(Unusual::Outputs);
        }
    }
    let outputs = || model.outputs.iter().map(|output| output.tensor.name.as_str());
    if !asked.is_empty() && !outputs().all(|output| asked.contains(&output)) {
        return Err(Unusual::Outputs);
    }
    let specs = model.inputs.iter().map(|input| &input.looked.tensor);
    request
        .tensors
        .find(specs, lengths, model.batched, None, model.limit_rows)
}

/// What to do with the answer, once all values were looked at.
pub(crate) fn plan(model: &Model, scan: Scan, count: usize, is_proved: bool) -> Result<Plan, Unusual> {
    let Scan { rows, inside } = scan;
    let gates = model.modes.len();
    let mut contained = vec![false; count * gates];
    let mut is_watched = false;
    for (at, contained) in contained.chunks_exact_mut(gates).enumerate() {
        let row = row(model, &rows, &inside, at);
        for (gate, mode) in model.modes.iter().enumerate() {
            contained[gate] = *mode != Mode::Off && decided(model.gates.contains(gate, &row))?;
            is_watched |= contained[gate];
        }
        if model.refuses_outside && !contained.contains(&true) {
            return Err(Unusual::Model);
        }
    }
    Ok(Plan {
        rows,
        inside,
        contained,
        count,
        is_watched,
        is_proved,
    })
}

fn row<'a>(model: &Model, rows: &'a [f64], inside: &'a Inside, at: usize) -> Row<'a> {
    Row {
        values: &rows[at * model.width..][..model.width],
        inside,
        at,
    }
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
    response.tensors.take(
        &model.outputs,
        model.batched,
        model.limit_rows,
        model.width,
        &mut plan.rows,
    )?;
    let mut seen = Seen::default();
    let gates = model.modes.len();
    for (at, contained) in plan.contained.chunks_exact(gates).enumerate() {
        let row = row(model, &plan.rows, &plan.inside, at);
        if !contained.contains(&true) {
            seen.outside += 1;
            continue;
        }
        seen.untouched += 1;
        for gate in (0..gates).filter(|&gate| contained[gate]) {
            match model.gates.satisfied(gate, &row) {
                Known::Yes => {}
                Known::No => return Err(Unusual::Fired),
                Known::Unknown => return Err(Unusual::Filter),
            }
            seen.domains.push(Domain {
                gate,
                label: model.gates.label(&model.coverage, gate, &row),
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
