//! The metadata image: record types, apply, snapshot, local metadata log.
//!
//! The image (topics, ids, partitions, leaders, epochs, configs, producer-id blocks) changes only
//! by [`Image::apply`], a pure state machine over [`MetaRecord`]s. On one node the records go to a
//! [`MetaLog`], an fsynced log of our own engine in `meta/`; a cluster would replicate the same
//! records and apply them the same way.
//!
//! What it is not: it makes no directory, knows no socket and decides nothing. Whoever proposes
//! records has checked names and limits; `apply` only refuses what would make the image contradict
//! itself.
//!
//! ```
//! use mqlog_meta::{Image, MetaRecord};
//!
//! let mut image = Image::default();
//! image.apply(&MetaRecord::Topic { id: [7; 16], name: "flights".into() })?;
//! assert_eq!(image.topic_named("flights").map(|topic| topic.id), Some([7; 16]));
//!
//! let before = image.clone(); // cheap
//! image.apply(&MetaRecord::RemoveTopic { id: [7; 16] })?;
//! assert_eq!((before.topic_count(), image.topic_count()), (1, 0));
//! # Ok::<(), mqlog_meta::ApplyError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod image;
mod log;
mod record;
mod snapshot;
mod wire;

pub use error::{ApplyError, DecodeError, MetaError};
pub use image::{Configs, Image, PartitionState, Topic};
pub use log::MetaLog;
pub use record::{MetaRecord, TopicId, RESOURCE_BROKER, RESOURCE_TOPIC};
pub use snapshot::{decode_image, encode_image, SnapshotError, IMAGE_VERSION};
