//! The calls that only Linux has, each with what other systems can do instead.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;

    use rustix::fs::{Advice, FallocateFlags};
    use rustix::io::ReadWriteFlags;

    use super::*;

    /// A read of what is not cached would not wait for the bytes, but would ask the device for
    /// them, and that can wait too: so it is not tried.
    pub fn read_nowait(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match cached(file, offset, buf.len() as u64) {
            Some(false) => Err(io::ErrorKind::WouldBlock.into()),
            _ => read_cached(file, buf, offset),
        }
    }

    fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut bufs = [IoSliceMut::new(buf)];
        Ok(rustix::io::preadv2(
            file,
            &mut bufs,
            offset,
            ReadWriteFlags::NOWAIT,
        )?)
    }

    pub fn write_vectored(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, bufs, offset)?)
    }

    pub fn sync_fs(file: &File) -> io::Result<bool> {
        if !sync_fs_reports() {
            return Ok(false);
        }
        rustix::fs::syncfs(file)?;
        Ok(true)
    }

    /// Since 5.8 `syncfs` tells of write-back errors.
    fn sync_fs_reports() -> bool {
        static REPORTS: OnceLock<bool> = OnceLock::new();
        *REPORTS.get_or_init(|| {
            let name = rustix::system::uname();
            let release = name.release().to_string_lossy().into_owned();
            let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>());
            match (parts.next(), parts.next()) {
                (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 8),
                _ => false,
            }
        })
    }

    pub fn allocate(file: &File, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            file,
            FallocateFlags::empty(),
            0,
            len,
        )?)
    }

    pub fn drop_cache(file: &File, offset: u64, len: u64) {
        let len = std::num::NonZeroU64::new(len);
        // Advice: a system that does not follow it only makes the check read from memory.
        let _ = rustix::fs::fadvise(file, offset, len, Advice::DontNeed);
    }

    pub fn prefetch(file: &File, offset: u64, len: u64) {
        // Readahead of the kernel's own would be begun by whoever comes to its mark, and that may
        // be a `sendfile` on an I/O thread. Advice: not following it costs time only.
        let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(file, offset, len, Advice::WillNeed);
    }

    #[repr(C)]
    #[derive(Default)]
    struct CacheStat {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }

    /// `cachestat(2)`, Linux 6.5, has one number on all architectures.
    const CACHESTAT: libc::c_long = 451;

    pub fn resident(file: &File, offset: u64, len: u64) -> Option<bool> {
        Some(cached(file, offset, len)? && arrived(file, offset, len))
    }

    /// Whether every page of a range is cached, or at least asked for.
    fn cached(file: &File, offset: u64, len: u64) -> Option<bool> {
        let range = [offset, len];
        let mut stat = CacheStat::default();
        // SAFETY: the kernel reads two u64 from `range`, which is live, and writes the five u64
        // of `stat`, which is `repr(C)`; the descriptor is open as long as `file` is borrowed.
        let answer = unsafe {
            libc::syscall(
                CACHESTAT,
                file.as_raw_fd(),
                range.as_ptr(),
                &raw mut stat,
                0,
            )
        };
        if answer != 0 {
            return None;
        }
        let page = rustix::param::page_size() as u64;
        let pages = (offset + len).div_ceil(page) - offset / page;
        Some(stat.cached >= pages)
    }

    /// Pages count as cached from the moment the kernel has asked the device for them; whoever
    /// sends them then waits. Readahead comes in runs, so the end of each run is asked for.
    fn arrived(file: &File, offset: u64, len: u64) -> bool {
        const RUN: u64 = 128 << 10;
        let end = offset + len;
        let mut next = offset;
        while next < end {
            next = (next + RUN).min(end);
            match read_cached(file, &mut [0], next - 1) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Not every file system can tell.
                _ => {}
            }
        }
        true
    }

    pub fn free_bytes(path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub fn total_bytes(path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    pub fn try_lock(file: &File) -> io::Result<bool> {
        match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Cannot tell whether a read would wait: the pool has to do it.
    pub fn read_nowait(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    pub fn write_vectored(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match bufs.iter().find(|buf| !buf.is_empty()) {
            Some(buf) => file.write_at(buf, offset),
            None => Ok(0),
        }
    }

    pub fn sync_fs(_: &File) -> io::Result<bool> {
        Ok(false)
    }

    pub fn allocate(file: &File, len: u64) -> io::Result<()> {
        let zeros = [0; 65536];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(zeros.len() as u64) as usize;
            file.write_all_at(zeros.get(..n).unwrap_or_default(), at)?;
            at += n as u64;
        }
        Ok(())
    }

    pub fn drop_cache(_: &File, _: u64, _: u64) {}

    pub fn prefetch(_: &File, _: u64, _: u64) {}

    pub fn resident(_: &File, _: u64, _: u64) -> Option<bool> {
        None
    }

    pub fn free_bytes(path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub fn total_bytes(path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    pub fn try_lock(file: &File) -> io::Result<bool> {
        match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub use portable::*;

/// Niceness of threads whose work no I/O thread may be held up by.
#[cfg(target_os = "linux")]
const POOL_NICE: libc::c_int = 10;

/// Blocks all signals in the calling thread.
pub fn block_signals() {
    // SAFETY: both calls write and read only the set on this stack, which sigfillset initialises
    // before it is read; changing this thread's own mask has no other effect.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Gives way to the threads that answer clients: what this one reads, they have not waited for.
/// Linux keeps niceness per thread; elsewhere, or if it is refused, nothing changes.
pub fn yield_to_others() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes no pointers; 0 names the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, POOL_NICE);
    }
}
