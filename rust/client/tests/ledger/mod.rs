//! A cluster that keeps what it is sent, by Kafka's rules for order and numbers, and that fails as
//! a test tells it to.

#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod client;
mod log;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use client::{settings, Client};
pub use log::Partition;
use mqlog_protocol::messages::init_producer_id::InitProducerIdResponse;
use mqlog_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use mqlog_protocol::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponseWriter, ProduceScratch,
};
use mqlog_protocol::{ApiKey, CurrentLeader, ErrorCode, NodeEndpoint, TopicRef};

use crate::peer::{self, Asked, Line};

pub const TOPIC: [u8; 16] = [1; 16];

/// So many values, of which no two are the same.
pub fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_string().into_bytes()).collect()
}

/// What happens to one Produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection ends before anything is written.
    Drop,
    /// It ends after all is written.
    Lose,
    /// All partitions get this code, and nothing is written.
    Refuse(ErrorCode),
    /// All is written, and the code says otherwise.
    Lie(ErrorCode),
    /// It takes so many ms.
    Slow(u64),
    /// No answer ever.
    Silence,
}

type Script = Box<dyn FnMut(usize, &ProduceSeen) -> Fault + Send>;

/// What a script may decide by.
#[derive(Debug, Clone)]
pub struct ProduceSeen {
    pub node: usize,
    pub acks: i16,
    pub version: i16,
    pub partitions: Vec<i32>,
}

pub struct State {
    pub partitions: Vec<Partition>,
    pub ports: Vec<u16>,
    pub requests: Vec<ProduceSeen>,
    pub max_batch: usize,
    pub newest_produce: i16,
    /// Whether a wrong leader says where the right one is.
    pub hints: bool,
    /// An error of the topic in metadata.
    pub topic_error: ErrorCode,
    pub metadata_asked: usize,
    next_id: i64,
    script: Script,
}

/// The cluster.
#[derive(Clone)]
pub struct Ledger(pub Arc<Mutex<State>>);

impl Ledger {
    pub fn start(nodes: usize, partitions: usize) -> Ledger {
        Ledger::scripted(nodes, partitions, |_, _| Fault::None)
    }

    /// `script` gets the number of each Produce request, from 0.
    pub fn scripted(
        nodes: usize,
        partitions: usize,
        script: impl FnMut(usize, &ProduceSeen) -> Fault + Send + 'static,
    ) -> Ledger {
        let partitions = (0..partitions).map(|index| Partition {
            leader: index % nodes,
            ..Default::default()
        });
        let ledger = Ledger(Arc::new(Mutex::new(State {
            partitions: partitions.collect(),
            ports: Vec::new(),
            requests: Vec::new(),
            max_batch: 1 << 20,
            newest_produce: 13,
            hints: true,
            topic_error: ErrorCode::None,
            metadata_asked: 0,
            next_id: 1000,
            script: Box::new(script),
        })));
        for node in 0..nodes {
            let serving = ledger.clone();
            let port = peer::serve_all(move |_, line| serving.serve(node, line));
            ledger.state(|state| state.ports.push(port));
        }
        ledger
    }

    pub fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    pub fn values(&self, partition: usize) -> Vec<Vec<u8>> {
        self.state(|state| state.partitions[partition].values.clone())
    }

    fn serve(&self, node: usize, mut line: Line) {
        while let Some(asked) = line.next() {
            let body = match asked.api {
                ApiKey::ApiVersions => {
                    let newest = self.state(|state| state.newest_produce);
                    peer::api_versions_up_to(asked.version, ApiKey::Produce, newest)
                }
                ApiKey::Metadata => self.metadata(&asked),
                ApiKey::InitProducerId => self.identity(&asked),
                ApiKey::Produce => match self.produce(node, &asked) {
                    Said::Body(body) => body,
                    Said::Nothing => continue,
                    Said::Bye => return,
                },
                other => panic!("nobody answers {other:?} here"),
            };
            line.reply(&asked, &body);
        }
    }

