//! Appending: producer check, hook, roll, offsets, one `pwritev`, publish.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use mqlog_record::{assign, BatchHeader};

use crate::disk::{write_all_vectored_at, DiskFile, Trouble};
use crate::marks::Mark;
use crate::partition::{lock, Appender};
use crate::producer::{Pending, Producers, Sequence};
use crate::segment::Segment;
use crate::stats::Counters;
use crate::{AppendError, Checked, Durability, LogConfig, Partition, State, Verdict};

/// Who decides on offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendMode {
    /// The log: a leader.
    Assign,
    /// The batches bring offset and leader epoch: a follower.
    Keep,
}

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// The broker's time that it was stamped with, -1 if the producer's timestamps stand.
    pub log_append_time: i64,
    /// First offset of the log.
    pub log_start: i64,
    /// It was in the log before.
    pub duplicate: bool,
    /// What the high watermark must reach for acks=all.
    pub commit_at: i64,
}

/// One call's state while it holds the appender.
struct Work<'w> {
    config: &'w LogConfig,
    mode: AppendMode,
    now_ms: i64,
    /// Batches accepted or refused earlier in this call, of idempotent producers.
    pending: Vec<Pending>,
    /// The batches not written yet begin here, in batches and answers.
    group: usize,
    next_offset: i64,
    position: u64,
    /// A write failed: nothing more is tried.
    broken: Option<AppendError>,
}

impl Partition {
    /// Appends batches with one write per segment they go to; one answer per batch is pushed to
    /// `out`. A refused batch does not stop those behind it, but for its own producer's.
    pub fn append(
        &self,
        batches: &mut [Checked<'_>],
        mode: AppendMode,
        out: &mut Vec<Result<Appended, AppendError>>,
        now_ms: i64,
    ) {
        let first = out.len();
        let config = self.config.load();
        // Descriptors are had before the lock is taken: getting one may need a flush.
        self.shared.make_room_for_append();
        let Some(mut appender) = self.lock_appender() else {
            return refuse(batches.len(), out, self.storage_error());
        };
        if let Some(error) = self.write_refusal() {
            return refuse(batches.len(), out, error);
        }
        if appender.blocked {
            let error = AppendError::Storage(Arc::from("the log is being truncated: try again"));
            return refuse(batches.len(), out, error);
        }
        let before = appender.total;
        let mut work = Work {
            config: &config,
            mode,
            now_ms,
            pending: Vec::new(),
            group: 0,
            next_offset: appender.next_offset,
            position: appender.position,
            broken: None,
        };
        out.reserve(batches.len());
        for at in 0..batches.len() {
            let answers = out.get_mut(first..).unwrap_or_default();
            let answer = self.place(&mut appender, &mut work, batches, at, answers);
            out.push(answer);
        }
        self.write_group(
            &mut appender,
            &mut work,
            batches,
            out.get_mut(first..).unwrap_or(&mut []),
        );
        let bytes = appender.total - before;
        let log_end = appender.next_offset;
        drop(appender);
        if bytes > 0 {
            self.appended(batches.len(), bytes, log_end, config.flush_ms);
        }
    }

    /// The lock; takes the partition offline if somebody panicked under it.
    pub(crate) fn lock_appender(&self) -> Option<MutexGuard<'_, Appender>> {
        match self.appender.lock() {
            Ok(guard) => Some(guard),
            Err(_) => {
                self.set_offline("a bug stopped an append halfway; restart to recover");
                None
            }
        }
    }

    fn storage_error(&self) -> AppendError {
        let reason = self.offline_reason();
        AppendError::Storage(reason.unwrap_or_else(|| Arc::from("the partition is offline")))
    }

