//! The Kafka client's core: connections, metadata, producer, fetcher, heartbeats.
//!
//! What it is: all of a client that happens per byte, per record or while its user is busy. What it
//! is not: it decides nothing that a flow in Python decides (joining a group, resetting an offset,
//! creating a topic), and it knows no Python. `docs/internals/client.md` is its design.
//!
//! | file | holds |
//! |---|---|
//! | `config`, `error` | what a client is told, and what can go wrong |
//! | `transport`, `tls`, `frame`, `recycle` | bytes: plain or TLS; frames; buffers used again |
//! | `open`, `sasl`, `scram` | opening a connection: name, TCP, TLS, versions, SASL |
//! | `request`, `connection`, `exchange`, `pump` | one connection: its handle, state and task |
//! | `cluster`, `reach`, `refresh`, `flight` | all of them, opened once for all; fresh metadata |
//! | `metadata`, `call` | what is known of a cluster; one request of a flow |
//! | `metrics`, `random` | what is counted; chance |
//! | `views`, `columns` | a batch's records: where they lie; laid out for Arrow |
//! | `bell`, `fork`, `io` | threads: how they wait, what a fork leaves, I/O thread and pool |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bell;
pub mod call;
pub mod cluster;
pub mod columns;
pub mod config;
pub mod connection;
pub mod error;
pub mod fork;
pub mod io;
pub mod metadata;
pub mod metrics;
pub mod recycle;
pub mod request;

mod exchange;
mod flight;
mod frame;
mod open;
mod pump;
mod random;
mod reach;
mod refresh;
mod sasl;
mod scram;
mod tls;
mod transport;
pub mod views;

pub use bell::{Bell, Woken};
pub use cluster::Cluster;
pub use connection::Connection;
pub use error::ClientError;
pub use io::IoThread;
pub use metadata::Metadata;
pub use request::{Purpose, Request};
