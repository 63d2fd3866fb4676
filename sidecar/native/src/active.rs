//! The active bundles, as one value that is replaced whole.

use crate::counters::ModelCounters;
use gate::Model;
use pyo3::{Py, PyAny};
use std::collections::HashMap;
use std::sync::Arc;

/// One model that the fast path may judge.
pub struct ActiveModel {
    pub model: Model,
    pub counters: Arc<ModelCounters>,
}

/// All of them at one moment; `python` is the same set as the Python functions know it.
pub struct Active {
    pub models: HashMap<String, Arc<ActiveModel>>,
    pub python: Option<Py<PyAny>>,
}
