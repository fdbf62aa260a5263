//! A coordinator's log: answers that wait for it, what breaks it, and what it is found to hold.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::*;
use mqlog_log::sim::{Call, Fault, FsMode, SimClock, SimDisk, SimRng};
use mqlog_protocol::ApiKey::Heartbeat;
use mqlog_record::{BatchBuilder, Codec};
use mqlog_server::{Broker, BrokerConfig, ControlEvent, Replay};

const TOPIC: &str = "__consumer_offsets";

/// A broker on a disk that can fail; a clone of the disk is another machine's.
fn on(disk: &SimDisk) -> Harness {
    let mut config = BrokerConfig::new("/data", "127.0.0.1:0".parse().unwrap());
    config.io_threads = 1;
    let control = Arc::new(Recorder::default());
    let clock = Arc::new(SimClock::new(1_700_000_000_000));
    let disk = Arc::new(disk.clone());
    let started = Broker::start_with(config.clone(), control.clone(), disk, clock);
    Harness::of(started.unwrap(), control, config)
}

fn key(group: &str, topic: &str, index: i32) -> Vec<u8> {
    let mut key = vec![0, 1];
    for text in [group, topic] {
        key.extend_from_slice(&(text.len() as i16).to_be_bytes());
        key.extend_from_slice(text.as_bytes());
    }
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn commit(index: i32, value: Option<&[u8]>, codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    let key = key("g", "t", index);
    builder.append(Some(&key), value, 1, &[]).unwrap();
    builder.build().unwrap()
}

/// Has `client` ask something that only the control plane answers; the token of it.
fn ask(broker: &Harness, client: &mut Client) -> u64 {
    let request = node! { group_id: "g", generation_id: 1, member_id: "m" };
    client.send(Heartbeat, 0, &request);
    broker.control.take(|event| match event {
        ControlEvent::Request(request) => Some(request.token),
        _ => None,
    })
}

fn load(broker: &Harness, id: [u8; 16]) -> Result<Replay, String> {
    broker.broker().load(7, id, 0);
    broker.control.take(|event| match event {
        ControlEvent::Loaded { id: 7, result } => Some(result.clone()),
        _ => None,
    })
}

fn append_failed(broker: &Harness) -> String {
    broker.control.take(|event| match event {
        ControlEvent::AppendFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

fn offsets(replay: Replay) -> BTreeMap<i32, Vec<u8>> {
    let named = replay.offsets.into_iter();
    named.map(|(_, _, index, value)| (index, value)).collect()
}

#[test]
fn what_a_client_hears_of_survives_the_loss_of_power() {
    let disk = SimDisk::new(1, FsMode::Loose);
    let broker = on(&disk);
    let id = broker.create(TOPIC, 2);
    let mut client = broker.connect();
    for index in 0..20 {
        let token = ask(&broker, &mut client);
        let at = index % 2;
        broker
            .broker()
            .append(id, at, commit(index, Some(b"v"), Codec::None));
        // Both partitions, so both flushes, have to end.
        broker.broker().reply_after(token, [0; 2], id, &[0, 1]);
        assert_eq!(client.receive(Heartbeat, 0).1.int("error_code"), 0);
        let copy = disk.fork();
        copy.crash();
        let other = on(&copy);
        other.broker().load(7, id, at);
        let found = other.control.take(|event| match event {
            ControlEvent::Loaded { id: 7, result } => Some(result.clone()),
            _ => None,
        });
        assert!(
            offsets(found.unwrap()).contains_key(&index),
            "offset {index}"
        );
    }
}

#[test]
fn a_full_disk_breaks_the_ledger_until_it_is_loaded() {
    let disk = SimDisk::new(2, FsMode::Loose);
    let broker = on(&disk);
    let id = broker.create(TOPIC, 1);
    broker
        .broker()
        .append(id, 0, commit(1, Some(b"kept"), Codec::None));
    let mut clients: Vec<Client> = (0..3).map(|_| broker.connect()).collect();
    disk.fail(Fault {
        call: Call::Write,
        path: ".log".to_owned(),
        skip: 0,
        times: 1,
        errno: 28,
    });
    let first = ask(&broker, &mut clients[0]);
    broker
        .broker()
        .append(id, 0, commit(2, Some(b"lost"), Codec::None));
    broker.broker().reply_after(first, [0; 2], id, &[0]);
    assert!(clients[0].is_closed());
    append_failed(&broker);
    // The reserve has room now, but what was decided on the lost state must not be told or kept.
    let second = ask(&broker, &mut clients[1]);
    broker
        .broker()
        .append(id, 0, commit(3, Some(b"late"), Codec::None));
    broker.broker().reply_after(second, [0; 2], id, &[0]);
    assert!(clients[1].is_closed());
    let held = offsets(load(&broker, id).unwrap());
    assert_eq!(held, BTreeMap::from([(1, b"kept".to_vec())]));
    let third = ask(&broker, &mut clients[2]);
    broker
        .broker()
        .append(id, 0, commit(4, Some(b"new"), Codec::None));
    broker.broker().reply_after(third, [0; 2], id, &[0]);
    assert_eq!(clients[2].receive(Heartbeat, 0).1.int("error_code"), 0);
    assert_eq!(offsets(load(&broker, id).unwrap()).len(), 2);
}

#[test]
fn a_failed_flush_tells_nobody_that_it_was_written() {
    let disk = SimDisk::new(3, FsMode::Loose);
    let broker = on(&disk);
    let id = broker.create(TOPIC, 1);
    let mut client = broker.connect();
    for call in [Call::SyncData, Call::SyncFs] {
        disk.fail(Fault {
            call,
            path: String::new(),
            skip: 0,
            times: 1000,
            errno: 5,
        });
    }
    let token = ask(&broker, &mut client);
    broker
        .broker()
        .append(id, 0, commit(1, Some(b"v"), Codec::None));
    broker.broker().reply_after(token, [0; 2], id, &[0]);
    assert!(client.is_closed());
    append_failed(&broker);
}

#[test]
fn a_deleted_topic_closes_who_waits_for_it() {
    let broker = Harness::fsync();
    let mut client = broker.connect();
    let token = ask(&broker, &mut client);
    broker
        .broker()
        .append([9; 16], 0, commit(1, Some(b"v"), Codec::None));
    broker.broker().reply_after(token, [0; 2], [9; 16], &[0]);
    assert!(client.is_closed());
    assert!(append_failed(&broker).contains("gone"));
    assert!(load(&broker, [9; 16]).is_err());
}

#[test]
fn the_last_value_of_each_key_is_found() {
    let disk = SimDisk::new(4, FsMode::Loose);
    let mut rng = SimRng::new(5);
    let mut broker = on(&disk);
    let id = broker.create_with(TOPIC, 1, &[("segment.bytes", "2000")]);
    let mut naive: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
    let codecs = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];
    for round in 0..600 {
        let index = rng.below(20) as i32;
        let value = format!("{round}").into_bytes();
        let value = (rng.below(4) > 0).then_some(value);
        let codec = codecs[rng.below(codecs.len() as u64) as usize];
        broker
            .broker()
            .append(id, 0, commit(index, value.as_deref(), codec));
        match value {
            Some(value) => drop(naive.insert(index, value)),
            None => drop(naive.remove(&index)),
        }
        if round % 50 == 49 {
            assert_eq!(offsets(load(&broker, id).unwrap()), naive);
        }
        if round % 200 == 199 {
            broker.stop();
            broker = on(&disk);
            assert_eq!(offsets(load(&broker, id).unwrap()), naive);
        }
    }
}

#[test]
fn what_is_no_coordinators_record_is_passed_over() {
    let broker = Harness::os();
    let id = broker.create(TOPIC, 1);
    let mut builder = BatchBuilder::new(Codec::None);
    let odd: [&[u8]; 6] = [
        b"",
        b"\0",
        b"\0\x02\0\x05abc",
        b"\0\x02\xff\xff",
        b"\0\x09zz",
        b"\0\x01",
    ];
    for key in odd {
        builder.append(Some(key), Some(b"v"), 1, &[]).unwrap();
    }
    builder
        .append(Some(b"\0\x02\0\x01g"), Some(b"group"), 1, &[])
        .unwrap();
    broker.broker().append(id, 0, builder.build().unwrap());
    let found = load(&broker, id).unwrap();
    assert_eq!(found.groups, [("g".to_owned(), b"group".to_vec())]);
    assert_eq!((found.offsets.len(), found.skipped), (0, 6));
}

#[test]
fn a_trim_removes_what_lies_below_the_mark() {
    let broker = Harness::fsync();
    let id = broker.create_with(TOPIC, 1, &[("segment.bytes", "1000")]);
    for index in 0..100 {
        broker
            .broker()
            .append(id, 0, commit(index, Some(b"old"), Codec::None));
    }
    broker.broker().mark(id, 0);
    broker
        .broker()
        .append(id, 0, commit(7, Some(b"new"), Codec::None));
    broker.broker().trim(3, id, 0);
    let trimmed = broker.control.take(|event| match event {
        ControlEvent::Trimmed { id: 3, result } => Some(result.clone()),
        _ => None,
    });
    assert_eq!(trimmed, Ok(()));
    let info = broker.broker().partition_info(id, 0).unwrap();
    assert_eq!((info.log_start, info.log_end), (100, 101));
    assert!(info.segments.len() < 5, "{:?}", info.segments);
    let found = offsets(load(&broker, id).unwrap());
    assert_eq!(found, BTreeMap::from([(7, b"new".to_vec())]));
}
