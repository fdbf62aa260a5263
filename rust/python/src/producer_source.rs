//! Many records as Cython hands them over: columns of bytes in Arrow's layouts, a numpy array, or
//! pointers into `bytes` objects.

use std::slice;

use mqlog_client::producer::{Row, Source};

/// How the bytes of a column lie.
pub const ABSENT: u32 = 0;
/// `data`: a pointer for each record; `offsets`: an i64 length for each, -1 for null.
pub const POINTERS: u32 = 1;
/// `data` with i32 `offsets`, one more than records.
pub const OFFSETS_32: u32 = 2;
/// The same with i64.
pub const OFFSETS_64: u32 = 3;
/// `width` bytes for each record, `stride` apart.
pub const FIXED: u32 = 4;
/// The same, without the zeros at the end of each.
pub const PADDED: u32 = 5;
/// Arrow's views of 16 bytes in `data`, over `buffers` of `buffer_sizes` bytes.
pub const VIEWS: u32 = 6;

/// A column of nullable bytes.
#[repr(C)]
pub struct Column {
    kind: u32,
    buffers_count: u32,
    data: *const u8,
    offsets: *const u8,
    /// One bit for each record, 0 for null; null if there are no nulls.
    validity: *const u8,
    /// Where the records begin, in elements of the above.
    first: usize,
    width: usize,
    stride: isize,
    buffers: *const *const u8,
    buffer_sizes: *const i64,
}

/// Records of one call.
#[repr(C)]
pub struct Columns {
    value: Column,
    key: Column,
    /// Times, or null: now. `times_validity` as of a column.
    times: *const i64,
    times_validity: *const u8,
    times_first: usize,
    /// What makes milliseconds of a time.
    multiply: i64,
    divide: i64,
    /// Partitions, or null.
    partitions: *const i32,
    partitions_validity: *const u8,
    partitions_first: usize,
    length: usize,
}

/// Whether bit `index` is set; all are, without a bitmap.
///
/// # Safety
/// The bitmap has that bit.
unsafe fn is_valid(bitmap: *const u8, index: usize) -> bool {
    // SAFETY: promised by the caller.
    bitmap.is_null() || unsafe { *bitmap.add(index / 8) } & (1 << (index % 8)) != 0
}

/// Element `index`.
///
/// # Safety
/// There is one; it need not be aligned.
unsafe fn at<T: Copy>(data: *const u8, index: usize) -> T {
    // SAFETY: promised by the caller.
    unsafe { data.cast::<T>().add(index).read_unaligned() }
}

impl Column {
    /// The bytes of a record: `Some(None)` for null, `None` for a place that cannot be.
    ///
    /// # Safety
    /// `index` is less than the length that the column was made for, and what it points to lives.
    #[inline]
    unsafe fn get(&self, index: usize) -> Option<Option<&[u8]>> {
        if self.kind == ABSENT {
            return Some(None);
        }
        let index = self.first.checked_add(index)?;
        // SAFETY: each kind has the elements that it is read from here, by its definition; what
        // offsets and views say of the data behind them is the word of whoever made the array.
        unsafe {
            if !is_valid(self.validity, index) {
                return Some(None);
            }
            let (data, len) = match self.kind {
                POINTERS => {
                    let len: i64 = at(self.offsets, index);
                    if len < 0 {
                        return Some(None);
                    }
                    (
                        at::<*const u8>(self.data, index),
                        usize::try_from(len).ok()?,
                    )
                }
                OFFSETS_32 => {
                    let start: i32 = at(self.offsets, index);
                    let end: i32 = at(self.offsets, index + 1);
                    self.span(i64::from(start), i64::from(end))?
                }
                OFFSETS_64 => self.span(at(self.offsets, index), at(self.offsets, index + 1))?,
                FIXED => (self.fixed(index)?, self.width),
                PADDED => {
                    let data = self.fixed(index)?;
                    let whole = slice::from_raw_parts(data, self.width);
                    let len = whole
                        .iter()
                        .rposition(|byte| *byte != 0)
                        .map_or(0, |at| at + 1);
                    (data, len)
                }
                VIEWS => self.view(index)?,
                _ => return None,
            };
            // A pointer without bytes behind it may be null.
            match len {
                0 => Some(Some(&[])),
                len => Some(Some(slice::from_raw_parts(data, len))),
            }
        }
    }

    fn span(&self, start: i64, end: i64) -> Option<(*const u8, usize)> {
        let len = usize::try_from(end.checked_sub(start)?).ok()?;
        let start = usize::try_from(start).ok()?;
        Some((self.data.wrapping_add(start), len))
    }

    fn fixed(&self, index: usize) -> Option<*const u8> {
        let offset = isize::try_from(index).ok()?.checked_mul(self.stride)?;
        Some(self.data.wrapping_offset(offset))
    }

    /// # Safety
    /// As of `get`.
    unsafe fn view(&self, index: usize) -> Option<(*const u8, usize)> {
        // SAFETY: a view is 16 bytes: its length, then up to 12 bytes, or a prefix, the number of
        // a buffer and the place there, which is checked against the buffer's size.
        unsafe {
            let view = self.data.add(index.checked_mul(16)?);
            let len = usize::try_from(at::<i32>(view, 0)).ok()?;
            if len <= 12 {
                return Some((view.add(4), len));
            }
            let buffer = usize::try_from(at::<i32>(view, 2)).ok()?;
            let start = usize::try_from(at::<i32>(view, 3)).ok()?;
            if buffer >= self.buffers_count as usize {
                return None;
            }
            let size = usize::try_from(*self.buffer_sizes.add(buffer)).ok()?;
            if start.checked_add(len)? > size {
                return None;
            }
            Some(((*self.buffers.add(buffer)).add(start), len))
        }
    }
}

impl Columns {
    /// How many records there are.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Source for Columns {
    #[inline]
    fn row(&self, index: usize) -> Option<Row<'_>> {
        if index >= self.length {
            return None;
        }
        // SAFETY: the index was checked, and Cython keeps what the columns point to.
        unsafe {
            let (timestamp, partition) = (self.time(index), self.partition(index));
            Some(Row {
                value: self.value.get(index)?,
                key: self.key.get(index)?,
                timestamp,
                partition,
            })
        }
    }
}

impl Columns {
    /// # Safety
    /// There is such a record.
    #[inline]
    unsafe fn time(&self, index: usize) -> Option<i64> {
        if self.times.is_null() {
            return None;
        }
        let at = self.times_first + index;
        // SAFETY: promised by the caller.
        let time = unsafe { is_valid(self.times_validity, at).then(|| *self.times.add(at)) };
        time.map(|time| {
            time.saturating_mul(self.multiply)
                .div_euclid(self.divide.max(1))
        })
    }

    /// # Safety
    /// There is such a record.
    #[inline]
    unsafe fn partition(&self, index: usize) -> Option<i32> {
        if self.partitions.is_null() {
            return None;
        }
        let at = self.partitions_first + index;
        // SAFETY: promised by the caller.
        unsafe { is_valid(self.partitions_validity, at).then(|| *self.partitions.add(at)) }
    }
}
