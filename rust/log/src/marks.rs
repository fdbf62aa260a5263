//! A position in the log that many read and one moves: offset, segment and byte position that
//! belong together, published with a sequence lock.

use std::sync::atomic::{fence, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The offset that follows.
    pub offset: i64,
    /// Base offset of the segment.
    pub segment: i64,
    /// Byte position in the segment.
    pub position: u64,
    /// Bytes this process has appended to the partition up to here.
    pub(crate) total: u64,
}

/// A published [`Mark`]. Writers must exclude each other by a lock of theirs.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Odd while a writer is at it.
    sequence: AtomicU32,
    offset: AtomicI64,
    segment: AtomicI64,
    position: AtomicU64,
    total: AtomicU64,
}

impl Published {
    /// The offset alone: one load.
    pub fn offset(&self) -> i64 {
        self.offset.load(Ordering::Acquire)
    }

    /// All fields of one moment.
    pub fn load(&self) -> Mark {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let mark = Mark {
                offset: self.offset.load(Ordering::Relaxed),
                segment: self.segment.load(Ordering::Relaxed),
                position: self.position.load(Ordering::Relaxed),
                total: self.total.load(Ordering::Relaxed),
            };
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.sequence.load(Ordering::Relaxed) == before {
                return mark;
            }
            std::hint::spin_loop();
        }
    }

    /// Publishes a mark; the caller holds the lock of this mark's writers.
    pub fn store(&self, mark: Mark) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.segment.store(mark.segment, Ordering::Relaxed);
        self.position.store(mark.position, Ordering::Relaxed);
        self.total.store(mark.total, Ordering::Relaxed);
        self.offset.store(mark.offset, Ordering::Release);
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_never_sees_half_of_a_move() {
        let published = Published::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..200_000 {
                    published.store(Mark {
                        offset: n,
                        segment: n * 2,
                        position: n as u64 * 3,
                        total: n as u64 * 4,
                    });
                }
            });
            let mut last = 0;
            while last < 199_999 {
                let mark = published.load();
                assert!(mark.offset >= last);
                last = mark.offset;
                assert_eq!(mark.segment, last * 2);
                assert_eq!(mark.position, last as u64 * 3);
                assert_eq!(mark.total, last as u64 * 4);
            }
        });
    }
}
