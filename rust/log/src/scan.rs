//! Walks the batches of a segment file through a window of memory.

use std::io;
use std::ops::Range;

use mqlog_record::{BatchHeader, HEADER_LEN};

use crate::disk::{read_full_at, DiskFile};

/// Window for walks that look at headers only.
pub(crate) const HEADERS: usize = 4096;
/// Window for walks that look at every byte.
pub(crate) const BYTES: usize = 1 << 20;

/// A part of a file in memory, moved as needed.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    /// Nothing at or beyond this position is looked at.
    pub end: u64,
    start: u64,
    buf: Vec<u8>,
    step: usize,
    /// Fail with `WouldBlock` rather than wait for the device.
    nowait: bool,
}

impl<'a> Window<'a> {
    pub fn new(file: &'a dyn DiskFile, end: u64, step: usize) -> Window<'a> {
        Window {
            file,
            end,
            start: 0,
            buf: Vec::new(),
            step,
            nowait: false,
        }
    }

    pub fn nowait(mut self, nowait: bool) -> Self {
        self.nowait = nowait;
        self
    }

    /// Up to `len` bytes at `at`; fewer where the file ends.
    pub fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX));
        let held = self.start..self.start + self.buf.len() as u64;
        if at < held.start || at + len as u64 > held.end {
            self.load(at, len)?;
        }
        let from = (at - self.start) as usize;
        let to = (from + len).min(self.buf.len());
        Ok(self.buf.get(from..to).unwrap_or_default())
    }

    fn load(&mut self, at: u64, len: usize) -> io::Result<()> {
        let rest = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        self.buf.resize(len.max(self.step).min(rest), 0);
        self.start = at;
        let read = if self.nowait {
            self.file.read_at_nowait(&mut self.buf, at)
        } else {
            read_full_at(self.file, &mut self.buf, at)
        };
        self.buf.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            // The kernel had some of it in memory: the rest would wait.
            Ok(read) if self.nowait && read < len => Err(io::ErrorKind::WouldBlock.into()),
            result => result.map(|_| ()),
        }
    }

    /// The header of the batch at `at`, if one fits there that is whole.
    pub fn header(&mut self, at: u64) -> io::Result<Option<BatchHeader>> {
        let end = self.end;
        let bytes = self.bytes(at, HEADER_LEN)?;
        Ok(BatchHeader::parse(bytes)
            .ok()
            .filter(|header| header.size() as u64 <= end - at))
    }

    /// The whole batch at `at` with its header, if one fits there.
    pub fn batch(&mut self, at: u64) -> io::Result<Option<(BatchHeader, &[u8])>> {
        let Some(header) = self.header(at)? else {
            return Ok(None);
        };
        let bytes = self.bytes(at, header.size())?;
        Ok((bytes.len() == header.size()).then_some((header, bytes)))
    }

    /// Whether a range holds nothing but zeros.
    pub fn is_zero(&mut self, range: Range<u64>) -> io::Result<bool> {
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at)
                .unwrap_or(usize::MAX)
                .min(BYTES);
            let bytes = self.bytes(at, want)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }
}
