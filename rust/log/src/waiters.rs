//! Who waits for a mark to move. An append with no waiter takes no lock here.

use std::sync::atomic::{fence, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Somebody who can be told to look again. Called from any thread, must not block.
pub trait Wake: Send + Sync {
    /// Look again.
    fn wake(&self);
}

/// A list of waiters, each for an offset.
#[derive(Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    list: Mutex<Vec<(i64, Arc<dyn Wake>)>>,
}

impl Waiters {
    /// Whether anybody waits. Call after publishing what they wait for.
    pub fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Registers `waker` for `offset` unless `satisfied`, which is asked again after that, so
    /// that a move in between is not missed. True: satisfied, nothing is registered.
    pub fn register(
        &self,
        offset: i64,
        waker: Arc<dyn Wake>,
        satisfied: impl Fn() -> bool,
    ) -> bool {
        if satisfied() {
            return true;
        }
        {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.push((offset, waker.clone()));
            self.count.store(list.len(), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        let done = satisfied();
        if done {
            self.remove(&waker);
        }
        done
    }

    /// Removes every registration of `waker`.
    pub fn remove(&self, waker: &Arc<dyn Wake>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|(_, other)| !std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(waker)));
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Wakes and removes those who wait for `offset` or less.
    pub fn wake_to(&self, offset: i64) {
        if !self.any() {
            return;
        }
        let mut woken: Vec<Arc<dyn Wake>> = Vec::new();
        {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            let mut at = 0;
            while let Some((wanted, _)) = list.get(at) {
                if *wanted <= offset {
                    woken.push(list.swap_remove(at).1);
                } else {
                    at += 1;
                }
            }
            self.count.store(list.len(), Ordering::Relaxed);
        }
        woken.iter().for_each(|waker| waker.wake());
    }

    /// Wakes and removes all.
    pub fn wake_all(&self) {
        self.wake_to(i64::MAX);
    }
}
