//! The metadata image: record types, apply, snapshot, local metadata log.
