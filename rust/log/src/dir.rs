//! A data directory: its lock, identity and checkpoint, and all partitions in it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::checkpoint::{self, Ledger};
use crate::disk::{mkdir_all, read_file, write_all_at, Disk, DiskFile, OpenMode, Trouble};
use crate::partition::lock;
use crate::pool::{spawn_thread, Job};
use crate::recover::{self, Plan};
use crate::shared::{OfflineHook, Shared};
use crate::topic_dirs::topic_dir;
use crate::{
    atomic_file, Clock, DataDirOptions, DirStats, Identity, LogConfig, LogError, Partition,
    TopicId, Wake,
};

/// Topic id of the metadata log, which is no topic.
pub const META_TOPIC_ID: TopicId = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const META: (TopicId, i32) = (META_TOPIC_ID, 0);

/// A partition to create or to open: topic, number, settings, leader epoch.
pub type Wanted = (TopicId, i32, Arc<LogConfig>, i32);
/// A partition that was opened, or why it was not.
pub type OpenedPartition = (TopicId, i32, Result<Arc<Partition>, LogError>);

/// An open data directory. Dropping it without [`DataDir::shutdown`] is like a crash of the
/// process: nothing is lost, the next start checks.
pub struct DataDir {
    pub(crate) shared: Arc<Shared>,
    identity: Identity,
    was_clean: bool,
    /// Metadata may have lost leader epochs that the logs know.
    believe_epochs: AtomicBool,
    pid: u32,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pool_threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the directory is.
    _lock: Arc<dyn DiskFile>,
}

fn io_error<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> LogError + 'p {
    move |error| LogError::io(action, path, error)
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>, LogError> {
    let path = dir.join("lock");
    let Some(file) = disk.try_lock(&path).map_err(io_error("lock", &path))? else {
        let bytes = read_file(disk, &path, 64).unwrap_or_default();
        return Err(LogError::Locked {
            pid: String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0),
            path: dir.to_path_buf(),
        });
    };
    // For people only, so that a full disk is no reason not to start.
    let pid = format!("{}\n", std::process::id());
    let _ = file
        .set_len(0)
        .and_then(|()| write_all_at(&*file, pid.as_bytes(), 0));
    Ok(file)
}

