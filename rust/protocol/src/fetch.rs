//! Fetch, walked in place: the request's partitions, and the response as bytes with gaps.
//!
//! The response is in [`crate::fetch_response`]: its records never pass through either, it notes
//! where in the frame they belong, and the caller sends them from memory or by `sendfile`. The
//! frame's length is final before the first byte leaves.

use std::ops::Range;

use crate::error::DecodeError;
use crate::produce::KEPT;
use crate::reader::Reader;
use crate::topic::{TopicKey, TopicRef};

/// The versions served.
pub const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

const fn flexible(version: i16) -> bool {
    version >= 12
}

const fn by_id(version: i16) -> bool {
    version >= 13
}

/// Memory that one request after the other is parsed into.
#[derive(Debug, Default)]
pub struct FetchScratch {
    topics: Vec<(TopicKey, Range<usize>)>,
    partitions: Vec<FetchPartition>,
    forgotten: Vec<(TopicKey, Range<usize>)>,
    forgotten_partitions: Vec<i32>,
}

impl FetchScratch {
    /// Empties it, and gives back what only an unusually large request needed.
    fn clear(&mut self) {
        self.topics.clear();
        self.topics.shrink_to(KEPT);
        self.partitions.clear();
        self.partitions.shrink_to(KEPT);
        self.forgotten.clear();
        self.forgotten.shrink_to(KEPT);
        self.forgotten_partitions.clear();
        self.forgotten_partitions.shrink_to(KEPT);
    }
}

/// One partition of a request. What a version lacks is -1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's index in its topic.
    pub index: i32,
    /// The leader epoch that the client knows (version 9 on).
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the last record the client has (version 12 on).
    pub last_fetched_epoch: i32,
    /// A follower's first offset (version 5 on).
    pub log_start_offset: i64,
    /// The most bytes wanted from this partition.
    pub max_bytes: i32,
}

/// A request, borrowing its body and its scratch memory.
#[derive(Debug)]
pub struct FetchRequest<'a> {
    /// The broker that fetches, or -1 for a consumer.
    pub replica_id: i32,
    /// That broker's epoch, or -1 (version 15 on).
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How much to wait for.
    pub min_bytes: i32,
    /// The most bytes wanted in all.
    pub max_bytes: i32,
    /// 1 to read committed records only.
    pub isolation_level: i8,
    /// The fetch session, or 0 (version 7 on).
    pub session_id: i32,
    /// Its epoch: 0 opens one, -1 closes it or does without (version 7 on).
    pub session_epoch: i32,
    /// The consumer's rack (version 11 on), else empty.
    pub rack_id: &'a str,
    /// The cluster the client takes this for (version 12 on).
    pub cluster_id: Option<&'a str>,
    body: &'a [u8],
    scratch: &'a FetchScratch,
}

