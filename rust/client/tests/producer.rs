//! The producer against brokers that fail in every way that has a rule: order, and nothing twice.

#![allow(clippy::unwrap_used)]

mod ledger;
mod peer;

use std::time::Duration;

use ledger::{numbered, settings, Client, Fault, Ledger};
use mqlog_protocol::ErrorCode;

#[test]
fn records_arrive_in_order_with_their_offsets() {
    let ledger = Ledger::start(1, 1);
    let client = Client::start(&ledger, settings());
    let values = numbered(5000);
    let sent = client.send_all(&values);
    client.flush();
    assert_eq!(ledger.values(0), values);
    for (sent, offset) in sent.iter().zip(0..) {
        assert_eq!(client.get(sent), Ok(offset));
    }
}

/// A scripted failure of the first requests must not be seen: everything once, in order.
fn survives(faults: &'static [Fault], nodes: usize) -> Ledger {
    let ledger = Ledger::scripted(nodes, 1, |n, _| {
        faults.get(n).copied().unwrap_or(Fault::None)
    });
    let mut config = settings();
    config.batch_size = 200;
    let client = Client::start(&ledger, config);
    let values = numbered(400);
    let sent = client.send_all(&values);
    client.flush();
    assert_eq!(ledger.values(0), values, "{faults:?}");
    for (sent, offset) in sent.iter().zip(0..) {
        let got = client.get(sent).unwrap();
        assert!(got == offset || got == -1, "{got} for {offset}");
    }
    ledger
}

#[test]
fn a_lost_answer_writes_nothing_twice() {
    survives(&[Fault::Lose], 1);
    survives(&[Fault::None, Fault::Lose, Fault::Lose], 1);
}

#[test]
fn a_cut_connection_loses_nothing() {
    survives(&[Fault::Drop, Fault::None, Fault::Drop], 1);
}

#[test]
fn later_batches_wait_for_one_that_must_be_sent_again() {
    survives(&[Fault::Refuse(ErrorCode::NotEnoughReplicas)], 1);
    survives(
        &[Fault::None, Fault::Refuse(ErrorCode::LeaderNotAvailable)],
        1,
    );
}

#[test]
fn an_error_that_is_a_lie_writes_nothing_twice() {
    survives(&[Fault::Lie(ErrorCode::NotEnoughReplicasAfterAppend)], 1);
    survives(
        &[
            Fault::None,
            Fault::Lie(ErrorCode::RequestTimedOut),
            Fault::Lose,
        ],
        1,
    );
}

#[test]
fn unknown_producers_get_a_new_epoch() {
    let ledger = survives(
        &[Fault::None, Fault::Refuse(ErrorCode::UnknownProducerId)],
        1,
    );
    let epochs = ledger.state(|state| state.partitions[0].batches.last().unwrap().epoch);
    assert!(epochs >= 1);
}

#[test]
fn a_refused_batch_fails_alone() {
    let ledger = Ledger::scripted(1, 1, |n, _| match n {
        1 => Fault::Refuse(ErrorCode::InvalidRecord),
        _ => Fault::None,
    });
    let mut config = settings();
    config.batch_size = 200;
    let client = Client::start(&ledger, config);
    let values = numbered(400);
    let sent = client.send_all(&values);
    client.flush();
    let results: Vec<_> = sent.iter().map(|sent| client.get(sent)).collect();
    let written: Vec<_> = values
        .iter()
        .zip(&results)
        .filter(|(_, result)| result.is_ok())
        .map(|(value, _)| value.clone())
        .collect();
    assert_eq!(ledger.values(0), written);
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!(failed > 0 && failed < 20, "one batch: {failed}");
    let batches = ledger.state(|state| state.partitions[0].batches.clone());
    assert!(batches.windows(2).all(|two| two[0].epoch <= two[1].epoch));
    assert_eq!(batches.last().unwrap().epoch, 1, "the hole is left behind");
}

#[test]
fn the_first_batch_of_a_producer_is_not_overtaken() {
    // The broker takes any number from a producer it does not know: batch 2 after batch 1 was
    // refused for the moment, for example.
    for _ in 0..3 {
        let ledger = survives(
            &[
                Fault::Refuse(ErrorCode::NotEnoughReplicas),
                Fault::Refuse(ErrorCode::NotEnoughReplicas),
            ],
            1,
        );
        ledger.state(|state| assert_eq!(state.partitions[0].batches[0].epoch, 0));
    }
}

#[test]
fn a_leader_that_moved_is_followed_by_its_hint_and_without() {
    for hints in [true, false] {
        let ledger = Ledger::start(2, 1);
        ledger.state(|state| state.hints = hints);
        let mut config = settings();
        config.batch_size = 200;
        let client = Client::start(&ledger, config);
        let values = numbered(300);
        let mut sent = Vec::new();
        for (n, value) in values.iter().enumerate() {
            if n % 100 == 50 {
                ledger.state(|state| {
                    let partition = &mut state.partitions[0];
                    partition.leader = 1 - partition.leader;
                    partition.epoch += 1;
                });
            }
            sent.push(client.send_to(0, value));
        }
        client.flush();
        assert_eq!(ledger.values(0), values, "hints {hints}");
        assert!(sent.iter().all(|sent| client.get(sent).is_ok()));
    }
}

