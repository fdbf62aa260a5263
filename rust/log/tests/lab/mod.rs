//! The crash lab: one seeded history of a data directory on a simulated disk, and an independent
//! record of what was promised to whom.
//!
//! [`life`] starts the engine and pulls the plug, [`ops`] has it work, [`client`] sends, [`ledger`]
//! is the oracle, [`batch`] makes batches that are told apart, [`reader`] reads like a consumer.
//! None of them looks into the engine: they use what its crate exports.

pub mod batch;
pub mod client;
pub mod ledger;
pub mod life;
pub mod ops;
pub mod reader;
