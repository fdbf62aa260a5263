//! `cut/`: what recovery takes off a log is kept here for a person to look at.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::disk::{read_full_at, write_all_at, DiskFile, OpenMode};
use crate::shared::Shared;
use crate::{HoleKind, LogError, Partition, TopicId};

/// Most bytes of one cut that are kept.
const MAX_COPY: u64 = 64 << 20;
const CHUNK: usize = 1 << 20;

/// 32 hexadecimal digits.
pub(crate) fn hex(id: &TopicId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Shared {
    fn cut_dir(&self) -> PathBuf {
        self.opts.path.join("cut")
    }

    /// A free name in `cut/`, if it may take `bytes` more.
    fn cut_path(&self, id: (TopicId, i32), offset: i64, bytes: u64) -> io::Result<PathBuf> {
        let held = self.cut_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if held > self.opts.cut_max_bytes {
            self.cut_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(io::Error::other(format!(
                "{} would hold {held} bytes, the limit is {}: look at what is in it and remove it",
                self.cut_dir().display(),
                self.opts.cut_max_bytes
            )));
        }
        let stem = format!("{}-{}-{offset}-{}", hex(&id.0), id.1, self.clock.now_ms());
        for n in 0..1000 {
            let name = if n == 0 {
                stem.clone()
            } else {
                format!("{stem}.{n}")
            };
            let path = self.cut_dir().join(name);
            if !self.disk.exists(&path)? {
                return Ok(path);
            }
        }
        Err(io::Error::other("no free name in cut/"))
    }

    /// Copies `from..to` of a file into `cut/`, durably.
    pub fn keep_cut(
        &self,
        id: (TopicId, i32),
        dir: &Path,
        offset: i64,
        file: &dyn DiskFile,
        range: std::ops::Range<u64>,
    ) -> Result<PathBuf, LogError> {
        let copy = || -> io::Result<PathBuf> {
            let end = range.end.min(range.start + MAX_COPY);
            let path = self.cut_path(id, offset, end - range.start)?;
            let out = self.disk.open(&path, OpenMode::CreateNew)?;
            let mut buf = vec![0; CHUNK];
            let mut at = range.start;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let read = read_full_at(file, buf.get_mut(..want).unwrap_or_default(), at)?;
                if read == 0 {
                    break;
                }
                write_all_at(&*out, buf.get(..read).unwrap_or_default(), at - range.start)?;
                at += read as u64;
            }
            out.sync_data()?;
            self.disk.sync_dir(&self.cut_dir())?;
            Ok(path)
        };
        copy().map_err(|error| refused(dir, &error))
    }

    /// Moves a whole log file into `cut/`. Durable with the next sync of both directories.
    pub fn move_to_cut(
        &self,
        id: (TopicId, i32),
        dir: &Path,
        offset: i64,
        path: &Path,
        bytes: u64,
    ) -> Result<(), LogError> {
        let moved = || -> io::Result<()> {
            let to = self.cut_path(id, offset, bytes)?;
            self.disk.rename(path, &to)?;
            self.disk.sync_dir(&self.cut_dir())
        };
        moved().map_err(|error| refused(dir, &error))
    }
}

impl Partition {
    /// Whether a start cut the log where it ends now, this one or an earlier one after which
    /// nothing was appended.
    pub fn was_cut_at_end(&self) -> Result<bool, LogError> {
        let end = self.log_end();
        let skipped = |hole: &crate::Hole| hole.kind == HoleKind::Cut && hole.to == end;
        if self.recovery().lost_anything() || self.holes().iter().any(skipped) {
            return Ok(true);
        }
        let dir = self.shared.cut_dir();
        let prefix = format!("{}-{}-{end}-", hex(&self.topic_id()), self.index());
        let names = self.shared.disk.list(&dir);
        let names = names.map_err(|error| LogError::io("list", &dir, error))?;
        Ok(names.iter().any(|name| name.starts_with(&prefix)))
    }
}

fn refused(dir: &Path, error: &io::Error) -> LogError {
    LogError::Recovery {
        path: dir.to_path_buf(),
        reason: format!(
            "bytes that a crash left torn could not be put aside in cut/ ({error}): nothing was \
             cut; make room and restart"
        ),
    }
}
