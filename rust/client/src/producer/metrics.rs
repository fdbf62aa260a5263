//! What a producer counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the producer was made.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $name: Counter,)*
        }

        /// [`Metrics`] at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Snapshot {
            /// Each counter with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.0.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Records whose batch is written.
    records_sent,
    /// Records whose batch failed.
    record_errors,
    /// Records in batches that were sent again.
    record_retries,
    /// Batches that were written.
    batches_sent,
    /// Batches that were split for their size.
    batches_split,
    /// Bytes of records in batches, before compression.
    bytes_raw,
    /// Bytes of batches in requests.
    bytes_sent,
    /// Produce requests.
    requests,
    /// From request to answer, together, in µs.
    request_micros,
    /// Times a broker asked for a pause.
    throttled,
    /// Those pauses together, in ms.
    throttle_millis,
    /// Times the producer epoch rose.
    epochs,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Relaxed);
    }
}
