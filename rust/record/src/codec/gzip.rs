//! gzip members, one or several in a row.

use std::io::Write;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::Compression;

use super::{read_capped, Codec};
use crate::RecordError;

pub(super) fn compress(
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let level = level.map_or_else(Compression::default, |level| {
        Compression::new(level.clamp(1, 9).unsigned_abs())
    });
    let mut encoder = GzEncoder::new(out, level);
    encoder
        .write_all(input)
        .and_then(|()| encoder.finish().map(|_| ()))
        .map_err(|error| Codec::Gzip.damaged(error))
}

pub(super) fn decompress(
    input: &[u8],
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    read_capped(Codec::Gzip, &mut MultiGzDecoder::new(input), max_out, out)
}
