//! The `checkpoint` file: what is known durable of every partition. Nothing in it is claimed
//! before it is flushed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::atomic_file::{self, Reader, Unusable, Writer};
use crate::disk::Disk;
use crate::partition::lock;
use crate::shared::Shared;
use crate::stats::Counters;
use crate::{snapshot, LogError, Partition, State, TopicId};

const MAGIC: &[u8; 4] = b"MQCP";
const VERSION: u16 = 1;
const CLEAN: u16 = 1;

/// One partition's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub log_start: i64,
    pub durable_end: i64,
    pub segment: i64,
    pub position: u64,
    /// Producer state as of `durable_end`; -1 if there is none.
    pub snapshot: i64,
}

/// What the checkpoint says, and what the next one will say.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    pub serial: u64,
    pub entries: HashMap<(TopicId, i32), Entry>,
    /// The last one was the last act of a shutdown.
    pub clean: bool,
}

fn encode(ledger: &Ledger, clean: bool) -> Vec<u8> {
    let mut out = Writer::new(MAGIC, VERSION, if clean { CLEAN } else { 0 });
    out.u64(ledger.serial);
    out.u32(ledger.entries.len() as u32);
    let mut entries: Vec<_> = ledger.entries.iter().collect();
    entries.sort_by_key(|(id, _)| **id);
    for ((topic, partition), entry) in entries {
        out.bytes(topic);
        out.i32(*partition);
        out.i64(entry.log_start);
        out.i64(entry.durable_end);
        out.i64(entry.segment);
        out.u64(entry.position);
        out.i64(entry.snapshot);
    }
    out.finish()
}

fn parse(flags: u16, reader: &mut Reader<'_>) -> Option<Ledger> {
    let mut ledger = Ledger {
        serial: reader.u64()?,
        clean: flags & CLEAN != 0,
        ..Ledger::default()
    };
    for _ in 0..reader.u32()? {
        let id = (reader.array()?, reader.i32()?);
        let entry = Entry {
            log_start: reader.i64()?,
            durable_end: reader.i64()?,
            segment: reader.i64()?,
            position: reader.u64()?,
            snapshot: reader.i64()?,
        };
        ledger.entries.insert(id, entry);
    }
    Some(ledger)
}

/// The checkpoint, or the one before it if it is damaged, which is never clean.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Ledger, LogError> {
    for name in ["checkpoint", "checkpoint.old"] {
        match atomic_file::read(disk, &dir.join(name), MAGIC, VERSION, parse) {
            Ok(mut ledger) => {
                ledger.clean &= name == "checkpoint";
                return Ok(ledger);
            }
            Err(Unusable::Absent | Unusable::Damaged) => {}
            Err(Unusable::Fatal(error)) => return Err(error),
        }
    }
    Ok(Ledger::default())
}

/// Replaces the checkpoint; the one before it stays as `checkpoint.old`.
pub(crate) fn store(
    disk: &dyn Disk,
    dir: &Path,
    ledger: &mut Ledger,
    clean: bool,
) -> std::io::Result<()> {
    ledger.serial += 1;
    let path = dir.join("checkpoint");
    atomic_file::write_temporary(disk, &path, &encode(ledger, clean))?;
    if disk.exists(&path)? {
        disk.rename(&path, &dir.join("checkpoint.old"))?;
    }
    disk.rename(&atomic_file::temporary(&path), &path)?;
    disk.sync_dir(dir)
}

/// What a checkpoint is going to claim of a partition, if the flush succeeds.
struct Capture {
    partition: Arc<Partition>,
    entry: Entry,
    generation: u64,
}

impl Shared {
    /// Snapshot that the checkpoint names for a partition.
    pub fn named_snapshot(&self, partition: &Partition) -> i64 {
        let ledger = lock(&self.ledger);
        let id = (partition.topic_id(), partition.index());
        ledger.entries.get(&id).map_or(-1, |entry| entry.snapshot)
    }

    /// Flushes everything and writes down how far it got.
    pub fn checkpoint(&self, clean: bool) -> Result<(), LogError> {
        self.check_online()?;
        self.since_checkpoint.store(0, Ordering::Relaxed);
        let partitions = self.partitions();
        let captures: Vec<Capture> = partitions
            .iter()
            .filter_map(|partition| self.capture(partition, clean))
            .collect();
        let dirty: Vec<Arc<Partition>> = partitions
            .iter()
            .filter(|partition| {
                partition.log_end() > partition.durable_end() || self.owes(partition)
            })
            .cloned()
            .collect();
        if !self.opts.bugs.checkpoint_before_flush {
            self.flush(&dirty)?;
        }
        for capture in &captures {
            if let Some(active) = capture.partition.segments.load().last() {
                // A hint: what is missing in it is read from the log.
                let _ = active.persist_index(&*self.disk);
            }
        }
        // One that still owes a flush, or whose recovery failed, has the next start check.
        let settled = |partition: &Arc<Partition>| match partition.state() {
            State::Online => partition.durable_end() == partition.log_end(),
            State::Offline => false,
            State::Deleted => true,
        };
        self.write_checkpoint(&captures, clean && partitions.iter().all(settled))
    }

