//! What the partitions of a data directory share: disk, clock, descriptors, the flush queue, the
//! registry, and whether the directory is still good.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{fence, AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::checkpoint::Ledger;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::files::FileCache;
use crate::flush::{FlushQueue, NOT_QUEUED};
use crate::partition::lock;
use crate::pool::{Job, Pool};
use crate::stats::Counters;
use crate::waiters::Waiters;
use crate::{Clock, DataDirOptions, Durability, LogError, Partition, TopicId, Wake};

/// Flushes that an append waits for at most to find a descriptor.
const FORCED_ROUNDS: usize = 8;

/// Called with the reason when the data directory goes offline.
pub type OfflineHook = Box<dyn Fn(&str) + Send + Sync>;

/// A file or directory that is to be removed.
#[derive(Debug, Clone)]
pub(crate) struct Trash {
    pub due_ms: i64,
    pub path: PathBuf,
    pub directory: bool,
}

pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub opts: DataDirOptions,
    pub counters: Arc<Counters>,
    pub files: FileCache,
    /// The data directory itself, opened before anything was written: what `syncfs` reports on.
    pub root: Arc<dyn DiskFile>,
    pub queue: FlushQueue,
    /// Held during a flush round.
    pub round: Mutex<()>,
    pub ledger: Mutex<Ledger>,
    pub registry: RwLock<HashMap<(TopicId, i32), Arc<Partition>>>,
    pub trash: Mutex<Vec<Trash>>,
    pub pool: Arc<Pool>,
    offline: OnceLock<Arc<str>>,
    on_offline: Mutex<Vec<OfflineHook>>,
    full: AtomicBool,
    /// A flush may be counted before the append it covers.
    unflushed: AtomicI64,
    pub unflushed_waiters: Waiters,
    pub since_checkpoint: AtomicU64,
    pub cut_bytes: AtomicU64,
    pub index_tick: AtomicU64,
}

