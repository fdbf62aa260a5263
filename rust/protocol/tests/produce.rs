//! The produce walker and response writer against an independent codec (`kafka-protocol`).

#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{produce_request, produce_response, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use mqlog_protocol::header::parse_response_header;
use mqlog_protocol::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponseWriter, ProduceScratch, RecordError,
};
use mqlog_protocol::{ApiKey, CurrentLeader, NodeEndpoint, TopicRef};
use proptest::prelude::*;

type Partition = (i32, Option<Vec<u8>>);
type Topic = (String, [u8; 16], Vec<Partition>);

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    let records = prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let partitions = prop::collection::vec((any::<i32>(), records), 0..6);
    prop::collection::vec(("[a-zä]{0,140}", any::<[u8; 16]>(), partitions), 0..5)
}

fn oracle(version: i16, id: &Option<String>, acks: i16, ms: i32, topics: &[Topic]) -> Bytes {
    let topics = topics.iter().map(|(name, id, partitions)| {
        let partitions = partitions.iter().map(|(index, records)| {
            let records = records.clone().map(Bytes::from);
            PartitionProduceData::default()
                .with_index(*index)
                .with_records(records)
        });
        let topic = TopicProduceData::default().with_partition_data(partitions.collect());
        match version {
            13.. => topic.with_topic_id(uuid(*id)),
            _ => topic.with_name(StrBytes::from_string(name.clone()).into()),
        }
    });
    let id = id
        .clone()
        .map(|id| TransactionalId::from(StrBytes::from_string(id)));
    let mut out = BytesMut::new();
    produce_request::ProduceRequest::default()
        .with_transactional_id(id)
        .with_acks(acks)
        .with_timeout_ms(ms)
        .with_topic_data(topics.collect())
        .encode(&mut out, version)
        .unwrap();
    out.freeze()
}

fn uuid(id: [u8; 16]) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id)
}

proptest! {
    #[test]
    fn a_request_is_walked_as_it_was_written(
        version in 3i16..=13,
        id in prop::option::of("[a-z]{0,20}"),
        acks in -1i16..=1,
        ms in any::<i32>(),
        topics in topics(),
    ) {
        let body = oracle(version, &id, acks, ms, &topics);
        let mut scratch = ProduceScratch::default();
        let request = ProduceRequest::parse_into(version, &body, &mut scratch).unwrap();
        prop_assert_eq!(request.transactional_id, id.as_deref());
        prop_assert_eq!((request.acks, request.timeout_ms), (acks, ms));
        prop_assert_eq!(request.topics().len(), topics.len());
        for ((topic, partitions), (name, id, wanted)) in request.topics().zip(&topics) {
            let by_id = version >= 13;
            prop_assert_eq!(topic, if by_id { TopicRef::Id(*id) } else { TopicRef::Name(name) });
            let got: Vec<Partition> = partitions
                .iter()
                .map(|one| (one.index, request.records(one).map(<[u8]>::to_vec)))
                .collect();
            prop_assert_eq!(&got, wanted);
        }
    }

    #[test]
    fn a_damaged_request_is_refused_or_stays_within_its_bytes(
        version in 3i16..=13,
        topics in topics(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = oracle(version, &None, 1, 1, &topics).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.index(body.len()) + 1);
        let mut scratch = ProduceScratch::default();
        if let Ok(request) = ProduceRequest::parse_into(version, &body, &mut scratch) {
            let partitions = request.topics().flat_map(|(_, partitions)| partitions);
            for one in partitions.filter(|one| one.records.is_some()) {
                prop_assert!(request.records(one).is_some());
            }
        }
    }

    #[test]
    fn a_response_is_read_as_it_was_written(
        version in 3i16..=13,
        throttle in any::<i32>(),
        topics in topics(),
        numbers in any::<(i16, i64, i64, i64)>(),
        message in prop::option::of("[a-z ]{0,200}"),
        leader in prop::option::of(any::<(i32, i32)>()),
        rack in prop::option::of("[a-z]{0,9}"),
    ) {
        let errors = [
            RecordError { batch_index: 7, message: message.as_deref() },
            RecordError { batch_index: 8, message: None },
        ];
        let leader = leader.map(|(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch });
        let mut out = b"before".to_vec();
        let mut writer = ProduceResponseWriter::new(&mut out, version, 42, topics.len()).unwrap();
        for (name, id, partitions) in &topics {
            let topic = if version >= 13 { TopicRef::Id(*id) } else { TopicRef::Name(name) };
            writer.topic(topic, partitions.len()).unwrap();
            for (index, _) in partitions {
                writer.partition(&ProducePartitionResponse {
                    index: *index,
                    error_code: numbers.0,
                    base_offset: numbers.1,
                    log_append_time_ms: numbers.2,
                    log_start_offset: numbers.3,
                    record_errors: &errors,
                    error_message: message.as_deref(),
                    current_leader: leader,
                }).unwrap();
            }
        }
        let endpoint = NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: rack.as_deref() };
        let endpoints = if leader.is_some() { vec![endpoint] } else { vec![] };
        let size = writer.finish(throttle, &endpoints).unwrap();
        let frame = &out[6..];
        prop_assert_eq!(size, frame.len());
        prop_assert_eq!(&frame[..4], &(size as i32 - 4).to_be_bytes());
        let (correlation, at) = parse_response_header(ApiKey::Produce, version, &frame[4..]).unwrap();
        prop_assert_eq!(correlation, 42);

        let mut body = Bytes::copy_from_slice(&frame[4 + at..]);
        let got = produce_response::ProduceResponse::decode(&mut body, version).unwrap();
        prop_assert!(body.is_empty());
        prop_assert_eq!(got.throttle_time_ms, throttle);
        let hinted = version >= 10 && leader.is_some();
        prop_assert_eq!(got.node_endpoints.len(), usize::from(hinted));
        for one in &got.node_endpoints {
            prop_assert_eq!((one.node_id.0, &*one.host, one.port), (3, "h", 9092));
            prop_assert_eq!(one.rack.as_deref(), rack.as_deref());
        }
        prop_assert_eq!(got.responses.len(), topics.len());
        for (topic, (name, id, partitions)) in got.responses.iter().zip(&topics) {
            match version {
                13.. => prop_assert_eq!(topic.topic_id, uuid(*id)),
                _ => prop_assert_eq!(&**topic.name, name),
            }
            prop_assert_eq!(topic.partition_responses.len(), partitions.len());
            for (one, (index, _)) in topic.partition_responses.iter().zip(partitions) {
                prop_assert_eq!(one.index, *index);
                prop_assert_eq!(one.error_code, numbers.0);
                prop_assert_eq!((one.base_offset, one.log_append_time_ms), (numbers.1, numbers.2));
                prop_assert_eq!(one.log_start_offset, if version >= 5 { numbers.3 } else { -1 });
                let said = if version >= 8 { message.as_deref() } else { None };
                prop_assert_eq!(one.error_message.as_deref(), said);
                let wrong: Vec<_> = one.record_errors.iter().map(|error| error.batch_index).collect();
                prop_assert_eq!(wrong, if version >= 8 { vec![7, 8] } else { vec![] });
                let hint = (one.current_leader.leader_id.0, one.current_leader.leader_epoch);
                let wanted = leader.filter(|_| hinted).map(|l| (l.leader_id, l.leader_epoch));
                prop_assert_eq!(hint, wanted.unwrap_or((-1, -1)));
            }
        }
    }
}
