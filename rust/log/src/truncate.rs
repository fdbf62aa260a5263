//! Cutting a log back to an offset, for followers and operators.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::checkpoint::Entry;
use crate::marks::Mark;
use crate::partition::lock;
use crate::recover::Plan;
use crate::segment::Segment;
use crate::{
    atomic_file, epochs, holes, snapshot, Durability, LogError, Partition, ReadError, State,
};

/// What a truncation leaves to be made durable.
struct Cut {
    kept: Arc<Segment>,
    gone: Vec<Arc<Segment>>,
    mark: Mark,
}

impl Partition {
    /// Removes every batch that ends above `offset`. Durable when it returns. Refuses to go below
    /// the high watermark unless `below_high_watermark` says that the caller's protocol allows it.
    pub fn truncate_to(&self, offset: i64, below_high_watermark: bool) -> Result<(), LogError> {
        self.check_writable()?;
        let least = match below_high_watermark {
            // Also one that could not be written down yet.
            true => self.wanted_log_start.load(Ordering::Acquire),
            false => self.high_watermark(),
        };
        if offset < least {
            return Err(LogError::OutOfRange {
                offset,
                least,
                most: self.log_end(),
            });
        }
        if offset >= self.log_end() {
            return Ok(());
        }
        // Everything past the cut is flushed or gone before marks move, so no flush is owed.
        let me = self.me.upgrade().ok_or(LogError::Deleted)?;
        self.shared.flush_partition(&me)?;
        let cut = self.unpublish(offset)?;
        let result = self.settle_cut(&cut);
        if let Some(mut appender) = self.lock_appender() {
            appender.blocked = false;
        }
        if let Err(error) = &result {
            self.set_offline(&format!(
                "truncation to {offset} failed: {error}: restart to recover"
            ));
        }
        result
    }

    /// Moves lists and marks back; appends are refused until the cut is durable.
    fn unpublish(&self, offset: i64) -> Result<Cut, LogError> {
        let offline = || LogError::Offline(Arc::from("an append was stopped halfway"));
        let mut appender = self.lock_appender().ok_or_else(offline)?;
        if self.state() != State::Online || appender.blocked {
            return Err(LogError::Offline(Arc::from(
                "the partition does not write now",
            )));
        }
        let list = self.segments.load();
        let at = list
            .partition_point(|segment| segment.base_offset() <= offset)
            .max(1)
            - 1;
        let segment = list.get(at).cloned().ok_or_else(offline)?;
        let whole = (segment.size(), segment.end_offset());
        let place = match self.locate(&segment, offset, whole, true) {
            // A wrong index was thrown away: this time without it.
            Err(ReadError::NeedsPool) => self.locate(&segment, offset, whole, true),
            place => place,
        };
        let (position, end) = place.map_err(|error| self.unread(&segment, &error))?;
        let log_start = self.wanted_log_start.load(Ordering::Acquire);
        if end < log_start {
            // The log start lies inside the batch: without it the log would end before it begins.
            return Err(LogError::OutOfRange {
                offset,
                least: log_start + 1,
                most: self.log_end(),
            });
        }
        let kept = Arc::new(segment.cut_to(position, end));
        let mark = Mark {
            offset: end,
            segment: kept.base_offset(),
            position,
            total: appender.total,
        };
        let mut kept_list: Vec<Arc<Segment>> = list.iter().take(at).cloned().collect();
        kept_list.push(kept.clone());
        // All that may fail comes before the marks move.
        let index = match self.index_of(&kept, true) {
            Ok(index) => index,
            Err(error) => return Err(self.unread(&segment, &error)),
        };
        let mut producers = self.producers_up_to(&kept_list, end)?;
        producers.changed = true;
        let mut epochs = (**self.epochs.load()).clone();
        epochs.truncate_end(end);
        {
            let mut commit = lock(&self.commit);
            commit.generation += 1;
            commit.new_epoch = false;
            commit.snapshots.clear();
            // Marks before lists here: what a mark names is in both lists.
            self.log_end.store(mark);
            self.durable.store(mark);
            let os = self.shared.opts.durability == Durability::Os;
            if os || self.high_watermark.offset() > end {
                self.high_watermark.store(mark);
            }
            self.segments.store(Arc::new(kept_list));
            // What is appended next takes these places.
            let mut holes = self.holes.load().to_vec();
            holes.retain(|hole| hole.from < end);
            self.holes.store(Arc::new(holes));
        }
        appender.last_epoch = epochs.last().map_or(-1, |last| last.epoch);
        self.epochs.store(Arc::new(epochs));
        appender.next_offset = end;
        appender.position = position;
        appender.active = Some(kept.clone());
        appender.blocked = true;
        appender.indexed = index.last().map_or(0, |entry| u64::from(entry.position));
        appender.producers = producers;
        appender.snapshot = -1;
        let first = appender.producers.first_transaction_offset();
        self.first_transaction.store(first, Ordering::Release);
        Ok(Cut {
            kept,
            gone: list.iter().skip(at + 1).cloned().collect(),
            mark,
        })
    }

