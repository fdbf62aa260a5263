//! Reading: which bytes answer a fetch. No lock, and for a reader that goes on where it stopped no
//! look at the disk; the bytes themselves are moved by whoever asked.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::check::fits;
use crate::disk::DiskFile;
use crate::holes::{self, Hole, HoleKind};
use crate::index::{Entry, Index};
use crate::marks::Mark;
use crate::scan::{Window, HEADERS};
use crate::segment::Segment;
use crate::{LogError, Partition, ReadError, ReadRange, State};

/// Up to where a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUpTo {
    /// What is committed.
    HighWatermark,
    /// What is committed and belongs to no open transaction.
    LastStable,
    /// Everything: followers and tools.
    LogEnd,
}

/// One read's rules.
#[derive(Clone, Copy)]
struct Ask {
    max_bytes: usize,
    min_one: bool,
    blocking: bool,
}

impl Partition {
    /// Finds whole batches from the one that holds `offset` on: at most `max_bytes`, but with
    /// `min_one` at least one batch. Never waits for the device.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one: bool,
        up_to: ReadUpTo,
    ) -> Result<ReadRange, ReadError> {
        let ask = Ask {
            max_bytes,
            min_one,
            blocking: false,
        };
        self.find(offset, ask, up_to)
    }

    /// As [`Partition::read`], from the pool: after [`ReadError::NeedsPool`].
    pub fn read_blocking(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one: bool,
        up_to: ReadUpTo,
    ) -> Result<ReadRange, ReadError> {
        let ask = Ask {
            max_bytes,
            min_one,
            blocking: true,
        };
        self.find(offset, ask, up_to)
    }

    fn limit(&self, up_to: ReadUpTo) -> Mark {
        match up_to {
            ReadUpTo::LogEnd => self.log_end.load(),
            ReadUpTo::HighWatermark => self.high_watermark.load(),
            ReadUpTo::LastStable => {
                let mark = self.high_watermark.load();
                let first = self.first_transaction.load(Ordering::Acquire);
                if first >= mark.offset {
                    return mark;
                }
                // Where it begins in its segment is looked up when a read gets there.
                Mark {
                    offset: first,
                    segment: -1,
                    ..mark
                }
            }
        }
    }

    fn find(&self, offset: i64, ask: Ask, up_to: ReadUpTo) -> Result<ReadRange, ReadError> {
        if self.state() == State::Deleted {
            return Err(ReadError::Deleted);
        }
        // Marks before lists: whatever a mark names is in the list that is loaded after it.
        let limit = self.limit(up_to);
        let segments = self.segments.load();
        if segments.is_empty() {
            let reason = self.offline_reason().unwrap_or_else(|| Arc::from("no log"));
            return Err(ReadError::Offline(reason));
        }
        let log_start = self.log_start();
        if offset < log_start || offset > self.log_end().max(limit.offset) {
            return Err(ReadError::OutOfRange {
                offset,
                log_start,
                limit: limit.offset,
            });
        }
        let holes = self.holes.load();
        let offset = skip_cut(&holes, offset);
        if offset >= limit.offset {
            return self.nothing(offset);
        }
        if let Some(hole) = holes::at(&holes, offset) {
            return Err(self.corrupt(hole));
        }
        let at = segments.partition_point(|segment| segment.base_offset() <= offset);
        let Some(segment) = at.checked_sub(1).and_then(|at| segments.get(at)) else {
            return Err(ReadError::OutOfRange {
                offset,
                log_start: self.log_start(),
                limit: limit.offset,
            });
        };
        segment.touch(self.shared.index_tick.fetch_add(1, Ordering::Relaxed));
        self.range_in(segment, offset, limit, &holes, ask)
            .map_err(|error| self.gone_or(error, offset))
    }

    /// A file that is not there any more belonged to what the log start has passed meanwhile.
    fn gone_or(&self, error: ReadError, offset: i64) -> ReadError {
        let log_start = self.log_start();
        match error {
            ReadError::Io(_) if offset < log_start => ReadError::OutOfRange {
                offset,
                log_start,
                limit: self.high_watermark(),
            },
            other => other,
        }
    }

    fn nothing(&self, offset: i64) -> Result<ReadRange, ReadError> {
        Ok(ReadRange {
            partition: self.arc()?,
            segment: None,
            position: 0,
            len: 0,
            first_offset: offset,
            next_offset: offset,
        })
    }

    pub(crate) fn arc(&self) -> Result<Arc<Partition>, ReadError> {
        self.me.upgrade().ok_or(ReadError::Deleted)
    }

    pub(crate) fn corrupt(&self, hole: &Hole) -> ReadError {
        let name = crate::segment::file_name(hole.segment, "log");
        ReadError::Corrupt {
            from: hole.from,
            to: hole.to,
            segment: self.directory().join(name),
            kind: hole.kind.name(),
        }
    }

    fn range_in(
        &self,
        segment: &Arc<Segment>,
        offset: i64,
        limit: Mark,
        holes: &[Hole],
        ask: Ask,
    ) -> Result<ReadRange, ReadError> {
        let (end, end_offset) = if limit.segment == segment.base_offset() {
            (limit.position, limit.offset)
        } else if limit.segment == -1 && limit.offset < segment.end_offset() {
            let whole = (segment.size(), segment.end_offset());
            self.locate(segment, limit.offset, whole, ask.blocking)?
        } else {
            (segment.size(), segment.end_offset())
        };
        let (start, first) = self.locate(segment, offset, (end, end_offset), ask.blocking)?;
        // A range never runs over a hole.
        let in_way = holes.iter().find(|hole| {
            hole.segment == segment.base_offset() && hole.from >= offset && hole.position <= end
        });
        if start >= end && in_way.is_none() && first < end_offset {
            // The file ends before its offsets do.
            return match ask.blocking {
                true => Err(self.quarantine_gap(segment, start, first)),
                false => Err(ReadError::NeedsPool),
            };
        }
        let (end, end_offset) = in_way.map_or((end, end_offset), |hole| (hole.position, hole.from));
        if start >= end {
            return self.nothing(offset);
        }
        let (stop, next) = if end - start <= ask.max_bytes as u64 {
            (end, end_offset)
        } else {
            self.stop(segment, start, (end, end_offset), ask)?
        };
        Ok(ReadRange {
            partition: self.arc()?,
            segment: Some(segment.clone()),
            position: start,
            len: usize::try_from(stop - start).unwrap_or(usize::MAX),
            first_offset: first,
            next_offset: if stop == start { offset } else { next },
        })
    }

    /// Where the batch that holds `offset` begins, and its base offset.
    pub(crate) fn locate(
        &self,
        segment: &Arc<Segment>,
        offset: i64,
        end: (u64, i64),
        blocking: bool,
    ) -> Result<(u64, i64), ReadError> {
        if offset == end.1 {
            return Ok(end);
        }
        if let Some(position) = segment.recent_position(offset) {
            return Ok((position, offset));
        }
        let index = self.index_of(segment, blocking)?;
        let entry = index.by_offset(segment.relative(offset)).unwrap_or(Entry {
            relative: 0,
            position: 0,
            max_timestamp: 0,
        });
        let base = segment.base_offset() + i64::from(entry.relative);
        let trusted = !segment.has_hints() || self.shared.opts.bugs.trust_index;
        if base == offset && trusted {
            return Ok((u64::from(entry.position), offset));
        }
        let file = self.file_of(segment)?;
        let mut window = Window::new(&*file, end.0, HEADERS).nowait(!blocking);
        if !trusted && entry.position > 0 {
            self.confirm(segment, &mut window, entry, blocking)?;
        }
        self.walk_to(
            segment,
            &mut window,
            (u64::from(entry.position), base),
            offset,
        )
    }

    /// Compares a hint with the log; one that leads astray costs the whole index.
    fn confirm(
        &self,
        segment: &Arc<Segment>,
        window: &mut Window<'_>,
        entry: Entry,
        blocking: bool,
    ) -> Result<(), ReadError> {
        match segment.leads(window, entry) {
            Ok(true) => Ok(()),
            Ok(false) if blocking => {
                segment.forget_index(&*self.shared.disk);
                Err(ReadError::NeedsPool)
            }
            Ok(false) => Err(ReadError::NeedsPool),
            Err(error) => Err(self.read_failed(segment, error)),
        }
    }

    /// From a batch boundary to the batch that holds `offset`, by headers. Each must continue the
    /// one before: its offset is outside of its checksum.
    fn walk_to(
        &self,
        segment: &Arc<Segment>,
        window: &mut Window<'_>,
        (mut position, mut expected): (u64, i64),
        offset: i64,
    ) -> Result<(u64, i64), ReadError> {
        let holes = self.holes.load();
        loop {
            let here = |hole: &&Hole| {
                hole.segment == segment.base_offset()
                    && hole.position == position
                    && hole.length > 0
            };
            if let Some(hole) = holes.iter().find(here) {
                position += hole.length;
                expected = hole.to;
                continue;
            }
            let header = window
                .header(position)
                .map_err(|e| self.read_failed(segment, e))?;
            match header.filter(|header| fits(header) && header.base_offset == expected) {
                Some(header) if header.last_offset() < offset => {
                    position += header.size() as u64;
                    expected = header.next_offset();
                }
                // Found, or not a batch: the check that precedes serving it finds out how far
                // that goes.
                _ => return Ok((position, expected)),
            }
        }
    }

    /// The last boundary within `max_bytes` after `start`, and the offset there.
    fn stop(
        &self,
        segment: &Arc<Segment>,
        start: u64,
        end: (u64, i64),
        ask: Ask,
    ) -> Result<(u64, i64), ReadError> {
        let index = self.index_of(segment, ask.blocking)?;
        let most = start + ask.max_bytes as u64;
        let trusted = !segment.has_hints() || self.shared.opts.bugs.trust_index;
        if let Some(entry) = index
            .by_position(most)
            .filter(|e| u64::from(e.position) > start)
        {
            if !trusted {
                let file = self.file_of(segment)?;
                let mut window = Window::new(&*file, end.0, HEADERS).nowait(!ask.blocking);
                self.confirm(segment, &mut window, entry, ask.blocking)?;
            }
            return Ok((
                u64::from(entry.position),
                segment.base_offset() + i64::from(entry.relative),
            ));
        }
        let file = self.file_of(segment)?;
        let mut window = Window::new(&*file, end.0, HEADERS).nowait(!ask.blocking);
        let (mut position, mut next) = (start, -1);
        while position < end.0 {
            let header = window
                .header(position)
                .map_err(|e| self.read_failed(segment, e))?;
            let Some(header) = header else {
                // Damaged: let the check look at all of it.
                return Ok(if position == start {
                    end
                } else {
                    (position, next)
                });
            };
            let after = position + header.size() as u64;
            let fits = after <= most || (position == start && ask.min_one);
            if !fits {
                break;
            }
            (position, next) = (after, header.next_offset());
        }
        Ok((position, next))
    }

    /// The index, if it is in memory or may be fetched.
    pub(crate) fn index_of(
        &self,
        segment: &Arc<Segment>,
        blocking: bool,
    ) -> Result<Arc<Index>, ReadError> {
        match segment.index() {
            Some(index) => Ok(index),
            None if !blocking => Err(ReadError::NeedsPool),
            None => {
                let interval = self.config.load().index_interval_bytes;
                let shared = &self.shared;
                segment
                    .load_index(
                        &*shared.disk,
                        &shared.files,
                        &self.holes.load(),
                        interval,
                        shared.opts.bugs.trust_index,
                    )
                    .map_err(|error| self.read_failed(segment, error))
            }
        }
    }

    pub(crate) fn file_of(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, ReadError> {
        let file = self.shared.files.get(&segment.slot);
        file.map_err(|error| self.read_failed(segment, error))
    }

    pub(crate) fn read_failed(&self, segment: &Segment, error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::WouldBlock => ReadError::NeedsPool,
            _ => ReadError::Io(LogError::io("read", &segment.path(), error)),
        }
    }

    /// About how many bytes a read from `offset` on could give, without looking at the disk.
    pub fn bytes_available(&self, offset: i64, up_to: ReadUpTo) -> u64 {
        let limit = self.limit(up_to);
        if offset >= limit.offset {
            return 0;
        }
        let segments = self.segments.load();
        let end_of = |segment: &Segment| {
            if segment.base_offset() == limit.segment {
                limit.position
            } else {
                segment.size()
            }
        };
        let at = segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .max(1)
            - 1;
        let mut bytes = 0;
        for (n, segment) in segments.iter().enumerate().skip(at) {
            if segment.base_offset() >= limit.offset {
                break;
            }
            let from = match segment.index() {
                Some(_) if n > at => 0,
                Some(index) => segment.recent_position(offset).unwrap_or_else(|| {
                    let entry = index.by_offset(segment.relative(offset));
                    entry.map_or(0, |entry| u64::from(entry.position))
                }),
                None => 0,
            };
            bytes += end_of(segment).saturating_sub(from);
        }
        bytes
    }

    /// Aborted transactions in a range of offsets: producer id and first offset. None until there
    /// are transactions.
    pub fn aborted_transactions(&self, _range: std::ops::Range<i64>) -> Vec<(i64, i64)> {
        Vec::new()
    }
}

/// Where a reader at `offset` goes on if its offset was cut off after a crash.
fn skip_cut(holes: &[Hole], offset: i64) -> i64 {
    match holes::at(holes, offset) {
        Some(hole) if hole.kind == HoleKind::Cut => skip_cut(holes, hole.to),
        _ => offset,
    }
}
