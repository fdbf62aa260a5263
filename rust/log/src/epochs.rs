//! Leader epochs and where they start, with the `epochs` file.

use std::path::{Path, PathBuf};

use crate::atomic_file::{self, Reader, Unusable, Writer};
use crate::disk::Disk;

const MAGIC: &[u8; 4] = b"MQEP";
const VERSION: u16 = 1;

/// The first offset of a leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// Leader epoch.
    pub epoch: i32,
    /// Offset of its first batch.
    pub start: i64,
}

/// Epochs with rising numbers and rising starts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<EpochStart>);

impl Epochs {
    pub fn last(&self) -> Option<EpochStart> {
        self.0.last().copied()
    }

    pub fn entries(&self) -> &[EpochStart] {
        &self.0
    }

    /// Notes that a batch of `epoch` begins at `start`. True if that is the first of its epoch.
    pub fn observe(&mut self, epoch: i32, start: i64) -> bool {
        let fresh = epoch >= 0 && self.last().is_none_or(|last| epoch > last.epoch);
        if fresh {
            self.0.retain(|entry| entry.start < start);
            self.0.push(EpochStart { epoch, start });
        }
        fresh
    }

    /// Forgets epochs that begin at or after `end`. True if there were any.
    pub fn truncate_end(&mut self, end: i64) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.start < end);
        self.0.len() != before
    }

    /// Forgets epochs that end at or before `log_start`. True if there were any.
    pub fn truncate_start(&mut self, log_start: i64) -> bool {
        let gone = self
            .0
            .partition_point(|entry| entry.start <= log_start)
            .saturating_sub(1);
        self.0.drain(..gone);
        let moved = self.0.first_mut().filter(|first| first.start < log_start);
        match moved {
            Some(first) => {
                first.start = log_start;
                true
            }
            None => gone > 0,
        }
    }

    /// The epoch of the batch that holds `offset`; -1 if it is not known.
    pub fn at(&self, offset: i64) -> i32 {
        let after = self.0.partition_point(|entry| entry.start <= offset);
        after
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .map_or(-1, |entry| entry.epoch)
    }

    /// The largest epoch that is not above `epoch`, and where it ends; (-1, -1) for one that is not
    /// yet. `current` is the leader's, whose end is the log's.
    pub fn end_of(&self, epoch: i32, current: i32, log_end: i64) -> (i32, i64) {
        if epoch < 0 || epoch > current {
            return (-1, -1);
        }
        if epoch == current {
            return (current, log_end);
        }
        let above = self.0.partition_point(|entry| entry.epoch <= epoch);
        let Some(first_above) = self.0.get(above) else {
            return (self.last().map_or(epoch, |last| last.epoch), log_end);
        };
        match above.checked_sub(1).and_then(|at| self.0.get(at)) {
            Some(entry) => (entry.epoch, first_above.start),
            None => (epoch, first_above.start),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION, 0);
        out.u32(self.0.len() as u32);
        for entry in &self.0 {
            out.i32(entry.epoch);
            out.i64(entry.start);
        }
        out.finish()
    }
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("epochs")
}

fn parse(_: u16, reader: &mut Reader<'_>) -> Option<Epochs> {
    let count = reader.u32()?;
    let mut epochs = Vec::new();
    for _ in 0..count {
        epochs.push(EpochStart {
            epoch: reader.i32()?,
            start: reader.i64()?,
        });
    }
    let rising = |pair: &[EpochStart]| match pair {
        [a, b] => a.epoch < b.epoch && a.start <= b.start,
        _ => true,
    };
    epochs.windows(2).all(rising).then_some(Epochs(epochs))
}

/// Loads the file. `Absent` for a log without a batch.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Epochs, Unusable> {
    atomic_file::read(disk, &path(dir), MAGIC, VERSION, parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in entries {
            epochs.observe(*epoch, *start);
        }
        epochs
    }

    #[test]
    fn answers_like_kafka() {
        let epochs = epochs(&[(2, 0), (5, 10), (7, 30)]);
        assert_eq!(epochs.end_of(7, 7, 40), (7, 40));
        assert_eq!(epochs.end_of(6, 7, 40), (5, 30));
        assert_eq!(epochs.end_of(5, 7, 40), (5, 30));
        assert_eq!(epochs.end_of(3, 7, 40), (2, 10));
        assert_eq!(epochs.end_of(1, 7, 40), (1, 0));
        assert_eq!(epochs.end_of(8, 7, 40), (-1, -1));
        assert_eq!(epochs.end_of(9, 9, 40), (9, 40));
        assert_eq!(epochs.end_of(8, 9, 40), (7, 40));
        assert_eq!((epochs.at(9), epochs.at(10), epochs.at(99)), (2, 5, 7));
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut cut = epochs(&[(2, 0), (5, 10), (7, 30)]);
        assert!(cut.truncate_start(20));
        assert_eq!(cut.entries(), epochs(&[(5, 20), (7, 30)]).entries());
        assert!(!cut.truncate_start(20));
        assert!(cut.truncate_end(30));
        assert_eq!(cut.entries(), epochs(&[(5, 20)]).entries());
    }
}
