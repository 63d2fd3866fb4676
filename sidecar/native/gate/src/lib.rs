//! What the native transport decides by itself: the ordinary request whose rows satisfy every gate.
//!
//! Everything here either decides exactly what the Python functions (`sidecar.proxy.request_path`) would decide, or
//! says [`Unusual`], and then those functions get the same bytes. No I/O, no clock, no Python; it reads the flat
//! arrays of `sidecar.gates.prepare` and `sidecar.bundle.coverage`, which both evaluators share.

mod arriving;
mod boxes;
mod columns;
mod datatype;
mod decide;
mod evaluate;
mod inside;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod message;
mod model;
mod scan;
mod tables;
mod tensors;
#[cfg(test)]
mod tests;
mod wire;

pub use arriving::{Arriving, Beginning};
pub use datatype::Datatype;
pub use decide::{Domain, Plan, Seen, admit, judge};
pub use message::{Request, read_request};
pub use model::{Model, ModelParts};
pub use tables::{Coverage, CoverageArrays, GateArrays, Gates, LiteralArrays, LiteralTable, Mode, TableError, Tensor};

/// Why the Python functions must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusual {
    /// The bytes are not written as writers usually write them, or are no such message at all.
    Encoding,
    /// A field or parameter that has to be looked into.
    Field,
    /// More tensors or dimensions than are kept track of here.
    Size,
    /// Another model, or one whose policy wants more than judging.
    Model,
    /// Tensors that are missing, doubled, of another datatype, shape or length.
    Tensors,
    /// Outputs have to be asked for on the gates' behalf.
    Outputs,
    /// A value that is not finite.
    NotFinite,
    /// The floating-point filter cannot decide.
    Filter,
    /// A gate fires.
    Fired,
}

/// In the order of their numbers in counters.
pub const UNUSUAL: [Unusual; 9] = [
    Unusual::Encoding,
    Unusual::Field,
    Unusual::Size,
    Unusual::Model,
    Unusual::Tensors,
    Unusual::Outputs,
    Unusual::NotFinite,
    Unusual::Filter,
    Unusual::Fired,
];

impl Unusual {
    /// As a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Unusual::Encoding => "encoding",
            Unusual::Field => "field",
            Unusual::Size => "size",
            Unusual::Model => "model",
            Unusual::Tensors => "tensors",
            Unusual::Outputs => "outputs",
            Unusual::NotFinite => "not_finite",
            Unusual::Filter => "filter",
            Unusual::Fired => "fired",
        }
    }
}
