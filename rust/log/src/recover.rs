//! Opening a partition: at once after a clean shutdown, else by checking everything past the
//! checkpoint. What is torn is cut, what is damaged stays and is remembered; no offset that may
//! have been seen is given again.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqlog_record::{BatchHeader, HEADER_LEN};

use crate::atomic_file::{self, Unusable};
use crate::check::plausible;
use crate::checkpoint::Entry;
use crate::disk::{DiskFile, OpenMode};
use crate::epochs::{self, Epochs};
use crate::holes::{self, Hole, HoleKind};
use crate::marks::Mark;
use crate::partition::{Opened, Recovery};
use crate::producer::Producers;
use crate::resync::{good_batch, next_good, Rules};
use crate::scan::{Window, BYTES};
use crate::segment::{file_name, parse_name, Segment};
use crate::shared::{Shared, Trash};
use crate::stats::Counters;
use crate::{snapshot, LogConfig, LogError, TopicId, META_TOPIC_ID};

/// What is known of a partition before it is opened.
pub(crate) struct Plan<'a> {
    pub shared: &'a Arc<Shared>,
    pub id: (TopicId, i32),
    pub dir: &'a Path,
    pub config: &'a LogConfig,
    /// The metadata's leader epoch: no batch can have a larger one.
    pub most_epoch: i32,
    pub entry: Option<Entry>,
    /// The last shutdown was clean.
    pub clean: bool,
    /// Everything was flushed since the start by one `syncfs`.
    pub synced: bool,
}

/// A log file that is there.
#[derive(Debug, Clone)]
struct Found {
    base: i64,
    path: PathBuf,
    size: u64,
}

/// How a recovery stands.
struct Walk {
    segments: Vec<Arc<Segment>>,
    /// Offset that the next batch must have.
    expected: i64,
    epochs: Epochs,
    holes: Vec<Hole>,
    producers: Producers,
    recovery: Recovery,
    /// Producer batches were met past the snapshot.
    replayed: bool,
    /// Where their producers' state was written down at once; -1 if it was not.
    snapshot: i64,
    /// A file must get shorter: durable after the holes are.
    truncate: Option<(Arc<Segment>, u64)>,
    /// Files that go to `cut/` (with bytes) or away (without).
    remove: Vec<Found>,
    /// The log goes on in a new segment here.
    new_segment: Option<i64>,
    dir_changed: bool,
}

/// Opens a partition.
pub(crate) fn open(plan: &Plan<'_>) -> Result<Opened, LogError> {
    let names = list(plan)?;
    let (found, log_start) = plan.tidy(&names)?;
    let holes = plan.load_holes()?;
    if let Some(opened) = plan.open_clean(&names, &found, log_start, &holes)? {
        return Ok(opened);
    }
    if plan.clean && plan.id.0 == META_TOPIC_ID {
        return Err(plan.changed_since_shutdown(&found));
    }
    let walk = plan.recover(&names, &found, log_start, holes)?;
    plan.settle(walk, &names, log_start)
}

fn list(plan: &Plan<'_>) -> Result<Vec<String>, LogError> {
    plan.shared
        .disk
        .list(plan.dir)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LogError::Missing {
                path: plan.dir.to_path_buf(),
            },
            _ => LogError::io("list", plan.dir, error),
        })
}

