//! Calls that fail: a disk without room costs the produce that met it and nothing else, a write
//! that fails its partition, a flush that fails the whole directory, once and for all.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use mqlog_log::sim::{Call, Fault, SimDisk};
use mqlog_log::{DataDir, LogError, Partition, ReadUpTo, State};
use mqlog_record::Batches;
use support::*;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

fn fail(disk: &SimDisk, call: Call, path: &str, errno: i32) {
    disk.fail(Fault {
        call,
        path: path.to_owned(),
        skip: 0,
        times: 1,
        errno,
    });
}

fn committed(partition: &Partition) -> Vec<(i64, i64)> {
    offsets(&read_all(
        partition,
        partition.log_start(),
        ReadUpTo::HighWatermark,
    ))
}

#[test]
fn a_full_disk_costs_the_produce_that_met_it() {
    let (disk, mut bench) = Bench::simulated(|_, _| {});
    let partition = bench.create();
    bench.append(&partition, &mut batch(2, 300, 1)).unwrap();
    bench.dir().flush_once().unwrap();
    // Room for a batch and a half of three.
    let size = batch(2, 300, 0).len() as u64;
    disk.set_capacity(Some(disk.used() + size * 3 / 2));
    let mut sent: Vec<_> = (2..5).map(|n| batch(2, 300, n)).collect();
    for answer in bench.append_all(&partition, &mut sent) {
        let error = refused(answer);
        assert!(error.contains("/data/topics"), "{error}");
    }
    assert_eq!((partition.log_end(), partition.state()), (2, State::Online));
    assert_eq!(bench.dir().offline_reason(), None);
    let log = bench.partition_path(0).join(format!("{:020}.log", 0));
    assert_eq!(disk.contents(&log).unwrap().len() as u64, size, "cut back");
    // One that fits is taken.
    assert_eq!(
        bench
            .append(&partition, &mut batch(2, 300, 6))
            .unwrap()
            .base_offset,
        2
    );
    bench.dir().flush_once().unwrap();
    disk.set_capacity(None);
    for answer in bench.append_all(&partition, &mut sent) {
        answer.unwrap();
    }
    bench.dir().flush_once().unwrap();
    let before = committed(&partition);
    assert_eq!(before, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]);
    let partition = bench.kill();
    assert_eq!(committed(&partition), before);
}

#[test]
fn an_idempotent_producer_goes_on_where_the_full_disk_stopped_it() {
    for errno in [ENOSPC, EDQUOT] {
        let (disk, bench) = Bench::simulated(|_, _| {});
        let partition = bench.create();
        bench
            .append(&partition, &mut idempotent(9, 0, 0, 2))
            .unwrap();
        fail(&disk, Call::Write, ".log", errno);
        refused(bench.append(&partition, &mut idempotent(9, 0, 2, 2)));
        // Its next batch would leave a gap, the same one again does not.
        assert!(bench
            .append(&partition, &mut idempotent(9, 0, 4, 2))
            .is_err());
        let again = bench
            .append(&partition, &mut idempotent(9, 0, 2, 2))
            .unwrap();
        assert_eq!((again.base_offset, again.duplicate), (2, false));
        bench
            .append(&partition, &mut idempotent(9, 0, 4, 2))
            .unwrap();
    }
}

#[test]
fn no_room_and_no_descriptor_for_a_roll() {
    for (call, errno) in [
        (Call::Create, ENOSPC),
        (Call::Create, EDQUOT),
        (Call::Open, EMFILE),
    ] {
        let (disk, mut bench) = Bench::simulated(|_, config| config.segment_bytes = 1_000);
        let partition = bench.create();
        bench.append(&partition, &mut batch(1, 800, 1)).unwrap();
        fail(&disk, call, "001.log", errno);
        let error = refused(bench.append(&partition, &mut batch(1, 800, 1)));
        assert!(error.contains("/data/topics"), "{error}");
        assert_eq!(error.contains("ulimit -n"), errno == EMFILE, "{error}");
        assert_eq!((partition.log_end(), partition.state()), (1, State::Online));
        bench.append(&partition, &mut batch(1, 800, 1)).unwrap();
        bench.dir().flush_once().unwrap();
        assert_eq!(committed(&bench.kill()), [(0, 0), (1, 1)]);
    }
}

