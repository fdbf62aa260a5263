//! The oracle of one partition: what was sent, what was promised, and what must follow from it.
//! It knows no files and no engine, only answers, marks and what a reader saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mqlog_log::{Appended, Hole, Partition};

use super::batch::Sent;
use super::reader::Stored;

/// What a crash may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was written: the machine lived on.
    Nothing,
    /// What was not flushed.
    Unflushed,
}

/// Marks of a partition, as its public interface shows them.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub log_start: i64,
    pub durable_end: i64,
    pub high_watermark: i64,
    pub log_end: i64,
}

impl View {
    pub fn of(partition: &Partition) -> View {
        View {
            log_start: partition.log_start(),
            durable_end: partition.durable_end(),
            high_watermark: partition.high_watermark(),
            log_end: partition.log_end(),
        }
    }
}

/// The record of one partition.
#[derive(Default)]
pub struct Ledger {
    /// Batches in the log, by offset.
    at: BTreeMap<i64, Arc<Sent>>,
    /// Where a batch is or was, by serial: in the log, or below its start.
    place: HashMap<u64, i64>,
    /// Every batch that was ever sent, by checksum.
    sent: HashMap<u32, Vec<Arc<Sent>>>,
    /// What somebody was told or read: leader epoch and offset to serial.
    told: HashMap<(i32, i64), u64>,
    /// Batches that a write failed for: they may come up where it was tried.
    refused: HashSet<u64>,
    /// Deleted batches that the log need not know any more.
    forgotten: HashSet<u64>,
    /// Batches that were lost or cut for good and not sent again since.
    gone: HashSet<u64>,
    /// Acknowledged batches that the lab damaged: they may be missing, their offsets are taken.
    damaged: BTreeMap<i64, Arc<Sent>>,
    /// What survives a power failure, and what survives the process.
    durable: i64,
    written: i64,
    /// Log start as shown, and as far as anybody ever asked it to move.
    log_start: i64,
    log_start_asked: i64,
    /// A truncation down to here may or may not have happened.
    doubtful: Option<i64>,
}

impl Ledger {
    /// A batch goes to the log, maybe again.
    pub fn sends(&mut self, sent: &Arc<Sent>) {
        self.gone.remove(&sent.serial);
        let same = self.sent.entry(sent.header.crc).or_default();
        if !same.iter().any(|known| known.serial == sent.serial) {
            same.push(sent.clone());
        }
    }

    /// A batch could not be written.
    pub fn refuses(&mut self, sent: &Sent) {
        self.refused.insert(sent.serial);
    }

    /// Whether the batch is in the log now.
    pub fn holds(&self, sent: &Sent) -> bool {
        let place = self.place.get(&sent.serial).and_then(|at| self.at.get(at));
        place.is_some_and(|there| there.serial == sent.serial)
    }

    /// Whether a batch that was acknowledged may be forgotten: only what the lab damaged.
    pub fn was_damaged(&self, sent: &Sent) -> bool {
        self.damaged
            .values()
            .any(|damaged| damaged.serial == sent.serial)
    }

    /// Whether the batch was in the log and is below its start now.
    pub fn deleted(&self, sent: &Sent) -> bool {
        let known = self.place.contains_key(&sent.serial) && !self.holds(sent);
        known && !self.forgotten.contains(&sent.serial)
    }

    /// The log said that a batch is in it, now or before.
    pub fn answered(
        &mut self,
        sent: &Arc<Sent>,
        answer: &Appended,
        end: i64,
    ) -> Result<(), String> {
        let base = answer.base_offset;
        if answer.last_offset - base != i64::from(sent.header.last_offset_delta) {
            return Err(format!(
                "an answer of {base}..={} for {sent:?}",
                answer.last_offset
            ));
        }
        if answer.duplicate {
            return match self.place.get(&sent.serial) {
                Some(place) if *place == base => Ok(()),
                _ if self
                    .damaged
                    .get(&base)
                    .is_some_and(|d| d.serial == sent.serial) =>
                {
                    Ok(())
                }
                place => Err(format!(
                    "batch {} was called a duplicate of offset {base}; it is at {place:?}",
                    sent.serial
                )),
            };
        }
        let place = self.place.get(&sent.serial);
        if let Some(place) = place.filter(|_| !self.forgotten.contains(&sent.serial)) {
            return Err(format!(
                "batch {} at {place} appended again at {base}",
                sent.serial
            ));
        }
        if base != end {
            return Err(format!(
                "batch {} appended at {base}, the log ended at {end}",
                sent.serial
            ));
        }
        self.put(base, sent)
    }

    fn put(&mut self, base: i64, sent: &Arc<Sent>) -> Result<(), String> {
        let end = end_of(base, sent);
        let before = self.damaged.range(..end).next_back();
        if let Some((at, damaged)) = before.filter(|(at, damaged)| end_of(**at, damaged) > base) {
            if (*at, damaged.serial) != (base, sent.serial) {
                return Err(format!(
                    "offset {at} was acknowledged for batch {}; now batch {} is at {base}",
                    damaged.serial, sent.serial
                ));
            }
        }
        self.place.insert(sent.serial, base);
        self.at.insert(base, sent.clone());
        Ok(())
    }

