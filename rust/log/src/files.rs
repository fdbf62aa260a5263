//! Which segment files are open. Clean ones beyond the budget are closed, least recently used
//! first; one with unflushed bytes never is, because a later open may not hear that writing them
//! back failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::stats::Counters;

/// One file's place in the cache.
pub(crate) struct Slot {
    path: Mutex<PathBuf>,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// Counts up before a write and again after it: odd means that one is under way.
    writes: AtomicU64,
    /// `writes` as it was before the last flush that succeeded.
    synced: AtomicU64,
    used: AtomicU64,
}

impl Slot {
    pub fn new(path: PathBuf) -> Arc<Slot> {
        Arc::new(Slot {
            path: Mutex::new(path),
            file: Mutex::new(None),
            writes: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            used: AtomicU64::new(0),
        })
    }

    pub fn path(&self) -> PathBuf {
        self.path
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The file has another name now; a later open uses it.
    pub fn renamed(&self, path: &Path) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = path.to_path_buf();
    }

    /// Nothing was written since the last flush began that succeeded.
    pub fn is_clean(&self) -> bool {
        self.writes.load(Ordering::Acquire) == self.synced.load(Ordering::Acquire)
    }

    /// The write announced by [`FileCache::for_write`] is over, however it ended.
    pub fn written(&self) {
        self.writes.fetch_add(1, Ordering::Release);
    }

    /// Call before a flush; the answer goes to [`Slot::flushed`] if the flush succeeds.
    pub fn flush_begins(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Everything written before [`Slot::flush_begins`] is on the device.
    pub fn flushed(&self, writes: u64) {
        self.synced.fetch_max(writes, Ordering::Release);
    }
}

/// The cache of a data directory.
pub(crate) struct FileCache {
    disk: Arc<dyn Disk>,
    budget: AtomicUsize,
    open: AtomicUsize,
    tick: AtomicU64,
    slots: Mutex<Vec<Weak<Slot>>>,
    counters: Arc<Counters>,
}

/// The least that segments keep of the descriptors.
const LEAST_BUDGET: usize = 16;

impl FileCache {
    pub fn new(disk: Arc<dyn Disk>, budget: usize, counters: Arc<Counters>) -> FileCache {
        FileCache {
            disk,
            budget: AtomicUsize::new(budget.max(LEAST_BUDGET)),
            open: AtomicUsize::new(0),
            tick: AtomicU64::new(1),
            slots: Mutex::new(Vec::new()),
            counters,
        }
    }

    pub fn set_budget(&self, budget: usize) {
        self.budget
            .store(budget.max(LEAST_BUDGET), Ordering::Relaxed);
        // Somebody else is about to take what clean files give back.
        self.make_room(0);
    }

    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes in a file that was just created.
    pub fn adopt(&self, slot: &Arc<Slot>, file: Arc<dyn DiskFile>) {
        *slot.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.opened(slot);
    }

    fn opened(&self, slot: &Arc<Slot>) {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counters::add(&self.counters.file_opens, 1);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.push(Arc::downgrade(slot));
    }

    /// The open file. Opens it if need be, making room first where that is possible.
    pub fn get(&self, slot: &Arc<Slot>) -> io::Result<Arc<dyn DiskFile>> {
        self.file(slot, false)
    }

    /// As [`FileCache::get`], for a write that [`Slot::written`] ends: the file stays open until
    /// it was flushed.
    pub fn for_write(&self, slot: &Arc<Slot>) -> io::Result<Arc<dyn DiskFile>> {
        self.file(slot, true)
    }

    fn file(&self, slot: &Arc<Slot>, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let tick = self.tick.load(Ordering::Relaxed);
        slot.used.store(tick, Ordering::Relaxed);
        {
            let held = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = &*held {
                if write {
                    slot.writes.fetch_add(1, Ordering::AcqRel);
                }
                return Ok(file.clone());
            }
        }
        self.tick.fetch_add(1, Ordering::Relaxed);
        self.make_room(1);
        let mut held = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = held.is_none();
        let file = match &*held {
            Some(file) => file.clone(),
            None => {
                let file = self.disk.open(&slot.path(), OpenMode::ReadWrite)?;
                held.insert(file).clone()
            }
        };
        if write {
            slot.writes.fetch_add(1, Ordering::AcqRel);
        }
        drop(held);
        if fresh {
            self.opened(slot);
        }
        Ok(file)
    }

    /// Whether `n` more files fit, after closing clean ones if they must.
    pub fn make_room(&self, n: usize) -> bool {
        let budget = self.budget.load(Ordering::Relaxed);
        if self.open_count() + n <= budget {
            return true;
        }
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // A whole eighth at once, so that the search is rarely made.
        let keep = budget.saturating_sub(n + budget / 8);
        let mut live: Vec<(u64, Weak<Slot>)> = slots
            .drain(..)
            .filter_map(|slot| {
                let used = slot.upgrade()?.used.load(Ordering::Relaxed);
                Some((used, slot))
            })
            .collect();
        live.sort_by_key(|(used, _)| *used);
        let mut open = live.len();
        live.retain(|(_, slot)| {
            if open <= keep {
                return true;
            }
            let closed = slot.upgrade().is_none_or(|slot| self.close(&slot));
            open -= usize::from(closed);
            !closed
        });
        slots.extend(live.into_iter().map(|(_, slot)| slot));
        self.open.store(slots.len(), Ordering::Relaxed);
        slots.len() + n <= budget
    }

    fn close(&self, slot: &Slot) -> bool {
        let mut held = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = held
            .as_ref()
            .is_none_or(|file| Arc::strong_count(file) == 1);
        if idle && slot.is_clean() {
            *held = None;
            Counters::add(&self.counters.file_evictions, 1);
        }
        held.is_none()
    }

    /// Forgets slots whose segments are gone.
    pub fn sweep(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        self.open.store(slots.len(), Ordering::Relaxed);
    }
}
