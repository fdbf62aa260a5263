//! The producer against brokers that fail in every way that has a rule.

#![allow(clippy::unwrap_used)]

mod ledger;
mod peer;

use ledger::{settings, Client, Fault, Ledger};
use mqlog_protocol::ErrorCode;

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_string().into_bytes()).collect()
}

#[test]
fn records_arrive_in_order_with_their_offsets() {
    let ledger = Ledger::start(1, 1);
    let client = Client::start(&ledger, settings());
    let values = numbered(5000);
    let sent: Vec<_> = values
        .iter()
        .map(|value| client.send_to(0, value))
        .collect();
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
    let sent: Vec<_> = values
        .iter()
        .map(|value| client.send_to(0, value))
        .collect();
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
    let sent: Vec<_> = values
        .iter()
        .map(|value| client.send_to(0, value))
        .collect();
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
