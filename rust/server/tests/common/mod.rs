//! A broker in this process and clients over real sockets.
#![allow(dead_code, clippy::unwrap_used)]

#[macro_use]
pub mod node;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mqlog_log::Durability;
use mqlog_meta::MetaRecord;
use mqlog_protocol::header::{parse_response_header, request_header};
use mqlog_protocol::ApiKey;
use mqlog_record::{BatchBuilder, Batches, Codec};
use mqlog_server::{Broker, BrokerConfig, ControlEvent, ControlPlane};
use node::Node;

/// Longest wait for anything; a test that gets here fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane that keeps what it gets until somebody asks for it.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<ControlEvent>>,
    arrived: Condvar,
}

impl ControlPlane for Recorder {
    fn submit(&self, event: ControlEvent) {
        self.events.lock().unwrap().push(event);
        self.arrived.notify_all();
    }
}

impl Recorder {
    /// Takes the first event that `wanted` knows what to do with.
    pub fn take<T>(&self, wanted: impl Fn(&ControlEvent) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut events = self.events.lock().unwrap();
        loop {
            let found = events
                .iter()
                .enumerate()
                .find_map(|(i, e)| wanted(e).map(|t| (i, t)));
            if let Some((index, taken)) = found {
                events.remove(index);
                return taken;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such event; there are {events:?}");
            events = self.arrived.wait_timeout(events, left).unwrap().0;
        }
    }
}

/// A broker on a temporary directory.
pub struct Harness {
    pub broker: Option<Broker>,
    pub control: Arc<Recorder>,
    pub config: BrokerConfig,
    proposals: AtomicU64,
}

impl Harness {
    pub fn os() -> Harness {
        Harness::with(|config| config.durability = Durability::Os)
    }

    pub fn fsync() -> Harness {
        Harness::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut BrokerConfig)) -> Harness {
        let mut config = BrokerConfig::new(temp_dir(), "127.0.0.1:0".parse().unwrap());
        config.io_threads = 2;
        change(&mut config);
        let mut harness = Harness {
            broker: None,
            control: Arc::default(),
            config,
            proposals: AtomicU64::new(1),
        };
        harness.start();
        harness
    }

    /// One that was started by other means.
    pub fn of(broker: Broker, control: Arc<Recorder>, config: BrokerConfig) -> Harness {
        Harness {
            broker: Some(broker),
            control,
            config,
            proposals: AtomicU64::new(1),
        }
    }

    pub fn start(&mut self) {
        let started = Broker::start(self.config.clone(), self.control.clone());
        self.broker = Some(started.unwrap());
    }

    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    /// Ends it as a crash of the process would.
    pub fn kill(&mut self) {
        self.broker.take().unwrap().kill();
    }

    pub fn stop(&mut self) {
        self.broker.take().unwrap().shutdown();
    }

    pub fn address(&self) -> SocketAddr {
        self.broker().local_addrs()[0]
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub fn propose(&self, records: Vec<MetaRecord>) -> Result<(), String> {
        let id = self.proposals.fetch_add(1, SeqCst);
        self.broker().propose(id, records);
        self.control.take(|event| match event {
            ControlEvent::Proposed { id: done, result } if *done == id => Some(result.clone()),
            _ => None,
        })
    }

    /// Makes a topic; its id is made from its name.
    pub fn create(&self, name: &str, partitions: i32) -> [u8; 16] {
        self.create_with(name, partitions, &[])
    }

    pub fn create_with(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> [u8; 16] {
        let id = topic_id(name);
        self.create_as(name, id, partitions, configs);
        id
    }

    pub fn create_as(&self, name: &str, id: [u8; 16], partitions: i32, configs: &[(&str, &str)]) {
        let mut records = vec![MetaRecord::Topic {
            id,
            name: name.to_owned(),
        }];
        records.extend((0..partitions).map(|index| MetaRecord::Partition {
            topic_id: id,
            index,
            leader: self.config.node_id,
            leader_epoch: 0,
            replicas: vec![self.config.node_id],
            isr: vec![self.config.node_id],
        }));
        records.extend(configs.iter().map(|(key, value)| MetaRecord::Config {
            resource_type: 2,
            name: name.to_owned(),
            key: (*key).to_owned(),
            value: Some((*value).to_owned()),
        }));
        self.propose(records).unwrap();
    }

    /// A counter of the broker.
    pub fn count(&self, name: &str) -> u64 {
        self.broker().stats().counters[name]
    }

    /// Waits until a counter has reached `least`.
    pub fn count_reaches(&self, name: &str, least: u64) {
        eventually(name, || self.count(name) >= least);
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        drop(self.broker.take());
        let _ = std::fs::remove_dir_all(&self.config.data_dir);
    }
}

pub fn topic_id(name: &str) -> [u8; 16] {
    let mut id = [7; 16];
    for (place, byte) in id.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    id
}

/// Memory of this process that is in RAM.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Polls until `done`; fails after a long while.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn temp_dir() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, SeqCst);
    let name = format!("mqlog-server-test-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// One blocking connection.
pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next: 1 }
    }

