//! Fetch: limits, waiting, errors, epochs, sessions.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::node::Node;
use common::*;
use mqlog_meta::MetaRecord;
use mqlog_protocol::ApiKey::{Fetch, Produce};

fn fill(broker: &Harness, topic: &str, partition: i64, batches: usize, bytes: usize) {
    let mut client = broker.connect();
    let value = "x".repeat(bytes);
    for _ in 0..batches {
        let answer = client.ask(
            Produce,
            8,
            &produce(topic, -1, &[(partition, batch(&[&value]))]),
        );
        assert_eq!(produced(&answer).int("error_code"), 0);
    }
}

fn part(partition: i64, offset: i64, max: i64) -> Node {
    node! { partition: partition, fetch_offset: offset, partition_max_bytes: max }
}

fn ask(max_wait: i64, min_bytes: i64, max_bytes: i64, parts: Vec<Node>) -> Node {
    node! {
        max_wait_ms: max_wait, min_bytes: min_bytes, max_bytes: max_bytes,
        topics: vec![node! { topic: "t", partitions: parts }],
    }
}

/// Partition index and number of records, per answered partition.
fn counts(answer: &Node) -> Vec<(i64, usize)> {
    let topics = answer.get("responses").list().iter();
    topics
        .flat_map(|topic| topic.get("partitions").list())
        .map(|p| (p.int("partition_index"), records(p.bytes("records")).len()))
        .collect()
}

#[test]
fn the_first_partition_with_data_gives_one_batch_however_large_and_the_rest_obey() {
    let broker = Harness::os();
    broker.create("t", 3);
    fill(&broker, "t", 1, 3, 50_000);
    fill(&broker, "t", 2, 3, 50_000);
    let mut client = broker.connect();
    let parts = vec![part(0, 0, 10), part(1, 0, 10), part(2, 0, 10)];
    let answer = client.ask(Fetch, 11, &ask(0, 1, 10, parts));
    assert_eq!(counts(&answer), [(0, 0), (1, 1), (2, 0)]);
    // The request's limit holds over all partitions, the partition's within it.
    let parts = vec![part(1, 0, 110_000), part(2, 0, 1 << 20)];
    let answer = client.ask(Fetch, 11, &ask(0, 1, 160_000, parts));
    assert_eq!(counts(&answer), [(1, 2), (2, 1)]);
}

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    client.ask(
        Produce,
        8,
        &produce("t", 1, &[(0, batch(&["a", "b", "c"]))]),
    );
    client.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["d"]))]));
    let answer = client.ask(Fetch, 4, &fetch("t", 0, 2));
    assert_eq!(records(fetched(&answer).bytes("records")).len(), 4);
    let answer = client.ask(Fetch, 4, &fetch("t", 0, 3));
    let found = records(fetched(&answer).bytes("records"));
    assert_eq!(found, [(3, "d".to_owned())]);
}

#[test]
fn the_end_is_empty_and_beyond_it_is_out_of_range_without_offsets() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    let answer = client.ask(Fetch, 11, &fetch("t", 0, 0));
    assert_eq!(fetched(&answer).int("error_code"), 0);
    assert_eq!(fetched(&answer).int("high_watermark"), 0);
    for offset in [1, -1, i64::MAX] {
        let answer = client.ask(Fetch, 11, &fetch_with("t", 0, offset, 15_000, 1 << 20));
        let part = fetched(&answer);
        assert_eq!(part.int("error_code"), 1, "offset {offset}");
        for mark in ["high_watermark", "last_stable_offset", "log_start_offset"] {
            assert_eq!(part.int(mark), -1);
        }
    }
}

#[test]
fn errors_are_answered_at_once_beside_partitions_that_would_wait() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    let parts = vec![part(0, 0, 1 << 20), part(5, 0, 1 << 20)];
    let answer = client.ask(Fetch, 11, &ask(15_000, 1, 1 << 20, parts));
    let parts = answer.get("responses").at(0).get("partitions");
    assert_eq!(
        (parts.at(0).int("error_code"), parts.at(1).int("error_code")),
        (0, 3)
    );
    let topic = node! { topic_id: [9; 16], partitions: vec![part(0, 0, 1 << 20)] };
    let request = node! { max_wait_ms: 15_000, min_bytes: 1, max_bytes: 1000, topics: vec![topic] };
    assert_eq!(
        fetched(&client.ask(Fetch, 13, &request)).int("error_code"),
        100
    );
    // A follower's fetch, until there is a cluster.
    let mut request = fetch("t", 0, 0);
    if let Node::Map(fields) = &mut request {
        fields.push(("replica_id".to_owned(), Node::Int(3)));
    }
    assert_eq!(
        fetched(&client.ask(Fetch, 11, &request)).int("error_code"),
        6
    );
}

