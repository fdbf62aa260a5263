//! Starts after a crash: what is torn is cut, what is damaged stays and is told, offsets are not
//! given twice.
#![allow(clippy::unwrap_used)]

mod support;

use mqlog_log::{HoleKind, ReadError, ReadUpTo};
use mqlog_record::{assign, Batches};
use support::*;

const END: ReadUpTo = ReadUpTo::LogEnd;

/// Ten flushed batches of two records, at 0, 2, 4, ...; a checkpoint after the first `known`.
fn ten(bench: &Bench, known: usize) -> std::sync::Arc<mqlog_log::Partition> {
    let partition = bench.create();
    for n in 0..10 {
        if n == known {
            bench.dir().checkpoint(false).unwrap();
        }
        bench
            .append(&partition, &mut batch(2, 300, n as u8))
            .unwrap();
    }
    bench.dir().flush_once().unwrap();
    partition
}

fn size() -> usize {
    batch(2, 300, 0).len()
}

#[test]
fn a_clean_restart_reads_nothing() {
    let mut bench = Bench::new();
    let before = read_all(&ten(&bench, 3), 0, END);
    let partition = bench.restart();
    assert!(bench.dir().was_clean());
    assert!(partition.recovery().clean);
    assert_eq!(bench.dir().stats().recovered_partitions, 0);
    let range = partition.read_blocking(0, 1 << 20, true, END).unwrap();
    assert!(range.needs_check(), "bytes of another life");
    assert_eq!(read_all(&partition, 0, END), before);
    assert!(!partition.read(0, 1 << 20, true, END).unwrap().needs_check());
}

#[test]
fn a_crash_loses_nothing_the_kernel_has() {
    let mut bench = Bench::new();
    let before = read_all(&ten(&bench, 3), 0, END);
    let partition = bench.kill();
    assert!(!bench.dir().was_clean());
    assert_eq!(partition.recovery().checked_bytes, 7 * size() as u64);
    assert_eq!(read_all(&partition, 0, END), before);
    assert_eq!(
        (partition.high_watermark(), partition.durable_end()),
        (20, 20)
    );
    assert_eq!(
        bench
            .append(&partition, &mut batch(1, 1, 1))
            .unwrap()
            .base_offset,
        20
    );
}

#[test]
fn a_torn_tail_is_cut_kept_and_its_offsets_are_skipped() {
    let mut bench = Bench::new();
    ten(&bench, 3);
    bench.close();
    let log = log_file(&bench.partition_path(0), 0);
    let whole = std::fs::read(&log).unwrap();
    edit(&log, |bytes| bytes.truncate(9 * size() + 200));
    bench.open();
    let partition = bench.reopen_partition(0);
    let recovery = partition.recovery();
    assert_eq!((recovery.cut_bytes, recovery.cut_at), (200, 18));
    assert_eq!(bench.dir().stats().cut_bytes, 200);
    assert_eq!(read_all(&partition, 0, END).len(), 9);
    // Its header was there: 18 and 19 may have been acknowledged.
    assert_eq!(
        bench
            .append(&partition, &mut batch(1, 1, 1))
            .unwrap()
            .base_offset,
        20
    );
    bench.dir().flush_once().unwrap();
    let holes = partition.holes();
    assert_eq!(holes.len(), 1);
    assert_eq!(
        (holes[0].from, holes[0].to, holes[0].kind),
        (18, 20, HoleKind::Cut)
    );
    assert_eq!(
        offsets(&read_all(&partition, 0, END)).last(),
        Some(&(20, 20))
    );
    let cut = files(&bench.path().join("cut"), "");
    assert_eq!(cut.len(), 1);
    let kept = std::fs::read(bench.path().join("cut").join(&cut[0])).unwrap();
    assert_eq!(kept, whole[9 * size()..9 * size() + 200]);
    // And again after both kinds of restart.
    let partition = bench.kill();
    assert_eq!(
        offsets(&read_all(&partition, 0, END)).last(),
        Some(&(20, 20))
    );
    let partition = bench.restart();
    assert_eq!(partition.log_end(), 21);
    assert_eq!(read_all(&partition, 0, END).len(), 10);
}

#[test]
fn zeros_at_the_end_are_cut_without_a_copy() {
    let mut bench = Bench::new();
    ten(&bench, 3);
    bench.close();
    let log = log_file(&bench.partition_path(0), 0);
    edit(&log, |bytes| bytes.resize(bytes.len() + 10_000, 0));
    bench.open();
    let partition = bench.reopen_partition(0);
    assert_eq!(partition.recovery().cut_bytes, 10_000);
    assert!(files(&bench.path().join("cut"), "").is_empty());
    assert_eq!(partition.log_end(), 20);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 10 * size() as u64);
}

