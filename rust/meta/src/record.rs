//! The records whose application, in order, is the metadata.
//!
//! Stored form: `u16 type, u16 version, fields`, little-endian; strings and lists carry a `u32`
//! length. The batch around them carries the CRC. A field is only ever added with a new version.

use crate::error::DecodeError;
use crate::wire::{put_bytes, put_ids, FieldReader};

/// A topic's id: 16 random bytes, never reused.
pub type TopicId = [u8; 16];

/// Kafka's number for a topic in config requests.
pub const RESOURCE_TOPIC: i8 = 2;
/// Kafka's number for a broker in config requests; the empty name is the cluster-wide default.
pub const RESOURCE_BROKER: i8 = 4;

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaRecord {
    /// A topic without partitions; they follow as [`MetaRecord::Partition`].
    Topic {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: String,
    },
    /// A new partition (index = how many there are) or the new state of an existing one.
    Partition {
        /// Topic it belongs to.
        topic_id: TopicId,
        /// Its number.
        index: i32,
        /// Node id of its leader.
        leader: i32,
        /// How often leadership was taken; never goes back.
        leader_epoch: i32,
        /// Node ids that hold it.
        replicas: Vec<i32>,
        /// Node ids that are in sync.
        isr: Vec<i32>,
    },
    /// The end of a topic, its partitions and its configs.
    RemoveTopic {
        /// Its id.
        id: TopicId,
    },
    /// A dynamic config set, or removed (`value` is `None`).
    Config {
        /// [`RESOURCE_TOPIC`] or [`RESOURCE_BROKER`]; others are kept as they are, among them the
        /// control plane's 127, a client's quotas.
        resource_type: i8,
        /// Topic name, node id as text, or what the control plane names it.
        name: String,
        /// Kafka's name of the setting.
        key: String,
        /// Its value.
        value: Option<String>,
    },
    /// Producer ids below `next` have been given out.
    ProducerIds {
        /// First id that has not been.
        next: i64,
    },
    /// Every partition led by `leader` goes to its next leader epoch: one record after an unclean
    /// start, however many partitions there are.
    RaiseLeaderEpochs {
        /// Node id.
        leader: i32,
    },
}

const TOPIC: u16 = 1;
const PARTITION: u16 = 2;
const REMOVE_TOPIC: u16 = 3;
const CONFIG: u16 = 4;
const PRODUCER_IDS: u16 = 5;
const RAISE_LEADER_EPOCHS: u16 = 6;

/// Type number, name and newest version of each record.
const KINDS: [(u16, &str, u16); 6] = [
    (TOPIC, "Topic", 0),
    (PARTITION, "Partition", 0),
    (REMOVE_TOPIC, "RemoveTopic", 0),
    (CONFIG, "Config", 0),
    (PRODUCER_IDS, "ProducerIds", 0),
    (RAISE_LEADER_EPOCHS, "RaiseLeaderEpochs", 0),
];

impl MetaRecord {
    fn kind(&self) -> u16 {
        match self {
            Self::Topic { .. } => TOPIC,
            Self::Partition { .. } => PARTITION,
            Self::RemoveTopic { .. } => REMOVE_TOPIC,
            Self::Config { .. } => CONFIG,
            Self::ProducerIds { .. } => PRODUCER_IDS,
            Self::RaiseLeaderEpochs { .. } => RAISE_LEADER_EPOCHS,
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind().to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        match self {
            Self::Topic { id, name } => {
                out.extend_from_slice(id);
                put_bytes(out, name.as_bytes());
            }
            Self::Partition {
                topic_id,
                index,
                leader,
                leader_epoch,
                replicas,
                isr,
            } => {
                out.extend_from_slice(topic_id);
                for n in [index, leader, leader_epoch] {
                    out.extend_from_slice(&n.to_le_bytes());
                }
                put_ids(out, replicas);
                put_ids(out, isr);
            }
            Self::RemoveTopic { id } => out.extend_from_slice(id),
            Self::Config {
                resource_type,
                name,
                key,
                value,
            } => {
                out.extend_from_slice(&resource_type.to_le_bytes());
                put_bytes(out, name.as_bytes());
                put_bytes(out, key.as_bytes());
                out.push(u8::from(value.is_some()));
                put_bytes(out, value.as_deref().unwrap_or("").as_bytes());
            }
            Self::ProducerIds { next } => out.extend_from_slice(&next.to_le_bytes()),
            Self::RaiseLeaderEpochs { leader } => out.extend_from_slice(&leader.to_le_bytes()),
        }
    }

    /// The stored form as its own buffer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads one stored record; all bytes must be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut head = FieldReader::new("(header)", bytes);
        let kind = head.u16("type")?;
        let version = head.u16("version")?;
        let Some(&(_, record, ours)) = KINDS.iter().find(|(number, ..)| *number == kind) else {
            return Err(DecodeError::UnknownType { kind, version });
        };
        if version > ours {
            return Err(DecodeError::NewerVersion {
                record,
                version,
                ours,
            });
        }
        let mut fields = FieldReader::new(record, bytes.get(4..).unwrap_or(&[]));
        let decoded = match kind {
            TOPIC => Self::Topic {
                id: fields.array("id")?,
                name: fields.string("name")?,
            },
            PARTITION => Self::Partition {
                topic_id: fields.array("topic_id")?,
                index: fields.i32("index")?,
                leader: fields.i32("leader")?,
                leader_epoch: fields.i32("leader_epoch")?,
                replicas: fields.ids("replicas")?,
                isr: fields.ids("isr")?,
            },
            REMOVE_TOPIC => Self::RemoveTopic {
                id: fields.array("id")?,
            },
            CONFIG => {
                let resource_type = i8::from_le_bytes(fields.array("resource_type")?);
                let name = fields.string("name")?;
                let key = fields.string("key")?;
                let present = fields.u8("has_value")?;
                let value = fields.string("value")?;
                if present > 1 {
                    return Err(fields.invalid("has_value", "neither 0 nor 1"));
                }
                let value = (present == 1).then_some(value);
                Self::Config {
                    resource_type,
                    name,
                    key,
                    value,
                }
            }
            PRODUCER_IDS => Self::ProducerIds {
                next: fields.i64("next")?,
            },
            _ => Self::RaiseLeaderEpochs {
                leader: fields.i32("leader")?,
            },
        };
        fields.end()?;
        Ok(decoded)
    }
}
