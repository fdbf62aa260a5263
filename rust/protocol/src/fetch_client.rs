//! Fetch as a client meets it: the request written, the response walked in place.
//!
//! The records of a partition are a slice of the response's body, so that a client that holds the
//! body in a shared buffer copies nothing. The broker's side is [`crate::fetch`] and
//! [`crate::fetch_response`]; the structs are the same.

use std::ops::Range;

use crate::error::{DecodeError, EncodeError};
use crate::fetch::{FetchPartition, VERSIONS};
use crate::fetch_response::{AbortedTransaction, EpochEndOffset, FetchResponseHead};
use crate::reader::Reader;
use crate::topic::{read_endpoints, write_topic, CurrentLeader, NodeEndpoint, TopicRef};
use crate::writer::Writer;

const fn flexible(version: i16) -> bool {
    version >= 12
}

/// What a consumer asks for, beside its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchHead<'a> {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How much is worth an answer before that.
    pub min_bytes: i32,
    /// The most bytes wanted in all.
    pub max_bytes: i32,
    /// 1 to read committed records only.
    pub isolation_level: i8,
    /// The fetch session, or 0 (version 7 on).
    pub session_id: i32,
    /// Its epoch: 0 opens one, -1 closes it or does without (version 7 on).
    pub session_epoch: i32,
    /// The consumer's rack (version 11 on), or empty.
    pub rack_id: &'a str,
}

/// The partitions wanted of one topic.
pub type Wanted<'a> = (TopicRef<'a>, &'a [FetchPartition]);
/// The partitions of one topic to take out of the session (version 7 on).
pub type Forgotten<'a> = (TopicRef<'a>, &'a [i32]);

/// Appends a consumer's request. Topics must be named as the version wants: by id from 13 on.
/// What a version lacks is left out; forgotten topics in a version without sessions are an error.
pub fn write_request(
    version: i16,
    head: FetchHead<'_>,
    topics: &[Wanted<'_>],
    forgotten: &[Forgotten<'_>],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if !VERSIONS.contains(&version) {
        let (min, max) = (*VERSIONS.start(), *VERSIONS.end());
        return Err(EncodeError::Version {
            message: "FetchRequest",
            version,
            min,
            max,
        });
    }
    let flexible = flexible(version);
    let mut writer = Writer::new(out);
    if version <= 14 {
        writer.i32(-1);
    }
    writer.i32(head.max_wait_ms);
    writer.i32(head.min_bytes);
    writer.i32(head.max_bytes);
    writer.i8(head.isolation_level);
    if version >= 7 {
        writer.i32(head.session_id);
        writer.i32(head.session_epoch);
    }
    writer.length(flexible, "topics", Some(topics.len()))?;
    for (topic, partitions) in topics {
        write_topic(&mut writer, version, version >= 13, flexible, *topic)?;
        writer.length(flexible, "partitions", Some(partitions.len()))?;
        for one in *partitions {
            write_partition(&mut writer, version, one);
        }
        writer.no_tags(flexible);
    }
    if version >= 7 {
        write_forgotten(&mut writer, version, forgotten)?;
    } else if !forgotten.is_empty() {
        return Err(EncodeError::NotInVersion {
            field: "forgotten_topics_data",
            version,
        });
    }
    if version >= 11 {
        writer.string(flexible, "rack_id", Some(head.rack_id))?;
    }
    writer.no_tags(flexible);
    Ok(())
}

fn write_partition(writer: &mut Writer<'_>, version: i16, one: &FetchPartition) {
    writer.i32(one.index);
    if version >= 9 {
        writer.i32(one.current_leader_epoch);
    }
    writer.i64(one.fetch_offset);
    if version >= 12 {
        writer.i32(one.last_fetched_epoch);
    }
    if version >= 5 {
        writer.i64(one.log_start_offset);
    }
    writer.i32(one.max_bytes);
    writer.no_tags(flexible(version));
}

fn write_forgotten(
    writer: &mut Writer<'_>,
    version: i16,
    forgotten: &[Forgotten<'_>],
) -> Result<(), EncodeError> {
    let flexible = flexible(version);
    writer.length(flexible, "forgotten_topics_data", Some(forgotten.len()))?;
    for (topic, partitions) in forgotten {
        write_topic(writer, version, version >= 13, flexible, *topic)?;
        writer.length(flexible, "forgotten partitions", Some(partitions.len()))?;
        for index in *partitions {
            writer.i32(*index);
        }
        writer.no_tags(flexible);
    }
    Ok(())
}

/// A response, borrowing its body.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchAnswer<'a> {
    /// Throttling, the error of the whole request, the session.
    pub head: FetchResponseHead,
    /// Where brokers named as leaders are reached (version 16 on).
    pub endpoints: Vec<NodeEndpoint<'a>>,
    topics: Vec<(TopicRef<'a>, Range<usize>)>,
    partitions: Vec<FetchedPartition<'a>>,
}

/// One partition of a response. What a version lacks is -1 or `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedPartition<'a> {
    /// The partition's index in its topic.
    pub index: i32,
    /// 0, or what went wrong.
    pub error_code: i16,
    /// Up to where consumers may read.
    pub high_watermark: i64,
    /// Up to where every transaction is decided.
    pub last_stable_offset: i64,
    /// The first offset (version 5 on).
    pub log_start_offset: i64,
    /// Where the client's log and the leader's part (version 12 on).
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Where the leader is now (version 12 on).
    pub current_leader: Option<CurrentLeader>,
    /// Transactions whose records are to be skipped; `None` is null.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// A closer replica to read from, or -1 (version 11 on).
    pub preferred_read_replica: i32,
    /// Whole batches, the last of which may be cut off. Null is empty.
    pub records: &'a [u8],
}

impl<'a> FetchAnswer<'a> {
    /// Walks `body` (the frame after its header); bytes after it are ignored.
    pub fn parse(version: i16, body: &'a [u8]) -> Result<Self, DecodeError> {
        if !VERSIONS.contains(&version) {
            let (min, max) = (*VERSIONS.start(), *VERSIONS.end());
            return Err(DecodeError::Version {
                message: "FetchResponse",
                version,
                min,
                max,
            });
        }
        let flexible = flexible(version);
        let mut reader = Reader::new(body);
        let mut head = FetchResponseHead {
            throttle_time_ms: reader.field("throttle_time_ms").i32()?,
            ..Default::default()
        };
        if version >= 7 {
            head.error_code = reader.field("error_code").i16()?;
            head.session_id = reader.field("session_id").i32()?;
        }
        let count = reader.field("responses").array_len(flexible, 3)?;
        let mut answer = FetchAnswer {
            head,
            endpoints: Vec::new(),
            topics: Vec::with_capacity(count),
            partitions: Vec::new(),
        };
        for _ in 0..count {
            answer.read_topic(&mut reader, version)?;
        }
        let endpoints = &mut answer.endpoints;
        reader.tags(flexible, |tag, content| {
            if tag == 0 && version >= 16 {
                *endpoints = read_endpoints(content)?;
            }
            Ok(())
        })?;
        Ok(answer)
    }

    /// The topics with their partitions, in the response's order.
    pub fn topics(
        &self,
    ) -> impl ExactSizeIterator<Item = (TopicRef<'a>, &[FetchedPartition<'a>])> + '_ {
        self.topics.iter().map(|(topic, partitions)| {
            let partitions = self.partitions.get(partitions.clone()).unwrap_or_default();
            (*topic, partitions)
        })
    }

    fn read_topic(&mut self, reader: &mut Reader<'a>, version: i16) -> Result<(), DecodeError> {
        let flexible = flexible(version);
        let topic = if version >= 13 {
            TopicRef::Id(reader.field("topic_id").uuid()?)
        } else {
            TopicRef::Name(reader.field("topic").string(flexible)?)
        };
        let first = self.partitions.len();
        for _ in 0..reader.field("partitions").array_len(flexible, 30)? {
            self.partitions.push(read_partition(reader, version)?);
        }
        reader.skip_tags(flexible)?;
        self.topics.push((topic, first..self.partitions.len()));
        Ok(())
    }
}

