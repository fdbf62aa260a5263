//! Produce from the client's side: a request written around batches that stay where they are, and
//! its response, walked.

use crate::error::{DecodeError, EncodeError};
use crate::produce::VERSIONS;
use crate::reader::Reader;
use crate::topic::{read_endpoints, write_topic, CurrentLeader, NodeEndpoint, TopicRef};
use crate::writer::Writer;

const fn flexible(version: i16) -> bool {
    version >= 9
}

const fn by_id(version: i16) -> bool {
    version >= 13
}

/// Writes a request's body but for the records: each topic, then each of its partitions, in the
/// numbers announced. What is written between two partitions' records lies together in `out`;
/// [`ProduceRequestWriter::partition`] says where the records go in.
#[derive(Debug)]
pub struct ProduceRequestWriter<'a> {
    out: &'a mut Vec<u8>,
    version: i16,
    in_topic: bool,
    in_partition: bool,
}

impl<'a> ProduceRequestWriter<'a> {
    /// Starts a body. `acks` is -1, 0 or 1; `timeout_ms` is how long the broker may wait for its
    /// replicas.
    pub fn new(
        out: &'a mut Vec<u8>,
        version: i16,
        acks: i16,
        timeout_ms: i32,
        topics: usize,
    ) -> Result<Self, EncodeError> {
        if !VERSIONS.contains(&version) {
            return Err(EncodeError::Version {
                message: "ProduceRequest",
                version,
                min: *VERSIONS.start(),
                max: *VERSIONS.end(),
            });
        }
        let mut writer = Writer::new(out);
        writer.string(flexible(version), "transactional_id", None)?;
        writer.i16(acks);
        writer.i32(timeout_ms);
        writer.length(flexible(version), "topic_data", Some(topics))?;
        Ok(ProduceRequestWriter {
            out,
            version,
            in_topic: false,
            in_partition: false,
        })
    }

    /// Starts a topic: by id from version 13 on, by name before.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) -> Result<(), EncodeError> {
        self.end_topic();
        self.in_topic = true;
        let (version, flexible) = (self.version, flexible(self.version));
        let mut writer = Writer::new(self.out);
        write_topic(&mut writer, version, by_id(version), flexible, topic)?;
        writer.length(flexible, "partition_data", Some(partitions))
    }

    /// One partition of the topic started last, with a batch of `header` and `records` bytes.
    /// Returns where in `out` the records belong.
    pub fn partition(
        &mut self,
        index: i32,
        header: &[u8],
        records: usize,
    ) -> Result<usize, EncodeError> {
        self.end_partition();
        self.in_partition = true;
        let size = header.len().saturating_add(records);
        let mut writer = Writer::new(self.out);
        writer.i32(index);
        writer.length(flexible(self.version), "records", Some(size))?;
        writer.raw(header);
        Ok(self.out.len())
    }

    /// Ends the body.
    pub fn finish(mut self) {
        self.end_topic();
        Writer::new(self.out).no_tags(flexible(self.version));
    }

    fn end_partition(&mut self) {
        if std::mem::take(&mut self.in_partition) {
            Writer::new(self.out).no_tags(flexible(self.version));
        }
    }

    fn end_topic(&mut self) {
        self.end_partition();
        if std::mem::take(&mut self.in_topic) {
            Writer::new(self.out).no_tags(flexible(self.version));
        }
    }
}

/// What became of one partition's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionAnswer<'a> {
    /// The topic, by name or by id as in the request.
    pub topic: TopicRef<'a>,
    /// The partition.
    pub index: i32,
    /// 0, or what went wrong.
    pub error_code: i16,
    /// The offset of the first record, or -1.
    pub base_offset: i64,
    /// The time the broker gave the records, or -1.
    pub log_append_time_ms: i64,
    /// The partition's first offset, or -1.
    pub log_start_offset: i64,
    /// Records that the broker does not take, by their place in the batch.
    pub record_errors: Vec<(i32, Option<&'a str>)>,
    /// In words, why.
    pub error_message: Option<&'a str>,
    /// Who leads now, if it is not who was asked.
    pub current_leader: Option<CurrentLeader>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceAnswer<'a> {
    /// One for each partition of the request, in any order.
    pub partitions: Vec<PartitionAnswer<'a>>,
    /// For so long the broker does not want to hear from this client.
    pub throttle_time_ms: i32,
    /// Where leaders that were named are reached.
    pub endpoints: Vec<NodeEndpoint<'a>>,
}

impl<'a> ProduceAnswer<'a> {
    /// Reads a body; bytes after it are ignored.
    pub fn parse(version: i16, body: &'a [u8]) -> Result<Self, DecodeError> {
        if !VERSIONS.contains(&version) {
            return Err(DecodeError::Version {
                message: "ProduceResponse",
                version,
                min: *VERSIONS.start(),
                max: *VERSIONS.end(),
            });
        }
        let flexible = flexible(version);
        let mut reader = Reader::new(body);
        let mut partitions = Vec::new();
        for _ in 0..reader.field("responses").array_len(flexible, 3)? {
            let topic = match by_id(version) {
                true => TopicRef::Id(reader.field("topic_id").uuid()?),
                false => TopicRef::Name(reader.field("topic").string(flexible)?),
            };
            let count = reader
                .field("partition_responses")
                .array_len(flexible, 22)?;
            partitions.reserve(count);
            for _ in 0..count {
                partitions.push(partition(&mut reader, version, topic)?);
            }
            reader.skip_tags(flexible)?;
        }
        let throttle_time_ms = reader.field("throttle_time_ms").i32()?;
        let mut endpoints = Vec::new();
        reader.tags(flexible, |tag, content| {
            if tag == 0 {
                endpoints = read_endpoints(content)?;
            }
            Ok(())
        })?;
        Ok(ProduceAnswer {
            partitions,
            throttle_time_ms,
            endpoints,
        })
    }
}

fn partition<'a>(
    reader: &mut Reader<'a>,
    version: i16,
    topic: TopicRef<'a>,
) -> Result<PartitionAnswer<'a>, DecodeError> {
    let flexible = flexible(version);
    let mut answer = PartitionAnswer {
        topic,
        index: reader.field("partition").i32()?,
        error_code: reader.field("error_code").i16()?,
        base_offset: reader.field("base_offset").i64()?,
        log_append_time_ms: reader.field("log_append_time_ms").i64()?,
        log_start_offset: -1,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    if version >= 5 {
        answer.log_start_offset = reader.field("log_start_offset").i64()?;
    }
    if version >= 8 {
        let count = reader.field("record_errors").array_len(flexible, 5)?;
        for _ in 0..count {
            let index = reader.field("batch_index").i32()?;
            let text = reader
                .field("batch_index_error_message")
                .nullable_string(flexible)?;
            reader.skip_tags(flexible)?;
            answer.record_errors.push((index, text));
        }
        answer.error_message = reader.field("error_message").nullable_string(flexible)?;
    }
    reader.tags(flexible, |tag, content| {
        if tag == 0 {
            answer.current_leader = Some(CurrentLeader::read(content)?);
        }
        Ok(())
    })?;
    Ok(answer)
}
