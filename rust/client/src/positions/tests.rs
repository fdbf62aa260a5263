//! Assignments, seeks, doubts, and whose position moves when.

use super::*;

fn start(topic: &str, partition: i32, offset: i64) -> Start {
    Start {
        topic: topic.into(),
        partition,
        offset: Some(offset),
        epoch: -1,
    }
}

#[test]
fn an_assignment_keeps_what_stays() {
    let mut positions = Positions::default();
    positions.assign(vec![start("a", 0, 5), start("b", 1, 6)]);
    let kept = positions.find("a", 0).unwrap().handle;
    let gone = positions.find("b", 1).unwrap().handle;
    positions.find_mut("a", 0).unwrap().position = 9;
    positions.assign(vec![start("a", 0, 0), start("c", 2, 7)]);
    assert_eq!(positions.get(kept).unwrap().position, 9);
    assert_eq!(positions.is_readable(gone), Readable::Stale);
    assert!(positions.get(gone).is_none() && positions.find("b", 1).is_none());
    assert_eq!(
        (
            positions.iter().count(),
            positions.find("c", 2).unwrap().position
        ),
        (2, 7)
    );
}

#[test]
fn a_seek_makes_what_was_fetched_stale() {
    let mut positions = Positions::default();
    positions.add(start("a", 0, 5));
    let before = positions.find("a", 0).unwrap().handle;
    positions.find_mut("a", 0).unwrap().paused = true;
    assert_eq!(positions.is_readable(before), Readable::Paused);
    assert!(positions.seek("a", 0, Some(3), -1));
    assert_eq!(positions.is_readable(before), Readable::Stale);
    let one = positions.find("a", 0).unwrap();
    assert!(one.paused && one.position == 3 && one.fetch_offset == 3);
    assert!(!positions.seek("a", 1, Some(3), -1));
    assert!(positions.seek("a", 0, None, -1));
    assert_eq!(positions.find("a", 0).unwrap().facts().position, None);
}

#[test]
fn a_newer_leader_raises_a_doubt_once() {
    let mut positions = Positions::default();
    positions.add(Start {
        epoch: 4,
        ..start("a", 0, 5)
    });
    let one = positions.find_mut("a", 0).unwrap();
    (one.leader, one.leader_epoch) = (Some(1), 4);
    assert!(!positions.doubts());
    positions.find_mut("a", 0).unwrap().leader_epoch = 6;
    let before = positions.find("a", 0).unwrap().handle;
    let event = Event::Validate {
        topic: "a".into(),
        partition: 0,
        offset: 5,
        epoch: 4,
        leader_epoch: 6,
    };
    assert!(positions.doubts());
    assert_eq!(positions.find("a", 0).unwrap().event(), Some(event));
    assert_eq!(positions.is_readable(before), Readable::Yes);
    assert!(!positions.doubts());
    assert!(positions.validated("a", 0) && !positions.validated("a", 0));
    assert!(!positions.doubts());
    assert_eq!(positions.find("a", 0).unwrap().epoch, 4);
}

#[test]
fn a_truncation_above_the_user_is_dropped_quietly() {
    let mut positions = Positions::default();
    positions.add(Start {
        epoch: 4,
        ..start("a", 0, 5)
    });
    let one = positions.find_mut("a", 0).unwrap();
    (one.leader, one.leader_epoch) = (Some(1), 6);
    (one.fetch_offset, one.read, one.given) = (20, 15, 15);
    let before = one.handle;
    assert!(positions.doubts());
    assert!(positions.truncated("a", 0, 4), "the user has got more");
    assert!(!positions.truncated("a", 0, 5));
    assert_eq!(positions.is_readable(before), Readable::Stale);
    let one = positions.find("a", 0).unwrap();
    assert_eq!(
        (one.fetch_offset, one.read, &one.phase),
        (5, 5, &Phase::Fetching)
    );
    assert!(!positions.doubts());
}

#[test]
fn the_position_moves_with_what_the_user_got() {
    let mut positions = Positions::default();
    positions.add(start("a", 0, 5));
    let one = positions.find_mut("a", 0).unwrap();
    one.reached(6, false);
    assert_eq!(one.position, 6, "nobody sees what was skipped");
    one.reached(10, true);
    one.reached(12, false);
    assert_eq!((one.position, one.read), (6, 12));
    one.advance(8, 3);
    assert_eq!((one.position, one.epoch), (8, 3));
    one.advance(10, 3);
    assert_eq!(one.position, 12);
}
