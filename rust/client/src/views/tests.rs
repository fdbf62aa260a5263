//! Views against the record crate's own iterator, on good and on damaged batches.

use mqlog_record::{BatchBuilder, HeaderRef, Records};
use proptest::prelude::*;

use super::*;

type Header = (Vec<u8>, Option<Vec<u8>>);
type Row = (u8, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let header = (bytes(20), prop::option::of(bytes(20)));
    let row = (
        1u8..4,
        prop_oneof![Just(0i64), 0..1000i64, any::<i64>()],
        prop::option::of(bytes(40)),
        prop::option::of(bytes(300)),
        prop::collection::vec(header, 0..3),
    );
    prop::collection::vec(row, 0..20)
}

/// A batch with gaps of one to three offsets between its records.
fn build(codec: Codec, rows: &[Row], append_time: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec).base_offset(1000);
    let mut delta = -1;
    for (step, timestamp, key, value, headers) in rows {
        delta += i32::from(*step);
        let headers: Vec<HeaderRef<'_>> = headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_deref()))
            .collect();
        builder
            .append_at(
                delta,
                key.as_deref(),
                value.as_deref(),
                *timestamp,
                &headers,
            )
            .unwrap();
    }
    match append_time {
        Some(time) => builder.build_log_append_time(time).unwrap(),
        None => builder.build().unwrap(),
    }
}

fn part(body: &[u8], at: u32, size: i32) -> Option<&[u8]> {
    let size = usize::try_from(size).ok()?;
    Some(&body[at as usize..at as usize + size])
}

/// What the oracle gives for `body`: its records until the first error, and whether there is one.
/// Views refuse offsets outside the batch, which the oracle does not look at.
fn oracle(header: BatchHeader, body: &[u8]) -> (Vec<Shown<'_>>, bool) {
    let mut shown = Vec::new();
    for record in Records::new(header, body) {
        let Ok(record) = record else {
            return (shown, true);
        };
        if record.offset_delta < 0 || record.offset_delta > header.last_offset_delta {
            return (shown, true);
        }
        let headers = record.headers().collect();
        shown.push((
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            headers,
        ));
    }
    (shown, false)
}

type Shown<'a> = (
    i64,
    i64,
    Option<&'a [u8]>,
    Option<&'a [u8]>,
    Vec<(&'a [u8], Option<&'a [u8]>)>,
);

fn show<'a>(body: &'a [u8], view: &RecordView) -> Shown<'a> {
    let raw = part(body, view.headers, view.headers_size as i32).unwrap();
    let parsed: Vec<_> = headers(raw).collect();
    assert_eq!(parsed.len(), view.headers_count as usize);
    (
        view.offset,
        view.timestamp,
        part(body, view.key, view.key_size),
        part(body, view.value, view.value_size),
        parsed,
    )
}

/// All views of a body, taken `step` records at a time, and whether it ended in an error.
fn walk(header: &BatchHeader, body: &[u8], step: usize) -> (Vec<RecordView>, bool) {
    let mut walker = Walker::new(header);
    let mut views = Vec::new();
    let limits = Limits {
        records: step,
        bytes: usize::MAX,
        at_least_one: false,
    };
    loop {
        let before = views.len();
        match walker.decode(body, i64::MIN, limits, &mut views) {
            Ok(true) => return (views, false),
            Ok(false) => assert!(views.len() > before),
            Err(first) => {
                let again = walker.decode(body, i64::MIN, limits, &mut views);
                assert_eq!(again, Err(first), "the error comes again");
                return (views, true);
            }
        }
    }
}

