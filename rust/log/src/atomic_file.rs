//! Small files that are replaced whole, and the frame they share: `magic version ... crc32c`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqlog_record::crc32c;

use crate::disk::{read_file, write_all_at, Disk, DiskFile, OpenMode};
use crate::LogError;

/// No small file is ever this large.
const LIMIT: u64 = 1 << 30;

/// A small file that is there but cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It is not there.
    Absent,
    /// Its checksum or structure is wrong.
    Damaged,
    /// Written by a newer version, or the system cannot read it.
    Fatal(LogError),
}

/// Where the new content lies until it is complete.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Writes `X.tmp`.
pub(crate) fn write_unsynced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    begin(disk, path, bytes).map(drop)
}

/// Writes `X.tmp` and makes its bytes durable.
pub(crate) fn write_temporary(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    begin(disk, path, bytes)?.sync_data()
}

fn begin(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&temporary(path), OpenMode::Truncate)?;
    write_all_at(&*file, bytes, 0)?;
    Ok(file)
}

/// Replaces a file: temporary, fsync, rename, fsync of the directory.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_temporary(disk, path, bytes)?;
    disk.rename(&temporary(path), path)?;
    match path.parent() {
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}

/// Builds a framed file.
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn new(magic: &[u8; 4], version: u16, flags: u16) -> Writer {
        let mut out = Writer(magic.to_vec());
        out.u16(version);
        out.u16(flags);
        out
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// The file: everything so far and its checksum.
    pub fn finish(mut self) -> Vec<u8> {
        let crc = crc32c(&self.0);
        self.u32(crc);
        self.0
    }
}

/// Takes a framed file apart. Every read is checked; `None` means that it ends too soon.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Reads a framed file: checks magic, version and checksum, and hands the rest and the flags to
/// `parse`, which must use it up.
pub(crate) fn read<T>(
    disk: &dyn Disk,
    path: &Path,
    magic: &[u8; 4],
    version: u16,
    parse: impl FnOnce(u16, &mut Reader<'_>) -> Option<T>,
) -> Result<T, Unusable> {
    let bytes = read_file(disk, path, LIMIT).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Absent,
        io::ErrorKind::InvalidData => Unusable::Damaged,
        _ => Unusable::Fatal(LogError::io("read", path, error)),
    })?;
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Unusable::Damaged)?;
    if crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(Unusable::Damaged);
    }
    let mut reader = Reader(body);
    if reader.array::<4>().as_ref() != Some(magic) {
        return Err(Unusable::Damaged);
    }
    let (found, flags) = reader.u16().zip(reader.u16()).ok_or(Unusable::Damaged)?;
    if found > version {
        return Err(Unusable::Fatal(LogError::Version {
            path: path.to_path_buf(),
            found: u32::from(found),
            known: u32::from(version),
        }));
    }
    parse(flags, &mut reader)
        .filter(|_| reader.0.is_empty())
        .ok_or(Unusable::Damaged)
}
