//! The smallest broker that a client can use: topics are made on demand or by CreateTopics, with
//! one partition unless asked otherwise, and idempotent producers get ids. Everything that a real
//! control plane decides (names, limits, configs, retention) is missing; `mqlog serve` has it.
//!
//! It is also what the data plane is measured with when Python is to stay out of the picture:
//!
//! ```text
//! cargo run --release -p mqlog-server --example minimal -- DIR 127.0.0.1:9092 [os|fsync]
//! ```
#![allow(clippy::print_stdout)]

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::mpsc::{channel, Receiver, Sender};

use mqlog_log::Durability;
use mqlog_meta::MetaRecord;
use mqlog_protocol::messages::metadata::MetadataRequest;
use mqlog_protocol::schema::Kind;
use mqlog_protocol::{codec, tables, ApiKey, ErrorCode, Value};
use mqlog_server::{Broker, BrokerConfig, ControlEvent, ControlPlane, ControlRequest};

type Failure = Box<dyn std::error::Error>;

struct Queue(Sender<ControlEvent>);

impl ControlPlane for Queue {
    fn submit(&self, event: ControlEvent) {
        let _ = self.0.send(event);
    }
}

/// What to do when a proposal is through.
enum Then {
    Answer(u64, Vec<u8>),
    Metadata(u64),
}

struct Control {
    broker: Broker,
    proposals: u64,
    after: HashMap<u64, Then>,
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let dir = args
        .next()
        .ok_or("usage: minimal DIR HOST:PORT [os|fsync]")?;
    let address = args.next().unwrap_or("127.0.0.1:9092".to_owned()).parse()?;
    let mut config = BrokerConfig::new(dir, address);
    if args.next().as_deref() == Some("os") {
        config.durability = Durability::Os;
    }
    let (sender, events) = channel();
    let broker = Broker::start(config, std::sync::Arc::new(Queue(sender)))?;
    println!("ready {}", broker.local_addrs()[0]);
    Control {
        broker,
        proposals: 0,
        after: HashMap::new(),
    }
    .run(events)
}