#[test]
fn damage_with_good_batches_behind_it_is_quarantined() {
    for (at, what) in [
        (5 * size() + 200, "payload"),
        (5 * size() + 2, "offset"),
        (5 * size() + 60, "count"),
    ] {
        let mut bench = Bench::new();
        ten(&bench, 3);
        bench.close();
        edit(&log_file(&bench.partition_path(0), 0), |bytes| {
            bytes[at] ^= 0x5a
        });
        bench.open();
        let partition = bench.reopen_partition(0);
        for restarted in [false, true] {
            assert_eq!(partition.log_end(), 20, "{what}");
            let holes = partition.holes();
            assert_eq!(holes.len(), 1, "{what}");
            assert_eq!((holes[0].from, holes[0].to), (10, 12), "{what}");
            assert_eq!(holes[0].kind, HoleKind::Damaged);
            // Before it ends at it, inside is an error, after it is served.
            let (next, bytes) = fetch(&partition, 0, 1 << 20, END).unwrap();
            assert_eq!((next, Batches::new(&bytes).count()), (10, 5), "{what}");
            for offset in [10, 11] {
                let error = fetch(&partition, offset, 1 << 20, END).unwrap_err();
                assert_eq!(error.code(), 2, "{what} {error}");
                assert!(error.to_string().contains("mqlog log verify"), "{error}");
            }
            assert_eq!(read_all(&partition, 12, END).len(), 4, "{what}");
            if !restarted {
                assert_eq!(
                    bench
                        .append(&partition, &mut batch(1, 1, 1))
                        .unwrap()
                        .base_offset,
                    20
                );
                partition.truncate_to(20, true).unwrap();
            }
        }
        let partition = bench.kill();
        assert_eq!(partition.holes().len(), 1, "{what}");
        assert_eq!(read_all(&partition, 12, END).len(), 4, "{what}");
    }
}

#[test]
fn damage_below_the_checkpoint_is_found_when_it_is_read() {
    let mut bench = Bench::new();
    ten(&bench, 10);
    bench.dir().checkpoint(false).unwrap();
    bench.close();
    edit(&log_file(&bench.partition_path(0), 0), |bytes| {
        bytes[2 * size() + 100] ^= 1
    });
    bench.open();
    let partition = bench.reopen_partition(0);
    assert_eq!(partition.recovery().checked_bytes, 0);
    assert!(partition.holes().is_empty());
    let (next, bytes) = fetch(&partition, 0, 1 << 20, END).unwrap();
    assert_eq!((next, Batches::new(&bytes).count()), (4, 2));
    assert_eq!(fetch(&partition, 4, 1 << 20, END).unwrap_err().code(), 2);
    assert_eq!(read_all(&partition, 6, END).len(), 7);
    let partition = bench.kill();
    assert_eq!(partition.holes().len(), 1, "remembered");
    // The way past it.
    bench.dir().checkpoint(false).unwrap();
    assert_eq!(partition.delete_records(6).unwrap(), 6);
    assert!(partition.holes().is_empty());
    assert_eq!(read_all(&partition, 6, END).len(), 7);
}

#[test]
fn an_offset_flipped_outside_the_checksum_is_not_believed() {
    let mut bench = Bench::new();
    ten(&bench, 3);
    bench.close();
    // Batch 9 says it is at 1018: its checksum is still right.
    let log = log_file(&bench.partition_path(0), 0);
    edit(&log, |bytes| assign(&mut bytes[9 * size()..], 1018, 0));
    bench.open();
    let partition = bench.reopen_partition(0);
    assert_eq!(partition.log_end(), 18);
    // A leader epoch that metadata never gave out.
    bench.close();
    edit(&log, |bytes| assign(&mut bytes[8 * size()..], 16, 77));
    bench.open();
    let partition = bench.reopen_partition(3);
    assert_eq!(partition.recovery().last_epoch, 0);
}

#[test]
fn a_leader_epoch_beyond_metadata_counts_if_metadata_lost_its_end() {
    for believed in [true, false] {
        let mut bench = Bench::new();
        let partition = ten(&bench, 3);
        partition.set_leader_epoch(5);
        bench.append(&partition, &mut batch(2, 300, 10)).unwrap();
        bench.close();
        bench.open();
        if believed {
            bench.dir().believe_log_epochs();
        }
        let partition = bench.reopen_partition(4);
        let recovery = partition.recovery();
        let expected = if believed { (5, 22) } else { (0, 20) };
        assert_eq!(recovery.last_epoch, expected.0);
        assert_eq!(
            read_all(&partition, 0, END).last().unwrap().next_offset(),
            expected.1
        );
    }
}

