//! A partition: what everybody shares of one log. Who may touch which field, under which lock, is
//! written down in `docs/internals/ownership.md`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::checkpoint::Entry;
use crate::epochs::Epochs;
use crate::flush::NOT_QUEUED;
use crate::holes::Hole;
use crate::marks::{Mark, Published};
use crate::producer::{ProducerInfo, Producers};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::waiters::Waiters;
use crate::{AppendHook, Durability, EpochStart, LogConfig, TopicId, Wake};

/// Whether a partition takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It reads and writes.
    Online,
    /// It does not write; see [`Partition::offline_reason`].
    Offline,
    /// It was deleted.
    Deleted,
}

/// What only the one who appends may touch.
#[derive(Debug)]
pub(crate) struct Appender {
    pub next_offset: i64,
    /// `None` while there is no file: a missing directory.
    pub active: Option<Arc<Segment>>,
    pub position: u64,
    /// Position of the newest index entry.
    pub indexed: u64,
    /// Bytes appended by this process.
    pub total: u64,
    pub last_epoch: i32,
    pub producers: Producers,
    /// Where the newest snapshot was taken; -1 if there is none that counts.
    pub snapshot: i64,
    /// A truncation is being made durable: nothing may be appended meanwhile.
    pub blocked: bool,
}

/// What the flusher and those who append agree on.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// A segment file was made since the directory was synced.
    pub new_file: bool,
    /// An epoch began since `epochs` was written.
    pub new_epoch: bool,
    /// Counts truncations: a flush that began before one publishes nothing.
    pub generation: u64,
    /// Producer states to be written once their offset is durable.
    pub snapshots: Vec<(i64, Vec<ProducerInfo>)>,
}

/// A segment, for retention and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First offset: its name.
    pub base_offset: i64,
    /// Offset after its last batch.
    pub end_offset: i64,
    /// Bytes of log.
    pub size: u64,
    /// Largest timestamp of a record in ms; -1 if there is none.
    pub max_timestamp: i64,
    /// When its first batch came, in ms by the wall clock; -1 if that is not known.
    pub created_ms: i64,
    /// It is the one that is appended to.
    pub active: bool,
}

/// What a start found in a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Its end was exactly where the clean shutdown said: nothing was read.
    pub clean: bool,
    /// Bytes read and checked.
    pub checked_bytes: u64,
    /// Bytes cut off the end.
    pub cut_bytes: u64,
    /// Offset at which bytes were cut, -1 if none were.
    pub cut_at: i64,
    /// Holes found this time.
    pub new_holes: Vec<Hole>,
    /// Largest leader epoch in the log, -1 if there is none.
    pub last_epoch: i32,
}

impl Recovery {
    /// Whether anything was cut or lost.
    pub fn lost_anything(&self) -> bool {
        self.cut_bytes > 0 || !self.new_holes.is_empty()
    }
}

/// One partition's log.
pub struct Partition {
    pub(crate) me: Weak<Partition>,
    pub(crate) shared: Arc<Shared>,
    topic_id: TopicId,
    index: i32,
    dir: Mutex<PathBuf>,
    pub(crate) config: ArcSwap<LogConfig>,
    pub(crate) hook: ArcSwapOption<Box<dyn AppendHook>>,
    pub(crate) appender: Mutex<Appender>,
    pub(crate) commit: Mutex<Commit>,
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(crate) log_end: Published,
    pub(crate) durable: Published,
    pub(crate) high_watermark: Published,
    pub(crate) log_start: AtomicI64,
    /// A log start that is not durable yet.
    pub(crate) wanted_log_start: AtomicI64,
    /// First offset of the oldest open transaction, `i64::MAX` if there is none.
    pub(crate) first_transaction: AtomicI64,
    leader_epoch: AtomicI32,
    pub(crate) epochs: ArcSwap<Epochs>,
    pub(crate) holes: ArcSwap<Vec<Hole>>,
    state: AtomicU8,
    reason: OnceLock<Arc<str>>,
    pub(crate) hw_waiters: Waiters,
    pub(crate) end_waiters: Waiters,
    pub(crate) durable_waiters: Waiters,
    /// When a flush is due by the monotonic clock; [`NOT_QUEUED`] if none is.
    pub(crate) flush_due: AtomicU64,
    pub(crate) recovery: Mutex<Recovery>,
    /// The checkpoint entry of a partition that is offline: carried forward unchanged.
    pub(crate) carried: Mutex<Option<Entry>>,
}

