//! Sockets, framing and the produce and fetch fast path of one broker.
//!
//! A [`Broker`] serves Kafka's protocol over TCP from a data directory. What needs no decision it
//! answers itself, on its I/O threads: ApiVersions, Metadata, Produce, Fetch, ListOffsets,
//! OffsetForLeaderEpoch. Everything else goes to a [`ControlPlane`] and comes back through
//! [`Broker::reply`].
//!
//! What it is not: it decides nothing (names, placement, configs, ids), opens no records, and
//! writes no file but through `mqlog-log`.
//!
//! | module | one thing |
//! |---|---|
//! | `threads` | I/O threads, listeners, admission of sockets |
//! | `connection` | one connection's turns; `recv`, `outbox`, `stream` are its ends |
//! | `decode` | frames to requests, limits, who answers |
//! | `produce`, `produce_rules` | batches to partitions |
//! | `produce_answer`, `pending_produce` | answers, and those that wait for a flush |
//! | `fetch`, `fetch_answer`, `session` | offsets to file ranges, waiting, incremental sessions |
//! | `metadata`, `api_versions`, `list_offsets`, `offset_for_leader_epoch` | the small answers |
//! | `park`, `mailbox`, `control`, `control_queue` | requests that others answer |
//! | `executor`, `router`, `topic_config`, `files` | metadata made durable and published |
//! | `ledger`, `replay` | a coordinator's log: answers that wait for it, and what it holds |
//! | `broker` | start, handle, end |

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admit;
mod api_versions;
mod apis;
mod broker;
mod budget;
mod close;
mod config;
mod connection;
mod control;
mod control_queue;
mod core;
mod decode;
mod executor;
mod faults;
mod features;
mod fetch;
mod fetch_answer;
mod files;
mod ledger;
mod list_offsets;
mod lookup;
mod mailbox;
mod metadata;
mod offset_for_leader_epoch;
mod outbox;
mod park;
mod pending_produce;
mod produce;
mod produce_answer;
mod produce_rules;
mod recv;
mod replay;
mod router;
mod session;
mod stats;
mod stream;
mod threads;
pub mod topic_config;

pub use broker::{Broker, PartitionInfo, StartError, StartReport};
pub use config::{BrokerConfig, ConfigError, Limits, Listener};
pub use control::{ControlEvent, ControlPlane, ControlRequest, NoControl};
pub use control_queue::ControlQueue;
pub use faults::Faults;
pub use files::FileOp;
pub use replay::Replay;
pub use stats::{Counter, Stats, StatsSnapshot};
