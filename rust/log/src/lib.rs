//! One partition's log and the data directory that holds many.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod disk;
pub mod sim;