#[test]
fn a_write_that_fails_takes_its_partition_offline_and_no_other() {
    for undo in [false, true] {
        let (disk, mut bench) = Bench::simulated(|_, _| {});
        let both = bench.create_many(2);
        for partition in &both {
            bench.append(partition, &mut batch(2, 300, 1)).unwrap();
        }
        bench.dir().flush_once().unwrap();
        let mut write = EIO;
        if undo {
            // No room, and what was written of it cannot be taken back.
            fail(&disk, Call::SetLen, "/0/", EIO);
            write = ENOSPC;
        }
        fail(&disk, Call::Write, "/0/", write);
        refused(bench.append(&both[0], &mut batch(2, 300, 2)));
        let reason = both[0].offline_reason().unwrap();
        assert!(
            reason.contains("restart") && reason.contains("/data/topics"),
            "{reason}"
        );
        refused(bench.append(&both[0], &mut batch(2, 300, 2)));
        assert_eq!(
            committed(&both[0]),
            [(0, 1)],
            "what was committed is still read"
        );
        bench.append(&both[1], &mut batch(2, 300, 2)).unwrap();
        bench.dir().flush_once().unwrap();
        assert_eq!(committed(&both[1]), [(0, 1), (2, 3)]);
        drop(both);
        bench.dir().shutdown();
        bench.close();
        bench.open();
        let partition = bench.reopen_partition(0);
        assert_eq!(committed(&partition), [(0, 1)]);
        bench.append(&partition, &mut batch(2, 300, 2)).unwrap();
    }
}

#[test]
fn a_flush_that_fails_is_never_tried_again() {
    let calls = [
        (Call::SyncData, "/0/00000000000000000001.log"),
        (Call::SyncDir, "/0"),
        (Call::SyncFs, ""),
    ];
    for (call, path) in calls {
        for errno in [EIO, ENOSPC] {
            let (disk, mut bench) = Bench::simulated(|options, config| {
                options.syncfs = call == Call::SyncFs;
                config.segment_bytes = 1_000;
            });
            let both = bench.create_many(3);
            for partition in &both {
                bench.append(partition, &mut batch(1, 800, 1)).unwrap();
            }
            bench.dir().flush_once().unwrap();
            // Every one rolls: files and directories to flush.
            for partition in &both {
                bench.append(partition, &mut batch(1, 800, 2)).unwrap();
            }
            let label = format!("{call:?} {errno}");
            fail(&disk, call, path, errno);
            let error = bench.dir().flush_once().unwrap_err();
            assert!(matches!(error, LogError::Offline(_)), "{label}: {error}");
            assert!(error.to_string().contains("restart"), "{label}: {error}");
            assert_eq!(disk.fired(call), 1, "{label}");
            // Nothing that could hide it is called again.
            let calls = disk.calls();
            assert!(bench.dir().flush_once().is_err(), "{label}");
            assert!(bench.dir().flush_partition(&both[0]).is_err(), "{label}");
            assert!(bench.dir().checkpoint(false).is_err(), "{label}");
            for partition in &both {
                refused(bench.append(partition, &mut batch(1, 10, 3)));
                assert_eq!(
                    (partition.high_watermark(), partition.log_end()),
                    (1, 2),
                    "{label}"
                );
                assert_eq!(committed(partition), [(0, 0)], "{label}");
            }
            assert_eq!(disk.calls(), calls, "{label}");
            drop(both);
            bench.dir().shutdown();
            bench.close();
            disk.crash();
            bench.open();
            assert!(!bench.dir().was_clean(), "{label}");
            let partition = bench.reopen_partition(0);
            assert_eq!(committed(&partition)[0], (0, 0), "{label}");
            assert!(partition.log_end() <= 2, "{label}");
        }
    }
}

#[test]
fn no_room_for_a_small_file_is_tried_again() {
    for name in ["epochs", "checkpoint", "snapshot"] {
        let (disk, mut bench) = Bench::simulated(|_, _| {});
        let partition = bench.create();
        bench
            .append(&partition, &mut idempotent(3, 0, 0, 2))
            .unwrap();
        fail(&disk, Call::Write, &format!("{name}.tmp"), ENOSPC);
        let first = bench.dir().checkpoint(false);
        assert_eq!(disk.fired(Call::Write), 1, "{name}");
        assert_eq!(bench.dir().offline_reason(), None, "{name}: {first:?}");
        assert_eq!(
            partition.high_watermark() == 2,
            name != "epochs",
            "marks stay: {name}"
        );
        bench.dir().checkpoint(false).unwrap();
        assert_eq!(partition.high_watermark(), 2, "{name}");
        let partition = bench.kill();
        assert_eq!(committed(&partition), [(0, 1)], "{name}");
        assert!(
            bench
                .append(&partition, &mut idempotent(3, 0, 0, 2))
                .unwrap()
                .duplicate
        );
    }
}

/// What a reader may have seen: bytes by partition and base offset.
type Seen = BTreeMap<(i32, i64), Vec<u8>>;

fn see(partition: &Partition, seen: &mut Seen) {
    let mut offset = partition.log_start();
    while let Ok((next, bytes)) = fetch(partition, offset, 1 << 20, ReadUpTo::HighWatermark) {
        for one in Batches::new(&bytes) {
            let one = one.unwrap();
            let at = (partition.index(), one.header.base_offset);
            let before = seen.insert(at, one.bytes.to_vec());
            assert!(
                before.is_none_or(|before| before == one.bytes),
                "{at:?} was given again"
            );
        }
        if next <= offset {
            break;
        }
        offset = next;
    }
}

