//! A client's side of fetch against the broker's side, an independent codec (`kafka-protocol`) and
//! the tables.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use kafka_protocol::messages::fetch_response;
use kafka_protocol::protocol::{Encodable, StrBytes};
use mqlog_protocol::fetch::{FetchPartition, FetchRequest, FetchScratch};
use mqlog_protocol::fetch_client::{write_request, FetchAnswer, FetchHead};
use mqlog_protocol::{ApiKey, CurrentLeader, NodeEndpoint, TopicRef};
use proptest::prelude::*;

type Partition = (i32, i32, i64, i32, i64, i32);
type Topic = (String, [u8; 16], Vec<Partition>, Vec<i32>);

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    let partitions = prop::collection::vec(any::<Partition>(), 0..6);
    let forgotten = prop::collection::vec(any::<i32>(), 0..4);
    prop::collection::vec(
        ("[a-zä]{0,140}", any::<[u8; 16]>(), partitions, forgotten),
        0..5,
    )
}

fn wanted(one: &Partition) -> FetchPartition {
    FetchPartition {
        index: one.0,
        current_leader_epoch: one.1,
        fetch_offset: one.2,
        last_fetched_epoch: one.3,
        log_start_offset: one.4,
        max_bytes: one.5,
    }
}

/// Error, three offsets, aborted, diverging, leader, records.
type Answered = (
    i16,
    (i64, i64, i64),
    Option<Vec<(i64, i64)>>,
    Option<(i32, i64)>,
    Option<(i32, i32)>,
    Option<Vec<u8>>,
);

fn answered() -> impl Strategy<Value = Answered> {
    (
        any::<i16>(),
        any::<(i64, i64, i64)>(),
        prop::option::of(prop::collection::vec(any::<(i64, i64)>(), 0..3)),
        any::<Option<(i32, i64)>>(),
        any::<Option<(i32, i32)>>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    )
}

fn oracle(version: i16, topics: &[(String, [u8; 16], Vec<Answered>)]) -> Bytes {
    let mut response = fetch_response::FetchResponse::default().with_throttle_time_ms(5);
    if version >= 7 {
        response.error_code = 6;
        response.session_id = 7;
    }
    for (name, id, partitions) in topics {
        let mut topic = fetch_response::FetchableTopicResponse::default();
        if version >= 13 {
            topic.topic_id = uuid::Uuid::from_bytes(*id);
        } else {
            topic.topic = StrBytes::from_string(name.clone()).into();
        }
        for (index, one) in partitions.iter().enumerate() {
            topic
                .partitions
                .push(oracle_partition(version, index as i32, one));
        }
        response.responses.push(topic);
    }
    if version >= 16 {
        let endpoint = fetch_response::NodeEndpoint::default()
            .with_node_id(3.into())
            .with_host(StrBytes::from_static_str("h"))
            .with_port(9092);
        response.node_endpoints.push(endpoint);
    }
    let mut out = bytes::BytesMut::new();
    response.encode(&mut out, version).unwrap();
    out.freeze()
}

fn oracle_partition(version: i16, index: i32, one: &Answered) -> fetch_response::PartitionData {
    let mut out = fetch_response::PartitionData::default()
        .with_partition_index(index)
        .with_error_code(one.0)
        .with_high_watermark(one.1 .0)
        .with_last_stable_offset(one.1 .1)
        .with_records(one.5.clone().map(Bytes::from));
    out.aborted_transactions = one.2.as_ref().map(|list| {
        let one = |&(id, offset): &(i64, i64)| {
            fetch_response::AbortedTransaction::default()
                .with_producer_id(id.into())
                .with_first_offset(offset)
        };
        list.iter().map(one).collect()
    });
    if version >= 5 {
        out.log_start_offset = one.1 .2;
    }
    if version >= 11 {
        out.preferred_read_replica = 4.into();
    }
    if version >= 12 {
        if let Some((epoch, end_offset)) = one.3 {
            out.diverging_epoch.epoch = epoch;
            out.diverging_epoch.end_offset = end_offset;
        }
        if let Some((id, epoch)) = one.4 {
            out.current_leader.leader_id = id.into();
            out.current_leader.leader_epoch = epoch;
        }
    }
    out
}

const HEAD: FetchHead<'_> = FetchHead {
    max_wait_ms: 1,
    min_bytes: 2,
    max_bytes: 3,
    isolation_level: 1,
    session_id: 4,
    session_epoch: 5,
    rack_id: "rack",
};

