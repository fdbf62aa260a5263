//! The metadata at one moment, changed by nothing but [`Image::apply`].
//!
//! Cloning costs a few reference counts; the first change after a clone copies the map it touches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::ApplyError;
use crate::record::{MetaRecord, TopicId, RESOURCE_TOPIC};

/// A partition as the metadata knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Node id of the leader.
    pub leader: i32,
    /// Its epoch.
    pub leader_epoch: i32,
    /// Node ids that hold it.
    pub replicas: Arc<[i32]>,
    /// Node ids that are in sync.
    pub isr: Arc<[i32]>,
}

/// A topic; `partitions[i]` is partition `i`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<PartitionState>,
}

/// Dynamic configs of one resource: name to value.
pub type Configs = BTreeMap<String, String>;

/// All metadata at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    by_id: Arc<HashMap<TopicId, Arc<Topic>>>,
    by_name: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    configs: Arc<BTreeMap<(i8, String), Arc<Configs>>>,
    next_producer_id: i64,
}

impl Image {
    /// The topic of that id.
    pub fn topic(&self, id: &TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// The topic of that name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.by_name.len()
    }

    /// Dynamic configs of a resource (type numbers: `RESOURCE_TOPIC`, `RESOURCE_BROKER`).
    pub fn configs(&self, resource_type: i8, name: &str) -> Option<&Arc<Configs>> {
        self.configs.get(&(resource_type, name.to_owned()))
    }

    /// Every resource with dynamic configs.
    pub fn all_configs(&self) -> impl Iterator<Item = (i8, &str, &Arc<Configs>)> {
        self.configs
            .iter()
            .map(|((kind, name), configs)| (*kind, name.as_str(), configs))
    }

    /// First producer id that no block has covered.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Applies one record. After an error the image is as before.
    pub fn apply(&mut self, record: &MetaRecord) -> Result<(), ApplyError> {
        match record {
            MetaRecord::Topic { id, name } => self.add_topic(*id, name),
            MetaRecord::Partition {
                topic_id,
                index,
                leader,
                leader_epoch,
                replicas,
                isr,
            } => {
                let state = PartitionState {
                    leader: *leader,
                    leader_epoch: *leader_epoch,
                    replicas: replicas.as_slice().into(),
                    isr: isr.as_slice().into(),
                };
                self.set_partition(topic_id, *index, state)
            }
            MetaRecord::RemoveTopic { id } => self.remove_topic(id),
            MetaRecord::Config {
                resource_type,
                name,
                key,
                value,
            } => self.set_config(*resource_type, name, key, value.as_deref()),
            MetaRecord::ProducerIds { next } => self.raise_producer_ids(*next),
            MetaRecord::RaiseLeaderEpochs { leader } => {
                self.raise_leader_epochs(*leader);
                Ok(())
            }
        }
    }

    /// Applies all records or none.
    pub fn apply_all(&mut self, records: &[MetaRecord]) -> Result<(), ApplyError> {
        let mut next = self.clone();
        for record in records {
            next.apply(record)?;
        }
        *self = next;
        Ok(())
    }

    /// The fewest records whose application to an empty image gives this one.
    pub fn to_records(&self) -> Vec<MetaRecord> {
        let mut records = Vec::new();
        for topic in self.topics() {
            records.push(MetaRecord::Topic {
                id: topic.id,
                name: topic.name.to_string(),
            });
            for (index, partition) in topic.partitions.iter().enumerate() {
                records.push(MetaRecord::Partition {
                    topic_id: topic.id,
                    index: index as i32,
                    leader: partition.leader,
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replicas.to_vec(),
                    isr: partition.isr.to_vec(),
                });
            }
        }
        for (resource_type, name, configs) in self.all_configs() {
            records.extend(configs.iter().map(|(key, value)| MetaRecord::Config {
                resource_type,
                name: name.to_owned(),
                key: key.clone(),
                value: Some(value.clone()),
            }));
        }
        if self.next_producer_id > 0 {
            records.push(MetaRecord::ProducerIds {
                next: self.next_producer_id,
            });
        }
        records
    }

    fn add_topic(&mut self, id: TopicId, name: &str) -> Result<(), ApplyError> {
        if self.by_name.contains_key(name) {
            return Err(ApplyError::TopicNameTaken {
                name: name.to_owned(),
            });
        }
        if self.by_id.contains_key(&id) {
            return Err(ApplyError::TopicIdTaken { id });
        }
        self.put(Arc::new(Topic {
            id,
            name: name.into(),
            partitions: Vec::new(),
        }));
        Ok(())
    }

