//! What an idle connection costs. Alone in its process, because it looks at the whole process.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::*;
use mqlog_protocol::ApiKey::{ApiVersions, Fetch, Produce};

/// 8 KiB a connection at most, the test's own side of it included.
#[test]
fn an_idle_connection_costs_less_than_8_kib() {
    const CONNECTIONS: u64 = 400;
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
    let before = resident_bytes();
    let clients: Vec<Client> = (0..CONNECTIONS).map(|_| use_one()).collect();
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(
        each < 8192,
        "{each} bytes for each of {} connections",
        clients.len()
    );
    assert_eq!(broker.count("request_bytes_held"), 0);
}