#[test]
fn what_was_cut_off_the_log_is_left_behind_in_a_new_epoch() {
    let ledger = Ledger::start(1, 1);
    let client = Client::start(&ledger, settings());
    let sent = client.send_to(0, b"lost");
    assert_eq!(client.get(&sent), Ok(0));
    let sent = client.send_to(0, b"lost as well");
    assert_eq!(client.get(&sent), Ok(1));
    ledger.state(|state| state.partitions[0].truncate(1));
    let sent = client.send_to(0, b"kept");
    assert_eq!(client.get(&sent), Ok(1));
    let batches = ledger.state(|state| state.partitions[0].batches.clone());
    let last = batches.last().unwrap();
    assert_eq!((last.epoch, last.sequence), (1, 0));
    assert_eq!(client.producer.metrics().epochs, 1);
}

#[test]
fn a_broker_that_forgot_the_producer_is_no_trouble() {
    let ledger = Ledger::start(1, 1);
    let client = Client::start(&ledger, settings());
    for n in 0..10 {
        ledger.state(|state| state.partitions[0].forget_producers());
        let sent = client.send_to(0, b"v");
        assert_eq!(client.get(&sent), Ok(n));
    }
}

#[test]
fn what_failed_for_its_time_and_may_be_written_is_not_written_twice_or_passed_by() {
    // Written, but the answers of the first minute are lost; the futures fail meanwhile.
    let ledger = Ledger::scripted(1, 1, |n, _| if n < 4 { Fault::Lose } else { Fault::None });
    let mut config = settings();
    config.delivery_timeout = Duration::from_millis(60);
    let client = Client::with(&ledger, config, |net| {
        net.reconnect_backoff = Duration::from_millis(50);
    });
    let first = client.send_to(0, b"first");
    let said = client.get(&first);
    let second = loop {
        let sent = client.send_to(0, b"second");
        if client.get(&sent).is_ok() {
            break client.get(&sent).unwrap();
        }
    };
    let values = ledger.values(0);
    let firsts = values.iter().filter(|value| *value == b"first").count();
    assert_eq!((said.is_err(), firsts), (true, 1), "{values:?}");
    assert_eq!(values[0], b"first");
    assert!(second > 0);
}

#[test]
fn without_idempotence_order_holds_as_well() {
    let faults = [
        Fault::None,
        Fault::Refuse(ErrorCode::NotEnoughReplicas),
        Fault::Drop,
    ];
    let ledger = Ledger::scripted(1, 1, move |n, _| {
        faults.get(n).copied().unwrap_or(Fault::None)
    });
    let mut config = settings();
    config.idempotent = false;
    config.batch_size = 200;
    let client = Client::start(&ledger, config);
    let values = numbered(400);
    for value in &values {
        client.send_to(0, value);
    }
    client.flush();
    assert_eq!(ledger.values(0), values);
    let batches = ledger.state(|state| state.partitions[0].batches.clone());
    assert!(batches.iter().all(|batch| batch.id == -1));
}

fn show(values: &[Vec<u8>], from: usize) -> Vec<String> {
    let some = values.iter().skip(from).take(5);
    some.map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// Random faults, several partitions, leaders that move: nothing lost that was acknowledged,
/// nothing twice, and each partition in order.
#[test]
fn a_storm_of_faults_changes_nothing() {
    for seed in 0..6u64 {
        let mut random = seed * 7919 + 1;
        let mut next = move |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % most
        };
        let ledger = Ledger::scripted(3, 4, move |n, _| match next(12) {
            _ if n > 400 => Fault::None,
            0 => Fault::Lose,
            1 => Fault::Drop,
            2 => Fault::Refuse(ErrorCode::NotEnoughReplicas),
            3 => Fault::Lie(ErrorCode::NotEnoughReplicasAfterAppend),
            4 => Fault::Refuse(ErrorCode::LeaderNotAvailable),
            5 => Fault::Slow(3),
            _ => Fault::None,
        });
        let mut config = settings();
        config.batch_size = 300;
        config.linger = Duration::from_millis(1);
        let client = Client::start(&ledger, config);
        let values = numbered(4000);
        let mut sent = Vec::new();
        for (n, value) in values.iter().enumerate() {
            if n % 500 == 250 {
                ledger.state(|state| {
                    let partition = &mut state.partitions[n / 500 % 4];
                    partition.leader = (partition.leader + 1) % 3;
                    partition.epoch += 1;
                });
            }
            sent.push(client.send_to((n % 4) as i32, value));
        }
        client.flush();
        for partition in 0..4 {
            let wanted: Vec<_> = values.iter().skip(partition).step_by(4).cloned().collect();
            let found = ledger.values(partition);
            let pairs = found.iter().zip(&wanted);
            let same = pairs.take_while(|(one, other)| one == other).count();
            assert!(
                found == wanted,
                "seed {seed}, partition {partition}: from {same} on {:?} instead of {:?}; {:?}",
                show(&found, same),
                show(&wanted, same),
                ledger.state(|state| state.partitions[partition].batches.clone()),
            );
        }
        for (n, sent) in sent.iter().enumerate() {
            let offset = client.get(sent).unwrap();
            assert!(offset == -1 || offset == (n / 4) as i64, "{offset} for {n}");
        }
    }
}
