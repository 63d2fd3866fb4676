//! The native transport of Gate Sidecar: HTTP/2 and gRPC on both sides, and the ordinary request decided on the way.
//!
//! Python starts it, hands it the active bundles as flat arrays, and answers the calls that it gives away; see
//! `sidecar.proxy.native_transport`.

mod active;
mod ahead;
mod budget;
mod call;
mod caught;
mod counters;
mod dial;
mod exchange;
mod fair;
mod flood;
mod frames;
mod gathered;
mod grpc;
mod handover;
mod inflate;
mod metadata;
mod piece;
mod python;
mod python_lane;
mod refused;
mod reply;
mod streamed;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod upstream;
mod worker;

use pyo3::prelude::*;

#[pymodule]
fn gate_sidecar_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add("TABLE_FORMAT", python::TABLE_FORMAT)?;
    module.add_function(wrap_pyfunction!(python::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(python::travels, module)?)?;
    module.add_class::<python::Transport>()?;
    module.add_class::<python::Call>()
}
