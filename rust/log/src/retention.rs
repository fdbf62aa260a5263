//! Moving the log start, and removing what lies before it. What to remove is decided elsewhere.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::append::segment_is_old;
use crate::holes;
use crate::partition::lock;
use crate::segment::{Segment, NO_TIME};
use crate::shared::Shared;
use crate::{atomic_file, LogError, Partition, ReadError, SegmentInfo, State};

impl Partition {
    /// DeleteRecords: everything below `offset` (-1: the high watermark) is gone. Durable when it
    /// returns; answers the new log start. Waits for the device.
    pub fn delete_records(&self, offset: i64) -> Result<i64, LogError> {
        let most = self.high_watermark();
        let to = if offset == -1 { most } else { offset };
        if to < 0 || to > most {
            return Err(LogError::OutOfRange {
                offset,
                least: self.log_start(),
                most,
            });
        }
        self.move_log_start(to)?;
        Ok(self.log_start())
    }

    /// Retention: everything below `offset` is gone, segments that end there or before are
    /// removed, but never the active one. Waits for the device.
    pub fn advance_log_start(&self, offset: i64) -> Result<(), LogError> {
        let most = self.high_watermark();
        if offset > most {
            return Err(LogError::OutOfRange {
                offset,
                least: self.log_start(),
                most,
            });
        }
        self.move_log_start(offset)
    }

    pub(crate) fn check_writable(&self) -> Result<(), LogError> {
        match self.state() {
            State::Deleted => Err(LogError::Deleted),
            State::Offline => Err(LogError::Offline(
                self.offline_reason()
                    .unwrap_or_else(|| Arc::from("the partition is offline")),
            )),
            State::Online => self.shared.check_online(),
        }
    }

    fn move_log_start(&self, to: i64) -> Result<(), LogError> {
        self.check_writable()?;
        if to > self.log_start() {
            if to > self.durable_end() {
                let me = self.me.upgrade().ok_or(LogError::Deleted)?;
                self.shared.flush_partition(&me)?;
            }
            self.wanted_log_start.fetch_max(to, Ordering::AcqRel);
            let list = self.segments.load();
            let keep = list.iter().map(|segment| segment.base_offset());
            let keep = keep.take_while(|base| *base <= to).last();
            // What a start would replay producers from goes only once it need not.
            if keep.is_some_and(|keep| keep > self.replayed_from()) {
                self.shared.checkpoint(false)?;
            } else {
                self.shared.write_log_starts()?;
            }
        }
        self.drop_segments()
    }

    /// The segment at which the checkpoint has a start begin.
    fn replayed_from(&self) -> i64 {
        let id = (self.topic_id(), self.index());
        let ledger = lock(&self.shared.ledger);
        ledger.entries.get(&id).map_or(0, |entry| entry.segment)
    }

    /// Unpublishes segments wholly below the log start; their files go after a delay.
    fn drop_segments(&self) -> Result<(), LogError> {
        let log_start = self.log_start();
        let needless = log_start.min(self.replayed_from());
        let mut gone = Vec::new();
        if let Some(_appender) = self.lock_appender() {
            let list = self.segments.load();
            let below = list
                .windows(2)
                .take_while(|pair| {
                    pair.get(1)
                        .is_some_and(|next| next.base_offset() <= needless)
                })
                .count();
            if below > 0 {
                gone.extend(list.iter().take(below).cloned());
                self.segments
                    .store(Arc::new(list.iter().skip(below).cloned().collect()));
            }
            let mut epochs = (**self.epochs.load()).clone();
            if epochs.truncate_start(log_start) {
                self.epochs.store(Arc::new(epochs));
                lock(&self.commit).new_epoch = true;
                self.shared
                    .queue_flush(self, self.config.load().flush_ms.max(1) as u64);
            }
        }
        let delay = self.config.load().file_delete_delay_ms.max(0);
        let due = self.shared.clock.now_ms().saturating_add(delay);
        gone.iter()
            .for_each(|segment| self.shared.retire(segment, due));
        self.forget_holes(log_start)
    }

    fn forget_holes(&self, log_start: i64) -> Result<(), LogError> {
        let segments = self.segments.load();
        let first = segments.first().map_or(0, |first| first.base_offset());
        let kept = {
            let _commit = lock(&self.commit);
            let mut list = self.holes.load().to_vec();
            let before = list.len();
            // One in a file that stays must not be taken for new damage.
            list.retain(|hole| hole.to > log_start || hole.segment >= first);
            if list.len() == before {
                return Ok(());
            }
            self.holes.store(Arc::new(list.clone()));
            list
        };
        let path = holes::path(&self.directory());
        let result = atomic_file::replace(&*self.shared.disk, &path, &holes::encode(&kept));
        // Holes below the log start harm nobody if they stay in the file.
        let _ = self.shared.small_write(&path, result, self);
        Ok(())
    }

