//! What arrives is checked, counted and skipped as it must be.

use mqlog_record::{BatchBuilder, Codec};

use super::*;
use crate::positions::Start;

fn batch(offset: i64, count: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None).base_offset(offset);
    for _ in 0..count {
        builder.append(None, Some(b"value"), 0, &[]).unwrap();
    }
    builder.build().unwrap()
}

fn arrive_all(records: Vec<u8>, offset: i64) -> Arrived {
    let body = Bytes::from(records);
    arrive(&body, &body, offset, 9, true)
}

#[test]
fn a_cut_tail_is_left_out() {
    let mut log = [batch(3, 2), batch(5, 4)].concat();
    let whole = arrive_all(log.clone(), 4);
    assert_eq!((whole.next, whole.batches, whole.error), (9, 2, None));
    assert_eq!(whole.records.len(), log.len());
    log.pop();
    let cut = arrive_all(log, 4);
    assert_eq!((cut.next, cut.batches, cut.error), (5, 1, None));
}

#[test]
fn a_bad_batch_ends_what_is_good_before_it() {
    let mut log = [batch(0, 3), batch(3, 2), batch(5, 4)].concat();
    let at = batch(0, 3).len() + 70;
    log[at] ^= 1;
    let bad = arrive_all(log.clone(), 0);
    assert_eq!((bad.next, bad.batches), (3, 1));
    assert!(
        matches!(bad.error, Some(Bad::Corrupt(3, _))),
        "{:?}",
        bad.error
    );
    let body = Bytes::from(log);
    let unchecked = arrive(&body, &body, 0, -1, false);
    assert_eq!((unchecked.next, unchecked.error), (9, None));
}

#[test]
fn offsets_must_follow_from_what_was_asked_for() {
    let misplaced = |log: Vec<u8>, offset| {
        let arrived = arrive_all(log, offset);
        assert!(
            matches!(arrived.error, Some(Bad::Misplaced(_))),
            "{arrived:?}"
        );
        (arrived.batches, arrived.next)
    };
    assert_eq!(misplaced(batch(0, 3), 3), (0, 3));
    assert_eq!(misplaced([batch(0, 3), batch(2, 3)].concat(), 0), (1, 3));
    assert_eq!(misplaced([batch(4, 3), batch(7, 3)].concat(), 0), (1, 7));
    assert_eq!(misplaced(batch(i64::MAX - 1, 5), 0), (0, 0));
    let gap = arrive_all([batch(1, 2), batch(7, 2)].concat(), 0);
    assert_eq!((gap.next, gap.error), (9, None));
}

#[test]
fn one_batch_that_does_not_fit_is_told_with_its_size() {
    let log = batch(0, 100);
    let size = log.len();
    let cut = arrive_all(log[..size - 1].to_vec(), 0);
    assert_eq!(cut.error, Some(Bad::TooLarge(size)));
    assert_eq!(arrive_all(Vec::new(), 0).error, None);
}

#[test]
fn paused_entries_stay_and_stale_ones_go() {
    let mut positions = Positions::default();
    let mut queue = Queue::default();
    for partition in 0..3 {
        positions.add(Start {
            topic: "t".into(),
            partition,
            offset: Some(0),
            epoch: -1,
        });
        queue.push(Fetched {
            handle: positions.find("t", partition).unwrap().handle,
            topic: "t".into(),
            partition,
            records: Bytes::from(batch(0, 1)),
            at: 0,
            aborted: Aborted::default(),
            end: None,
            pin: None,
        });
    }
    positions.find_mut("t", 0).unwrap().paused = true;
    positions.find_mut("t", 0).unwrap().fetch_offset = 1;
    positions.seek("t", 1, Some(5), -1);
    assert!(queue.is_ready(&positions));
    assert_eq!(queue.pop(&positions).map(|one| one.partition), Some(2));
    assert!(queue.pop(&positions).is_none() && queue.has_paused(&positions));
    queue.drop_paused(&mut positions);
    assert!(queue.entries.is_empty());
    assert_eq!(positions.find("t", 0).unwrap().fetch_offset, 0);
}

#[test]
fn aborted_transactions_are_skipped_until_their_marker() {
    let one = |producer_id, first_offset| AbortedTransaction {
        producer_id,
        first_offset,
    };
    let header = |offset, producer| {
        let mut builder = BatchBuilder::new(Codec::None)
            .base_offset(offset)
            .producer(producer, 0, 0)
            .transactional();
        builder.append(None, None, 0, &[]).unwrap();
        BatchHeader::parse(&builder.build().unwrap()).unwrap()
    };
    let mut aborted = Aborted::new(vec![one(1, 5), one(2, 1), one(1, 20)]);
    assert!(!aborted.skips(&header(0, 1)));
    assert!(aborted.skips(&header(1, 2)) && aborted.skips(&header(1, 2)));
    assert!(aborted.skips(&header(6, 1)));
    aborted.marker(2, Marker::Commit);
    assert!(aborted.skips(&header(7, 2)));
    aborted.marker(1, Marker::Abort);
    assert!(!aborted.skips(&header(8, 1)) && aborted.skips(&header(20, 1)));
}
