//! Writes batches: records appended one by one, compressed and sealed at the end.

use crate::header::{seal, LOG_APPEND_TIME, TRANSACTIONAL};
use crate::put::{put_record, Content, HeaderRef};
use crate::{codec, BatchHeader, Codec, RecordError, HEADER_LEN, LENGTH_OVERHEAD};

/// Builds one batch.
///
/// ```
/// use mqlog_record::{BatchBuilder, Codec};
///
/// let mut builder = BatchBuilder::new(Codec::Zstd);
/// builder.append(Some(b"key"), Some(b"value"), 1_700_000_000_000, &[])?;
/// let batch = builder.build()?;
/// assert!(mqlog_record::verify_crc(&batch));
/// # Ok::<(), mqlog_record::RecordError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    codec: Codec,
    level: Option<i32>,
    header: BatchHeader,
    /// Room for the header, then the records, uncompressed.
    buffer: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch at offset 0, without a producer.
    pub fn new(codec: Codec) -> BatchBuilder {
        let header = BatchHeader {
            attributes: codec as i16,
            ..BatchHeader::EMPTY
        };
        BatchBuilder {
            codec,
            level: None,
            header,
            buffer: vec![0; HEADER_LEN],
        }
    }

    /// Compresses at this level of the codec's own scale.
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Offset of the first record.
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Epoch of the leader.
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// The idempotent producer and the sequence number of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.header.attributes |= TRANSACTIONAL;
        self
    }

    pub(crate) fn attributes(mut self, bits: i16) -> Self {
        self.header.attributes |= bits;
        self
    }

    /// Appends a record at the next offset, `timestamp` in ms.
    pub fn append(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[HeaderRef<'_>],
    ) -> Result<(), RecordError> {
        let delta = self.header.last_offset_delta.saturating_add(1);
        self.append_at(delta, key, value, timestamp, headers)
    }

    /// Appends a record `delta` offsets after the base offset: a batch with gaps, as compaction
    /// leaves them. Deltas must rise.
    pub fn append_at(
        &mut self,
        delta: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &[HeaderRef<'_>],
    ) -> Result<(), RecordError> {
        if delta <= self.header.last_offset_delta {
            return Err(RecordError::OffsetDelta {
                index: self.header.records_count,
                delta,
            });
        }
        if self.header.records_count == 0 {
            self.header.base_timestamp = timestamp;
            self.header.max_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let content = Content {
            key,
            value,
            headers,
        };
        let size = self.buffer.len().saturating_add(content.size_bound());
        if size - LENGTH_OVERHEAD > i32::MAX as usize {
            return Err(RecordError::Unwritable(size));
        }
        let start = self.buffer.len();
        self.buffer.resize(size, 0);
        let room = self.buffer.get_mut(start..).unwrap_or_default();
        let written = put_record(room, delta, timestamp_delta, &content).unwrap_or(0);
        self.buffer.truncate(start + written);
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self.header.last_offset_delta = delta;
        self.header.records_count += 1;
        Ok(())
    }

    /// Records appended so far.
    pub fn len(&self) -> usize {
        usize::try_from(self.header.records_count).unwrap_or(0)
    }

    /// Whether no record was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the batch if it were not compressed: the most it can become, but for the few
    /// bytes that a codec adds to incompressible input.
    pub fn estimated_size(&self) -> usize {
        self.buffer.len()
    }

    /// The finished batch. Without records it is an empty batch, as compaction leaves them, of
    /// the single offset `base_offset`.
    pub fn build(mut self) -> Result<Vec<u8>, RecordError> {
        let mut batch = match self.codec {
            Codec::None => std::mem::take(&mut self.buffer),
            _ if self.is_empty() => {
                self.header.attributes &= !crate::header::CODEC_MASK;
                std::mem::take(&mut self.buffer)
            }
            codec => self.compressed(codec)?,
        };
        self.header.last_offset_delta = self.header.last_offset_delta.max(0);
        self.header.batch_length = i32::try_from(batch.len() - LENGTH_OVERHEAD)
            .map_err(|_| RecordError::Unwritable(batch.len()))?;
        if let Some(room) = batch.first_chunk_mut::<HEADER_LEN>() {
            *room = self.header.to_bytes();
        }
        seal(&mut batch);
        Ok(batch)
    }

    /// As [`BatchBuilder::build`], stamped with the broker's time, in ms.
    pub fn build_log_append_time(mut self, now_ms: i64) -> Result<Vec<u8>, RecordError> {
        self.header.attributes |= LOG_APPEND_TIME;
        self.header.max_timestamp = now_ms;
        self.build()
    }

    fn compressed(&self, codec: Codec) -> Result<Vec<u8>, RecordError> {
        let records = self.buffer.get(HEADER_LEN..).unwrap_or_default();
        let mut batch = Vec::with_capacity(HEADER_LEN + records.len() / 2 + 64);
        batch.resize(HEADER_LEN, 0);
        codec::compress(codec, self.level, records, &mut batch)?;
        Ok(batch)
    }
}
