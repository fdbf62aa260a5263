//! Seeded fuzzing of a live broker: every (API, version) that is served, half of the inputs valid,
//! half with one mutation. The broker answers or closes; it never panics, and a connection beside
//! the fuzzed ones is served all the time.
//!
//! A smoke by default. `MQLOG_FUZZ_INPUTS=10000000 MQLOG_FUZZ_SEED=7 cargo test --release -p
//! mqlog-server --test fuzz -- --nocapture` runs for long and prints what became of each pair.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use mqlog_protocol::header::request_header;
use mqlog_protocol::schema::{FieldType, Kind, StructSpec};
use mqlog_protocol::{codec, tables, ApiKey, Value};
use mqlog_server::{Broker, BrokerConfig, ControlEvent, ControlPlane};

/// A connection that says nothing for this long waits, for a fetch say, and is given up.
const SILENCE: Duration = Duration::from_millis(100);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(default)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn value(&mut self, kind: &FieldType, name: &str) -> Value {
        match kind {
            FieldType::Bool => Value::Bool(self.below(2) == 1),
            FieldType::Float64 => Value::Float(1.5),
            FieldType::Str => Value::Str(self.pick(&["t", "", "u", "a/b", "x.y"]).to_owned()),
            FieldType::Bytes => Value::Bytes(vec![0; self.below(40)]),
            FieldType::Records => Value::Bytes(self.records()),
            FieldType::Uuid => Value::Uuid(self.pick(&[topic_id("t"), [0; 16], [9; 16]])),
            FieldType::Array(of) => {
                Value::Array((0..self.below(4)).map(|_| self.value(of, name)).collect())
            }
            FieldType::Struct(spec) => self.structure(spec),
            // Anything longer would only be waited for.
            _ if name == "max_wait_ms" || name == "timeout_ms" => Value::Int(1),
            FieldType::Int8 => Value::Int(self.pick(&[0, 1, -1, 127])),
            FieldType::Int16 => Value::Int(self.pick(&[0, 1, -1, 2, 32767])),
            FieldType::Int64 => Value::Int(self.pick(&[0, 1, -1, -2, 5, i64::MAX])),
            _ => Value::Int(self.pick(&[0, 0, 0, 1, 2, -1, 1000, i64::from(i32::MAX)])),
        }
    }

    fn structure(&mut self, spec: &StructSpec) -> Value {
        let fields = spec.fields.iter();
        Value::Struct(
            fields
                .map(|field| self.value(&field.kind, field.name))
                .collect(),
        )
    }

    fn records(&mut self) -> Vec<u8> {
        let mut records = batch(&["one", "two"]);
        if self.below(3) == 0 {
            self.mutate(&mut records, 0);
        }
        records
    }

    /// One mutation at or after `from`.
    fn mutate(&mut self, bytes: &mut Vec<u8>, from: usize) {
        if bytes.len() <= from {
            return;
        }
        let at = from + self.below(bytes.len() - from);
        match self.below(6) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, self.next() as u8),
            4 => _ = bytes.remove(at),
            _ => {
                let huge = self
                    .pick(&[i32::MAX, -1, -2, i32::MIN, 0x00ff_ffff])
                    .to_be_bytes();
                for (place, byte) in bytes[at..].iter_mut().zip(huge) {
                    *place = byte;
                }
            }
        }
    }
}

/// Answers every control request at once with an empty body.
struct Empty(Mutex<Sender<u64>>);

impl ControlPlane for Empty {
    fn submit(&self, event: ControlEvent) {
        if let ControlEvent::Request(request) = event {
            let _ = self.0.lock().unwrap().send(request.token);
        }
    }
}

fn pairs() -> Vec<(ApiKey, i16)> {
    let served = [
        0, 1, 2, 3, 10, 18, 19, 20, 21, 22, 23, 32, 33, 35, 37, 44, 60, 61, 74, 75,
    ];
    let apis = served.iter().map(|key| ApiKey::from_i16(*key).unwrap());
    apis.flat_map(|api| {
        let range = tables::find(Kind::Request, api as i16).unwrap().versions;
        (range.min..=range.max).map(move |version| (api, version))
    })
    .collect()
}

/// What became of the inputs of one pair.
#[derive(Default)]
struct Outcomes {
    answered: u64,
    unanswered: u64,
    closed: u64,
    waiting: u64,
}

