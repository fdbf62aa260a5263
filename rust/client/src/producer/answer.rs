//! What a broker's answer means for a batch; the table is in `docs/internals/client.md`.

use std::sync::Arc;

use mqlog_protocol::produce_client::{PartitionAnswer, ProduceAnswer};
use mqlog_protocol::{ErrorCode, TopicRef};

use super::lane::Verdict;
use crate::cluster::Cluster;
use crate::metadata::Broker;
use crate::ClientError;

/// What is said about one partition.
pub(crate) fn verdict(answer: &PartitionAnswer<'_>) -> Verdict {
    use ErrorCode as E;
    match code(answer) {
        E::None => Verdict::Written {
            base_offset: answer.base_offset,
            log_append_time: answer.log_append_time_ms,
        },
        E::DuplicateSequenceNumber => Verdict::Written {
            base_offset: -1,
            log_append_time: -1,
        },
        E::OutOfOrderSequenceNumber => Verdict::Gap,
        E::UnknownProducerId | E::InvalidProducerEpoch => Verdict::Stranger,
        E::MessageTooLarge => Verdict::TooLarge,
        // Those after which it may be in the log all the same.
        E::RequestTimedOut
        | E::NotEnoughReplicasAfterAppend
        | E::NetworkException
        | E::KafkaStorageError => Verdict::Again { unknown: true },
        code if code.retriable() => Verdict::Again { unknown: false },
        _ => Verdict::Refused,
    }
}

/// The error code; one that does not exist is the broker's own failure.
pub(crate) fn code(answer: &PartitionAnswer<'_>) -> ErrorCode {
    ErrorCode::from_i16(answer.error_code).unwrap_or(ErrorCode::UnknownServerError)
}

/// The error about a partition in words, unless there is none.
pub(crate) fn error(
    answer: &PartitionAnswer<'_>,
    topic: &Arc<str>,
    partition: i32,
) -> Option<ClientError> {
    let code = code(answer);
    (code != ErrorCode::None).then(|| ClientError::Broker {
        code,
        topic: topic.clone(),
        partition,
        message: answer.error_message.unwrap_or_default().to_owned(),
    })
}

/// The answer about a partition; the topic is named as the request named it.
pub(crate) fn find<'a, 'b>(
    answer: &'b ProduceAnswer<'a>,
    topic: &str,
    id: [u8; 16],
    partition: i32,
) -> Option<&'b PartitionAnswer<'a>> {
    answer.partitions.iter().find(|one| {
        one.index == partition
            && match one.topic {
                TopicRef::Name(name) => name == topic,
                TopicRef::Id(named) => named == id,
            }
    })
}

/// Learns where the leader went, from the answer (KIP-951) or by asking. True if it is known now.
pub(crate) fn follow(
    cluster: &Cluster,
    answer: &ProduceAnswer<'_>,
    one: &PartitionAnswer<'_>,
    topic: &str,
) -> bool {
    if !code(one).needs_metadata() {
        return false;
    }
    if let Some(leader) = one.current_leader.filter(|leader| leader.leader_id >= 0) {
        let node = answer
            .endpoints
            .iter()
            .find(|endpoint| endpoint.node_id == leader.leader_id)
            .and_then(|endpoint| {
                Some(Broker {
                    id: endpoint.node_id,
                    host: endpoint.host.into(),
                    port: u16::try_from(endpoint.port).ok()?,
                    rack: endpoint.rack.map(Arc::from),
                })
            });
        let before = cluster.snapshot().revision;
        cluster.apply_hint(topic, one.index, leader, node);
        if cluster.snapshot().revision > before {
            return true;
        }
    }
    cluster.request_update();
    false
}
