//! One partition's log and the data directory that holds many.