proptest! {
    #[test]
    fn views_are_what_was_written(
        rows in rows(),
        codec in prop::sample::select(Codec::ALL.to_vec()),
        append_time in prop::option::of(any::<i64>()),
        step in 1usize..8,
    ) {
        let batch = build(codec, &rows, append_time);
        let header = BatchHeader::parse(&batch).unwrap();
        let mut scratch = vec![1, 2, 3];
        let body = open(&header, &batch, 1 << 20, &mut scratch).unwrap();
        let (views, failed) = walk(&header, body, step);
        let (wanted, _) = oracle(header, body);
        prop_assert!(!failed);
        prop_assert_eq!(wanted.len(), rows.len());
        let shown: Vec<_> = views.iter().map(|view| show(body, view)).collect();
        prop_assert_eq!(shown, wanted);
    }

    #[test]
    fn damage_is_found_where_the_oracle_finds_it(
        rows in rows(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        count in prop::option::of(-2i32..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
        step in 1usize..8,
    ) {
        let batch = build(Codec::None, &rows, None);
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.records_count = count.unwrap_or(header.records_count);
        let mut body = batch[HEADER_LEN..].to_vec();
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len() + 1));
        }
        let (views, failed) = walk(&header, &body, step);
        let (wanted, should_fail) = oracle(header, &body);
        let shown: Vec<_> = views.iter().map(|view| show(&body, view)).collect();
        prop_assert_eq!(shown, wanted);
        prop_assert_eq!(failed, should_fail);
    }

    #[test]
    fn noise_is_no_danger(header: [u8; HEADER_LEN], body in bytes(300)) {
        let mut header = header;
        header[16] = 2;
        header[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
        header[57..61].copy_from_slice(&20i32.to_be_bytes());
        let mut batch = header.to_vec();
        batch.extend_from_slice(&body);
        let header = BatchHeader::parse(&batch).unwrap();
        let mut scratch = Vec::new();
        if let Ok(body) = open(&header, &batch, 4096, &mut scratch) {
            let (views, failed) = walk(&header, body, 3);
            let (wanted, should_fail) = oracle(header, body);
            prop_assert_eq!(views.iter().map(|v| show(body, v)).collect::<Vec<_>>(), wanted);
            prop_assert_eq!(failed, should_fail);
        }
    }
}

fn numbered(count: i32, size: usize) -> (BatchHeader, Vec<u8>) {
    let mut builder = BatchBuilder::new(Codec::None).base_offset(10);
    for _ in 0..count {
        builder
            .append(None, Some(&vec![b'v'; size]), 0, &[])
            .unwrap();
    }
    let batch = builder.build().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    (header, batch[HEADER_LEN..].to_vec())
}

#[test]
fn what_lies_before_the_position_is_skipped() {
    let (header, body) = numbered(10, 5);
    let mut views = Vec::new();
    let limits = Limits {
        records: 3,
        bytes: 1 << 20,
        at_least_one: true,
    };
    let mut walker = Walker::new(&header);
    assert_eq!(walker.decode(&body, 16, limits, &mut views), Ok(false));
    let offsets: Vec<_> = views.iter().map(|view| view.offset).collect();
    assert_eq!(offsets, [16, 17, 18]);
    assert_eq!(walker.decode(&body, 16, limits, &mut views), Ok(true));
    assert_eq!(views.len(), 4);
}

#[test]
fn bytes_are_limited_but_one_record_always_comes() {
    let (header, body) = numbered(4, 1000);
    let mut walker = Walker::new(&header);
    let mut views = Vec::new();
    let limits = |bytes, at_least_one| Limits {
        records: 100,
        bytes,
        at_least_one,
    };
    assert_eq!(
        walker.decode(&body, 0, limits(10, false), &mut views),
        Ok(false)
    );
    assert_eq!(views.len(), 0);
    assert_eq!(
        walker.decode(&body, 0, limits(10, true), &mut views),
        Ok(false)
    );
    assert_eq!(views.len(), 1);
    assert_eq!(
        walker.decode(&body, 0, limits(2500, true), &mut views),
        Ok(false)
    );
    assert_eq!(views.len(), 3);
    assert_eq!(
        walker.decode(&body, 0, limits(2500, true), &mut views),
        Ok(true)
    );
    assert_eq!(views.len(), 4);
}

#[test]
fn a_bomb_is_refused() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder
        .append(None, Some(&vec![0; 1 << 20]), 0, &[])
        .unwrap();
    let batch = builder.build().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    let refused = open(&header, &batch, 1 << 16, &mut Vec::new()).unwrap_err();
    assert!(matches!(refused, RecordError::Bomb { .. }), "{refused}");
}