    /// Remembers to whom an offset was given under a leader epoch.
    pub fn tell(&mut self, epoch: i32, base: i64, serial: u64) -> Result<(), String> {
        match self.told.insert((epoch, base), serial) {
            Some(before) if before != serial && !self.refused.contains(&serial) => Err(format!(
                "offset {base} of epoch {epoch} was batch {before} and is batch {serial}"
            )),
            _ => Ok(()),
        }
    }

    /// Takes in the marks of a partition that lives.
    pub fn observe(&mut self, view: View, commits: bool) -> Result<(), String> {
        let View {
            log_start,
            durable_end,
            high_watermark,
            log_end,
        } = view;
        let ordered = log_start <= high_watermark && high_watermark <= log_end;
        if !ordered || durable_end > log_end {
            return Err(format!("the marks are out of order: {view:?}"));
        }
        let committed = if commits { high_watermark } else { 0 };
        self.durable = self.durable.max(durable_end).max(committed);
        self.written = self.written.max(log_end);
        self.show_log_start(log_start)
    }

    /// Everything written so far is promised to be flushed.
    pub fn all_flushed(&mut self) {
        self.durable = self.durable.max(self.written);
    }

    fn show_log_start(&mut self, log_start: i64) -> Result<(), String> {
        if log_start < self.log_start || log_start > self.log_start_asked {
            return Err(format!(
                "the log starts at {log_start}: {} was shown, {} was asked for",
                self.log_start, self.log_start_asked
            ));
        }
        self.log_start = log_start;
        self.at.retain(|base, sent| end_of(*base, sent) > log_start);
        Ok(())
    }

    /// Somebody asks to move the log start.
    pub fn asks_log_start(&mut self, to: i64) {
        self.log_start_asked = self.log_start_asked.max(to);
    }

    /// Somebody asks to cut the log back.
    pub fn asks_truncation(&mut self, to: i64) {
        // Batches are cut whole.
        let to = self
            .at
            .range(..=to)
            .next_back()
            .map_or(0, |(base, _)| *base);
        self.doubtful = Some(self.doubtful.map_or(to, |before| before.min(to)));
    }

    /// It was refused.
    pub fn truncation_refused(&mut self) {
        self.doubtful = None;
    }

    /// The log was cut back, durably, and ends where the view says.
    pub fn truncated(&mut self, view: View) {
        self.doubtful = None;
        self.written = view.log_end;
        self.durable = self.durable.min(view.log_end);
        for (_, sent) in self.at.split_off(&view.log_end) {
            self.place.remove(&sent.serial);
            self.gone.insert(sent.serial);
        }
        // Producer state is taken from an older snapshot: batches below the log start may be
        // missing in it.
        let deleted = self
            .place
            .iter()
            .filter(|(_, base)| !self.at.contains_key(base));
        self.forgotten.extend(deleted.map(|(serial, _)| *serial));
        self.damaged.split_off(&view.log_end);
        self.told.retain(|(_, base), _| *base < view.log_end);
    }

    /// A truncation takes producer state from an older snapshot: batches below the log start may
    /// be missing in it.
    fn forget_deleted(&mut self) {
        let deleted = self
            .place
            .iter()
            .filter(|(_, base)| !self.at.contains_key(base));
        self.forgotten.extend(deleted.map(|(serial, _)| *serial));
    }

    /// An acknowledged and flushed batch, the `nth` from the end.
    pub fn flushed_batch(&self, nth: usize) -> Option<(i64, Arc<Sent>)> {
        let flushed = self
            .at
            .iter()
            .rev()
            .filter(|(at, sent)| end_of(**at, sent) <= self.durable);
        flushed.map(|(at, sent)| (*at, sent.clone())).nth(nth)
    }

    /// The lab damaged a batch on the disk.
    pub fn damages(&mut self, base: i64, sent: Arc<Sent>) {
        // If it is sent again it may be taken as new.
        self.place.remove(&sent.serial);
        self.damaged.insert(base, sent);
    }

    fn whose(&self, stored: &Stored) -> Result<Arc<Sent>, String> {
        let same = self.sent.get(&stored.header.crc).into_iter().flatten();
        let found = same
            .into_iter()
            .find(|sent| sent.is(&stored.bytes))
            .cloned();
        found.ok_or_else(|| {
            format!(
                "offset {} holds a batch that nobody sent",
                stored.header.base_offset
            )
        })
    }