/// A life in which every step may fail; what was visible after each is noted.
fn live(bench: &Bench, partitions: &[Arc<Partition>], tag: u8, seen: &mut Seen) {
    for n in 0..6 {
        for partition in partitions {
            let _ = bench.append(partition, &mut batch(2, 300, tag + n));
            let _ = bench.append(
                partition,
                &mut idempotent(5, i16::from(tag), i32::from(n) * 2, 2),
            );
        }
        match n {
            1 | 4 => drop(bench.dir().checkpoint(false)),
            3 => drop(partitions[0].delete_records(4)),
            _ => drop(bench.dir().flush_once()),
        }
        bench.advance(1_000);
        bench
            .dir()
            .housekeeping(bench.clock.0.load(std::sync::atomic::Ordering::SeqCst));
        partitions.iter().for_each(|partition| see(partition, seen));
    }
}

fn open_two(bench: &Bench, dir: &DataDir) -> Vec<Arc<Partition>> {
    let config = Arc::new(bench.config.clone());
    let wanted = [0, 1].map(|index| (TOPIC, index, config.clone(), 0));
    let opened = dir.open_partitions(&wanted).into_iter();
    opened.map(|(_, _, partition)| partition.unwrap()).collect()
}

/// One call of one kind fails, once or from then on, somewhere in a life or in the start of the
/// next; then all is well again.
fn any_call(call: Call, skip: u32, times: u32, errno: i32, crash: bool) -> bool {
    let label = format!("{call:?} after {skip}, {times} times, errno {errno}, crash {crash}");
    let (disk, mut bench) = Bench::simulated(|options, config| {
        options.reserve_bytes = 5_000;
        config.segment_bytes = 2_500;
        config.index_interval_bytes = 600;
        config.file_delete_delay_ms = 1_000;
    });
    let mut seen = Seen::new();
    let mut partitions = bench.create_many(2);
    disk.fail(Fault {
        call,
        path: String::new(),
        skip,
        times,
        errno,
    });
    live(&bench, &partitions, 0, &mut seen);
    for life in 1..4 {
        partitions.clear();
        let fired = disk.fired(call);
        if life == 2 {
            bench.dir().shutdown();
        }
        bench.close();
        match (crash, life) {
            (true, 1) => disk.crash(),
            // The fault goes on into the next start.
            (false, 1) => {}
            _ => disk.kill(),
        }
        // A start that fails, or one whose partitions do, says where; the next one is whole.
        match bench.try_open() {
            Err(error) => {
                assert!(disk.fired(call) > fired, "{label}: {error}");
                assert!(error.to_string().contains(" /"), "{label}: {error}");
            }
            Ok(dir) => {
                for partition in open_two(&bench, &dir) {
                    let reason = partition.offline_reason();
                    assert!(reason.is_none_or(|reason| reason.contains('/')), "{label}");
                }
            }
        }
        disk.kill();
        disk.heal();
        bench.open();
        partitions = open_two(&bench, bench.dir());
        for partition in &partitions {
            assert_eq!(partition.offline_reason(), None, "{label}");
            let mut found = Seen::new();
            see(partition, &mut found);
            for (at, bytes) in seen.iter().filter(|(at, _)| at.0 == partition.index()) {
                let gone = at.1 < partition.log_start();
                assert!(
                    gone || found.get(at) == Some(bytes),
                    "{label}: {at:?} in life {life}"
                );
            }
        }
        live(&bench, &partitions, life * 10, &mut seen);
        for partition in &partitions {
            assert!(
                partition.high_watermark() >= partition.log_start(),
                "{label}"
            );
            assert!(seen.keys().any(|at| at.0 == partition.index()), "{label}");
        }
    }
    disk.fired(call) > 0
}

#[test]
fn any_call_may_fail() {
    let calls = [
        Call::Open,
        Call::Create,
        Call::Mkdir,
        Call::Rename,
        Call::Unlink,
        Call::List,
        Call::SyncDir,
        Call::Read,
        Call::Write,
        Call::SetLen,
        Call::SyncData,
        Call::SyncFs,
        Call::Allocate,
    ];
    let mut runs = 0;
    for call in calls {
        for (errno, times) in [(EIO, 1), (ENOSPC, 1), (ENOSPC, 1_000), (EMFILE, 3)] {
            for crash in [false, true] {
                // Until it comes too late to happen at all.
                for skip in 0..600 {
                    if !any_call(call, skip, times, errno, crash) {
                        break;
                    }
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 500, "{runs} runs");
}
