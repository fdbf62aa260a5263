//! What a fork leaves behind: a generation that handles remember, and no open sockets.
//!
//! The child of a fork has the memory of the process and none of its threads. A handle made before
//! is of no use there, and an inherited socket would keep the parent's connection open after the
//! parent is gone; so the child closes every socket that is registered here.

use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::SeqCst};
use std::sync::Once;

use crate::ClientError;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static REGISTER: Once = Once::new();

/// Sockets are kept in blocks of fixed size that are never freed: the child of a fork may take no
/// lock, so it walks them as they are.
const BLOCK: usize = 64;

struct Block {
    sockets: [AtomicI32; BLOCK],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block {
            sockets: [const { AtomicI32::new(-1) }; BLOCK],
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }
}

static FIRST: Block = Block::new();

/// How often this process was forked from one that uses clients. A handle made in another
/// generation is the parent's.
pub fn generation() -> u32 {
    REGISTER.call_once(|| {
        // SAFETY: the handler takes no lock, allocates nothing and calls only close(2).
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    GENERATION.load(SeqCst)
}

/// Where [`generation`] is counted, for who compares it often.
pub fn word() -> &'static AtomicU32 {
    generation();
    &GENERATION
}

unsafe extern "C" fn in_child() {
    GENERATION.fetch_add(1, SeqCst);
    let mut block = &raw const FIRST;
    // SAFETY: blocks are linked once, whole, and never freed; each socket is taken out before it
    // is closed, and in the child nobody else uses it.
    while let Some(at) = unsafe { block.as_ref() } {
        for socket in &at.sockets {
            let fd = socket.swap(-1, SeqCst);
            if fd >= 0 {
                // SAFETY: the descriptor is this process's own copy; its owner is never run here.
                unsafe { libc::close(fd) };
            }
        }
        block = at.next.load(SeqCst);
    }
}

/// Keeps a socket known until it is dropped, so that a child of a fork closes it.
#[derive(Debug)]
pub struct Registered {
    slot: &'static AtomicI32,
    fd: RawFd,
    generation: u32,
}

/// Registers a socket. Drop what is returned *before* the socket is closed.
pub fn register(fd: RawFd) -> Registered {
    let generation = generation();
    let mut block = &FIRST;
    loop {
        for slot in &block.sockets {
            if slot.compare_exchange(-1, fd, SeqCst, SeqCst).is_ok() {
                return Registered {
                    slot,
                    fd,
                    generation,
                };
            }
        }
        let next = block.next.load(SeqCst);
        // SAFETY: blocks are never freed.
        block = match unsafe { next.as_ref() } {
            Some(next) => next,
            None => grow(block),
        };
    }
}

fn grow(last: &'static Block) -> &'static Block {
    let made = Box::into_raw(Box::new(Block::new()));
    let null = std::ptr::null_mut();
    match last.next.compare_exchange(null, made, SeqCst, SeqCst) {
        // SAFETY: just made, and from now on never freed.
        Ok(_) => unsafe { &*made },
        Err(theirs) => {
            // SAFETY: nobody else has seen `made`; `theirs` is never freed.
            unsafe {
                drop(Box::from_raw(made));
                &*theirs
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // In a child the slot was emptied, and may be a new socket's by now.
        if self.generation == GENERATION.load(SeqCst) {
            let _ = self.slot.compare_exchange(self.fd, -1, SeqCst, SeqCst);
        }
    }
}

/// What a handle of the user holds. In a child of the process that made it, it gives nothing away
/// and frees nothing: any lock below may have been held by a thread that is not there.
#[derive(Debug)]
pub struct Kept<T> {
    value: ManuallyDrop<T>,
    generation: u32,
    what: &'static str,
}

impl<T> Kept<T> {
    /// `what` the user calls it: "producer".
    pub fn new(what: &'static str, value: T) -> Kept<T> {
        Kept {
            value: ManuallyDrop::new(value),
            generation: generation(),
            what,
        }
    }

    /// The value, in the process that made it.
    pub fn get(&self) -> Result<&T, ClientError> {
        if self.generation != GENERATION.load(SeqCst) {
            return Err(ClientError::Forked(self.what));
        }
        Ok(&self.value)
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if self.generation == GENERATION.load(SeqCst) {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let many: Vec<_> = (1000..1000 + 3 * BLOCK as i32).map(register).collect();
        drop(many);
        let one = register(7);
        assert_eq!(one.slot.load(SeqCst), 7);
        drop(one);
        assert!(FIRST.sockets.iter().all(|slot| slot.load(SeqCst) == -1));
    }
}
