//! Faults that tests switch on in a running broker, through its handle; the network cannot.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The switches. Everything is off by default.
#[derive(Default)]
pub struct Faults {
    drop_produce_answers: AtomicBool,
}

impl Faults {
    /// Appends produce requests, then closes the connection instead of answering: a client that
    /// retries must not duplicate.
    pub fn drop_produce_answers(&self, on: bool) {
        self.drop_produce_answers.store(on, SeqCst);
    }

    pub(crate) fn drops_produce_answers(&self) -> bool {
        self.drop_produce_answers.load(SeqCst)
    }
}
