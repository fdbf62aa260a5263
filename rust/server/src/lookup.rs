//! From what a request names to a partition, with Kafka's errors.

use std::sync::Arc;

use mqlog_log::Partition;
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::ErrorCode;

use crate::connection::Place;
use crate::core::Core;
use crate::router::Router;

/// The partition, or why there is none.
pub(crate) fn find<'a>(
    router: &'a Router,
    topic: TopicRef<'_>,
    index: i32,
) -> Result<&'a Arc<Partition>, ErrorCode> {
    let Some(route) = router.get(topic) else {
        return Err(match topic {
            TopicRef::Id(_) => ErrorCode::UnknownTopicId,
            TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
        });
    };
    route
        .partition(index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// As [`find`], for a client that says which leader epoch it believes in (-1: it does not say).
pub(crate) fn find_leader<'a>(
    router: &'a Router,
    topic: TopicRef<'_>,
    index: i32,
    leader_epoch: i32,
) -> Result<&'a Arc<Partition>, ErrorCode> {
    let partition = find(router, topic, index)?;
    check_epoch(partition, leader_epoch)?;
    Ok(partition)
}

/// Compares a client's idea of the leader epoch with the partition's.
pub(crate) fn check_epoch(partition: &Partition, leader_epoch: i32) -> Result<(), ErrorCode> {
    let current = partition.leader_epoch();
    match leader_epoch {
        -1 => Ok(()),
        known if known < current => Err(ErrorCode::FencedLeaderEpoch),
        known if known > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the client at `place` reaches this broker: host and port.
pub(crate) fn endpoint(core: &Core, place: &Place) -> (String, i32) {
    match &core.config.advertised {
        Some((host, port)) => (host.clone(), i32::from(*port)),
        None => {
            let local = place.local;
            (
                local.ip().to_canonical().to_string(),
                i32::from(local.port()),
            )
        }
    }
}
