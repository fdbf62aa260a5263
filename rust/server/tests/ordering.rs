//! Answers and effects are in request order, whatever waits.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::*;
use mqlog_protocol::ApiKey::{ApiVersions, DescribeCluster, Fetch, ListOffsets, Produce};
use mqlog_server::ControlEvent;

#[test]
fn acks_0_is_never_answered_and_an_error_closes() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    client.send(Produce, 8, &produce("t", 0, &[(0, batch(&["silent"]))]));
    let answer = client.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["heard"]))]));
    assert_eq!(produced(&answer).int("base_offset"), 1);
    client.send(Produce, 8, &produce("none", 0, &[(0, batch(&["lost"]))]));
    assert!(client.is_closed());
    assert_eq!(broker.count("closed_acks0_error"), 1);
}

#[test]
fn an_answer_before_a_closing_error_still_leaves() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    let good = common::node::encode(Produce, 8, &produce("t", 1, &[(0, batch(&["a"]))]));
    let bad = common::node::encode(Produce, 8, &produce("none", 0, &[(0, batch(&["b"]))]));
    let mut bytes = client.frame(Produce, 8, &good);
    bytes.extend(client.frame(Produce, 8, &bad));
    client.send_raw(&bytes);
    assert_eq!(produced(&client.receive(Produce, 8).1).int("error_code"), 0);
    assert!(client.is_closed());
}

#[test]
fn a_waiting_fetch_holds_its_connection_and_no_other() {
    let broker = Harness::os();
    broker.create("t", 1);
    let (mut waiting, mut other) = (broker.connect(), broker.connect());
    waiting.send(Fetch, 11, &fetch_with("t", 0, 0, 15_000, 1 << 20));
    waiting.send(ApiVersions, 0, &node! {});
    broker.count_reaches("fetch_waits", 1);
    assert!(waiting.is_silent());
    other.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["now"]))]));
    let (id, answer) = waiting.receive(Fetch, 11);
    assert_eq!(id, 1);
    assert_eq!(
        records(fetched(&answer).bytes("records")),
        [(0, "now".to_owned())]
    );
    assert_eq!(waiting.receive(ApiVersions, 0).0, 2);
}

#[test]
fn a_control_request_holds_its_connection_until_it_is_answered() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    client.send(DescribeCluster, 0, &node! {});
    client.send(Produce, 8, &produce("t", 1, &[(0, batch(&["after"]))]));
    client.send(DescribeCluster, 0, &node! {});
    let request = broker.control.take(|event| match event {
        ControlEvent::Request(request) => Some(request.clone()),
        _ => None,
    });
    assert_eq!((request.api_key, request.api_version), (60, 0));
    assert_eq!(request.client_id.as_deref(), Some("test"));
    assert_eq!(request.listener, "PLAINTEXT");
    assert_eq!(request.local, broker.address());
    // Another connection sees that the produce behind it has not taken effect.
    let mut other = broker.connect();
    let end = |client: &mut Client| {
        let part = node! { partition_index: 0, timestamp: -1 };
        let topic = node! { name: "t", partitions: vec![part] };
        let answer = client.ask(ListOffsets, 5, &node! { topics: vec![topic] });
        answer
            .get("topics")
            .at(0)
            .get("partitions")
            .at(0)
            .int("offset")
    };
    assert_eq!(end(&mut other), 0);
    assert!(broker.broker().reply(request.token, cluster_answer()));
    assert!(
        !broker.broker().reply(request.token, Vec::new()),
        "a token is answered once"
    );
    let (id, answer) = client.receive(DescribeCluster, 0);
    assert_eq!((id, answer.text("cluster_id")), (1, "c"));
    assert_eq!(client.receive(Produce, 8).0, 2);
    assert_eq!(end(&mut other), 1);
    let second = broker.control.take(|event| match event {
        ControlEvent::Request(request) => Some(request.token),
        _ => None,
    });
    drop(client);
    // Its connection notices when it is written to, not before: nothing is read while it waits.
    broker.broker().reply(second, cluster_answer());
    eventually("the connection's end", || {
        broker.count("connections_open") == 1
    });
}

/// A DescribeCluster answer, version 0: cluster id "c", no brokers.
fn cluster_answer() -> Vec<u8> {
    use mqlog_protocol::schema::Kind;
    use mqlog_protocol::{codec, tables, Value};
    let spec = tables::find(Kind::Response, DescribeCluster as i16).unwrap();
    let mut value = Value::default_struct(&spec.root);
    if let Value::Struct(values) = &mut value {
        let at = spec
            .root
            .fields
            .iter()
            .position(|f| f.name == "cluster_id")
            .unwrap();
        values[at] = Value::Str("c".to_owned());
    }
    let mut body = Vec::new();
    codec::encode(spec, 0, &value, &mut body).unwrap();
    body
}

#[test]
fn in_fsync_mode_answers_wait_and_stay_in_order() {
    let broker = Harness::fsync();
    broker.create("t", 4);
    let mut client = broker.connect();
    for n in 0..100 {
        client.send(
            Produce,
            8,
            &produce(
                "t",
                if n % 3 == 0 { 1 } else { -1 },
                &[(n % 4, batch(&["a"]))],
            ),
        );
    }
    for n in 0..100 {
        let (id, answer) = client.receive(Produce, 8);
        assert_eq!(id, n + 1);
        let part = produced(&answer);
        assert_eq!(
            (part.int("error_code"), part.int("base_offset")),
            (0, i64::from(n) / 4)
        );
    }
    let answer = client.ask(Fetch, 11, &fetch_with("t", 0, 0, 15_000, 1 << 20));
    assert_eq!(fetched(&answer).int("error_code"), 0);
}

#[test]
fn what_acks_1_has_acknowledged_reaches_a_waiting_fetch() {
    let broker = Harness::fsync();
    broker.create_with("t", 1, &[("flush.ms", "600000")]);
    let (mut reader, mut writer) = (broker.connect(), broker.connect());
    writer.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["before"]))]));
    let answer = reader.ask(Fetch, 11, &fetch_with("t", 0, 0, 15_000, 1 << 20));
    assert_eq!(
        records(fetched(&answer).bytes("records")),
        [(0, "before".to_owned())]
    );
    reader.send(Fetch, 11, &fetch_with("t", 0, 1, 15_000, 1 << 20));
    broker.count_reaches("fetch_waits", 2);
    writer.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["while"]))]));
    let (_, answer) = reader.receive(Fetch, 11);
    assert_eq!(
        records(fetched(&answer).bytes("records")),
        [(1, "while".to_owned())]
    );
}
