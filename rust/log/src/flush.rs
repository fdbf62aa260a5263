//! Group commit: one flush serves everyone who came before it began.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{fence, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::atomic_file;
use crate::disk::{DiskFile, Trouble};
use crate::marks::Mark;
use crate::partition::lock;
use crate::producer::ProducerInfo;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::stats::Counters;
use crate::{epochs, snapshot, Durability, LogError, Partition, State, Wake};

/// No flush is due.
pub(crate) const NOT_QUEUED: u64 = u64::MAX;
/// Up to as many files are flushed one by one.
const FEW: usize = 2;
/// How soon a flush that found no room is tried again.
const RETRY_MS: u64 = 100;

#[derive(Default)]
struct Queued {
    partitions: Vec<Arc<Partition>>,
    /// When the first of them is due; [`NOT_QUEUED`] by [`FlushQueue::take`].
    earliest: Option<u64>,
    nudged: bool,
    stopping: bool,
    served: bool,
    sleeping: bool,
}

/// Who wants a flush, how soon.
#[derive(Default)]
pub(crate) struct FlushQueue {
    queued: Mutex<Queued>,
    work: Condvar,
}

impl FlushQueue {
    /// Puts a partition in, or brings the time forward.
    pub fn push(&self, partition: Option<Arc<Partition>>, due: u64) {
        let mut queued = lock(&self.queued);
        queued.partitions.extend(partition);
        let sooner = queued.earliest.is_none_or(|earliest| due < earliest);
        if sooner {
            queued.earliest = Some(due);
        }
        if sooner && queued.sleeping {
            drop(queued);
            self.work.notify_one();
        }
    }

    /// Has the flusher look whether a checkpoint is due.
    pub fn nudge(&self) {
        lock(&self.queued).nudged = true;
        self.work.notify_one();
    }

    pub fn stop(&self) {
        lock(&self.queued).stopping = true;
        self.work.notify_one();
    }

    /// Lets go of all that are queued.
    pub fn clear(&self) {
        drop(self.take(0, true));
    }

    pub fn is_served(&self) -> bool {
        lock(&self.queued).served
    }

    pub fn set_served(&self, served: bool) {
        let mut queued = lock(&self.queued);
        queued.served = served;
        queued.stopping = false;
    }

    /// All that are queued, if any is due at `now`: taking the others along costs less than
    /// coming back for them.
    fn take(&self, now: u64, force: bool) -> Vec<Arc<Partition>> {
        let mut queued = lock(&self.queued);
        if !force && queued.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        queued.earliest = None;
        std::mem::take(&mut queued.partitions)
    }

    /// Waits until something is due, at most until `until`. False: stop.
    fn wait(&self, now: u64, until: u64) -> bool {
        let mut queued = lock(&self.queued);
        if queued.stopping {
            return false;
        }
        let due = queued.earliest.unwrap_or(until).min(until);
        if due > now && !std::mem::take(&mut queued.nudged) {
            queued.sleeping = true;
            let (mut queued, _) = self
                .work
                .wait_timeout(queued, Duration::from_nanos(due - now))
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            queued.sleeping = false;
            queued.nudged = false;
        }
        true
    }
}

/// What a round owes to one partition.
struct Owed {
    partition: Arc<Partition>,
    mark: Mark,
    generation: u64,
    files: Vec<(Arc<Segment>, Arc<dyn DiskFile>, u64)>,
    new_file: bool,
    new_epoch: bool,
    /// The new `epochs` file is written, beside the old one.
    staged: bool,
}

impl Owed {
    /// Puts the duties back that a failed attempt took.
    fn give_back(&self) {
        let mut commit = lock(&self.partition.commit);
        commit.new_file |= self.new_file;
        commit.new_epoch |= self.new_epoch;
    }
}

impl Shared {
    /// Flushes what is due; all that is queued with `force`. Says how many partitions moved.
    pub fn flush_now(&self, force: bool) -> Result<usize, LogError> {
        let partitions = self.queue.take(self.clock.mono_ns(), force);
        self.flush(&partitions)
    }

