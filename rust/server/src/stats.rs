//! Counters of one broker, cheap enough to be always on.
//!
//! Everything is a relaxed atomic; [`Stats::snapshot`] reads them one by one, so a snapshot is not
//! a point in time. Names are stable: the Python side exports them as they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Request counters are kept for API keys below this; Kafka 4.3's largest is 92.
const API_KEYS: usize = 96;
/// Turn times fall into buckets of powers of two of a microsecond: `< 1, < 2, < 4, ...`.
const TURN_BUCKETS: usize = 24;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Broker-wide counters; `stats.name.add(n)` from any thread.
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
            requests: [Counter; API_KEYS],
            turns: [Counter; TURN_BUCKETS],
        }

        impl Default for Stats {
            fn default() -> Self {
                Stats {
                    $($name: Counter::default(),)*
                    requests: std::array::from_fn(|_| Counter::default()),
                    turns: std::array::from_fn(|_| Counter::default()),
                }
            }
        }

        impl Stats {
            fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted and served.
    connections_accepted,
    /// Connections open now.
    connections_open,
    /// Closed at once: `max.connections`.
    refused_max_connections,
    /// Closed at once: `max.connections.per.ip`.
    refused_per_ip,
    /// `accept` failed for want of descriptors or memory.
    accept_failures,
    /// Closed by the peer.
    closed_by_peer,
    /// Closed: reading or writing failed.
    closed_io_error,
    /// Closed: nothing finished for `connections.max.idle.ms`.
    closed_idle,
    /// Closed: the frame length is negative or above the limit.
    closed_frame_length,
    /// Closed: the first bytes are a TLS handshake on a plaintext listener.
    closed_tls,
    /// Closed: the first bytes are an HTTP request.
    closed_http,
    /// Closed: a request header or body that does not parse.
    closed_malformed,
    /// Closed: an API key or version that is not served.
    closed_unsupported,
    /// Closed: a produce with acks=0 failed, so nobody could be told.
    closed_acks0_error,
    /// Closed by the admission seam.
    closed_not_admitted,
    /// Closed: the control plane answered with a close.
    closed_by_control,
    /// Bytes read from clients.
    bytes_in,
    /// Bytes written to clients.
    bytes_out,
    /// Of those, bytes that went by `sendfile`.
    bytes_sendfile,
    /// Batches accepted.
    batches_in,
    /// Batches refused, whatever the error.
    batches_refused,
    /// Record bytes appended.
    append_bytes,
    /// Calls of `Partition::append`.
    appends,
    /// Produce answers that waited for a flush.
    produce_waits,
    /// Produce answers that ran into their timeout.
    produce_timeouts,
    /// Fetches that waited.
    fetch_waits,
    /// Fetch reads that went through the pool because the bytes were cold or unchecked.
    fetch_cold,
    /// Times a connection stopped reading: too many request bytes held.
    paused_request_bytes,
    /// Times a connection stopped reading: too many unflushed bytes.
    paused_unflushed,
    /// Times a connection stopped reading: the peer does not take its answers.
    paused_slow_peer,
    /// Incremental fetch sessions made.
    sessions_created,
    /// Fetch sessions evicted for others.
    sessions_evicted,
    /// Requests handed to the control plane.
    control_requests,
}

/// One relaxed counter.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes `n` off (gauges).
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What [`Stats::snapshot`] returns.
#[derive(Debug, Clone, Default)]
pub struct StatsSnapshot {
    /// Every named counter.
    pub counters: BTreeMap<&'static str, u64>,
    /// Requests per API key that were seen at all.
    pub requests: BTreeMap<i16, u64>,
    /// Turns of the I/O threads: `(upper bound in microseconds, count)`, empty buckets left out.
    pub turns: Vec<(u64, u64)>,
}

impl Stats {
    /// Counts a request of `api_key`.
    pub(crate) fn request(&self, api_key: i16) {
        if let Some(counter) = usize::try_from(api_key)
            .ok()
            .and_then(|k| self.requests.get(k))
        {
            counter.add(1);
        }
    }

    /// Counts one turn of an I/O thread that took `nanos`.
    pub(crate) fn turn(&self, nanos: u64) {
        let micros = nanos / 1000;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.turns[bucket.min(TURN_BUCKETS - 1)].add(1);
    }

    /// Reads everything.
    pub fn snapshot(&self) -> StatsSnapshot {
        let some = |(i, c): (usize, &Counter)| (c.get() > 0).then(|| (i, c.get()));
        StatsSnapshot {
            counters: self.named().into_iter().collect(),
            requests: (self.requests.iter().enumerate())
                .filter_map(some)
                .map(|(key, n)| (key as i16, n))
                .collect(),
            turns: (self.turns.iter().enumerate())
                .filter_map(some)
                .map(|(bucket, n)| (1 << bucket, n))
                .collect(),
        }
    }
}
