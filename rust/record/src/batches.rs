//! One whole batch after another out of a stretch of log.

use thiserror::Error;

use crate::{peek_size, verify_crc, BatchHeader, OpenBatch, RecordError, LENGTH_OVERHEAD};

/// A whole batch and where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The batch's header.
    pub header: BatchHeader,
    /// All bytes of the batch.
    pub bytes: &'a [u8],
    /// Where the batch begins in the bytes that are walked.
    pub position: usize,
}

impl<'a> Batch<'a> {
    /// Whether the checksum matches.
    pub fn verify_crc(&self) -> bool {
        verify_crc(self.bytes)
    }

    /// Opens the batch, see [`OpenBatch::new`].
    pub fn open(&self, max_uncompressed: usize) -> Result<OpenBatch<'a>, RecordError> {
        OpenBatch::new(self.bytes, max_uncompressed)
    }
}

/// Bytes that are no batch, and where they are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at byte {position}: {error}")]
pub struct BatchError {
    /// Where the bad batch begins.
    pub position: usize,
    /// What is wrong with it.
    pub error: RecordError,
}

/// Iterates the whole batches of `bytes`. Ends before a batch that is cut off; an impossible
/// header is an error and the end. Checksums are not checked.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Walks `bytes`, which begin with a batch.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches {
            bytes,
            position: 0,
            failed: false,
        }
    }

    /// Where the last whole batch ends. Less than the length of the bytes if a tail is cut off.
    pub fn position(&self) -> usize {
        self.position
    }

    fn read(&mut self) -> Result<Option<Batch<'a>>, RecordError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some(length) = rest.get(8..LENGTH_OVERHEAD).and_then(|b| b.first_chunk()) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        let size = peek_size(rest).ok_or(RecordError::BatchLength(length))?;
        let Some(bytes) = rest.get(..size) else {
            return Ok(None);
        };
        let header = BatchHeader::parse(bytes)?;
        let position = self.position;
        self.position += size;
        Ok(Some(Batch {
            header,
            bytes,
            position,
        }))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let position = self.position;
        let batch = self.read().map_err(|error| BatchError { position, error });
        self.failed = batch.is_err();
        batch.transpose()
    }
}