impl Plan<'_> {
    fn io(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_path_buf();
        move |error| LogError::io(action, &path, error)
    }

    /// Lists the log files, removes left-overs and segments below the log start.
    fn tidy(&self, names: &[String]) -> Result<(Vec<Found>, i64), LogError> {
        let shared = self.shared;
        let mut found = Vec::new();
        for name in names {
            let path = self.dir.join(name);
            if name.ends_with(".tmp") || name.ends_with(".deleted") {
                // Left-overs of an earlier life; one that cannot go now goes next time.
                let _ = shared.disk.unlink(&path);
            } else if let Some(base) = parse_name(name, "log") {
                let file = shared.disk.open(&path, OpenMode::Read);
                let size = file
                    .and_then(|file| file.len())
                    .map_err(self.io("open", &path))?;
                found.push(Found { base, path, size });
            }
        }
        found.sort_by_key(|found| found.base);
        let first = found
            .first()
            .map(|found| found.base)
            .ok_or_else(|| LogError::Missing {
                path: self.dir.to_path_buf(),
            })?;
        let log_start = self.entry.map_or(first, |entry| entry.log_start).max(first);
        // Producers are replayed from the checkpointed segment on, deleted or not.
        let needless = log_start.min(self.entry.map_or(i64::MAX, |entry| entry.segment));
        let below = found
            .windows(2)
            .take_while(|pair| pair.get(1).is_some_and(|next| next.base <= needless));
        let below = below.count();
        for old in found.drain(..below) {
            let paths = [old.path.clone(), self.dir.join(file_name(old.base, "idx"))];
            for path in paths {
                shared.throw_away(path, false, 0);
            }
        }
        Ok((found, log_start))
    }

    /// Why the metadata log is not opened after a clean shutdown: nothing may be missing from it.
    fn changed_since_shutdown(&self, found: &[Found]) -> LogError {
        let is = |base: i64, size: u64| format!("{} of {size} bytes", file_name(base, "log"));
        let there = found
            .last()
            .map_or_else(String::new, |last| is(last.base, last.size));
        let said = self.entry.map_or_else(
            || "nothing of it".to_owned(),
            |entry| is(entry.segment, entry.position),
        );
        LogError::Recovery {
            path: self.dir.to_path_buf(),
            reason: format!(
                "the log ends in {there}, but the clean shutdown left {said}: somebody changed it \
                 since; restore the directory from a backup"
            ),
        }
    }

    fn load_holes(&self) -> Result<Vec<Hole>, LogError> {
        match holes::load(&*self.shared.disk, self.dir) {
            Ok(holes) => Ok(holes),
            Err(Unusable::Fatal(error)) => Err(error),
            // What it said is found again by the checks that precede serving.
            Err(Unusable::Absent | Unusable::Damaged) => Ok(Vec::new()),
        }
    }

    fn existing(&self, found: &[Found], upto: usize) -> Vec<Arc<Segment>> {
        let ends = found.iter().skip(1).map(|next| next.base);
        let closed = found.iter().zip(ends).take(upto);
        closed
            .map(|(f, end)| Arc::new(Segment::existing(self.dir, f.base, f.size, end)))
            .collect()
    }

    /// After a clean shutdown names and sizes say enough.
    fn open_clean(
        &self,
        names: &[String],
        found: &[Found],
        log_start: i64,
        holes: &[Hole],
    ) -> Result<Option<Opened>, LogError> {
        let (Some(entry), Some(last)) = (self.entry.filter(|_| self.clean), found.last()) else {
            return Ok(None);
        };
        if last.base != entry.segment || last.size != entry.position {
            return Ok(None);
        }
        let mut segments = self.existing(found, found.len() - 1);
        let active = Segment::existing(self.dir, last.base, last.size, entry.durable_end);
        self.load_index(&active, holes)?;
        self.set_age(&active)?;
        segments.push(Arc::new(active));
        let mut producers = Producers::default();
        if entry.snapshot >= 0 {
            let replay = self.restore(names, entry, &mut producers)?;
            self.replay(&segments, holes, replay..entry.durable_end, &mut producers)?;
        }
        let epochs = match epochs::load(&*self.shared.disk, self.dir) {
            Ok(epochs) => epochs,
            Err(Unusable::Fatal(error)) => return Err(error),
            Err(_) => self.rebuild_epochs(&segments, holes)?,
        };
        let recovery = Recovery {
            clean: true,
            cut_at: -1,
            last_epoch: epochs.last().map_or(-1, |last| last.epoch),
            ..Recovery::default()
        };
        Ok(Some(Opened {
            end: Mark {
                offset: entry.durable_end,
                segment: entry.segment,
                position: entry.position,
                total: 0,
            },
            segments,
            log_start,
            epochs,
            holes: holes.to_vec(),
            snapshot: entry.snapshot,
            producers,
            recovery,
            entry: Some(Entry { log_start, ..entry }),
        }))
    }

    fn load_index(&self, segment: &Segment, holes: &[Hole]) -> Result<(), LogError> {
        let shared = self.shared;
        let interval = self.config.index_interval_bytes;
        let trust = shared.opts.bugs.trust_index;
        segment
            .load_index(&*shared.disk, &shared.files, holes, interval, trust)
            .map(|_| ())
            .map_err(self.io("read the index of", &segment.path()))
    }

    /// Age of the first batch, by its timestamp but never in the future.
    fn set_age(&self, segment: &Segment) -> Result<(), LogError> {
        if segment.size() > 0 {
            let file = self.file(segment)?;
            let mut window = Window::new(&*file, segment.size(), HEADER_LEN);
            let header = window.header(0).map_err(self.io("read", &segment.path()))?;
            let now = self.shared.clock.now_ms();
            let time = header.map_or(now, |header| header.max_timestamp);
            segment.set_first_ms(if time < 0 { now } else { time.min(now) });
        }
        Ok(())
    }

    fn file(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, LogError> {
        self.shared
            .files
            .get(&segment.slot)
            .map_err(self.io("open", &segment.path()))
    }

    /// Loads the snapshot that the checkpoint names, or the newest older one that is good. Says
    /// from which offset on batches must be replayed.
    fn restore(
        &self,
        names: &[String],
        entry: Entry,
        producers: &mut Producers,
    ) -> Result<i64, LogError> {
        let now = self.shared.clock.now_ms();
        let mut offsets = snapshot::offsets(names);
        offsets.retain(|offset| *offset <= entry.durable_end);
        for offset in offsets.into_iter().rev() {
            match snapshot::load(&*self.shared.disk, self.dir, offset) {
                Ok(infos) => {
                    producers.restore(infos, now);
                    // Nothing changed between the one it names and the checkpoint.
                    let named = offset == entry.snapshot;
                    return Ok(if named { entry.durable_end } else { offset });
                }
                Err(Unusable::Fatal(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(i64::MIN)
    }

    /// Replays the producers' batches in `offsets`.
    fn replay(
        &self,
        segments: &[Arc<Segment>],
        holes: &[Hole],
        offsets: Range<i64>,
        producers: &mut Producers,
    ) -> Result<bool, LogError> {
        let now = self.shared.clock.now_ms();
        let mut any = false;
        for segment in segments
            .iter()
            .filter(|s| s.end_offset() > offsets.start && s.base_offset() < offsets.end)
        {
            self.each(segment, holes, |header, bytes| {
                let wanted = offsets.contains(&header.base_offset) && header.has_producer();
                if wanted && mqlog_record::verify_crc(bytes) {
                    producers.apply(header, now);
                    any = true;
                }
            })?;
        }
        Ok(any)
    }

    /// Producer state at `end`, from the newest snapshot below it and the batches after that.
    pub fn producers_at(
        &self,
        segments: &[Arc<Segment>],
        holes: &[Hole],
        end: i64,
    ) -> Result<Producers, LogError> {
        let mut producers = Producers::default();
        let names = list(self)?;
        let upto = Entry {
            log_start: end,
            durable_end: end,
            segment: end,
            position: 0,
            snapshot: i64::MIN,
        };
        let from = self.restore(&names, upto, &mut producers)?;
        self.replay(segments, holes, from..end, &mut producers)?;
        Ok(producers)
    }

    /// All batches with a header that can be believed, past holes and damage.
    fn each(
        &self,
        segment: &Segment,
        holes: &[Hole],
        mut visit: impl FnMut(&BatchHeader, &[u8]),
    ) -> Result<(), LogError> {
        let read = || self.io("read", &segment.path());
        let file = self.file(segment)?;
        let size = segment.size();
        let mut window = Window::new(&*file, size, BYTES);
        let rules = Rules::any(segment.end_offset());
        let (mut position, mut expected) = (0, segment.base_offset());
        while position < size {
            if let Some(hole) = known_hole(holes, segment.base_offset(), position, size) {
                (position, expected) = (position + hole.length, hole.to);
                continue;
            }
            let batch = window.batch(position).map_err(read())?;
            if let Some((header, bytes)) = batch.filter(|(h, _)| h.base_offset >= expected) {
                visit(&header, bytes);
                expected = header.next_offset();
                position += header.size() as u64;
                continue;
            }
            let known = holes::in_segment(holes, segment.base_offset());
            match next_good(&mut window, position, expected, &rules, &known).map_err(read())? {
                Some((at, header)) => (position, expected) = (at, header.base_offset),
                None => break,
            }
        }
        Ok(())
    }

    fn rebuild_epochs(
        &self,
        segments: &[Arc<Segment>],
        holes: &[Hole],
    ) -> Result<Epochs, LogError> {
        let mut epochs = Epochs::default();
        for segment in segments {
            self.each(segment, holes, |header, _| {
                epochs.observe(header.partition_leader_epoch, header.base_offset);
            })?;
        }
        Ok(epochs)
    }

    /// Walks from the checkpointed place to the end of the last file.
    fn recover(
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

    /// State as of the checkpoint: producers and epochs.
    fn begin(
        &self,
        walk: &mut Walk,
        names: &[String],
        entry: Option<Entry>,
        first: i64,
    ) -> Result<(), LogError> {
        let from = match entry {
            Some(entry) if entry.snapshot >= 0 => {
                self.restore(names, entry, &mut walk.producers)?
            }
            Some(entry) => entry.durable_end,
            None => {
                let none = Entry {
                    log_start: first,
                    durable_end: first,
                    segment: first,
                    position: 0,
                    snapshot: -1,
                };
                self.restore(names, none, &mut walk.producers)?;
                first
            }
        };
        if from < walk.expected {
            let upto = walk.expected;
            let mut all = walk.segments.clone();
            if let Some(entry) = entry.filter(|entry| entry.position > 0) {
                let partly =
                    Segment::existing(self.dir, entry.segment, entry.position, entry.durable_end);
                all.push(Arc::new(partly));
            }
            walk.replayed |= self.replay(&all, &walk.holes, from..upto, &mut walk.producers)?;
        }
        walk.epochs = match epochs::load(&*self.shared.disk, self.dir) {
            Ok(mut epochs) => {
                epochs.truncate_end(walk.expected);
                epochs
            }
            Err(Unusable::Fatal(error)) => return Err(error),
            Err(_) => {
                let mut all = walk.segments.clone();
                if let Some(entry) = entry.filter(|entry| entry.position > 0) {
                    let partly = Segment::existing(
                        self.dir,
                        entry.segment,
                        entry.position,
                        entry.durable_end,
                    );
                    all.push(Arc::new(partly));
                }
                self.rebuild_epochs(&all, &walk.holes)?
            }
        };
        Ok(())
    }

    /// What is checked must be what the device has, not what the cache remembers.
    fn reach_the_device(&self, tail: &[Found], entry: Option<Entry>) -> Result<(), LogError> {
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
    fn first_segment(
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
    fn shorter(&self, walk: &mut Walk, found: &Found, entry: Entry) -> Result<(), LogError> {
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

    fn lost(&self, walk: &mut Walk, from: i64, to: i64, segment: i64, position: u64) {
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

    fn note(&self, walk: &mut Walk, hole: Hole) {
        if walk.holes.contains(&hole) || hole.to <= hole.from {
            return;
        }
        if hole.kind != HoleKind::Cut {
            Counters::add(&self.shared.counters.quarantined_ranges, 1);
        }
        walk.recovery.new_holes.push(hole);
        holes::insert(&mut walk.holes, hole);
    }

    fn rules(&self, walk: &Walk, later: &[Found]) -> Rules {
        Rules {
            least_epoch: walk.epochs.last().map_or(-1, |last| last.epoch),
            most_epoch: self.most_epoch,
            next_base: later
                .iter()
                .map(|found| found.base)
                .find(|base| *base > walk.expected)
                .unwrap_or(i64::MAX),
        }
    }

    /// A segment after the checkpointed one, from its beginning.
    fn next_segment(
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
    fn walk_segment(
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
    fn damage(
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
    fn any_good(&self, later: &[Found], walk: &Walk) -> Result<bool, LogError> {
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
    fn cut(
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

    /// The `.idx` of a segment that is read from its beginning says nothing that is needed.
    fn discard_index(&self, base: i64) {
        // Absent, or it goes with the next write; its entries are checked in any case.
        let _ = self
            .shared
            .disk
            .unlink(&self.dir.join(file_name(base, "idx")));
    }

    /// Entries past the checkpoint must not come back when more was written there.
    fn trim_index(&self, segment: &Segment) -> Result<(), LogError> {
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
    fn settle(&self, mut walk: Walk, names: &[String], log_start: i64) -> Result<Opened, LogError> {
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

    fn end_in_new_segment(&self, walk: &mut Walk, end: i64) -> Result<(), LogError> {
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
    fn settle_state(&self, walk: &mut Walk, names: &[String], end: i64) -> Result<(), LogError> {
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

    fn opened(&self, mut walk: Walk, log_start: i64, end: i64) -> Opened {
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

fn known_hole(holes: &[Hole], segment: i64, position: u64, size: u64) -> Option<Hole> {
    let here = |hole: &&Hole| {
        (hole.segment, hole.position) == (segment, position)
            && hole.length > 0
            && hole.position + hole.length <= size
    };
    holes.iter().find(here).copied()
}

impl Shared {
    /// Has a file or directory removed when it is due.
    pub fn throw_away(&self, path: PathBuf, directory: bool, due_ms: i64) {
        crate::partition::lock(&self.trash).push(Trash {
            due_ms,
            path,
            directory,
        });
    }
}
