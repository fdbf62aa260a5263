//! The bytes that answer a fetch: where they are, whether anybody looked at them yet, and their
//! check before they are served for the first time.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::check::fits;
use crate::disk::{read_exact_at, DiskFile};
use crate::scan::{Window, BYTES};
use crate::segment::Segment;
use crate::{LogError, Partition, ReadError};

/// Bytes asked of the device beyond those that are waited for.
const AHEAD: u64 = 4 << 20;

/// Whole batches in one segment file.
#[derive(Debug, Clone)]
pub struct ReadRange {
    pub(crate) partition: Arc<Partition>,
    /// The segment; `None` if there is nothing to read yet.
    pub segment: Option<Arc<Segment>>,
    /// Where the first batch begins in its file.
    pub position: u64,
    /// Bytes; 0 if there is nothing to read yet.
    pub len: usize,
    /// An offset in the first batch, at most the one asked for unless offsets are missing.
    pub first_offset: i64,
    /// Offset after the last batch.
    pub next_offset: i64,
}

impl ReadRange {
    /// The partition it belongs to.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    fn disk_file(&self) -> Result<Arc<dyn DiskFile>, ReadError> {
        match &self.segment {
            Some(segment) => self.partition.file_of(segment),
            None => Err(ReadError::Io(self.empty())),
        }
    }

    fn empty(&self) -> LogError {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "an empty range has no file");
        LogError::io("read", &self.partition.directory(), error)
    }

    /// The kernel's file, pinned: it stays readable whatever happens to the segment.
    pub fn file(&self) -> Result<Arc<File>, ReadError> {
        let file = self.disk_file()?;
        file.real()
            .cloned()
            .ok_or_else(|| ReadError::Io(self.empty()))
    }

    /// Whether this process neither wrote nor checked all of these bytes.
    pub fn needs_check(&self) -> bool {
        let end = self.position + self.len as u64;
        let checked = |segment: &Arc<Segment>| segment.is_checked(self.position, end);
        self.len > 0 && !self.segment.as_ref().is_some_and(checked)
    }

    /// Whether the bytes are in memory; false if the system cannot tell and they are old.
    pub fn resident(&self) -> bool {
        let Some(segment) = &self.segment else {
            return true;
        };
        let Ok(file) = self.disk_file() else {
            return false;
        };
        match file.resident(self.position, self.len as u64) {
            Some(resident) => resident,
            None => segment
                .recent_position(self.first_offset)
                .is_some_and(|p| p == self.position),
        }
    }

    /// Brings the bytes into memory and checks them, waiting for the device; and has it begin with
    /// what a reader will want next. What fails here is met again by whoever serves the bytes.
    pub fn warm(&self) {
        if !self.resident() {
            self.prefetch();
        }
        let _ = self.check();
        if !self.resident() {
            let _ = self.read_into(&mut Vec::new());
        }
    }

    fn prefetch(&self) {
        if let (Some(segment), Ok(file)) = (&self.segment, self.disk_file()) {
            let end = (self.position + self.len as u64 + AHEAD).min(segment.size());
            file.prefetch(self.position, end.saturating_sub(self.position));
        }
    }

    /// Reads the bytes and appends them to `out`. May wait for the device.
    pub fn read_into(&self, out: &mut Vec<u8>) -> Result<(), ReadError> {
        if self.len == 0 {
            return Ok(());
        }
        let file = self.disk_file()?;
        let start = out.len();
        out.resize(start + self.len, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        if let Err(error) = read_exact_at(&*file, room, self.position) {
            out.truncate(start);
            let path = self
                .segment
                .as_ref()
                .map_or_else(Default::default, |s| s.path());
            return Err(ReadError::Io(LogError::io("read", &path, error)));
        }
        Ok(())
    }

    /// Compares the bytes with their checksums and the offsets with each other, once. What is
    /// wrong is remembered as a hole: `NeedsPool` then says to read again, which stops before it.
    pub fn check(&self) -> Result<(), ReadError> {
        let Some(segment) = self.segment.as_ref().filter(|_| self.needs_check()) else {
            return Ok(());
        };
        let partition = &self.partition;
        let file = self.disk_file()?;
        let end = self.position + self.len as u64;
        let mut window = Window::new(&*file, end, BYTES);
        let (mut position, mut expected) = (self.position, self.first_offset);
        let known = partition.epochs.load().last().map_or(-1, |last| last.epoch);
        let most_epoch = partition.leader_epoch().max(known);
        while position < end {
            let batch = window
                .batch(position)
                .map_err(|e| partition.read_failed(segment, e))?;
            let good = batch.and_then(|(header, bytes)| {
                let good = fits(&header)
                    && header.base_offset == expected
                    && header.next_offset() <= segment.end_offset()
                    && header.partition_leader_epoch <= most_epoch
                    && mqlog_record::verify_crc(bytes);
                good.then_some(header)
            });
            let Some(header) = good else {
                return Err(partition.quarantine(segment, &*file, position, expected));
            };
            expected = header.next_offset();
            position += header.size() as u64;
        }
        if expected != self.next_offset && position == segment.size() {
            return Err(partition.quarantine_gap(segment, position, expected));
        }
        segment.set_checked(self.position, end);
        Ok(())
    }
}