fn read_partition<'a>(
    reader: &mut Reader<'a>,
    version: i16,
) -> Result<FetchedPartition<'a>, DecodeError> {
    let flexible = flexible(version);
    let mut one = FetchedPartition {
        index: reader.field("partition_index").i32()?,
        error_code: reader.field("error_code").i16()?,
        high_watermark: reader.field("high_watermark").i64()?,
        last_stable_offset: reader.field("last_stable_offset").i64()?,
        log_start_offset: -1,
        diverging_epoch: None,
        current_leader: None,
        aborted: None,
        preferred_read_replica: -1,
        records: &[],
    };
    if version >= 5 {
        one.log_start_offset = reader.field("log_start_offset").i64()?;
    }
    one.aborted = read_aborted(reader, flexible)?;
    if version >= 11 {
        one.preferred_read_replica = reader.field("preferred_read_replica").i32()?;
    }
    let records = reader.field("records").nullable_bytes(flexible)?;
    one.records = records.unwrap_or_default();
    reader.tags(flexible, |tag, content| {
        match tag {
            0 => {
                let epoch = content.field("diverging epoch").i32()?;
                let end_offset = content.field("diverging end_offset").i64()?;
                content.skip_tags(true)?;
                one.diverging_epoch = Some(EpochEndOffset { epoch, end_offset });
            }
            1 => one.current_leader = Some(CurrentLeader::read(content)?),
            // Snapshots are for followers.
            _ => {}
        }
        Ok(())
    })?;
    Ok(one)
}

fn read_aborted(
    reader: &mut Reader<'_>,
    flexible: bool,
) -> Result<Option<Vec<AbortedTransaction>>, DecodeError> {
    let count = reader
        .field("aborted_transactions")
        .nullable_array_len(flexible, 16)?;
    let Some(count) = count else { return Ok(None) };
    let mut aborted = Vec::with_capacity(count);
    for _ in 0..count {
        aborted.push(AbortedTransaction {
            producer_id: reader.field("producer_id").i64()?,
            first_offset: reader.field("first_offset").i64()?,
        });
        reader.skip_tags(flexible)?;
    }
    Ok(Some(aborted))
}
