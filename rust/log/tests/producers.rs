//! Idempotent producers: nothing twice, nothing out of order, over restarts too.
#![allow(clippy::unwrap_used)]

mod support;

use mqlog_log::ReadUpTo;
use support::*;

fn code(result: Result<mqlog_log::Appended, mqlog_log::AppendError>) -> i16 {
    result.unwrap_err().code()
}

#[test]
fn a_batch_sent_again_gets_its_old_offset() {
    let mut bench = Bench::new();
    let mut partition = bench.create();
    for n in 0..8 {
        bench
            .append(&partition, &mut idempotent(7, 0, n * 3, 3))
            .unwrap();
    }
    for round in 0..3 {
        for n in 3..8 {
            let again = bench
                .append(&partition, &mut idempotent(7, 0, n * 3, 3))
                .unwrap();
            assert!(again.duplicate, "round {round}");
            assert_eq!(again.base_offset, i64::from(n) * 3);
            assert_eq!(again.commit_at, i64::from(n) * 3 + 3);
        }
        assert_eq!(
            code(bench.append(&partition, &mut idempotent(7, 0, 0, 3))),
            45
        );
        assert_eq!(
            code(bench.append(&partition, &mut idempotent(7, 0, 30, 3))),
            45
        );
        assert_eq!(partition.log_end(), 24);
        partition = if round == 0 {
            bench.kill()
        } else {
            bench.restart()
        };
    }
}

#[test]
fn state_comes_from_snapshot_and_tail_together() {
    let mut bench = Bench::with(|_, config| config.segment_bytes = 2_000);
    let partition = bench.create();
    for n in 0..50 {
        for id in 1..4 {
            bench
                .append(&partition, &mut idempotent(id, 0, n, 1))
                .unwrap();
        }
        if n % 20 == 10 {
            bench.dir().checkpoint(false).unwrap();
        }
        if n % 7 == 0 {
            bench.dir().flush_once().unwrap();
        }
    }
    let before = partition.producers();
    assert_eq!(before.len(), 3);
    assert!(files(&bench.partition_path(0), ".snapshot").len() <= 3);
    assert_eq!(bench.kill().producers(), before);
    assert_eq!(bench.kill().producers(), before);
    assert_eq!(bench.restart().producers(), before);
    assert_eq!(bench.kill().producers(), before);
}

#[test]
fn a_refused_batch_stops_only_its_own_producers_next_ones() {
    let bench = Bench::new();
    let partition = bench.create();
    let mut batches = vec![
        idempotent(1, 0, 0, 1),
        idempotent(2, 0, 0, 1),
        idempotent(1, 0, 5, 1),
        idempotent(2, 0, 1, 1),
        idempotent(1, 0, 6, 1),
        batch(1, 1, 1),
        idempotent(1, 0, 1, 1),
    ];
    let answers = bench.append_all(&partition, &mut batches);
    let codes: Vec<i16> = answers
        .iter()
        .map(|answer| answer.as_ref().map_or_else(|e| e.code(), |_| 0))
        .collect();
    assert_eq!(codes, [0, 0, 45, 0, 45, 0, 0]);
    assert_eq!(partition.log_end(), 5);
    assert_eq!(read_all(&partition, 0, ReadUpTo::LogEnd).len(), 5);
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    let bench = Bench::new();
    let partition = bench.create();
    bench
        .append(&partition, &mut idempotent(7, 3, 10, 2))
        .unwrap();
    assert_eq!(
        code(bench.append(&partition, &mut idempotent(7, 2, 12, 1))),
        47
    );
    assert_eq!(
        code(bench.append(&partition, &mut idempotent(7, 4, 12, 1))),
        45
    );
    bench
        .append(&partition, &mut idempotent(7, 4, 0, 1))
        .unwrap();
    assert_eq!(
        code(bench.append(&partition, &mut idempotent(7, 3, 12, 1))),
        47
    );
}

#[test]
fn silent_producers_are_forgotten_and_may_come_back_anywhere() {
    let bench = Bench::with(|options, config| {
        options.producer_expiration_ms = 60_000;
        config.max_producers = 5;
    });
    let partition = bench.create();
    bench
        .append(&partition, &mut idempotent(7, 0, 0, 1))
        .unwrap();
    bench.advance(59_000);
    bench.dir().housekeeping(NOW + 59_000);
    assert_eq!(partition.producers().len(), 1);
    bench.dir().housekeeping(NOW + 61_000);
    assert!(partition.producers().is_empty());
    bench
        .append(&partition, &mut idempotent(7, 0, 1234, 1))
        .unwrap();
    for id in 100..110 {
        bench.advance(1);
        bench
            .append(&partition, &mut idempotent(id, 0, 0, 1))
            .unwrap();
    }
    bench.dir().housekeeping(NOW + 62_000);
    let kept: Vec<i64> = partition
        .producers()
        .iter()
        .map(|producer| producer.id)
        .collect();
    assert_eq!(kept, [105, 106, 107, 108, 109]);
}

#[test]
fn truncation_takes_producers_back() {
    let bench = Bench::new();
    let partition = bench.create();
    for n in 0..6 {
        bench
            .append(&partition, &mut idempotent(7, 0, n, 1))
            .unwrap();
        bench.dir().checkpoint(false).unwrap();
    }
    assert!(
        partition.truncate_to(4, false).is_err(),
        "below the high watermark"
    );
    partition.truncate_to(4, true).unwrap();
    assert_eq!(
        code(bench.append(&partition, &mut idempotent(7, 0, 6, 1))),
        45
    );
    let next = bench
        .append(&partition, &mut idempotent(7, 0, 4, 1))
        .unwrap();
    assert_eq!((next.base_offset, next.duplicate), (4, false));
}