impl DataDir {
    /// Opens a directory: takes the lock, reads or makes its identity, reads the checkpoint and
    /// durably takes back that the shutdown was clean.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        opts: DataDirOptions,
    ) -> Result<DataDir, LogError> {
        let path = opts.path.clone();
        mkdir_all(&*disk, &path).map_err(io_error("create", &path))?;
        let held = take_lock(&*disk, &path)?;
        let root = disk
            .open(&path, OpenMode::Directory)
            .map_err(io_error("open", &path))?;
        let cluster = opts.cluster_id.as_deref();
        let (identity, existed) = Identity::open(&*disk, &path, cluster, opts.node_id)?;
        let mut ledger = checkpoint::load(&*disk, &path)?;
        let was_clean = ledger.clean || !existed;
        let shared = Shared::new(disk, clock, opts, root, Ledger::default());
        shared.make_directories(existed)?;
        shared.begin_life(&mut ledger)?;
        shared.restore_reserve();
        *lock(&shared.ledger) = ledger;
        Ok(DataDir {
            shared,
            identity,
            was_clean,
            believe_epochs: AtomicBool::new(false),
            pid: std::process::id(),
            threads: Mutex::default(),
            pool_threads: Mutex::default(),
            _lock: held,
        })
    }

    /// Whose directory this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the last shutdown was clean (or the directory is new).
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.opts.path
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.shared.disk
    }

    /// Replaces a small file in the directory atomically and durably.
    pub fn replace_file(&self, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
        atomic_file::replace(&*self.shared.disk, path, bytes).map_err(|error| {
            if Trouble::of(&error) == Trouble::Full {
                self.shared.disk_is_full();
            }
            LogError::io("write", path, error)
        })
    }

    fn check_process(&self) -> Result<(), LogError> {
        let here = std::process::id();
        if here != self.pid {
            return Err(LogError::UsedAfterFork {
                made: self.pid,
                here,
            });
        }
        Ok(())
    }

    /// Makes partitions with their directories, durably, and serves them.
    pub fn create_partitions(&self, wanted: &[Wanted]) -> Result<Vec<Arc<Partition>>, LogError> {
        self.check_process()?;
        self.shared.check_online()?;
        let mut made = Vec::with_capacity(wanted.len());
        for (topic, index, config, epoch) in wanted {
            let dir = topic_dir(self.path(), topic).join(index.to_string());
            made.push(self.shared.create((*topic, *index), &dir, config, *epoch)?);
        }
        self.shared.sync_created(&made)?;
        for partition in &made {
            self.shared.register(partition);
        }
        Ok(made)
    }

    /// Opens partitions that metadata names, checking what a crash may have torn. One that cannot
    /// be served is in the answer too: offline, with the reason.
    pub fn open_partitions(&self, wanted: &[Wanted]) -> Vec<OpenedPartition> {
        let shared = &self.shared;
        // One flush for all, where the system reports its errors.
        let synced = !self.was_clean
            && shared.opts.syncfs
            && wanted.len() > 2
            && matches!(shared.root.sync_fs(), Ok(true));
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(wanted.len()));
        let work = || {
            while let Some(one) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (topic, index, ..) = one;
                let dir = topic_dir(self.path(), topic).join(index.to_string());
                let opened = self.open_one(one, &dir, synced);
                lock(&done).push((*topic, *index, opened));
            }
        };
        let threads = shared.opts.recovery_threads.clamp(1, 64).min(wanted.len());
        if threads <= 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
            });
        }
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(topic, index, _)| (*topic, *index));
        if let Err(error) = shared.write_log_starts() {
            shared.take_offline(&error.to_string());
        }
        done
    }

    fn open_one(
        &self,
        (topic, index, config, epoch): &Wanted,
        dir: &Path,
        synced: bool,
    ) -> Result<Arc<Partition>, LogError> {
        self.check_process()?;
        let shared = &self.shared;
        let id = (*topic, *index);
        let entry = lock(&shared.ledger).entries.get(&id).copied();
        let plan = Plan {
            shared,
            id,
            dir,
            config,
            most_epoch: if self.believe_epochs.load(Ordering::Acquire) {
                i32::MAX
            } else {
                *epoch
            },
            entry,
            clean: self.was_clean,
            synced,
        };
        let partition = match recover::open(&plan) {
            Ok(opened) => Partition::new(shared.clone(), id, dir, config.clone(), *epoch, opened),
            Err(error) => {
                let reason = error.to_string();
                let config = config.clone();
                Partition::unusable(shared.clone(), id, dir, config, *epoch, entry, &reason)
            }
        };
        shared.register(&partition);
        Ok(partition)
    }

    /// Opens the metadata log, or makes it in a new directory.
    pub fn open_meta(&self, config: Arc<LogConfig>) -> Result<Arc<Partition>, LogError> {
        self.check_process()?;
        let shared = &self.shared;
        let dir = self.path().join("meta");
        let there = shared
            .disk
            .exists(&dir)
            .map_err(io_error("look at", &dir))?;
        let known = lock(&shared.ledger).entries.contains_key(&META);
        let empty = !there || shared.disk.list(&dir).is_ok_and(|names| names.is_empty());
        if empty && !known {
            let partition = shared.create(META, &dir, &config, 0)?;
            shared.sync_created(std::slice::from_ref(&partition))?;
            shared.register(&partition);
            shared.write_log_starts()?;
            return Ok(partition);
        }
        let wanted = (META_TOPIC_ID, 0, config, 0);
        let partition = self.open_one(&wanted, &dir, false)?;
        if self.was_clean && !partition.recovery().clean {
            // The next start must refuse what this one does; if this cannot be written it checks.
            let _ = shared.write_ledger(&mut lock(&shared.ledger), true);
        }
        match partition.offline_reason() {
            Some(reason) => Err(LogError::Offline(reason)),
            None => Ok(partition),
        }
    }

    /// From here on a leader epoch in a log counts even if metadata does not know it yet: metadata
    /// lost its end.
    pub fn believe_log_epochs(&self) {
        self.believe_epochs.store(true, Ordering::Release);
    }

    /// A partition that is served.
    pub fn partition(&self, topic: TopicId, index: i32) -> Option<Arc<Partition>> {
        let registry = self
            .shared
            .registry
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        registry.get(&(topic, index)).cloned()
    }

    /// Starts flusher and pool. Without them everything runs where it is called.
    pub fn start_threads(&self) {
        let shared = self.shared.clone();
        let pool = shared.pool.start(shared.opts.pool_threads);
        let flusher = spawn_thread("mqlog-flush".to_owned(), move || {
            let run = std::panic::AssertUnwindSafe(|| shared.run_flusher());
            if std::panic::catch_unwind(run).is_err() {
                shared.take_offline("a bug stopped the flusher; restart to recover");
            }
        });
        match (pool, flusher) {
            (Ok(pool), Ok(flusher)) => {
                self.shared.queue.set_served(true);
                lock(&self.pool_threads).extend(pool);
                lock(&self.threads).push(flusher);
            }
            (Err(error), _) | (_, Err(error)) => {
                self.shared
                    .take_offline(&format!("no thread could be started: {error}"));
            }
        }
    }

    /// Flushes whatever asked for it, due or not. Says how many partitions moved.
    pub fn flush_once(&self) -> Result<usize, LogError> {
        self.shared.flush_now(true)
    }

    /// Flushes a partition and waits for it, whatever the durability.
    pub fn flush_partition(&self, partition: &Arc<Partition>) -> Result<(), LogError> {
        self.check_process()?;
        self.shared.flush_partition(partition)
    }

    /// Flushes everything and writes the checkpoint.
    pub fn checkpoint(&self, clean: bool) -> Result<(), LogError> {
        self.check_process()?;
        self.shared.checkpoint(clean)
    }

    /// Unlinks what is due, rolls old segments, forgets silent producers and unused indexes,
    /// makes the reserve again. The flusher sees to it every second.
    pub fn housekeeping(&self, now_ms: i64) {
        self.shared.housekeeping(now_ms);
    }

    /// Has a partition flushed within `delay_ms`, 0 for at once (fsync mode).
    pub fn request_flush(&self, partition: &Arc<Partition>, delay_ms: u64) {
        if self.shared.opts.durability == crate::Durability::Fsync {
            self.shared.queue_flush(partition, delay_ms);
        }
    }

    /// Bytes appended and not flushed (fsync mode).
    pub fn unflushed_bytes(&self) -> u64 {
        self.shared.unflushed_bytes()
    }

    /// Whether producers should not be read now.
    pub fn over_unflushed(&self) -> bool {
        self.shared.over_unflushed()
    }

    /// Registers to be woken when [`DataDir::over_unflushed`] ends. True: it is over, nothing is
    /// registered.
    pub fn wait_unflushed(&self, waker: Arc<dyn Wake>) -> bool {
        self.shared.wait_unflushed(waker)
    }

    /// Has a job done in the pool.
    pub fn spawn(&self, job: Job) {
        self.shared.spawn(job);
    }

    /// Segment files that may be open at once, from now on.
    pub fn set_fd_budget(&self, budget: usize) {
        self.shared.files.set_budget(budget);
    }

    /// Why the directory is offline.
    pub fn offline_reason(&self) -> Option<Arc<str>> {
        self.shared.offline_reason()
    }

    /// Calls `hook` when the directory goes offline; at once if it is.
    pub fn on_offline(&self, hook: OfflineHook) {
        self.shared.on_offline(hook);
    }

    /// Counters.
    pub fn stats(&self) -> DirStats {
        self.shared.counters.read()
    }

    fn stop_threads(&self) {
        self.shared.queue.stop();
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
        self.shared.pool.stop();
        for thread in lock(&self.pool_threads).drain(..) {
            let _ = thread.join();
        }
        self.shared.pool.finish();
        self.shared.queue.set_served(false);
    }

    /// Flushes, writes the clean checkpoint, ends the threads. Nothing is served after it.
    pub fn shutdown(&self) {
        if self.check_process().is_err() {
            return;
        }
        self.stop_threads();
        let served = !self.shared.partitions().is_empty();
        if served {
            // If it fails, the shutdown was not clean, and the next start checks.
            let _ = self.shared.checkpoint(true);
        }
        self.shared.close();
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.check_process().is_ok() {
            self.stop_threads();
            self.shared.close();
        }
    }
}