#[test]
fn every_request_is_answered_or_closed_and_nothing_panics() {
    let inputs = setting("MQLOG_FUZZ_INPUTS", 20_000);
    let seed = setting("MQLOG_FUZZ_SEED", 1);
    println!("{inputs} inputs, seed {seed}");
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, SeqCst);
        before(info);
    }));

    let harness = Harness::os();
    let mut config = BrokerConfig::new(
        harness.config.data_dir.join("fuzzed"),
        "127.0.0.1:0".parse().unwrap(),
    );
    config.durability = mqlog_log::Durability::Os;
    config.auto_create_topics = false;
    std::fs::create_dir_all(&config.data_dir).unwrap();
    let (tokens, asked) = channel();
    let broker = Arc::new(Broker::start(config, Arc::new(Empty(Mutex::new(tokens)))).unwrap());
    make_topic(&broker);
    let replier = broker.clone();
    std::thread::spawn(move || asked.iter().for_each(|token| _ = replier.reply(token, [])));

    let done = Arc::new(AtomicBool::new(false));
    let (address, stop) = (broker.local_addrs()[0], done.clone());
    let healthy = std::thread::spawn(move || {
        let mut client = Client::connect(address);
        let mut rounds = 0u64;
        while !stop.load(SeqCst) {
            let answer = client.ask(ApiKey::Fetch, 11, &fetch("t", 0, 0));
            assert_eq!(fetched(&answer).int("error_code"), 0);
            std::thread::sleep(Duration::from_millis(1));
            rounds += 1;
        }
        rounds
    });

    let before = resident_bytes();
    let outcomes = run(&broker, inputs, seed);
    let grown = resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 64, "grew by {grown} MiB (seed {seed})");
    done.store(true, SeqCst);
    assert!(
        healthy.join().unwrap() > 0,
        "the connection beside was served"
    );
    assert_eq!(PANICS.load(SeqCst), 0, "nothing panicked (seed {seed})");
    let total = outcomes
        .values()
        .map(|o| o.answered + o.unanswered + o.closed + o.waiting);
    assert_eq!(total.sum::<u64>(), inputs);
    for ((api, version), o) in &outcomes {
        let Outcomes {
            answered,
            unanswered,
            closed,
            waiting,
        } = o;
        println!("{api:?} {version}: {answered} answered, {unanswered} not, {closed} closed, {waiting} waiting");
    }
    eventually("no request bytes are held", || {
        broker.stats().counters["request_bytes_held"] == 0
    });
}

fn make_topic(broker: &Broker) {
    use mqlog_meta::MetaRecord;
    let id = topic_id("t");
    let mut records = vec![MetaRecord::Topic {
        id,
        name: "t".to_owned(),
    }];
    records.extend((0..2).map(|index| MetaRecord::Partition {
        topic_id: id,
        index,
        leader: 1,
        leader_epoch: 0,
        replicas: vec![1],
        isr: vec![1],
    }));
    broker.propose(1, records);
    let mut client = Client::connect(broker.local_addrs()[0]);
    eventually("the topic", || broker.image().topic_named("t").is_some());
    eventually("its log", || {
        let mut probe = Client::connect(broker.local_addrs()[0]);
        fetched(&probe.ask(ApiKey::Fetch, 11, &fetch("t", 0, 0))).int("error_code") == 0
    });
    client.ask(
        ApiKey::Produce,
        8,
        &produce("t", 1, &[(0, batch(&["first"]))]),
    );
}

fn run(broker: &Broker, inputs: u64, seed: u64) -> BTreeMap<(ApiKey, i16), Outcomes> {
    let mut random = Random(seed);
    let mut outcomes: BTreeMap<(ApiKey, i16), Outcomes> = BTreeMap::new();
    let pairs = pairs();
    let mut stream: Option<TcpStream> = None;
    for n in 0..inputs {
        let (api, version) = pairs[(n % pairs.len() as u64) as usize];
        let frame = input(&mut random, api, version);
        let mut live = stream.take().unwrap_or_else(|| {
            let live = TcpStream::connect(broker.local_addrs()[0]).unwrap();
            live.set_read_timeout(Some(SILENCE)).unwrap();
            live.set_nodelay(true).unwrap();
            live
        });
        let outcome = outcomes.entry((api, version)).or_default();
        let result = exchange(&mut live, &frame);
        match result {
            Some(Answers::Some) => outcome.answered += 1,
            Some(Answers::None) => outcome.unanswered += 1,
            Some(Answers::Waits) => outcome.waiting += 1,
            None => outcome.closed += 1,
        }
        let usable = matches!(result, Some(Answers::Some | Answers::None));
        stream = usable.then_some(live);
    }
    outcomes
}

/// A frame of this pair; every second one with a mutation.
fn input(random: &mut Random, api: ApiKey, version: i16) -> Vec<u8> {
    let spec = tables::find(Kind::Request, api as i16).unwrap();
    let mut frame = vec![0; 4];
    request_header(api, version, 1, Some("fuzz"), &mut frame).unwrap();
    let header = frame.len();
    // Values that this version cannot carry are left out for its defaults.
    let mut value = random.structure(&spec.root);
    if codec::encode(spec, version, &value, &mut frame).is_err() {
        frame.truncate(header);
        value = Value::default_struct(&spec.root);
        if codec::encode(spec, version, &value, &mut frame).is_err() {
            frame.truncate(header);
        }
    }
    let wrong_length = random.below(200) == 0;
    if random.below(2) == 0 {
        random.mutate(&mut frame, 4);
    }
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    if wrong_length {
        let prefix = random.pick(&[-1, i32::MAX, length - 1, length + 1]);
        frame[..4].copy_from_slice(&prefix.to_be_bytes());
    }
    frame
}

/// What came back before the answer to a probe that was sent behind.
enum Answers {
    Some,
    None,
    /// Not even the probe was answered: the request waits.
    Waits,
}

/// Sends a frame and a probe behind it. `None`: the broker closed.
fn exchange(stream: &mut TcpStream, frame: &[u8]) -> Option<Answers> {
    const PROBE: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0x7e, 0x57, 0x7e, 0x57, 0xff, 0xff];
    let mut bytes = frame.to_vec();
    bytes.extend_from_slice(&PROBE);
    stream.write_all(&bytes).ok()?;
    let mut answered = false;
    loop {
        let mut head = [0; 8];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Some(Answers::Waits),
            Err(_) => return None,
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut rest = vec![0; length.checked_sub(4).expect("a whole header")];
        stream.read_exact(&mut rest).ok()?;
        if head[4..] == PROBE[8..12] {
            return Some(if answered {
                Answers::Some
            } else {
                Answers::None
            });
        }
        answered = true;
    }
}
