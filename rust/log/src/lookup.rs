//! Finding offsets by time. Opens batches, so it belongs into the pool.

use std::sync::Arc;

use mqlog_record::{BatchHeader, OpenBatch};

use crate::check::fits;
use crate::holes::Hole;
use crate::index::Entry;
use crate::scan::{Window, BYTES};
use crate::segment::{Segment, NO_TIME};
use crate::{Partition, ReadError, ReadUpTo};

/// Most bytes a batch may open to.
const MAX_UNCOMPRESSED: usize = 64 << 20;

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in ms.
    pub timestamp: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
}

impl Partition {
    /// The first record at or after `timestamp` ms that a reader may see.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        up_to: ReadUpTo,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let limit = self.visible_end(up_to);
        for segment in self.segments.load().iter() {
            if segment.base_offset() >= limit {
                break;
            }
            if segment.end_offset() <= self.log_start() || self.newest_in(segment)? < timestamp {
                continue;
            }
            if let Some(found) = self.search(segment, timestamp, limit)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp of all that a reader may see.
    pub fn offset_of_max_timestamp(
        &self,
        up_to: ReadUpTo,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let limit = self.visible_end(up_to);
        let segments = self.segments.load();
        let mut best: Option<(i64, &Arc<Segment>)> = None;
        for segment in segments
            .iter()
            .filter(|s| s.base_offset() < limit && s.size() > 0)
        {
            let newest = self.newest_in(segment)?;
            if newest != NO_TIME && best.is_none_or(|(time, _)| newest > time) {
                best = Some((newest, segment));
            }
        }
        let Some((timestamp, segment)) = best else {
            return Ok(None);
        };
        if let Some(found) = self.search(segment, timestamp, limit)? {
            return Ok(Some(found));
        }
        // The newest lies above what may be seen: look at every batch below it.
        self.newest_below(&segments, limit)
    }

    fn visible_end(&self, up_to: ReadUpTo) -> i64 {
        match up_to {
            ReadUpTo::LogEnd => self.log_end(),
            ReadUpTo::HighWatermark => self.high_watermark(),
            ReadUpTo::LastStable => self.last_stable(),
        }
    }

    /// Largest timestamp of a segment, from its index if it was not looked at yet.
    pub(crate) fn newest_in(&self, segment: &Arc<Segment>) -> Result<i64, ReadError> {
        if segment.max_timestamp() == NO_TIME && segment.size() > 0 {
            self.index_of(segment, true)?;
        }
        Ok(segment.max_timestamp())
    }

    fn search(
        &self,
        segment: &Arc<Segment>,
        timestamp: i64,
        limit: i64,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let index = self.index_of(segment, true)?;
        let from = index.by_time(timestamp);
        let mut found = None;
        self.each_batch(segment, from, limit, |header, bytes| {
            if header.max_timestamp >= timestamp {
                found = first_at(header, bytes, timestamp, self.log_start());
            }
            found.is_none()
        })?;
        Ok(found)
    }

    fn newest_below(
        &self,
        segments: &[Arc<Segment>],
        limit: i64,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let mut best: Option<TimedOffset> = None;
        for segment in segments {
            self.each_batch(segment, None, limit, |header, bytes| {
                if best.is_none_or(|best| header.max_timestamp > best.timestamp) {
                    let newest = first_at(header, bytes, header.max_timestamp, self.log_start());
                    best = newest.or(best);
                }
                true
            })?;
        }
        Ok(best)
    }

    /// Shows every batch from a boundary on, below `limit`, until `visit` says false. A batch that
    /// is not what it must be is passed over: a read finds out how far the damage goes.
    fn each_batch(
        &self,
        segment: &Arc<Segment>,
        from: Option<Entry>,
        limit: i64,
        mut visit: impl FnMut(&BatchHeader, &[u8]) -> bool,
    ) -> Result<(), ReadError> {
        let file = self.file_of(segment)?;
        let mut window = Window::new(&*file, segment.size(), BYTES);
        let holes = self.holes.load();
        let mut position = from.map_or(0, |entry| u64::from(entry.position));
        let relative = from.map_or(0, |entry| i64::from(entry.relative));
        let mut expected = segment.base_offset() + relative;
        while position < window.end && expected < limit {
            let here = |hole: &&Hole| {
                hole.segment == segment.base_offset()
                    && hole.position == position
                    && hole.length > 0
            };
            if let Some(hole) = holes.iter().find(here) {
                (position, expected) = (position + hole.length, hole.to);
                continue;
            }
            let batch = window
                .batch(position)
                .map_err(|e| self.read_failed(segment, e))?;
            let Some((header, bytes)) = batch.filter(|(header, _)| fits(header)) else {
                break;
            };
            let end = position + header.size() as u64;
            let good = header.base_offset == expected
                && (segment.is_checked(position, end) || mqlog_record::verify_crc(bytes));
            if good && !visit(&header, bytes) {
                break;
            }
            position = end;
            expected += i64::from(header.last_offset_delta) + 1;
        }
        Ok(())
    }
}

/// The first record of a batch at or after `timestamp`, not below the log start. A batch that
/// cannot be opened is answered by its header.
fn first_at(
    header: &BatchHeader,
    bytes: &[u8],
    timestamp: i64,
    log_start: i64,
) -> Option<TimedOffset> {
    let leader_epoch = header.partition_leader_epoch;
    let of_batch = TimedOffset {
        offset: header.base_offset.max(log_start),
        timestamp: header.max_timestamp,
        leader_epoch,
    };
    if header.last_offset() < log_start {
        return None;
    }
    if header.is_log_append_time() {
        return Some(of_batch);
    }
    let Ok(open) = OpenBatch::new(bytes, MAX_UNCOMPRESSED) else {
        return Some(of_batch);
    };
    for record in open.records() {
        let Ok(record) = record else {
            return Some(of_batch);
        };
        if record.timestamp >= timestamp && record.offset >= log_start {
            return Some(TimedOffset {
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch,
            });
        }
    }
    None
}
