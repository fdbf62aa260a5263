//! What Rust answers from the metadata: ApiVersions, Metadata, ListOffsets, OffsetForLeaderEpoch.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod common;

use common::node::Node;
use common::*;
use mqlog_meta::MetaRecord;
use mqlog_protocol::ApiKey::{
    self, ApiVersions, ListOffsets, Metadata, OffsetForLeaderEpoch, Produce,
};
use mqlog_server::{ControlEvent, ControlRequest};

fn request_of(event: &ControlEvent) -> Option<ControlRequest> {
    match event {
        ControlEvent::Request(request) => Some(request.clone()),
        _ => None,
    }
}

#[test]
fn api_versions_lists_what_is_served_with_kafkas_ranges() {
    let broker = Harness::os();
    let mut client = broker.connect();
    for version in 0..=4 {
        let node = match version {
            3.. => node! { client_software_name: "n", client_software_version: "1" },
            _ => node! {},
        };
        let answer = client.ask(ApiVersions, version, &node);
        assert_eq!(answer.int("error_code"), 0);
        let listed = answer.get("api_keys").list();
        for api in listed {
            let known = ApiKey::from_i16(api.int("api_key") as i16).unwrap();
            let range = known.advertised().unwrap();
            let told = (api.int("min_version"), api.int("max_version"));
            assert_eq!(told, (i64::from(range.min), i64::from(range.max)));
        }
        assert_eq!(listed.len(), 45);
        if version >= 3 {
            let feature = answer.get("finalized_features").at(0);
            assert_eq!(feature.text("name"), "metadata.version");
            assert!(answer.int("finalized_features_epoch") >= 0);
        }
    }
    let node = node! { client_software_name: "-bad", client_software_version: "1" };
    assert_eq!(client.ask(ApiVersions, 3, &node).int("error_code"), 42);
}

#[test]
fn metadata_in_every_version_names_the_address_that_was_reached() {
    let broker = Harness::with(|config| config.rack = Some("r1".to_owned()));
    let id = broker.create("t", 2);
    let mut client = broker.connect();
    for version in 0..=13 {
        let topic = node! { name: "t" };
        let answer = client.ask(Metadata, version, &node! { topics: vec![topic] });
        let node = answer.get("brokers").at(0);
        assert_eq!(node.text("host"), "127.0.0.1");
        assert_eq!(node.int("port"), i64::from(broker.address().port()));
        if version >= 1 {
            assert_eq!((answer.int("controller_id"), node.text("rack")), (1, "r1"));
        }
        if version >= 2 {
            assert_eq!(answer.text("cluster_id"), broker.broker().cluster_id());
        }
        let topic = answer.get("topics").at(0);
        assert_eq!((topic.int("error_code"), topic.text("name")), (0, "t"));
        if version >= 10 {
            assert_eq!(topic.get("topic_id"), &Node::Uuid(id));
        }
        let parts = topic.get("partitions").list();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[1].int("partition_index"), parts[1].int("leader_id")),
            (1, 1)
        );
        assert_eq!(parts[1].get("isr_nodes").list(), [Node::Int(1)]);
    }
}

#[test]
fn all_none_or_some_topics() {
    let broker = Harness::os();
    let id = broker.create("a", 1);
    broker.create("b", 1);
    let mut client = broker.connect();
    let mut names = |version: i16, topics: Node| {
        let request = node! { topics: topics, allow_auto_topic_creation: version < 4 };
        let answer = client.ask(Metadata, version, &request);
        let topics = answer.get("topics").list().iter();
        let named = |t: &Node| match t.get("name") {
            Node::Str(name) => name.clone(),
            _ => "(null)".to_owned(),
        };
        topics
            .map(|t| (named(t), t.int("error_code")))
            .collect::<Vec<_>>()
    };
    let both = vec![("a".to_owned(), 0), ("b".to_owned(), 0)];
    assert_eq!(names(0, Node::List(vec![])), both);
    assert_eq!(names(1, Node::Null), both);
    assert_eq!(names(12, Node::Null), both);
    assert_eq!(names(1, Node::List(vec![])), []);
    assert_eq!(
        names(8, vec![node! { name: "nope" }].into()),
        [("nope".to_owned(), 3)]
    );
    for bad in ["", ".", "..", "a/b", "../x", "a\0b", &"x".repeat(250), "ü"] {
        let found = names(8, vec![node! { name: bad }].into());
        assert_eq!(found, [(bad.to_owned(), 17)]);
    }
    let by_id = |id: [u8; 16]| Node::from(vec![node! { topic_id: id, name: Node::Null }]);
    assert_eq!(names(12, by_id(id)), [("a".to_owned(), 0)]);
    assert_eq!(names(12, by_id([1; 16])), [("(null)".to_owned(), 100)]);
}

#[test]
fn an_unknown_topic_goes_to_the_control_plane_when_it_may_be_made() {
    let broker = Harness::os();
    let mut client = broker.connect();
    let request = |allow: bool| {
        node! { topics: vec![node! { name: "new" }], allow_auto_topic_creation: allow }
    };
    let first = client.ask(Metadata, 4, &request(false));
    assert_eq!(first.get("topics").at(0).int("error_code"), 3);
    client.send(Metadata, 4, &request(true));
    let asked = broker.control.take(request_of);
    assert_eq!((asked.api_key, asked.api_version), (3, 4));
    broker.create("new", 1);
    assert!(broker.broker().reply_metadata(asked.token));
    let (_, answer) = client.receive(Metadata, 4);
    assert_eq!(answer.get("topics").at(0).int("error_code"), 0);
    // One that was not made after all.
    let other = node! { topics: vec![node! { name: "other" }], allow_auto_topic_creation: true };
    client.send(Metadata, 4, &other);
    let asked = broker.control.take(request_of);
    assert!(broker.broker().reply_metadata(asked.token));
    assert_eq!(
        client
            .receive(Metadata, 4)
            .1
            .get("topics")
            .at(0)
            .int("error_code"),
        3
    );

    let broker = Harness::with(|config| config.auto_create_topics = false);
    let answer = broker.connect().ask(Metadata, 4, &request(true));
    assert_eq!(answer.get("topics").at(0).int("error_code"), 3);
}

