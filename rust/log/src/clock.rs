//! Time, passed in: the wall clock for timestamps and retention, a monotonic one for waiting.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the engine gets the time from when its caller does not say.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970, as the machine believes; may jump.
    fn now_ms(&self) -> i64;
    /// Nanoseconds since some moment; never goes back.
    fn mono_ns(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> SystemClock {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            })
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
