//! The fetch walker and response writer against an independent codec (`kafka-protocol`).

#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{fetch_request, fetch_response};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use mqlog_protocol::fetch::{FetchRequest, FetchScratch};
use mqlog_protocol::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchFrame, FetchPartitionResponse, FetchResponseHead,
    FetchResponseWriter, Fragment,
};
use mqlog_protocol::header::parse_response_header;
use mqlog_protocol::{ApiKey, CurrentLeader, NodeEndpoint, TopicRef};
use proptest::prelude::*;

/// Index, leader epoch, offset, last epoch, log start, max bytes.
type Partition = (i32, i32, i64, i32, i64, i32);
type Topic = (String, [u8; 16], Vec<Partition>);

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    let partitions = prop::collection::vec(any::<Partition>(), 0..6);
    prop::collection::vec(("[a-zä]{0,140}", any::<[u8; 16]>(), partitions), 0..5)
}

fn name(text: &str) -> kafka_protocol::messages::TopicName {
    StrBytes::from_string(text.to_owned()).into()
}

fn partition(version: i16, one: &Partition) -> FetchPartition {
    let mut out = FetchPartition::default()
        .with_partition(one.0)
        .with_fetch_offset(one.2)
        .with_partition_max_bytes(one.5);
    if version >= 9 {
        out = out.with_current_leader_epoch(one.1);
    }
    if version >= 12 {
        out = out.with_last_fetched_epoch(one.3);
    }
    if version >= 17 {
        out = out.with_replica_directory_id(uuid::Uuid::from_bytes([7; 16]));
    }
    if version >= 5 {
        out = out.with_log_start_offset(one.4);
    }
    out
}

fn oracle(
    version: i16,
    numbers: (i32, i32, i32, i8),
    replica: (i32, i64),
    topics: &[Topic],
) -> Bytes {
    let mut request = fetch_request::FetchRequest::default()
        .with_max_wait_ms(numbers.0)
        .with_min_bytes(numbers.1)
        .with_max_bytes(numbers.2)
        .with_isolation_level(numbers.3);
    request.topics = topics
        .iter()
        .map(|(text, id, partitions)| {
            let partitions = partitions
                .iter()
                .map(|one| partition(version, one))
                .collect();
            let topic = FetchTopic::default().with_partitions(partitions);
            match version {
                13.. => topic.with_topic_id(uuid::Uuid::from_bytes(*id)),
                _ => topic.with_topic(name(text)),
            }
        })
        .collect();
    if version >= 15 {
        request.replica_state.replica_id = replica.0.into();
        request.replica_state.replica_epoch = replica.1;
    } else {
        request.replica_id = replica.0.into();
    }
    if version >= 12 {
        request.cluster_id = Some(StrBytes::from_static_str("cluster"));
    }
    if version >= 11 {
        request.rack_id = StrBytes::from_static_str("rack");
    }
    if version >= 7 {
        request.session_id = 77;
        request.session_epoch = 78;
        let forgotten = ForgottenTopic::default().with_partitions(vec![3, 1]);
        request.forgotten_topics_data = vec![match version {
            13.. => forgotten.with_topic_id(uuid::Uuid::from_bytes([9; 16])),
            _ => forgotten.with_topic(name("gone")),
        }];
    }
    let mut out = BytesMut::new();
    request.encode(&mut out, version).unwrap();
    out.freeze()
}

/// A frame with every gap filled: `fill` repeated, one letter a partition.
fn assemble(frame: &FetchFrame) -> Vec<u8> {
    let mut whole = Vec::new();
    for fragment in frame.fragments() {
        match fragment {
            Fragment::Bytes(bytes) => whole.extend_from_slice(bytes),
            Fragment::Records { index, len } => whole.extend(vec![b'a' + (index % 26) as u8; len]),
        }
    }
    whole
}