#[test]
fn an_advertised_address_is_told_instead() {
    let broker = Harness::with(|config| config.advertised = Some(("example.test".into(), 1234)));
    let answer = broker
        .connect()
        .ask(Metadata, 1, &node! { topics: Node::List(vec![]) });
    let node = answer.get("brokers").at(0);
    assert_eq!(
        (node.text("host"), node.int("port")),
        ("example.test", 1234)
    );
}

#[test]
fn one_listener_on_two_addresses_shares_a_free_port() {
    use mqlog_server::Listener;
    let listener = |address: &str| Listener {
        name: "PLAINTEXT".to_owned(),
        address: address.parse().unwrap(),
    };
    let broker = Harness::with(|config| {
        config.listeners = vec![listener("127.0.0.1:0"), listener("[::1]:0")];
    });
    let addresses = broker.broker().local_addrs();
    assert_eq!(addresses[0].port(), addresses[1].port());
    for (address, host) in [(addresses[0], "127.0.0.1"), (addresses[1], "::1")] {
        let answer =
            Client::connect(address).ask(Metadata, 1, &node! { topics: Node::List(vec![]) });
        assert_eq!(answer.get("brokers").at(0).text("host"), host);
    }
}

#[test]
fn offsets_are_listed_by_mark_and_by_time() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    for n in 0..5 {
        let records = batch_at(&["x", "y"], 1_000_000 + n * 10);
        client.ask(Produce, 8, &produce("t", 1, &[(0, records)]));
    }
    let mut list = |version: i16, timestamp: i64| {
        let part = node! { partition_index: 0, timestamp: timestamp };
        let topic = node! { name: "t", partitions: vec![part] };
        let answer = client.ask(ListOffsets, version, &node! { topics: vec![topic] });
        let part = answer.get("topics").at(0).get("partitions").at(0).clone();
        (
            part.int("error_code"),
            part.int("offset"),
            part.int("timestamp"),
        )
    };
    for version in 1..=11 {
        assert_eq!(list(version, -1), (0, 10, -1));
        assert_eq!(list(version, -2), (0, 0, -1));
        assert_eq!(list(version, 0), (0, 0, 1_000_000));
        assert_eq!(list(version, 1_000_011), (0, 4, 1_000_020));
        assert_eq!(list(version, 1_000_040), (0, 8, 1_000_040));
        assert_eq!(list(version, 1_000_041), (0, -1, -1));
        let or_unsupported = |since: i16, answer| {
            if version >= since {
                answer
            } else {
                (35, -1, -1)
            }
        };
        assert_eq!(list(version, -3), or_unsupported(7, (0, 8, 1_000_040)));
        assert_eq!(list(version, -4), or_unsupported(8, (0, 0, -1)));
        assert_eq!(list(version, -5), or_unsupported(9, (0, -1, -1)));
        assert_eq!(list(version, -99), (35, -1, -1));
    }
    let mut codes = |parts: Vec<Node>| {
        let topic = node! { name: "t", partitions: parts };
        let answer = client.ask(ListOffsets, 4, &node! { topics: vec![topic] });
        let parts = answer.get("topics").at(0).get("partitions").list();
        parts
            .iter()
            .map(|p| p.int("error_code"))
            .collect::<Vec<i64>>()
    };
    let at = |index: i64, epoch: i64| {
        node! { partition_index: index, timestamp: -1, current_leader_epoch: epoch }
    };
    assert_eq!(codes(vec![at(0, -1), at(4, -1), at(0, -1)]), [42, 3, 42]);
    assert_eq!(codes(vec![at(0, 7)]), [75]);
}

#[test]
fn the_end_of_a_leader_epoch_is_told() {
    let broker = Harness::os();
    broker.create("t", 1);
    let mut client = broker.connect();
    client.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["a", "b"]))]));
    broker
        .propose(vec![MetaRecord::RaiseLeaderEpochs { leader: 1 }])
        .unwrap();
    client.ask(Produce, 8, &produce("t", 1, &[(0, batch(&["c"]))]));
    let mut ask = |version: i16, current: i64, epoch: i64| {
        let part = node! { partition: 0, current_leader_epoch: current, leader_epoch: epoch };
        let topic = node! { topic: "t", partitions: vec![part] };
        let answer = client.ask(
            OffsetForLeaderEpoch,
            version,
            &node! { topics: vec![topic] },
        );
        let part = answer.get("topics").at(0).get("partitions").at(0).clone();
        (
            part.int("error_code"),
            part.int("leader_epoch"),
            part.int("end_offset"),
        )
    };
    for version in 2..=4 {
        assert_eq!(ask(version, -1, 0), (0, 0, 2));
        assert_eq!(ask(version, 1, 1), (0, 1, 3));
        assert_eq!(ask(version, -1, 5), (0, -1, -1));
        assert_eq!(ask(version, 0, 0), (74, -1, -1));
        assert_eq!(ask(version, 2, 0), (75, -1, -1));
    }
}
