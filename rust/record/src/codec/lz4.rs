//! LZ4 frames. Written with independent blocks (Java's reader knows no others), no checksum of
//! the content; read with either kind of block, with and without checksums, one or several.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{read_capped, Codec};
use crate::RecordError;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder
        .write_all(input)
        .map_err(|error| Codec::Lz4.damaged(error))?;
    encoder
        .finish()
        .map_err(|error| Codec::Lz4.damaged(error))?;
    Ok(())
}

pub(super) fn decompress(
    input: &[u8],
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let end = out.len().saturating_add(max_out);
    let mut source = Source {
        rest: input,
        ran_dry: false,
    };
    loop {
        // A decoder for each frame: its buffers are sized by the first frame it sees.
        let mut decoder = FrameDecoder::new(&mut source);
        read_capped(Codec::Lz4, &mut decoder, end - out.len(), out)
            .map_err(|error| with_limit(error, max_out))?;
        if source.ran_dry {
            return Err(Codec::Lz4.damaged("frame cut off"));
        }
        if source.rest.is_empty() {
            return Ok(());
        }
    }
}

fn with_limit(error: RecordError, limit: usize) -> RecordError {
    match error {
        RecordError::Bomb { codec, .. } => RecordError::Bomb { codec, limit },
        other => other,
    }
}

/// The input, and whether the decoder asked for more than there was: it takes a missing end mark
/// for the end of the frame, which would hide lost bytes.
struct Source<'a> {
    rest: &'a [u8],
    ran_dry: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(buffer)?;
        self.ran_dry |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}
