//! From the checkpointed place to the end of the last file: what is whole, damaged, lost or torn.
//! Nothing on disk changes here but for copies into `cut/` and indexes that are rebuilt.

use std::sync::Arc;

use mqlog_record::HEADER_LEN;

use super::{Found, Plan};
use crate::check::plausible;
use crate::checkpoint::Entry;
use crate::disk::OpenMode;
use crate::epochs::Epochs;
use crate::holes::{self, Hole, HoleKind};
use crate::partition::Recovery;
use crate::producer::Producers;
use crate::resync::{good_batch, next_good, Rules};
use crate::scan::{Window, BYTES};
use crate::segment::Segment;
use crate::stats::Counters;
use crate::LogError;

/// How a recovery stands.
pub(super) struct Walk {
    pub(super) segments: Vec<Arc<Segment>>,
    /// Offset that the next batch must have.
    pub(super) expected: i64,
    pub(super) epochs: Epochs,
    pub(super) holes: Vec<Hole>,
    pub(super) producers: Producers,
    pub(super) recovery: Recovery,
    /// Producer batches were met past the snapshot.
    pub(super) replayed: bool,
    /// Where their producers' state was written down at once; -1 if it was not.
    pub(super) snapshot: i64,
    /// A file must get shorter: durable after the holes are.
    pub(super) truncate: Option<(Arc<Segment>, u64)>,
    /// Files that go to `cut/` (with bytes) or away (without).
    pub(super) remove: Vec<Found>,
    /// The log goes on in a new segment here.
    pub(super) new_segment: Option<i64>,
    pub(super) dir_changed: bool,
}

