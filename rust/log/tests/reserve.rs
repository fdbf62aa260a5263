//! A full disk: what is held back of it, for whom, and until when.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use mqlog_log::{LogConfig, META_TOPIC_ID};
use support::*;

#[test]
fn the_reserve_is_for_what_makes_room() {
    let reserve = 40_000;
    let (disk, bench) = Bench::simulated(|options, config| {
        options.reserve_bytes = reserve;
        config.segment_bytes = 5_000;
        config.file_delete_delay_ms = 0;
    });
    let meta = bench
        .dir()
        .open_meta(Arc::new(LogConfig::default()))
        .unwrap();
    let partition = bench.create();
    disk.set_capacity(Some(disk.used() + 100_000));
    let mut acked = 0;
    let error = loop {
        match bench.append(&partition, &mut batch(1, 1_000, 1)) {
            Ok(_) => acked += 1,
            Err(error) => break refused(Err(error)),
        }
    };
    assert!(acked > 80, "{acked}: {error}");
    assert!(!disk.files().contains(&"/data/reserve".into()), "released");
    // Refused unwritten now, with what to do; though there is room.
    let error = refused(bench.append(&partition, &mut batch(1, 10, 1)));
    assert!(error.contains("free space or lower retention"), "{error}");
    // Metadata, flushes, checkpoints and deletion still write.
    assert_eq!(meta.topic_id(), META_TOPIC_ID);
    bench.append(&meta, &mut batch(1, 2_000, 1)).unwrap();
    bench.dir().flush_once().unwrap();
    bench.dir().checkpoint(false).unwrap();
    assert_eq!(partition.high_watermark(), acked);
    bench.dir().housekeeping(NOW);
    refused(bench.append(&partition, &mut batch(1, 10, 1)));
    partition.delete_records(acked).unwrap();
    bench.dir().housekeeping(NOW + 1);
    // Room for it twice over: it is made again, and produces go on.
    bench.dir().housekeeping(NOW + 2);
    assert!(disk.files().contains(&"/data/reserve".into()));
    assert_eq!(
        bench
            .append(&partition, &mut batch(1, 10, 1))
            .unwrap()
            .base_offset,
        acked
    );
}

#[test]
fn the_brokers_own_records_leave_room_for_a_restart() {
    let (disk, mut bench) = Bench::simulated(|options, config| {
        options.reserve_bytes = 40_000;
        config.essential = true;
    });
    let partition = bench.create();
    disk.set_capacity(Some(disk.used() + 100_000));
    let mut acked = 0;
    while disk.files().contains(&"/data/reserve".into()) {
        acked += i64::from(bench.append(&partition, &mut batch(1, 1_000, 1)).is_ok());
    }
    let full_at = acked;
    let error = loop {
        match bench.append(&partition, &mut batch(1, 1_000, 1)) {
            Ok(_) => acked += 1,
            error => break refused(error),
        }
    };
    assert!(
        acked > full_at + 20 && error.contains("for a restart"),
        "{acked} {error}"
    );
    bench.dir().flush_once().unwrap();
    for _ in 0..3 {
        let again = bench.kill();
        assert_eq!(again.log_end(), acked);
        bench.dir().checkpoint(false).unwrap();
    }
}
