//! Damage that is found when old bytes are read for the first time: remembered, never cut.

use crate::atomic_file;
use crate::disk::DiskFile;
use crate::holes::{self, Hole, HoleKind};
use crate::partition::lock;
use crate::resync::{next_good, Rules};
use crate::scan::{Window, BYTES};
use crate::segment::Segment;
use crate::stats::Counters;
use crate::{Partition, ReadError};

impl Partition {
    /// The batch at `position` is not what it must be. A wrong index entry may have led there;
    /// else the bytes up to the next good batch become a hole.
    pub(crate) fn quarantine(
        &self,
        segment: &Segment,
        file: &dyn DiskFile,
        position: u64,
        expected: i64,
    ) -> ReadError {
        if segment.has_hints() {
            segment.forget_index(&*self.shared.disk);
            return ReadError::NeedsPool;
        }
        let holes = self.holes.load();
        let base = segment.base_offset();
        let rules = Rules::any(holes::end_of(&holes, base, segment.end_offset()));
        let known = holes::in_segment(&holes, base);
        let mut window = Window::new(file, segment.size(), BYTES);
        let next = match next_good(&mut window, position, expected, &rules, &known) {
            Ok(next) => next,
            Err(error) => return self.read_failed(segment, error),
        };
        let (end, to) = next.map_or((segment.size(), rules.next_base), |(at, header)| {
            (at, header.base_offset)
        });
        let hole = Hole {
            from: expected,
            to,
            segment: segment.base_offset(),
            position,
            length: end - position,
            kind: HoleKind::Damaged,
        };
        self.add_hole(segment, hole)
    }

    /// A closed segment ends before the next one begins.
    pub(crate) fn quarantine_gap(&self, segment: &Segment, position: u64, end: i64) -> ReadError {
        if segment.has_hints() {
            segment.forget_index(&*self.shared.disk);
            return ReadError::NeedsPool;
        }
        let hole = Hole {
            from: end,
            to: segment.end_offset(),
            segment: segment.base_offset(),
            position,
            length: 0,
            kind: HoleKind::Lost,
        };
        self.add_hole(segment, hole)
    }

    fn add_hole(&self, segment: &Segment, hole: Hole) -> ReadError {
        let mut list;
        {
            let _commit = lock(&self.commit);
            // A truncation replaces the segment, under this lock: what it took is no hole.
            let segments = self.segments.load();
            let empty = hole.to < hole.from || (hole.to == hole.from && hole.length == 0);
            if empty || !segments.iter().any(|s| std::ptr::eq(&**s, segment)) {
                return ReadError::NeedsPool;
            }
            list = self.holes.load().to_vec();
            if list.contains(&hole) {
                return self.corrupt(&hole);
            }
            holes::insert(&mut list, hole);
            self.holes.store(std::sync::Arc::new(list.clone()));
        }
        Counters::add(&self.shared.counters.quarantined_ranges, 1);
        let path = holes::path(&self.directory());
        let written = atomic_file::replace(&*self.shared.disk, &path, &holes::encode(&list));
        // One that could not be written is found again after a restart.
        let _ = self.shared.small_write(&path, written, self);
        ReadError::NeedsPool
    }
}