#[test]
fn a_log_shorter_than_the_checkpoint_says_never_gives_its_offsets_again() {
    let mut bench = Bench::new();
    ten(&bench, 10);
    bench.dir().checkpoint(false).unwrap();
    bench.close();
    let log = log_file(&bench.partition_path(0), 0);
    edit(&log, |bytes| bytes.truncate(6 * size() + 50));
    bench.open();
    let mut partition = bench.reopen_partition(0);
    for _ in 0..2 {
        let holes = partition.holes();
        assert_eq!(holes.len(), 1);
        assert_eq!(
            (holes[0].from, holes[0].to, holes[0].kind),
            (12, 20, HoleKind::Lost)
        );
        assert_eq!(fetch(&partition, 12, 1 << 20, END).unwrap_err().code(), 2);
        let (next, bytes) = fetch(&partition, 0, 1 << 20, END).unwrap();
        assert_eq!((next, Batches::new(&bytes).count()), (12, 6));
        assert!(partition.log_end() >= 20);
        let end = partition.log_end();
        assert_eq!(
            bench
                .append(&partition, &mut batch(1, 1, 1))
                .unwrap()
                .base_offset,
            end
        );
        assert_eq!(read_all(&partition, 20, END).len() as i64, end - 20 + 1);
        partition = bench.kill();
    }
    assert_eq!(partition.log_end(), 22);
    let partition = bench.restart();
    assert_eq!((partition.log_end(), partition.holes().len()), (22, 1));
}

#[test]
fn later_segments_count_as_what_follows() {
    let mut bench = Bench::with(|_, config| config.segment_bytes = 3 * size() as u32);
    ten(&bench, 0);
    bench.close();
    let dir = bench.partition_path(0);
    assert_eq!(files(&dir, ".log").len(), 4);
    // The last batch of the second segment.
    edit(&log_file(&dir, 6), |bytes| bytes[2 * size() + 100] ^= 1);
    // The third is cut short: what it lacks is lost, the fourth is there.
    edit(&log_file(&dir, 12), |bytes| bytes.truncate(2 * size()));
    bench.open();
    let partition = bench.reopen_partition(0);
    let holes: Vec<_> = partition
        .holes()
        .iter()
        .map(|h| (h.from, h.to, h.kind))
        .collect();
    assert_eq!(
        holes,
        [(10, 12, HoleKind::Damaged), (16, 18, HoleKind::Lost)]
    );
    assert_eq!(partition.log_end(), 20);
    assert_eq!(read_all(&partition, 18, END).len(), 1);
    assert!(matches!(
        fetch(&partition, 17, 9, END),
        Err(ReadError::Corrupt { .. })
    ));
    let (next, _) = fetch(&partition, 12, 1 << 20, END).unwrap();
    assert_eq!(next, 16);
    let partition = bench.kill();
    assert_eq!(partition.holes().len(), 2);
}

#[test]
fn indexes_are_hints() {
    for damage in 0..5 {
        let mut bench = Bench::with(|_, config| {
            config.segment_bytes = 40_000;
            config.index_interval_bytes = 500;
        });
        let partition = bench.create();
        for n in 0..100 {
            bench.append(&partition, &mut batch(2, 300, n)).unwrap();
        }
        bench.dir().shutdown();
        bench.close();
        let dir = bench.partition_path(0);
        for name in files(&dir, ".idx") {
            let path = dir.join(name);
            match damage {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => edit(&path, |bytes| bytes.truncate(bytes.len() / 2)),
                2 => edit(&path, |bytes| *bytes.last_mut().unwrap() ^= 1),
                3 => edit(&path, |bytes| bytes[20] ^= 1),
                // A whole good block of another place: right checksum, wrong entries.
                _ => edit(&path, |bytes| {
                    let count = (bytes.len() - 24) / 16;
                    for at in 0..count {
                        let place = 24 + at * 16 + 4;
                        let position =
                            u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
                        bytes[place..place + 4].copy_from_slice(&(position - 7).to_le_bytes());
                    }
                    let mut covered = bytes[16..20].to_vec();
                    covered.extend_from_slice(&bytes[24..]);
                    let crc = mqlog_record::crc32c(&covered);
                    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
                }),
            }
        }
        bench.open();
        let partition = bench.reopen_partition(0);
        for offset in (0..200).step_by(3) {
            let (_, bytes) = fetch(&partition, offset, 700, END).unwrap();
            let header = Batches::new(&bytes).next().unwrap().unwrap().header;
            assert_eq!(header.base_offset, offset / 2 * 2, "damage {damage}");
        }
        assert_eq!(read_all(&partition, 0, END).len(), 100, "damage {damage}");
    }
}