    /// What was read while the log lives, from a read at `offset`.
    pub fn check_read(&self, offset: i64, read: &[Stored]) -> Result<(), String> {
        let expected = self
            .at
            .iter()
            .filter(|(at, sent)| end_of(**at, sent) > offset && !self.damaged.contains_key(at));
        let mut expected = expected.peekable();
        for stored in read {
            let found = (stored.header.base_offset, self.whose(stored)?.serial);
            if self.damaged.contains_key(&found.0) {
                continue;
            }
            match expected.next().map(|(at, sent)| (*at, sent.serial)) {
                Some(wanted) if wanted == found => {}
                wanted => {
                    return Err(format!(
                        "a read at {offset} got {found:?} instead of {wanted:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a hole up to `to`, met at `offset`, hides nothing that must be there.
    pub fn check_hole(&self, offset: i64, to: i64) -> Result<(), String> {
        let mut hidden = self.at.range(..to).rev();
        let hidden =
            hidden.find(|(at, sent)| end_of(**at, sent) > offset && !self.damaged.contains_key(at));
        hidden.map_or(Ok(()), |(at, sent)| {
            Err(format!(
                "offsets {offset}..{to} are damaged, batch {} is at {at}",
                sent.serial
            ))
        })
    }

    /// What a start found, against what had to survive; then that is the truth.
    pub fn after_crash(
        &mut self,
        view: View,
        read: &[Stored],
        holes: &[Hole],
        loss: Loss,
    ) -> Result<(), String> {
        self.show_log_start(view.log_start)?;
        let promised = match loss {
            Loss::Nothing => self.written,
            Loss::Unflushed => self.durable,
        };
        let doubtful = self.doubtful.take();
        let promised = promised.min(doubtful.unwrap_or(promised));
        if let Some(doubtful) = doubtful {
            self.damaged.split_off(&doubtful);
            self.forget_deleted();
        }
        if (view.durable_end, view.high_watermark) != (view.log_end, view.log_end) {
            return Err(format!("what a start serves is not durable: {view:?}"));
        }
        if view.log_end < promised {
            return Err(format!(
                "the log ends at {}, {promised} was promised: offsets will be given again",
                view.log_end
            ));
        }
        let mut found = BTreeMap::new();
        for stored in read {
            found.insert(stored.header.base_offset, self.whose(stored)?);
        }
        self.check_kept(&found, promised)?;
        self.check_found(&found, read)?;
        check_sequences(read, holes)?;
        for (at, sent) in std::mem::take(&mut self.at) {
            if found
                .get(&at)
                .is_none_or(|there| there.serial != sent.serial)
                && !self.damaged.contains_key(&at)
            {
                self.place.remove(&sent.serial);
                self.gone.insert(sent.serial);
            }
        }
        for (base, sent) in &found {
            self.put(*base, sent)?;
        }
        self.durable = view.log_end;
        self.written = view.log_end;
        Ok(())
    }

    fn check_kept(&self, found: &BTreeMap<i64, Arc<Sent>>, promised: i64) -> Result<(), String> {
        for (at, sent) in &self.at {
            let must = end_of(*at, sent) <= promised && !self.damaged.contains_key(at);
            let there = found.get(at).map(|there| there.serial);
            if must && there != Some(sent.serial) {
                return Err(format!(
                    "batch {} at {at} is lost ({there:?} is there), everything below {promised} \
                     was promised",
                    sent.serial
                ));
            }
        }
        Ok(())
    }

    fn check_found(
        &mut self,
        found: &BTreeMap<i64, Arc<Sent>>,
        read: &[Stored],
    ) -> Result<(), String> {
        let mut serials = HashSet::new();
        for (at, sent) in found {
            if !serials.insert(sent.serial) {
                return Err(format!(
                    "batch {} is in the log twice, again at {at}",
                    sent.serial
                ));
            }
            if self.gone.contains(&sent.serial) {
                return Err(format!(
                    "batch {} was gone and is back at {at}",
                    sent.serial
                ));
            }
        }
        for stored in read {
            let header = &stored.header;
            let serial = found.get(&header.base_offset).map_or(0, |sent| sent.serial);
            self.tell(header.partition_leader_epoch, header.base_offset, serial)?;
        }
        Ok(())
    }
}

fn end_of(base: i64, sent: &Sent) -> i64 {
    base + i64::from(sent.header.last_offset_delta) + 1
}

/// A producer's sequences follow each other, but where a hole lies between.
fn check_sequences(read: &[Stored], holes: &[Hole]) -> Result<(), String> {
    let mut last: HashMap<(i64, i16), (i32, i64)> = HashMap::new();
    for header in read.iter().map(|stored| &stored.header) {
        if !header.has_producer() {
            continue;
        }
        let next = (
            header.base_sequence + header.records_count,
            header.next_offset(),
        );
        let before = last.insert((header.producer_id, header.producer_epoch), next);
        let Some((expected, offset)) = before else {
            continue;
        };
        let between = |hole: &Hole| hole.to > offset && hole.from < header.base_offset;
        let skipped = header.base_sequence > expected && holes.iter().any(between);
        if header.base_sequence != expected && !skipped {
            return Err(format!(
                "producer {} sequence {} at offset {} follows {expected}",
                header.producer_id, header.base_sequence, header.base_offset
            ));
        }
    }
    Ok(())
}
