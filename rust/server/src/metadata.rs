//! Metadata: brokers, topics, partitions, from the image. A busy interpreter keeps no client from
//! connecting; only a topic that has to be made first goes to the control plane.

use std::collections::HashSet;

use mqlog_log::{Partition, State};
use mqlog_meta::{Image, Topic};
use mqlog_protocol::header::{begin_response, end_frame};
use mqlog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::{ApiKey, ErrorCode};

use crate::admit::throttle;
use crate::close::Close;
use crate::connection::Place;
use crate::core::Core;
use crate::lookup::endpoint;
use crate::router::Router;

/// Longest name that Kafka allows.
const MAX_NAME: usize = 249;
/// Every operation that Kafka knows of a topic and of a cluster, as bits: nobody is refused any.
const TOPIC_OPERATIONS: i32 = 0x0df8;
const CLUSTER_OPERATIONS: i32 = 0x1fa0;
const NOT_ASKED: i32 = i32::MIN;
const NO_ID: [u8; 16] = [0; 16];

/// A Metadata request.
pub(crate) struct Request {
    version: i16,
    body: MetadataRequest,
}

impl Request {
    pub(crate) fn decode(version: i16, body: &[u8]) -> Result<Request, Close> {
        let mut body = MetadataRequest::decode(version, body).map_err(|_| Close::Malformed)?;
        // Version 0 has no null: there an empty list asks for everything.
        if version == 0 && body.topics.as_ref().is_some_and(Vec::is_empty) {
            body.topics = None;
        }
        Ok(Request { version, body })
    }

    /// Whether a topic must be made before this can be answered.
    pub(crate) fn wants_creation(&self, core: &Core) -> bool {
        let Some(topics) = self.body.topics.as_deref() else {
            return false;
        };
        if !core.config.auto_create_topics || !self.body.allow_auto_topic_creation {
            return false;
        }
        let image = core.image.load();
        topics
            .iter()
            .any(|topic| match (&topic.topic_id, &topic.name) {
                (&NO_ID, Some(name)) => image.topic_named(name).is_none() && valid_name(name),
                _ => false,
            })
    }

    /// Answers from the image.
    pub(crate) fn answer(
        &self,
        core: &Core,
        place: &Place,
        correlation_id: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let version = self.version;
        let start = begin_response(ApiKey::Metadata, version, correlation_id, out);
        self.response(core, place)
            .encode(version, out)
            .map_err(|_| Close::Malformed)?;
        end_frame(start, 0, out).map_err(|_| Close::Malformed)?;
        Ok(())
    }

    fn response(&self, core: &Core, place: &Place) -> MetadataResponse {
        let (version, node_id) = (self.version, core.config.node_id);
        let image = core.image.load();
        let router = core.router.load();
        let topics = match self.body.topics.as_deref() {
            None => image
                .topics()
                .map(|topic| self.known(topic, &router))
                .collect(),
            Some(asked) if version < 12 && asked.iter().any(needs_version_12) => {
                asked.iter().map(refused).collect()
            }
            Some(asked) => self.each(asked, &image, &router),
        };
        let (host, port) = endpoint(core, place);
        let rack = core.config.rack.clone().filter(|_| version >= 1);
        let cluster = self.body.include_cluster_authorized_operations;
        MetadataResponse {
            throttle_time_ms: if version >= 3 { throttle(place) } else { 0 },
            brokers: vec![MetadataResponseBroker {
                node_id,
                host,
                port,
                rack,
            }],
            cluster_id: (version >= 2).then(|| core.dir.identity().cluster_id.clone()),
            controller_id: if version >= 1 { node_id } else { -1 },
            topics,
            cluster_authorized_operations: match cluster && (8..=10).contains(&version) {
                true => CLUSTER_OPERATIONS,
                false => NOT_ASKED,
            },
            ..MetadataResponse::default()
        }
    }

    /// What is asked twice is told once.
    fn each(
        &self,
        asked: &[MetadataRequestTopic],
        image: &Image,
        router: &Router,
    ) -> Vec<MetadataResponseTopic> {
        let mut seen = HashSet::new();
        asked
            .iter()
            .filter(|topic| seen.insert((topic.topic_id, topic.name.as_deref())))
            .map(|topic| self.topic(topic, image, router))
            .collect()
    }

    fn topic(
        &self,
        asked: &MetadataRequestTopic,
        image: &Image,
        router: &Router,
    ) -> MetadataResponseTopic {
        let by_id = asked.topic_id != NO_ID;
        let found = match (&asked.name, by_id) {
            (_, true) => image.topic(&asked.topic_id),
            (Some(name), false) => image.topic_named(name),
            (None, false) => None,
        };
        if let Some(topic) = found {
            return self.known(topic, router);
        }
        let error = match (&asked.name, by_id) {
            (_, true) => ErrorCode::UnknownTopicId,
            (Some(name), false) if valid_name(name) => ErrorCode::UnknownTopicOrPartition,
            _ => ErrorCode::InvalidTopicException,
        };
        let name = (!by_id).then(|| asked.name.clone().unwrap_or_default());
        MetadataResponseTopic {
            error_code: error as i16,
            is_internal: self.version >= 1 && name.as_deref().is_some_and(internal),
            name,
            topic_id: if self.version >= 10 {
                asked.topic_id
            } else {
                NO_ID
            },
            partitions: Vec::new(),
            topic_authorized_operations: NOT_ASKED,
        }
    }

    fn known(&self, topic: &Topic, router: &Router) -> MetadataResponseTopic {
        let version = self.version;
        let route = router.get(TopicRef::Id(topic.id));
        let partitions = topic.partitions.iter().enumerate().map(|(index, state)| {
            let held = route.and_then(|route| route.partitions.get(index));
            let offline = held.is_some_and(|p| offline(p)) && version >= 5;
            MetadataResponsePartition {
                error_code: 0,
                partition_index: index as i32,
                leader_id: state.leader,
                leader_epoch: if version >= 7 { state.leader_epoch } else { -1 },
                replica_nodes: state.replicas.to_vec(),
                isr_nodes: state.isr.to_vec(),
                offline_replicas: if offline {
                    vec![state.leader]
                } else {
                    Vec::new()
                },
            }
        });
        let operations = self.body.include_topic_authorized_operations && version >= 8;
        MetadataResponseTopic {
            error_code: 0,
            name: Some(topic.name.to_string()),
            topic_id: if version >= 10 { topic.id } else { NO_ID },
            is_internal: version >= 1 && internal(&topic.name),
            partitions: partitions.collect(),
            topic_authorized_operations: if operations {
                TOPIC_OPERATIONS
            } else {
                NOT_ASKED
            },
        }
    }
}

/// Whether a topic is asked for by id; the field is older than its use.
fn needs_version_12(asked: &MetadataRequestTopic) -> bool {
    asked.topic_id != NO_ID || asked.name.is_none()
}

fn refused(asked: &MetadataRequestTopic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest as i16,
        name: Some(asked.name.clone().unwrap_or_default()),
        topic_id: asked.topic_id,
        topic_authorized_operations: NOT_ASKED,
        ..MetadataResponseTopic::default()
    }
}

fn offline(partition: &Partition) -> bool {
    partition.state() == State::Offline
}

/// Whether only the broker writes to a topic of this name.
pub(crate) fn internal(name: &str) -> bool {
    matches!(
        name,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

/// Kafka's rule for topic names.
fn valid_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}
