//! Zstandard, with one context per thread and direction: making one costs more than a small batch.

use std::cell::RefCell;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end;
use zstd::zstd_safe::{
    compress_bound, get_error_name, get_frame_content_size, CCtx, CParameter, DCtx, DParameter,
    InBuffer, OutBuffer, ResetDirective,
};

use super::Codec;
use crate::RecordError;

const DEFAULT_LEVEL: i32 = 3;
/// The largest window a frame may ask for: 2^23 bytes.
const WINDOW_LOG_MAX: u32 = 23;
/// The format's largest block, and the least that one takes in the frame.
const BLOCK_MAX: usize = 128 * 1024;
const BLOCK_LEAST: usize = 3;

thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

fn failed(code: usize) -> RecordError {
    Codec::Zstd.damaged(get_error_name(code))
}

pub(super) fn compress(
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let level = level.unwrap_or(DEFAULT_LEVEL);
    COMPRESSOR.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => {
                slot.insert(CCtx::try_create().ok_or_else(|| Codec::Zstd.damaged("no memory"))?)
            }
        };
        context
            .reset(ResetDirective::SessionAndParameters)
            .map_err(failed)?;
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .map_err(failed)?;
        if level > 18 {
            // The highest levels choose windows that readers, this one too, refuse.
            context
                .set_parameter(CParameter::WindowLog(WINDOW_LOG_MAX))
                .map_err(failed)?;
        }
        let start = out.len();
        out.reserve(compress_bound(input.len()));
        let mut target = OutBuffer::around_pos(out, start);
        let mut source = InBuffer::around(input);
        match context
            .compress_stream2(&mut target, &mut source, ZSTD_e_end)
            .map_err(failed)?
        {
            0 => Ok(()),
            _ => Err(Codec::Zstd.damaged("the bound on compressed bytes did not hold")),
        }
    })
}

pub(super) fn decompress(
    input: &[u8],
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => {
                let mut fresh =
                    DCtx::try_create().ok_or_else(|| Codec::Zstd.damaged("no memory"))?;
                fresh
                    .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
                    .map_err(failed)?;
                slot.insert(fresh)
            }
        };
        context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        stream(context, input, max_out, out)
    })
}

fn stream(
    context: &mut DCtx<'_>,
    input: &[u8],
    max_out: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let start = out.len();
    let bomb = RecordError::Bomb {
        codec: Codec::Zstd,
        limit: max_out,
    };
    out.reserve(first_guess(input).min(max_out));
    let mut source = InBuffer::around(input);
    let mut frame_open = false;
    loop {
        let done = out.len() - start;
        if done > max_out {
            return Err(bomb);
        }
        if source.pos() == input.len() && !frame_open {
            return Ok(());
        }
        if out.len() == out.capacity() {
            // One byte of room beyond the limit tells "full" from "too much".
            out.reserve(done.clamp(4096, BLOCK_MAX * 8).min(max_out - done + 1));
        }
        let (read, written) = (source.pos(), out.len());
        let mut target = OutBuffer::around_pos(out, written);
        let hint = context
            .decompress_stream(&mut target, &mut source)
            .map_err(failed)?;
        frame_open = hint != 0;
        if source.pos() == read && out.len() == written && out.len() < out.capacity() {
            return Err(Codec::Zstd.damaged("frame cut off"));
        }
    }
}

/// What to reserve at first: the size the frame declares if its bytes could really yield that.
fn first_guess(input: &[u8]) -> usize {
    let most = (input.len() / BLOCK_LEAST).saturating_mul(BLOCK_MAX);
    let declared = get_frame_content_size(input).ok().flatten();
    match declared.and_then(|size| usize::try_from(size).ok()) {
        Some(size) if size <= most => size,
        _ => input.len().saturating_mul(4),
    }
}