/// Everything a partition starts with.
pub(crate) struct Opened {
    pub segments: Vec<Arc<Segment>>,
    pub end: Mark,
    pub log_start: i64,
    pub epochs: Epochs,
    pub holes: Vec<Hole>,
    pub producers: Producers,
    pub snapshot: i64,
    pub recovery: Recovery,
    /// What the checkpoint said of it.
    pub entry: Option<Entry>,
}

impl Opened {
    fn nothing() -> Opened {
        Opened {
            segments: Vec::new(),
            end: Mark::default(),
            log_start: 0,
            epochs: Epochs::default(),
            holes: Vec::new(),
            producers: Producers::default(),
            snapshot: -1,
            recovery: Recovery::default(),
            entry: None,
        }
    }
}

/// Takes a lock whose content is right whatever its last holder did.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partition {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: (TopicId, i32),
        dir: &Path,
        config: Arc<LogConfig>,
        leader_epoch: i32,
        opened: Opened,
    ) -> Arc<Partition> {
        let mark = opened.end;
        let published = || {
            let published = Published::default();
            published.store(mark);
            published
        };
        let active = opened.segments.last().cloned();
        let appender = Appender {
            next_offset: mark.offset,
            indexed: active
                .as_ref()
                .and_then(|active| active.index()?.last())
                .map_or(0, |entry| u64::from(entry.position)),
            active,
            position: mark.position,
            total: 0,
            last_epoch: opened.epochs.last().map_or(-1, |last| last.epoch),
            snapshot: opened.snapshot,
            blocked: false,
            producers: opened.producers,
        };
        Arc::new_cyclic(|me| Partition {
            me: me.clone(),
            shared,
            topic_id: id.0,
            index: id.1,
            dir: Mutex::new(dir.to_path_buf()),
            config: ArcSwap::new(config),
            hook: ArcSwapOption::empty(),
            first_transaction: AtomicI64::new(appender.producers.first_transaction_offset()),
            appender: Mutex::new(appender),
            commit: Mutex::default(),
            segments: ArcSwap::from_pointee(opened.segments),
            log_end: published(),
            durable: published(),
            high_watermark: published(),
            log_start: AtomicI64::new(opened.log_start),
            wanted_log_start: AtomicI64::new(opened.log_start),
            leader_epoch: AtomicI32::new(leader_epoch),
            epochs: ArcSwap::from_pointee(opened.epochs),
            holes: ArcSwap::from_pointee(opened.holes),
            state: AtomicU8::new(State::Online as u8),
            reason: OnceLock::new(),
            hw_waiters: Waiters::default(),
            end_waiters: Waiters::default(),
            durable_waiters: Waiters::default(),
            flush_due: AtomicU64::new(NOT_QUEUED),
            recovery: Mutex::new(opened.recovery),
            carried: Mutex::new(opened.entry),
        })
    }

    /// A partition that cannot be served, and why.
    pub(crate) fn unusable(
        shared: Arc<Shared>,
        id: (TopicId, i32),
        dir: &Path,
        config: Arc<LogConfig>,
        leader_epoch: i32,
        entry: Option<Entry>,
        reason: &str,
    ) -> Arc<Partition> {
        let mut opened = Opened::nothing();
        opened.entry = entry;
        let partition = Partition::new(shared, id, dir, config, leader_epoch, opened);
        partition.set_offline(reason);
        partition
    }

    /// The topic.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The partition's number in its topic.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// Where its files are.
    pub fn directory(&self) -> PathBuf {
        lock(&self.dir).clone()
    }

    pub(crate) fn moved_to(&self, dir: &Path) {
        *lock(&self.dir) = dir.to_path_buf();
    }

    /// Epoch that the next batches carry.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Ordering::Acquire)
    }

    /// A newer epoch began; an older one is ignored.
    pub fn set_leader_epoch(&self, epoch: i32) {
        self.leader_epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    pub(crate) fn is_metadata(&self) -> bool {
        self.topic_id == crate::META_TOPIC_ID
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Replaces the settings.
    pub fn set_config(&self, config: Arc<LogConfig>) {
        self.config.store(config);
    }

    /// Sets or removes the topic's own check.
    pub fn set_hook(&self, hook: Option<Box<dyn AppendHook>>) {
        self.hook.store(hook.map(Arc::new));
    }

    /// First offset there is.
    pub fn log_start(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Next offset.
    pub fn log_end(&self) -> i64 {
        self.log_end.offset()
    }

    /// Everything below is on the device.
    pub fn durable_end(&self) -> i64 {
        self.durable.offset()
    }

    /// Everything below is committed.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.offset()
    }

    /// Everything below is committed and belongs to no open transaction.
    pub fn last_stable(&self) -> i64 {
        self.first_transaction
            .load(Ordering::Acquire)
            .min(self.high_watermark())
    }

    /// Whether it takes part.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Online,
            1 => State::Offline,
            _ => State::Deleted,
        }
    }

    /// Why it is offline: its own reason or the data directory's.
    pub fn offline_reason(&self) -> Option<Arc<str>> {
        self.reason
            .get()
            .cloned()
            .or_else(|| self.shared.offline_reason())
    }

    /// Takes it offline until the next start. Who waits for it is woken.
    pub fn set_offline(&self, reason: &str) {
        let _ = self.reason.set(Arc::from(reason));
        let (online, offline) = (State::Online as u8, State::Offline as u8);
        let changed =
            self.state
                .compare_exchange(online, offline, Ordering::AcqRel, Ordering::Acquire);
        if changed.is_ok() {
            crate::stats::Counters::add(&self.shared.counters.offline_partitions, 1);
            self.wake_everyone();
        }
    }

    pub(crate) fn set_deleted(&self) {
        {
            // Whoever appends or publishes does it before or sees the state.
            let _appender = lock(&self.appender);
            let _commit = lock(&self.commit);
            self.state.store(State::Deleted as u8, Ordering::Release);
        }
        self.wake_everyone();
    }

    pub(crate) fn wake_everyone(&self) {
        self.hw_waiters.wake_all();
        self.end_waiters.wake_all();
        self.durable_waiters.wake_all();
    }

    /// What the start found.
    pub fn recovery(&self) -> Recovery {
        lock(&self.recovery).clone()
    }

    /// Ranges that are missing or damaged.
    pub fn holes(&self) -> Vec<Hole> {
        let log_start = self.log_start();
        let holes = self.holes.load();
        let there = |hole: &&Hole| hole.to > log_start;
        holes.iter().filter(there).copied().collect()
    }

    fn is_over(&self) -> bool {
        self.state() != State::Online || self.shared.is_offline()
    }

    /// Registers for `high_watermark >= offset` or a change of state. True: it is so already, and
    /// nothing is registered. Bytes above the high watermark are flushed at once then.
    pub fn wait_for(&self, offset: i64, waker: Arc<dyn Wake>) -> bool {
        let satisfied = || self.high_watermark() >= offset || self.is_over();
        let done = self.hw_waiters.register(offset, waker, satisfied);
        let fsync = self.shared.opts.durability == Durability::Fsync;
        if !done && fsync && self.log_end() > self.durable_end() {
            self.shared.queue_flush(self, 0);
        }
        done
    }

    /// As [`Partition::wait_for`], for `log_end >= offset`.
    pub fn wait_log_end(&self, offset: i64, waker: Arc<dyn Wake>) -> bool {
        let satisfied = || self.log_end() >= offset || self.is_over();
        self.end_waiters.register(offset, waker, satisfied)
    }

    /// Takes back every registration of `waker`.
    pub fn unwait(&self, waker: &Arc<dyn Wake>) {
        self.hw_waiters.remove(waker);
        self.end_waiters.remove(waker);
    }

    /// Epoch of the batch that holds `offset`, -1 if it is not known.
    pub fn epoch_at(&self, offset: i64) -> i32 {
        self.epochs.load().at(offset)
    }

    /// The largest epoch not above `epoch`, and where it ends; (-1, -1) if it is not known.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.epochs
            .load()
            .end_of(epoch, self.leader_epoch(), self.log_end())
    }

    /// Leader epochs and where they start.
    pub fn epoch_starts(&self) -> Vec<EpochStart> {
        self.epochs.load().entries().to_vec()
    }

    /// Producers it remembers.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        lock(&self.appender).producers.infos()
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments
            .load()
            .iter()
            .map(|segment| segment.size())
            .sum()
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition")
            .field("index", &self.index)
            .field("log_start", &self.log_start())
            .field("high_watermark", &self.high_watermark())
            .field("durable_end", &self.durable_end())
            .field("log_end", &self.log_end())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
