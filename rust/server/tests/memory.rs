//! What an idle connection costs. Alone in its process, because it looks at the whole process.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::*;
use mqlog_protocol::ApiKey::{ApiVersions, Fetch, Produce};

/// 8 KiB a connection at most, the test's own side of it included.
#[test]
fn an_idle_connection_costs_less_than_8_kib() {
    const CONNECTIONS: u64 = 200;
    let broker = Harness::os();
    broker.create("t", 1);
    let use_one = || {
        let mut client = broker.connect();
        client.ask(ApiVersions, 0, &node! {});
        client.ask(
            Produce,
            8,
            &produce("t", -1, &[(0, batch(&[&"x".repeat(5000)]))]),
        );
        let waited = client.ask(Fetch, 11, &fetch_with("t", 0, 0, 5, 1 << 20));
        assert_eq!(fetched(&waited).int("error_code"), 0);
        client
    };
    let warm: Vec<Client> = (0..20).map(|_| use_one()).collect();
    drop(warm);
    // What grows once, such as an arena of the allocator, does not grow with every connection.
    let mut clients: Vec<Client> = Vec::new();
    let mut round = || {
        let before = resident_bytes();
        clients.extend((0..CONNECTIONS).map(|_| use_one()));
        resident_bytes().saturating_sub(before) / CONNECTIONS
    };
    let each = [round(), round()];
    assert!(
        each.iter().any(|bytes| *bytes < 8192),
        "{each:?} bytes for each of {CONNECTIONS} connections"
    );
    assert_eq!(broker.count("request_bytes_held"), 0);
}
