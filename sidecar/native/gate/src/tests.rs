//! What the crate as a whole has to keep to. Small tests of one module stand in that module.

mod arriving;
mod boxes_law;
mod build;
mod decisions;
mod filter_law;
mod labels;
mod membership;
mod messages;
mod random;
mod scan_law;
mod tables;
mod wide;
