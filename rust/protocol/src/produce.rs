//! Produce, walked in place: where each partition's records lie in the request, and the response.
//!
//! Nothing per record happens here and no byte is copied; the lists live in a
//! [`ProduceScratch`] that is used again for the next request.

use std::ops::Range;

use crate::api_key::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::header::{begin_response, end_frame, FrameStart};
use crate::reader::Reader;
use crate::topic::{write_endpoints, write_topic, CurrentLeader, NodeEndpoint, TopicKey, TopicRef};
use crate::writer::Writer;

/// The versions served. Kafka states 0 as the oldest but refuses 0 to 2, too.
pub const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

/// Entries that scratch memory keeps room for between requests.
pub(crate) const KEPT: usize = 4096;

const fn flexible(version: i16) -> bool {
    version >= 9
}

const fn by_id(version: i16) -> bool {
    version >= 13
}

/// Memory that one request after the other is parsed into.
#[derive(Debug, Default)]
pub struct ProduceScratch {
    topics: Vec<(TopicKey, Range<usize>)>,
    partitions: Vec<ProducePartition>,
}

impl ProduceScratch {
    /// Empties it, and gives back what only an unusually large request needed.
    fn clear(&mut self) {
        self.topics.clear();
        self.topics.shrink_to(KEPT);
        self.partitions.clear();
        self.partitions.shrink_to(KEPT);
    }
}

/// One partition of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition's index in its topic.
    pub index: i32,
    /// Where its records lie in the body, if they are not null.
    pub records: Option<Range<usize>>,
}

/// A request, borrowing its body and its scratch memory.
#[derive(Debug)]
pub struct ProduceRequest<'a> {
    /// Set by transactional producers.
    pub transactional_id: Option<&'a str>,
    /// -1 for all in-sync replicas, 0 for no answer at all, 1 for the leader; not checked here.
    pub acks: i16,
    /// How long to wait for the replicas.
    pub timeout_ms: i32,
    body: &'a [u8],
    scratch: &'a ProduceScratch,
}

impl<'a> ProduceRequest<'a> {
    /// Walks `body` (the frame after its header). Ranges count from the body's first byte.
    pub fn parse_into(
        version: i16,
        body: &'a [u8],
        scratch: &'a mut ProduceScratch,
    ) -> Result<Self, DecodeError> {
        check_version(version)?;
        let flexible = flexible(version);
        let mut reader = Reader::new(body);
        let transactional_id = reader.field("transactional_id").nullable_string(flexible)?;
        let acks = reader.field("acks").i16()?;
        let timeout_ms = reader.field("timeout_ms").i32()?;
        scratch.clear();
        for _ in 0..reader.field("topics").array_len(flexible, 3)? {
            let topic = TopicKey::read(&mut reader, by_id(version), flexible)?;
            let first = scratch.partitions.len();
            for _ in 0..reader.field("partitions").array_len(flexible, 6)? {
                scratch.partitions.push(partition(&mut reader, flexible)?);
            }
            reader.skip_tags(flexible)?;
            scratch
                .topics
                .push((topic, first..scratch.partitions.len()));
        }
        reader.skip_tags(flexible)?;
        Ok(ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            body,
            scratch,
        })
    }

    /// The topics with their partitions, in the request's order.
    pub fn topics(
        &self,
    ) -> impl ExactSizeIterator<Item = (TopicRef<'a>, &'a [ProducePartition])> + 'a {
        let (body, scratch) = (self.body, self.scratch);
        scratch.topics.iter().map(move |(topic, partitions)| {
            let partitions = scratch
                .partitions
                .get(partitions.clone())
                .unwrap_or_default();
            (topic.resolve(body), partitions)
        })
    }

    /// The partitions of all topics together.
    pub fn partition_count(&self) -> usize {
        self.scratch.partitions.len()
    }

    /// The bytes of a partition's records.
    pub fn records(&self, partition: &ProducePartition) -> Option<&'a [u8]> {
        self.body.get(partition.records.clone()?)
    }
}

fn check_version(version: i16) -> Result<(), DecodeError> {
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    let (min, max) = (*VERSIONS.start(), *VERSIONS.end());
    Err(DecodeError::Version {
        message: "ProduceRequest",
        version,
        min,
        max,
    })
}

#[inline]
fn partition(reader: &mut Reader<'_>, flexible: bool) -> Result<ProducePartition, DecodeError> {
    let index = reader.field("partition").i32()?;
    let records = reader.field("records").nullable_bytes(flexible)?;
    let end = reader.position();
    reader.skip_tags(flexible)?;
    Ok(ProducePartition {
        index,
        records: records.map(|bytes| end - bytes.len()..end),
    })
}

