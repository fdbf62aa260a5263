//! A cluster's connections and metadata, against scripted brokers.

#![allow(clippy::unwrap_used)]

mod peer;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqlog_client::call::{self, Call, Target};
use mqlog_client::metadata::Broker;
use mqlog_client::{ClientError, Cluster, Metadata, Purpose};
use mqlog_protocol::messages::metadata::MetadataRequest;
use mqlog_protocol::{ApiKey, CurrentLeader};
use peer::{cluster, config, dead_port, metadata, run, serve_all, Asked, Line};

/// Answers metadata with these nodes and everything else with what was asked.
fn broker(nodes: impl Fn() -> Vec<(i32, u16)> + Send + Sync + 'static) -> (u16, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let port = serve_all(move |_, mut line| {
        count.fetch_add(1, SeqCst);
        line.greet();
        while let Some(asked) = line.next() {
            behave(&mut line, &asked, &nodes());
        }
    });
    (port, connections)
}

fn behave(line: &mut Line, asked: &Asked, nodes: &[(i32, u16)]) {
    match asked.api {
        ApiKey::Metadata => line.reply(asked, &metadata(asked.version, nodes, 5)),
        _ => line.reply(asked, &asked.body),
    }
}

/// One broker, node 1, that names itself.
fn alone() -> (u16, Arc<AtomicUsize>) {
    let own = Arc::new(Mutex::new(0));
    let port = own.clone();
    let (listening, connections) = broker(move || vec![(1, *port.lock().unwrap())]);
    *own.lock().unwrap() = listening;
    (listening, connections)
}

fn wait_for(cluster: &Arc<Cluster>, what: impl Fn(&Metadata) -> bool + Send + Sync + 'static) {
    run(cluster, |cluster| async move {
        let mut watch = cluster.watch();
        watch
            .wait_for(|metadata| what(metadata.as_ref()))
            .await
            .unwrap();
    });
}

#[test]
fn many_who_ask_share_one_connection() {
    let (port, connections) = alone();
    let cluster = cluster(config(&[port]));
    run(&cluster, |cluster| async move {
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let cluster = cluster.clone();
                tokio::spawn(async move { cluster.connection(-1, Purpose::General).await })
            })
            .collect();
        for one in asking {
            one.await.unwrap().unwrap();
        }
        cluster.connection(-1, Purpose::Fetch).await.unwrap();
    });
    assert_eq!(connections.load(SeqCst), 2, "one for each purpose");
}

#[test]
fn what_is_wanted_is_known_soon_and_brokers_are_reached() {
    let (port, _) = alone();
    let cluster = cluster(config(&[port]));
    cluster.want("t");
    wait_for(&cluster, |metadata| metadata.leader("t", 0) == Some((1, 5)));
    let snapshot = cluster.snapshot();
    assert_eq!(snapshot.controller, Some(1));
    assert_eq!(*snapshot.source, *format!("127.0.0.1:{port}"));
    let (node, body) = run(&cluster, |cluster| async move {
        let connection = cluster.controller(Purpose::Admin).await.unwrap();
        let call = Call {
            target: Target::Node(1),
            purpose: Purpose::Group,
            api: ApiKey::Heartbeat,
            version: 0,
            body: "?".into(),
            limit: Some(Duration::from_secs(10)),
            answer_limit: None,
        };
        let answer = call::call(&cluster, call).await.unwrap();
        assert_eq!(answer.node, 1);
        (connection.node_id(), answer.body)
    });
    assert_eq!((node, &*body), (1, &b"?"[..]));
}

#[test]
fn a_topic_that_comes_later_is_asked_for_again() {
    let own = Arc::new(Mutex::new(0u16));
    let asked = Arc::new(AtomicUsize::new(0));
    let (port, count) = (own.clone(), asked.clone());
    let listening = serve_all(move |_, mut line| {
        line.greet();
        let nodes = [(1, *port.lock().unwrap())];
        while let Some(asked) = line.next() {
            let request = MetadataRequest::decode(asked.version, &asked.body).unwrap();
            let whole = metadata(asked.version, &nodes, 5);
            if count.fetch_add(1, SeqCst) < 3 {
                let told = mqlog_protocol::messages::metadata::MetadataResponse::decode(
                    asked.version,
                    &whole,
                );
                let mut told = told.unwrap();
                told.topics[0].error_code = 3;
                told.topics[0].partitions.clear();
                let mut body = Vec::new();
                told.encode(asked.version, &mut body).unwrap();
                line.reply(&asked, &body);
            } else {
                assert_eq!(request.topics.unwrap()[0].name.as_deref(), Some("t"));
                line.reply(&asked, &whole);
            }
        }
    });
    *own.lock().unwrap() = listening;
    let cluster = cluster(config(&[listening]));
    cluster.want("t");
    wait_for(&cluster, |metadata| metadata.topic("t").is_some());
    assert_eq!(asked.load(SeqCst), 4);
}

#[test]
fn one_bootstrap_server_of_many_is_enough() {
    let (alive, _) = alone();
    let silent = serve_all(|_, mut line| while line.next().is_some() {});
    let cluster = cluster(config(&[dead_port(), silent, alive]));
    let node = run(&cluster, |cluster| async move {
        cluster.any(Purpose::General).await.unwrap().node_id()
    });
    assert_eq!(node, -3);
}

