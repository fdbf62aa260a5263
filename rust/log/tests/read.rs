//! Reading: by offset in the middle of batches, within limits, by time.
#![allow(clippy::unwrap_used)]

mod support;

use mqlog_log::{LogConfig, ReadError, ReadUpTo};
use mqlog_record::Batches;
use proptest::prelude::*;
use support::*;

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let bench = Bench::new();
    let partition = bench.create();
    for n in 0..50 {
        bench.append(&partition, &mut batch(10, 100, n)).unwrap();
    }
    for offset in 0..500 {
        let (next, bytes) = fetch(&partition, offset, 1, ReadUpTo::LogEnd).unwrap();
        let first = Batches::new(&bytes).next().unwrap().unwrap().header;
        assert_eq!(first.base_offset, offset / 10 * 10);
        assert_eq!(
            next,
            first.next_offset(),
            "one batch although the limit is one byte"
        );
    }
}

#[test]
fn limits_are_kept_but_for_the_first_batch() {
    let bench = Bench::new();
    let partition = bench.create();
    for n in 0..20 {
        bench.append(&partition, &mut batch(1, 1_000, n)).unwrap();
    }
    let size = batch(1, 1_000, 0).len();
    let range = partition
        .read(0, size * 3 + 10, false, ReadUpTo::LogEnd)
        .unwrap();
    assert_eq!((range.len, range.next_offset), (size * 3, 3));
    let range = partition
        .read(5, size - 1, false, ReadUpTo::LogEnd)
        .unwrap();
    assert_eq!((range.len, range.next_offset), (0, 5));
    let range = partition.read(5, size - 1, true, ReadUpTo::LogEnd).unwrap();
    assert_eq!((range.len, range.next_offset), (size, 6));
}

#[test]
fn offsets_outside_are_out_of_range_and_the_end_is_empty() {
    let bench = Bench::new();
    let partition = bench.create();
    bench.append(&partition, &mut batch(3, 10, 1)).unwrap();
    let range = partition.read(3, 100, true, ReadUpTo::LogEnd).unwrap();
    assert_eq!((range.len, range.next_offset), (0, 3));
    // Above the high watermark, but there.
    assert_eq!(
        partition
            .read(2, 100, true, ReadUpTo::HighWatermark)
            .unwrap()
            .len,
        0
    );
    for offset in [-1, 4, i64::MAX, i64::MIN] {
        let error = partition
            .read(offset, 100, true, ReadUpTo::LogEnd)
            .unwrap_err();
        assert!(
            matches!(error, ReadError::OutOfRange { .. }),
            "{offset}: {error}"
        );
        assert_eq!(error.code(), 1);
    }
}

#[test]
fn time_look_up_finds_the_record() {
    let bench = Bench::with(|_, config| {
        config.segment_bytes = 4_000;
        config.index_interval_bytes = 300;
        config.ts_after_max_ms = i64::MAX;
    });
    let partition = bench.create();
    // Times that go up and down: 5 records a millisecond apart per batch.
    let times: Vec<i64> = (0..60).map(|n| NOW + (n * 37) % 1_000).collect();
    for time in &times {
        bench
            .append(&partition, &mut batch_at(5, 30, 1, *time))
            .unwrap();
    }
    assert!(partition.segments().len() > 3);
    let records: Vec<(i64, i64)> = times
        .iter()
        .flat_map(|t| (0..5).map(move |n| t + n))
        .zip(0..)
        .map(|(t, o)| (o, t))
        .collect();
    for probe in (NOW - 5..NOW + 1_010).step_by(3) {
        let expected = records.iter().find(|(_, time)| *time >= probe).copied();
        let found = partition
            .offset_for_timestamp(probe, ReadUpTo::LogEnd)
            .unwrap();
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected,
            "{probe}"
        );
    }
    assert_eq!(
        partition
            .offset_for_timestamp(NOW, ReadUpTo::HighWatermark)
            .unwrap(),
        None
    );
    let newest = records.iter().map(|(_, time)| *time).max().unwrap();
    let first = records.iter().find(|(_, time)| *time == newest).unwrap();
    let found = partition
        .offset_of_max_timestamp(ReadUpTo::LogEnd)
        .unwrap()
        .unwrap();
    assert_eq!((found.offset, found.timestamp), *first);
}

