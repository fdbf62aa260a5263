//! `queued.max.request.bytes`: how many bytes of unfinished requests all connections hold.
//!
//! Beyond the bound a connection holds no more than [`SMALL`], so that small requests go on being
//! served; but one connection at a time may finish its large frame: else those who hold everything
//! could wait for each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};

use crate::mailbox::{lock, Mailbox};

/// What a connection may hold whatever the others do.
pub(crate) const SMALL: usize = 64 * 1024;

pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
    /// Who may go on beyond the bound: the address of its mailbox, 0 for nobody.
    privileged: AtomicU64,
    waiting: Mutex<Vec<Weak<Mailbox>>>,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        Budget {
            max,
            used: AtomicUsize::new(0),
            privileged: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    /// Corrects what one connection holds, from `before` to `now` bytes.
    pub(crate) fn change(&self, holder: &Arc<Mailbox>, before: usize, now: usize) {
        if before == now {
            return;
        }
        if now > before {
            self.used.fetch_add(now - before, SeqCst);
            return;
        }
        let used = self.used.fetch_sub(before - now, SeqCst) - (before - now);
        let mut freed = before > self.max && used <= self.max;
        if now == 0 {
            let me = address(holder);
            freed |= self
                .privileged
                .compare_exchange(me, 0, SeqCst, SeqCst)
                .is_ok();
        }
        if freed || used <= self.max {
            self.wake_all();
        }
    }

    /// How much a connection that holds `held` bytes may read now. At 0 it is woken when that
    /// changes.
    pub(crate) fn may_read(&self, holder: &Arc<Mailbox>, held: usize) -> usize {
        let allowed = || match self.used.load(SeqCst) <= self.max {
            true => usize::MAX,
            false if held < SMALL => SMALL - held,
            false if self.become_privileged(holder) => usize::MAX,
            false => 0,
        };
        if allowed() == 0 {
            lock(&self.waiting).push(Arc::downgrade(holder));
        }
        // Again, because it may have changed before we were on the list.
        allowed()
    }

    /// Bytes held now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    fn become_privileged(&self, holder: &Arc<Mailbox>) -> bool {
        let me = address(holder);
        match self.privileged.compare_exchange(0, me, SeqCst, SeqCst) {
            Ok(_) => true,
            Err(current) => current == me,
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for mailbox in waiting.iter().filter_map(Weak::upgrade) {
            mailbox.wake();
        }
    }
}

fn address(holder: &Arc<Mailbox>) -> u64 {
    Arc::as_ptr(holder) as usize as u64
}
