//! Produce answers that wait until their offsets are committed.
//!
//! The answer is written at the append; if the wait fails, its error codes are patched.

use std::sync::Arc;

use mqlog_log::{Partition, State};
use mqlog_protocol::ErrorCode;

use crate::close::Close;
use crate::connection::Connection;
use crate::outbox::Outbox;

/// A partition of an answer whose offsets are not committed yet.
pub(crate) struct Wait {
    pub(crate) partition: Arc<Partition>,
    /// The high watermark must reach this.
    pub(crate) commit_at: i64,
    /// Where the partition begins in the answer: its index, then its error code.
    pub(crate) at: usize,
}

/// An answer that has to wait, or has one that waits before it.
pub(crate) struct PendingProduce {
    bytes: Vec<u8>,
    waits: Vec<Wait>,
    /// Everything before this one is settled.
    next: usize,
    registered: bool,
    deadline_ms: u64,
}

impl PendingProduce {
    pub(crate) fn new(bytes: Vec<u8>, waits: Vec<Wait>, deadline_ms: u64) -> Self {
        PendingProduce {
            bytes,
            waits,
            next: 0,
            registered: false,
            deadline_ms,
        }
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        (self.next < self.waits.len()).then_some(self.deadline_ms)
    }

    fn fail(&mut self, code: ErrorCode) {
        let at = self.waits[self.next].at + size_of::<i32>();
        if let Some(place) = self.bytes.get_mut(at..at + size_of::<i16>()) {
            place.copy_from_slice(&(code as i16).to_be_bytes());
        }
        self.advance();
    }

    fn advance(&mut self) {
        self.next += 1;
        self.registered = false;
    }
}

/// Why a wait ended without its offsets being committed.
fn lost(partition: &Partition) -> Option<ErrorCode> {
    match partition.state() {
        State::Deleted => Some(ErrorCode::UnknownTopicOrPartition),
        // The directory may be offline while the partition itself is not.
        _ => partition
            .offline_reason()
            .map(|_| ErrorCode::KafkaStorageError),
    }
}

impl Connection {
    /// Moves answers to the outbox whose waiting is over, in request order. Registers the first
    /// that has to go on waiting.
    pub(crate) fn settle_produces(&mut self, out: &mut Outbox) -> Result<(), Close> {
        while let Some(mut first) = self.produces.pop_front() {
            if !self.settle(&mut first) {
                self.produces.push_front(first);
                return Ok(());
            }
            out.bytes.extend_from_slice(&first.bytes);
            self.progress();
        }
        Ok(())
    }

    fn settle(&mut self, pending: &mut PendingProduce) -> bool {
        let mut now_ms = None;
        while let Some(wait) = pending.waits.get(pending.next) {
            if wait.partition.high_watermark() >= wait.commit_at {
                pending.advance();
                continue;
            }
            if let Some(code) = lost(&wait.partition) {
                pending.fail(code);
                continue;
            }
            if *now_ms.get_or_insert_with(|| self.core.now_ms()) >= pending.deadline_ms {
                self.core.stats.produce_timeouts.add(1);
                pending.fail(ErrorCode::RequestTimedOut);
                continue;
            }
            if pending.registered {
                return false;
            }
            pending.registered = !wait.partition.wait_for(wait.commit_at, self.wake_handle());
            if pending.registered {
                return false;
            }
        }
        true
    }
}