    /// One round over these partitions.
    pub fn flush(&self, partitions: &[Arc<Partition>]) -> Result<usize, LogError> {
        for partition in partitions {
            partition.flush_due.store(NOT_QUEUED, Ordering::Release);
        }
        // Left the queue before the marks are read: whoever appends from here on queues again.
        fence(Ordering::SeqCst);
        if partitions.is_empty() {
            return self.check_online().map(|()| 0);
        }
        let round = lock(&self.round);
        self.check_online()?;
        let mut owed: Vec<Owed> = partitions.iter().filter_map(|p| self.owed(p)).collect();
        Counters::add(&self.counters.flushes, 1);
        self.stage_epochs(&mut owed);
        let synced = self.sync(&owed);
        if let Err((path, error)) = synced.and_then(|all| self.name_epochs(&mut owed, all)) {
            let reason = format!(
                "flushing {} failed: {error}: what was written since the last flush may be lost; \
                 check the device, then restart",
                path.display()
            );
            self.take_offline(&reason);
            return Err(LogError::Offline(Arc::from(reason)));
        }
        // Who is woken next may need their descriptors.
        for (segment, file, writes) in owed.iter_mut().flat_map(|owed| owed.files.drain(..)) {
            drop(file);
            segment.slot.flushed(writes);
        }
        let mut snapshots = Vec::new();
        let moved = owed
            .iter()
            .filter(|owed| self.finish(owed, &mut snapshots))
            .count();
        drop(round);
        self.write_snapshots(snapshots)?;
        Ok(moved)
    }

    /// Reads the mark, then the list: all from the durable mark's segment to the mark's.
    fn owed(&self, partition: &Arc<Partition>) -> Option<Owed> {
        if partition.state() != State::Online {
            return None;
        }
        let mark = partition.log_end.load();
        let (durable, generation, new_file, new_epoch, snapshots) = {
            let mut commit = lock(&partition.commit);
            (
                partition.durable.load(),
                commit.generation,
                std::mem::take(&mut commit.new_file),
                std::mem::take(&mut commit.new_epoch),
                !commit.snapshots.is_empty(),
            )
        };
        let segments = partition.segments.load();
        let mut owed = Owed {
            partition: partition.clone(),
            mark,
            generation,
            files: Vec::new(),
            new_file,
            new_epoch,
            staged: false,
        };
        if mark.offset == durable.offset {
            return (new_file || new_epoch || snapshots).then_some(owed);
        }
        let dirty = |segment: &&Arc<Segment>| {
            (durable.segment..=mark.segment).contains(&segment.base_offset())
                && !segment.slot.is_clean()
        };
        for segment in segments.iter().filter(dirty) {
            // Unflushed files are open; one that is not cannot be had for want of descriptors.
            match self.files.get(&segment.slot) {
                Ok(file) => {
                    let writes = segment.slot.flush_begins();
                    owed.files.push((segment.clone(), file, writes));
                }
                Err(_) => {
                    owed.give_back();
                    self.queue_flush(partition, RETRY_MS);
                    return None;
                }
            }
        }
        Some(owed)
    }

    /// Where many partitions begin an epoch at once, as after a start: writes their `epochs` so
    /// that the round's own flush takes them along.
    fn stage_epochs(&self, owed: &mut Vec<Owed>) {
        let many = owed.iter().filter(|owed| owed.new_epoch).count() > FEW;
        if !many || !self.opts.syncfs {
            return;
        }
        owed.retain_mut(|owed| {
            let partition = &owed.partition;
            if owed.new_epoch {
                let path = epochs::path(&partition.directory());
                let bytes = partition.epochs.load().encode();
                let result = atomic_file::write_unsynced(&*self.disk, &path, &bytes);
                owed.staged = self.small_write(&path, result, partition).is_ok();
            }
            self.keep(owed, owed.staged || !owed.new_epoch)
        });
    }