impl Shared {
    fn make_directories(&self, existed: bool) -> Result<(), LogError> {
        let root = &self.opts.path;
        let mut made = !existed;
        for name in ["topics", "cut", "orphans"] {
            let path = root.join(name);
            if !self
                .disk
                .exists(&path)
                .map_err(io_error("look at", &path))?
            {
                self.disk.mkdir(&path).map_err(io_error("create", &path))?;
                made = true;
            }
        }
        if made {
            self.disk.sync_dir(root).map_err(io_error("flush", root))?;
        }
        let parent = root.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            // Every time: an earlier life may have failed or ended before it.
            match self.disk.sync_dir(parent) {
                // One that may not be read was not made by us.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result.map_err(io_error("flush", parent))?,
            }
        }
        let topics = root.join("topics");
        for name in self.disk.list(&topics).map_err(io_error("list", &topics))? {
            if name.ends_with(".deleted") {
                self.throw_away(topics.join(name), true, 0);
            }
        }
        let cut = root.join("cut");
        let names = self.disk.list(&cut).map_err(io_error("list", &cut))?;
        let sizes = names.iter().filter_map(|name| {
            self.disk
                .open(&cut.join(name), OpenMode::Read)
                .and_then(|file| file.len())
                .ok()
        });
        self.cut_bytes.store(sizes.sum(), Ordering::Relaxed);
        Ok(())
    }

    /// The clean flag is gone before anything else happens.
    fn begin_life(&self, ledger: &mut Ledger) -> Result<(), LogError> {
        let path = self.opts.path.join("checkpoint");
        let store =
            |ledger: &mut Ledger| checkpoint::store(&*self.disk, &self.opts.path, ledger, false);
        match store(ledger) {
            Ok(()) => Ok(()),
            Err(error) if Trouble::of(&error) == Trouble::Full => {
                let reserve = self.opts.path.join("reserve");
                let _ = self.disk.unlink(&reserve);
                store(ledger).map_err(io_error("write", &path))
            }
            Err(error) => Err(LogError::io("write", &path, error)),
        }
    }

    fn register(&self, partition: &Arc<Partition>) {
        let id = (partition.topic_id(), partition.index());
        if let Some(entry) = *lock(&partition.carried) {
            lock(&self.ledger).entries.insert(id, entry);
        }
        let mut registry = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registry.insert(id, partition.clone());
    }

    /// Lets go of everything; partitions that somebody still holds do not write any more.
    fn close(&self) {
        let partitions: Vec<Arc<Partition>> = {
            let mut registry = self
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            registry.drain().map(|(_, partition)| partition).collect()
        };
        for partition in partitions {
            partition.set_offline("the data directory was closed");
        }
        // The queue and the partitions in it hold each other.
        self.queue.clear();
    }
}
