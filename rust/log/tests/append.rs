//! Appending: offsets, rolls, what is refused, what is published when.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use mqlog_log::{check_batch, AppendError, AppendHook, AppendMode, Durability, ReadUpTo, Verdict};
use mqlog_record::BatchHeader;
use support::*;

#[test]
fn committed_is_what_is_flushed() {
    let bench = Bench::new();
    let partition = bench.create();
    let appended = bench.append(&partition, &mut batch(3, 10, 1)).unwrap();
    assert_eq!(
        (
            appended.base_offset,
            appended.last_offset,
            appended.commit_at
        ),
        (0, 2, 3)
    );
    assert_eq!((partition.log_end(), partition.high_watermark()), (3, 0));
    assert!(read_all(&partition, 0, ReadUpTo::HighWatermark).is_empty());
    assert_eq!(
        offsets(&read_all(&partition, 0, ReadUpTo::LogEnd)),
        [(0, 2)]
    );
    assert_eq!(bench.dir().unflushed_bytes(), partition.size_bytes());
    assert_eq!(bench.dir().flush_once().unwrap(), 1);
    assert_eq!(
        (partition.durable_end(), partition.high_watermark()),
        (3, 3)
    );
    assert_eq!(bench.dir().unflushed_bytes(), 0);
    assert_eq!(bench.dir().flush_once().unwrap(), 0);
}

#[test]
fn in_os_mode_the_kernel_is_enough() {
    let bench = Bench::with(|options, _| options.durability = Durability::Os);
    let partition = bench.create();
    bench.append(&partition, &mut batch(3, 10, 1)).unwrap();
    assert_eq!(
        (partition.high_watermark(), partition.durable_end()),
        (3, 0)
    );
    bench.dir().checkpoint(false).unwrap();
    assert_eq!(partition.durable_end(), 3);
}

#[test]
fn many_batches_of_one_call_roll_where_they_must() {
    let bench = Bench::with(|_, config| config.segment_bytes = 5_000);
    let partition = bench.create();
    let mut batches: Vec<_> = (0..20).map(|n| batch(2, 500, n)).collect();
    let answers = bench.append_all(&partition, &mut batches);
    let bases: Vec<i64> = answers
        .iter()
        .map(|answer| answer.as_ref().unwrap().base_offset)
        .collect();
    assert_eq!(bases, (0..20).map(|n| n * 2).collect::<Vec<i64>>());
    let dir = bench.partition_path(0);
    assert!(files(&dir, ".log").len() >= 4);
    for name in files(&dir, ".log") {
        assert!(std::fs::metadata(dir.join(name)).unwrap().len() <= 5_000);
    }
    bench.dir().flush_once().unwrap();
    assert_eq!(read_all(&partition, 0, ReadUpTo::HighWatermark).len(), 20);
}

#[test]
fn a_batch_larger_than_a_segment_has_one_to_itself() {
    let bench = Bench::with(|_, config| config.segment_bytes = 1_000);
    let partition = bench.create();
    for len in [100, 5_000, 100] {
        bench.append(&partition, &mut batch(1, len, 1)).unwrap();
    }
    let infos = partition.segments();
    assert_eq!(
        infos
            .iter()
            .map(|info| info.base_offset)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(infos[2].active && !infos[1].active);
}

#[test]
fn segments_roll_by_age_but_not_when_the_clock_goes_back() {
    let mut bench = Bench::with(|_, config| config.segment_ms = 60_000);
    let partition = bench.create();
    bench.append(&partition, &mut batch(1, 10, 1)).unwrap();
    bench.advance(-3_600_000);
    bench.append(&partition, &mut batch(1, 10, 1)).unwrap();
    assert_eq!(partition.segments().len(), 1);
    bench.advance(3_600_000 + 60_000);
    bench.append(&partition, &mut batch(1, 10, 1)).unwrap();
    assert_eq!(partition.segments().len(), 2);
    bench.dir().housekeeping(NOW + 70_000);
    assert_eq!(partition.segments().len(), 2, "the new one is young");
    bench.dir().housekeeping(NOW + 130_000);
    assert_eq!(partition.segments().len(), 3);
    bench.dir().housekeeping(NOW + 990_000);
    assert_eq!(partition.segments().len(), 3, "an empty one never rolls");
    let partition = bench.restart();
    assert_eq!((partition.log_end(), partition.segments().len()), (3, 3));
}

#[test]
fn the_stored_bytes_are_the_sent_ones_but_for_offset_and_epoch() {
    let bench = Bench::new();
    let partition = bench.create();
    partition.set_leader_epoch(5);
    bench.append(&partition, &mut batch(4, 10, 1)).unwrap();
    let sent = batch(2, 100, 9);
    bench.append(&partition, &mut sent.clone()).unwrap();
    let (_, stored) = fetch(&partition, 4, 1 << 20, ReadUpTo::LogEnd).unwrap();
    assert_eq!(stored[16..], sent[16..]);
    assert_eq!(stored[8..12], sent[8..12]);
    let header = BatchHeader::parse(&stored).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (4, 5));
    let file = std::fs::read(log_file(&bench.partition_path(0), 0)).unwrap();
    assert!(file.ends_with(&stored));
}