#[test]
fn an_address_that_is_advertised_and_not_reached_is_named() {
    let dead = dead_port();
    let (port, _) = broker(move || vec![(7, dead)]);
    let cluster = cluster(config(&[port]));
    let error = run(&cluster, |cluster| async move {
        cluster.update().await.unwrap();
        cluster.connection(7, Purpose::General).await.err().unwrap()
    });
    let text = error.to_string();
    assert!(text.contains("advertised.listeners"), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{dead}")), "{text}");
    assert!(
        text.contains(&format!("127.0.0.1:{port} says that node 7")),
        "{text}"
    );
    assert_eq!(cluster.last_error(), Some(error));
}

#[test]
fn a_node_that_nobody_names_is_an_error_that_may_pass() {
    let (port, _) = alone();
    let cluster = cluster(config(&[port]));
    let error = run(&cluster, |cluster| async move {
        cluster.connection(9, Purpose::General).await.err().unwrap()
    });
    assert!(error.is_retriable() && error.to_string().contains("node 9"));
}

#[test]
fn known_brokers_that_are_gone_send_us_back_to_the_bootstrap_servers() {
    let stopped = dead_port();
    let (port, _) = broker(move || vec![(1, stopped), (2, stopped)]);
    let cluster = cluster(config(&[port]));
    run(&cluster, |cluster| async move {
        cluster.update().await.unwrap();
        // The bootstrap connection is open for General; for another purpose there is none.
        let other = cluster.any(Purpose::Admin).await.unwrap();
        assert_eq!(other.node_id(), -1);
    });
}

#[test]
fn a_failed_connection_is_not_tried_again_at_once() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let port = serve_all(move |_, _line| {
        count.fetch_add(1, SeqCst);
    });
    let mut config = config(&[port]);
    config.reconnect_backoff = Duration::from_millis(200);
    config.reconnect_backoff_max = Duration::from_secs(1);
    let cluster = cluster(config);
    run(&cluster, |cluster| async move {
        let end = tokio::time::Instant::now() + Duration::from_millis(500);
        while tokio::time::Instant::now() < end {
            assert!(cluster.any(Purpose::General).await.is_err());
        }
    });
    // Each attempt asks twice: in the newest version and in the oldest.
    assert!(closed.load(SeqCst) <= 10, "{closed:?}");
}

#[test]
fn who_gives_up_does_not_undo_the_opening() {
    let slow = Arc::new(AtomicBool::new(true));
    let port = serve_all(move |_, mut line| {
        if slow.swap(false, SeqCst) {
            std::thread::sleep(Duration::from_millis(300));
        }
        line.greet();
        line.next();
    });
    let cluster = cluster(config(&[port]));
    let attempts = run(&cluster, |cluster| async move {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let opening = cluster.connection(-1, Purpose::General);
            if let Ok(opened) = tokio::time::timeout(Duration::from_millis(20), opening).await {
                opened.unwrap();
                return attempts;
            }
        }
    });
    assert!(attempts > 2);
    let opened = cluster.metrics().counts();
    assert_eq!(opened[0], ("connections_opened", 1));
}

#[test]
fn a_hint_moves_a_leader_without_asking() {
    let (port, _) = alone();
    let (other, connections) = alone();
    let cluster = cluster(config(&[port]));
    cluster.want("t");
    wait_for(&cluster, |metadata| metadata.leader("t", 0) == Some((1, 5)));
    let before = cluster.snapshot();
    let leader = CurrentLeader {
        leader_id: 2,
        leader_epoch: 6,
    };
    let node = Broker {
        id: 2,
        host: "127.0.0.1".into(),
        port: other,
        rack: None,
    };
    cluster.apply_hint("t", 0, leader, Some(node));
    let after = cluster.snapshot();
    assert_eq!(after.leader("t", 0), Some((2, 6)));
    assert_eq!(after.updated, before.updated, "nobody was asked");
    run(&cluster, |cluster| async move {
        cluster.connection(2, Purpose::General).await.unwrap();
    });
    assert_eq!(connections.load(SeqCst), 1);
}

#[test]
fn a_broker_that_moved_is_reached_at_its_new_address() {
    let (first, _) = alone();
    let (second, _) = alone();
    let moved = Arc::new(AtomicBool::new(false));
    let says = moved.clone();
    let (port, _) = broker(move || match says.load(SeqCst) {
        true => vec![(1, second)],
        false => vec![(1, first)],
    });
    let cluster = cluster(config(&[port]));
    run(&cluster, |cluster| async move {
        cluster.update().await.unwrap();
        let old = cluster.connection(1, Purpose::Fetch).await.unwrap();
        moved.store(true, SeqCst);
        cluster
            .fetch_metadata(Some(Vec::new()), false)
            .await
            .unwrap();
        // General goes to the bootstrap server, which is open.
        let new = cluster.connection(1, Purpose::Fetch).await.unwrap();
        assert_eq!(**new.address(), *format!("127.0.0.1:{second}"));
        assert!(old.is_open(), "what is in flight may end");
    });
}

#[test]
fn closing_ends_all_that_waits() {
    let silent = serve_all(|_, mut line| {
        line.greet();
        while line.next().is_some() {}
    });
    let cluster = cluster(config(&[silent]));
    let error = run(&cluster, |cluster| async move {
        let updating = tokio::spawn({
            let cluster = cluster.clone();
            async move { cluster.update().await }
        });
        while cluster.connected() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cluster.close();
        let error = updating.await.unwrap().err().unwrap();
        assert!(matches!(
            cluster.any(Purpose::General).await,
            Err(ClientError::Closed(_))
        ));
        error
    });
    assert!(matches!(error, ClientError::Closed(_)), "{error}");
}
