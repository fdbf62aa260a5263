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
//! | `producer` and its folder | records, batches, requests: see there |
//! | `metrics`, `random` | what is counted; chance |
//! | `consumer`, `positions` | what may be asked of a consumer; where it is in each partition |
//! | `fetcher`, `session`, `intake` | fetching ahead; KIP-227; taking an answer in |
//! | `fetched`, `budget` | what waits to be read; how much that may be |
//! | `reader` | reading it: chunks of views, or columns |
//! | `heartbeat` | keeping a member in its group |
//! | `views`, `columns` | a batch's records: where they lie; laid out for Arrow |
//! | `bell`, `fork`, `io` | threads: how they wait, what a fork leaves, I/O thread and pool |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bell;
pub mod call;
pub mod cluster;
pub mod columns;
pub mod config;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod fork;
pub mod heartbeat;
pub mod io;
pub mod metadata;
pub mod metrics;
pub mod positions;
pub mod producer;
pub mod reader;
pub mod recycle;
pub mod request;
pub mod views;

mod budget;
mod exchange;
mod fetched;
mod fetcher;
mod flight;
mod frame;
mod intake;
mod open;
mod pump;
mod random;
mod reach;
mod refresh;
mod sasl;
mod scram;
mod session;
mod tls;
mod transport;

pub use bell::{Bell, Woken};
pub use cluster::Cluster;
pub use connection::Connection;
pub use consumer::Consumer;
pub use error::ClientError;
pub use io::IoThread;
pub use metadata::Metadata;
pub use producer::Producer;
pub use request::{Purpose, Request};
