//! The Kafka client's core: connections, metadata, producer, fetcher, heartbeats.
//!
//! What it is: all of a client that happens per byte, per record or while its user is busy. What it
//! is not: it decides nothing that a flow in Python decides (joining a group, resetting an offset,
//! creating a topic), and it knows no Python. `docs/internals/client.md` is its design.
//!
//! | file | holds |
//! |---|---|
//! | `config`, `error` | what a client is told, and what can go wrong |
//! | `connection`, `cluster` | one connection; all of them, with the metadata kept fresh |
//! | `metadata`, `call` | what is known of a cluster; one request of a flow |
//! | `bell`, `fork`, `io` | threads: how they wait, what a fork leaves, I/O thread and pool |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bell;
pub mod call;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod error;
pub mod fork;
pub mod io;
pub mod metadata;

pub use bell::{Bell, Woken};
pub use cluster::Cluster;
pub use connection::{Connection, Purpose, Request};
pub use error::ClientError;
pub use io::IoThread;
pub use metadata::Metadata;
