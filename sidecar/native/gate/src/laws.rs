//! What has to hold of any input, each law with a referee that is told nothing by the rest of the crate. The tests draw
//! inputs of their own, `fuzz/` any; nothing of this is in the product.

pub mod arriving;
pub mod boxes;
pub mod build;
mod exact;
pub mod literals;
pub mod messages;
pub mod random;
pub mod wide;