fn write(version: i16, topics: &[Topic]) -> Vec<u8> {
    let partitions: Vec<Vec<_>> = topics
        .iter()
        .map(|topic| topic.2.iter().map(wanted).collect())
        .collect();
    let name = |topic: &'_ Topic| match version {
        13.. => TopicRef::Id(topic.1),
        // Lives as long as the test.
        _ => TopicRef::Name(Box::leak(topic.0.clone().into_boxed_str())),
    };
    let rows: Vec<_> = topics
        .iter()
        .zip(&partitions)
        .map(|(topic, rows)| (name(topic), rows.as_slice()))
        .collect();
    let gone: Vec<_> = topics
        .iter()
        .filter(|_| version >= 7)
        .map(|topic| (name(topic), topic.3.as_slice()))
        .collect();
    let mut out = Vec::new();
    write_request(version, HEAD, &rows, &gone, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn a_broker_reads_what_a_client_writes(version in 4i16..=18, topics in topics()) {
        let body = write(version, &topics);
        let mut scratch = FetchScratch::default();
        let got = FetchRequest::parse_into(version, &body, &mut scratch).unwrap();
        prop_assert_eq!((got.replica_id, got.replica_epoch), (-1, -1));
        prop_assert_eq!((got.max_wait_ms, got.min_bytes, got.max_bytes), (1, 2, 3));
        prop_assert_eq!(got.isolation_level, 1);
        let session = if version >= 7 { (4, 5) } else { (0, -1) };
        prop_assert_eq!((got.session_id, got.session_epoch), session);
        prop_assert_eq!(got.rack_id, if version >= 11 { "rack" } else { "" });
        prop_assert_eq!(got.topics().len(), topics.len());
        for ((topic, partitions), (name, id, rows, _)) in got.topics().zip(&topics) {
            let named = if version >= 13 { TopicRef::Id(*id) } else { TopicRef::Name(name) };
            prop_assert_eq!(topic, named);
            let rows: Vec<_> = rows.iter().map(|row| {
                let mut row = wanted(row);
                if version < 5 { row.log_start_offset = -1 }
                if version < 9 { row.current_leader_epoch = -1 }
                if version < 12 { row.last_fetched_epoch = -1 }
                row
            }).collect();
            prop_assert_eq!(partitions, rows);
        }
        let gone: Vec<_> = got.forgotten().map(|(_, list)| list.to_vec()).collect();
        let want: Vec<_> = topics.iter().filter(|_| version >= 7).map(|t| t.3.clone()).collect();
        prop_assert_eq!(gone, want);
    }

    #[test]
    fn the_tables_read_and_write_the_same_request(version in 4i16..=18, topics in topics()) {
        let body = write(version, &topics);
        let spec = mqlog_protocol::tables::request(ApiKey::Fetch as i16).unwrap();
        let value = mqlog_protocol::codec::decode(spec, version, &body).unwrap();
        let mut again = Vec::new();
        mqlog_protocol::codec::encode(spec, version, &value, &mut again).unwrap();
        prop_assert_eq!(again, body);
    }

    #[test]
    fn a_client_reads_what_a_broker_wrote(
        version in 4i16..=18,
        topics in prop::collection::vec(
            ("[a-z]{0,140}", any::<[u8; 16]>(), prop::collection::vec(answered(), 0..5)), 0..4,
        ),
    ) {
        let body = oracle(version, &topics);
        let got = FetchAnswer::parse(version, &body).unwrap();
        let head = (got.head.throttle_time_ms, got.head.error_code, got.head.session_id);
        prop_assert_eq!(head, if version >= 7 { (5, 6, 7) } else { (5, 0, 0) });
        let endpoint = NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: None };
        prop_assert_eq!(&got.endpoints, &vec![endpoint; usize::from(version >= 16)]);
        prop_assert_eq!(got.topics().len(), topics.len());
        for ((topic, partitions), (name, id, wanted)) in got.topics().zip(&topics) {
            let named = if version >= 13 { TopicRef::Id(*id) } else { TopicRef::Name(name) };
            prop_assert_eq!(topic, named);
            prop_assert_eq!(partitions.len(), wanted.len());
            for (index, (one, wanted)) in partitions.iter().zip(wanted).enumerate() {
                prop_assert_eq!((one.index, one.error_code), (index as i32, wanted.0));
                let offsets = (one.high_watermark, one.last_stable_offset, one.log_start_offset);
                let start = if version >= 5 { wanted.1.2 } else { -1 };
                prop_assert_eq!(offsets, (wanted.1.0, wanted.1.1, start));
                let aborted = one.aborted.as_ref()
                    .map(|list| list.iter().map(|a| (a.producer_id, a.first_offset)).collect());
                prop_assert_eq!(&aborted, &wanted.2);
                // An absent tag and one of defaults are the same to the oracle.
                let diverging = one.diverging_epoch.map_or((-1, -1), |e| (e.epoch, e.end_offset));
                prop_assert_eq!(diverging, wanted.3.filter(|_| version >= 12).unwrap_or((-1, -1)));
                let leader = one.current_leader.unwrap_or(CurrentLeader { leader_id: -1, leader_epoch: -1 });
                let leader = (leader.leader_id, leader.leader_epoch);
                prop_assert_eq!(leader, wanted.4.filter(|_| version >= 12).unwrap_or((-1, -1)));
                prop_assert_eq!(one.preferred_read_replica, if version >= 11 { 4 } else { -1 });
                prop_assert_eq!(one.records, wanted.5.as_deref().unwrap_or_default());
            }
        }
    }

    #[test]
    fn a_damaged_response_ends_in_an_answer_or_an_error(
        version in 4i16..=18,
        one in answered(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = oracle(version, &[("t".to_owned(), [1; 16], vec![one])]).to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = FetchAnswer::parse(version, &body);
        body.truncate(cut.index(body.len() + 1));
        if let Ok(answer) = FetchAnswer::parse(version, &body) {
            let records: usize =
                answer.topics().flat_map(|(_, all)| all).map(|one| one.records.len()).sum();
            prop_assert!(records <= body.len());
        }
    }
}

#[test]
fn versions_outside_are_refused() {
    for version in [3, 19] {
        assert!(FetchAnswer::parse(version, &[0; 64]).is_err());
        assert!(write_request(version, HEAD, &[], &[], &mut Vec::new()).is_err());
    }
}
