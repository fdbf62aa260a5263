//! The Fetch response as bytes with gaps; see [`crate::fetch`].

use crate::api_key::ApiKey;
use crate::error::EncodeError;
use crate::header::{begin_response, end_frame, FrameStart};
use crate::topic::{write_endpoints, write_topic, CurrentLeader, NodeEndpoint, TopicRef};
use crate::writer::Writer;

const fn flexible(version: i16) -> bool {
    version >= 12
}

/// A response frame without its records. It is used again for the next response.
#[derive(Debug, Default)]
pub struct FetchFrame {
    bytes: Vec<u8>,
    gaps: Vec<Gap>,
}

/// Where records belong: before `bytes[at]`, `len` of them.
#[derive(Debug, Clone, Copy)]
struct Gap {
    at: usize,
    len: usize,
}

/// A piece of a response, in the order of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The records of the `index`-th partition that has any, `len` bytes.
    Records {
        /// Counts the partitions that announced records, from 0.
        index: usize,
        /// How many bytes they take.
        len: usize,
    },
}

impl FetchFrame {
    /// The pieces to send.
    pub fn fragments(&self) -> impl Iterator<Item = Fragment<'_>> {
        let ends = self.gaps.iter().map(|gap| gap.at).chain([self.bytes.len()]);
        let starts = [0].into_iter().chain(self.gaps.iter().map(|gap| gap.at));
        let records = self
            .gaps
            .iter()
            .enumerate()
            .map(|(index, gap)| Some((index, gap.len)));
        starts
            .zip(ends)
            .zip(records.chain([None]))
            .flat_map(|((start, end), records)| {
                let bytes = Fragment::Bytes(self.bytes.get(start..end).unwrap_or_default());
                let records = records.map(|(index, len)| Fragment::Records { index, len });
                [Some(bytes), records].into_iter().flatten()
            })
    }

    /// The bytes between the records, all together.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of all records together.
    pub fn records_len(&self) -> usize {
        self.gaps.iter().map(|gap| gap.len).sum()
    }
}

/// One partition of a response.
#[derive(Debug, Clone, Copy)]
pub struct FetchPartitionResponse<'a> {
    /// The partition's index in its topic.
    pub index: i32,
    /// 0, or what went wrong.
    pub error_code: i16,
    /// Up to where consumers may read, or -1.
    pub high_watermark: i64,
    /// Up to where every transaction is decided, or -1.
    pub last_stable_offset: i64,
    /// The first offset, or -1 (version 5 on).
    pub log_start_offset: i64,
    /// Where the client's log and this one part (version 12 on).
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Where the leader is now (version 12 on).
    pub current_leader: Option<CurrentLeader>,
    /// The snapshot a follower must start from (version 12 on).
    pub snapshot_id: Option<EpochEndOffset>,
    /// Transactions to skip: null if all records are wanted anyway.
    pub aborted_transactions: Option<&'a [AbortedTransaction]>,
    /// A closer replica to read from, or -1 (version 11 on).
    pub preferred_read_replica: i32,
}

impl FetchPartitionResponse<'_> {
    /// A partition that failed; offsets are -1.
    pub fn error(index: i32, error_code: i16) -> Self {
        FetchPartitionResponse {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
        }
    }
}

/// A leader epoch and the offset where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first record.
    pub first_offset: i64,
}

/// What stands at the head of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchResponseHead {
    /// How long the client is asked to pause.
    pub throttle_time_ms: i32,
    /// An error of the whole request (version 7 on).
    pub error_code: i16,
    /// The fetch session, or 0 (version 7 on).
    pub session_id: i32,
}

/// Writes a response piece by piece: each topic, then each of its partitions, in the numbers
/// announced.
#[derive(Debug)]
pub struct FetchResponseWriter<'a> {
    frame: &'a mut FetchFrame,
    start: FrameStart,
    version: i16,
    in_topic: bool,
}

