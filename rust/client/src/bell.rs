//! How a thread of the user waits for the I/O thread: a futex word that a signal interrupts.
//!
//! ```
//! use mqlog_client::{Bell, Woken};
//! use std::time::Duration;
//!
//! let bell = Bell::default();
//! let ticket = bell.ticket();
//! // Here the condition is looked at. What rings after the ticket was taken is not missed:
//! bell.ring();
//! assert_eq!(bell.wait(ticket, Duration::from_secs(60)), Woken::Rung);
//! ```

use std::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, SeqCst},
};
use std::time::Duration;

/// Rung when something changed that a thread may wait for.
#[derive(Debug, Default)]
pub struct Bell {
    rings: AtomicU32,
    waiting: AtomicU32,
}

/// Why [`Bell::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The bell rang after the ticket was taken.
    Rung,
    /// The time passed.
    TimedOut,
    /// A signal came: whoever owns the thread may want to look at it.
    Interrupted,
}

impl Bell {
    /// Wakes all who wait. Cheap when nobody does.
    pub fn ring(&self) {
        self.rings.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            os::wake_all(&self.rings);
        }
    }

    /// To be taken before the condition is looked at.
    pub fn ticket(&self) -> u32 {
        self.rings.load(Acquire)
    }

    /// Waits for a ring after `ticket`, for `timeout` at most.
    pub fn wait(&self, ticket: u32, timeout: Duration) -> Woken {
        self.waiting.fetch_add(1, SeqCst);
        let woken = if self.rings.load(SeqCst) == ticket {
            os::wait(&self.rings, ticket, timeout)
        } else {
            Woken::Rung
        };
        self.waiting.fetch_sub(1, AcqRel);
        woken
    }
}

#[cfg(target_os = "linux")]
mod os {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::thread::futex;

    use super::Woken;

    pub(super) fn wake_all(word: &AtomicU32) {
        // Waking cannot fail for a word that exists.
        let _ = futex::wake(word, futex::Flags::PRIVATE, i32::MAX as u32);
    }

    pub(super) fn wait(word: &AtomicU32, value: u32, timeout: Duration) -> Woken {
        let timeout = rustix::time::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match futex::wait(word, futex::Flags::PRIVATE, value, Some(&timeout)) {
            Ok(()) | Err(Errno::AGAIN) => Woken::Rung,
            Err(Errno::INTR) => Woken::Interrupted,
            Err(_) => Woken::TimedOut,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::{Duration, Instant};

    use super::Woken;

    pub(super) fn wake_all(_: &AtomicU32) {}

    /// Looks every millisecond: correct, and only as good as it must be.
    pub(super) fn wait(word: &AtomicU32, value: u32, timeout: Duration) -> Woken {
        let end = Instant::now() + timeout;
        while word.load(SeqCst) == value {
            if Instant::now() >= end {
                return Woken::TimedOut;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Woken::Rung
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_ring_between_ticket_and_wait_is_not_missed() {
        let bell = Bell::default();
        let ticket = bell.ticket();
        bell.ring();
        assert_eq!(bell.wait(ticket, Duration::from_secs(60)), Woken::Rung);
    }

    #[test]
    fn time_passes_without_a_ring() {
        let bell = Bell::default();
        let woken = bell.wait(bell.ticket(), Duration::from_millis(1));
        assert_eq!(woken, Woken::TimedOut);
    }

    #[test]
    fn all_who_wait_are_woken() {
        let bell = Arc::new(Bell::default());
        let ticket = bell.ticket();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let bell = bell.clone();
                std::thread::spawn(move || bell.wait(ticket, Duration::from_secs(60)))
            })
            .collect();
        bell.ring();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Woken::Rung);
        }
    }
}