#[test]
fn a_fetch_waits_for_min_bytes_of_all_its_partitions() {
    let broker = Harness::os();
    broker.create("t", 2);
    let mut client = broker.connect();
    client.send(
        Fetch,
        11,
        &ask(
            15_000,
            5_000,
            1 << 20,
            vec![part(0, 0, 1 << 20), part(1, 0, 1 << 20)],
        ),
    );
    broker.count_reaches("fetch_waits", 1);
    fill(&broker, "t", 0, 1, 3_000);
    assert!(client.is_silent());
    fill(&broker, "t", 1, 1, 3_000);
    let (_, answer) = client.receive(Fetch, 11);
    assert_eq!(counts(&answer), [(0, 1), (1, 1)]);
    // And no longer than it says.
    let request = ask(50, 5_000, 1 << 20, vec![part(0, 0, 1 << 20)]);
    assert_eq!(counts(&client.ask(Fetch, 11, &request)), [(0, 1)]);
    let request = ask(50, 1, 1 << 20, vec![part(0, 1, 1 << 20)]);
    assert_eq!(counts(&client.ask(Fetch, 11, &request)), [(0, 0)]);
}

#[test]
fn deleting_a_topic_wakes_who_waits_for_it() {
    let broker = Harness::os();
    let id = broker.create("t", 1);
    let mut client = broker.connect();
    client.send(Fetch, 11, &fetch_with("t", 0, 0, 15_000, 1 << 20));
    broker.count_reaches("fetch_waits", 1);
    broker
        .propose(vec![MetaRecord::RemoveTopic { id }])
        .unwrap();
    let (_, answer) = client.receive(Fetch, 11);
    assert_eq!(fetched(&answer).int("error_code"), 3);
    // A topic of the same name is another one.
    broker.create_as("t", [5; 16], 1, &[]);
    let answer = client.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["new"]))]));
    assert_eq!(produced(&answer).int("base_offset"), 0);
    let topic = node! { topic_id: id, partitions: vec![part(0, 0, 1000)] };
    let request = node! { max_wait_ms: 0, min_bytes: 1, max_bytes: 1000, topics: vec![topic] };
    assert_eq!(
        fetched(&client.ask(Fetch, 13, &request)).int("error_code"),
        100
    );
}

#[test]
fn leader_epochs_are_compared_and_divergence_is_told() {
    let broker = Harness::os();
    broker.create("t", 1);
    fill(&broker, "t", 0, 3, 10);
    broker
        .propose(vec![MetaRecord::RaiseLeaderEpochs { leader: 1 }])
        .unwrap();
    fill(&broker, "t", 0, 2, 10);
    let mut client = broker.connect();
    let mut code = |epoch: i64| {
        let part = node! {
            partition: 0, fetch_offset: 0, partition_max_bytes: 1000, current_leader_epoch: epoch,
        };
        let answer = client.ask(
            Fetch,
            16,
            &node! {
                max_wait_ms: 0, min_bytes: 1, max_bytes: 1000,
                topics: vec![node! { topic_id: topic_id("t"), partitions: vec![part] }],
            },
        );
        let leader = fetched(&answer).get("current_leader").int("leader_epoch");
        (fetched(&answer).int("error_code"), leader)
    };
    assert_eq!(code(0), (74, 1));
    assert_eq!(code(1), (0, -1));
    assert_eq!(code(2), (75, -1));
    assert_eq!(code(-1), (0, -1));
    // Epoch 0 ended at 3: who read further in it has read what is no more.
    let part = node! {
        partition: 0, fetch_offset: 5, partition_max_bytes: 1000, last_fetched_epoch: 0,
    };
    let answer = client.ask(Fetch, 12, &ask(15_000, 1, 1000, vec![part]));
    let diverging = fetched(&answer).get("diverging_epoch");
    assert_eq!(
        (diverging.int("epoch"), diverging.int("end_offset")),
        (0, 3)
    );
    assert!(fetched(&answer).bytes("records").is_empty());
}