impl Control {
    fn run(mut self, events: Receiver<ControlEvent>) -> Result<(), Failure> {
        for event in events {
            match event {
                ControlEvent::Request(request) => self.request(&request)?,
                ControlEvent::Proposed { id, .. } => match self.after.remove(&id) {
                    Some(Then::Answer(token, body)) => _ = self.broker.reply(token, body),
                    Some(Then::Metadata(token)) => _ = self.broker.reply_metadata(token),
                    None => {}
                },
                ControlEvent::DirOffline(reason) => return Err(reason.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn request(&mut self, request: &ControlRequest) -> Result<(), Failure> {
        match ApiKey::from_i16(request.api_key) {
            Some(ApiKey::Metadata) => self.auto_create(request),
            Some(ApiKey::CreateTopics) => self.create_topics(request),
            Some(ApiKey::InitProducerId) => self.init_producer_id(request),
            _ => {
                self.broker.close(request.token);
                Ok(())
            }
        }
    }

    fn auto_create(&mut self, request: &ControlRequest) -> Result<(), Failure> {
        let body = MetadataRequest::decode(request.api_version, &request.body)?;
        let names = body
            .topics
            .unwrap_or_default()
            .into_iter()
            .filter_map(|topic| topic.name);
        let image = self.broker.image();
        let records = names
            .filter(|name| image.topic_named(name).is_none())
            .flat_map(|n| topic(&n, 1));
        let records = records.collect();
        self.propose(records, Then::Metadata(request.token));
        Ok(())
    }

    fn create_topics(&mut self, request: &ControlRequest) -> Result<(), Failure> {
        let asked = decode(request)?;
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        for one in array(field(ApiKey::CreateTopics, &asked, "topics")) {
            let Value::Struct(fields) = one else { continue };
            let (Some(Value::Str(name)), Some(Value::Int(count))) = (fields.first(), fields.get(1))
            else {
                continue;
            };
            let known = self.broker.image().topic_named(name).is_some();
            let error = if known {
                ErrorCode::TopicAlreadyExists
            } else {
                ErrorCode::None
            };
            if !known {
                records.extend(topic(name, (*count).max(1) as i32));
            }
            answers.push((name.clone(), error));
        }
        let body = encode(request, "topics", answers)?;
        self.propose(records, Then::Answer(request.token, body));
        Ok(())
    }

    fn init_producer_id(&mut self, request: &ControlRequest) -> Result<(), Failure> {
        let next = self.broker.image().next_producer_id() + 1 + self.after.len() as i64;
        let spec = tables::find(Kind::Response, request.api_key).ok_or("no such response")?;
        let mut answer = Value::default_struct(&spec.root);
        set(
            &mut answer,
            spec.root.fields,
            "producer_id",
            Value::Int(next - 1),
        );
        set(
            &mut answer,
            spec.root.fields,
            "producer_epoch",
            Value::Int(0),
        );
        let mut body = Vec::new();
        codec::encode(spec, request.api_version, &answer, &mut body)?;
        self.propose(
            vec![MetaRecord::ProducerIds { next }],
            Then::Answer(request.token, body),
        );
        Ok(())
    }

    fn propose(&mut self, records: Vec<MetaRecord>, then: Then) {
        self.proposals += 1;
        self.after.insert(self.proposals, then);
        self.broker.propose(self.proposals, records);
    }
}

/// A topic led by this broker, with a random id.
fn topic(name: &str, partitions: i32) -> Vec<MetaRecord> {
    let mut id = [0; 16];
    for half in id.chunks_exact_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    let partition = |index| MetaRecord::Partition {
        topic_id: id,
        index,
        leader: 1,
        leader_epoch: 0,
        replicas: vec![1],
        isr: vec![1],
    };
    let mut records = vec![MetaRecord::Topic {
        id,
        name: name.to_owned(),
    }];
    records.extend((0..partitions).map(partition));
    records
}

fn decode(request: &ControlRequest) -> Result<Value, Failure> {
    let spec = tables::find(Kind::Request, request.api_key).ok_or("no such request")?;
    Ok(codec::decode(spec, request.api_version, &request.body)?)
}

/// An answer with one entry per topic.
fn encode(
    request: &ControlRequest,
    list: &str,
    topics: Vec<(String, ErrorCode)>,
) -> Result<Vec<u8>, Failure> {
    use mqlog_protocol::schema::FieldType::{Array, Struct};
    let spec = tables::find(Kind::Response, request.api_key).ok_or("no such response")?;
    let root = spec.root.fields;
    let entry = root.iter().find(|f| f.name == list).map(|f| f.kind);
    let Some(Array(Struct(entry))) = entry else {
        return Err("no such list".into());
    };
    let entries = topics.into_iter().map(|(name, error)| {
        let mut one = Value::default_struct(entry);
        set(&mut one, entry.fields, "name", Value::Str(name));
        set(
            &mut one,
            entry.fields,
            "error_code",
            Value::Int(error as i64),
        );
        one
    });
    let entries = Value::Array(entries.collect());
    let mut answer = Value::default_struct(&spec.root);
    set(&mut answer, root, list, entries);
    let mut body = Vec::new();
    codec::encode(spec, request.api_version, &answer, &mut body)?;
    Ok(body)
}

fn set(value: &mut Value, fields: &[mqlog_protocol::schema::FieldSpec], name: &str, to: Value) {
    let place = fields.iter().position(|field| field.name == name);
    if let (Value::Struct(values), Some(place)) = (value, place) {
        values[place] = to;
    }
}

fn field<'a>(api: ApiKey, value: &'a Value, name: &str) -> &'a Value {
    let spec = tables::find(Kind::Request, api as i16);
    let place = spec.and_then(|spec| spec.root.fields.iter().position(|f| f.name == name));
    match (value, place) {
        (Value::Struct(values), Some(place)) => &values[place],
        _ => &Value::Null,
    }
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}