    /// Gives staged epochs their name, if one flush of everything made them durable.
    fn name_epochs(&self, owed: &mut Vec<Owed>, synced: bool) -> Result<(), (PathBuf, io::Error)> {
        let mut named = false;
        owed.iter_mut().for_each(|owed| owed.staged &= synced);
        owed.retain(|owed| {
            if !owed.staged {
                return true;
            }
            let path = epochs::path(&owed.partition.directory());
            let result = self.disk.rename(&atomic_file::temporary(&path), &path);
            named |= result.is_ok();
            self.keep(
                owed,
                self.small_write(&path, result, &owed.partition).is_ok(),
            )
        });
        let failed = |error| (self.opts.path.clone(), error);
        match named && !self.root.sync_fs().map_err(failed)? {
            true => Err(failed(io::ErrorKind::Unsupported.into())),
            false => Ok(()),
        }
    }

    /// Has a partition that could not be finished come back.
    fn keep(&self, owed: &Owed, finished: bool) -> bool {
        if !finished {
            owed.give_back();
            self.queue_flush(&owed.partition, RETRY_MS);
        }
        finished
    }

    /// Makes files and directory entries durable. True: everything is. The error names what failed.
    fn sync(&self, owed: &[Owed]) -> Result<bool, (PathBuf, io::Error)> {
        let directories = owed.iter().filter(|owed| owed.new_file).count();
        let files: usize = owed.iter().map(|owed| owed.files.len()).sum();
        let staged = owed.iter().filter(|owed| owed.staged).count();
        let many = files + directories + staged > FEW;
        if self.opts.syncfs && many && !self.opts.bugs.no_dir_fsync {
            let root = &self.opts.path;
            if self.root.sync_fs().map_err(|error| (root.clone(), error))? {
                Counters::add(&self.counters.fs_syncs, 1);
                return Ok(true);
            }
        }
        for (segment, file, _) in owed.iter().flat_map(|owed| &owed.files) {
            file.sync_data().map_err(|error| (segment.path(), error))?;
            Counters::add(&self.counters.file_syncs, 1);
        }
        for owed in owed.iter().filter(|owed| owed.new_file) {
            let dir = owed.partition.directory();
            if !self.opts.bugs.no_dir_fsync {
                self.disk.sync_dir(&dir).map_err(|error| (dir, error))?;
            }
        }
        Ok(false)
    }

    /// Writes the epochs, then moves the marks.
    fn finish(
        &self,
        owed: &Owed,
        snapshots: &mut Vec<(Arc<Partition>, i64, Vec<ProducerInfo>)>,
    ) -> bool {
        let partition = &owed.partition;
        let written = !owed.new_epoch || owed.staged || self.write_epochs(partition).is_ok();
        if !self.keep(owed, written) {
            return false;
        }
        let mut commit = lock(&partition.commit);
        if partition.state() == State::Deleted {
            return false;
        }
        if commit.generation != owed.generation {
            drop(commit);
            self.queue_flush(partition, 0);
            return false;
        }
        let before = partition.durable.load();
        let moves = owed.mark.offset > before.offset;
        let fsync = self.opts.durability == Durability::Fsync;
        if moves {
            partition.durable.store(owed.mark);
        }
        if moves && fsync && owed.mark.offset > partition.high_watermark.offset() {
            partition.high_watermark.store(owed.mark);
        }
        let end = before.offset.max(owed.mark.offset);
        let due = |snapshot: &mut (i64, Vec<ProducerInfo>)| snapshot.0 <= end;
        for (offset, infos) in commit.snapshots.extract_if(.., due) {
            snapshots.push((partition.clone(), offset, infos));
        }
        drop(commit);
        partition.durable_waiters.wake_to(end);
        if fsync && moves {
            partition.hw_waiters.wake_to(end);
            self.bytes_flushed(owed.mark.total.saturating_sub(before.total));
        }
        moves
    }

    /// Replaces a partition's `epochs`. No room is no disaster, anything else is.
    pub fn write_epochs(&self, partition: &Partition) -> io::Result<()> {
        let path = epochs::path(&partition.directory());
        let result = atomic_file::replace(&*self.disk, &path, &partition.epochs.load().encode());
        self.small_write(&path, result, partition)
    }

