//! Records of one batch as an array of [`RecordView`]: the only decoder of the consumer.
//!
//! A [`Walker`] goes over a batch's records section, decompressed, and says where each record's
//! parts lie. Every length is checked against the record's own end before it is used, so whoever
//! takes views for the same section need not check again.
//!
//! It gives what `mqlog_record::Records` gives, with one more demand: offsets lie within the batch
//! that its header declares.

use mqlog_record::{decompress, BatchHeader, Codec, RecordError, HEADER_LEN};

/// Where a record lies in the records section of its batch, and what it says.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView {
    /// Its offset.
    pub offset: i64,
    /// In ms: the sender's, or the broker's where the batch says so.
    pub timestamp: i64,
    /// Where the key begins.
    pub key: u32,
    /// Bytes of the key; -1 is null.
    pub key_size: i32,
    /// Where the value begins.
    pub value: u32,
    /// Bytes of the value; -1 is null.
    pub value_size: i32,
    /// Where the headers begin: varint lengths and bytes, as on the wire.
    pub headers: u32,
    /// Bytes of all headers.
    pub headers_size: u32,
    /// How many there are; all were checked.
    pub headers_count: u32,
    /// Bytes of the record, which limits count by.
    pub size: u32,
}

/// How much to decode at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records at most.
    pub records: usize,
    /// Bytes of records at most ...
    pub bytes: usize,
    /// ... but one record is given out however large it is.
    pub at_least_one: bool,
}

/// The largest section that views can address.
const LARGEST: usize = i32::MAX as usize;

/// The records section of the whole batch `batch`, decompressed into `scratch` (which is emptied)
/// where it must be; `limit` bytes at most.
pub fn open<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    limit: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], RecordError> {
    let stored = batch.get(HEADER_LEN..).unwrap_or_default();
    scratch.clear();
    match header.codec()? {
        Codec::None => Ok(stored),
        codec => {
            decompress(codec, stored, limit.min(LARGEST), scratch)?;
            Ok(scratch)
        }
    }
}

/// Walks the records section of one batch.
#[derive(Debug, Clone)]
pub struct Walker {
    base_offset: i64,
    last_delta: i32,
    /// Of the batch, if it is every record's.
    append_time: Option<i64>,
    base_timestamp: i64,
    position: usize,
    count: i32,
    left: i32,
}

impl Walker {
    /// Before the first record.
    pub fn new(header: &BatchHeader) -> Walker {
        let count = header.records_count.max(0);
        Walker {
            base_offset: header.base_offset,
            last_delta: header.last_offset_delta,
            append_time: header.is_log_append_time().then_some(header.max_timestamp),
            base_timestamp: header.base_timestamp,
            position: 0,
            count,
            left: count,
        }
    }

    /// Appends views of the next records of `body` whose offset is `from` or later, and says
    /// whether the batch is done. After an error the views of the records before it are there, and
    /// the next call gives the error again. `body` must be the same in every call.
    pub fn decode(
        &mut self,
        body: &[u8],
        from: i64,
        limits: Limits,
        views: &mut Vec<RecordView>,
    ) -> Result<bool, RecordError> {
        let (mut records, mut bytes) = (limits.records, limits.bytes);
        let mut first = limits.at_least_one;
        views.reserve(records.min(usize::try_from(self.left).unwrap_or(0)));
        while records > 0 {
            let before = self.position;
            let view = match self.usual(body) {
                Some(view) => view,
                None => match self.next(body)? {
                    Some(view) => view,
                    None => return Ok(true),
                },
            };
            if view.offset < from {
                continue;
            }
            let size = view.size as usize;
            if size > bytes && !first {
                self.position = before;
                self.left += 1;
                return Ok(false);
            }
            first = false;
            records -= 1;
            bytes = bytes.saturating_sub(size);
            views.push(view);
        }
        // Told at once, so that the position after the last record is the one after the batch.
        if self.left == 0 {
            self.next(body).map(|_| true)
        } else {
            Ok(false)
        }
    }

