//! Records as columns, laid out as Arrow wants them, behind an [`Arc`].
//!
//! Filled from views of several batches, then never changed. Whoever exports a column holds the
//! `Arc`; when the last one goes, from any thread, the memory goes back to the consumer's
//! [`ColumnPool`]: fresh pages cost more than all that is done with them.

use std::sync::{Arc, Mutex, Weak};

use crate::views::{self, RecordView};

/// Values in memory that was written before: emptying it forgets them without touching it, and
/// filling it again asks for no room value by value.
#[derive(Debug, Default)]
pub struct Filled<T> {
    items: Vec<T>,
    used: usize,
}

impl<T> std::ops::Deref for Filled<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.items.get(..self.used).unwrap_or_default()
    }
}

impl<T: Copy + Default> Filled<T> {
    /// Room for so many more values, which count from now on and must be written.
    #[inline]
    fn room(&mut self, count: usize) -> &mut [T] {
        let start = self.used;
        let end = start + count;
        if end > self.items.len() {
            let least = end.max(2 * self.items.len()).next_power_of_two();
            self.items.resize(least, T::default());
        }
        self.used = end;
        self.items.get_mut(start..end).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.used = 0;
    }

    fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }
}

/// Byte strings in a row, some of them null. `offsets` has one number more than there are strings.
#[derive(Debug)]
pub struct Binary {
    /// Where each begins in `data`, and where the last ends.
    pub offsets: Filled<i32>,
    /// All bytes.
    pub data: Filled<u8>,
    /// A bit each, lowest first, 0 for null; empty while none is null.
    pub validity: Vec<u8>,
    /// How many are null.
    pub nulls: usize,
}

impl Default for Binary {
    fn default() -> Self {
        let mut offsets = Filled::default();
        offsets.room(1);
        Binary {
            offsets,
            data: Filled::default(),
            validity: Vec::new(),
            nulls: 0,
        }
    }
}

impl Binary {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them; `None` is null, or beyond the end.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if self.nulls > 0 && self.validity.get(index / 8)? >> (index % 8) & 1 == 0 {
            return None;
        }
        let (start, end) = (*self.offsets.get(index)?, *self.offsets.get(index + 1)?);
        self.data.get(start as usize..end as usize)
    }

    fn clear(&mut self) {
        self.offsets.clear();
        // The first offset is 0 already.
        self.offsets.used = 1;
        self.data.clear();
        self.validity.clear();
        self.nulls = 0;
    }

    fn bytes(&self) -> usize {
        self.offsets.bytes() + self.data.bytes() + self.validity.capacity()
    }

    /// Appends one after the other. The caller has seen to it that `data` stays below 2 GiB.
    #[inline(always)]
    fn extend<'a>(&mut self, items: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone) {
        let first = self.len();
        let bytes = items.clone().flatten().map(<[u8]>::len).sum();
        let mut end = self.data.len();
        let mut room = self.data.room(bytes);
        let ends = self.offsets.room(items.len());
        let mut nulls = 0;
        for (item, place) in items.clone().zip(ends) {
            match item {
                Some(bytes) => {
                    let (into, rest) = room.split_at_mut(bytes.len());
                    into.copy_from_slice(bytes);
                    room = rest;
                    end = end.wrapping_add(bytes.len());
                }
                None => nulls += 1,
            }
            *place = end as i32;
        }
        if nulls + self.nulls > 0 {
            self.mark(first, items.map(|item| item.is_some()));
        }
        self.nulls += nulls;
    }

    /// Appends so many nulls.
    fn extend_nulls(&mut self, count: usize) {
        let first = self.len();
        let end = self.data.len() as i32;
        self.offsets.room(count).fill(end);
        self.mark(first, std::iter::repeat_n(false, 0));
        self.validity.resize((first + count).div_ceil(8), 0);
        self.nulls += count;
    }

    fn mark(&mut self, first: usize, valid: impl ExactSizeIterator<Item = bool>) {
        let end = first + valid.len();
        if self.nulls == 0 {
            // Those before the first null were all there.
            self.validity.clear();
            self.validity.resize(first / 8, 0xff);
            if !first.is_multiple_of(8) {
                self.validity.push((1 << (first % 8)) - 1);
            }
        }
        self.validity.resize(end.div_ceil(8), 0);
        for (index, valid) in (first..end).zip(valid) {
            if let Some(byte) = self.validity.get_mut(index / 8) {
                *byte |= u8::from(valid) << (index % 8);
            }
        }
    }
}

/// The headers of all records: a list each.
#[derive(Debug, Default)]
pub struct HeaderColumns {
    /// Where each record's headers begin, and where the last record's end.
    pub offsets: Vec<i32>,
    /// Names, UTF-8; bytes that were not are replaced.
    pub names: Binary,
    /// Values.
    pub values: Binary,
}

/// Where to go on in a partition after the records of a [`Columns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextOffset {
    /// Which of `topics`.
    pub topic: i32,
    /// The partition.
    pub partition: i32,
    /// The offset after the last record.
    pub offset: i64,
    /// The leader epoch of the last batch, or -1.
    pub epoch: i32,
}

/// Records, a column a field.
#[derive(Debug, Default)]
pub struct Columns {
    /// The topics that occur.
    pub topics: Vec<Arc<str>>,
    /// Each record's topic, by its place in `topics`.
    pub topic: Filled<i32>,
    /// Partitions.
    pub partitions: Filled<i32>,
    /// Offsets.
    pub offsets: Filled<i64>,
    /// In ms.
    pub timestamps: Filled<i64>,
    /// Keys.
    pub keys: Binary,
    /// Values.
    pub values: Binary,
    /// Headers, if they were asked for.
    pub headers: Option<HeaderColumns>,
    /// One for each partition that occurs.
    pub next: Vec<NextOffset>,
}

