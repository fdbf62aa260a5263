//! What every part of one broker shares.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::SeqCst};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mqlog_log::{Clock, DataDir, Durability};
use mqlog_meta::{Image, RESOURCE_BROKER};
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::control::ControlPlane;
use crate::faults::Faults;
use crate::ledger::Ledgers;
use crate::mailbox::Tokens;
use crate::router::Router;
use crate::session::SessionCache;
use crate::stats::Stats;

const SERVING: u8 = 0;
const DRAINING: u8 = 1;

/// One broker's shared state. Nothing here is process-wide.
pub(crate) struct Core {
    pub(crate) config: BrokerConfig,
    /// The node id as the name of its dynamic settings.
    node: String,
    /// Connections that the descriptor limit leaves room for.
    most_connections: usize,
    /// What connections and segments share.
    descriptors: usize,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) image: ArcSwap<Image>,
    /// Where the metadata log ends.
    pub(crate) metadata_end: AtomicI64,
    pub(crate) router: ArcSwap<Router>,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) stats: Stats,
    pub(crate) tokens: Tokens,
    pub(crate) ledgers: Ledgers,
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
        let descriptors = descriptors();
        Core {
            node: config.node_id.to_string(),
            most_connections: descriptors.saturating_sub(LEAST_FOR_SEGMENTS).max(1),
            descriptors,
            dir,
            clock,
            image: ArcSwap::from_pointee(image),
            metadata_end: AtomicI64::new(0),
            router: ArcSwap::from_pointee(router),
            control,
            stats: Stats::default(),
            tokens: Tokens::default(),
            ledgers: Ledgers::default(),
            sessions: SessionCache::new(config.limits.fetch_session_slots),
            budget: Budget::new(config.limits.queued_max_request_bytes),
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

    /// `max.connections`, or what the descriptor limit leaves if that is less.
    pub(crate) fn max_connections(&self) -> usize {
        let asked = self.dynamic("max.connections");
        let asked = asked.unwrap_or(self.config.limits.max_connections);
        asked.min(self.most_connections)
    }

    /// `max.connections.per.ip`.
    pub(crate) fn max_connections_per_ip(&self) -> usize {
        let asked = self.dynamic("max.connections.per.ip");
        asked.unwrap_or(self.config.limits.max_connections_per_ip)
    }

    /// What was set while the broker runs: for this one, else for all.
    fn dynamic(&self, name: &str) -> Option<usize> {
        let image = self.image.load();
        let mut layers = [self.node.as_str(), ""].into_iter();
        let value = layers.find_map(|layer| image.configs(RESOURCE_BROKER, layer)?.get(name));
        value.and_then(|value| value.trim().parse().ok())
    }

    /// Segments may have the descriptors that connections leave.
    pub(crate) fn share_descriptors(&self) {
        let connections = usize::try_from(self.stats.connections_open.get()).unwrap_or(usize::MAX);
        let left = self.descriptors.saturating_sub(connections);
        self.dir.set_fd_budget(left);
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

/// Descriptors that neither segments nor connections may take: what the broker holds and what it
/// opens for a moment.
const RESERVED_DESCRIPTORS: usize = 32;
/// Descriptors that segments have at least.
const LEAST_FOR_SEGMENTS: usize = 16;

/// The limit of open descriptors, less those that are reserved.
pub(crate) fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = limit.current.unwrap_or(u64::MAX).min(1 << 20) as usize;
    all.saturating_sub(RESERVED_DESCRIPTORS)
}
