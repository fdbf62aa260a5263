//! What is no request gets the protocol's error or a closed connection, is counted by cause, and
//! no other connection notices.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::*;
use mqlog_protocol::ApiKey::{ApiVersions, Metadata, Produce};

/// Sends bytes to a fresh connection that must be closed, and counted under this name.
fn closes(broker: &Harness, bytes: &[u8], counter: &str) {
    let before = broker.count(counter);
    let mut client = broker.connect();
    client.send_raw(bytes);
    assert!(client.is_closed(), "{counter}: not closed");
    broker.count_reaches(counter, before + 1);
}

#[test]
fn what_is_not_kafka_is_closed_and_counted() {
    let broker = Harness::os();
    let mut healthy = broker.connect();
    healthy.ask(ApiVersions, 0, &node! {});
    closes(
        &broker,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "closed_tls",
    );
    closes(&broker, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "closed_http");
    closes(&broker, b"POST /topics HTTP/1.1\r\n\r\n", "closed_http");
    closes(&broker, &(-1i32).to_be_bytes(), "closed_frame_length");
    closes(&broker, &i32::MAX.to_be_bytes(), "closed_frame_length");
    closes(&broker, &i32::MIN.to_be_bytes(), "closed_frame_length");
    closes(&broker, &0i32.to_be_bytes(), "closed_malformed");
    closes(&broker, &[0, 0, 0, 3, 1, 2, 3], "closed_malformed");
    closes(&broker, &[0; 64], "closed_malformed");
    healthy.ask(ApiVersions, 0, &node! {});
    eventually("the closed ones are gone", || {
        broker.count("connections_open") == 1
    });
}

#[test]
fn before_the_first_valid_request_a_frame_may_have_one_mebibyte() {
    let broker = Harness::os();
    broker.create("t", 1);
    let big = (2i32 << 20).to_be_bytes();
    closes(&broker, &big, "closed_frame_length");
    let mut trusted = broker.connect();
    trusted.ask(ApiVersions, 0, &node! {});
    let value = "v".repeat(900_000);
    let parts = [
        (0, batch(&[&value])),
        (1, batch(&[&value])),
        (2, batch(&[&value])),
    ];
    let answer = trusted.ask(Produce, 8, &produce("t", 1, &parts));
    assert_eq!(produced(&answer).int("error_code"), 0);
    let huge = (101i32 << 20).to_be_bytes();
    trusted.send_raw(&huge);
    assert!(trusted.is_closed());
}

#[test]
fn unknown_keys_and_versions_close_but_for_api_versions() {
    let broker = Harness::os();
    for (key, version) in [
        (500i16, 0i16),
        (-1, 0),
        (4, 0),
        (1, 3),
        (1, 19),
        (3, 99),
        (0, 0),
        (0, 2),
    ] {
        let mut frame = vec![0, 0, 0, 10];
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 5, 0xff, 0xff]);
        closes(&broker, &frame, "closed_unsupported");
    }
    // ApiVersions in a version from the future: version 0, error 35, key 18 alone.
    let mut client = broker.connect();
    client.send_raw(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff, 1, 2]);
    let expected = [0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    assert_eq!(client.receive_raw().unwrap(), expected);
    // The connection lives on.
    let answer = client.ask(
        ApiVersions,
        3,
        &node! {
            client_software_name: "test", client_software_version: "1.0",
        },
    );
    assert_eq!(answer.int("error_code"), 0);
}

