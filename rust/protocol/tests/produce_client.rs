//! A client's produce request and response against an independent codec (`kafka-protocol`).

#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{produce_request, produce_response, BrokerId};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use mqlog_protocol::produce_client::{ProduceAnswer, ProduceRequestWriter};
use mqlog_protocol::{CurrentLeader, TopicRef};
use proptest::prelude::*;

type Batch = (i32, Vec<u8>, Vec<u8>);
type Topic = (String, [u8; 16], Vec<Batch>);

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let batches = prop::collection::vec((any::<i32>(), bytes(), bytes()), 0..5);
    prop::collection::vec(("[a-zä]{0,140}", any::<[u8; 16]>(), batches), 0..5)
}

fn uuid(id: [u8; 16]) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(
        version in 3i16..=13, acks in -1i16..=1, ms: i32, topics in topics(),
    ) {
        let (mut out, mut body, mut done) = (Vec::new(), Vec::new(), 0);
        let mut pieces = Vec::new();
        let mut writer = ProduceRequestWriter::new(&mut out, version, acks, ms, topics.len()).unwrap();
        for (name, id, batches) in &topics {
            let topic = if version >= 13 { TopicRef::Id(*id) } else { TopicRef::Name(name) };
            writer.topic(topic, batches.len()).unwrap();
            for (index, header, records) in batches {
                pieces.push((writer.partition(*index, header, records.len()).unwrap(), records));
            }
        }
        writer.finish();
        for (cut, records) in pieces {
            body.extend_from_slice(&out[done..cut]);
            body.extend_from_slice(records);
            done = cut;
        }
        body.extend_from_slice(&out[done..]);

        let mut body = Bytes::from(body);
        let got = produce_request::ProduceRequest::decode(&mut body, version).unwrap();
        prop_assert!(body.is_empty());
        prop_assert!(got.transactional_id.is_none());
        prop_assert_eq!((got.acks, got.timeout_ms), (acks, ms));
        prop_assert_eq!(got.topic_data.len(), topics.len());
        for (topic, (name, id, batches)) in got.topic_data.iter().zip(&topics) {
            match version {
                13.. => prop_assert_eq!(topic.topic_id, uuid(*id)),
                _ => prop_assert_eq!(&**topic.name, name),
            }
            let got: Vec<_> = topic.partition_data.iter()
                .map(|one| (one.index, one.records.clone().unwrap().to_vec()))
                .collect();
            let wanted: Vec<_> = batches.iter()
                .map(|(index, header, records)| (*index, [&header[..], records].concat()))
                .collect();
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn a_response_is_read_as_it_was_written(
        version in 3i16..=13,
        names in prop::collection::vec(("[a-zä]{0,30}", any::<[u8; 16]>(), 0i32..9), 0..4),
        numbers in any::<(i16, i64, i64, i64, i32)>(),
        message in prop::option::of("[a-z ]{0,200}"),
        leader in prop::option::of(any::<(i32, i32)>()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let errors = vec![
            BatchIndexAndErrorMessage::default().with_batch_index(7)
                .with_batch_index_error_message(message.as_deref().map(text)),
        ];
        let hinted = version >= 10 && leader.is_some();
        let responses = names.iter().map(|(name, id, count)| {
            let partitions = (0..*count).map(|index| {
                let mut one = PartitionProduceResponse::default()
                    .with_index(index)
                    .with_error_code(numbers.0)
                    .with_base_offset(numbers.1)
                    .with_log_append_time_ms(numbers.2);
                if version >= 5 {
                    one = one.with_log_start_offset(numbers.3);
                }
                if version >= 8 {
                    one = one.with_record_errors(errors.clone())
                        .with_error_message(message.as_deref().map(text));
                }
                match leader.filter(|_| hinted) {
                    Some((id, epoch)) => one.with_current_leader(
                        LeaderIdAndEpoch::default().with_leader_id(BrokerId(id)).with_leader_epoch(epoch)),
                    None => one,
                }
            });
            let topic = TopicProduceResponse::default().with_partition_responses(partitions.collect());
            match version {
                13.. => topic.with_topic_id(uuid(*id)),
                _ => topic.with_name(text(name).into()),
            }
        });
        let mut response = produce_response::ProduceResponse::default()
            .with_responses(responses.collect())
            .with_throttle_time_ms(numbers.4);
        if hinted {
            response = response.with_node_endpoints(vec![NodeEndpoint::default()
                .with_node_id(BrokerId(3)).with_host(text("h")).with_port(9092)
                .with_rack(message.as_deref().map(text))]);
        }
        let mut body = BytesMut::new();
        response.encode(&mut body, version).unwrap();

        let got = ProduceAnswer::parse(version, &body).unwrap();
        prop_assert_eq!(got.throttle_time_ms, numbers.4);
        prop_assert_eq!(got.endpoints.len(), usize::from(hinted));
        for one in &got.endpoints {
            prop_assert_eq!((one.node_id, one.host, one.port), (3, "h", 9092));
            prop_assert_eq!(one.rack, message.as_deref());
        }
        let wanted: Vec<_> = names.iter()
            .flat_map(|(name, id, count)| (0..*count).map(move |index| (name, *id, index)))
            .collect();
        prop_assert_eq!(got.partitions.len(), wanted.len());
        for (one, (name, id, index)) in got.partitions.iter().zip(wanted) {
            let topic = if version >= 13 { TopicRef::Id(id) } else { TopicRef::Name(name) };
            prop_assert_eq!((one.topic, one.index), (topic, index));
            prop_assert_eq!((one.error_code, one.base_offset), (numbers.0, numbers.1));
            prop_assert_eq!(one.log_append_time_ms, numbers.2);
            prop_assert_eq!(one.log_start_offset, if version >= 5 { numbers.3 } else { -1 });
            let wrong = if version >= 8 { vec![(7, message.as_deref())] } else { vec![] };
            prop_assert_eq!(&one.record_errors, &wrong);
            let hint = leader.filter(|_| hinted)
                .map(|(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch });
            // A field that holds its defaults is not on the wire.
            prop_assert_eq!(one.current_leader, hint.filter(|hint| *hint != UNKNOWN));
        }

        // What is damaged is refused or read, and nothing else.
        let mut body = body.to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.index(body.len()) + 1);
        let _ = ProduceAnswer::parse(version, &body);
    }
}

const UNKNOWN: CurrentLeader = CurrentLeader {
    leader_id: -1,
    leader_epoch: -1,
};
