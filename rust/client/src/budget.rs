//! How much may be read ahead.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;

use tokio::sync::watch;

/// What may be read ahead, and what is: memory counts as long as it is pinned.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    pinned: AtomicUsize,
    /// The most that answers on their way may have.
    on_their_way: AtomicUsize,
    starved: AtomicBool,
    /// Told when there may be something to fetch.
    pub wanted: watch::Sender<()>,
}

impl Budget {
    pub fn new(most: usize) -> Arc<Budget> {
        Arc::new(Budget {
            most,
            pinned: AtomicUsize::new(0),
            on_their_way: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            wanted: watch::Sender::default(),
        })
    }

    /// Bytes pinned.
    pub fn pinned(&self) -> usize {
        self.pinned.load(SeqCst)
    }

    /// Bytes that may be fetched now; `None` while that is too little to be worth it. Then
    /// `wanted` is told when there is more.
    pub fn room(&self) -> Option<usize> {
        // First said, then looked: who frees memory does it the other way round.
        self.starved.store(true, SeqCst);
        let taken = self.pinned() + self.on_their_way.load(SeqCst);
        let room = self.most.saturating_sub(taken);
        if taken > 0 && room < self.most / 4 {
            return None;
        }
        self.starved.store(false, SeqCst);
        Some(room.max(1))
    }

    /// Counts what an answer may have, until the guard goes.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Reserved {
        self.on_their_way.fetch_add(bytes, SeqCst);
        Reserved {
            budget: self.clone(),
            bytes,
        }
    }

    /// Counts memory as pinned, until the last one who shares the guard lets go.
    pub fn pin(self: &Arc<Self>, bytes: usize) -> Arc<Pin> {
        self.pinned.fetch_add(bytes, SeqCst);
        Arc::new(Pin {
            budget: self.clone(),
            bytes,
        })
    }

    fn relieve(&self) {
        if self.starved.swap(false, SeqCst) {
            self.wanted.send_replace(());
        }
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.on_their_way.fetch_sub(self.bytes, SeqCst);
        self.budget.relieve();
    }
}

/// Memory that somebody reads from.
#[derive(Debug)]
pub(crate) struct Pin {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.budget.pinned.fetch_sub(self.bytes, SeqCst);
        self.budget.relieve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_while_it_is_pinned() {
        let budget = Budget::new(1000);
        let mut told = budget.wanted.subscribe();
        assert_eq!(budget.room(), Some(1000));
        let reserved = budget.reserve(600);
        assert_eq!(budget.room(), Some(400));
        let pin = budget.pin(300);
        drop(reserved);
        let more = budget.pin(500);
        assert_eq!((budget.room(), budget.pinned()), (None, 800));
        told.mark_unchanged();
        let other = more.clone();
        drop(more);
        assert!(!told.has_changed().unwrap());
        drop(other);
        assert!(told.has_changed().unwrap());
        assert_eq!(budget.room(), Some(700));
        drop(pin);
        assert_eq!(
            Budget::new(0).room(),
            Some(1),
            "one fetch is always possible"
        );
    }
}
