//! Records as columns, laid out as Arrow wants them, behind an [`Arc`].
//!
//! Filled from views of several batches, then never changed. Whoever exports a column holds the
//! `Arc`; when the last one goes, from any thread, the memory goes back to the consumer's
//! [`ColumnPool`]: fresh pages cost more than all that is done with them.

use std::sync::{Arc, Mutex, Weak};

use crate::views::{self, RecordView};

/// Byte strings in a row, some of them null. `offsets` has one number more than there are strings.
#[derive(Debug)]
pub struct Binary {
    /// Where each begins in `data`, and where the last ends.
    pub offsets: Vec<i32>,
    /// All bytes.
    pub data: Vec<u8>,
    /// A bit each, lowest first, 0 for null; empty while none is null.
    pub validity: Vec<u8>,
    /// How many are null.
    pub nulls: usize,
}

impl Default for Binary {
    fn default() -> Self {
        Binary {
            offsets: vec![0],
            data: Vec::new(),
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
        self.offsets.truncate(1);
        self.data.clear();
        self.validity.clear();
        self.nulls = 0;
    }

    fn capacity(&self) -> usize {
        self.offsets.capacity() * 4 + self.data.capacity() + self.validity.capacity()
    }

    /// Appends one after the other. The caller has seen to it that `data` stays below 2 GiB.
    #[inline(always)]
    fn extend<'a>(&mut self, items: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone) {
        let first = self.len();
        self.offsets.reserve(items.len());
        let mut nulls = 0;
        for item in items.clone() {
            match item {
                Some(bytes) => self.data.extend_from_slice(bytes),
                None => nulls += 1,
            }
            self.offsets.push(self.data.len() as i32);
        }
        if nulls + self.nulls > 0 {
            self.mark(first, items.map(|item| item.is_some()));
        }
        self.nulls += nulls;
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
    pub topic: Vec<i32>,
    /// Partitions.
    pub partitions: Vec<i32>,
    /// Offsets.
    pub offsets: Vec<i64>,
    /// In ms.
    pub timestamps: Vec<i64>,
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
        let len = self.len() + views.len();
        self.topic.resize(len, topic);
        self.partitions.resize(len, run.partition);
        self.offsets.extend(views.iter().map(|view| view.offset));
        self.timestamps
            .extend(views.iter().map(|view| view.timestamp));
        let part = |at: u32, size: i32| {
            let size = usize::try_from(size).ok()?;
            body.get(at as usize..at as usize + size)
        };
        let keys = views.iter().map(|view| part(view.key, view.key_size));
        self.keys.extend(keys);
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

    fn capacity(&self) -> usize {
        self.keys.capacity()
            + self.values.capacity()
            + (self.topic.capacity() + self.partitions.capacity()) * 4
            + (self.offsets.capacity() + self.timestamps.capacity()) * 8
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
        if columns.capacity() > KEPT_BYTES || crate::fork::generation() != self.generation {
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
mod tests {
    use mqlog_record::{BatchBuilder, BatchHeader, Codec, HEADER_LEN};
    use proptest::prelude::*;

    use super::*;
    use crate::views::{Limits, Walker};

    type Row = (
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Vec<(String, Option<Vec<u8>>)>,
    );

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
        let header = ("[a-zé]{0,6}", bytes());
        let row = (bytes(), bytes(), prop::collection::vec(header, 0..3));
        prop::collection::vec(row, 1..40)
    }

    fn append(columns: &mut Columns, topic: &Arc<str>, partition: i32, rows: &[Row], step: usize) {
        let mut builder = BatchBuilder::new(Codec::None).base_offset(5);
        for (index, (key, value, headers)) in rows.iter().enumerate() {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_deref()))
                .collect();
            builder
                .append(key.as_deref(), value.as_deref(), index as i64, &headers)
                .unwrap();
        }
        let batch = builder.build().unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        let mut walker = Walker::new(&header);
        let limits = Limits {
            records: step,
            bytes: usize::MAX,
            at_least_one: true,
        };
        let mut views = Vec::new();
        let mut done = false;
        while !done {
            views.clear();
            done = walker
                .decode(&batch[HEADER_LEN..], 0, limits, &mut views)
                .unwrap();
            let run = Run {
                topic,
                partition,
                next_offset: views.last().unwrap().offset + 1,
                epoch: 3,
            };
            columns.append(run, &batch[HEADER_LEN..], &views);
        }
    }

    proptest! {
        #[test]
        fn columns_hold_what_the_records_held(
            batches in prop::collection::vec((0usize..2, 0i32..2, rows()), 1..6),
            step in 1usize..9,
        ) {
            let topics: Vec<Arc<str>> = vec!["a".into(), "b".into()];
            let pool = Arc::new(ColumnPool::default());
            // The second time in memory that was used before.
            for _ in 0..2 {
                let mut columns = pool.take(true);
                for (topic, partition, rows) in &batches {
                    append(&mut columns, &topics[*topic], *partition, rows, step);
                }
                let columns = pool.finish(columns);
                let mut at = 0;
                for (topic, partition, rows) in &batches {
                    for (index, (key, value, headers)) in rows.iter().enumerate() {
                        let named = &columns.topics[columns.topic[at] as usize];
                        prop_assert_eq!(named, &topics[*topic]);
                        prop_assert_eq!(columns.partitions[at], *partition);
                        prop_assert_eq!(columns.offsets[at], 5 + index as i64);
                        prop_assert_eq!(columns.timestamps[at], index as i64);
                        prop_assert_eq!(columns.keys.get(at), key.as_deref());
                        prop_assert_eq!(columns.values.get(at), value.as_deref());
                        let held = columns.headers.as_ref().unwrap();
                        let range = held.offsets[at] as usize..held.offsets[at + 1] as usize;
                        prop_assert_eq!(range.len(), headers.len());
                        for (place, (name, value)) in range.zip(headers) {
                            prop_assert_eq!(held.names.get(place), Some(name.as_bytes()));
                            prop_assert_eq!(held.values.get(place), value.as_deref());
                        }
                        at += 1;
                    }
                }
                prop_assert_eq!(columns.len(), at);
                let nulls = batches.iter().flat_map(|b| &b.2).filter(|row| row.0.is_none()).count();
                prop_assert_eq!(columns.keys.nulls, nulls);
                prop_assert!(columns.next.len() <= 4);
            }
        }
    }

    #[test]
    fn memory_comes_back_until_the_pool_is_gone() {
        let pool = Arc::new(ColumnPool::default());
        let mut columns = pool.take(false);
        let rows = vec![(None, Some(vec![7; 1000]), Vec::new())];
        append(&mut columns, &"t".into(), 0, &rows, 1);
        let address = columns.values.data.as_ptr();
        let finished = pool.finish(columns);
        drop(finished.clone());
        drop(finished);
        let again = pool.take(false);
        assert!(again.is_empty() && again.values.data.as_ptr() == address);
        let orphan = pool.finish(again);
        drop(pool);
        drop(orphan);
    }
}