    /// Sorts the failure of writing a small file: only a device that fails takes all offline.
    pub fn small_write(
        &self,
        path: &std::path::Path,
        result: io::Result<()>,
        partition: &Partition,
    ) -> io::Result<()> {
        if let Err(error) = &result {
            match Trouble::of(error) {
                Trouble::Full => self.disk_is_full(),
                Trouble::Descriptors => {}
                // The directory of a deleted partition is being renamed.
                Trouble::Io if partition.state() == State::Deleted => {}
                Trouble::Io => {
                    self.take_offline(&format!("writing {} failed: {error}", path.display()));
                }
            }
        }
        result
    }

    /// Writes producer states whose offsets are durable now.
    fn write_snapshots(
        &self,
        snapshots: Vec<(Arc<Partition>, i64, Vec<ProducerInfo>)>,
    ) -> Result<(), LogError> {
        let mut newest: HashMap<*const Partition, i64> = HashMap::new();
        for (partition, offset, _) in &snapshots {
            let entry = newest.entry(Arc::as_ptr(partition)).or_insert(*offset);
            *entry = (*entry).max(*offset);
        }
        for (partition, offset, infos) in snapshots {
            if newest.get(&Arc::as_ptr(&partition)) != Some(&offset) {
                continue;
            }
            let dir = partition.directory();
            let path = snapshot::path(&dir, offset);
            let bytes = snapshot::encode(offset, &infos);
            let result = atomic_file::replace(&*self.disk, &path, &bytes);
            if self.small_write(&path, result, &partition).is_err() {
                lock(&partition.appender).producers.changed = true;
                continue;
            }
            snapshot::prune(&*self.disk, &dir, self.named_snapshot(&partition));
        }
        self.check_online()
    }

    /// Makes everything appended so far durable and waits for it; no lock may be held.
    pub fn wait_durable(&self, partition: &Partition) -> bool {
        struct Latch(Mutex<bool>, Condvar);
        impl Wake for Latch {
            fn wake(&self) {
                *lock(&self.0) = true;
                self.1.notify_all();
            }
        }
        let target = partition.log_end();
        let reached = || {
            partition.durable_end() >= target
                || partition.state() != State::Online
                || self.is_offline()
        };
        while !reached() {
            let latch = Arc::new(Latch(Mutex::new(false), Condvar::new()));
            if partition
                .durable_waiters
                .register(target, latch.clone(), reached)
            {
                break;
            }
            self.queue_flush(partition, 0);
            let mut woken = lock(&latch.0);
            while !*woken {
                woken = latch
                    .1
                    .wait(woken)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
        partition.durable_end() >= target
    }

    /// Flushes one partition: by the flusher if there is one, else here.
    pub fn flush_partition(&self, partition: &Arc<Partition>) -> Result<(), LogError> {
        let target = partition.log_end();
        if self.queue.is_served() {
            self.wait_durable(partition);
        } else {
            self.flush(std::slice::from_ref(partition))?;
        }
        self.check_online()?;
        match partition.state() {
            State::Deleted => Err(LogError::Deleted),
            _ if partition.durable_end() >= target => Ok(()),
            _ => Err(LogError::Offline(
                partition.offline_reason().unwrap_or_else(|| {
                    Arc::from("the disk has no room for what a flush must write: free some space")
                }),
            )),
        }
    }

    /// The flusher's life.
    pub fn run_flusher(self: &Arc<Self>) {
        let interval = self.opts.checkpoint_interval_ms.saturating_mul(1_000_000);
        let second = 1_000_000_000;
        let mut checkpoint_at = self.clock.mono_ns().saturating_add(interval);
        let mut keep_at = self.clock.mono_ns() + second;
        while self
            .queue
            .wait(self.clock.mono_ns(), checkpoint_at.min(keep_at))
        {
            // A failure took the directory offline and told everyone who waits.
            let _ = self.flush_now(false);
            let now = self.clock.mono_ns();
            let bytes = self.since_checkpoint.load(Ordering::Relaxed);
            if now >= checkpoint_at || bytes >= self.opts.checkpoint_bytes {
                let _ = self.checkpoint(false);
                checkpoint_at = self.clock.mono_ns().saturating_add(interval);
            }
            if now >= keep_at {
                keep_at = now + second;
                let shared = self.clone();
                self.spawn(Box::new(move || shared.housekeeping(shared.clock.now_ms())));
            }
        }
    }
}
