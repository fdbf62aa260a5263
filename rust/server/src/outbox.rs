//! Answers on their way out: bytes, and ranges of segment files that stand between them.
//!
//! A connection owns an outbox only while the peer has not taken everything; else the one of its
//! thread goes from connection to connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use crate::stats::Stats;
use crate::stream::Stream;

/// Most file bytes sent in one turn, so that one reader does not hold up the thread's others.
const TURN: usize = 1 << 20;
/// A larger buffer than this is given back to the allocator when it is empty.
const KEEP: usize = 256 * 1024;

/// A range of a file whose bytes go between two bytes of an outbox.
struct FileRange {
    /// Sent when this many of the outbox's bytes have been.
    at: usize,
    file: Arc<File>,
    position: u64,
    left: usize,
}

/// Bytes and file ranges in the order in which they leave.
#[derive(Default)]
pub(crate) struct Outbox {
    /// What to send; encoders append here.
    pub(crate) bytes: Vec<u8>,
    sent: usize,
    files: VecDeque<FileRange>,
    file_bytes: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.files.is_empty()
    }

    /// What the peer has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.bytes.len() - self.sent + self.file_bytes
    }

    /// Puts a file range where byte `at` of `bytes` is: before it, after all that precede it.
    /// Ranges come in the order of their places.
    pub(crate) fn insert_file(&mut self, at: usize, file: Arc<File>, position: u64, len: usize) {
        debug_assert!(at <= self.bytes.len() && self.files.back().is_none_or(|f| f.at <= at));
        self.file_bytes += len;
        self.files.push_back(FileRange {
            at,
            file,
            position,
            left: len,
        });
    }

    /// Sends until everything is gone, the peer's window is full, or a turn's worth has been sent.
    pub(crate) fn poll_flush(
        &mut self,
        stream: &Stream,
        cx: &mut Context<'_>,
        stats: &Stats,
    ) -> Poll<io::Result<()>> {
        let mut turn = 0;
        while !self.is_empty() {
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let n = match self.files.front_mut() {
                Some(range) if range.at == self.sent => {
                    let len = range.left.min(TURN - turn);
                    let n = ready!(stream.poll_sendfile(cx, &range.file, range.position, len))?;
                    if n == 0 {
                        // The frame's length is out already: nothing but a close is honest.
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    range.position += n as u64;
                    range.left -= n;
                    self.file_bytes -= n;
                    if range.left == 0 {
                        self.files.pop_front();
                    }
                    stats.bytes_sendfile.add(n as u64);
                    turn += n;
                    n
                }
                next => {
                    let until = next.as_ref().map_or(self.bytes.len(), |range| range.at);
                    let more = next.is_some();
                    let n = ready!(stream.poll_send(cx, &self.bytes[self.sent..until], more))?;
                    self.sent += n;
                    n
                }
            };
            stats.bytes_out.add(n as u64);
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.files.clear();
        self.file_bytes = 0;
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}
