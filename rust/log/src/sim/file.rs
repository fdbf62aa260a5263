//! An open file of a [`SimDisk`], and the clock that goes with it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use super::{errno, Call, FileNode, Ino, Power, SimDisk, State};
use crate::disk::DiskFile;
use crate::Clock;

pub(super) struct SimFile {
    disk: SimDisk,
    path: String,
    ino: Ino,
    generation: u64,
    lock: bool,
}

impl SimFile {
    pub fn new(disk: &SimDisk, path: String, ino: Ino, generation: u64, lock: bool) -> SimFile {
        SimFile {
            disk: disk.clone(),
            path,
            ino,
            generation,
            lock,
        }
    }

    /// The disk's state, if the process that opened this file still runs.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation != self.generation {
            return Err(errno(libc::EBADF));
        }
        Ok(state)
    }

    fn with<T>(&self, call: Call, run: impl FnOnce(&mut FileNode) -> T) -> io::Result<T> {
        let mut state = self.state()?;
        state.admit(call, &self.path)?;
        state
            .volume
            .file(self.ino)
            .map(run)
            .ok_or_else(|| errno(libc::EISDIR))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let (lock, ino) = (self.lock, self.ino);
        if let Ok(mut state) = self.state() {
            state.open = state.open.saturating_sub(1);
            if lock {
                state.locked.retain(|locked| *locked != ino);
            }
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Call::Read, |file| {
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(file.cached.len());
            let have = &file.cached[start..];
            let n = have.len().min(buf.len());
            buf[..n].copy_from_slice(&have[..n]);
            n
        })
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        {
            let mut state = self.state()?;
            let cold = state.cold;
            if state.rng.percent(cold) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.read_at(buf, offset)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let at = usize::try_from(offset).map_err(|_| errno(libc::EFBIG))?;
        let was_on = state.power != Power::Off;
        if let Err(error) = state.admit(Call::Write, &self.path) {
            // A machine that stops in a write has done some of it.
            if was_on && state.power == Power::Off {
                let part = state.rng.index(bytes.len() + 1);
                if let Some(file) = state.volume.file(self.ino) {
                    file.write(at, &bytes[..part]);
                }
            }
            return Err(error);
        }
        let room = state.room();
        let file = state
            .volume
            .file(self.ino)
            .ok_or_else(|| errno(libc::EISDIR))?;
        let grows = (at + bytes.len()).saturating_sub(file.cached.len()) as u64;
        let fits = bytes.len()
            - usize::try_from(grows.saturating_sub(room))
                .unwrap_or(0)
                .min(bytes.len());
        if fits == 0 && !bytes.is_empty() {
            *state.fired.entry(Call::Write).or_default() += 1;
            return Err(errno(libc::ENOSPC));
        }
        file.write(at, &bytes[..fits]);
        Ok(fits)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| errno(libc::EFBIG))?;
        self.with(Call::SetLen, |file| file.set_len(len))
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Call::Read, |file| file.cached.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let was_on = state.power != Power::Off;
        let result = state.admit(Call::SyncData, &self.path);
        let mode = state.volume.mode;
        let mut rng = state.rng.fork();
        let stopped = state.power == Power::Off;
        let file = state
            .volume
            .file(self.ino)
            .ok_or_else(|| errno(libc::EISDIR))?;
        match &result {
            Ok(()) => file.sync(),
            Err(_) if was_on && !stopped => file.fail_sync(mode, &mut rng),
            Err(_) => {}
        }
        result
    }

    fn sync_fs(&self) -> io::Result<bool> {
        let mut state = self.state()?;
        state.admit(Call::SyncFs, &self.path)?;
        state.volume.sync_all();
        Ok(true)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.admit(Call::Allocate, &self.path)?;
        let room = state.room();
        let file = state
            .volume
            .file(self.ino)
            .ok_or_else(|| errno(libc::EISDIR))?;
        let len = usize::try_from(len).map_err(|_| errno(libc::EFBIG))?;
        let grows = len.saturating_sub(file.cached.len());
        if grows as u64 > room {
            *state.fired.entry(Call::Allocate).or_default() += 1;
            return Err(errno(libc::ENOSPC));
        }
        if grows > 0 {
            file.set_len(len);
        }
        Ok(())
    }

    fn drop_cache(&self, _offset: u64, _len: u64) {
        if let Ok(mut state) = self.state() {
            if let Some(file) = state.volume.file(self.ino) {
                file.drop_cache();
            }
        }
    }

    fn prefetch(&self, _: u64, _: u64) {}

    fn resident(&self, _offset: u64, _len: u64) -> Option<bool> {
        None
    }

    fn real(&self) -> Option<&Arc<File>> {
        None
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct SimClock {
    wall_ms: AtomicI64,
    mono_ns: AtomicU64,
}

impl SimClock {
    /// A clock that shows this wall time, in ms since 1970.
    pub fn new(wall_ms: i64) -> SimClock {
        SimClock {
            wall_ms: AtomicI64::new(wall_ms),
            mono_ns: AtomicU64::new(1),
        }
    }

    /// Time passes, in ms.
    pub fn advance(&self, ms: u64) {
        self.wall_ms
            .fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.mono_ns
            .fetch_add(ms.saturating_mul(1_000_000), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock, by so many ms; negative is back.
    pub fn jump(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }
}