impl Plan<'_> {
    /// Walks from the checkpointed place to the end of the last file.
    pub(super) fn recover(
        &self,
        names: &[String],
        found: &[Found],
        log_start: i64,
        holes: Vec<Hole>,
    ) -> Result<Walk, LogError> {
        Counters::add(&self.shared.counters.recovered_partitions, 1);
        let first = found.first().map_or(log_start, |found| found.base);
        // Segments before the checkpointed one are not read.
        let entry = self.entry.filter(|entry| entry.segment >= first);
        let start = entry.map_or(0, |entry| {
            found
                .partition_point(|found| found.base <= entry.segment)
                .saturating_sub(1)
        });
        let mut walk = Walk {
            segments: self.existing(found, start),
            expected: entry.map_or(first, |entry| entry.durable_end),
            epochs: Epochs::default(),
            holes,
            producers: Producers::default(),
            recovery: Recovery {
                cut_at: -1,
                ..Recovery::default()
            },
            replayed: false,
            snapshot: -1,
            truncate: None,
            remove: Vec::new(),
            new_segment: None,
            dir_changed: false,
        };
        self.begin(&mut walk, names, entry, first)?;
        let tail = found.get(start..).unwrap_or_default();
        self.reach_the_device(tail, entry)?;
        let mut at = 0;
        if let (Some(entry), Some(found)) = (entry, tail.first()) {
            self.first_segment(&mut walk, found, entry, tail)?;
            at = 1;
        }
        while let Some(found) = tail.get(at) {
            at += 1;
            if walk.truncate.is_some() {
                walk.remove.push(found.clone());
            } else {
                let later = tail.get(at..).unwrap_or_default();
                self.next_segment(&mut walk, found, later)?;
            }
        }
        Ok(walk)
    }

    /// What is checked must be what the device has, not what the cache remembers.
    pub(super) fn reach_the_device(
        &self,
        tail: &[Found],
        entry: Option<Entry>,
    ) -> Result<(), LogError> {
        if !self.synced {
            let synced = self.shared.disk.sync_dir(self.dir);
            synced.map_err(self.io("flush", self.dir))?;
        }
        for (n, found) in tail.iter().enumerate() {
            let from = entry
                .filter(|_| n == 0)
                .map_or(0, |entry| entry.position.min(found.size));
            if from == found.size && self.synced {
                continue;
            }
            let disk = &self.shared.disk;
            let file = disk.open(&found.path, OpenMode::ReadWrite);
            let file = file.map_err(self.io("open", &found.path))?;
            if !self.synced {
                file.sync_data().map_err(self.io("flush", &found.path))?;
            }
            let page = from / 4096 * 4096;
            file.drop_cache(page, found.size - page.min(found.size));
        }
        Ok(())
    }

    /// The checkpointed segment, from the checkpointed position on.
    pub(super) fn first_segment(
        &self,
        walk: &mut Walk,
        found: &Found,
        entry: Entry,
        tail: &[Found],
    ) -> Result<(), LogError> {
        let later = tail.get(1..).unwrap_or_default();
        if found.base != entry.segment {
            // The file itself is gone; what is there is an older one.
            let segment = Segment::existing(self.dir, found.base, found.size, entry.segment);
            walk.segments.push(Arc::new(segment));
            self.lost(
                walk,
                entry.segment,
                entry.durable_end,
                found.base,
                found.size,
            );
            return Ok(());
        }
        if found.size < entry.position {
            return self.shorter(walk, found, entry);
        }
        let segment = Segment::existing(self.dir, found.base, entry.position, entry.durable_end);
        self.load_index(&segment, &walk.holes)?;
        self.trim_index(&segment)?;
        self.set_age(&segment)?;
        self.walk_segment(walk, Arc::new(segment), found.size, later)
    }

    /// Bytes that were durable are gone: what is left is served, the rest is a hole.
    pub(super) fn shorter(
        &self,
        walk: &mut Walk,
        found: &Found,
        entry: Entry,
    ) -> Result<(), LogError> {
        let rules = self.rules(walk, &[]);
        let mut good = (0, found.base);
        let probe = Segment::existing(self.dir, found.base, found.size, found.base);
        let file = self.file(&probe)?;
        let mut window = Window::new(&*file, found.size, BYTES);
        let any = Rules {
            least_epoch: i32::MIN,
            ..rules
        };
        while let Some(header) =
            good_batch(&mut window, good.0, good.1, &any).map_err(self.io("read", &found.path))?
        {
            good = (good.0 + header.size() as u64, header.next_offset());
        }
        let segment = Segment::existing(self.dir, found.base, found.size, entry.durable_end);
        segment.set_checked_from(found.size);
        walk.segments.push(Arc::new(segment));
        walk.dir_changed = true;
        self.discard_index(found.base);
        let hole = Hole {
            from: good.1,
            to: entry.durable_end.max(good.1),
            segment: found.base,
            position: good.0,
            length: found.size - good.0,
            kind: HoleKind::Lost,
        };
        self.note(walk, hole);
        walk.expected = hole.to;
        walk.new_segment = Some(hole.to);
        Ok(())
    }

    pub(super) fn lost(&self, walk: &mut Walk, from: i64, to: i64, segment: i64, position: u64) {
        let to = to.max(from);
        walk.new_segment = Some(to);
        walk.expected = to;
        if to > from {
            self.note(
                walk,
                Hole {
                    from,
                    to,
                    segment,
                    position,
                    length: 0,
                    kind: HoleKind::Lost,
                },
            );
        }
    }

    pub(super) fn note(&self, walk: &mut Walk, hole: Hole) {
        if walk.holes.contains(&hole) || hole.to <= hole.from {
            return;
        }
        if hole.kind != HoleKind::Cut {
            Counters::add(&self.shared.counters.quarantined_ranges, 1);
        }
        walk.recovery.new_holes.push(hole);
        holes::insert(&mut walk.holes, hole);
    }

    pub(super) fn rules(&self, walk: &Walk, later: &[Found]) -> Rules {
        let segment = walk.segments.last().map_or(-1, |last| last.base_offset());
        let next = later.iter().map(|found| found.base);
        Rules {
            least_epoch: walk.epochs.last().map_or(-1, |last| last.epoch),
            most_epoch: self.most_epoch,
            next_base: next
                .skip_while(|base| *base <= walk.expected)
                .map(|base| holes::end_of(&walk.holes, segment, base))
                .next()
                .unwrap_or(i64::MAX),
        }
    }

    /// A segment after the checkpointed one, from its beginning.
    pub(super) fn next_segment(
        &self,
        walk: &mut Walk,
        found: &Found,
        later: &[Found],
    ) -> Result<(), LogError> {
        if found.base < walk.expected {
            walk.remove.push(found.clone());
            return Ok(());
        }
        self.discard_index(found.base);
        walk.dir_changed = true;
        if found.base > walk.expected && !walk.segments.is_empty() {
            let before = walk.segments.last().cloned();
            let (segment, position) =
                before.map_or((found.base, 0), |s| (s.base_offset(), s.size()));
            // With nothing behind it, what is missing was never flushed.
            let follows =
                self.any_good(std::slice::from_ref(found), walk)? || self.any_good(later, walk)?;
            let hole = Hole {
                from: walk.expected,
                to: found.base,
                segment,
                position,
                length: 0,
                kind: if follows {
                    HoleKind::Lost
                } else {
                    HoleKind::Cut
                },
            };
            if !walk
                .holes
                .iter()
                .any(|known| (known.from, known.to) == (hole.from, hole.to))
            {
                self.note(walk, hole);
            }
            if let Some(before) = walk.segments.last() {
                before.set_end(found.base, before.size());
            }
        }
        walk.expected = found.base;
        walk.new_segment = None;
        let segment = Segment::existing(self.dir, found.base, 0, found.base);
        self.walk_segment(walk, Arc::new(segment), found.size, later)?;
        if let Some(segment) = walk.segments.last() {
            self.set_age(segment)?;
        }
        Ok(())
    }

    /// From the segment's known end to the file's: good batches are taken in, damage is jumped
    /// over if something good follows, else the rest is to be cut.
    pub(super) fn walk_segment(
        &self,
        walk: &mut Walk,
        segment: Arc<Segment>,
        size: u64,
        later: &[Found],
    ) -> Result<(), LogError> {
        let file = self.file(&segment)?;
        let mut window = Window::new(&*file, size, BYTES);
        let read = || self.io("read", &segment.path());
        let start = segment.size();
        segment.set_checked_from(start);
        walk.segments.push(segment.clone());
        let index = segment.index();
        let interval = u64::from(self.config.index_interval_bytes);
        let mut indexed = index
            .as_ref()
            .and_then(|i| i.last())
            .map_or(0, |entry| u64::from(entry.position));
        let mut position = start;
        while position < size {
            if let Some(hole) = known_hole(&walk.holes, segment.base_offset(), position, size) {
                position += hole.length;
                walk.expected = hole.to;
                segment.set_end(walk.expected, position);
                continue;
            }
            let rules = self.rules(walk, later);
            let good = good_batch(&mut window, position, walk.expected, &rules).map_err(read())?;
            let Some(header) = good else {
                match self.damage(walk, &segment, &mut window, position, later)? {
                    Some(next) => position = next,
                    None => break,
                }
                continue;
            };
            let due = position >= indexed + interval;
            segment.appended(&header, position, index.as_deref().filter(|_| due));
            if due {
                indexed = position;
            }
            walk.epochs
                .observe(header.partition_leader_epoch, header.base_offset);
            if header.has_producer() {
                walk.producers.apply(&header, self.shared.clock.now_ms());
                walk.replayed = true;
            }
            position += header.size() as u64;
            walk.expected = header.next_offset();
        }
        let checked = position.min(size) - start.min(size);
        walk.recovery.checked_bytes += checked;
        Counters::add(&self.shared.counters.recovered_bytes, checked);
        Ok(())
    }

    /// Bytes at `position` are no batch. Says where the segment goes on; `None`: nowhere.
    pub(super) fn damage(
        &self,
        walk: &mut Walk,
        segment: &Arc<Segment>,
        window: &mut Window<'_>,
        position: u64,
        later: &[Found],
    ) -> Result<Option<u64>, LogError> {
        let read = || self.io("read", &segment.path());
        let rules = self.rules(walk, later);
        let size = window.end;
        let known = holes::in_segment(&walk.holes, segment.base_offset());
        let next = next_good(window, position, walk.expected, &rules, &known).map_err(read())?;
        if let Some((at, header)) = next {
            self.note(
                walk,
                Hole {
                    from: walk.expected,
                    to: header.base_offset,
                    segment: segment.base_offset(),
                    position,
                    length: at - position,
                    kind: HoleKind::Damaged,
                },
            );
            walk.expected = header.base_offset;
            segment.set_end(walk.expected, at);
            return Ok(Some(at));
        }
        let follows = later.iter().find(|found| found.base > walk.expected);
        if let Some(follows) = follows.filter(|_| self.any_good(later, walk).unwrap_or(true)) {
            let hole = Hole {
                from: walk.expected,
                to: follows.base,
                segment: segment.base_offset(),
                position,
                length: size - position,
                kind: HoleKind::Damaged,
            };
            self.note(walk, hole);
            walk.expected = follows.base;
            segment.set_end(follows.base, size);
            return Ok(None);
        }
        self.cut(walk, segment, window, position, later)?;
        Ok(None)
    }

    /// Whether any of these files begins with a good batch.
    pub(super) fn any_good(&self, later: &[Found], walk: &Walk) -> Result<bool, LogError> {
        let rules = Rules {
            next_base: i64::MAX,
            ..self.rules(walk, &[])
        };
        for found in later
            .iter()
            .filter(|f| f.base >= walk.expected && f.size > 0)
        {
            let file = self.shared.disk.open(&found.path, OpenMode::Read);
            let file = file.map_err(self.io("open", &found.path))?;
            let mut window = Window::new(&*file, found.size, BYTES);
            let good = good_batch(&mut window, 0, found.base, &rules);
            if good.map_err(self.io("read", &found.path))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rest of the log is torn: a copy is kept, its offsets are skipped where they are known.
    pub(super) fn cut(
        &self,
        walk: &mut Walk,
        segment: &Arc<Segment>,
        window: &mut Window<'_>,
        position: u64,
        later: &[Found],
    ) -> Result<(), LogError> {
        let read = || self.io("read", &segment.path());
        let size = window.end;
        let file = self.file(segment)?;
        if !window.is_zero(position..size).map_err(read())? {
            self.shared
                .keep_cut(self.id, self.dir, walk.expected, &*file, position..size)?;
        }
        let torn = plausible(window.bytes(position, HEADER_LEN).map_err(read())?)
            .filter(|header| header.base_offset == walk.expected)
            .filter(|header| self.rules(walk, &[]).accept(header));
        let named = later.iter().map(|found| found.base).max();
        let skip_to = torn.map(|header| header.next_offset()).max(named);
        walk.recovery.cut_bytes += size - position;
        walk.recovery.cut_at = walk.expected;
        Counters::add(&self.shared.counters.cut_bytes, size - position);
        walk.truncate = Some((segment.clone(), position));
        let to = skip_to.unwrap_or(walk.expected);
        if to > walk.expected && !self.shared.opts.bugs.reuse_offsets {
            self.note(
                walk,
                Hole {
                    from: walk.expected,
                    to,
                    segment: segment.base_offset(),
                    position,
                    length: 0,
                    kind: HoleKind::Cut,
                },
            );
            walk.new_segment = Some(to);
        }
        Ok(())
    }
}

pub(super) fn known_hole(holes: &[Hole], segment: i64, position: u64, size: u64) -> Option<Hole> {
    let here = |hole: &&Hole| {
        (hole.segment, hole.position) == (segment, position)
            && hole.length > 0
            && hole.position + hole.length <= size
    };
    holes.iter().find(here).copied()
}
