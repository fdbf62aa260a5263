//! Makes the outcome of a recovery durable, in an order in which a crash loses nothing.

use std::sync::Arc;

use super::walk::Walk;
use super::Plan;
use crate::atomic_file;
use crate::checkpoint::Entry;
use crate::disk::OpenMode;
use crate::epochs;
use crate::holes::{self, Hole, HoleKind};
use crate::marks::Mark;
use crate::partition::Opened;
use crate::segment::{file_name, Segment};
use crate::stats::Counters;
use crate::{snapshot, LogError};

impl Plan<'_> {
    /// The `.idx` of a segment that is read from its beginning says nothing that is needed.
    pub(super) fn discard_index(&self, base: i64) {
        // Absent, or it goes with the next write; its entries are checked in any case.
        let _ = self
            .shared
            .disk
            .unlink(&self.dir.join(file_name(base, "idx")));
    }

    /// Entries past the checkpoint must not come back when more was written there.
    pub(super) fn trim_index(&self, segment: &Segment) -> Result<(), LogError> {
        let path = segment.sibling("idx");
        let trust = self.shared.opts.bugs.trust_index;
        let file = match self.shared.disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(_) => return Ok(()),
        };
        let keep = segment.persisted_bytes();
        let longer = file.len().is_ok_and(|len| len > keep);
        if longer && !trust {
            file.set_len(keep)
                .and_then(|()| file.sync_data())
                .map_err(self.io("cut", &path))?;
        }
        Ok(())
    }

    /// Makes the outcome durable: holes first, so that a crash in here finds them; then cuts.
    pub(super) fn settle(
        &self,
        mut walk: Walk,
        names: &[String],
        log_start: i64,
    ) -> Result<Opened, LogError> {
        let shared = self.shared;
        let disk = &*shared.disk;
        let floor = self
            .entry
            .map_or(log_start, |entry| entry.durable_end.max(log_start));
        let skipped = walk
            .holes
            .iter()
            .find(|hole| hole.from == walk.expected)
            .map_or(walk.expected, |hole| hole.to);
        let mut end = walk.expected;
        if !shared.opts.bugs.reuse_offsets {
            end = end
                .max(walk.new_segment.unwrap_or(end))
                .max(floor)
                .max(skipped);
            if end > skipped.max(walk.new_segment.unwrap_or(0)) {
                let last = walk.segments.last().map(|s| (s.base_offset(), s.size()));
                let (segment, position) = last.unwrap_or((end, 0));
                let hole = Hole {
                    from: walk.expected,
                    to: end,
                    segment,
                    position,
                    length: 0,
                    kind: HoleKind::Lost,
                };
                self.note(&mut walk, hole);
            }
        }
        let known = walk.holes.len();
        walk.holes.retain(|hole| hole.from < end);
        if !walk.recovery.new_holes.is_empty() || walk.holes.len() < known {
            let path = holes::path(self.dir);
            atomic_file::replace(disk, &path, &holes::encode(&walk.holes))
                .map_err(self.io("write", &path))?;
        }
        if let Some((segment, position)) = &walk.truncate {
            let file = self.file(segment)?;
            let cut = file.set_len(*position).and_then(|()| file.sync_data());
            cut.map_err(self.io("cut", &segment.path()))?;
            segment.set_end(walk.expected, *position);
        }
        for found in &walk.remove {
            self.discard_index(found.base);
            walk.dir_changed = true;
            if found.size == 0 {
                disk.unlink(&found.path)
                    .map_err(self.io("remove", &found.path))?;
            } else {
                shared.move_to_cut(self.id, self.dir, found.base, &found.path, found.size)?;
                walk.recovery.cut_bytes += found.size;
                Counters::add(&shared.counters.cut_bytes, found.size);
            }
        }
        self.end_in_new_segment(&mut walk, end)?;
        self.settle_state(&mut walk, names, end)?;
        if walk.dir_changed {
            disk.sync_dir(self.dir)
                .map_err(self.io("flush", self.dir))?;
        }
        walk.recovery.last_epoch = walk.epochs.last().map_or(-1, |last| last.epoch);
        Ok(self.opened(walk, log_start, end))
    }

    pub(super) fn end_in_new_segment(&self, walk: &mut Walk, end: i64) -> Result<(), LogError> {
        let Some(last) = walk.segments.last() else {
            return Ok(());
        };
        // A hole at the very end of a file must not be written over.
        let in_hole = walk.holes.iter().any(|hole| {
            hole.segment == last.base_offset()
                && hole.length > 0
                && hole.position + hole.length >= last.size()
        });
        if (end > walk.expected || in_hole || walk.new_segment.is_some())
            && end > last.base_offset()
            && last.end_offset() <= end
        {
            last.set_end(end, last.size());
            let shared = self.shared;
            let path = self.dir.join(file_name(end, "log"));
            let segment = Segment::create(&*shared.disk, &shared.files, self.dir, end)
                .map_err(self.io("create", &path))?;
            walk.segments.push(Arc::new(segment));
            walk.dir_changed = true;
        }
        Ok(())
    }

    /// Epochs and snapshots speak of nothing beyond the end.
    pub(super) fn settle_state(
        &self,
        walk: &mut Walk,
        names: &[String],
        end: i64,
    ) -> Result<(), LogError> {
        let disk = &*self.shared.disk;
        let on_disk = epochs::load(disk, self.dir).unwrap_or_default();
        if on_disk != walk.epochs {
            let path = epochs::path(self.dir);
            atomic_file::replace(disk, &path, &walk.epochs.encode())
                .map_err(self.io("write", &path))?;
        }
        for offset in snapshot::offsets(names)
            .into_iter()
            .filter(|offset| *offset > end)
        {
            let path = snapshot::path(self.dir, offset);
            disk.unlink(&path).map_err(self.io("remove", &path))?;
            walk.dir_changed = true;
        }
        // The next checkpoint must not claim producers that no snapshot has.
        if walk.replayed && walk.recovery.lost_anything() {
            let path = snapshot::path(self.dir, end);
            let bytes = snapshot::encode(end, &walk.producers.infos());
            atomic_file::replace(disk, &path, &bytes).map_err(self.io("write", &path))?;
            walk.snapshot = end;
        }
        Ok(())
    }

    pub(super) fn opened(&self, mut walk: Walk, log_start: i64, end: i64) -> Opened {
        let last = walk.segments.last();
        let mark = Mark {
            offset: end,
            segment: last.map_or(end, |segment| segment.base_offset()),
            position: last.map_or(0, |segment| segment.size()),
            total: 0,
        };
        let unwritten = walk.replayed && walk.snapshot < 0;
        walk.producers.changed = unwritten;
        let here = Entry {
            log_start,
            durable_end: mark.offset,
            segment: mark.segment,
            position: mark.position,
            snapshot: walk.snapshot,
        };
        // Producers met past the snapshot are not in one yet: the old line stands until they are.
        let entry = match self.entry {
            Some(old) if unwritten => Entry { log_start, ..old },
            Some(old) if !walk.replayed && !walk.producers.is_empty() => Entry {
                snapshot: old.snapshot,
                ..here
            },
            None if unwritten => {
                let first = walk.segments.first().map_or(log_start, |s| s.base_offset());
                Entry {
                    durable_end: first,
                    segment: first,
                    position: 0,
                    ..here
                }
            }
            _ => here,
        };
        Opened {
            snapshot: if unwritten { -1 } else { entry.snapshot },
            segments: walk.segments,
            end: mark,
            log_start,
            epochs: walk.epochs,
            holes: walk.holes,
            producers: walk.producers,
            recovery: walk.recovery,
            entry: Some(entry),
        }
    }
}
