//! What is known of the cluster: brokers, topics, who leads which partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mqlog_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use mqlog_protocol::{CurrentLeader, ErrorCode};
use tokio::time::Instant;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub id: i32,
    /// The host it wants to be reached at.
    pub host: Arc<str>,
    /// Its port there.
    pub port: u16,
    /// Its rack, if it says.
    pub rack: Option<Arc<str>>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// The node that leads it, or -1.
    pub leader: i32,
    /// The leader's epoch, or -1 where brokers do not tell.
    pub epoch: i32,
    /// What is wrong with it, or [`ErrorCode::None`].
    pub error: ErrorCode,
    /// Nodes that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub isr: Vec<i32>,
    /// Those of them that are offline.
    pub offline: Vec<i32>,
    /// A lower epoch that was told, and not believed.
    doubted: Option<i32>,
}

/// A topic. It is here also if it does not exist: then `error` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero where brokers do not tell.
    pub id: [u8; 16],
    /// Whether it is the cluster's own.
    pub internal: bool,
    /// What is wrong with it, or [`ErrorCode::None`].
    pub error: ErrorCode,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    told: Instant,
}

impl Topic {
    /// A partition of the topic.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        let guess = usize::try_from(index).ok()?;
        match self.partitions.get(guess) {
            Some(found) if found.index == index => Some(found),
            _ => self.partitions.iter().find(|one| one.index == index),
        }
    }
}

/// A snapshot; never changed, only replaced.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Counts the changes: a larger one is newer.
    pub revision: u64,
    /// When brokers were last asked; `None` before the first answer.
    pub updated: Option<Instant>,
    /// `HOST:PORT` of who answered.
    pub source: Arc<str>,
    /// The brokers that are up.
    pub brokers: BTreeMap<i32, Broker>,
    /// Where administration goes.
    pub controller: Option<i32>,
    /// The cluster's id, where brokers tell.
    pub cluster_id: Option<Arc<str>>,
    /// Topics that were asked about, by name.
    pub topics: HashMap<Arc<str>, Arc<Topic>>,
    names: HashMap<[u8; 16], Arc<str>>,
}

const NO_ID: [u8; 16] = [0; 16];

