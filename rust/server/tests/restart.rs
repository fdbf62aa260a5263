//! What a broker finds again after a shutdown, and after a crash of its process.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::*;
use mqlog_protocol::ApiKey::{Fetch, Metadata, Produce};

/// Everything in the partition, as a consumer gets it: an answer ends with its segment, and a
/// restart closes a segment whose first batch is old.
fn values(client: &mut Client) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    loop {
        let answer = client.ask(Fetch, 11, &fetch("t", 0, all.len() as i64));
        assert_eq!(fetched(&answer).int("error_code"), 0);
        let some = records(fetched(&answer).bytes("records"));
        if some.is_empty() {
            assert_eq!(fetched(&answer).int("high_watermark"), all.len() as i64);
            return all;
        }
        all.extend(some);
    }
}

fn say(client: &mut Client, value: &str) -> i64 {
    let answer = client.ask(Produce, 8, &produce("t", -1, &[(0, batch(&[value]))]));
    assert_eq!(produced(&answer).int("error_code"), 0);
    produced(&answer).int("base_offset")
}

fn leader_epoch(client: &mut Client) -> i64 {
    let answer = client.ask(Metadata, 8, &node! { topics: vec![node! { name: "t" }] });
    answer
        .get("topics")
        .at(0)
        .get("partitions")
        .at(0)
        .int("leader_epoch")
}

#[test]
fn a_clean_restart_changes_nothing() {
    let mut broker = Harness::fsync();
    broker.create("t", 1);
    let cluster = broker.broker().cluster_id().to_owned();
    let mut client = broker.connect();
    assert_eq!(say(&mut client, "one"), 0);
    assert_eq!(leader_epoch(&mut client), 0);
    broker.stop();
    assert!(client.is_closed());
    broker.start();
    assert!(broker.broker().start_report().clean);
    assert_eq!(broker.broker().cluster_id(), cluster);
    let mut client = broker.connect();
    assert_eq!(leader_epoch(&mut client), 0);
    assert_eq!(say(&mut client, "two"), 1);
    assert_eq!(
        values(&mut client),
        [(0, "one".to_owned()), (1, "two".to_owned())]
    );
}

#[test]
fn after_a_crash_what_was_acknowledged_is_there_in_a_new_leader_epoch() {
    let mut broker = Harness::fsync();
    broker.create("t", 1);
    for round in 0..3 {
        let mut client = broker.connect();
        assert_eq!(leader_epoch(&mut client), round);
        assert_eq!(say(&mut client, &format!("round {round}")), round);
        broker.kill();
        broker.start();
        assert!(!broker.broker().start_report().clean);
    }
    let expected: Vec<_> = (0..3).map(|n| (n, format!("round {n}"))).collect();
    assert_eq!(values(&mut broker.connect()), expected);
}

#[test]
fn metadata_that_lost_its_end_costs_no_data_and_no_epoch_is_used_twice() {
    let mut broker = Harness::fsync();
    broker.create("t", 1);
    say(&mut broker.connect(), "epoch 0");
    broker.kill();
    broker.start();
    say(&mut broker.connect(), "epoch 1");
    broker.kill();
    // The start's own record, that epochs were raised, is torn; a log has the new one already.
    let data = broker.config.data_dir.clone();
    let log = data.join("meta/00000000000000000000.log");
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 9]).unwrap();
    let unknown = data.join("topics").join("5".repeat(32));
    std::fs::create_dir(&unknown).unwrap();
    broker.start();
    let mut client = broker.connect();
    let expected = ["epoch 0", "epoch 1"].map(str::to_owned);
    assert_eq!(
        values(&mut client),
        [(0, expected[0].clone()), (1, expected[1].clone())]
    );
    assert_eq!(leader_epoch(&mut client), 2);
    // What metadata does not name may be what it forgot.
    let report = broker.broker().start_report();
    assert_eq!(report.orphans, [unknown.display().to_string()]);
    assert!(unknown.exists());
}

#[test]
fn shutdown_finishes_what_was_begun() {
    let mut broker = Harness::fsync();
    broker.create("t", 1);
    let mut client = broker.connect();
    let mut waiting = broker.connect();
    waiting.send(Fetch, 11, &fetch_with("t", 0, 0, 60_000, 1 << 20));
    broker.count_reaches("fetch_waits", 1);
    for _ in 0..50 {
        client.send(Produce, 8, &produce("t", -1, &[(0, batch(&["x"]))]));
    }
    broker.count_reaches("batches_in", 50);
    broker.stop();
    let answered = (0..50).filter(|_| client.receive_raw().is_some()).count();
    assert_eq!(answered, 50);
    assert!(client.is_closed());
    assert_eq!(waiting.receive(Fetch, 11).0, 1);
    assert!(waiting.is_closed());
}

#[test]
fn one_directory_serves_one_broker() {
    let broker = Harness::fsync();
    let second = mqlog_server::Broker::start(
        broker.config.clone(),
        std::sync::Arc::new(mqlog_server::NoControl),
    );
    let error = second.err().expect("the directory is taken").to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
}
