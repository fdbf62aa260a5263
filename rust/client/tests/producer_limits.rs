//! The producer's limits: memory, time, sizes, attempts; and what it says when one is met.

#![allow(clippy::unwrap_used)]

mod ledger;
mod peer;

use std::time::Duration;

use ledger::{numbered, settings, Client, Fault, Ledger};
use mqlog_client::producer::Taken;
use mqlog_client::ClientError;
use mqlog_protocol::ErrorCode;

#[test]
fn batches_too_large_for_the_broker_are_split_and_keep_their_place() {
    for codec in [mqlog_record::Codec::None, mqlog_record::Codec::Lz4] {
        let ledger = Ledger::start(1, 1);
        ledger.state(|state| state.max_batch = 500);
        let config = mqlog_client::config::ProducerConfig {
            codec,
            linger: Duration::from_secs(60),
            ..settings()
        };
        let client = Client::start(&ledger, config);
        // Nothing that a codec could make small.
        let values: Vec<Vec<u8>> = (0..200u32)
            .map(|n| {
                (0..30u32)
                    .map(|k| (n * 31 + k * k * 7 + k * n) as u8)
                    .collect()
            })
            .collect();
        let sent = client.send_all(&values);
        // Whoever watches is told when the last part of the parts is written.
        let told = client.producer.completions().clone();
        assert!(sent[0].0.watch(&told, 7));
        client.flush();
        let mut tokens = [0; 4];
        assert_eq!(
            told.take(&mut tokens, Duration::from_secs(20)),
            Taken::Tokens(1)
        );
        assert_eq!(tokens[0], 7);
        assert_eq!(ledger.values(0), values);
        for (sent, offset) in sent.iter().zip(0..) {
            assert_eq!(client.get(sent), Ok(offset), "{codec}");
        }
        let epochs = ledger.state(|state| state.partitions[0].batches.last().unwrap().epoch);
        assert_eq!(epochs, 0, "a split needs no new epoch");
        assert!(client.producer.metrics().batches_split > 0);
    }
}

#[test]
fn a_single_record_too_large_says_so_and_fails_alone() {
    let ledger = Ledger::start(1, 1);
    ledger.state(|state| state.max_batch = 500);
    let client = Client::start(&ledger, settings());
    let values: Vec<Vec<u8>> = (0..40)
        .map(|n| vec![n; if n == 20 { 2000 } else { 20 }])
        .collect();
    let sent = client.send_all(&values);
    client.flush();
    for (n, sent) in sent.iter().enumerate() {
        match client.get(sent) {
            Ok(_) => assert_ne!(n, 20),
            Err(ClientError::RecordTooLarge { size, .. }) => assert!(n == 20 && size > 2000),
            Err(other) => panic!("{other}"),
        }
    }
    let kept: Vec<_> = values
        .iter()
        .filter(|value| value.len() < 500)
        .cloned()
        .collect();
    assert_eq!(ledger.values(0), kept);
}

#[test]
fn no_answer_in_time_ends_in_an_error_that_says_where_the_batch_was() {
    let ledger = Ledger::scripted(1, 1, |_, _| Fault::Silence);
    let mut config = settings();
    config.delivery_timeout = Duration::from_millis(300);
    let client = Client::start(&ledger, config);
    let sent = client.send_to(0, b"v");
    let error = client.get(&sent).unwrap_err().to_string();
    assert!(
        error.contains("delivery_timeout_ms") && error.contains("in flight"),
        "{error}"
    );
    assert!(error.contains("t-0"), "{error}");
}

#[test]
fn a_partition_without_a_leader_is_named_as_the_reason() {
    let ledger = Ledger::start(1, 1);
    ledger.state(|state| state.partitions[0].leader = usize::MAX);
    let mut config = settings();
    config.delivery_timeout = Duration::from_millis(300);
    let client = Client::start(&ledger, config);
    let sent = client.send_to(0, b"v");
    let error = client.get(&sent).unwrap_err().to_string();
    assert!(error.contains("no leader"), "{error}");
    ledger.state(|state| state.partitions[0].leader = 0);
    let sent = client.send_to(0, b"v");
    assert_eq!(client.get(&sent), Ok(0), "and goes on when there is one");
}

#[test]
fn retries_may_be_limited() {
    let refuse = |_: usize, _: &ledger::ProduceSeen| Fault::Refuse(ErrorCode::NotEnoughReplicas);
    let ledger = Ledger::scripted(1, 1, refuse);
    let mut config = settings();
    config.retries = 2;
    config.idempotent = false;
    let client = Client::start(&ledger, config);
    let sent = client.send_to(0, b"v");
    let error = client.get(&sent).unwrap_err();
    assert!(matches!(error, ClientError::Broker { .. }), "{error}");
    assert_eq!(ledger.state(|state| state.requests.len()), 3);
}

