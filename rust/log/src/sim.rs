//! A disk and a clock for tests: [`SimDisk`] keeps apart what is durable and what only the cache
//! knows, loses the difference at a [`crash`](SimDisk::crash) in ways a real disk may, and fails
//! any call on demand. All chance comes from one seed.
//!
//! It is not a disk to keep anything on, and nothing in the engine uses it: it is public because
//! the crash lab is an integration test.

mod file;
mod model;
mod rng;

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, OpenMode};

pub use file::SimClock;
use file::SimFile;
pub use model::FsMode;
use model::{DirNode, FileNode, Ino, Node, Volume, ROOT};
pub use rng::SimRng;

/// A kind of call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Call {
    Open,
    Create,
    Mkdir,
    Rename,
    Unlink,
    List,
    SyncDir,
    Read,
    Write,
    SetLen,
    SyncData,
    SyncFs,
    Allocate,
}

/// Calls that will fail.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which kind of call.
    pub call: Call,
    /// Only where the path contains this; empty for all.
    pub path: String,
    /// How many matching calls still work.
    pub skip: u32,
    /// How many fail after that.
    pub times: u32,
    /// The errno they fail with.
    pub errno: i32,
}

/// What is left to happen before the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Stops in the middle of the call after this many more that change something.
    For(u64),
    Off,
}

struct State {
    volume: Volume,
    rng: SimRng,
    faults: Vec<Fault>,
    fired: HashMap<Call, u64>,
    power: Power,
    /// Handles of an earlier generation belong to a process that is gone.
    generation: u64,
    locked: Vec<Ino>,
    capacity: Option<u64>,
    descriptors: Option<usize>,
    open: usize,
    /// Percent of reads that would have to wait for the device.
    cold: u64,
    calls: u64,
}

/// A file system in memory that can lose power. Clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

pub(crate) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl SimDisk {
    /// An empty file system whose whole behaviour follows from `seed`.
    pub fn new(seed: u64, mode: FsMode) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            volume: Volume::new(mode),
            rng: SimRng::new(seed),
            faults: Vec::new(),
            fired: HashMap::new(),
            power: Power::On,
            generation: 0,
            locked: Vec::new(),
            capacity: None,
            descriptors: None,
            open: 0,
            cold: 0,
            calls: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Power fails and comes back: of what was not synced a random part remains.
    pub fn crash(&self) {
        let mut state = self.state();
        let mut rng = state.rng.fork();
        state.volume.crash(&mut rng);
        state.restart();
    }

    /// The process dies and the machine lives on: the cache remains.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// A second disk with the same contents and future, for running one history twice.
    pub fn fork(&self) -> SimDisk {
        let state = self.state();
        SimDisk(Arc::new(Mutex::new(State {
            volume: state.volume.clone(),
            rng: state.rng.clone(),
            faults: state.faults.clone(),
            fired: state.fired.clone(),
            locked: Vec::new(),
            open: 0,
            ..*state
        })))
    }

    /// Stops the machine in the middle of the call after `calls` more that change something. From
    /// then on every call fails, until [`crash`](Self::crash) or [`kill`](Self::kill).
    pub fn stop_after(&self, calls: u64) {
        self.state().power = Power::For(calls);
    }

    /// Stops the machine between two calls.
    pub fn stop(&self) {
        self.state().power = Power::Off;
    }

    /// Whether the machine stands still.
    pub fn stopped(&self) -> bool {
        self.state().power == Power::Off
    }

    /// Calls that changed something, ever.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Makes calls fail.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How many calls of this kind a fault has made fail.
    pub fn fired(&self, call: Call) -> u64 {
        self.state().fired.get(&call).copied().unwrap_or(0)
    }

    /// How many bytes all files together may have; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// How many files may be open at once; `None` for no limit.
    pub fn set_descriptors(&self, limit: Option<usize>) {
        self.state().descriptors = limit;
    }

    /// What percentage of reads would have to wait for the device.
    pub fn set_cold(&self, percent: u64) {
        self.state().cold = percent;
    }

    /// Bytes in all files that have a name.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Bytes of a file as a read would see them.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let ino = state.find(path)?;
        state
            .volume
            .file(ino)
            .map(|file| file.cached.clone())
            .ok_or_else(|| errno(libc::EISDIR))
    }

    /// Overwrites a file, durably, behind the engine's back: damage.
    pub fn damage(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.find(path)?;
        let file = state.volume.file(ino).ok_or_else(|| errno(libc::EISDIR))?;
        file.cached = bytes.to_vec();
        file.durable = bytes.to_vec();
        Ok(())
    }

    /// Paths of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut found = Vec::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            match state.volume.dir(ino) {
                Some(dir) => {
                    todo.extend(dir.cached.iter().map(|(name, at)| (path.join(name), *at)))
                }
                None => found.push(path),
            }
        }
        found.sort();
        found
    }
}

impl State {
    fn restart(&mut self) {
        self.generation += 1;
        self.power = Power::On;
        self.locked.clear();
        self.faults.clear();
        self.open = 0;
    }