#[test]
fn a_body_that_does_not_parse_closes() {
    let broker = Harness::os();
    let mut client = broker.connect();
    // Metadata v1: two thousand million topics.
    let frame = client.frame(Metadata, 1, &[0x7f, 0xff, 0xff, 0xff]);
    closes(&broker, &frame, "closed_malformed");
    let frame = client.frame(Produce, 9, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    closes(&broker, &frame, "closed_malformed");
    let frame = client.frame(ApiVersions, 3, &[]);
    closes(&broker, &frame, "closed_malformed");
}

#[test]
fn a_half_frame_and_one_byte_at_a_time_end_with_the_idle_limit() {
    let broker = Harness::with(|config| config.limits.connections_max_idle_ms = 150);
    let mut half = broker.connect();
    half.send_raw(&[0, 0, 4, 0, 0, 18]);
    assert!(half.is_closed());
    broker.count_reaches("closed_idle", 1);
    let slow = broker.connect();
    slow.stream.set_nonblocking(true).unwrap();
    eventually("the slow one is closed", || {
        use std::io::Read;
        std::thread::sleep(std::time::Duration::from_millis(10));
        let mut stream = &slow.stream;
        let _ = std::io::Write::write(&mut stream, &[0]);
        let mut byte = [0];
        !matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert_eq!(broker.count("request_bytes_held"), 0);
}

#[test]
fn an_idle_connection_is_closed_but_not_one_that_waits_for_us() {
    use mqlog_protocol::ApiKey::DescribeCluster;
    use mqlog_server::ControlEvent;
    let broker = Harness::with(|config| config.limits.connections_max_idle_ms = 150);
    let mut waiting = broker.connect();
    waiting.send(DescribeCluster, 0, &node! {});
    let token = broker.control.take(|event| match event {
        ControlEvent::Request(request) => Some(request.token),
        _ => None,
    });
    let mut idle = broker.connect();
    idle.ask(ApiVersions, 0, &node! {});
    assert!(idle.is_closed());
    broker.count_reaches("closed_idle", 1);
    assert!(waiting.is_silent());
    assert!(broker.broker().close(token));
    assert!(waiting.is_closed());
    assert_eq!(broker.count("closed_by_control"), 1);
}

#[test]
fn connections_beyond_the_limits_are_closed_at_once() {
    let broker = Harness::with(|config| config.limits.max_connections = 2);
    let (mut one, mut two) = (broker.connect(), broker.connect());
    one.ask(ApiVersions, 0, &node! {});
    two.ask(ApiVersions, 0, &node! {});
    assert!(broker.connect().is_closed());
    assert_eq!(broker.count("refused_max_connections"), 1);
    drop(one);
    eventually("room for another", || broker.count("connections_open") == 1);
    broker.connect().ask(ApiVersions, 0, &node! {});

    let broker = Harness::with(|config| config.limits.max_connections_per_ip = 1);
    let mut one = broker.connect();
    one.ask(ApiVersions, 0, &node! {});
    assert!(broker.connect().is_closed());
    assert_eq!(broker.count("refused_per_ip"), 1);
}

#[test]
fn request_bytes_are_bounded_over_all_connections_and_everybody_finishes() {
    let broker = Harness::with(|config| {
        config.limits.queued_max_request_bytes = 300_000;
        config.durability = mqlog_log::Durability::Os;
    });
    broker.create("t", 1);
    let value = "v".repeat(400_000);
    let body = common::node::encode(Produce, 8, &produce("t", 1, &[(0, batch(&[&value]))]));
    let mut clients: Vec<Client> = (0..6).map(|_| broker.connect()).collect();
    // Most of everybody's frame first, so that all of them hold something.
    let mut tails = Vec::new();
    for client in &mut clients {
        client.ask(ApiVersions, 0, &node! {});
        let frame = client.frame(Produce, 8, &body);
        let (head, tail) = frame.split_at(frame.len() - 1000);
        client.send_raw(head);
        tails.push(tail.to_vec());
    }
    broker.count_reaches("paused_request_bytes", 1);
    for (client, tail) in clients.iter_mut().zip(&tails) {
        client.send_raw(tail);
    }
    for client in &mut clients {
        assert_eq!(produced(&client.receive(Produce, 8).1).int("error_code"), 0);
    }
    eventually("nothing is held", || {
        broker.count("request_bytes_held") == 0
    });
}