#[test]
fn acks_of_a_record_are_those_of_its_batch() {
    let ledger = Ledger::start(1, 1);
    let client = Client::start(&ledger, settings());
    let values = numbered(60);
    let mut sent = Vec::new();
    for (n, value) in values.iter().enumerate() {
        let mut record = client.record(Some(0), value);
        record.acks = [-1, 0, 1][n / 10 % 3];
        sent.push(client.try_send(&record).unwrap());
    }
    client.flush();
    assert_eq!(ledger.values(0), values);
    for (n, sent) in sent.iter().enumerate() {
        let wanted = if n / 10 % 3 == 1 { -1 } else { n as i64 };
        assert_eq!(client.get(sent), Ok(wanted));
    }
    let batches = ledger.state(|state| state.partitions[0].batches.clone());
    assert!(batches
        .iter()
        .all(|batch| (batch.acks == -1) == (batch.id >= 0)));
}

#[test]
fn memory_is_bounded_and_who_waits_is_told_why_in_the_end() {
    let ledger = Ledger::scripted(1, 1, |_, _| Fault::Silence);
    let mut config = settings();
    config.buffer_memory = 100_000;
    config.max_block = Duration::from_millis(200);
    let client = Client::start(&ledger, config);
    let value = vec![0; 1000];
    let error = loop {
        match client.try_send(&client.record(Some(0), &value)) {
            Ok(_) => assert!(client.producer.memory_used() <= 100_000),
            Err(mqlog_client::producer::Refused::Error(error)) => break error,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(error, ClientError::BufferFull { limit: 100_000, .. }),
        "{error}"
    );
}

#[test]
fn little_memory_is_enough_for_many_partitions() {
    let ledger = Ledger::start(2, 1000);
    let mut config = settings();
    config.buffer_memory = 300_000;
    config.linger = Duration::from_secs(60);
    let client = Client::start(&ledger, config);
    for round in 0..3 {
        for partition in 0..1000 {
            client.send_to(partition, &[round; 200]);
            assert!(client.producer.memory_used() <= 300_000);
        }
    }
    client.flush();
    ledger.state(|state| {
        for partition in &state.partitions {
            assert_eq!(partition.values, [[0; 200], [1; 200], [2; 200]]);
        }
    });
    // Several partitions share a request.
    let requests = ledger.state(|state| state.requests.len());
    assert!(requests < 1000, "{requests} requests");
}

#[test]
fn a_thousand_partitions_cost_what_their_records_take() {
    let ledger = Ledger::start(1, 1000);
    let mut config = settings();
    config.linger = Duration::from_secs(60);
    config.batch_size = 1 << 20;
    let client = Client::start(&ledger, config);
    for partition in 0..1000 {
        client.send_to(partition, b"small");
    }
    assert!(client.producer.memory_used() <= 2 << 20);
    client.flush();
    assert_eq!(client.producer.memory_used(), 0);
}

#[test]
fn old_brokers_are_spoken_to_in_their_version() {
    for version in 3..=13 {
        let ledger = Ledger::start(1, 1);
        ledger.state(|state| state.newest_produce = version);
        let client = Client::start(&ledger, settings());
        let sent = client.send_to(0, b"v");
        assert_eq!(client.get(&sent), Ok(0), "version {version}");
        assert_eq!(ledger.state(|state| state.requests[0].version), version);
    }
}

#[test]
fn a_hundred_threads_that_each_wait_share_requests() {
    let ledger = Ledger::scripted(1, 1, |_, _| Fault::Slow(5));
    let client = std::sync::Arc::new(Client::start(&ledger, settings()));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || {
                let sent = client.send_to(0, b"v");
                client.get(&sent).unwrap()
            })
        })
        .collect();
    let mut offsets: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..100).collect::<Vec<_>>());
    let requests = ledger.state(|state| state.requests.len());
    assert!(requests < 50, "{requests} requests");
}

#[test]
fn closing_fails_what_is_left_and_everything_after() {
    let ledger = Ledger::scripted(1, 1, |_, _| Fault::Silence);
    let client = Client::start(&ledger, settings());
    let sent = client.send_to(0, b"v");
    assert_eq!(client.producer.unfinished(), 1);
    client.producer.close();
    assert_eq!(client.get(&sent), Err(ClientError::Closed("producer")));
    match client.try_send(&client.record(Some(0), b"v")) {
        Err(mqlog_client::producer::Refused::Error(ClientError::Closed(_))) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(
        (client.producer.unfinished(), client.producer.memory_used()),
        (0, 0)
    );
}

#[test]
fn what_lingers_leaves_without_being_waited_for() {
    let ledger = Ledger::start(1, 2);
    let client = Client::start(&ledger, settings());
    // Twice: the timer must be set again after it was used.
    for round in 1..=2 {
        let sent = [client.send_to(0, b"v"), client.send_to(1, b"v")];
        let start = std::time::Instant::now();
        while sent.iter().any(|sent| sent.0.outcome(sent.1).is_none()) {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(ledger.values(0).len(), round);
    }
}