    fn unread(&self, segment: &Segment, error: &ReadError) -> LogError {
        LogError::io(
            "read",
            &segment.path(),
            std::io::Error::other(error.to_string()),
        )
    }

    /// Producer state as of `end`: newest snapshot below it, then the batches after that.
    fn producers_up_to(
        &self,
        segments: &[Arc<Segment>],
        end: i64,
    ) -> Result<crate::producer::Producers, LogError> {
        let dir = self.directory();
        let config = self.config();
        let plan = Plan {
            shared: &self.shared,
            id: (self.topic_id(), self.index()),
            dir: &dir,
            config: &config,
            most_epoch: i32::MAX,
            entry: None,
            clean: false,
            synced: true,
        };
        plan.producers_at(segments, &self.holes.load(), end)
    }

    /// First the checkpoint claims less, then the files get shorter.
    fn settle_cut(&self, cut: &Cut) -> Result<(), LogError> {
        let shared = &self.shared;
        let disk = &*shared.disk;
        let dir = self.directory();
        {
            let mut ledger = lock(&shared.ledger);
            let first = self
                .segments
                .load()
                .first()
                .map_or(0, |first| first.base_offset());
            let entry = Entry {
                log_start: self.wanted_log_start.load(Ordering::Acquire),
                durable_end: first,
                segment: first,
                position: 0,
                snapshot: -1,
            };
            // Producers are replayed from the start of the log until the next checkpoint.
            ledger
                .entries
                .insert((self.topic_id(), self.index()), entry);
            // Twice, so that the one kept for a damaged checkpoint claims no more either.
            shared.write_ledger(&mut ledger, false)?;
            shared.write_ledger(&mut ledger, false)?;
        }
        let holes_path = holes::path(&dir);
        let names = disk.list(&dir).map_err(|e| LogError::io("list", &dir, e))?;
        if names.iter().any(|name| holes_path.ends_with(name)) {
            let left = holes::encode(&self.holes.load());
            atomic_file::replace(disk, &holes_path, &left)
                .map_err(|e| LogError::io("write", &holes_path, e))?;
        }
        for offset in snapshot::offsets(&names)
            .into_iter()
            .filter(|o| *o > cut.mark.offset)
        {
            let path = snapshot::path(&dir, offset);
            disk.unlink(&path)
                .map_err(|e| LogError::io("remove", &path, e))?;
        }
        for segment in cut.gone.iter().rev() {
            let path = segment.path();
            disk.unlink(&path)
                .map_err(|e| LogError::io("remove", &path, e))?;
            let _ = disk.unlink(&segment.sibling("idx"));
        }
        cut.kept.forget_index_file(disk);
        let path = cut.kept.path();
        let _round = lock(&shared.round);
        let file = shared
            .files
            .get(&cut.kept.slot)
            .map_err(|e| LogError::io("open", &path, e))?;
        file.set_len(cut.mark.position)
            .map_err(|e| LogError::io("cut", &path, e))?;
        let epochs_path = epochs::path(&dir);
        let written = atomic_file::replace(disk, &epochs_path, &self.epochs.load().encode());
        written.map_err(|e| LogError::io("write", &epochs_path, e))?;
        let synced = file.sync_data().and_then(|()| disk.sync_dir(&dir));
        if let Err(error) = synced {
            shared.take_offline(&format!("flushing {} failed: {error}", path.display()));
            return Err(LogError::io("flush", &path, error));
        }
        Ok(())
    }
}
