//! What a client counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of all connections of a client.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections that were opened, handshakes included.
    pub connections_opened: AtomicU64,
    /// Connections that ended, or could not be opened.
    pub connections_failed: AtomicU64,
    /// Requests sent.
    pub requests: AtomicU64,
    /// Requests answered.
    pub answers: AtomicU64,
    /// Bytes of requests, as the broker sees them (without TLS).
    pub bytes_out: AtomicU64,
    /// Bytes of answers.
    pub bytes_in: AtomicU64,
    latency_ns: AtomicU64,
    latency_max_ns: AtomicU64,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn answered(&self, after: Duration) {
        let ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.answers.fetch_add(1, Relaxed);
        self.latency_ns.fetch_add(ns, Relaxed);
        self.latency_max_ns.fetch_max(ns, Relaxed);
    }

    /// Names and values, counts first.
    pub fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("connections_opened", self.connections_opened.load(Relaxed)),
            ("connections_failed", self.connections_failed.load(Relaxed)),
            ("requests", self.requests.load(Relaxed)),
            ("answers", self.answers.load(Relaxed)),
            ("bytes_out", self.bytes_out.load(Relaxed)),
            ("bytes_in", self.bytes_in.load(Relaxed)),
        ]
    }

    /// Mean and longest time from a request to its answer, milliseconds.
    pub fn latency_ms(&self) -> (f64, f64) {
        let answers = self.answers.load(Relaxed).max(1);
        let ms = |ns: u64| ns as f64 / 1e6;
        (
            ms(self.latency_ns.load(Relaxed)) / answers as f64,
            ms(self.latency_max_ns.load(Relaxed)),
        )
    }
}
