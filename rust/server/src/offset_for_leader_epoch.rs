//! OffsetForLeaderEpoch: where a leader epoch ended, so that a client learns of a cut log.

use mqlog_protocol::header::{begin_response, end_frame};
use mqlog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochRequestPartition,
    OffsetForLeaderEpochResponse, OffsetForLeaderEpochResponseEpochEndOffset,
    OffsetForLeaderEpochResponseTopicResult,
};
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::{ApiKey, ErrorCode};

use crate::admit::throttle;
use crate::close::Close;
use crate::connection::Place;
use crate::core::Core;
use crate::decode::Request;
use crate::lookup::find_leader;
use crate::router::Router;

pub(crate) fn answer(
    core: &Core,
    place: &Place,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Close> {
    let version = request.header.api_version;
    let body =
        OffsetForLeaderEpochRequest::decode(version, request.body).map_err(|_| Close::Malformed)?;
    let router = core.router.load();
    let topics = body
        .topics
        .iter()
        .map(|topic| OffsetForLeaderEpochResponseTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|p| epoch_end(&router, &topic.topic, p))
                .collect(),
        });
    let response = OffsetForLeaderEpochResponse {
        throttle_time_ms: throttle(place),
        topics: topics.collect(),
    };
    let correlation_id = request.header.correlation_id;
    let start = begin_response(ApiKey::OffsetForLeaderEpoch, version, correlation_id, out);
    response
        .encode(version, out)
        .map_err(|_| Close::Malformed)?;
    end_frame(start, 0, out).map_err(|_| Close::Malformed)?;
    Ok(())
}

fn epoch_end(
    router: &Router,
    topic: &str,
    asked: &OffsetForLeaderEpochRequestPartition,
) -> OffsetForLeaderEpochResponseEpochEndOffset {
    let found = find_leader(
        router,
        TopicRef::Name(topic),
        asked.partition,
        asked.current_leader_epoch,
    );
    let (error, (leader_epoch, end_offset)) = match found {
        Ok(partition) => (
            ErrorCode::None,
            partition.end_offset_for_epoch(asked.leader_epoch),
        ),
        Err(error) => (error, (-1, -1)),
    };
    OffsetForLeaderEpochResponseEpochEndOffset {
        error_code: error as i16,
        partition: asked.partition,
        leader_epoch,
        end_offset,
    }
}
