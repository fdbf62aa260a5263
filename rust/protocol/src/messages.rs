//! Typed structs, generated, for the few messages that Rust itself reads and writes whole.
//!
//! Everything else crosses as a [`crate::value::Value`]; produce and fetch, which must not copy,
//! have walkers of their own ([`crate::produce`], [`crate::fetch`]).

use crate::error::DecodeError;
use crate::reader::Reader;

pub mod api_versions;
pub mod find_coordinator;
pub mod heartbeat;
pub mod init_producer_id;
pub mod leave_group;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod sasl_authenticate;
pub mod sasl_handshake;

/// Reads a value that is nullable in some versions only.
fn not_null<'a, T>(
    reader: &mut Reader<'a>,
    strict: bool,
    read: impl FnOnce(&mut Reader<'a>) -> Result<Option<T>, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match read(reader)? {
        None if strict => Err(reader.unexpected_null()),
        value => Ok(value),
    }
}
