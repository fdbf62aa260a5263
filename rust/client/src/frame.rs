//! Frames out of bytes: a length, then as many bytes, in memory that is not the peer's to choose.

use std::io;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;

use crate::recycle::{Buffer, Recycler};
use crate::transport::Source;

/// Small answers, and the beginnings of large ones, arrive here: one read of the socket each.
const STAGING: usize = 16 * 1024;
/// Memory reserved for a frame whose length is all that has arrived of it.
const TRUSTED: usize = 1024 * 1024;

/// The middle of a large frame is waited for in pieces of at least so many bytes: each wake-up
/// costs as much as copying a hundred thousand.
const PIECE: usize = 512 * 1024;

/// Why no more frames can be read.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The peer closed the connection, in the middle of a frame or not.
    Ended {
        /// Whether a frame was cut.
        inside: bool,
    },
    /// The socket failed, or TLS did.
    Io(io::Error),
    /// What stands where a length should be.
    Length {
        /// These four bytes ...
        head: [u8; 4],
        /// ... and the most that was allowed.
        limit: usize,
    },
}

/// Reads frames.
#[derive(Debug)]
pub(crate) struct Frames {
    source: Source,
    recycler: Arc<Recycler>,
    limit: usize,
    staging: Box<[u8]>,
    start: usize,
    end: usize,
    partial: Option<Partial>,
    received: u64,
}

#[derive(Debug)]
struct Partial {
    buffer: Buffer,
    filled: usize,
    whole: usize,
}

impl Frames {
    /// Frames of at most `limit` bytes.
    pub(crate) fn new(source: Source, recycler: Arc<Recycler>, limit: usize) -> Frames {
        Frames {
            source,
            recycler,
            limit,
            staging: vec![0; STAGING].into_boxed_slice(),
            start: 0,
            end: 0,
            partial: None,
            received: 0,
        }
    }

    /// Bytes read so far, lengths included.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The next frame without its length. `expected` is how long it may well be. What has arrived
    /// is kept if this is not polled to the end.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        expected: usize,
    ) -> Poll<Result<Bytes, FrameError>> {
        loop {
            if let Some(frame) = self.advance(expected)? {
                return Poll::Ready(Ok(frame));
            }
            let count = match &mut self.partial {
                Some(partial) if partial.missing() >= STAGING => {
                    self.source.wait_for(partial.missing().min(PIECE));
                    let into = partial.room();
                    let count = ready!(self.source.poll_read(cx, into)).map_err(FrameError::Io)?;
                    partial.filled += count;
                    count
                }
                _ => {
                    self.source.wait_for(1);
                    self.staging.copy_within(self.start..self.end, 0);
                    self.end -= self.start;
                    self.start = 0;
                    let into = self.staging.get_mut(self.end..).unwrap_or_default();
                    let count = ready!(self.source.poll_read(cx, into)).map_err(FrameError::Io)?;
                    self.end += count;
                    count
                }
            };
            self.received += count as u64;
            if count == 0 {
                let inside = self.partial.is_some() || self.start < self.end;
                return Poll::Ready(Err(FrameError::Ended { inside }));
            }
        }
    }

    /// Makes what it can of the bytes at hand; a frame if one is whole.
    fn advance(&mut self, expected: usize) -> Result<Option<Bytes>, FrameError> {
        let staged = self.staging.get(self.start..self.end).unwrap_or_default();
        let Some(partial) = &mut self.partial else {
            let Some((head, rest)) = staged.split_first_chunk::<4>() else {
                return Ok(None);
            };
            let length = self.length(*head)?;
            if let Some(frame) = rest.get(..length) {
                let frame = Bytes::copy_from_slice(frame);
                self.start += 4 + length;
                return Ok(Some(frame));
            }
            self.start += 4;
            let reserved = length.min(expected.max(TRUSTED));
            self.partial = Some(Partial {
                buffer: self.recycler.take(reserved),
                filled: 0,
                whole: length,
            });
            return self.advance(expected);
        };
        let count = partial.take(staged);
        self.start += count;
        if partial.missing() > 0 {
            return Ok(None);
        }
        Ok(self.partial.take().map(|partial| partial.buffer.freeze()))
    }

    fn length(&self, head: [u8; 4]) -> Result<usize, FrameError> {
        usize::try_from(i32::from_be_bytes(head))
            .ok()
            // A correlation id at the least.
            .filter(|length| (4..=self.limit).contains(length))
            .ok_or(FrameError::Length {
                head,
                limit: self.limit,
            })
    }
}

impl Partial {
    fn missing(&self) -> usize {
        self.whole - self.filled
    }

    /// Where the next bytes go; grown to twice as much if what was reserved is full.
    fn room(&mut self) -> &mut [u8] {
        if self.filled == self.buffer.len() && self.filled < self.whole {
            let empty = Buffer::default();
            let longer = self.whole.min(self.filled.saturating_mul(2));
            self.buffer = std::mem::replace(&mut self.buffer, empty).grown(longer);
        }
        self.buffer
            .as_mut()
            .get_mut(self.filled..)
            .unwrap_or_default()
    }

    /// Takes from `staged` what belongs to the frame; how much that was.
    fn take(&mut self, staged: &[u8]) -> usize {
        let mut taken = 0;
        while taken < staged.len() && self.missing() > 0 {
            let room = self.room();
            let count = room.len().min(staged.len() - taken);
            room[..count].copy_from_slice(&staged[taken..taken + count]);
            taken += count;
            self.filled += count;
        }
        taken
    }
}

/// What speaks there, judged by what it sent instead of a frame's length.
pub(crate) fn stranger(head: [u8; 4]) -> Option<(&'static str, &'static str)> {
    match &head {
        [0x14..=0x17, 3, 0..=4, _] => Some((
            "it answers in TLS",
            "this port speaks TLS: use security_protocol=SSL or SASL_SSL, or the plaintext port",
        )),
        b"HTTP" => Some((
            "it answers in HTTP",
            "this is the port of a web server: use the port of a Kafka listener",
        )),
        b"SSH-" => Some((
            "it answers in SSH",
            "this is the port of an SSH server: use the port of a Kafka listener",
        )),
        _ => None,
    }
}
