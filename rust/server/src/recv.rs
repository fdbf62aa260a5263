//! Received bytes that are not consumed yet.
//!
//! Every I/O thread has one large buffer that all of its connections read into. A connection owns
//! a buffer only while an unfinished frame (or a request it may not decode yet) is in it: a copy
//! of the few bytes that are left over or, when they are many, the large buffer itself, for which
//! the thread takes another one from its pool. So an idle connection owns nothing, and a busy one
//! moves no more bytes than the leftovers of each wake-up.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Size of a thread's buffer: a few large produce requests, and it fits the L2 cache.
pub(crate) const SCRATCH: usize = 512 * 1024;
/// Buffers kept for reuse per thread.
const POOLED: usize = 2;
/// A larger buffer than this is given back to the allocator.
const POOLED_MAX: usize = 4 * 1024 * 1024;

/// A growing buffer consumed from the front.
#[derive(Default)]
pub(crate) struct RecvBuf {
    bytes: Vec<u8>,
    start: usize,
}

impl RecvBuf {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        RecvBuf {
            bytes: Vec::with_capacity(capacity),
            start: 0,
        }
    }

    pub(crate) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.bytes.len());
        if self.start >= self.bytes.len() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Makes room for more of a frame of `frame` bytes in all (length prefix included): moves what
    /// is unread to the front, and doubles the buffer only when the bytes that arrived fill it.
    pub(crate) fn make_room(&mut self, frame: usize) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let len = self.bytes.len();
        if len == self.bytes.capacity() {
            let ahead = frame.saturating_sub(len).max(1).min(len.max(SCRATCH));
            self.bytes.reserve_exact(ahead);
        }
    }

    /// Reads once, at most `max` bytes, into the free space. `Ok(0)`: the peer closed (or there is
    /// no free space).
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let spare = self.bytes.spare_capacity_mut();
        let max = max.min(spare.len());
        let mut free = ReadBuf::uninit(&mut spare[..max]);
        ready!(Pin::new(stream).poll_read(cx, &mut free))?;
        let n = free.filled().len();
        let len = self.bytes.len() + n;
        // SAFETY: `filled()` says that the first `n` bytes of the spare capacity are initialised.
        unsafe { self.bytes.set_len(len) };
        Poll::Ready(Ok(n))
    }
}

/// The buffers of one I/O thread.
pub(crate) struct RecvPool {
    scratch: RecvBuf,
    free: Vec<RecvBuf>,
}

impl RecvPool {
    pub(crate) fn new() -> Self {
        RecvPool {
            scratch: RecvBuf::default(),
            free: Vec::new(),
        }
    }

    /// The buffer to read into for a connection that may own one already. A small owned one is
    /// moved into the thread's, so that a read takes all that the socket has.
    pub(crate) fn take(&mut self, owned: Option<RecvBuf>) -> RecvBuf {
        match owned {
            Some(buf) if buf.capacity() >= SCRATCH => buf,
            Some(small) => {
                let mut buf = self.take_scratch();
                buf.bytes.extend_from_slice(&small.bytes[small.start..]);
                buf
            }
            None => self.take_scratch(),
        }
    }

    fn take_scratch(&mut self) -> RecvBuf {
        let scratch = std::mem::take(&mut self.scratch);
        if scratch.capacity() >= SCRATCH {
            return scratch;
        }
        self.free
            .pop()
            .unwrap_or_else(|| RecvBuf::with_capacity(SCRATCH))
    }

    /// Takes a buffer back. What is left in it comes out as a buffer for the connection to own.
    pub(crate) fn give_back(&mut self, mut buf: RecvBuf) -> Option<RecvBuf> {
        let left = buf.len();
        if left > buf.capacity() / 4 {
            return Some(buf);
        }
        let owned = (left > 0).then(|| {
            let mut small = RecvBuf::with_capacity(left.next_power_of_two().max(64));
            small.bytes.extend_from_slice(&buf.bytes[buf.start..]);
            small
        });
        buf.clear();
        if buf.capacity() > POOLED_MAX {
            return owned;
        }
        if self.scratch.capacity() == 0 {
            self.scratch = buf;
        } else if self.free.len() < POOLED {
            self.free.push(buf);
        }
        owned
    }

    /// Gives spare buffers back to the allocator; called now and then.
    pub(crate) fn trim(&mut self) {
        self.free.clear();
        if self.scratch.capacity() > SCRATCH {
            self.scratch = RecvBuf::default();
        }
    }
}