#[test]
fn log_append_time_is_the_brokers() {
    let bench = Bench::with(|_, config| config.log_append_time = true);
    let partition = bench.create();
    let appended = bench
        .append(&partition, &mut batch_at(2, 10, 1, 5))
        .unwrap();
    assert_eq!(appended.log_append_time, NOW);
    let header = read_all(&partition, 0, ReadUpTo::LogEnd)[0];
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp, NOW);
}

#[test]
fn what_a_client_may_not_send_is_refused_with_kafkas_code() {
    let bench = Bench::with(|_, config| config.max_message_bytes = 1_000);
    let now = NOW;
    let refused = |bytes: &mut [u8], config: &mqlog_log::LogConfig| {
        check_batch(bytes, config, true, now)
            .map(|_| ())
            .unwrap_err()
    };
    let config = &bench.config;
    let mut flipped = batch(1, 10, 1);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&mut flipped, config).code(), 2);
    assert_eq!(refused(&mut batch(1, 2_000, 1), config).code(), 10);
    assert_eq!(refused(&mut batch(1, 10, 1)[..40], config).code(), 2);
    let future = refused(&mut batch_at(1, 10, 1, NOW + 3_600_001), config);
    assert_eq!(future.code(), 32);
    assert!(
        future
            .to_string()
            .contains("message.timestamp.after.max.ms"),
        "{future}"
    );
    let control = mqlog_record::ControlRecord {
        marker: mqlog_record::Marker::Commit,
        coordinator_epoch: 0,
    };
    let mut control = mqlog_record::control_batch(control, 7, 0, NOW).unwrap();
    assert_eq!(refused(&mut control, config).code(), 87);
    let mut keyless = mqlog_record::BatchBuilder::new(mqlog_record::Codec::None);
    keyless.append(Some(b"k"), Some(b"v"), NOW, &[]).unwrap();
    keyless.append(None, Some(b"v"), NOW, &[]).unwrap();
    let compact = mqlog_log::LogConfig {
        compact: true,
        ..config.clone()
    };
    let error = refused(&mut keyless.build().unwrap(), &compact);
    assert_eq!(error.code(), 87);
    assert_eq!(
        error
            .record_errors()
            .iter()
            .map(|(at, _)| *at)
            .collect::<Vec<_>>(),
        [1]
    );
}

struct OddOnly;

impl AppendHook for OddOnly {
    fn check(&self, header: &BatchHeader, _: &[u8], _: i64) -> Verdict {
        match header.records_count {
            1 => Verdict::Pass,
            2 => Verdict::Duplicate { base_offset: 0 },
            _ => Verdict::Reject(AppendError::Storage(Arc::from("no"))),
        }
    }
}

#[test]
fn a_hook_passes_rejects_or_answers() {
    let bench = Bench::new();
    let partition = bench.create();
    partition.set_hook(Some(Box::new(OddOnly)));
    let mut batches = vec![
        batch(1, 1, 1),
        batch(2, 1, 1),
        batch(3, 1, 1),
        batch(1, 1, 1),
    ];
    let answers = bench.append_all(&partition, &mut batches);
    assert_eq!(answers[0].as_ref().unwrap().base_offset, 0);
    let duplicate = answers[1].as_ref().unwrap();
    assert!(duplicate.duplicate);
    assert_eq!((duplicate.base_offset, duplicate.last_offset), (0, 1));
    assert!(answers[2].is_err());
    assert_eq!(answers[3].as_ref().unwrap().base_offset, 1);
    assert_eq!(partition.log_end(), 2);
}

#[test]
fn a_follower_keeps_offsets_and_epochs() {
    let bench = Bench::new();
    let partition = bench.create();
    let mut bytes = batch(3, 10, 1);
    mqlog_record::assign(&mut bytes, 0, 4);
    let mut gap = batch(3, 10, 1);
    mqlog_record::assign(&mut gap, 9, 4);
    let config = &bench.config;
    let mut checked = vec![
        check_batch(&mut bytes, config, false, NOW).unwrap(),
        check_batch(&mut gap, config, false, NOW).unwrap(),
    ];
    let mut out = Vec::new();
    partition.append(&mut checked, AppendMode::Keep, &mut out, NOW);
    assert_eq!(out[0].as_ref().unwrap().last_offset, 2);
    assert!(matches!(
        out[1],
        Err(AppendError::Offset {
            offset: 9,
            log_end: 3
        })
    ));
    assert_eq!(partition.epoch_at(1), 4);
}
