//! ListOffsets: the marks at once, a search by time in the pool, because it opens batches.

use std::collections::HashMap;
use std::sync::Arc;

use mqlog_log::{Partition, ReadUpTo};
use mqlog_protocol::header::{begin_response, end_frame};
use mqlog_protocol::messages::list_offsets::{
    ListOffsetsRequest, ListOffsetsRequestPartition, ListOffsetsResponse,
    ListOffsetsResponsePartitionResponse, ListOffsetsResponseTopicResponse,
};
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::{ApiKey, ErrorCode};

use crate::admit::throttle;
use crate::close::Close;
use crate::connection::Connection;
use crate::decode::Request;
use crate::lookup::find_leader;
use crate::mailbox::Letter;
use crate::park::Parked;
use crate::router::Router;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Offset, timestamp, leader epoch; -1 for what there is not.
type Answer = (i64, i64, i32);
const NOTHING: Answer = (-1, -1, -1);

/// A partition's answer, or the partition to ask in the pool.
enum Found {
    Answer(Result<Answer, ErrorCode>),
    Search(Arc<Partition>),
}

/// Answers, or parks the connection until the pool has.
pub(crate) fn serve(
    connection: &mut Connection,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Close> {
    let version = request.header.api_version;
    let body = ListOffsetsRequest::decode(version, request.body).map_err(|_| Close::Malformed)?;
    let core = &connection.core;
    let found = look(&body, version, &core.router.load());
    let reply = Reply {
        version,
        correlation_id: request.header.correlation_id,
        throttle_time_ms: if version >= 2 {
            throttle(&connection.place)
        } else {
            0
        },
        body,
        found,
    };
    if !reply
        .found
        .iter()
        .any(|found| matches!(found, Found::Search(_)))
    {
        return reply.write(out);
    }
    let ticket = core.tokens.ticket();
    let mailbox = Arc::downgrade(&connection.mailbox);
    core.dir.spawn(Box::new(move || {
        let mut frame = Vec::new();
        let letter = match reply.write(&mut frame) {
            Ok(()) => Letter::Frame(frame),
            Err(_) => Letter::Close,
        };
        if let Some(mailbox) = mailbox.upgrade() {
            mailbox.post(ticket, letter);
        }
    }));
    connection.parked = Some(Box::new(Parked::Pool(ticket)));
    Ok(())
}

/// One [`Found`] per partition of the request, in its order.
fn look(body: &ListOffsetsRequest, version: i16, router: &Router) -> Vec<Found> {
    let asked = || {
        let topics = body.topics.iter();
        topics.flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|one| (topic.name.as_str(), one))
        })
    };
    let mut seen = HashMap::new();
    for (topic, one) in asked() {
        *seen.entry((topic, one.partition_index)).or_insert(0) += 1;
    }
    asked()
        .map(
            |(topic, asked)| match seen.get(&(topic, asked.partition_index)) {
                Some(1) => one(router, topic, asked, version, body.isolation_level == 1),
                _ => Found::Answer(Err(ErrorCode::InvalidRequest)),
            },
        )
        .collect()
}

fn one(
    router: &Router,
    topic: &str,
    asked: &ListOffsetsRequestPartition,
    version: i16,
    read_committed: bool,
) -> Found {
    if unsupported(asked.timestamp, version) {
        return Found::Answer(Err(ErrorCode::UnsupportedVersion));
    }
    let (index, epoch) = (asked.partition_index, asked.current_leader_epoch);
    let partition = match find_leader(router, TopicRef::Name(topic), index, epoch) {
        Ok(partition) => partition,
        Err(error) => return Found::Answer(Err(error)),
    };
    let at = |offset| (offset, -1, partition.epoch_at(offset));
    Found::Answer(Ok(match asked.timestamp {
        LATEST => (end(partition, read_committed), -1, partition.leader_epoch()),
        EARLIEST | EARLIEST_LOCAL => at(partition.log_start()),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => NOTHING,
        _ => return Found::Search(partition.clone()),
    }))
}

fn end(partition: &Partition, read_committed: bool) -> i64 {
    match read_committed {
        true => partition.last_stable(),
        false => partition.high_watermark(),
    }
}

/// Special times came one by one, each with a version.
fn unsupported(timestamp: i64, version: i16) -> bool {
    let since = match timestamp {
        EARLIEST | LATEST | 0.. => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => i16::MAX,
    };
    version < since
}

struct Reply {
    version: i16,
    correlation_id: i32,
    throttle_time_ms: i32,
    body: ListOffsetsRequest,
    found: Vec<Found>,
}

impl Reply {
    /// Writes the frame; searches what has to be searched, so with any of that only in the pool.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Close> {
        let mut found = self.found.iter();
        let read_committed = self.body.isolation_level == 1;
        let topics = self
            .body
            .topics
            .iter()
            .map(|topic| ListOffsetsResponseTopicResponse {
                name: topic.name.clone(),
                partitions: (topic.partitions.iter().zip(&mut found))
                    .map(|(asked, found)| self.partition(asked, found, read_committed))
                    .collect(),
            });
        let response = ListOffsetsResponse {
            throttle_time_ms: self.throttle_time_ms,
            topics: topics.collect(),
        };
        let start = begin_response(ApiKey::ListOffsets, self.version, self.correlation_id, out);
        response
            .encode(self.version, out)
            .map_err(|_| Close::Malformed)?;
        end_frame(start, 0, out).map_err(|_| Close::Malformed)?;
        Ok(())
    }

    fn partition(
        &self,
        asked: &ListOffsetsRequestPartition,
        found: &Found,
        read_committed: bool,
    ) -> ListOffsetsResponsePartitionResponse {
        let (error, (offset, timestamp, leader_epoch)) = match found {
            Found::Answer(Ok(answer)) => (0, *answer),
            Found::Answer(Err(error)) => (*error as i16, NOTHING),
            Found::Search(partition) => search(partition, asked.timestamp, read_committed),
        };
        ListOffsetsResponsePartitionResponse {
            partition_index: asked.partition_index,
            error_code: error,
            timestamp,
            offset,
            leader_epoch: if self.version >= 4 { leader_epoch } else { -1 },
        }
    }
}

fn search(partition: &Partition, timestamp: i64, read_committed: bool) -> (i16, Answer) {
    // What may not be read yet is not there yet.
    let up_to = match read_committed {
        true => ReadUpTo::LastStable,
        false => ReadUpTo::HighWatermark,
    };
    let found = match timestamp {
        MAX_TIMESTAMP => partition.offset_of_max_timestamp(up_to),
        _ => partition.offset_for_timestamp(timestamp, up_to),
    };
    match found {
        Ok(Some(at)) => (0, (at.offset, at.timestamp, at.leader_epoch)),
        Ok(None) => (0, NOTHING),
        Err(error) => (error.code(), NOTHING),
    }
}