impl Shared {
    pub fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        opts: DataDirOptions,
        root: Arc<dyn DiskFile>,
        ledger: Ledger,
    ) -> Arc<Shared> {
        let counters = Arc::new(Counters::default());
        Arc::new(Shared {
            files: FileCache::new(disk.clone(), opts.fd_budget, counters.clone()),
            disk,
            clock,
            opts,
            counters,
            root,
            queue: FlushQueue::default(),
            round: Mutex::new(()),
            ledger: Mutex::new(ledger),
            registry: RwLock::default(),
            trash: Mutex::default(),
            pool: Arc::default(),
            offline: OnceLock::new(),
            on_offline: Mutex::default(),
            full: AtomicBool::new(false),
            unflushed: AtomicI64::new(0),
            unflushed_waiters: Waiters::default(),
            since_checkpoint: AtomicU64::new(0),
            cut_bytes: AtomicU64::new(0),
            index_tick: AtomicU64::new(0),
        })
    }

    /// All partitions, in the same order in every run.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        let mut all: Vec<Arc<Partition>> = {
            let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
            registry.values().cloned().collect()
        };
        all.sort_unstable_by_key(|partition| (partition.topic_id(), partition.index()));
        all
    }

    pub fn spawn(&self, job: Job) {
        self.pool.spawn(job);
    }

    // ---- state of the directory

    pub fn is_offline(&self) -> bool {
        self.offline.get().is_some()
    }

    pub fn offline_reason(&self) -> Option<Arc<str>> {
        self.offline.get().cloned()
    }

    pub fn check_online(&self) -> Result<(), LogError> {
        self.offline
            .get()
            .map_or(Ok(()), |reason| Err(LogError::Offline(reason.clone())))
    }

    pub fn on_offline(&self, hook: OfflineHook) {
        if let Some(reason) = self.offline.get() {
            hook(reason);
        }
        lock(&self.on_offline).push(hook);
    }

    /// A flush failed: nothing that was written is certain any more. For good.
    pub fn take_offline(&self, reason: &str) {
        if self.offline.set(Arc::from(reason)).is_err() {
            return;
        }
        for partition in self.partitions() {
            partition.wake_everyone();
        }
        self.unflushed_waiters.wake_all();
        lock(&self.on_offline).iter().for_each(|hook| hook(reason));
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// A small disk is not filled by its reserve.
    fn reserve_bytes(&self) -> u64 {
        let total = self.disk.total_bytes(&self.opts.path).unwrap_or(u64::MAX);
        self.opts.reserve_bytes.min(total / 8)
    }

    /// Whether the broker's own records may be written to a full disk: a quarter of the reserve
    /// stays for metadata and checkpoints, without which there is no restart.
    pub fn can_spare_room(&self) -> bool {
        let free = self.disk.free_bytes(&self.opts.path).unwrap_or(0);
        free >= self.reserve_bytes() / 4
    }

    fn reserve_path(&self) -> PathBuf {
        self.opts.path.join("reserve")
    }

    /// A write found no room: the reserve is released for what makes room.
    pub fn disk_is_full(&self) {
        Counters::add(&self.counters.full_disk, 1);
        if self.opts.reserve_bytes == 0 || self.full.swap(true, Ordering::AcqRel) {
            return;
        }
        let (disk, path) = (self.disk.clone(), self.reserve_path());
        // Absent already: then there is nothing to release.
        self.spawn(Box::new(move || drop(disk.unlink(&path))));
    }

    /// Makes the reserve again when there is room for it twice over; produces go on then.
    pub fn restore_reserve(&self) {
        if self.opts.reserve_bytes == 0 {
            return;
        }
        let path = self.reserve_path();
        if matches!(self.disk.exists(&path), Ok(true)) {
            return;
        }
        let bytes = self.reserve_bytes();
        let free = self.disk.free_bytes(&self.opts.path).unwrap_or(0);
        if free < bytes.saturating_mul(2) {
            self.full.store(true, Ordering::Release);
            return;
        }
        let made = self
            .disk
            .open(&path, OpenMode::Truncate)
            .and_then(|file| file.allocate(bytes));
        match made {
            Ok(()) => self.full.store(false, Ordering::Release),
            // No reserve, still full: tried again at the next housekeeping.
            Err(_) => drop(self.disk.unlink(&path)),
        }
    }

    // ---- flushing

    /// Counts appended bytes and has them flushed within `delay_ms` (fsync mode).
    pub fn bytes_appended(&self, partition: &Partition, bytes: u64, delay_ms: u64) {
        let since = self.since_checkpoint.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if since >= self.opts.checkpoint_bytes && since - bytes < self.opts.checkpoint_bytes {
            self.queue.nudge();
        }
        if self.opts.durability == Durability::Os {
            return;
        }
        self.unflushed.fetch_add(bytes as i64, Ordering::Relaxed);
        let hurry = self.unflushed_bytes() > self.opts.unflushed_max / 2;
        self.queue_flush(partition, if hurry { 0 } else { delay_ms });
    }

    /// Asks for a flush of a partition within `delay_ms`. Call after publishing what it is for.
    pub fn queue_flush(&self, partition: &Partition, delay_ms: u64) {
        fence(Ordering::SeqCst);
        let queued = partition.flush_due.load(Ordering::Relaxed);
        if queued != NOT_QUEUED && (delay_ms > 0 || queued == 0) {
            return;
        }
        let due = match delay_ms {
            0 => 0,
            delay => self
                .clock
                .mono_ns()
                .saturating_add(delay.saturating_mul(1_000_000)),
        };
        let before = partition.flush_due.fetch_min(due, Ordering::AcqRel);
        if before <= due {
            return;
        }
        let fresh = (before == NOT_QUEUED)
            .then(|| partition.me.upgrade())
            .flatten();
        self.queue.push(fresh, due);
    }

    pub fn unflushed_bytes(&self) -> u64 {
        u64::try_from(self.unflushed.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub fn bytes_flushed(&self, bytes: u64) {
        self.unflushed.fetch_sub(bytes as i64, Ordering::AcqRel);
        if !self.over_unflushed() {
            self.unflushed_waiters.wake_all();
        }
    }

    pub fn over_unflushed(&self) -> bool {
        self.unflushed_bytes() > self.opts.unflushed_max && !self.is_offline()
    }

    pub fn wait_unflushed(&self, waker: Arc<dyn Wake>) -> bool {
        self.unflushed_waiters
            .register(0, waker, || !self.over_unflushed())
    }

    /// Sees that an append finds its file open and, for a roll, room for one more, before it
    /// takes the lock. With no clean file left to close, a flush makes them clean.
    pub fn make_room_for_append(&self) {
        if self.files.make_room(2) {
            return;
        }
        Counters::add(&self.counters.forced_flushes, 1);
        for _ in 0..FORCED_ROUNDS {
            let dirty = |partition: &Arc<Partition>| partition.log_end() > partition.durable_end();
            let dirty: Vec<_> = self.partitions().into_iter().filter(dirty).collect();
            dirty.iter().for_each(|other| self.queue_flush(other, 0));
            match dirty.last() {
                // Readers hold what there is: the budget leaves a little beside it.
                None => return,
                Some(other) if self.queue.is_served() => drop(self.wait_durable(other)),
                // Failure takes the directory offline, which the append then sees.
                Some(_) => drop(self.flush_now(true)),
            }
            if self.files.make_room(2) || self.is_offline() {
                return;
            }
        }
    }
}
