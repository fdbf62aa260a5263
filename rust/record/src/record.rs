//! One record after another out of a batch's records section.

use std::borrow::Cow;

use crate::varint::Reader;
use crate::{codec, BatchHeader, RecordError, HEADER_LEN};

/// A batch whose records can be walked: its header, and its records section, decompressed.
#[derive(Debug, Clone)]
pub struct OpenBatch<'a> {
    header: BatchHeader,
    body: Cow<'a, [u8]>,
}

impl<'a> OpenBatch<'a> {
    /// Opens the whole batch `batch`, decompressing to `max_uncompressed` bytes at most. The
    /// checksum is not checked, see [`crate::verify_crc`].
    pub fn new(batch: &'a [u8], max_uncompressed: usize) -> Result<OpenBatch<'a>, RecordError> {
        let header = BatchHeader::parse(batch)?;
        if batch.len() != header.size() {
            return Err(RecordError::SizeMismatch {
                declared: header.size(),
                actual: batch.len(),
            });
        }
        let stored = batch.get(HEADER_LEN..).unwrap_or_default();
        let body = match header.codec()? {
            codec::Codec::None => Cow::Borrowed(stored),
            compressed => {
                let mut body = Vec::new();
                codec::decompress(compressed, stored, max_uncompressed, &mut body)?;
                Cow::Owned(body)
            }
        };
        Ok(OpenBatch { header, body })
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the records section, uncompressed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The records, in order.
    pub fn records(&self) -> Records<'_> {
        Records::new(self.header, &self.body)
    }
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset less the batch's base offset; not every number need occur.
    pub offset_delta: i32,
    /// Absolute offset.
    pub offset: i64,
    /// In ms: the sender's, or the broker's where the batch says log append time.
    pub timestamp: i64,
    /// `None` is null, which is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// `None` is null, which is not the same as empty.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    headers_count: usize,
}

impl<'a> Record<'a> {
    /// Header keys and values in the order they were written, duplicates included.
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            reader: Reader::new(self.headers),
            left: self.headers_count,
        }
    }
}

/// Iterates a record's headers.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The record was read to its end before it was given out, so neither can fail.
        Some((
            self.reader.bytes().ok()?,
            self.reader.nullable_bytes().ok()?,
        ))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// Iterates the records of an uncompressed records section. After the first error it ends; bytes
/// that no record accounts for are an error too.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    reader: Reader<'a>,
    left: i32,
    ended: bool,
}

impl<'a> Records<'a> {
    /// Walks `body`, the uncompressed records section of the batch with this header.
    pub fn new(header: BatchHeader, body: &'a [u8]) -> Records<'a> {
        let left = header.records_count.max(0);
        Records {
            header,
            reader: Reader::new(body),
            left,
            ended: false,
        }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let position = self.reader.position();
        let fields = self.reader.bytes()?;
        self.fields(Reader::new(fields))
            .map_err(|error| match error {
                // What a field claims, said from where the record begins.
                RecordError::Length {
                    length, remaining, ..
                } => RecordError::Length {
                    length,
                    position,
                    remaining,
                },
                RecordError::Varint(_) => RecordError::Varint(position),
                RecordError::RecordEnd { .. } => RecordError::RecordEnd { position },
                other => other,
            })
    }

    fn fields(&self, mut fields: Reader<'a>) -> Result<Record<'a>, RecordError> {
        fields.skip_byte()?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let key = fields.nullable_bytes()?;
        let value = fields.nullable_bytes()?;
        let count = fields.varint()?;
        // A header takes 2 bytes at least.
        let headers_count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= fields.remaining() / 2)
            .ok_or_else(|| fields.bad_length(i64::from(count), 0))?;
        let headers = fields.rest();
        for _ in 0..headers_count {
            fields.bytes()?;
            fields.nullable_bytes()?;
        }
        if fields.remaining() != 0 {
            return Err(RecordError::RecordEnd { position: 0 });
        }
        let timestamp = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.wrapping_add(timestamp_delta)
        };
        let offset = self
            .header
            .base_offset
            .saturating_add(i64::from(offset_delta));
        Ok(Record {
            offset_delta,
            offset,
            timestamp,
            key,
            value,
            headers,
            headers_count,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.left == 0 {
            self.ended = true;
            let trailing = self.reader.remaining();
            return (trailing != 0).then_some(Err(RecordError::Trailing(trailing)));
        }
        self.left -= 1;
        let record = self.read();
        self.ended = record.is_err();
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}