proptest! {
    #[test]
    fn a_request_is_walked_as_it_was_written(
        version in 4i16..=18,
        numbers in any::<(i32, i32, i32, i8)>(),
        replica in any::<(i32, i64)>(),
        topics in topics(),
    ) {
        let body = oracle(version, numbers, replica, &topics);
        let mut scratch = FetchScratch::default();
        let got = FetchRequest::parse_into(version, &body, &mut scratch).unwrap();
        prop_assert_eq!((got.max_wait_ms, got.min_bytes, got.max_bytes, got.isolation_level), numbers);
        let epoch = if version >= 15 { replica.1 } else { -1 };
        prop_assert_eq!((got.replica_id, got.replica_epoch), (replica.0, epoch));
        prop_assert_eq!(got.cluster_id, (version >= 12).then_some("cluster"));
        prop_assert_eq!(got.rack_id, if version >= 11 { "rack" } else { "" });
        let session = if version >= 7 { (77, 78) } else { (0, -1) };
        prop_assert_eq!((got.session_id, got.session_epoch), session);
        let forgotten: Vec<_> = got.forgotten().collect();
        let gone = if version >= 13 { TopicRef::Id([9; 16]) } else { TopicRef::Name("gone") };
        prop_assert_eq!(forgotten, if version >= 7 { vec![(gone, &[3, 1][..])] } else { vec![] });

        prop_assert_eq!(got.topics().len(), topics.len());
        for ((topic, partitions), (text, id, wanted)) in got.topics().zip(&topics) {
            let by_id = version >= 13;
            prop_assert_eq!(topic, if by_id { TopicRef::Id(*id) } else { TopicRef::Name(text) });
            prop_assert_eq!(partitions.len(), wanted.len());
            for (one, wanted) in partitions.iter().zip(wanted) {
                let since = |first: i16, value: i64| if version >= first { value } else { -1 };
                prop_assert_eq!((one.index, one.fetch_offset), (wanted.0, wanted.2));
                prop_assert_eq!(i64::from(one.current_leader_epoch), since(9, wanted.1.into()));
                prop_assert_eq!(i64::from(one.last_fetched_epoch), since(12, wanted.3.into()));
                prop_assert_eq!(one.log_start_offset, since(5, wanted.4));
                prop_assert_eq!(one.max_bytes, wanted.5);
            }
        }
    }

    #[test]
    fn a_damaged_request_ends_in_an_answer(
        version in 4i16..=18,
        topics in topics(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = oracle(version, (1, 1, 1, 0), (-1, -1), &topics).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let mut scratch = FetchScratch::default();
        if let Ok(request) = FetchRequest::parse_into(version, &body, &mut scratch) {
            let counted: usize = request.topics().map(|(_, partitions)| partitions.len()).sum();
            prop_assert_eq!(counted, request.partition_count());
            prop_assert!(counted <= body.len() / 16);
        }
    }

    #[test]
    fn a_response_is_read_as_it_was_written(
        version in 4i16..=18,
        topics in prop::collection::vec(
            ("[a-z]{0,140}", any::<[u8; 16]>(),
             prop::collection::vec((any::<i32>(), prop::option::of(0usize..400)), 0..5)),
            0..4,
        ),
        offsets in any::<(i16, i64, i64, i64)>(),
        aborted in prop::option::of(prop::collection::vec(any::<(i64, i64)>(), 0..3)),
        tags in any::<(Option<(i32, i64)>, Option<(i32, i32)>, Option<(i32, i64)>)>(),
        replica in any::<i32>(),
    ) {
        let transactions: Option<Vec<_>> = aborted.as_ref().map(|list| {
            let one = |&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset };
            list.iter().map(one).collect()
        });
        let epoch = |(epoch, end_offset)| EpochEndOffset { epoch, end_offset };
        let leader = |(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch };
        let head = FetchResponseHead { throttle_time_ms: 5, error_code: 6, session_id: 7 };
        let mut frame = FetchFrame::default();
        let mut writer =
            FetchResponseWriter::new(&mut frame, version, 42, head, topics.len()).unwrap();
        for (text, id, partitions) in &topics {
            let topic = if version >= 13 { TopicRef::Id(*id) } else { TopicRef::Name(text) };
            writer.topic(topic, partitions.len()).unwrap();
            for (index, records) in partitions {
                let mut one = FetchPartitionResponse::error(*index, offsets.0);
                one.high_watermark = offsets.1;
                one.last_stable_offset = offsets.2;
                one.log_start_offset = offsets.3;
                one.aborted_transactions = transactions.as_deref();
                one.diverging_epoch = tags.0.map(epoch);
                one.current_leader = tags.1.map(leader);
                one.snapshot_id = tags.2.map(epoch);
                one.preferred_read_replica = replica;
                writer.partition(&one, *records).unwrap();
            }
        }
        let endpoint = NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: None };
        let size = writer.finish(&[endpoint]).unwrap();
        let whole = assemble(&frame);
        prop_assert_eq!(size, whole.len());
        prop_assert_eq!(size, frame.bytes().len() + frame.records_len());
        prop_assert_eq!(&whole[..4], &(size as i32 - 4).to_be_bytes());
        let (correlation, at) = parse_response_header(ApiKey::Fetch, version, &whole[4..]).unwrap();
        prop_assert_eq!(correlation, 42);

        let mut body = Bytes::copy_from_slice(&whole[4 + at..]);
        let got = fetch_response::FetchResponse::decode(&mut body, version).unwrap();
        prop_assert!(body.is_empty());
        let wanted = if version >= 7 { (5, 6, 7) } else { (5, 0, 0) };
        prop_assert_eq!((got.throttle_time_ms, got.error_code, got.session_id), wanted);
        prop_assert_eq!(got.node_endpoints.len(), usize::from(version >= 16));
        prop_assert_eq!(got.responses.len(), topics.len());
        let mut letters = 0;
        for (topic, (text, id, partitions)) in got.responses.iter().zip(&topics) {
            match version {
                13.. => prop_assert_eq!(topic.topic_id, uuid::Uuid::from_bytes(*id)),
                _ => prop_assert_eq!(&**topic.topic, text),
            }
            prop_assert_eq!(topic.partitions.len(), partitions.len());
            for (one, (index, records)) in topic.partitions.iter().zip(partitions) {
                prop_assert_eq!((one.partition_index, one.error_code), (*index, offsets.0));
                prop_assert_eq!((one.high_watermark, one.last_stable_offset), (offsets.1, offsets.2));
                prop_assert_eq!(one.log_start_offset, if version >= 5 { offsets.3 } else { -1 });
                prop_assert_eq!(*one.preferred_read_replica, if version >= 11 { replica } else { -1 });
                let got_aborted = one.aborted_transactions.as_ref().map(|list| {
                    list.iter().map(|one| (one.producer_id.0, one.first_offset)).collect::<Vec<_>>()
                });
                prop_assert_eq!(&got_aborted, &aborted);
                let tagged = version >= 12;
                let pair = (one.diverging_epoch.epoch, one.diverging_epoch.end_offset);
                prop_assert_eq!(pair, tags.0.filter(|_| tagged).unwrap_or((-1, -1)));
                let pair = (one.current_leader.leader_id.0, one.current_leader.leader_epoch);
                prop_assert_eq!(pair, tags.1.filter(|_| tagged).unwrap_or((-1, -1)));
                let pair = (one.snapshot_id.epoch, one.snapshot_id.end_offset);
                prop_assert_eq!(pair, tags.2.filter(|_| tagged).unwrap_or((-1, -1)));
                let filled = records.map(|len| {
                    let letter = b'a' + (letters % 26) as u8;
                    letters += usize::from(len > 0);
                    vec![letter; len]
                });
                prop_assert_eq!(one.records.as_deref(), filled.as_deref());
            }
        }
    }
}
