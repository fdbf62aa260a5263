//! Random changes against a naive model, and the image's two stored forms against the live one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use mqlog_meta::{
    decode_image, encode_image, DecodeError, Image, MetaRecord, SnapshotError, TopicId,
    RESOURCE_BROKER, RESOURCE_TOPIC,
};
use proptest::prelude::*;

/// Small ranges, so that records meet each other.
fn any_record() -> impl Strategy<Value = MetaRecord> {
    let id = (0u8..6).prop_map(|n| [n; 16]);
    let name = (0u8..5).prop_map(|n| format!("topic-{n}"));
    let key = (0u8..3).prop_map(|n| format!("key.{n}"));
    let resource = prop_oneof![Just(RESOURCE_TOPIC), Just(RESOURCE_BROKER)];
    prop_oneof![
        (id.clone(), name.clone()).prop_map(|(id, name)| MetaRecord::Topic { id, name }),
        (id.clone(), -1i32..4, 1i32..3, 0i32..4).prop_map(|(topic_id, index, leader, epoch)| {
            MetaRecord::Partition {
                topic_id,
                index,
                leader,
                leader_epoch: epoch,
                replicas: vec![leader],
                isr: vec![leader],
            }
        }),
        id.prop_map(|id| MetaRecord::RemoveTopic { id }),
        (resource, name, key, proptest::option::of("[a-z]{0,3}")).prop_map(
            |(resource_type, name, key, value)| MetaRecord::Config {
                resource_type,
                name,
                key,
                value
            }
        ),
        (0i64..5).prop_map(|block| MetaRecord::ProducerIds { next: block * 1000 }),
        (1i32..3).prop_map(|leader| MetaRecord::RaiseLeaderEpochs { leader }),
    ]
}

/// The same rules over plain values.
#[derive(Default)]
struct Model {
    topics: BTreeMap<TopicId, (String, Vec<(i32, i32)>)>,
    configs: BTreeMap<(i8, String, String), String>,
    next_producer_id: i64,
}

impl Model {
    fn apply(&mut self, record: &MetaRecord) -> bool {
        match record.clone() {
            MetaRecord::Topic { id, name } => {
                let taken = self
                    .topics
                    .iter()
                    .any(|(other, (n, _))| *other == id || *n == name);
                if !taken {
                    self.topics.insert(id, (name, Vec::new()));
                }
                !taken
            }
            MetaRecord::Partition {
                topic_id,
                index,
                leader,
                leader_epoch,
                ..
            } => {
                let Some((_, parts)) = self.topics.get_mut(&topic_id) else {
                    return false;
                };
                if index < 0 || index as usize > parts.len() {
                    return false;
                }
                match parts.get_mut(index as usize) {
                    Some((_, epoch)) if *epoch > leader_epoch => return false,
                    Some(part) => *part = (leader, leader_epoch),
                    None => parts.push((leader, leader_epoch)),
                }
                true
            }
            MetaRecord::RemoveTopic { id } => match self.topics.remove(&id) {
                Some((name, _)) => {
                    self.configs
                        .retain(|(kind, of, _), _| *kind != RESOURCE_TOPIC || *of != name);
                    true
                }
                None => false,
            },
            MetaRecord::Config {
                resource_type,
                name,
                key,
                value,
            } => {
                let known = self.topics.values().any(|(topic, _)| *topic == name);
                if resource_type == RESOURCE_TOPIC && !known {
                    return false;
                }
                match value {
                    Some(value) => self.configs.insert((resource_type, name, key), value),
                    None => self.configs.remove(&(resource_type, name, key)),
                };
                true
            }
            MetaRecord::ProducerIds { next } => {
                let forward = next >= self.next_producer_id;
                self.next_producer_id = self.next_producer_id.max(next);
                forward
            }
            MetaRecord::RaiseLeaderEpochs { leader } => {
                for (_, parts) in self.topics.values_mut() {
                    parts
                        .iter_mut()
                        .filter(|p| p.0 == leader)
                        .for_each(|p| p.1 += 1);
                }
                true
            }
        }
    }

    fn assert_equals(&self, image: &Image) {
        let topics: BTreeMap<_, _> = image
            .topics()
            .map(|t| {
                let parts = t
                    .partitions
                    .iter()
                    .map(|p| (p.leader, p.leader_epoch))
                    .collect();
                (t.id, (t.name.to_string(), parts))
            })
            .collect();
        assert_eq!(topics, self.topics);
        for topic in image.topics() {
            assert_eq!(image.topic(&topic.id), image.topic_named(&topic.name));
        }
        let mut configs = BTreeMap::new();
        for (kind, name, values) in image.all_configs() {
            for (key, value) in values.iter() {
                configs.insert((kind, name.to_owned(), key.clone()), value.clone());
            }
        }
        assert_eq!(configs, self.configs);
        assert_eq!(image.next_producer_id(), self.next_producer_id);
    }
}