    fn set_partition(
        &mut self,
        id: &TopicId,
        index: i32,
        state: PartitionState,
    ) -> Result<(), ApplyError> {
        let topic = self
            .by_id
            .get(id)
            .ok_or(ApplyError::UnknownTopicId { id: *id })?;
        let count = topic.partitions.len();
        let gap = || ApplyError::PartitionGap {
            topic: topic.name.to_string(),
            count,
            index,
        };
        let slot = usize::try_from(index)
            .ok()
            .filter(|slot| *slot <= count)
            .ok_or_else(gap)?;
        if let Some(current) = topic.partitions.get(slot) {
            if state.leader_epoch < current.leader_epoch {
                return Err(ApplyError::EpochBackwards {
                    topic: topic.name.to_string(),
                    index,
                    current: current.leader_epoch,
                    asked: state.leader_epoch,
                });
            }
        }
        let id = *id;
        self.change(&id, |topic| match topic.partitions.get_mut(slot) {
            Some(place) => *place = state,
            None => topic.partitions.push(state),
        });
        Ok(())
    }

    fn remove_topic(&mut self, id: &TopicId) -> Result<(), ApplyError> {
        let topic = self
            .by_id
            .get(id)
            .ok_or(ApplyError::UnknownTopicId { id: *id })?
            .clone();
        Arc::make_mut(&mut self.by_id).remove(id);
        Arc::make_mut(&mut self.by_name).remove(&topic.name);
        let resource = (RESOURCE_TOPIC, topic.name.to_string());
        if self.configs.contains_key(&resource) {
            Arc::make_mut(&mut self.configs).remove(&resource);
        }
        Ok(())
    }

    fn set_config(
        &mut self,
        resource_type: i8,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), ApplyError> {
        if resource_type == RESOURCE_TOPIC && !self.by_name.contains_key(name) {
            return Err(ApplyError::UnknownTopicName {
                name: name.to_owned(),
            });
        }
        let all = Arc::make_mut(&mut self.configs);
        let resource = (resource_type, name.to_owned());
        match value {
            Some(value) => {
                let configs = Arc::make_mut(all.entry(resource).or_default());
                configs.insert(key.to_owned(), value.to_owned());
            }
            None => {
                if let Some(configs) = all.get_mut(&resource) {
                    Arc::make_mut(configs).remove(key);
                    if configs.is_empty() {
                        all.remove(&resource);
                    }
                }
            }
        }
        Ok(())
    }

    fn raise_producer_ids(&mut self, next: i64) -> Result<(), ApplyError> {
        if next < self.next_producer_id {
            let current = self.next_producer_id;
            return Err(ApplyError::ProducerIdsBackwards {
                current,
                asked: next,
            });
        }
        self.next_producer_id = next;
        Ok(())
    }

    fn raise_leader_epochs(&mut self, leader: i32) {
        let led = |topic: &Topic| topic.partitions.iter().any(|p| p.leader == leader);
        let ids: Vec<TopicId> = self
            .by_id
            .values()
            .filter(|t| led(t))
            .map(|t| t.id)
            .collect();
        for id in ids {
            self.change(&id, |topic| {
                for partition in topic.partitions.iter_mut().filter(|p| p.leader == leader) {
                    partition.leader_epoch = partition.leader_epoch.saturating_add(1);
                }
            });
        }
    }

    fn put(&mut self, topic: Arc<Topic>) {
        Arc::make_mut(&mut self.by_id).insert(topic.id, topic.clone());
        Arc::make_mut(&mut self.by_name).insert(topic.name.clone(), topic);
    }

    /// Changes one topic in both maps. While a batch adds partitions to a topic nobody else holds,
    /// it is changed in place: taking it out of one map first leaves a single owner.
    fn change(&mut self, id: &TopicId, edit: impl FnOnce(&mut Topic)) {
        let Some(mut topic) = Arc::make_mut(&mut self.by_id).remove(id) else {
            return;
        };
        Arc::make_mut(&mut self.by_name).remove(&topic.name);
        edit(Arc::make_mut(&mut topic));
        self.put(topic);
    }
}