    /// The next record if it is as nearly all are: whole, short numbers, no headers. `None`, and
    /// nothing done, if `next` must look at it: this is the same decoder in fewer instructions.
    #[inline(always)]
    fn usual(&mut self, body: &[u8]) -> Option<RecordView> {
        if self.left == 0 {
            return None;
        }
        let start = self.position;
        let head: &[u8; HEAD] = body.get(start..)?.first_chunk()?;
        // A length, a byte of attributes, three numbers: no place is beyond HEAD, no sum overflows.
        let (length, at) = short(head, 0)?;
        let record = start.wrapping_add(at);
        let (timestamp_delta, at) = short(head, at.wrapping_add(1))?;
        let (offset_delta, at) = short(head, at)?;
        let (key_size, at) = short(head, at)?;
        let key = start.wrapping_add(at);
        let (key_size, value_size, value) = if key_size == NULL {
            let (value_size, at) = short(head, at)?;
            (-1, value_size, start.wrapping_add(at))
        } else {
            let size = natural(key_size)?;
            let after = key.wrapping_add(size);
            let (value_size, at) = short(body.get(after..)?.first_chunk::<4>()?, 0)?;
            (size as i32, value_size, after.wrapping_add(at))
        };
        let (value_size, end) = match value_size {
            NULL => (-1, value),
            size => (size as i32 >> 1, value.wrapping_add(natural(size)?)),
        };
        // No headers, and the record ends behind that.
        let size = natural(length)?;
        if *body.get(end)? != 0 || end.wrapping_add(1) != record.wrapping_add(size) {
            return None;
        }
        let offset_delta = i32::try_from(natural(offset_delta)?).ok()?;
        if offset_delta > self.last_delta {
            return None;
        }
        self.position = end.wrapping_add(1);
        self.left -= 1;
        let delta = i64::from(timestamp_delta >> 1) ^ -i64::from(timestamp_delta & 1);
        Some(RecordView {
            offset: self.base_offset.saturating_add(i64::from(offset_delta)),
            timestamp: self
                .append_time
                .unwrap_or_else(|| self.base_timestamp.wrapping_add(delta)),
            key: key as u32,
            key_size,
            value: value as u32,
            value_size,
            headers: self.position as u32,
            headers_size: 0,
            headers_count: 0,
            size: size as u32,
        })
    }

    #[inline(always)]
    fn next(&mut self, body: &[u8]) -> Result<Option<RecordView>, RecordError> {
        if self.left == 0 {
            return match body.len() - self.position.min(body.len()) {
                0 => Ok(None),
                trailing => Err(RecordError::Trailing(trailing)),
            };
        }
        let mut cursor = Cursor {
            bytes: body,
            at: self.position,
        };
        let length = cursor.span()?;
        let (start, end) = (cursor.at, cursor.at + length);
        let mut fields = Cursor {
            bytes: body.get(..end).unwrap_or_default(),
            at: start,
        };
        let view = self.record(&mut fields)?;
        if fields.at != end {
            return Err(RecordError::RecordEnd {
                position: self.position,
            });
        }
        self.position = end;
        self.left -= 1;
        Ok(Some(RecordView {
            size: length as u32,
            ..view
        }))
    }

    #[inline(always)]
    fn record(&self, fields: &mut Cursor<'_>) -> Result<RecordView, RecordError> {
        // A byte of attributes that means nothing.
        fields.skip(1)?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let (key, key_size) = fields.nullable_span()?;
        let (value, value_size) = fields.nullable_span()?;
        let headers_count = fields.varint()?;
        let headers = fields.at;
        if headers_count != 0 {
            fields.headers(headers_count)?;
        }
        if offset_delta < 0 || offset_delta > self.last_delta {
            return Err(RecordError::OffsetDelta {
                index: self.count - self.left,
                delta: offset_delta,
            });
        }
        let timestamp = match self.append_time {
            Some(time) => time,
            None => self.base_timestamp.wrapping_add(timestamp_delta),
        };
        // No position is beyond `LARGEST`.
        Ok(RecordView {
            offset: self.base_offset.saturating_add(i64::from(offset_delta)),
            timestamp,
            key: key as u32,
            key_size,
            value: value as u32,
            value_size,
            headers: headers as u32,
            headers_size: (fields.at - headers) as u32,
            headers_count: headers_count as u32,
            size: 0,
        })
    }
}

/// Bytes at the start of a record that hold all its numbers, if they are short.
const HEAD: usize = 16;
/// A length of -1, zigzag-coded.
const NULL: u32 = 1;

