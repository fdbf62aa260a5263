//! What is produced is fetched, over real sockets, in every version served.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::*;
use mqlog_protocol::ApiKey::{Fetch, Produce};

#[test]
fn what_is_produced_is_fetched_in_every_version() {
    let broker = Harness::os();
    broker.create("t", 2);
    let id = topic_id("t");
    let mut client = broker.connect();
    for version in 3..=13 {
        let value = format!("v{version}");
        let mut request = produce("t", -1, &[(1, batch(&[&value]))]);
        if version >= 13 {
            let parts = parts_node(&[(1, batch(&[&value]))]);
            let topic = node! { topic_id: id, partition_data: parts };
            request = node! { acks: -1, timeout_ms: 1000, topic_data: vec![topic] };
        }
        let answer = client.ask(Produce, version, &request);
        let part = produced(&answer);
        assert_eq!(part.int("error_code"), 0, "{answer:?}");
        assert_eq!(part.int("base_offset"), i64::from(version) - 3);
        assert_eq!(part.int("log_append_time_ms"), -1);
        assert_eq!(
            part.int("log_start_offset"),
            if version >= 5 { 0 } else { -1 }
        );
    }
    let expected: Vec<_> = (3..=13).map(|v| (v - 3, format!("v{v}"))).collect();
    for version in 4..=18 {
        let mut request = fetch("t", 1, 0);
        if version >= 13 {
            let part = node! { partition: 1, fetch_offset: 0, partition_max_bytes: 1 << 20 };
            let topic = node! { topic_id: id, partitions: vec![part] };
            request =
                node! { max_wait_ms: 0, min_bytes: 1, max_bytes: 1 << 20, topics: vec![topic] };
        }
        let answer = client.ask(Fetch, version, &request);
        let part = fetched(&answer);
        assert_eq!(part.int("error_code"), 0, "{answer:?}");
        assert_eq!(part.int("high_watermark"), 11);
        assert_eq!(part.int("last_stable_offset"), 11);
        assert_eq!(
            part.int("log_start_offset"),
            if version >= 5 { 0 } else { -1 }
        );
        assert_eq!(records(part.bytes("records")), expected);
    }
}

#[test]
fn a_large_answer_goes_by_sendfile_and_is_whole() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    let value = "x".repeat(60_000);
    for _ in 0..20 {
        client.ask(
            Produce,
            9,
            &produce("t", 1, &[(0, batch(&[&value, "between"]))]),
        );
    }
    let mut offset = 0;
    while offset < 40 {
        let answer = client.ask(Fetch, 11, &fetch_with("t", 0, offset, 0, 500_000));
        let found = records(fetched(&answer).bytes("records"));
        assert_eq!(found.len(), 16.min(40 - offset as usize));
        for (at, text) in &found {
            assert_eq!(*at, offset);
            assert_eq!(text, if offset % 2 == 0 { &value } else { "between" });
            offset += 1;
        }
    }
    assert!(broker.count("bytes_sendfile") > 1_000_000);
}

#[test]
fn many_small_requests_of_one_write_are_appended_in_order_and_together() {
    let broker = Harness::os();
    broker.create("a", 3);
    broker.create("b", 1);
    let mut client = broker.connect();
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for n in 0..200 {
        let (topic, index) = if n % 5 == 0 { ("b", 0) } else { ("a", n % 3) };
        let body = common::node::encode(
            Produce,
            8,
            &produce(topic, -1, &[(index, batch(&[&n.to_string()]))]),
        );
        bytes.extend(client.frame(Produce, 8, &body));
        expected.push((topic, index));
    }
    client.send_raw(&bytes);
    let mut next = std::collections::HashMap::new();
    for (n, place) in expected.iter().enumerate() {
        let (id, answer) = client.receive(Produce, 8);
        assert_eq!(id, n as i32 + 1);
        let offset = next.entry(place).or_insert(0);
        assert_eq!(produced(&answer).int("base_offset"), *offset);
        *offset += 1;
    }
    assert!(broker.count("appends") < 200, "appends are gathered");
}

#[test]
fn one_request_with_many_partitions_answers_each_in_its_place() {
    let broker = Harness::os();
    broker.create("a", 2);
    broker.create("b", 1);
    let mut client = broker.connect();
    let mut broken = batch(&["x"]);
    *broken.last_mut().unwrap() ^= 1;
    let request = produce_topics(
        1,
        &[
            (
                "a",
                &[(1, batch(&["one", "two"])), (7, batch(&["x"])), (0, broken)],
            ),
            ("none", &[(0, batch(&["x"]))]),
            ("b", &[(0, batch(&["three"]))]),
        ],
    );
    let answer = client.ask(Produce, 8, &request);
    let codes: Vec<Vec<i64>> = (answer.get("responses").list().iter())
        .map(|topic| {
            let parts = topic.get("partition_responses").list();
            parts.iter().map(|part| part.int("error_code")).collect()
        })
        .collect();
    assert_eq!(codes, [vec![0, 3, 2], vec![3], vec![0]]);
    let found = client.ask(Fetch, 4, &fetch("a", 1, 0));
    let found = records(fetched(&found).bytes("records"));
    assert_eq!(found, [(0, "one".to_owned()), (1, "two".to_owned())]);
}
