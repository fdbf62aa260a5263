//! More partitions than descriptors: everything is made, written, flushed and read all the same,
//! with no call refused. One test, because the limit is the process's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use mqlog_log::{LogConfig, Partition, ReadUpTo, RealDisk};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use support::*;

/// Descriptors that are left to sockets and the rest of a process.
const OTHERS: usize = 24;

fn limit_descriptors(limit: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(limit);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 2_000,
        ..LogConfig::default()
    })
}

/// Appends one batch to each; nobody flushes in between but the engine itself.
fn append_to_all(partitions: &[Arc<Partition>], round: u8, limit: u64) {
    for partition in partitions {
        let mut sent = batch(2, 300 + usize::from(round), partition.index() as u8);
        let appended = append_at(partition, &config(), &mut sent, NOW).unwrap();
        assert_eq!(appended.base_offset, i64::from(round) * 2);
    }
    assert!(open_descriptors() < limit as usize);
}

fn read_from_all(partitions: &[Arc<Partition>], rounds: u8) {
    for partition in partitions {
        let headers = read_all(partition, 0, ReadUpTo::LogEnd);
        let expected: Vec<_> = (0..i64::from(rounds)).map(|n| (n * 2, n * 2 + 1)).collect();
        assert_eq!(offsets(&headers), expected);
    }
}

fn open_all(bench: &Bench, count: i32) -> Vec<Arc<Partition>> {
    let wanted: Vec<_> = (0..count)
        .map(|index| (TOPIC, index, config(), 0))
        .collect();
    let opened = bench.dir().open_partitions(&wanted).into_iter();
    opened
        .map(|(_, _, partition)| partition.unwrap())
        .inspect(|partition| assert_eq!(partition.offline_reason(), None))
        .collect()
}

fn more_partitions_than_descriptors(count: i32, limit: u64) {
    limit_descriptors(limit);
    let budget = limit as usize - OTHERS;
    let mut bench = Bench::on(Arc::new(RealDisk), |options, _| options.fd_budget = budget);
    let wanted: Vec<_> = (0..count)
        .map(|index| (TOPIC, index, config(), 0))
        .collect();
    let made = bench.dir().create_partitions(&wanted).unwrap();
    bench.dir().start_threads();
    // Three rounds fit a segment: the fourth makes as many new files.
    for round in 0..4 {
        append_to_all(&made, round, limit);
    }
    read_from_all(&made, 4);
    let stats = bench.dir().stats();
    let files = 2 * count as u64;
    assert!(
        stats.file_opens > files,
        "they were opened again: {}",
        stats.file_opens
    );
    if files as usize > budget {
        assert!(
            stats.forced_flushes > 0,
            "dirty files are never closed unflushed"
        );
    }
    drop(made);
    // A crash, then a clean end.
    bench.close();
    bench.open();
    let made = open_all(&bench, count);
    read_from_all(&made, 4);
    bench.dir().start_threads();
    append_to_all(&made, 4, limit);
    drop(made);
    bench.dir().shutdown();
    bench.close();
    bench.open();
    let made = open_all(&bench, count);
    assert!(made.iter().all(|partition| partition.recovery().clean));
    read_from_all(&made, 5);
    assert!(open_descriptors() < limit as usize);
}

#[test]
fn descriptors_are_a_budget() {
    // Thousands of flushes that are not what is tested: in memory where the system offers that.
    if std::path::Path::new("/dev/shm").is_dir() {
        std::env::set_var("TMPDIR", "/dev/shm");
    }
    more_partitions_than_descriptors(1_000, 1_024);
    more_partitions_than_descriptors(150, 64);
}
