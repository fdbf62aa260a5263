//! What every part of one broker shares.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mqlog_log::{Clock, DataDir, Durability};
use mqlog_meta::Image;
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::control::ControlPlane;
use crate::faults::Faults;
use crate::mailbox::Tokens;
use crate::router::Router;
use crate::session::SessionCache;
use crate::stats::Stats;

const SERVING: u8 = 0;
const DRAINING: u8 = 1;

/// One broker's shared state. Nothing here is process-wide.
pub(crate) struct Core {
    pub(crate) config: BrokerConfig,
    /// `max.connections`, or what the descriptor limit leaves if that is less.
    pub(crate) max_connections: usize,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) image: ArcSwap<Image>,
    pub(crate) router: ArcSwap<Router>,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) stats: Stats,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: SessionCache,
    pub(crate) budget: Budget,
    pub(crate) faults: Faults,
    pub(crate) stop_accepting: Notify,
    phase: AtomicU8,
}

impl Core {
    pub(crate) fn new(
        config: BrokerConfig,
        dir: Arc<DataDir>,
        clock: Arc<dyn Clock>,
        control: Arc<dyn ControlPlane>,
        image: Image,
        router: Router,
    ) -> Core {
        let limits = &config.limits;
        Core {
            max_connections: limits.max_connections.min(descriptors_for_connections()),
            dir,
            clock,
            image: ArcSwap::from_pointee(image),
            router: ArcSwap::from_pointee(router),
            control,
            stats: Stats::default(),
            tokens: Tokens::default(),
            sessions: SessionCache::new(limits.fetch_session_slots),
            budget: Budget::new(limits.queued_max_request_bytes),
            faults: Faults::default(),
            stop_accepting: Notify::new(),
            phase: AtomicU8::new(SERVING),
            config,
        }
    }

    /// Milliseconds of the monotonic clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    /// Whether `acks=all` waits for a flush.
    pub(crate) fn fsync(&self) -> bool {
        self.config.durability == Durability::Fsync
    }

    pub(crate) fn serving(&self) -> bool {
        self.phase.load(SeqCst) == SERVING
    }

    /// No new connections and no new requests from now on.
    pub(crate) fn drain(&self) {
        self.phase.store(DRAINING, SeqCst);
        self.stop_accepting.notify_waiters();
    }
}

/// The descriptor limit, less what the broker needs to work at all.
fn descriptors_for_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = limit.current.unwrap_or(u64::MAX).min(i32::MAX as u64) as usize;
    all.saturating_sub(32).max(1)
}