impl<'a> FetchResponseWriter<'a> {
    /// Starts `frame` anew, with length, header and head.
    pub fn new(
        frame: &'a mut FetchFrame,
        version: i16,
        correlation_id: i32,
        head: FetchResponseHead,
        topics: usize,
    ) -> Result<Self, EncodeError> {
        frame.bytes.clear();
        frame.gaps.clear();
        let start = begin_response(ApiKey::Fetch, version, correlation_id, &mut frame.bytes);
        let mut writer = Writer::new(&mut frame.bytes);
        writer.i32(head.throttle_time_ms);
        if version >= 7 {
            writer.i16(head.error_code);
            writer.i32(head.session_id);
        }
        writer.length(flexible(version), "responses", Some(topics))?;
        Ok(FetchResponseWriter {
            frame,
            start,
            version,
            in_topic: false,
        })
    }

    /// Starts a topic.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) -> Result<(), EncodeError> {
        self.end_topic();
        let (version, flexible) = (self.version, flexible(self.version));
        let mut writer = Writer::new(&mut self.frame.bytes);
        write_topic(&mut writer, version, version >= 13, flexible, topic)?;
        writer.length(flexible, "partitions", Some(partitions))
    }

    /// One partition of the topic started last, with `records` bytes of records to follow in its
    /// place (`None`: null; clients treat it as empty).
    pub fn partition(
        &mut self,
        one: &FetchPartitionResponse<'_>,
        records: Option<usize>,
    ) -> Result<(), EncodeError> {
        let (version, flexible) = (self.version, flexible(self.version));
        let mut writer = Writer::new(&mut self.frame.bytes);
        writer.i32(one.index);
        writer.i16(one.error_code);
        writer.i64(one.high_watermark);
        writer.i64(one.last_stable_offset);
        if version >= 5 {
            writer.i64(one.log_start_offset);
        }
        let aborted = one.aborted_transactions;
        writer.length(flexible, "aborted_transactions", aborted.map(<[_]>::len))?;
        for transaction in aborted.unwrap_or_default() {
            writer.i64(transaction.producer_id);
            writer.i64(transaction.first_offset);
            writer.no_tags(flexible);
        }
        if version >= 11 {
            writer.i32(one.preferred_read_replica);
        }
        writer.length(flexible, "records", records)?;
        if let Some(len) = records.filter(|&len| len > 0) {
            self.frame.gaps.push(Gap {
                at: writer.position(),
                len,
            });
        }
        if flexible {
            partition_tags(&mut Writer::new(&mut self.frame.bytes), one)?;
        }
        Ok(())
    }

    /// Ends the frame and returns its size, length prefix and records included.
    pub fn finish(mut self, endpoints: &[NodeEndpoint<'_>]) -> Result<usize, EncodeError> {
        self.end_topic();
        let mut writer = Writer::new(&mut self.frame.bytes);
        if self.version >= 16 {
            write_endpoints(&mut writer, endpoints)?;
        } else {
            writer.no_tags(flexible(self.version));
        }
        let records = self.frame.records_len();
        end_frame(self.start, records, &mut self.frame.bytes)
    }

    fn end_topic(&mut self) {
        if std::mem::replace(&mut self.in_topic, true) {
            Writer::new(&mut self.frame.bytes).no_tags(flexible(self.version));
        }
    }
}

fn partition_tags(
    writer: &mut Writer<'_>,
    one: &FetchPartitionResponse<'_>,
) -> Result<(), EncodeError> {
    let count = u32::from(one.diverging_epoch.is_some())
        + u32::from(one.current_leader.is_some())
        + u32::from(one.snapshot_id.is_some());
    writer.uvarint(count);
    if let Some(diverging) = one.diverging_epoch {
        writer.tagged(0, |content| {
            content.i32(diverging.epoch);
            content.i64(diverging.end_offset);
            content.no_tags(true);
            Ok(())
        })?;
    }
    if let Some(leader) = one.current_leader {
        writer.tagged(1, |content| {
            leader.write(content);
            Ok(())
        })?;
    }
    if let Some(snapshot) = one.snapshot_id {
        // The other way round than a diverging epoch.
        writer.tagged(2, |content| {
            content.i64(snapshot.end_offset);
            content.i32(snapshot.epoch);
            content.no_tags(true);
            Ok(())
        })?;
    }
    Ok(())
}
