//! A client that fetches again and again gets on: whatever the limit, wherever a range has to end,
//! it gets at least one whole batch below the high watermark each time.
#![allow(clippy::unwrap_used)]

mod support;

use mqlog_log::{Partition, ReadError, ReadUpTo};
use mqlog_record::{BatchHeader, Batches};
use support::*;

const UP_TO: ReadUpTo = ReadUpTo::HighWatermark;

/// Fetches from `offset` to the high watermark with this limit; says how many fetches that took.
fn drain(partition: &Partition, mut offset: i64, max_bytes: usize) -> usize {
    let end = partition.high_watermark();
    let mut fetches = 0;
    while offset < end {
        let (next, bytes) = fetch(partition, offset, max_bytes, UP_TO).unwrap();
        let headers: Vec<BatchHeader> = Batches::new(&bytes).map(|b| b.unwrap().header).collect();
        let label = format!("at {offset} of {end} with {max_bytes}");
        let (first, last) = (headers.first().expect(&label), headers.last().unwrap());
        assert!(
            first.base_offset <= offset && offset <= first.last_offset(),
            "{label}"
        );
        assert_eq!(next, last.next_offset(), "{label}");
        assert!(bytes.len() <= max_bytes.max(first.size()), "{label}");
        assert!(
            headers
                .windows(2)
                .all(|pair| pair[0].next_offset() == pair[1].base_offset),
            "{label}"
        );
        offset = next;
        fetches += 1;
    }
    assert_eq!(fetch(partition, end, max_bytes, UP_TO).unwrap().1.len(), 0);
    fetches
}

/// Three lives of batches of uneven sizes, over several segments; what the last life wrote lies in
/// a segment that holds bytes of an earlier one.
fn three_lives(clean: bool) -> (Bench, std::sync::Arc<Partition>) {
    let mut bench = Bench::with(|_, config| {
        config.segment_bytes = 20_000;
        config.index_interval_bytes = 1_000;
    });
    let mut partition = bench.create();
    for life in 0..3 {
        for n in 0..17 {
            let len = 20 + n * 97 % 1_500;
            let mut sent = batch(1 + (n % 4) as i32, len, (life * 17 + n) as u8);
            bench.append(&partition, &mut sent).unwrap();
        }
        bench.dir().flush_once().unwrap();
        if life == 2 {
            break;
        }
        partition = match clean {
            true => bench.restart(),
            false => {
                // So that the next life finds bytes that it does not check at its start.
                bench.dir().checkpoint(false).unwrap();
                bench.kill()
            }
        };
    }
    (bench, partition)
}

#[test]
fn a_client_gets_on_whatever_its_limit() {
    for clean in [true, false] {
        for max_bytes in [0, 1, 61, 400, 1_700, 5_000, 19_999, 1 << 20] {
            let (_bench, partition) = three_lives(clean);
            let segments = partition.segments();
            assert!(segments.len() > 3);
            let unchecked = partition.read_blocking(0, 1 << 20, true, UP_TO).unwrap();
            assert!(unchecked.needs_check(), "of an earlier life");
            let fetches = drain(&partition, 0, max_bytes);
            if max_bytes == 1 << 20 {
                assert!(fetches >= segments.len(), "one range is in one segment");
            }
            // Now that all is checked.
            drain(&partition, 0, max_bytes);
        }
    }
}

#[test]
fn a_client_gets_on_from_every_offset_first() {
    for clean in [true, false] {
        let (_bench, partition) = three_lives(clean);
        // From the end, so that every range but one meets bytes that nobody checked before it.
        for offset in (0..partition.high_watermark()).rev() {
            drain(&partition, offset, 3_000);
        }
    }
}

#[test]
fn offsets_that_a_closed_segment_lost_are_an_error_and_never_an_empty_answer() {
    for first in [0, 5] {
        let mut bench = Bench::with(|_, config| config.segment_bytes = 3_000);
        let partition = bench.create();
        for n in 0..9 {
            bench.append(&partition, &mut batch(2, 400, n)).unwrap();
        }
        bench.dir().shutdown();
        bench.close();
        let size = batch(2, 400, 0).len();
        edit(&log_file(&bench.partition_path(0), 0), |bytes| {
            bytes.truncate(2 * size)
        });
        bench.open();
        let partition = bench.reopen_partition(0);
        assert!(
            partition.recovery().clean,
            "a closed segment is not looked at"
        );
        if first == 5 {
            // Nobody has read what is before the loss.
            let error = fetch(&partition, 5, 1 << 20, UP_TO).unwrap_err();
            assert!(
                matches!(error, ReadError::Corrupt { from: 4, to: 6, .. }),
                "{error}"
            );
        }
        let (next, bytes) = fetch(&partition, 0, 1 << 20, UP_TO).unwrap();
        assert_eq!((next, bytes.len()), (4, 2 * size));
        assert_eq!(fetch(&partition, 4, 1 << 20, UP_TO).unwrap_err().code(), 2);
        assert_eq!(partition.holes().len(), 1);
        drain(&partition, 6, 1);
    }
}

#[test]
fn an_offset_outside_the_checksum_leads_nobody_astray() {
    // Batch 2 claims to be at 14, where batch 7 is: its checksum is right.
    for first in [4, 5, 14, 0] {
        let mut bench = Bench::with(|_, config| config.index_interval_bytes = 700);
        let partition = bench.create();
        for n in 0..10 {
            bench.append(&partition, &mut batch(2, 300, n)).unwrap();
        }
        bench.dir().shutdown();
        bench.close();
        let dir = bench.partition_path(0);
        let size = batch(2, 300, 0).len();
        edit(&log_file(&dir, 0), |bytes| {
            mqlog_record::assign(&mut bytes[2 * size..], 14, 0);
        });
        for name in files(&dir, ".idx") {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        bench.open();
        let partition = bench.reopen_partition(0);
        let answer = fetch(&partition, first, 1, UP_TO);
        match first {
            4 | 5 => assert_eq!(answer.unwrap_err().code(), 2, "at {first}"),
            _ => {
                let (_, bytes) = answer.unwrap();
                let header = Batches::new(&bytes).next().unwrap().unwrap().header;
                assert_eq!(header.base_offset, first);
                assert!(bytes.ends_with(&[batch(2, 300, first as u8 / 2).pop().unwrap()]));
            }
        }
        let (next, bytes) = fetch(&partition, 0, 1 << 20, UP_TO).unwrap();
        assert_eq!((next, Batches::new(&bytes).count()), (4, 2));
        assert_eq!(fetch(&partition, 4, 1 << 20, UP_TO).unwrap_err().code(), 2);
        assert_eq!(read_all(&partition, 6, UP_TO).len(), 7);
    }
}