    fn owes(&self, partition: &Partition) -> bool {
        let commit = lock(&partition.commit);
        commit.new_file || commit.new_epoch || !commit.snapshots.is_empty()
    }

    /// Copies a partition's end and producer state together. `None` if nothing changed since the
    /// last checkpoint, or it cannot be said.
    fn capture(&self, partition: &Arc<Partition>, clean: bool) -> Option<Capture> {
        if partition.state() != State::Online {
            return None;
        }
        let mut appender = partition.lock_appender()?;
        let mark = partition.log_end.load();
        if clean {
            appender.active.as_ref()?.seal_index();
        }
        let mut commit = lock(&partition.commit);
        if appender.producers.changed {
            let infos = appender.producers.infos();
            appender.snapshot = if infos.is_empty() { -1 } else { mark.offset };
            if !infos.is_empty() {
                commit.snapshots.push((mark.offset, infos));
            }
            appender.producers.changed = false;
        }
        let entry = Entry {
            log_start: partition.wanted_log_start.load(Ordering::Acquire),
            durable_end: mark.offset,
            segment: mark.segment,
            position: mark.position,
            snapshot: if appender.producers.is_empty() {
                -1
            } else {
                appender.snapshot
            },
        };
        Some(Capture {
            partition: partition.clone(),
            entry,
            generation: commit.generation,
        })
    }

    /// Whether what was captured may be claimed now.
    fn holds(&self, capture: &Capture) -> bool {
        let Capture {
            partition,
            entry,
            generation,
        } = capture;
        if self.opts.bugs.checkpoint_before_flush {
            return true;
        }
        let durable = lock(&partition.commit).generation == *generation
            && partition.durable_end() >= entry.durable_end;
        let path = snapshot::path(&partition.directory(), entry.snapshot);
        let snapshot = entry.snapshot < 0 || matches!(self.disk.exists(&path), Ok(true));
        if !snapshot {
            lock(&partition.appender).producers.changed = true;
        }
        durable && snapshot
    }

    fn write_checkpoint(&self, captures: &[Capture], clean: bool) -> Result<(), LogError> {
        let held: Vec<&Capture> = captures
            .iter()
            .filter(|capture| self.holds(capture))
            .collect();
        let mut ledger = lock(&self.ledger);
        let mut next = ledger.clone();
        for capture in held {
            let partition = &capture.partition;
            // A truncation in between has its own say, under the ledger.
            if lock(&partition.commit).generation == capture.generation {
                let id = (partition.topic_id(), partition.index());
                next.entries.insert(id, capture.entry);
            }
        }
        // What could not be written down is claimed by nobody.
        self.write_ledger(&mut next, clean && !self.is_offline())?;
        *ledger = next;
        Ok(())
    }

    /// Writes the ledger as it is, with log starts moved to where they are wanted; they are shown
    /// once that is durable. Only the holder of the ledger writes.
    pub fn write_ledger(&self, ledger: &mut Ledger, clean: bool) -> Result<(), LogError> {
        let partitions = self.partitions();
        ledger.clean = clean;
        let mut moved = Vec::new();
        for partition in &partitions {
            let id = (partition.topic_id(), partition.index());
            let wanted = partition.wanted_log_start.load(Ordering::Acquire);
            if let Some(entry) = ledger.entries.get_mut(&id) {
                if partition.state() == State::Online && wanted > entry.log_start {
                    entry.log_start = wanted;
                }
                if partition.state() == State::Online {
                    moved.push((partition, entry.log_start));
                }
            }
        }
        let path = self.opts.path.join("checkpoint");
        store(&*self.disk, &self.opts.path, ledger, clean).map_err(|error| {
            if crate::disk::Trouble::of(&error) == crate::disk::Trouble::Full {
                self.disk_is_full();
            }
            LogError::io("write", &path, error)
        })?;
        Counters::add(&self.counters.checkpoints, 1);
        for (partition, log_start) in moved {
            partition.log_start.fetch_max(log_start, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Writes moved log starts down, claiming nothing else that is new.
    pub fn write_log_starts(&self) -> Result<(), LogError> {
        self.check_online()?;
        self.write_ledger(&mut lock(&self.ledger), false)
    }
}