impl<'a> FetchRequest<'a> {
    /// Walks `body` (the frame after its header).
    pub fn parse_into(
        version: i16,
        body: &'a [u8],
        scratch: &'a mut FetchScratch,
    ) -> Result<Self, DecodeError> {
        if !VERSIONS.contains(&version) {
            let (min, max) = (*VERSIONS.start(), *VERSIONS.end());
            return Err(DecodeError::Version {
                message: "FetchRequest",
                version,
                min,
                max,
            });
        }
        scratch.clear();
        let flexible = flexible(version);
        let mut reader = Reader::new(body);
        let mut replica_id = if version <= 14 {
            reader.field("replica_id").i32()?
        } else {
            -1
        };
        let mut replica_epoch = -1;
        let max_wait_ms = reader.field("max_wait_ms").i32()?;
        let min_bytes = reader.field("min_bytes").i32()?;
        let max_bytes = reader.field("max_bytes").i32()?;
        let isolation_level = reader.field("isolation_level").i8()?;
        let (mut session_id, mut session_epoch) = (0, -1);
        if version >= 7 {
            session_id = reader.field("session_id").i32()?;
            session_epoch = reader.field("session_epoch").i32()?;
        }
        read_topics(&mut reader, version, scratch)?;
        if version >= 7 {
            read_forgotten(&mut reader, version, scratch)?;
        }
        let rack_id = match version {
            11.. => reader.field("rack_id").string(flexible)?,
            _ => "",
        };
        let mut cluster_id = None;
        reader.tags(flexible, |tag, content| {
            match tag {
                0 => cluster_id = content.field("cluster_id").nullable_string(true)?,
                1 if version >= 15 => {
                    replica_id = content.field("replica_id").i32()?;
                    replica_epoch = content.field("replica_epoch").i64()?;
                    content.skip_tags(true)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(FetchRequest {
            replica_id,
            replica_epoch,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            rack_id,
            cluster_id,
            body,
            scratch,
        })
    }

    /// The topics with their partitions, in the request's order.
    pub fn topics(
        &self,
    ) -> impl ExactSizeIterator<Item = (TopicRef<'a>, &'a [FetchPartition])> + 'a {
        let (body, scratch) = (self.body, self.scratch);
        scratch.topics.iter().map(move |(topic, partitions)| {
            let partitions = scratch
                .partitions
                .get(partitions.clone())
                .unwrap_or_default();
            (topic.resolve(body), partitions)
        })
    }

    /// What an incremental request takes out of its session.
    pub fn forgotten(&self) -> impl ExactSizeIterator<Item = (TopicRef<'a>, &'a [i32])> + 'a {
        let (body, scratch) = (self.body, self.scratch);
        scratch.forgotten.iter().map(move |(topic, partitions)| {
            let partitions = scratch
                .forgotten_partitions
                .get(partitions.clone())
                .unwrap_or_default();
            (topic.resolve(body), partitions)
        })
    }

    /// The partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.scratch.partitions.len()
    }
}

fn read_topics(
    reader: &mut Reader<'_>,
    version: i16,
    scratch: &mut FetchScratch,
) -> Result<(), DecodeError> {
    let flexible = flexible(version);
    for _ in 0..reader.field("topics").array_len(flexible, 3)? {
        let topic = TopicKey::read(reader, by_id(version), flexible)?;
        let first = scratch.partitions.len();
        for _ in 0..reader.field("partitions").array_len(flexible, 16)? {
            scratch.partitions.push(read_partition(reader, version)?);
        }
        reader.skip_tags(flexible)?;
        scratch
            .topics
            .push((topic, first..scratch.partitions.len()));
    }
    Ok(())
}

#[inline]
fn read_partition(reader: &mut Reader<'_>, version: i16) -> Result<FetchPartition, DecodeError> {
    let index = reader.field("partition").i32()?;
    let current_leader_epoch = if version >= 9 {
        reader.field("current_leader_epoch").i32()?
    } else {
        -1
    };
    let fetch_offset = reader.field("fetch_offset").i64()?;
    let last_fetched_epoch = if version >= 12 {
        reader.field("last_fetched_epoch").i32()?
    } else {
        -1
    };
    let log_start_offset = if version >= 5 {
        reader.field("log_start_offset").i64()?
    } else {
        -1
    };
    let max_bytes = reader.field("partition_max_bytes").i32()?;
    // What may follow (replica directory id, a follower's high watermark) is between brokers.
    reader.skip_tags(flexible(version))?;
    Ok(FetchPartition {
        index,
        current_leader_epoch,
        fetch_offset,
        last_fetched_epoch,
        log_start_offset,
        max_bytes,
    })
}

fn read_forgotten(
    reader: &mut Reader<'_>,
    version: i16,
    scratch: &mut FetchScratch,
) -> Result<(), DecodeError> {
    let flexible = flexible(version);
    for _ in 0..reader
        .field("forgotten_topics_data")
        .array_len(flexible, 3)?
    {
        let topic = TopicKey::read(reader, by_id(version), flexible)?;
        let first = scratch.forgotten_partitions.len();
        for _ in 0..reader
            .field("forgotten partitions")
            .array_len(flexible, 4)?
        {
            scratch.forgotten_partitions.push(reader.i32()?);
        }
        reader.skip_tags(flexible)?;
        scratch
            .forgotten
            .push((topic, first..scratch.forgotten_partitions.len()));
    }
    Ok(())
}
