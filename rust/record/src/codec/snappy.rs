//! Snappy, in the framing of the Java library that Kafka uses ("xerial") or as one bare block.
//!
//! The framing: 8 bytes of magic, two big-endian 32-bit versions, then blocks, each a big-endian
//! 32-bit length and that many bytes of a snappy block.

use snap::raw::{decompress_len, max_compress_len, Decoder, Encoder};

use super::Codec;
use crate::RecordError;

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Magic, version 1, compatible with version 1.
const STREAM_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// The Java library's block size, in bytes.
const BLOCK: usize = 32 * 1024;
/// A two-byte copy element yields 11 bytes, a three-byte one 64: no block grows more than this.
const MAX_RATIO: usize = 32;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.extend_from_slice(STREAM_HEADER);
    let mut encoder = Encoder::new();
    for block in input.chunks(BLOCK) {
        let start = out.len();
        out.resize(start + 4 + max_compress_len(block.len()), 0);
        let (_, room) = out.split_at_mut(start);
        let (length, body) = room.split_at_mut(4);
        let written = encoder
            .compress(block, body)
            .map_err(|e| Codec::Snappy.damaged(e))?;
        length.copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(start + 4 + written);
    }
    Ok(())
}

pub(super) fn decompress(
    input: &[u8],
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let end = out.len().saturating_add(max_out);
    if !input.starts_with(MAGIC) {
        return block(input, max_out, max_out, out);
    }
    let mut rest = input
        .get(STREAM_HEADER.len()..)
        .ok_or_else(|| damaged("header cut off"))?;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let body = tail.get(..length).ok_or_else(|| damaged("block cut off"))?;
        block(body, end - out.len(), max_out, out)?;
        rest = tail.get(length..).unwrap_or_default();
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(damaged("block length cut off"))
    }
}

/// One bare block: `room` bytes are left of the caller's limit `max_out`.
fn block(input: &[u8], room: usize, max_out: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let length = decompress_len(input).map_err(|error| Codec::Snappy.damaged(error))?;
    if length > room {
        return Err(RecordError::Bomb {
            codec: Codec::Snappy,
            limit: max_out,
        });
    }
    if length > input.len().saturating_mul(MAX_RATIO) {
        return Err(damaged("a block declares more than it can hold"));
    }
    let start = out.len();
    out.resize(start + length, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    Decoder::new()
        .decompress(input, target)
        .map_err(|error| Codec::Snappy.damaged(error))?;
    Ok(())
}

fn damaged(reason: &str) -> RecordError {
    Codec::Snappy.damaged(reason)
}
