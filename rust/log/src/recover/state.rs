//! What a log says beside its batches: producers and leader epochs, from the small files and the
//! batches after them.

use std::ops::Range;
use std::sync::Arc;

use mqlog_record::BatchHeader;

use super::walk::{known_hole, Walk};
use super::{list, Plan};
use crate::atomic_file::Unusable;
use crate::checkpoint::Entry;
use crate::epochs::{self, Epochs};
use crate::holes::{self, Hole};
use crate::producer::Producers;
use crate::resync::{next_good, Rules};
use crate::scan::{Window, BYTES};
use crate::segment::{file_name, Segment};
use crate::{snapshot, LogError};

impl Plan<'_> {
    /// Loads the snapshot that the checkpoint names, or the newest older one that is good. Says
    /// from which offset on batches must be replayed.
    pub(super) fn restore(
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
    pub(super) fn replay(
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
    pub(super) fn each(
        &self,
        segment: &Segment,
        holes: &[Hole],
        mut visit: impl FnMut(&BatchHeader, &[u8]),
    ) -> Result<(), LogError> {
        let read = || self.io("read", &segment.path());
        let file = self.file(segment)?;
        let size = segment.size();
        let mut window = Window::new(&*file, size, BYTES);
        let base = segment.base_offset();
        let rules = Rules::any(holes::end_of(holes, base, segment.end_offset()));
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

    pub(super) fn rebuild_epochs(
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

    /// State as of the checkpoint: producers and epochs.
    pub(super) fn begin(
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
        // Up to the checkpoint, if the file it is in is still there.
        let mut below = walk.segments.clone();
        let there = |entry: &Entry| names.contains(&file_name(entry.segment, "log"));
        if let Some(entry) = entry.filter(|entry| entry.position > 0 && there(entry)) {
            let (segment, position) = (entry.segment, entry.position);
            let partly = Segment::existing(self.dir, segment, position, entry.durable_end);
            below.push(Arc::new(partly));
        }
        if from < walk.expected {
            let upto = walk.expected;
            walk.replayed |= self.replay(&below, &walk.holes, from..upto, &mut walk.producers)?;
        }
        walk.epochs = match epochs::load(&*self.shared.disk, self.dir) {
            Ok(mut epochs) => {
                epochs.truncate_end(walk.expected);
                epochs
            }
            Err(Unusable::Fatal(error)) => return Err(error),
            Err(_) => self.rebuild_epochs(&below, &walk.holes)?,
        };
        Ok(())
    }
}