#[test]
fn a_session_tells_only_what_changed() {
    let broker = Harness::os();
    broker.create("t", 3);
    fill(&broker, "t", 1, 1, 10);
    let mut client = broker.connect();
    let session = |id: i64, epoch: i64, parts: Vec<Node>, forget: Vec<Node>| {
        let topics = if parts.is_empty() {
            vec![]
        } else {
            vec![node! { topic: "t", partitions: parts }]
        };
        let forgotten = if forget.is_empty() {
            vec![]
        } else {
            vec![node! { topic: "t", partitions: forget }]
        };
        node! {
            max_wait_ms: 20, min_bytes: 1, max_bytes: 1 << 20, session_id: id,
            session_epoch: epoch, topics: topics, forgotten_topics_data: forgotten,
        }
    };
    let all = (0..3).map(|p| part(p, 0, 1 << 20)).collect();
    let answer = client.ask(Fetch, 11, &session(0, 0, all, vec![]));
    assert_eq!(answer.int("error_code"), 0);
    assert_eq!(counts(&answer), [(0, 0), (1, 1), (2, 0)]);
    let id = answer.int("session_id");
    assert_ne!(id, 0);
    // Nothing new but the position of partition 1.
    let answer = client.ask(
        Fetch,
        11,
        &session(id, 1, vec![part(1, 1, 1 << 20)], vec![]),
    );
    assert_eq!((counts(&answer), answer.int("session_id")), (vec![], id));
    fill(&broker, "t", 2, 2, 10);
    let answer = client.ask(Fetch, 11, &session(id, 2, vec![], vec![]));
    assert_eq!(counts(&answer), [(2, 2)]);
    // Forgotten partitions are not told of any more; another connection may go on.
    fill(&broker, "t", 0, 1, 10);
    let mut other = broker.connect();
    let answer = other.ask(Fetch, 11, &session(id, 3, vec![], vec![Node::Int(2)]));
    assert_eq!(counts(&answer), [(0, 1)]);
    // The wrong epoch, an unknown session, a session by name used with ids.
    let answer = client.ask(Fetch, 11, &session(id, 9, vec![], vec![]));
    assert_eq!(
        (answer.int("error_code"), answer.int("session_id")),
        (71, 0)
    );
    let answer = client.ask(Fetch, 11, &session(id + 1, 4, vec![], vec![]));
    assert_eq!(answer.int("error_code"), 70);
    let answer = client.ask(Fetch, 13, &session(id, 4, vec![], vec![]));
    assert_eq!(answer.int("error_code"), 106);
    // A full fetch that names it with epoch -1 closes it.
    let answer = client.ask(Fetch, 11, &session(id, -1, vec![part(0, 0, 1000)], vec![]));
    assert_eq!(
        (counts(&answer), answer.int("session_id")),
        (vec![(0, 1)], 0)
    );
    let answer = client.ask(Fetch, 11, &session(id, 4, vec![], vec![]));
    assert_eq!(answer.int("error_code"), 70);
    assert_eq!(broker.count("fetch_sessions"), 0);
}

#[test]
fn who_finds_no_place_for_a_session_is_served_without() {
    let broker = Harness::with(|config| config.limits.fetch_session_slots = 2);
    broker.create("t", 1);
    let ids: Vec<i64> = (0..3)
        .map(|_| {
            let mut request = fetch("t", 0, 0);
            if let Node::Map(fields) = &mut request {
                fields.push(("session_epoch".to_owned(), Node::Int(0)));
            }
            let answer = broker.connect().ask(Fetch, 7, &request);
            assert_eq!(fetched(&answer).int("error_code"), 0);
            answer.int("session_id")
        })
        .collect();
    assert!(ids[0] != 0 && ids[1] != 0 && ids[0] != ids[1]);
    assert_eq!(ids[2], 0);
}

#[test]
fn a_peer_that_does_not_read_holds_up_nobody() {
    let broker = Harness::with(|config| {
        config.io_threads = 1;
        config.durability = mqlog_log::Durability::Os;
    });
    broker.create("t", 1);
    fill(&broker, "t", 0, 40, 900_000);
    let mut stuck = broker.connect();
    for _ in 0..4 {
        stuck.send(Fetch, 11, &fetch_with("t", 0, 0, 0, 30 << 20));
    }
    let mut other = broker.connect();
    for _ in 0..20 {
        let answer = other.ask(Fetch, 11, &fetch_with("t", 0, 3, 0, 1000));
        assert_eq!(counts(&answer), [(0, 1)]);
    }
    // And when it reads at last it gets everything.
    for _ in 0..4 {
        assert_eq!(counts(&stuck.receive(Fetch, 11).1), [(0, 34)]);
    }
}