impl Metadata {
    /// A topic that exists; see `topics` for those that do not.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics
            .get(name)
            .filter(|topic| topic.error == ErrorCode::None)
    }

    /// A topic by its id.
    pub fn topic_by_id(&self, id: &[u8; 16]) -> Option<&Arc<Topic>> {
        self.names.get(id).and_then(|name| self.topics.get(name))
    }

    /// A partition.
    pub fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partition(index)
    }

    /// The node that leads a partition, and its epoch (-1: brokers do not tell). `None` without a
    /// leader.
    pub fn leader(&self, topic: &str, index: i32) -> Option<(i32, i32)> {
        let partition = self.partition(topic, index)?;
        (partition.leader >= 0).then_some((partition.leader, partition.epoch))
    }

    /// This one with an answer put in. `only` names the topics the answer is about; without it, it
    /// is about all there are. What was told longer than `age` ago is forgotten.
    pub(crate) fn merged(
        &self,
        answer: MetadataResponse,
        only: Option<&[Arc<str>]>,
        source: &Arc<str>,
        age: Duration,
    ) -> Metadata {
        let mut next = Metadata {
            revision: self.revision + 1,
            updated: Some(Instant::now()),
            source: source.clone(),
            brokers: answer.brokers.into_iter().filter_map(broker).collect(),
            controller: Some(answer.controller_id).filter(|id| *id >= 0),
            cluster_id: answer.cluster_id.map(Arc::from),
            topics: match only {
                Some(_) => self.topics.clone(),
                None => HashMap::new(),
            },
            names: HashMap::new(),
        };
        next.topics.retain(|_, topic| topic.told.elapsed() <= age);
        for name in only.into_iter().flatten() {
            next.topics.remove(name);
        }
        for told in answer.topics {
            let Some(topic) = topic(told) else { continue };
            let topic = match self.topics.get(&topic.name) {
                Some(before) => no_step_back(topic, before),
                None => topic,
            };
            next.topics.insert(topic.name.clone(), Arc::new(topic));
        }
        next.index();
        next
    }

    /// This one without topics that nobody wants; `None` if that changes nothing.
    pub(crate) fn without(&self, topic: &str) -> Option<Metadata> {
        let mut next = self.clone();
        next.topics.remove(topic)?;
        next.revision += 1;
        next.index();
        Some(next)
    }

    /// This one without brokers: all of them have to be found again.
    pub(crate) fn without_brokers(&self) -> Metadata {
        Metadata {
            revision: self.revision + 1,
            brokers: BTreeMap::new(),
            controller: None,
            ..self.clone()
        }
    }

    /// This one with a leader that a broker named in passing (KIP-951); `None` if it is not newer
    /// than what is known.
    pub(crate) fn hinted(
        &self,
        topic: &str,
        index: i32,
        leader: CurrentLeader,
        node: Option<Broker>,
    ) -> Option<Metadata> {
        let known = self.partition(topic, index)?;
        let reachable = node.is_some() || self.brokers.contains_key(&leader.leader_id);
        if leader.leader_id < 0 || leader.leader_epoch <= known.epoch || !reachable {
            return None;
        }
        let mut next = self.clone();
        next.revision += 1;
        if let Some(node) = node {
            next.brokers.insert(node.id, node);
        }
        let changed = Arc::make_mut(next.topics.get_mut(topic)?);
        let partition = changed
            .partitions
            .iter_mut()
            .find(|one| one.index == index)?;
        partition.leader = leader.leader_id;
        partition.epoch = leader.leader_epoch;
        partition.error = ErrorCode::None;
        Some(next)
    }

    fn index(&mut self) {
        self.names = self
            .topics
            .values()
            .filter(|topic| topic.id != NO_ID)
            .map(|topic| (topic.id, topic.name.clone()))
            .collect();
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn broker(told: MetadataResponseBroker) -> Option<(i32, Broker)> {
    let broker = Broker {
        id: told.node_id,
        host: told.host.into(),
        port: u16::try_from(told.port).ok()?,
        rack: told.rack.map(Arc::from),
    };
    Some((broker.id, broker))
}

fn topic(told: MetadataResponseTopic) -> Option<Topic> {
    let mut partitions: Vec<_> = told.partitions.into_iter().map(partition).collect();
    // Numbers that cannot be, and the second of two, are nobody's partitions.
    partitions.retain(|partition| partition.index >= 0);
    partitions.sort_by_key(|partition| partition.index);
    partitions.dedup_by_key(|partition| partition.index);
    Some(Topic {
        name: told.name?.into(),
        id: told.topic_id,
        internal: told.is_internal,
        error: code(told.error_code),
        partitions,
        told: Instant::now(),
    })
}

fn partition(told: MetadataResponsePartition) -> Partition {
    Partition {
        index: told.partition_index,
        leader: told.leader_id,
        epoch: told.leader_epoch,
        error: code(told.error_code),
        replicas: told.replica_nodes,
        isr: told.isr_nodes,
        offline: told.offline_replicas,
        doubted: None,
    }
}

/// A broker that lags behind may tell of a leader of old: the newer epoch stays. Not so across
/// topics of one name, which the id tells apart; without ids, one that is told twice is believed.
fn no_step_back(mut topic: Topic, before: &Topic) -> Topic {
    if topic.id != before.id || before.error != ErrorCode::None {
        return topic;
    }
    for partition in &mut topic.partitions {
        let Some(known) = before.partition(partition.index) else {
            continue;
        };
        let told = partition.epoch;
        let again = topic.id == NO_ID && known.doubted == Some(told);
        if told >= 0 && told < known.epoch && !again {
            *partition = Partition {
                doubted: Some(told),
                ..known.clone()
            };
        }
    }
    topic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u8, leader_id: i32, leader_epoch: i32) -> MetadataResponse {
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "a".to_owned(),
                port: 9092,
                rack: None,
            }],
            topics: vec![MetadataResponseTopic {
                name: Some("t".to_owned()),
                topic_id: [id; 16],
                partitions: vec![MetadataResponsePartition {
                    leader_id,
                    leader_epoch,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn merged(before: &Metadata, answer: MetadataResponse) -> Metadata {
        let age = Duration::from_secs(1000);
        before.merged(answer, Some(&["t".into()]), &"a:9092".into(), age)
    }

    #[test]
    fn epochs_do_not_go_back_within_a_topic() {
        let first = merged(&Metadata::default(), answer(1, 1, 5));
        assert_eq!(first.leader("t", 0), Some((1, 5)));
        assert_eq!(merged(&first, answer(1, 2, 4)).leader("t", 0), Some((1, 5)));
        assert_eq!(merged(&first, answer(1, 2, 6)).leader("t", 0), Some((2, 6)));
        assert_eq!(merged(&first, answer(2, 2, 0)).leader("t", 0), Some((2, 0)));
    }

    #[test]
    fn without_ids_a_lower_epoch_is_believed_when_it_is_told_twice() {
        let first = merged(&Metadata::default(), answer(0, 1, 5));
        let second = merged(&first, answer(0, 2, 4));
        assert_eq!(second.leader("t", 0), Some((1, 5)));
        assert_eq!(
            merged(&second, answer(0, 2, 4)).leader("t", 0),
            Some((2, 4))
        );
    }

    #[test]
    fn hints_count_if_they_are_newer() {
        let first = merged(&Metadata::default(), answer(1, 1, 5));
        let hint = |leader_id, leader_epoch| CurrentLeader {
            leader_id,
            leader_epoch,
        };
        let node = Broker {
            id: 2,
            host: "b".into(),
            port: 1,
            rack: None,
        };
        assert!(first
            .hinted("t", 0, hint(2, 5), Some(node.clone()))
            .is_none());
        assert!(
            first.hinted("t", 0, hint(2, 6), None).is_none(),
            "nobody knows 2"
        );
        let next = first.hinted("t", 0, hint(2, 6), Some(node)).unwrap();
        assert_eq!(next.leader("t", 0), Some((2, 6)));
        assert!(next.brokers.contains_key(&2) && next.revision > first.revision);
    }

    #[test]
    fn a_topic_asked_for_and_not_told_of_is_gone() {
        let first = merged(&Metadata::default(), answer(1, 1, 5));
        assert_eq!(
            first.topic_by_id(&[1; 16]).map(|t| &*t.name),
            Some("t"),
            "by its id"
        );
        let mut silent = answer(1, 1, 5);
        silent.topics.clear();
        let next = merged(&first, silent);
        assert!(next.topic("t").is_none() && next.topic_by_id(&[1; 16]).is_none());
    }
}