    /// All segments, for retention and for people. May wait for the device: a segment that was
    /// not used since the start has its newest timestamp in its index.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.segments.load();
        let active = segments.last().map(|segment| segment.base_offset());
        let info = |segment: &Arc<Segment>| {
            let newest = match self.newest_in(segment) {
                Ok(NO_TIME) | Err(ReadError::NeedsPool) => -1,
                Ok(time) => time,
                // Unknown: reported as from the future, so that nothing is removed by mistake.
                Err(_) => i64::MAX,
            };
            SegmentInfo {
                base_offset: segment.base_offset(),
                end_offset: segment.end_offset(),
                size: segment.size(),
                max_timestamp: newest,
                created_ms: segment.first_ms(),
                active: Some(segment.base_offset()) == active,
            }
        };
        segments.iter().map(info).collect()
    }

    /// Begins a new segment if `segment.ms` asks for one.
    fn roll_if_old(&self, now_ms: i64) {
        let config = self.config.load();
        let old =
            |segment: &Segment| segment.size() > 0 && segment_is_old(segment, &config, now_ms);
        if !self
            .segments
            .load()
            .last()
            .is_some_and(|active| old(active))
        {
            return;
        }
        self.shared.make_room_for_append();
        if self.write_refusal().is_some() {
            return;
        }
        if let Some(mut appender) = self.lock_appender() {
            let due = appender.active.as_ref().is_some_and(|active| old(active));
            if due && !appender.blocked && self.roll(&mut appender).is_ok() {
                drop(appender);
                self.shared.queue_flush(self, config.flush_ms.max(1) as u64);
            }
        }
    }
}

impl Shared {
    /// Renames a segment's files; they are unlinked when they are due. Readers that hold it go on.
    fn retire(&self, segment: &Segment, due_ms: i64) {
        for path in [segment.path(), segment.sibling("idx")] {
            let mut name = path.clone().into_os_string();
            name.push(".deleted");
            let deleted = std::path::PathBuf::from(name);
            if self.disk.rename(&path, &deleted).is_ok() {
                if path.extension().is_some_and(|extension| extension == "log") {
                    segment.slot.renamed(&deleted);
                }
                self.throw_away(deleted, false, due_ms);
            }
        }
    }

    /// What has to be done now and then: unlink what is due, forget silent producers, close old
    /// segments, give indexes back, make the reserve again.
    pub fn housekeeping(&self, now_ms: i64) {
        self.empty_trash(now_ms);
        self.files.sweep();
        if self.is_offline() {
            return;
        }
        if self.is_full() {
            self.restore_reserve();
        }
        for partition in self.partitions() {
            if partition.state() != State::Online {
                continue;
            }
            partition.roll_if_old(now_ms);
            let max = partition.config.load().max_producers;
            if let Some(mut appender) = partition.lock_appender() {
                if !appender.producers.is_empty() {
                    let expiration = self.opts.producer_expiration_ms;
                    appender.producers.expire(now_ms, expiration, max);
                }
            }
        }
        self.shrink_indexes();
    }

    fn empty_trash(&self, now_ms: i64) {
        let due: Vec<_> = lock(&self.trash)
            .extract_if(.., |t| t.due_ms <= now_ms)
            .collect();
        for trash in due {
            // What cannot be removed now is found again at the next start.
            let _ = match trash.directory {
                true => crate::disk::remove_tree(&*self.disk, &trash.path),
                false => self.disk.unlink(&trash.path),
            };
        }
    }

    /// Closed segments give their index back, least recently used first.
    fn shrink_indexes(&self) {
        let mut held = Vec::new();
        let mut bytes = 0;
        for partition in self.partitions() {
            let segments = partition.segments.load();
            for segment in segments.iter().rev().skip(1) {
                if let Some(index) = segment.index().filter(|index| index.len() > 0) {
                    bytes += index.bytes();
                    held.push((segment.used(), index.bytes(), segment.clone()));
                }
            }
        }
        held.sort_by_key(|(used, ..)| *used);
        for (_, size, segment) in held {
            if bytes <= self.opts.index_cache_bytes {
                break;
            }
            if segment.persist_index(&*self.disk).is_ok() {
                segment.drop_index();
                bytes -= size;
            }
        }
    }
}
