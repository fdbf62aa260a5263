//! Columns against the records they were made of.

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
