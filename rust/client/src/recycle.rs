//! Receive buffers that are used again: fresh pages cost more than all else that is done to a byte.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::io::lock;

/// Smaller frames are not worth keeping.
const SMALLEST: usize = 64 * 1024;

/// Buffers that nobody uses, so many bytes at most. Kept by a client, shared by its connections.
#[derive(Debug)]
pub struct Recycler {
    kept: Mutex<Kept>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Recycler {
    /// Keeps at most `limit` bytes that nobody uses.
    pub fn new(limit: usize) -> Arc<Recycler> {
        Arc::new(Recycler {
            kept: Mutex::default(),
            limit,
        })
    }

    /// A buffer of at least `len` bytes, written before or zero.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let bytes = if len < SMALLEST {
            vec![0; len]
        } else {
            // A buffer far larger than its content would be held by it for nothing.
            let fits = len..=len.saturating_mul(4);
            let mut kept = lock(&self.kept);
            let found = kept
                .buffers
                .iter()
                .enumerate()
                // Of equals the one given back last: it may still be in the processor's cache.
                .rev()
                .filter(|(_, buffer)| fits.contains(&buffer.len()))
                .min_by_key(|(_, buffer)| buffer.len())
                .map(|(index, _)| index);
            match found {
                Some(index) => {
                    let buffer = kept.buffers.swap_remove(index);
                    kept.bytes -= buffer.len();
                    buffer
                }
                // Zeroed by the system when a page is first touched, not here.
                None => {
                    drop(kept);
                    vec![0; len.checked_next_power_of_two().unwrap_or(len)]
                }
            }
        };
        Buffer {
            bytes,
            len,
            home: Some(self.clone()),
        }
    }

    /// Bytes kept now.
    pub fn kept(&self) -> usize {
        lock(&self.kept).bytes
    }

    fn give_back(&self, buffer: Vec<u8>) {
        // A buffer may be dropped in the child of a fork, where the lock may be held for ever.
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        if buffer.len() >= SMALLEST && kept.bytes + buffer.len() <= self.limit {
            kept.bytes += buffer.len();
            kept.buffers.push(buffer);
        }
    }
}

/// A buffer to be filled; given back when it, or the last slice of what it became, goes.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    home: Option<Arc<Recycler>>,
}

impl Buffer {
    /// How many bytes were asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole, shared from now on.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// A longer one that begins with the same bytes.
    #[must_use]
    pub fn grown(mut self, len: usize) -> Buffer {
        if len <= self.bytes.len() {
            self.len = self.len.max(len);
            return self;
        }
        let mut longer = match &self.home {
            Some(home) => home.take(len),
            None => Buffer {
                bytes: vec![0; len],
                len,
                home: None,
            },
        };
        longer.bytes[..self.len].copy_from_slice(&self.bytes[..self.len]);
        longer
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_of_it() {
        let pool = Recycler::new(1 << 20);
        let mut buffer = pool.take(100_000);
        buffer.as_mut()[7] = 7;
        let place = buffer.as_ref().as_ptr();
        let whole = buffer.freeze();
        let part = whole.slice(5..10);
        drop(whole);
        assert_eq!((pool.kept(), &part[..]), (0, &[0, 0, 7, 0, 0][..]));
        drop(part);
        assert_eq!(pool.kept(), 131_072);
        let again = pool.take(120_000);
        assert_eq!((again.as_ref().as_ptr(), again.len()), (place, 120_000));
        assert_eq!(pool.kept(), 0);
    }

    #[test]
    fn no_more_is_kept_than_allowed_and_nothing_small() {
        let pool = Recycler::new(200_000);
        let (one, two, small) = (pool.take(100_000), pool.take(100_000), pool.take(10));
        drop((one, two, small));
        assert_eq!(pool.kept(), 131_072);
        assert_eq!(pool.take(70_000).as_ref().len(), 70_000);
    }

    #[test]
    fn a_grown_buffer_keeps_its_beginning() {
        let pool = Recycler::new(0);
        let mut buffer = pool.take(70_000);
        buffer.as_mut().fill(1);
        let buffer = buffer.grown(300_000);
        assert_eq!(buffer.len(), 300_000);
        assert!(buffer.as_ref()[..70_000].iter().all(|byte| *byte == 1));
    }
}
