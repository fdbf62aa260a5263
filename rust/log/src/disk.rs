//! What the engine asks of a disk: two small traits, so that the crash lab can put its own under
//! it. It is not a file system abstraction: there is one method per call the engine makes.
//!
//! Errors are `std::io::Error`; the engine tells a full disk, too few descriptors and a failed
//! flush apart by [`Trouble`].

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, only to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A new file, to read and write; an error if it exists.
    CreateNew,
    /// To read and write; made empty if it does not exist, emptied if it does.
    Truncate,
    /// A directory, for [`DiskFile::sync_fs`] only.
    Directory,
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file. New ones get mode 0600.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens or makes the file and locks it until the answer is dropped; `None` if somebody else
    /// has it locked.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>>;
    /// Makes one directory (mode 0700); an error if it exists or its parent does not.
    fn mkdir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or a directory another name, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Bytes it has in all.
    fn total_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. Reads and writes name their position; there is no cursor.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`Self::read_at`], but `ErrorKind::WouldBlock` rather than waiting for the device.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes the buffers one after another, possibly not all of their bytes.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Cuts the file or makes it longer with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes everything of the file system this file is on durable; false if the system cannot
    /// do that or cannot report its errors.
    fn sync_fs(&self) -> io::Result<bool>;
    /// Takes `len` bytes of blocks, which read as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Gives the clean cached pages of a range back, so that a read comes from the device.
    fn drop_cache(&self, offset: u64, len: u64);
    /// Has a range brought into memory without waiting for it. From then on the file's reads bring
    /// what they ask for and nothing beyond.
    fn prefetch(&self, offset: u64, len: u64);
    /// Whether a range is in memory; `None` if the system cannot tell.
    fn resident(&self, offset: u64, len: u64) -> Option<bool>;
    /// The kernel's file, for sendfile; `None` on a simulated disk.
    fn real(&self) -> Option<&Arc<File>>;
}

/// What an I/O error means to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No space or quota: room may come back.
    Full,
    /// No file descriptor left.
    Descriptors,
    /// Anything else: the device or the file system is not to be trusted.
    Io,
}

impl Trouble {
    /// Sorts an error.
    pub fn of(error: &io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return Trouble::Full,
            _ => {}
        }
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Trouble::Full,
            Some(libc::EMFILE | libc::ENFILE) => Trouble::Descriptors,
            _ => Trouble::Io,
        }
    }
}

/// Reads exactly `buf.len()` bytes or says `UnexpectedEof`.
pub fn read_exact_at(file: &dyn DiskFile, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match read_some(file, buf, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                buf = buf.get_mut(n..).unwrap_or_default();
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends; says how many bytes that were.
pub fn read_full_at(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match read_some(file, rest, offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

fn read_some(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buf, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|n| n.min(buf.len())),
        }
    }
}

/// Buffers the kernel takes in one call.
const IOV_MAX: usize = 1024;

/// Writes all bytes of `bufs` at `offset`. A short write is continued, to learn why it was short.
pub fn write_all_vectored_at(
    file: &dyn DiskFile,
    mut bufs: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let some = bufs.get(..IOV_MAX).unwrap_or(bufs);
        match file.write_vectored_at(some, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                IoSlice::advance_slices(&mut bufs, n);
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all_vectored_at(file, &mut [IoSlice::new(bytes)], offset)
}

/// The whole of a file, refused beyond `limit` bytes.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > limit {
        let text = format!(
            "{} is {len} bytes, at most {limit} are expected",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; len as usize];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes a directory and those above it that are missing. Entries are not synced.
pub fn mkdir_all(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.exists(path)? {
        return Ok(());
    }
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        mkdir_all(disk, parent)?;
    }
    match disk.mkdir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Removes a directory and what is in it, one level of directories deep at a time.
pub fn remove_tree(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    for name in disk.list(path)? {
        let child = path.join(name);
        if disk.list(&child).is_ok() {
            remove_tree(disk, &child)?;
        } else {
            disk.unlink(&child)?;
        }
    }
    disk.rmdir(path)
}