    fn metadata(&self, asked: &Asked) -> Vec<u8> {
        let wanted = MetadataRequest::decode(asked.version, &asked.body).unwrap();
        let wanted = wanted.topics.unwrap_or_default();
        self.state(|state| {
            state.metadata_asked += 1;
            let brokers = state
                .ports
                .iter()
                .zip(0..)
                .map(|(port, node)| MetadataResponseBroker {
                    node_id: node,
                    host: "127.0.0.1".to_owned(),
                    port: i32::from(*port),
                    rack: None,
                });
            let partitions =
                state
                    .partitions
                    .iter()
                    .zip(0..)
                    .map(|(one, index)| MetadataResponsePartition {
                        partition_index: index,
                        leader_id: i32::try_from(one.leader).unwrap_or(-1),
                        leader_epoch: one.epoch,
                        ..Default::default()
                    });
            let partitions: Vec<_> = partitions.collect();
            let topics = wanted.into_iter().map(|topic| MetadataResponseTopic {
                name: topic.name,
                topic_id: TOPIC,
                error_code: state.topic_error.code(),
                partitions: match state.topic_error {
                    ErrorCode::None => partitions.clone(),
                    _ => Vec::new(),
                },
                ..Default::default()
            });
            let answer = MetadataResponse {
                brokers: brokers.collect(),
                topics: topics.collect(),
                ..Default::default()
            };
            let mut out = Vec::new();
            answer.encode(asked.version, &mut out).unwrap();
            out
        })
    }

    fn identity(&self, asked: &Asked) -> Vec<u8> {
        let producer_id = self.state(|state| {
            state.next_id += 1;
            state.next_id
        });
        let answer = InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..Default::default()
        };
        let mut out = Vec::new();
        answer.encode(asked.version, &mut out).unwrap();
        out
    }

    fn produce(&self, node: usize, asked: &Asked) -> Said {
        let mut scratch = ProduceScratch::default();
        let request = ProduceRequest::parse_into(asked.version, &asked.body, &mut scratch).unwrap();
        let topics = request.topics();
        let partitions = topics.flat_map(|(_, partitions)| partitions.iter().map(|one| one.index));
        let seen = ProduceSeen {
            node,
            acks: request.acks,
            version: asked.version,
            partitions: partitions.collect(),
        };
        let fault = self.state(|state| {
            state.requests.push(seen.clone());
            let number = state.requests.len() - 1;
            (state.script)(number, &seen)
        });
        match fault {
            Fault::Drop => return Said::Bye,
            Fault::Silence => return Said::Nothing,
            Fault::Slow(millis) => std::thread::sleep(Duration::from_millis(millis)),
            _ => {}
        }
        let mut frame = Vec::new();
        let mut endpoints = Vec::new();
        let topics = request.topics().len();
        let mut writer =
            ProduceResponseWriter::new(&mut frame, asked.version, asked.id, topics).unwrap();
        let size = self.state(|state| {
            for (topic, partitions) in request.topics() {
                if let TopicRef::Id(id) = topic {
                    assert_eq!(id, TOPIC);
                }
                writer.topic(topic, partitions.len()).unwrap();
                for one in partitions {
                    let batch = request.records(one).unwrap();
                    let index = usize::try_from(one.index).unwrap();
                    let answer = state.take(node, index, request.acks, batch, fault);
                    let mut response = match answer {
                        Ok(offset) => ProducePartitionResponse {
                            base_offset: offset,
                            ..ProducePartitionResponse::error(one.index, 0, None)
                        },
                        Err(code) => ProducePartitionResponse::error(one.index, code.code(), None),
                    };
                    if answer == Err(ErrorCode::NotLeaderOrFollower) && state.hints {
                        let partition = &state.partitions[index];
                        let leader = i32::try_from(partition.leader).unwrap_or(-1);
                        response.current_leader = Some(CurrentLeader {
                            leader_id: leader,
                            leader_epoch: partition.epoch,
                        });
                        endpoints.push((leader, state.ports[partition.leader]));
                    }
                    writer.partition(&response).unwrap();
                }
            }
            endpoints.dedup();
            let endpoints: Vec<_> = endpoints
                .iter()
                .map(|(node_id, port)| NodeEndpoint {
                    node_id: *node_id,
                    host: "127.0.0.1",
                    port: i32::from(*port),
                    rack: None,
                })
                .collect();
            writer.finish(0, &endpoints).unwrap()
        });
        match (fault, request.acks) {
            (Fault::Lose, _) => Said::Bye,
            (_, 0) => Said::Nothing,
            _ => {
                let header = 4 + 4 + usize::from(asked.version >= 9);
                Said::Body(frame[header..size].to_vec())
            }
        }
    }
}

enum Said {
    Body(Vec<u8>),
    Nothing,
    Bye,
}
