//! RecordBatch v2 bytes: header view, varints, CRC32C, the four codecs, build, validate, iterate.
//!
//! What it is not: it knows no log, no socket and no offset beyond those written in a batch.
//!
//! A batch is 61 bytes of header ([`BatchHeader`]) and a records section, compressed or not. A
//! broker checks a producer's batch with [`validate_header`], patches it with [`assign`] and stores
//! it as it is. Whoever needs the records opens it:
//!
//! ```
//! use mqlog_record::{BatchBuilder, Batches, Codec};
//!
//! let mut builder = BatchBuilder::new(Codec::Lz4).base_offset(7);
//! builder.append(None, Some(b"hello"), 0, &[(b"lang", Some(b"en"))])?;
//! let log = builder.build()?;
//!
//! for batch in Batches::new(&log) {
//!     let open = batch.unwrap().open(1 << 20)?;
//!     for record in open.records() {
//!         let record = record?;
//!         assert_eq!((record.offset, record.value), (7, Some(&b"hello"[..])));
//!     }
//! }
//! # Ok::<(), mqlog_record::RecordError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batches;
mod builder;
mod codec;
mod control;
mod crc;
mod error;
mod header;
mod put;
mod record;
mod validate;
mod varint;

pub use batches::{Batch, BatchError, Batches};
pub use builder::BatchBuilder;
pub use codec::{compress, decompress, Codec};
pub use control::{control_batch, ControlRecord, Marker};
pub use crc::{crc32c, RunningCrc};
pub use error::RecordError;
pub use header::{assign, peek_size, set_log_append_time, verify_crc, BatchHeader};
pub use put::{put_record, Content, HeaderRef};
pub use record::{Headers, OpenBatch, Record, Records};
pub use validate::{validate_header, validate_records, RecordsInfo};

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes of a batch that its own length field does not count.
pub const LENGTH_OVERHEAD: usize = 12;
