//! What the crate as a whole has to keep to. Small tests of one module stand in that module.

mod arriving;
mod boxes_law;
mod decisions;
mod filter_law;
mod labels;
mod membership;
mod messages;
mod scan_law;
mod tables;