/// What the records appended next have in common.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Their topic.
    pub topic: &'a Arc<str>,
    /// Their partition.
    pub partition: i32,
    /// Where to go on after them.
    pub next_offset: i64,
    /// The leader epoch of their batch.
    pub epoch: i32,
}

impl Columns {
    /// Records so far.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Appends the records that `views` name in `body`.
    pub fn append(&mut self, run: Run<'_>, body: &[u8], views: &[RecordView]) {
        let topic = self.topic_index(run.topic);
        let count = views.len();
        self.topic.room(count).fill(topic);
        self.partitions.room(count).fill(run.partition);
        let offsets = self.offsets.room(count).iter_mut();
        let timestamps = self.timestamps.room(count);
        for ((view, offset), timestamp) in views.iter().zip(offsets).zip(timestamps) {
            (*offset, *timestamp) = (view.offset, view.timestamp);
        }
        let part = |at: u32, size: i32| {
            let size = usize::try_from(size).ok()?;
            body.get(at as usize..at as usize + size)
        };
        // Many topics have no keys at all.
        if views.iter().all(|view| view.key_size < 0) {
            self.keys.extend_nulls(views.len());
        } else {
            let keys = views.iter().map(|view| part(view.key, view.key_size));
            self.keys.extend(keys);
        }
        let values = views.iter().map(|view| part(view.value, view.value_size));
        self.values.extend(values);
        if let Some(headers) = &mut self.headers {
            headers.append(body, views);
        }
        self.advance(topic, run);
    }

    fn topic_index(&mut self, topic: &Arc<str>) -> i32 {
        // Records of one topic come in long runs, and there are few topics.
        let known = self.topics.iter().rposition(|known| known == topic);
        known.unwrap_or_else(|| {
            self.topics.push(topic.clone());
            self.topics.len() - 1
        }) as i32
    }

    fn advance(&mut self, topic: i32, run: Run<'_>) {
        let next = NextOffset {
            topic,
            partition: run.partition,
            offset: run.next_offset,
            epoch: run.epoch,
        };
        let known = self
            .next
            .iter_mut()
            .rfind(|known| known.topic == topic && known.partition == run.partition);
        match known {
            Some(known) => *known = next,
            None => self.next.push(next),
        }
    }

    fn clear(&mut self) {
        self.topics.clear();
        self.topic.clear();
        self.partitions.clear();
        self.offsets.clear();
        self.timestamps.clear();
        self.keys.clear();
        self.values.clear();
        self.headers = None;
        self.next.clear();
    }

    fn bytes(&self) -> usize {
        self.keys.bytes()
            + self.values.bytes()
            + self.topic.bytes()
            + self.partitions.bytes()
            + self.offsets.bytes()
            + self.timestamps.bytes()
    }
}

impl HeaderColumns {
    fn append(&mut self, body: &[u8], views: &[RecordView]) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        for view in views {
            let start = view.headers as usize;
            let raw = body.get(start..start + view.headers_size as usize);
            for (name, value) in views::headers(raw.unwrap_or_default()) {
                let name = String::from_utf8_lossy(name);
                self.names.extend([Some(name.as_bytes())].into_iter());
                self.values.extend([value].into_iter());
            }
            self.offsets.push(self.names.len() as i32);
        }
    }
}

/// Finished columns. Dropping them gives their memory back to the pool they came from.
#[derive(Debug)]
pub struct RecordColumns {
    columns: Columns,
    pool: Weak<ColumnPool>,
}

impl std::ops::Deref for RecordColumns {
    type Target = Columns;

    fn deref(&self) -> &Columns {
        &self.columns
    }
}

impl Drop for RecordColumns {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(std::mem::take(&mut self.columns));
        }
    }
}

/// Memory of columns that are gone, for those that come.
#[derive(Debug)]
pub struct ColumnPool {
    free: Mutex<Vec<Columns>>,
    generation: u32,
}

impl Default for ColumnPool {
    fn default() -> Self {
        ColumnPool {
            free: Mutex::default(),
            generation: crate::fork::generation(),
        }
    }
}

/// Sets kept, and the bytes of one that is kept.
const KEPT: usize = 3;
const KEPT_BYTES: usize = 48 << 20;

impl ColumnPool {
    /// Empty columns, with memory if there is any. With `headers`, they have room for headers.
    pub fn take(&self, headers: bool) -> Columns {
        let free = self.free.try_lock();
        let free = free.ok().and_then(|mut free| free.pop());
        let mut columns = free.unwrap_or_default();
        columns.headers = headers.then(HeaderColumns::default);
        columns
    }

    /// Closes columns that are filled.
    pub fn finish(self: &Arc<Self>, columns: Columns) -> Arc<RecordColumns> {
        Arc::new(RecordColumns {
            columns,
            pool: Arc::downgrade(self),
        })
    }

    /// Takes the memory of columns that nobody will see any more.
    pub fn give_back(&self, mut columns: Columns) {
        // In a child of a fork the lock may be held for ever: the memory is just freed there.
        if columns.bytes() > KEPT_BYTES || crate::fork::generation() != self.generation {
            return;
        }
        columns.clear();
        if let Ok(mut free) = self.free.try_lock() {
            if free.len() < KEPT {
                free.push(columns);
            }
        }
    }
}

#[cfg(test)]
mod tests;
