//! The four compressions, each with a cap on what it may produce.
//!
//! Decompression never reserves what a length field claims, only what the compressed bytes could
//! really become, and stops at the caller's limit.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;
use std::io::Read;

use crate::RecordError;

/// How a batch's records are compressed: attribute bits 0-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// RFC 1952, several members in a row allowed.
    Gzip = 1,
    /// Snappy blocks in the xerial stream format; bare blocks are read too.
    Snappy = 2,
    /// LZ4 frame format, independent blocks; linked blocks are read too.
    Lz4 = 3,
    /// Zstandard frames with windows up to 8 MiB.
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of its number.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    fn damaged(self, reason: impl fmt::Display) -> RecordError {
        RecordError::Compressed {
            codec: self,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<u8> for Codec {
    type Error = RecordError;

    fn try_from(number: u8) -> Result<Codec, RecordError> {
        Codec::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(RecordError::UnknownCodec(number))
    }
}

/// Appends `input`, compressed, to `out`. `level` is the codec's own scale (gzip 1-9, zstd -7 to
/// 22); snappy and lz4 have none.
pub fn compress(
    codec: Codec,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    match codec {
        Codec::None => out.extend_from_slice(input),
        Codec::Gzip => gzip::compress(level, input, out)?,
        Codec::Snappy => snappy::compress(input, out)?,
        Codec::Lz4 => lz4::compress(input, out)?,
        Codec::Zstd => zstd::compress(level, input, out)?,
    }
    Ok(())
}

/// Appends `input`, decompressed, to `out`: `max_out` bytes at most, else [`RecordError::Bomb`].
/// After an error `out` holds an unspecified part of the result.
pub fn decompress(
    codec: Codec,
    input: &[u8],
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    match codec {
        Codec::None if input.len() > max_out => {
            return Err(RecordError::Bomb {
                codec,
                limit: max_out,
            })
        }
        Codec::None => out.extend_from_slice(input),
        Codec::Gzip => gzip::decompress(input, max_out, out)?,
        Codec::Snappy => snappy::decompress(input, max_out, out)?,
        Codec::Lz4 => lz4::decompress(input, max_out, out)?,
        Codec::Zstd => zstd::decompress(input, max_out, out)?,
    }
    Ok(())
}

/// Reads `from` to its end into `out`, `max_out` bytes at most.
fn read_capped(
    codec: Codec,
    from: &mut impl Read,
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let limit = (max_out as u64).saturating_add(1);
    let read = from
        .take(limit)
        .read_to_end(out)
        .map_err(|error| codec.damaged(error))?;
    if read > max_out {
        return Err(RecordError::Bomb {
            codec,
            limit: max_out,
        });
    }
    Ok(())
}
