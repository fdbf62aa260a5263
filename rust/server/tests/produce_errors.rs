//! Batches that are refused: Kafka's error, per partition, and nothing is appended.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::node::Node;
use common::*;
use mqlog_protocol::ApiKey::{ListOffsets, Produce};
use mqlog_record::{BatchBuilder, Codec};

const VERSION: i16 = 8;

fn code(client: &mut Client, version: i16, request: &Node) -> i64 {
    produced(&client.ask(Produce, version, request)).int("error_code")
}

/// The batch with its attributes replaced and its checksum made right again.
fn with_attributes(mut batch: Vec<u8>, attributes: i16) -> Vec<u8> {
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = mqlog_record::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn each_kind_of_bad_batch_has_its_error() {
    let broker = Harness::os();
    broker.create_with("t", 1, &[("max.message.bytes", "1000")]);
    let mut client = broker.connect();
    let good = batch(&["x"]);
    let mut cases: Vec<(&str, i64, Vec<u8>)> = Vec::new();
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    cases.push(("checksum", 2, broken));
    let mut magic = good.clone();
    magic[16] = 1;
    cases.push(("magic 1", 87, magic.clone()));
    magic[16] = 0;
    cases.push(("magic 0", 87, magic.clone()));
    magic[16] = 3;
    cases.push(("magic 3", 2, magic));
    cases.push(("nothing", 87, Vec::new()));
    cases.push(("five bytes", 87, b"abcde".to_vec()));
    cases.push(("cut short", 87, good[..good.len() - 1].to_vec()));
    cases.push(("two batches", 87, [good.clone(), good.clone()].concat()));
    cases.push(("control", 87, with_attributes(good.clone(), 0x20)));
    cases.push(("transactional", 53, with_attributes(good.clone(), 0x10)));
    cases.push(("too large", 10, batch(&[&"x".repeat(2000)])));
    for (name, expected, records) in cases {
        let found = code(&mut client, VERSION, &produce("t", 1, &[(0, records)]));
        assert_eq!(found, expected, "{name}");
    }
    let part = node! { index: 0, records: Node::Null };
    let topic = node! { name: "t", partition_data: vec![part] };
    let request = node! { acks: 1, timeout_ms: 1000, topic_data: vec![topic] };
    assert_eq!(code(&mut client, VERSION, &request), 87, "null");
    let part = node! { partition_index: 0, timestamp: -1 };
    let topic = node! { name: "t", partitions: vec![part] };
    let answer = client.ask(ListOffsets, 5, &node! { topics: vec![topic] });
    let end = answer
        .get("topics")
        .at(0)
        .get("partitions")
        .at(0)
        .int("offset");
    assert_eq!(end, 0, "nothing was appended");
}

#[test]
fn zstd_needs_version_7() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder
        .append(None, Some(&[b'x'; 500]), 1_700_000_000_000, &[])
        .unwrap();
    let records = builder.build().unwrap();
    let mut client = broker.connect();
    let request = produce("t", 1, &[(0, records)]);
    assert_eq!(code(&mut client, 6, &request), 76);
    assert_eq!(code(&mut client, 7, &request), 0);
}

#[test]
fn acks_and_transactions_are_checked_before_anything_is_appended() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    for acks in [2, -2, 100] {
        let request = produce("t", acks, &[(0, batch(&["x"]))]);
        assert_eq!(code(&mut client, VERSION, &request), 21);
    }
    let mut request = produce("t", -1, &[(0, batch(&["x"]))]);
    if let Node::Map(fields) = &mut request {
        fields.push(("transactional_id".to_owned(), Node::from("tx")));
    }
    assert_eq!(code(&mut client, VERSION, &request), 53);
    let answer = client.ask(Produce, VERSION, &produce("t", 1, &[(0, batch(&["x"]))]));
    assert_eq!(produced(&answer).int("base_offset"), 0);
}

#[test]
fn null_keys_on_a_compacted_topic_are_named_one_by_one() {
    let broker = Harness::os();
    broker.create_with("t", 1, &[("cleanup.policy", "compact")]);
    let mut builder = BatchBuilder::new(Codec::None);
    for key in [Some(&b"k"[..]), None, Some(b"l"), None] {
        builder
            .append(key, Some(b"v"), 1_700_000_000_000, &[])
            .unwrap();
    }
    let request = produce("t", 1, &[(0, builder.build().unwrap())]);
    let answer = broker.connect().ask(Produce, VERSION, &request);
    let part = produced(&answer);
    assert_eq!(part.int("error_code"), 87);
    let named: Vec<i64> = part
        .get("record_errors")
        .list()
        .iter()
        .map(|e| e.int("batch_index"))
        .collect();
    assert_eq!(named, [1, 3]);
    assert!(!part.text("error_message").is_empty());
}

#[test]
fn unknown_partitions_and_topics_have_their_errors_by_name_and_by_id() {
    let broker = Harness::os();
    let id = broker.create("t", 1);
    let mut client = broker.connect();
    assert_eq!(
        code(
            &mut client,
            VERSION,
            &produce("t", 1, &[(1, batch(&["x"]))])
        ),
        3
    );
    assert_eq!(
        code(
            &mut client,
            VERSION,
            &produce("u", 1, &[(0, batch(&["x"]))])
        ),
        3
    );
    for (id, index, expected) in [(id, 0, 0), (id, -1, 3), ([3; 16], 0, 100)] {
        let parts = parts_node(&[(index, batch(&["x"]))]);
        let topic = node! { topic_id: id, partition_data: parts };
        let request = node! { acks: 1, timeout_ms: 1000, topic_data: vec![topic] };
        assert_eq!(code(&mut client, 13, &request), expected);
    }
}

#[test]
fn only_the_broker_writes_to_internal_topics() {
    let broker = Harness::os();
    broker.create("__consumer_offsets", 1);
    let mut client = broker.connect();
    let request = produce("__consumer_offsets", -1, &[(0, batch(&["x"]))]);
    assert_eq!(code(&mut client, VERSION, &request), 17);
    let info = broker
        .broker()
        .partition_info(topic_id("__consumer_offsets"), 0);
    assert_eq!(info.unwrap().log_end, 0);
}