proptest! {
    #[test]
    fn apply_agrees_with_the_model(records in prop::collection::vec(any_record(), 0..60)) {
        let (mut image, mut model) = (Image::default(), Model::default());
        for record in &records {
            let before = image.clone();
            let accepted = image.apply(record).is_ok();
            prop_assert_eq!(accepted, model.apply(record), "{:?}", record);
            if !accepted {
                prop_assert_eq!(&image, &before);
            }
            model.assert_equals(&image);
        }
    }

    #[test]
    fn a_batch_applies_whole_or_not_at_all(
        records in prop::collection::vec(any_record(), 0..20),
        batch in prop::collection::vec(any_record(), 1..6),
    ) {
        let mut image = Image::default();
        for record in &records {
            let _ = image.apply(record);
        }
        let before = image.clone();
        let mut one_by_one = image.clone();
        let fits = batch.iter().all(|record| one_by_one.apply(record).is_ok());
        prop_assert_eq!(image.apply_all(&batch).is_ok(), fits);
        prop_assert_eq!(image, if fits { one_by_one } else { before });
    }

    #[test]
    fn records_and_images_survive_storing(records in prop::collection::vec(any_record(), 0..60)) {
        let mut image = Image::default();
        for record in &records {
            let bytes = record.to_bytes();
            prop_assert_eq!(&MetaRecord::decode(&bytes).unwrap(), record);
            for cut in 0..bytes.len() {
                prop_assert!(MetaRecord::decode(&bytes[..cut]).is_err());
            }
            let _ = image.apply(record);
        }
        let file = encode_image(&image, 42);
        prop_assert_eq!(decode_image(&file).unwrap(), (image, 42));
    }

    #[test]
    fn a_damaged_image_is_never_read(
        records in prop::collection::vec(any_record(), 0..20),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut image = Image::default();
        for record in &records {
            let _ = image.apply(record);
        }
        let mut file = encode_image(&image, 7);
        let at = at.index(file.len());
        file[at] ^= flip;
        prop_assert!(decode_image(&file).is_err());
        prop_assert!(decode_image(&file[..at]).is_err());
    }

    #[test]
    fn garbage_is_refused_without_reserving(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = MetaRecord::decode(&bytes);
        let _ = decode_image(&bytes);
    }
}

#[test]
fn newer_versions_are_refused_by_name() {
    let mut topic = MetaRecord::Topic {
        id: [1; 16],
        name: "a".into(),
    }
    .to_bytes();
    topic[2] = 9;
    let error = MetaRecord::decode(&topic).unwrap_err();
    assert_eq!(
        error,
        DecodeError::NewerVersion {
            record: "Topic",
            version: 9,
            ours: 0
        }
    );
    topic[0] = 99;
    let error = MetaRecord::decode(&topic).unwrap_err();
    assert_eq!(
        error,
        DecodeError::UnknownType {
            kind: 99,
            version: 9
        }
    );
    let mut file = encode_image(&Image::default(), 0);
    file[4] = 200;
    assert_eq!(decode_image(&file).unwrap_err(), SnapshotError::Newer(200));
}

#[test]
fn a_clone_is_a_moment_and_a_recreated_name_is_a_new_topic() {
    let mut image = Image::default();
    let topic = |id: u8| MetaRecord::Topic {
        id: [id; 16],
        name: "orders".into(),
    };
    image.apply(&topic(1)).unwrap();
    let config = MetaRecord::Config {
        resource_type: RESOURCE_TOPIC,
        name: "orders".into(),
        key: "retention.ms".into(),
        value: Some("1".into()),
    };
    image.apply(&config).unwrap();
    let before = image.clone();
    image
        .apply(&MetaRecord::RemoveTopic { id: [1; 16] })
        .unwrap();
    image.apply(&topic(2)).unwrap();
    assert_eq!(before.topic_named("orders").unwrap().id, [1; 16]);
    assert!(before.configs(RESOURCE_TOPIC, "orders").is_some());
    assert_eq!(image.topic_named("orders").unwrap().id, [2; 16]);
    assert!(image.configs(RESOURCE_TOPIC, "orders").is_none());
    assert!(image.topic(&[1; 16]).is_none());
}