    /// Why nothing may be written now.
    pub(crate) fn write_refusal(&self) -> Option<AppendError> {
        match self.state() {
            State::Deleted => return Some(AppendError::Deleted),
            State::Offline => return Some(self.storage_error()),
            State::Online => {}
        }
        if self.shared.is_offline() {
            return Some(self.storage_error());
        }
        if !self.shared.is_full() || self.is_metadata() {
            return None;
        }
        if !self.config.load().essential {
            return Some(AppendError::Storage(Arc::from(
                "the disk is full: free space or lower retention.ms or retention.bytes",
            )));
        }
        if !self.shared.can_spare_room() {
            return Some(AppendError::Storage(Arc::from(
                "the disk is full, and what is left of it is for a restart: free space",
            )));
        }
        None
    }

    /// Decides on one batch and gives it its place.
    fn place(
        &self,
        appender: &mut Appender,
        work: &mut Work<'_>,
        batches: &mut [Checked<'_>],
        at: usize,
        answers: &mut [Result<Appended, AppendError>],
    ) -> Result<Appended, AppendError> {
        if let Some(error) = &work.broken {
            let error = error.clone();
            if let Some(batch) = batches.get(at) {
                appender.producers.failed(&batch.header);
            }
            return Err(error);
        }
        let (header, size) = match batches.get(at) {
            Some(batch) => (batch.header, batch.bytes.len() as u64),
            None => return Err(self.storage_error()),
        };
        if header.has_producer() && !header.is_control() && work.mode == AppendMode::Assign {
            match appender.producers.check(&header, &work.pending)? {
                Sequence::Next => {}
                Sequence::Duplicate(base) => return Ok(self.known(&header, base)),
            }
        }
        if let Some(known) = self.ask_hook(work, batches, at)? {
            return Ok(known);
        }
        if work.mode == AppendMode::Keep && header.base_offset != work.next_offset {
            return Err(AppendError::Offset {
                offset: header.base_offset,
                log_end: work.next_offset,
            });
        }
        if self.roll_is_due(appender, work, &header, size) {
            self.write_group(appender, work, batches, answers);
            if work.broken.is_none() {
                if let Err(error) = self.roll(appender) {
                    work.broken = Some(self.write_failed(&error));
                }
                work.position = appender.position;
            }
            if let Some(error) = work.broken.clone() {
                appender.producers.failed(&header);
                return Err(error);
            }
        }
        let batch = batches.get_mut(at).ok_or_else(|| self.storage_error())?;
        if work.mode == AppendMode::Assign {
            let epoch = self.leader_epoch();
            assign(batch.bytes, work.next_offset, epoch);
            batch.header.base_offset = work.next_offset;
            batch.header.partition_leader_epoch = epoch;
        }
        let header = batch.header;
        if header.has_producer() && !header.is_control() {
            work.pending.push(Producers::pending(&header, true));
        }
        work.next_offset = header.next_offset();
        work.position += size;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: if header.is_log_append_time() {
                header.max_timestamp
            } else {
                -1
            },
            log_start: self.log_start(),
            duplicate: false,
            commit_at: header.next_offset(),
        })
    }

    fn ask_hook(
        &self,
        work: &mut Work<'_>,
        batches: &[Checked<'_>],
        at: usize,
    ) -> Result<Option<Appended>, AppendError> {
        let hook = self.hook.load();
        let (Some(hook), Some(batch)) = (hook.as_ref(), batches.get(at)) else {
            return Ok(None);
        };
        match hook.check(&batch.header, batch.bytes, work.now_ms) {
            Verdict::Pass => Ok(None),
            Verdict::Duplicate { base_offset } => Ok(Some(self.known(&batch.header, base_offset))),
            Verdict::Reject(error) => {
                if batch.header.has_producer() {
                    work.pending.push(Producers::pending(&batch.header, false));
                }
                Err(error)
            }
        }
    }

    fn known(&self, header: &BatchHeader, base_offset: i64) -> Appended {
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        Appended {
            base_offset,
            last_offset,
            log_append_time: -1,
            log_start: self.log_start(),
            duplicate: true,
            commit_at: last_offset + 1,
        }
    }

    fn roll_is_due(
        &self,
        appender: &Appender,
        work: &Work<'_>,
        header: &BatchHeader,
        size: u64,
    ) -> bool {
        let Some(active) = &appender.active else {
            return false;
        };
        if work.position == 0 {
            return false;
        }
        let last = work
            .next_offset
            .saturating_add(i64::from(header.last_offset_delta));
        work.position + size > u64::from(work.config.segment_bytes)
            || last.saturating_sub(active.base_offset()) >= i64::from(i32::MAX)
            || segment_is_old(active, work.config, work.now_ms)
    }

    /// Begins a new segment at the end of the log. Under the appender's lock.
    pub(crate) fn roll(&self, appender: &mut Appender) -> io::Result<()> {
        let shared = &self.shared;
        let dir = self.directory();
        let base = appender.next_offset;
        let segment = Arc::new(Segment::create(&*shared.disk, &shared.files, &dir, base)?);
        let old = appender.active.replace(segment.clone());
        let mut list = self.segments.load().to_vec();
        list.push(segment);
        self.segments.store(Arc::new(list));
        appender.position = 0;
        appender.indexed = 0;
        let mut commit = lock(&self.commit);
        commit.new_file = true;
        if appender.producers.changed {
            commit.snapshots.push((base, appender.producers.infos()));
            appender.producers.changed = false;
            appender.snapshot = base;
        }
        drop(commit);
        if let Some(old) = old {
            old.seal_index();
            let disk = shared.disk.clone();
            // A hint that cannot be written is rebuilt from the log.
            shared.spawn(Box::new(move || drop(old.persist_index(&*disk))));
        }
        Ok(())
    }

    /// Writes the batches placed since the last write, or turns their answers into errors.
    fn write_group(
        &self,
        appender: &mut Appender,
        work: &mut Work<'_>,
        batches: &mut [Checked<'_>],
        answers: &mut [Result<Appended, AppendError>],
    ) {
        let group = work.group..answers.len();
        work.group = answers.len();
        let batches = batches.get(group.clone()).unwrap_or_default();
        let answers = answers.get_mut(group).unwrap_or_default();
        let is_new = |answer: &Result<Appended, AppendError>| {
            answer.as_ref().is_ok_and(|appended| !appended.duplicate)
        };
        let count = answers.iter().filter(|answer| is_new(answer)).count();
        let Some(active) = appender.active.clone().filter(|_| count > 0) else {
            return;
        };
        let new = || {
            batches
                .iter()
                .zip(answers.iter())
                .filter(|(_, answer)| is_new(answer))
        };
        let result = match (count, new().next()) {
            (1, Some((only, _))) => {
                self.write(&active, &mut [IoSlice::new(only.bytes)], appender.position)
            }
            _ => {
                let mut slices: Vec<IoSlice<'_>> =
                    new().map(|(batch, _)| IoSlice::new(batch.bytes)).collect();
                self.write(&active, &mut slices, appender.position)
            }
        };
        match result {
            Ok(()) => {
                for (batch, _) in new() {
                    self.take_in(appender, &active, work, &batch.header);
                }
                self.publish(appender, &active);
            }
            Err(error) => {
                let error = self.write_failed(&error);
                for (batch, answer) in batches.iter().zip(answers.iter_mut()) {
                    if is_new(answer) {
                        appender.producers.failed(&batch.header);
                        *answer = Err(error.clone());
                    }
                }
                work.next_offset = appender.next_offset;
                work.position = appender.position;
                work.broken = Some(error);
            }
        }
    }

    /// One write at the end, taken back if it fails.
    fn write(
        &self,
        active: &Arc<Segment>,
        slices: &mut [IoSlice<'_>],
        position: u64,
    ) -> io::Result<()> {
        let file = self.shared.files.for_write(&active.slot)?;
        let result = write_all_vectored_at(&*file, slices, position);
        let result = result.inspect_err(|error| self.take_back(&*file, position, error));
        active.slot.written();
        result
    }

    fn take_back(&self, file: &dyn DiskFile, position: u64, error: &io::Error) {
        if let Err(cut) = file.set_len(position) {
            self.set_offline(&format!(
                "a write to {} failed ({error}) and could not be undone ({cut}): restart to \
                 recover",
                self.directory().display()
            ));
        }
    }

    /// What a failed write means for the partition and the directory, as an answer.
    fn write_failed(&self, error: &io::Error) -> AppendError {
        let dir = self.directory();
        match Trouble::of(error) {
            Trouble::Full => {
                self.shared.disk_is_full();
                AppendError::Storage(Arc::from(format!("writing to {}: {error}", dir.display())))
            }
            Trouble::Descriptors => AppendError::Storage(Arc::from(format!(
                "opening a segment in {}: {error}: raise the descriptor limit (ulimit -n)",
                dir.display()
            ))),
            Trouble::Io => {
                self.set_offline(&format!(
                    "writing to {}: {error}: check the device, then restart",
                    dir.display()
                ));
                self.storage_error()
            }
        }
    }

    /// A batch is in the file: index, producers, epochs.
    fn take_in(
        &self,
        appender: &mut Appender,
        active: &Segment,
        work: &Work<'_>,
        header: &BatchHeader,
    ) {
        let position = appender.position;
        if position == 0 {
            active.set_first_ms(work.now_ms);
        }
        let interval = u64::from(work.config.index_interval_bytes);
        let index = (position >= appender.indexed + interval)
            .then(|| active.index())
            .flatten();
        if index.is_some() {
            appender.indexed = position;
        }
        active.appended(header, position, index.as_deref());
        appender.producers.apply(header, work.now_ms);
        if header.is_transactional() || header.is_control() {
            let first = appender.producers.first_transaction_offset();
            self.first_transaction.store(first, Ordering::Release);
        }
        if header.partition_leader_epoch > appender.last_epoch {
            appender.last_epoch = header.partition_leader_epoch;
            let mut epochs = (**self.epochs.load()).clone();
            epochs.observe(header.partition_leader_epoch, header.base_offset);
            self.epochs.store(Arc::new(epochs));
            lock(&self.commit).new_epoch = true;
        }
        appender.next_offset = header.next_offset();
        appender.position = position + header.size() as u64;
        appender.total += header.size() as u64;
    }

    fn publish(&self, appender: &Appender, active: &Segment) {
        let mark = Mark {
            offset: appender.next_offset,
            segment: active.base_offset(),
            position: appender.position,
            total: appender.total,
        };
        self.log_end.store(mark);
        match self.shared.opts.durability {
            Durability::Os => self.high_watermark.store(mark),
            Durability::Fsync if self.shared.opts.bugs.ack_before_flush => {
                let _commit = lock(&self.commit);
                self.high_watermark.store(mark);
            }
            Durability::Fsync => {}
        }
    }

    /// After the lock: count, wake, and see to a flush.
    fn appended(&self, batches: usize, bytes: u64, log_end: i64, flush_ms: i64) {
        let shared = &self.shared;
        Counters::add(&shared.counters.appends, batches as u64);
        Counters::add(&shared.counters.append_bytes, bytes);
        self.end_waiters.wake_to(log_end);
        let urgent = match shared.opts.durability {
            Durability::Os => {
                self.hw_waiters.wake_to(log_end);
                false
            }
            Durability::Fsync => self.hw_waiters.any(),
        };
        shared.bytes_appended(self, bytes, if urgent { 0 } else { flush_ms.max(0) as u64 });
    }
}

fn refuse(count: usize, out: &mut Vec<Result<Appended, AppendError>>, error: AppendError) {
    out.extend((0..count).map(|_| Err(error.clone())));
}

/// Whether `segment.ms` asks for a new segment. A clock that went back does not.
pub(crate) fn segment_is_old(segment: &Segment, config: &LogConfig, now_ms: i64) -> bool {
    let first = segment.first_ms();
    first >= 0 && now_ms.saturating_sub(first) >= config.segment_ms
}