#[test]
fn any_own_file_may_be_missing_or_damaged() {
    for name in ["checkpoint", "checkpoint.old", "epochs", "snapshot", "all"] {
        for damage in ["remove", "flip", "truncate", "zero"] {
            for clean in [false, true] {
                let mut bench = Bench::with(|_, config| config.segment_bytes = 3_000);
                let partition = bench.create();
                for n in 0..12 {
                    let mut sent = idempotent(7, 0, n * 3, 3);
                    bench.append(&partition, &mut sent).unwrap();
                    bench
                        .append(&partition, &mut batch(2, 300, n as u8))
                        .unwrap();
                    if n % 4 == 0 {
                        bench.dir().checkpoint(false).unwrap();
                    }
                }
                bench.dir().flush_once().unwrap();
                let before = read_all(&partition, 0, END);
                if clean {
                    bench.dir().shutdown();
                }
                bench.close();
                let dir = bench.partition_path(0);
                let mut paths = vec![
                    bench.path().join("checkpoint"),
                    bench.path().join("checkpoint.old"),
                    dir.join("epochs"),
                ];
                paths.extend(files(&dir, ".snapshot").iter().map(|name| dir.join(name)));
                for path in paths {
                    if name != "all" && !path.to_str().unwrap().ends_with(name) {
                        continue;
                    }
                    match damage {
                        "remove" => std::fs::remove_file(&path).unwrap(),
                        "flip" => edit(&path, |bytes| {
                            let middle = bytes.len() / 2;
                            bytes[middle] ^= 0x10;
                        }),
                        "truncate" => edit(&path, |bytes| bytes.truncate(bytes.len() / 2)),
                        _ => edit(&path, |bytes| bytes.fill(0)),
                    }
                }
                let label = format!("{name} {damage} clean: {clean}");
                bench.open();
                let partition = bench.reopen_partition(0);
                assert_eq!(partition.offline_reason(), None, "{label}");
                assert_eq!(read_all(&partition, 0, END), before, "{label}");
                assert_eq!(partition.epoch_at(3), 0, "{label}");
                let again = bench
                    .append(&partition, &mut idempotent(7, 0, 33, 3))
                    .unwrap();
                assert!(again.duplicate, "{label}");
                let next = bench
                    .append(&partition, &mut idempotent(7, 0, 36, 3))
                    .unwrap();
                assert!(!next.duplicate, "{label}");
            }
        }
    }
}

#[test]
fn a_directory_that_is_gone_is_offline_and_never_empty() {
    let mut bench = Bench::new();
    ten(&bench, 3);
    bench.close();
    let dir = bench.partition_path(0);
    std::fs::rename(&dir, dir.with_extension("away")).unwrap();
    bench.open();
    let partition = bench.reopen_partition(0);
    let reason = partition.offline_reason().unwrap().to_string();
    assert!(reason.contains(dir.to_str().unwrap()), "{reason}");
    assert!(reason.contains("restore it"), "{reason}");
    assert_eq!(
        bench
            .append(&partition, &mut batch(1, 1, 1))
            .unwrap_err()
            .code(),
        56
    );
    assert_eq!(fetch(&partition, 0, 1, END).unwrap_err().code(), 56);
    // Its checkpoint line is carried along: once the files are back, all is as it was.
    bench.dir().shutdown();
    bench.close();
    std::fs::rename(dir.with_extension("away"), &dir).unwrap();
    bench.open();
    let partition = bench.reopen_partition(0);
    assert_eq!(read_all(&partition, 0, END).len(), 10);
    // A directory without a log file is no better.
    bench.close();
    std::fs::remove_file(log_file(&dir, 0)).unwrap();
    bench.open();
    assert!(bench.reopen_partition(0).offline_reason().is_some());
}

#[test]
fn what_has_no_room_in_cut_is_not_cut() {
    let mut bench = Bench::with(|options, _| options.cut_max_bytes = 100);
    ten(&bench, 3);
    bench.close();
    let log = log_file(&bench.partition_path(0), 0);
    edit(&log, |bytes| bytes.truncate(9 * size() + 200));
    let before = std::fs::read(&log).unwrap();
    bench.open();
    let partition = bench.reopen_partition(0);
    let reason = partition.offline_reason().unwrap();
    assert!(reason.contains("cut/"), "{reason}");
    assert_eq!(std::fs::read(&log).unwrap(), before);
}

#[test]
fn recovery_that_is_stopped_and_begun_again_comes_to_the_same_end() {
    let mut bench = Bench::with(|_, config| config.segment_bytes = 3 * size() as u32);
    ten(&bench, 4);
    bench.close();
    let dir = bench.partition_path(0);
    edit(&log_file(&dir, 18), |bytes| bytes.truncate(100));
    let mut ends = Vec::new();
    for _ in 0..4 {
        bench.open();
        let partition = bench.reopen_partition(0);
        ends.push((
            partition.log_end(),
            partition.holes(),
            read_all(&partition, 0, END).len(),
        ));
        bench.close();
    }
    assert_eq!(ends[0].0, 20);
    assert_eq!(ends[0].2, 9);
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
}
