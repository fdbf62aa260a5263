//! The other end of a connection, scripted: a thread that reads requests and says anything.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mqlog_client::config::NetConfig;
use mqlog_client::{Cluster, IoThread};
use mqlog_protocol::header::{begin_response, end_frame, RequestHeader};
use mqlog_protocol::messages::api_versions::{ApiVersionsResponse, ApiVersionsResponseVersion};
use mqlog_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use mqlog_protocol::ApiKey;

/// A request as it came.
#[derive(Debug)]
pub struct Asked {
    pub api: ApiKey,
    pub version: i16,
    pub id: i32,
    pub body: Vec<u8>,
}

/// One connection, seen from the broker.
pub struct Line(pub TcpStream);

impl Line {
    /// The next request; `None` at the end.
    pub fn next(&mut self) -> Option<Asked> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).ok()?;
        let header = RequestHeader::parse(&frame).unwrap();
        Some(Asked {
            api: header.api().unwrap(),
            version: header.api_version,
            id: header.correlation_id,
            body: frame[header.body_offset..].to_vec(),
        })
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        // The client may have gone already; what it says about that is what is tested.
        let _ = self.0.write_all(bytes);
    }

    pub fn reply(&mut self, asked: &Asked, body: &[u8]) {
        let frame = framed(asked.api, asked.version, asked.id, body);
        self.raw(&frame);
    }

    /// Answers ApiVersions with all that Kafka 4.3 states, and goes on.
    pub fn greet(&mut self) {
        let asked = self.next().unwrap();
        assert_eq!(asked.api, ApiKey::ApiVersions);
        let body = api_versions(asked.version);
        self.reply(&asked, &body);
    }
}

pub fn framed(api: ApiKey, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_response(api, version, id, &mut out);
    out.extend_from_slice(body);
    end_frame(start, 0, &mut out).unwrap();
    out
}

pub fn api_versions(version: i16) -> Vec<u8> {
    api_versions_up_to(version, ApiKey::Produce, i16::MAX)
}

/// The same, of one API only up to a version.
pub fn api_versions_up_to(version: i16, of: ApiKey, newest: i16) -> Vec<u8> {
    let api_keys = ApiKey::all()
        .filter_map(|api| Some((api, api.advertised()?)))
        .map(|(api, versions)| ApiVersionsResponseVersion {
            api_key: api as i16,
            min_version: versions.min,
            max_version: if api == of {
                versions.max.min(newest)
            } else {
                versions.max
            },
        })
        .collect();
    let mut out = Vec::new();
    let answer = ApiVersionsResponse {
        api_keys,
        ..Default::default()
    };
    answer.encode(version, &mut out).unwrap();
    out
}

/// The metadata of a cluster of these nodes, with a topic `t` whose partition 0 the first leads.
pub fn metadata(version: i16, nodes: &[(i32, u16)], epoch: i32) -> Vec<u8> {
    let brokers = nodes.iter().map(|(node_id, port)| MetadataResponseBroker {
        node_id: *node_id,
        host: "127.0.0.1".to_owned(),
        port: i32::from(*port),
        rack: None,
    });
    let answer = MetadataResponse {
        brokers: brokers.collect(),
        controller_id: nodes[0].0,
        topics: vec![MetadataResponseTopic {
            name: Some("t".to_owned()),
            topic_id: [1; 16],
            partitions: vec![MetadataResponsePartition {
                leader_id: nodes[0].0,
                leader_epoch: epoch,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut out = Vec::new();
    answer.encode(version, &mut out).unwrap();
    out
}

/// A listener whose connections are handled one after the other by `script`, which gets the number
/// of each. It ends with the test's process.
pub fn serve(mut script: impl FnMut(usize, Line) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream.set_nodelay(true).unwrap();
            script(number, Line(stream));
        }
    });
    port
}

/// The same, each connection in a thread of its own.
pub fn serve_all(script: impl Fn(usize, Line) + Send + Sync + 'static) -> u16 {
    let script = Arc::new(script);
    serve(move |number, line| {
        let script = script.clone();
        let _: JoinHandle<()> = std::thread::spawn(move || script(number, line));
    })
}

/// A port that nobody listens on.
pub fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub fn config(ports: &[u16]) -> NetConfig {
    NetConfig {
        bootstrap: ports
            .iter()
            .map(|port| ("127.0.0.1".to_owned(), *port))
            .collect(),
        client_id: "test".to_owned(),
        client_rack: String::new(),
        tls: None,
        sasl: None,
        request_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        reconnect_backoff: Duration::from_millis(10),
        reconnect_backoff_max: Duration::from_millis(50),
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(50),
        metadata_max_age: Duration::from_secs(300),
        connections_max_idle: Duration::from_secs(300),
        receive_max_bytes: 100_000_000,
        send_buffer: None,
        receive_buffer: None,
        allow_auto_create: true,
    }
}

/// Runs a future on a cluster's thread and waits for it.
pub fn run<F>(cluster: &Arc<Cluster>, task: impl FnOnce(Arc<Cluster>) -> F) -> F::Output
where
    F: std::future::Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (told, heard) = std::sync::mpsc::channel();
    let future = task(cluster.clone());
    cluster.io().spawn(async move {
        let _ = told.send(future.await);
    });
    heard.recv_timeout(Duration::from_secs(60)).unwrap()
}

pub fn cluster(config: NetConfig) -> Arc<Cluster> {
    Cluster::new(config, IoThread::start().unwrap()).unwrap()
}
