//! A topic's own say about a batch, between the producer check and the write.

use mqlog_record::BatchHeader;

use crate::AppendError;

/// What a hook decides.
#[derive(Debug)]
pub enum Verdict {
    /// Append it.
    Pass,
    /// Refuse it.
    Reject(AppendError),
    /// It is there already, from this offset on.
    Duplicate {
        /// Offset of its first record.
        base_offset: i64,
    },
}

/// A topic's own check. Runs under the appender's lock: it must neither wait nor call back.
pub trait AppendHook: Send + Sync {
    /// Looks at one batch that is about to be appended.
    fn check(&self, header: &BatchHeader, bytes: &[u8], now_ms: i64) -> Verdict;
}
