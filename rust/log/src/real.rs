//! The kernel's file system.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::os;

/// Files of the machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

/// An open file of the machine. Close-on-exec, as everything `std` opens.
#[derive(Debug)]
struct RealFile(Arc<File>);

impl RealDisk {
    /// The machine's disk.
    pub fn new() -> RealDisk {
        RealDisk
    }
}

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(FILE_MODE);
    match mode {
        OpenMode::Read | OpenMode::Directory => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
        OpenMode::Truncate => {
            options.write(true).create(true).truncate(true);
        }
    }
    options
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(Arc::new(options(mode).open(path)?))))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = options(OpenMode::ReadWrite)
            .create(true)
            .truncate(false)
            .open(path)?;
        if !os::try_lock(&file)? {
            return Ok(None);
        }
        Ok(Some(Arc::new(RealFile(Arc::new(file)))))
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        os::free_bytes(path)
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        os::total_bytes(path)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        os::read_nowait(&self.0, buf, offset)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        os::write_vectored(&self.0, bufs, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_fs(&self) -> io::Result<bool> {
        os::sync_fs(&self.0)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        os::allocate(&self.0, len)
    }

    fn drop_cache(&self, offset: u64, len: u64) {
        os::drop_cache(&self.0, offset, len);
    }

    fn prefetch(&self, offset: u64, len: u64) {
        os::prefetch(&self.0, offset, len);
    }

    fn resident(&self, offset: u64, len: u64) -> Option<bool> {
        os::resident(&self.0, offset, len)
    }

    fn real(&self) -> Option<&Arc<File>> {
        Some(&self.0)
    }
}