    /// A frame with the next correlation id.
    pub fn frame(&mut self, api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 4];
        request_header(api, version, self.next, Some("test"), &mut frame).unwrap();
        self.next += 1;
        frame.extend_from_slice(body);
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        // A broker that has closed already may refuse; the test looks at what it can read.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends without waiting for the answer; returns the correlation id.
    pub fn send(&mut self, api: ApiKey, version: i16, node: &Node) -> i32 {
        let body = node::encode(api, version, node);
        let frame = self.frame(api, version, &body);
        self.send_raw(&frame);
        self.next - 1
    }

    /// The next frame, without its length.
    pub fn receive_raw(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// The next answer, which must be to a request of this kind.
    pub fn receive(&mut self, api: ApiKey, version: i16) -> (i32, Node) {
        let frame = self.receive_raw().expect("an answer");
        let (id, body) = parse_response_header(api, version, &frame).unwrap();
        (id, node::decode(api, version, &frame[body..]))
    }

    pub fn ask(&mut self, api: ApiKey, version: i16, node: &Node) -> Node {
        let sent = self.send(api, version, node);
        let (id, answer) = self.receive(api, version);
        assert_eq!(id, sent, "answers are in request order");
        answer
    }

    /// Nothing more comes: the broker has closed.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Nothing has come within a moment. For "it waits": too early is no failure of the broker.
    pub fn is_silent(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(Duration::from_millis(60)))
            .unwrap();
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        peeked.is_err()
    }
}

/// A batch of records with these values.
pub fn batch(values: &[&str]) -> Vec<u8> {
    batch_at(values, 1_700_000_000_000)
}

pub fn batch_at(values: &[&str], timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder
            .append(None, Some(value.as_bytes()), timestamp, &[])
            .unwrap();
    }
    builder.build().unwrap()
}

/// A produce request by name: `(partition, records)`.
pub fn produce(topic: &str, acks: i64, parts: &[(i64, Vec<u8>)]) -> Node {
    produce_topics(acks, &[(topic, parts)])
}

/// Partition numbers and what each gets.
pub type Partitions<'a> = &'a [(i64, Vec<u8>)];

pub fn produce_topics(acks: i64, topics: &[(&str, Partitions<'_>)]) -> Node {
    let topics: Vec<Node> = topics
        .iter()
        .map(|(topic, parts)| node! { name: *topic, partition_data: parts_node(parts) })
        .collect();
    node! { acks: acks, timeout_ms: 15_000, topic_data: topics }
}

pub fn parts_node(parts: &[(i64, Vec<u8>)]) -> Vec<Node> {
    parts
        .iter()
        .map(|(index, records)| node! { index: *index, records: records.clone() })
        .collect()
}

/// The only partition of a produce answer.
pub fn produced(answer: &Node) -> &Node {
    answer
        .get("responses")
        .at(0)
        .get("partition_responses")
        .at(0)
}

/// A fetch of one partition by name.
pub fn fetch(topic: &str, partition: i64, offset: i64) -> Node {
    fetch_with(topic, partition, offset, 0, 1 << 20)
}

pub fn fetch_with(topic: &str, partition: i64, offset: i64, wait: i64, max: i64) -> Node {
    node! {
        max_wait_ms: wait, min_bytes: 1, max_bytes: max,
        topics: vec![node! { topic: topic, partitions: vec![
            node! { partition: partition, fetch_offset: offset, partition_max_bytes: max },
        ]}],
    }
}

/// The only partition of a fetch answer.
pub fn fetched(answer: &Node) -> &Node {
    answer.get("responses").at(0).get("partitions").at(0)
}

/// Offset and value of every record.
pub fn records(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        assert!(batch.verify_crc());
        let open = batch.open(1 << 24).unwrap();
        for record in open.records() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push((record.offset, value));
        }
    }
    found
}