/// A number of at most three bytes, as it is coded, and where it ends. `at` is below `N`, with
/// room for it.
#[inline(always)]
fn short<const N: usize>(head: &[u8; N], at: usize) -> Option<(u32, usize)> {
    // The mask is for the compiler, which then checks no bound.
    let byte = |index: usize| u32::from(head[at.wrapping_add(index) & (N - 1)]);
    let low = byte(0);
    if low < 0x80 {
        return Some((low, at.wrapping_add(1)));
    }
    let middle = byte(1);
    if middle < 0x80 {
        return Some((low & 0x7f | middle << 7, at.wrapping_add(2)));
    }
    let high = byte(2);
    let value = low & 0x7f | (middle & 0x7f) << 7 | high << 14;
    (high < 0x80).then_some((value, at.wrapping_add(3)))
}

/// A zigzag-coded number that is not negative.
#[inline(always)]
fn natural(raw: u32) -> Option<usize> {
    (raw & 1 == 0).then_some((raw >> 1) as usize)
}

/// Reads bytes that nobody has checked; `at` never passes their end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline(always)]
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline(always)]
    fn skip(&mut self, length: usize) -> Result<(), RecordError> {
        if length > self.remaining() {
            return Err(self.bad_length(length as i64));
        }
        self.at += length;
        Ok(())
    }

    /// A zigzag 32-bit integer: mostly one byte, or two.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, RecordError> {
        let raw = match self.bytes.get(self.at..) {
            Some(&[byte, ..]) if byte < 0x80 => {
                self.at += 1;
                u32::from(byte)
            }
            Some(&[low, high, ..]) if high < 0x80 => {
                self.at += 2;
                u32::from(low & 0x7f) | u32::from(high) << 7
            }
            _ => u32::try_from(self.long_varint(5)?).map_err(|_| RecordError::Varint(self.at))?,
        };
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag 64-bit integer.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, RecordError> {
        let raw = match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                u64::from(byte)
            }
            _ => self.long_varint(10)?,
        };
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn long_varint(&mut self, longest: usize) -> Result<u64, RecordError> {
        let mut value = 0u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for (index, &byte) in rest.iter().take(longest).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(RecordError::Varint(self.at))
    }

    /// A length that the bytes bear out; the bytes themselves are not skipped.
    #[inline(always)]
    fn span(&mut self) -> Result<usize, RecordError> {
        let length = self.varint()?;
        match usize::try_from(length) {
            Ok(length) if length <= self.remaining() => Ok(length),
            _ => Err(self.bad_length(i64::from(length))),
        }
    }

    /// Where bytes lie, skipped, and how many they are; -1 is null.
    #[inline(always)]
    fn nullable_span(&mut self) -> Result<(usize, i32), RecordError> {
        let length = self.varint()?;
        let at = self.at;
        if length == -1 {
            return Ok((at, -1));
        }
        match usize::try_from(length) {
            Ok(bytes) if bytes <= self.remaining() => {
                self.at += bytes;
                Ok((at, length))
            }
            _ => Err(self.bad_length(i64::from(length))),
        }
    }

    fn headers(&mut self, count: i32) -> Result<(), RecordError> {
        // Each takes two bytes at least.
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / 2 => {}
            _ => return Err(self.bad_length(i64::from(count))),
        }
        for _ in 0..count {
            let length = self.span()?;
            self.skip(length)?;
            self.nullable_span()?;
        }
        Ok(())
    }

    #[cold]
    fn bad_length(&self, length: i64) -> RecordError {
        RecordError::Length {
            length,
            position: self.at,
            remaining: self.remaining(),
        }
    }
}

/// The headers of a record, walked. `bytes` are those that a view names; what does not parse ends
/// the walk, and nothing that a view names does not.
pub fn headers(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut cursor = Cursor { bytes, at: 0 };
    std::iter::from_fn(move || {
        let length = cursor.span().ok()?;
        let name = bytes.get(cursor.at..cursor.at + length)?;
        cursor.at += length;
        let (at, size) = cursor.nullable_span().ok()?;
        let value = usize::try_from(size).ok().map(|size| at..at + size);
        Some((name, value.and_then(|range| bytes.get(range))))
    })
}

#[cfg(test)]
mod tests;
