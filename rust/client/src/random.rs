//! Chance for jitter and choices; not for secrets.

use std::hash::{BuildHasher, RandomState};

/// Any number.
pub(crate) fn number() -> u64 {
    // Each RandomState hashes with keys of its own.
    RandomState::new().hash_one(0)
}

/// A number between two.
pub(crate) fn between(low: f64, high: f64) -> f64 {
    let unit = (number() >> 11) as f64 / (1u64 << 53) as f64;
    low + (high - low) * unit
}

/// Puts a list in any order.
pub(crate) fn shuffle<T>(list: &mut [T]) {
    for last in (1..list.len()).rev() {
        let other = usize::try_from(number() % (last as u64 + 1)).unwrap_or(0);
        list.swap(last, other);
    }
}
