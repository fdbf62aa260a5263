//! A segment's sparse index on the heap: batch boundaries by offset, position and time. Appended
//! by one, read by anyone without a lock: chunks never move, the length is published last.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::OnceLock;

/// A batch boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Base offset of the batch less the segment's.
    pub relative: u32,
    /// Where the batch begins in the file.
    pub position: u32,
    /// Largest timestamp of the batches before it in the segment, `i64::MIN` if there is none.
    pub max_timestamp: i64,
}

#[derive(Debug, Default)]
struct Cell {
    place: AtomicU64,
    max_timestamp: AtomicI64,
}

const FIRST_CHUNK: usize = 16;
const CHUNKS: usize = 24;

/// Entries in rising order.
#[derive(Debug, Default)]
pub(crate) struct Index {
    len: AtomicUsize,
    chunks: [OnceLock<Box<[Cell]>>; CHUNKS],
}

/// Chunk and place in it of entry `at`: chunk `n` holds `16 << n` entries.
fn locate(at: usize) -> (usize, usize) {
    let chunk = (at / FIRST_CHUNK + 1).ilog2() as usize;
    (chunk, at - FIRST_CHUNK * ((1 << chunk) - 1))
}

impl Index {
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let cells: usize = self
            .chunks
            .iter()
            .filter_map(|c| c.get())
            .map(|c| c.len())
            .sum();
        cells * std::mem::size_of::<Cell>()
    }

    pub fn get(&self, at: usize) -> Option<Entry> {
        if at >= self.len() {
            return None;
        }
        let (chunk, place) = locate(at);
        let cell = self.chunks.get(chunk)?.get()?.get(place)?;
        let place = cell.place.load(Ordering::Relaxed);
        Some(Entry {
            relative: (place >> 32) as u32,
            position: place as u32,
            max_timestamp: cell.max_timestamp.load(Ordering::Relaxed),
        })
    }

    pub fn last(&self) -> Option<Entry> {
        self.len().checked_sub(1).and_then(|at| self.get(at))
    }

    /// Appends; the caller is the only one who does. An entry that does not rise is ignored.
    pub fn push(&self, entry: Entry) {
        let at = self.len.load(Ordering::Relaxed);
        let rises = |last: Entry| entry.position > last.position && entry.relative > last.relative;
        if !self.last().is_none_or(rises) {
            return;
        }
        let (chunk, place) = locate(at);
        let Some(slot) = self.chunks.get(chunk) else {
            return;
        };
        let cells =
            slot.get_or_init(|| (0..FIRST_CHUNK << chunk).map(|_| Cell::default()).collect());
        if let Some(cell) = cells.get(place) {
            let packed = u64::from(entry.relative) << 32 | u64::from(entry.position);
            cell.place.store(packed, Ordering::Relaxed);
            cell.max_timestamp
                .store(entry.max_timestamp, Ordering::Relaxed);
            self.len.store(at + 1, Ordering::Release);
        }
    }

    /// The last entry for which `before` holds; it must hold for a prefix.
    fn last_where(&self, before: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.get(middle).is_some_and(|entry| before(&entry)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1).and_then(|at| self.get(at))
    }

    /// The last boundary at or below a relative offset.
    pub fn by_offset(&self, relative: u32) -> Option<Entry> {
        self.last_where(|entry| entry.relative <= relative)
    }

    /// The last boundary at or below a position.
    pub fn by_position(&self, position: u64) -> Option<Entry> {
        self.last_where(|entry| u64::from(entry.position) <= position)
    }

    /// The last boundary before which all batches are older than a time.
    pub fn by_time(&self, timestamp: i64) -> Option<Entry> {
        self.last_where(|entry| entry.max_timestamp < timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_linear_search_finds() {
        let index = Index::default();
        let entries: Vec<Entry> = (1..5000u32)
            .map(|n| Entry {
                relative: n * 3,
                position: n * 4096,
                max_timestamp: i64::from(n / 10),
            })
            .collect();
        entries.iter().for_each(|entry| index.push(*entry));
        assert_eq!(index.len(), entries.len());
        for probe in (0..16_000u32).step_by(7) {
            let expected = entries.iter().rev().find(|e| e.relative <= probe).copied();
            assert_eq!(index.by_offset(probe), expected);
            let position = u64::from(probe) * 1500;
            let expected = entries
                .iter()
                .rev()
                .find(|e| u64::from(e.position) <= position);
            assert_eq!(index.by_position(position), expected.copied());
            let time = i64::from(probe / 20);
            let expected = entries
                .iter()
                .rev()
                .find(|e| e.max_timestamp < time)
                .copied();
            assert_eq!(index.by_time(time), expected);
        }
    }

    #[test]
    fn an_entry_that_does_not_rise_is_left_out() {
        let index = Index::default();
        let entry = |relative, position| Entry {
            relative,
            position,
            max_timestamp: 0,
        };
        index.push(entry(5, 100));
        index.push(entry(5, 200));
        index.push(entry(6, 100));
        index.push(entry(6, 101));
        assert_eq!(index.len(), 2);
        assert_eq!(index.last(), Some(entry(6, 101)));
    }
}