/// What became of one partition.
#[derive(Debug, Clone, Copy)]
pub struct ProducePartitionResponse<'a> {
    /// The partition's index in its topic.
    pub index: i32,
    /// 0, or what went wrong.
    pub error_code: i16,
    /// The offset of the first record, or -1.
    pub base_offset: i64,
    /// When it was appended if the topic says LogAppendTime, else -1.
    pub log_append_time_ms: i64,
    /// The partition's first offset, or -1 (version 5 on).
    pub log_start_offset: i64,
    /// The records that were refused (version 8 on).
    pub record_errors: &'a [RecordError<'a>],
    /// Why, in words (version 8 on).
    pub error_message: Option<&'a str>,
    /// Where the leader is now (version 10 on).
    pub current_leader: Option<CurrentLeader>,
}

impl<'a> ProducePartitionResponse<'a> {
    /// A partition that failed; offsets and times are -1.
    pub fn error(index: i32, error_code: i16, error_message: Option<&'a str>) -> Self {
        ProducePartitionResponse {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: &[],
            error_message,
            current_leader: None,
        }
    }
}

/// One record that was refused.
#[derive(Debug, Clone, Copy)]
pub struct RecordError<'a> {
    /// Its position in the batch.
    pub batch_index: i32,
    /// Why.
    pub message: Option<&'a str>,
}

/// Writes a response frame piece by piece: each topic, then each of its partitions, in the
/// numbers announced.
#[derive(Debug)]
pub struct ProduceResponseWriter<'a> {
    out: &'a mut Vec<u8>,
    start: FrameStart,
    version: i16,
    in_topic: bool,
}

impl<'a> ProduceResponseWriter<'a> {
    /// Appends a frame to `out`, header included.
    pub fn new(
        out: &'a mut Vec<u8>,
        version: i16,
        correlation_id: i32,
        topics: usize,
    ) -> Result<Self, EncodeError> {
        let start = begin_response(ApiKey::Produce, version, correlation_id, out);
        Writer::new(out).length(flexible(version), "responses", Some(topics))?;
        Ok(ProduceResponseWriter {
            out,
            start,
            version,
            in_topic: false,
        })
    }

    /// Starts a topic.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) -> Result<(), EncodeError> {
        self.end_topic();
        let (version, flexible) = (self.version, flexible(self.version));
        let mut writer = Writer::new(self.out);
        write_topic(&mut writer, version, by_id(version), flexible, topic)?;
        writer.length(flexible, "partition_responses", Some(partitions))
    }

    /// Where in the buffer the next partition begins: its index, then its error code.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// One partition of the topic started last.
    pub fn partition(&mut self, one: &ProducePartitionResponse<'_>) -> Result<(), EncodeError> {
        let (version, flexible) = (self.version, flexible(self.version));
        let mut writer = Writer::new(self.out);
        writer.i32(one.index);
        writer.i16(one.error_code);
        writer.i64(one.base_offset);
        writer.i64(one.log_append_time_ms);
        if version >= 5 {
            writer.i64(one.log_start_offset);
        }
        if version >= 8 {
            writer.length(flexible, "record_errors", Some(one.record_errors.len()))?;
            for error in one.record_errors {
                writer.i32(error.batch_index);
                writer.string(flexible, "batch_index_error_message", error.message)?;
                writer.no_tags(flexible);
            }
            writer.string(flexible, "error_message", one.error_message)?;
        }
        match one.current_leader {
            Some(leader) if version >= 10 => {
                writer.uvarint(1);
                writer.tagged(0, |content| {
                    leader.write(content);
                    Ok(())
                })
            }
            _ => {
                writer.no_tags(flexible);
                Ok(())
            }
        }
    }

    /// Ends the frame and returns its size, length prefix included.
    pub fn finish(
        mut self,
        throttle_time_ms: i32,
        endpoints: &[NodeEndpoint<'_>],
    ) -> Result<usize, EncodeError> {
        self.end_topic();
        let mut writer = Writer::new(self.out);
        writer.i32(throttle_time_ms);
        if self.version >= 10 {
            write_endpoints(&mut writer, endpoints)?;
        } else {
            writer.no_tags(flexible(self.version));
        }
        end_frame(self.start, 0, self.out)
    }

    fn end_topic(&mut self) {
        if std::mem::replace(&mut self.in_topic, true) {
            Writer::new(self.out).no_tags(flexible(self.version));
        }
    }
}