    fn used(&self) -> u64 {
        let mut sum = 0;
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            match self.volume.nodes.get(ino) {
                Some(Node::Dir(dir)) => todo.extend(dir.cached.values().copied()),
                Some(Node::File(file)) => sum += file.cached.len() as u64,
                _ => {}
            }
        }
        sum
    }

    /// Bytes by which files may still grow.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX / 2, |capacity| {
            capacity.saturating_sub(self.used())
        })
    }

    /// Whether a call goes through; a call that changes something counts towards the stop.
    fn admit(&mut self, call: Call, path: &str) -> io::Result<()> {
        if self.power == Power::Off {
            return Err(errno(libc::EIO));
        }
        if !matches!(call, Call::Read | Call::List | Call::Open) {
            self.calls += 1;
            self.power = match self.power {
                Power::For(0) => Power::Off,
                Power::For(left) => Power::For(left - 1),
                other => other,
            };
            if self.power == Power::Off {
                return Err(errno(libc::EIO));
            }
            if self.rng.percent(2) {
                let mut rng = self.rng.fork();
                self.volume.write_back_some(&mut rng);
            }
        }
        let hit = self
            .faults
            .iter_mut()
            .find(|f| f.call == call && f.times > 0 && path.contains(f.path.as_str()));
        match hit {
            None => Ok(()),
            Some(fault) if fault.skip > 0 => {
                fault.skip -= 1;
                Ok(())
            }
            Some(fault) => {
                fault.times -= 1;
                *self.fired.entry(call).or_default() += 1;
                Err(errno(fault.errno))
            }
        }
    }

    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            let dir = self.volume.dir(at).ok_or_else(|| errno(libc::ENOTDIR))?;
            let next = name.to_str().and_then(|name| dir.cached.get(name));
            at = *next.ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(at)
    }

    /// The directory that holds `path`, and its name there.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a str)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| errno(libc::EINVAL))?;
        let dir = self.find(path.parent().unwrap_or(Path::new("/")))?;
        self.volume
            .dir(dir)
            .map(|_| (dir, name))
            .ok_or_else(|| errno(libc::ENOTDIR))
    }

    /// The inode for an open, made or emptied as the mode says.
    fn resolve(&mut self, path: &Path, mode: OpenMode) -> io::Result<Ino> {
        let found = self.find(path);
        let is_dir = found
            .as_ref()
            .is_ok_and(|ino| self.volume.dir(*ino).is_some());
        match (mode, found) {
            (OpenMode::Directory, Ok(_)) if !is_dir => Err(errno(libc::ENOTDIR)),
            (OpenMode::Directory, found) => found,
            (_, Ok(_)) if is_dir => Err(errno(libc::EISDIR)),
            (OpenMode::CreateNew, Ok(_)) => Err(errno(libc::EEXIST)),
            (OpenMode::CreateNew | OpenMode::Truncate, Err(_)) => {
                let (dir, name) = self.parent(path)?;
                // A new name is a change of the disk, and may be where it stops.
                self.admit(Call::Create, &text(path))?;
                let ino = self.volume.add(Node::File(FileNode::default()));
                self.volume.link(dir, name, ino);
                Ok(ino)
            }
            (OpenMode::Truncate, Ok(ino)) => {
                if let Some(file) = self.volume.file(ino) {
                    file.set_len(0);
                }
                Ok(ino)
            }
            (OpenMode::Read | OpenMode::ReadWrite, found) => found,
        }
    }

    fn take_descriptor(&mut self) -> io::Result<()> {
        if self.descriptors.is_some_and(|limit| self.open >= limit) {
            *self.fired.entry(Call::Open).or_default() += 1;
            return Err(errno(libc::EMFILE));
        }
        self.open += 1;
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let name = text(path);
        state.admit(Call::Open, &name)?;
        state.take_descriptor()?;
        match state.resolve(path, mode) {
            Ok(ino) => Ok(Arc::new(SimFile::new(
                self,
                name,
                ino,
                state.generation,
                false,
            ))),
            Err(error) => {
                state.open -= 1;
                Err(error)
            }
        }
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let exists = self.exists(path)?;
        let mut state = self.state();
        let name = text(path);
        state.admit(Call::Open, &name)?;
        let mode = if exists {
            OpenMode::ReadWrite
        } else {
            OpenMode::CreateNew
        };
        let ino = state.resolve(path, mode)?;
        if state.locked.contains(&ino) {
            return Ok(None);
        }
        state.take_descriptor()?;
        state.locked.push(ino);
        Ok(Some(Arc::new(SimFile::new(
            self,
            name,
            ino,
            state.generation,
            true,
        ))))
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.admit(Call::Mkdir, &text(path))?;
        if state.find(path).is_ok() {
            return Err(errno(libc::EEXIST));
        }
        let (dir, name) = state.parent(path)?;
        let ino = state.volume.add(Node::Dir(DirNode::default()));
        state.volume.link(dir, name, ino);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.admit(Call::Rename, &text(from))?;
        let ino = state.find(from)?;
        if state
            .find(to)
            .is_ok_and(|there| state.volume.dir(there).is_some())
        {
            return Err(errno(libc::EEXIST));
        }
        let (from, to) = (state.parent(from)?, state.parent(to)?);
        state.volume.rename(from, to, ino);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.admit(Call::Unlink, &text(path))?;
        let ino = state.find(path)?;
        if state.volume.dir(ino).is_some() {
            return Err(errno(libc::EISDIR));
        }
        let (dir, name) = state.parent(path)?;
        state.volume.unlink(dir, name);
        Ok(())
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.admit(Call::Unlink, &text(path))?;
        let ino = state.find(path)?;
        let entries = state.volume.dir(ino).ok_or_else(|| errno(libc::ENOTDIR))?;
        if !entries.cached.is_empty() {
            return Err(errno(libc::ENOTEMPTY));
        }
        let (dir, name) = state.parent(path)?;
        state.volume.unlink(dir, name);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.admit(Call::List, &text(path))?;
        let ino = state.find(path)?;
        let dir = state.volume.dir(ino).ok_or_else(|| errno(libc::ENOTDIR))?;
        Ok(dir.cached.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.admit(Call::List, &text(path))?;
        Ok(state.find(path).is_ok())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.admit(Call::SyncDir, &text(path))?;
        let ino = state.find(path)?;
        state.volume.sync_dir(ino);
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.state().room())
    }

    /// A large disk, whoever else uses it.
    fn total_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX / 2)
    }
}