#[test]
fn bytes_available_grows_with_appends() {
    let bench = Bench::with(|_, config| config.segment_bytes = 3_000);
    let partition = bench.create();
    let mut before = 0;
    for n in 0..20 {
        bench.append(&partition, &mut batch(1, 500, n)).unwrap();
        let now = partition.bytes_available(0, ReadUpTo::LogEnd);
        assert!(now > before);
        before = now;
    }
    assert_eq!(before, partition.size_bytes());
    assert_eq!(partition.bytes_available(20, ReadUpTo::LogEnd), 0);
    assert_eq!(partition.bytes_available(0, ReadUpTo::HighWatermark), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Append { counts: Vec<i32>, len: usize },
    Flush,
    Read { at: u16, max: usize },
    Delete { at: u16 },
    Checkpoint,
    Restart,
    Kill,
    Truncate { at: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop::collection::vec(1..5i32, 1..6), 0..700usize)
            .prop_map(|(counts, len)| Step::Append { counts, len }),
        2 => Just(Step::Flush),
        6 => (any::<u16>(), prop_oneof![1..200usize, 1..20_000usize])
            .prop_map(|(at, max)| Step::Read { at, max }),
        1 => any::<u16>().prop_map(|at| Step::Delete { at }),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<u16>().prop_map(|at| Step::Truncate { at }),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the log must be: a list of batches.
#[derive(Default)]
struct Model {
    batches: Vec<(i64, Vec<u8>)>,
    start: i64,
    end: i64,
    flushed: i64,
}

impl Model {
    fn read(&self, offset: i64, max: usize, limit: i64) -> Vec<u8> {
        let mut out = Vec::new();
        for (base, bytes) in &self.batches {
            let count = i64::from(i32::from_be_bytes(bytes[57..61].try_into().unwrap()));
            let wanted = base + count > offset && base + count <= limit;
            if wanted && (out.is_empty() || out.len() + bytes.len() <= max) {
                out.extend_from_slice(bytes);
            } else if wanted {
                break;
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_of_batches(steps in steps()) {
        let config = |config: &mut LogConfig| {
            config.segment_bytes = 6_000;
            config.index_interval_bytes = 600;
        };
        let mut bench = Bench::with(|_, c| config(c));
        let mut partition = bench.create();
        let mut model = Model::default();
        let mut tag = 0;
        for step in steps {
            match step {
                Step::Append { counts, len } => {
                    let mut batches: Vec<_> = counts.iter().map(|count| {
                        tag += 1;
                        batch(*count, len, tag as u8)
                    }).collect();
                    let answers = bench.append_all(&partition, &mut batches);
                    for ((answer, count), bytes) in answers.iter().zip(&counts).zip(batches) {
                        prop_assert_eq!(answer.as_ref().unwrap().base_offset, model.end);
                        model.batches.push((model.end, bytes));
                        model.end += i64::from(*count);
                    }
                }
                Step::Flush => {
                    bench.dir().flush_once().unwrap();
                    model.flushed = model.end;
                }
                Step::Read { at, max } => {
                    let span = (model.end - model.start).max(1);
                    let offset = model.start + i64::from(at) % span;
                    for (up_to, limit) in
                        [(ReadUpTo::LogEnd, model.end), (ReadUpTo::HighWatermark, model.flushed)]
                    {
                        let (_, bytes) = fetch(&partition, offset, max, up_to).unwrap();
                        let expected = model.read(offset, max, limit);
                        // A range may end sooner: at an index entry or a segment's end.
                        prop_assert!(expected.starts_with(&bytes));
                        prop_assert_eq!(bytes.is_empty(), expected.is_empty());
                    }
                }
                Step::Delete { at } => {
                    let span = (model.flushed - model.start).max(1);
                    let offset = (model.start + i64::from(at) % span).min(model.flushed);
                    let offset = offset.max(model.start);
                    prop_assert_eq!(partition.delete_records(offset).unwrap(), offset);
                    model.start = offset;
                    // Dropping a segment may take a checkpoint, and that a flush.
                    let high = partition.high_watermark();
                    prop_assert!(high == model.flushed || high == model.end);
                    model.flushed = high;
                }
                Step::Checkpoint => {
                    bench.dir().checkpoint(false).unwrap();
                    model.flushed = model.end;
                }
                Step::Restart => {
                    partition = bench.restart();
                    prop_assert!(partition.recovery().clean);
                    model.flushed = model.end;
                }
                Step::Kill => {
                    partition = bench.kill();
                    prop_assert_eq!(partition.recovery().cut_bytes, 0);
                    model.flushed = model.end;
                }
                Step::Truncate { at } => {
                    let span = (model.end - model.start).max(1);
                    let offset = model.start + i64::from(at) % span;
                    let holds = |(base, bytes): &(i64, Vec<u8>)| {
                        let count = i32::from_be_bytes(bytes[57..61].try_into().unwrap());
                        base + i64::from(count) > offset
                    };
                    let gone = model.batches.iter().position(holds);
                    let end = gone.map_or(model.end, |at| model.batches[at].0);
                    // The log start inside the batch that would go is refused.
                    let result = partition.truncate_to(offset, true);
                    prop_assert_eq!(result.is_ok(), end >= model.start);
                    if let Some(at) = gone.filter(|_| end >= model.start) {
                        model.end = end;
                        model.batches.truncate(at);
                    }
                    model.flushed = model.end;
                }
            }
            prop_assert_eq!(partition.log_end(), model.end);
            prop_assert_eq!(partition.high_watermark(), model.flushed);
            prop_assert_eq!(partition.log_start(), model.start);
        }
        let (mut at, mut all) = (model.start, Vec::new());
        while at < model.end {
            let (next, bytes) = fetch(&partition, at, 3_000, ReadUpTo::LogEnd).unwrap();
            all.extend(bytes);
            at = next;
        }
        prop_assert_eq!(all, model.read(model.start, usize::MAX, model.end));
    }
}
