//! A fetch's answer: headers written here, records read into it when they are few, and sent from
//! their files when they are many.

use mqlog_log::ReadRange;
use mqlog_protocol::fetch_response::{
    FetchPartitionResponse, FetchResponseHead, FetchResponseWriter, Fragment,
};
use mqlog_protocol::topic::{CurrentLeader, NodeEndpoint};
use mqlog_protocol::{EncodeError, ErrorCode};

use crate::admit::throttle;
use crate::close::Close;
use crate::connection::Place;
use crate::core::Core;
use crate::fetch::{FetchArena, Find, Item, Query};
use crate::lookup::endpoint;
use crate::mailbox::lock;
use crate::outbox::Outbox;
use crate::session::Told;

/// Ranges up to this are copied into the answer: one write is cheaper than write and sendfile.
const COPY_RANGE: usize = 32 * 1024;
/// No more than this is copied per answer.
const COPY_TOTAL: usize = 256 * 1024;

/// Writes the answer of `query` from what was found.
pub(crate) fn write(
    core: &Core,
    place: &Place,
    query: &Query,
    arena: &mut FetchArena,
    out: &mut Outbox,
) -> Result<(), Close> {
    let FetchArena { frame, finds, .. } = arena;
    let told: Vec<bool> = tell(query, finds);
    write_frame(core, place, query, finds, &told, frame).map_err(|_| Close::Malformed)?;
    let mut ranges = (finds.iter().zip(&told))
        .filter(|(_, told)| **told)
        .filter_map(|(find, _)| find.range.as_ref())
        .filter(|range| range.len > 0);
    let mut copied = 0;
    for fragment in frame.fragments() {
        match fragment {
            Fragment::Bytes(bytes) => out.bytes.extend_from_slice(bytes),
            Fragment::Records { len, .. } => {
                let range = ranges.next().ok_or(Close::Io)?;
                put_records(range, len, &mut copied, out)?;
            }
        }
    }
    Ok(())
}

/// Which partitions the client must be told of; remembers that it was.
fn tell(query: &Query, finds: &[Find]) -> Vec<bool> {
    let Some(session) = &query.session else {
        return vec![true; finds.len()];
    };
    let mut session = lock(session);
    (query.items.iter().zip(finds))
        .map(|(item, find)| {
            let told = Told {
                high_watermark: find.high_watermark,
                log_start: find.log_start,
            };
            let records = find.range.as_ref().is_some_and(|range| range.len > 0);
            let (error, diverging) = (find.error != 0, find.diverging.is_some());
            let news = session.tell(&item.topic, item.index, told, records, error, diverging);
            news || !query.incremental
        })
        .collect()
}

fn write_frame(
    core: &Core,
    place: &Place,
    query: &Query,
    finds: &[Find],
    told: &[bool],
    frame: &mut mqlog_protocol::fetch_response::FetchFrame,
) -> Result<(), EncodeError> {
    let answers: Vec<(&Item, &Find)> = (query.items.iter().zip(finds).zip(told))
        .filter(|(_, told)| **told)
        .map(|(answer, _)| answer)
        .collect();
    let topics = answers.chunk_by(|a, b| a.0.topic == b.0.topic);
    let head = FetchResponseHead {
        throttle_time_ms: throttle(place),
        error_code: query.error as i16,
        session_id: query.session_id,
    };
    let count = topics.clone().count();
    let mut writer =
        FetchResponseWriter::new(frame, query.version, query.correlation_id, head, count)?;
    let mut moved = false;
    for topic in topics {
        let Some((first, _)) = topic.first() else {
            continue;
        };
        writer.topic(first.topic.as_ref(), topic.len())?;
        for (item, find) in topic {
            let one = response(core, query, item, find);
            moved |= one.current_leader.is_some();
            let len = find.range.as_ref().map_or(0, |range| range.len);
            writer.partition(&one, Some(len))?;
        }
    }
    let (host, port) = endpoint(core, place);
    let rack = core.config.rack.as_deref();
    let node = NodeEndpoint {
        node_id: core.config.node_id,
        host: &host,
        port,
        rack,
    };
    let endpoints: &[NodeEndpoint<'_>] = if moved { &[node] } else { &[] };
    writer.finish(endpoints)?;
    Ok(())
}

fn response<'a>(
    core: &Core,
    query: &Query,
    item: &Item,
    find: &Find,
) -> FetchPartitionResponse<'a> {
    let fenced = find.error == ErrorCode::FencedLeaderEpoch as i16;
    FetchPartitionResponse {
        high_watermark: find.high_watermark,
        last_stable_offset: find.last_stable,
        log_start_offset: find.log_start,
        diverging_epoch: find.diverging,
        current_leader: (fenced && query.version >= 16).then_some(CurrentLeader {
            leader_id: core.config.node_id,
            leader_epoch: find.leader_epoch,
        }),
        // Until there are transactions none was aborted.
        aborted_transactions: query.read_committed.then_some(&[]),
        ..FetchPartitionResponse::error(item.index, find.error)
    }
}

/// Puts `len` bytes of records where the outbox ends: as bytes or as a range of their file.
fn put_records(
    range: &ReadRange,
    len: usize,
    copied: &mut usize,
    out: &mut Outbox,
) -> Result<(), Close> {
    if len <= COPY_RANGE && *copied + len <= COPY_TOTAL {
        *copied += len;
        let before = out.bytes.len();
        range.read_into(&mut out.bytes).map_err(|_| Close::Io)?;
        return if out.bytes.len() == before + len {
            Ok(())
        } else {
            Err(Close::Io)
        };
    }
    let file = range.file().map_err(|_| Close::Io)?;
    out.insert_file(out.bytes.len(), file, range.position, len);
    Ok(())
}
