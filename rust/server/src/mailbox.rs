//! How other threads reach a connection.
//!
//! A connection's task is woken through its [`Mailbox`]: by a partition that moved, by the control
//! plane's answer, by the pool, by shutdown. Others hold it weakly: a connection that is gone
//! costs them nothing and keeps nothing alive.

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use mqlog_log::Wake;

/// What arrives for a connection from outside its thread.
pub(crate) enum Letter {
    /// The control plane's answer: a response body, to go behind a response header.
    Reply(Vec<u8>),
    /// The control plane has made what a Metadata request needs: answer it from the image.
    ReplyMetadata,
    /// The control plane wants this connection closed.
    Close,
    /// The pool has made the answer: a whole frame.
    Frame(Vec<u8>),
    /// The pool has read and checked what a fetch needs: try again.
    Warmed,
}

/// The outside of a connection.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// The task's waker; a task keeps the same one for life.
    waker: OnceLock<Waker>,
    letters: Mutex<Option<(u64, Letter)>>,
    /// When something was last finished, broker milliseconds; read by the idle sweeper.
    pub(crate) progress_ms: AtomicU64,
    /// Why the sweeper, or the broker, wants this connection to end.
    pub(crate) order: AtomicU64,
}

/// Values of [`Mailbox::order`].
pub(crate) mod order {
    /// Go on.
    pub(crate) const SERVE: u64 = 0;
    /// Finish what was begun, then close.
    pub(crate) const DRAIN: u64 = 1;
    /// Close: nothing happened for too long.
    pub(crate) const IDLE: u64 = 2;
    /// Drop everything at once.
    pub(crate) const KILL: u64 = 3;
}

impl Mailbox {
    /// Called by the task at its first poll.
    pub(crate) fn attend(&self, waker: &Waker) {
        if self.waker.get().is_none() {
            let _ = self.waker.set(waker.clone());
        }
    }

    /// Leaves a letter for the request that waits under `ticket`, and wakes the task.
    pub(crate) fn post(&self, ticket: u64, letter: Letter) {
        *lock(&self.letters) = Some((ticket, letter));
        self.wake();
    }

    /// Takes the letter for `ticket`; one for an earlier request is thrown away.
    pub(crate) fn collect(&self, ticket: u64) -> Option<Letter> {
        match lock(&self.letters).take() {
            Some((to, letter)) if to == ticket => Some(letter),
            _ => None,
        }
    }

    pub(crate) fn give_order(&self, order: u64) {
        self.order.fetch_max(order, Relaxed);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// A partition's way to a connection, for one registration or many.
pub(crate) struct PartitionWake {
    mailbox: Weak<Mailbox>,
    fired: AtomicBool,
}

impl PartitionWake {
    pub(crate) fn new(mailbox: &Arc<Mailbox>) -> Self {
        PartitionWake {
            mailbox: Arc::downgrade(mailbox),
            fired: AtomicBool::new(false),
        }
    }

    /// Whether it has woken the connection at least once.
    pub(crate) fn fired(&self) -> bool {
        self.fired.load(SeqCst)
    }
}

impl Wake for PartitionWake {
    fn wake(&self) {
        self.fired.store(true, SeqCst);
        if let Some(mailbox) = self.mailbox.upgrade() {
            mailbox.wake();
        }
    }
}

/// Requests that the control plane has, by token.
#[derive(Default)]
pub(crate) struct Tokens {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Weak<Mailbox>>>,
}

impl Tokens {
    /// A number that no other request of this broker has.
    pub(crate) fn ticket(&self) -> u64 {
        self.next.fetch_add(1, Relaxed) + 1
    }

    pub(crate) fn insert(&self, token: u64, mailbox: &Arc<Mailbox>) {
        lock(&self.waiting).insert(token, Arc::downgrade(mailbox));
    }

    /// Delivers `letter` to the connection of `token`, once. False: it is gone.
    pub(crate) fn deliver(&self, token: u64, letter: Letter) -> bool {
        let mailbox = lock(&self.waiting)
            .remove(&token)
            .and_then(|weak| weak.upgrade());
        match mailbox {
            Some(mailbox) => {
                mailbox.post(token, letter);
                true
            }
            None => false,
        }
    }

    /// Forgets a token whose connection ends. True if its answer was still owed.
    pub(crate) fn forget(&self, token: u64) -> bool {
        lock(&self.waiting).remove(&token).is_some()
    }
}

/// Locks a mutex that guards plain data: what a panicking holder left is still consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
