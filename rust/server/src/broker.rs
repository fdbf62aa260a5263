//! The broker's handle: start, what the control plane may ask of it, and its end.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mqlog_log::{
    Clock, DataDir, DataDirOptions, DirStats, Disk, LogError, Partition, ProducerInfo, RealDisk,
    SegmentInfo, State, SystemClock, TopicId,
};
use mqlog_meta::{Image, MetaError, MetaLog, MetaRecord};
use thiserror::Error;

use crate::config::BrokerConfig;
use crate::control::{ControlEvent, ControlPlane};
use crate::core::Core;
use crate::executor::{self, Executor};
use crate::faults::Faults;
use crate::files::{self, FileOp};
use crate::ledger;
use crate::mailbox::{lock, order, Letter};
use crate::router::Router;
use crate::stats::StatsSnapshot;
use crate::threads::{self, IoThreads};
use crate::topic_config::log_config;

/// How long requests that were begun may take at shutdown.
const DRAIN: Duration = Duration::from_millis(1200);

/// Why a broker does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The metadata log.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A listener.
    #[error(
        "cannot listen on {address}: {error}: stop what listens there, or choose another address"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Nothing to listen on.
    #[error("no listener: give at least one address")]
    NoListener,
}

/// What a start found.
#[derive(Debug, Clone, Default)]
pub struct StartReport {
    /// The last process that served this directory shut down cleanly.
    pub clean: bool,
    /// Partitions opened.
    pub partitions: usize,
    /// Directories that no metadata names, moved to `orphans/`; where they were if the end of the
    /// metadata log was cut.
    pub orphans: Vec<String>,
    /// Partitions that are offline, `topic-partition`, and why.
    pub offline: Vec<(String, String)>,
}

/// What is known of one partition now.
#[derive(Debug, Clone)]
pub struct PartitionInfo {
    /// First offset.
    pub log_start: i64,
    /// End of what is committed.
    pub high_watermark: i64,
    /// End of what is decided.
    pub last_stable: i64,
    /// Next offset.
    pub log_end: i64,
    /// End of what is flushed.
    pub durable_end: i64,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Bytes of log.
    pub size_bytes: u64,
    /// Whether it is online; if not, why.
    pub offline: Option<String>,
    /// Its directory.
    pub directory: std::path::PathBuf,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Its producers.
    pub producers: Vec<ProducerInfo>,
}

/// One running broker.
///
/// All methods may be called from any thread and none waits for a client. `shutdown` (or dropping
/// the handle) ends it. In a forked child the handle does nothing: the threads are the parent's.
pub struct Broker {
    core: Arc<Core>,
    threads: Mutex<IoThreads>,
    executor: Mutex<Executor>,
    addresses: Vec<SocketAddr>,
    report: StartReport,
    killed: AtomicBool,
    pid: u32,
}

impl Broker {
    /// Starts on the real disk with the machine's clock.
    pub fn start(
        config: BrokerConfig,
        control: Arc<dyn ControlPlane>,
    ) -> Result<Broker, StartError> {
        let disk = Arc::new(RealDisk::new());
        Broker::start_with(config, control, disk, Arc::new(SystemClock::new()))
    }

    /// Starts on a given disk and clock. In the order of the recovery page: directory and
    /// metadata, partitions, leader epochs, listeners.
    pub fn start_with(
        config: BrokerConfig,
        control: Arc<dyn ControlPlane>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Broker, StartError> {
        if config.listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let dir = DataDir::open(disk, clock.clone(), dir_options(&config))?;
        let dir = Arc::new(dir);
        let (mut log, image) = MetaLog::open(&dir)?;
        let mut report = StartReport {
            clean: dir.was_clean(),
            ..StartReport::default()
        };
        open_partitions(&dir, &image, &config, log.was_cut(), &mut report);
        let core = Arc::new(Core::new(
            config,
            dir,
            clock,
            control,
            image,
            Router::default(),
        ));
        raise_epochs(&core, &mut log)?;
        core.metadata_end.store(log.log_end(), SeqCst);
        publish_routes(&core);
        watch_directory(&core);
        core.dir.start_threads();
        let listeners = threads::bind(&core.config.listeners)
            .map_err(|(address, error)| StartError::Listen { address, error })?;
        let addresses = listeners.iter().map(|bound| bound.address).collect();
        let executor = Executor::start(core.clone(), log).map_err(StartError::Thread)?;
        let threads = IoThreads::start(&core, listeners).map_err(StartError::Thread)?;
        Ok(Broker {
            core,
            threads: Mutex::new(threads),
            executor: Mutex::new(executor),
            addresses,
            report,
            killed: AtomicBool::new(false),
            pid: std::process::id(),
        })
    }

    /// The addresses served, with the ports that were taken for 0.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What the start found.
    pub fn start_report(&self) -> &StartReport {
        &self.report
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &BrokerConfig {
        &self.core.config
    }

    /// Cluster id of the data directory.
    pub fn cluster_id(&self) -> &str {
        &self.core.dir.identity().cluster_id
    }

    /// The metadata as it is now.
    pub fn image(&self) -> Arc<Image> {
        self.core.image.load_full()
    }

    /// The offset after the last record of the metadata log.
    pub fn metadata_end(&self) -> i64 {
        self.core.metadata_end.load(SeqCst)
    }

    /// Answers the request of `token` with a response body; frame and header are added here.
    /// False: the client is gone.
    pub fn reply(&self, token: u64, body: impl Into<Vec<u8>>) -> bool {
        self.core.tokens.deliver(token, Letter::Reply(body.into()))
    }

    /// Answers the Metadata request of `token` from the image as it is now.
    pub fn reply_metadata(&self, token: u64) -> bool {
        self.core.tokens.deliver(token, Letter::ReplyMetadata)
    }

    /// Closes the connection whose request `token` is.
    pub fn close(&self, token: u64) -> bool {
        self.core.tokens.deliver(token, Letter::Close)
    }

    /// Makes metadata records durable and publishes them; [`ControlEvent::Proposed`] tells when.
    /// Proposals take effect in the order of the calls.
    pub fn propose(&self, id: u64, records: Vec<MetaRecord>) {
        if self.forked() || !lock(&self.executor).propose(id, records) {
            let result = Err("the broker has shut down".to_owned());
            self.core
                .control
                .submit(ControlEvent::Proposed { id, result });
        }
    }

    /// Appends a coordinator's batch; one that fails is told by [`ControlEvent::AppendFailed`].
    pub fn append(&self, topic_id: TopicId, partition: i32, batch: impl Into<Vec<u8>>) {
        ledger::append(&self.core, topic_id, partition, batch.into());
    }

    /// As [`Broker::reply`], once all that was appended to these partitions is durable. If that
    /// fails the connection is closed.
    pub fn reply_after(
        &self,
        token: u64,
        body: impl Into<Vec<u8>>,
        topic_id: TopicId,
        partitions: &[i32],
    ) {
        ledger::reply_after(&self.core, token, body.into(), topic_id, partitions);
    }

    /// Reads a coordinator's log; [`ControlEvent::Loaded`] tells what it holds.
    pub fn load(&self, id: u64, topic_id: TopicId, partition: i32) {
        ledger::load(&self.core, id, topic_id, partition);
    }

    /// Remembers where a coordinator's log ends now.
    pub fn mark(&self, topic_id: TopicId, partition: i32) {
        ledger::mark(&self.core, topic_id, partition);
    }

    /// Removes what lies below the mark once all that was appended since is durable;
    /// [`ControlEvent::Trimmed`] tells when.
    pub fn trim(&self, id: u64, topic_id: TopicId, partition: i32) {
        ledger::trim(&self.core, id, topic_id, partition);
    }

    /// Does file operations in the pool, in order; [`ControlEvent::FilesDone`] tells the results.
    pub fn files(&self, id: u64, operations: Vec<FileOp>) {
        let core = self.core.clone();
        self.core.dir.spawn(Box::new(move || {
            let results = operations.iter().map(|op| files::run(&core, op)).collect();
            core.control.submit(ControlEvent::FilesDone { id, results });
        }));
    }

    /// What is known of a partition now; `None` if this broker does not hold it.
    pub fn partition_info(&self, topic_id: TopicId, index: i32) -> Option<PartitionInfo> {
        self.core
            .dir
            .partition(topic_id, index)
            .map(|partition| info(&partition))
    }

    /// Counters of the data plane.
    pub fn stats(&self) -> StatsSnapshot {
        let mut snapshot = self.core.stats.snapshot();
        snapshot
            .counters
            .insert("request_bytes_held", self.core.budget.used() as u64);
        snapshot
            .counters
            .insert("fetch_sessions", self.core.sessions.len() as u64);
        snapshot
            .counters
            .insert("unflushed_bytes", self.core.dir.unflushed_bytes());
        snapshot
    }

    /// Counters of the data directory.
    pub fn dir_stats(&self) -> DirStats {
        self.core.dir.stats()
    }

    /// Monotonic nanoseconds of the clock that stamps events.
    pub fn mono_ns(&self) -> u64 {
        self.core.clock.mono_ns()
    }

    /// The fault switches, for tests in this process.
    pub fn faults(&self) -> &Faults {
        &self.core.faults
    }

    /// Ends the broker: no new requests, those begun are finished, everything is flushed and the
    /// directory marked clean. Under two seconds unless the disk is slower.
    pub fn shutdown(&self) {
        if self.forked() {
            return;
        }
        self.core.drain();
        let mut threads = lock(&self.threads);
        let until = Instant::now() + DRAIN;
        while threads.order_all(order::DRAIN) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        threads.stop();
        lock(&self.executor).stop();
        self.core.dir.shutdown();
    }

    /// Ends the broker as a crash of its process would: nothing is finished, flushed or marked.
    /// For tests.
    pub fn kill(&self) {
        if self.forked() {
            return;
        }
        self.killed.store(true, SeqCst);
        self.core.drain();
        let mut threads = lock(&self.threads);
        threads.order_all(order::KILL);
        threads.stop();
        drop(threads);
        lock(&self.executor).stop();
        // The data directory goes with the handle, as it is.
    }

    fn forked(&self) -> bool {
        std::process::id() != self.pid
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.killed.load(SeqCst) {
            self.shutdown();
        }
    }
}

fn dir_options(config: &BrokerConfig) -> DataDirOptions {
    let mut options = DataDirOptions::new(&config.data_dir);
    options.durability = config.durability;
    options.cluster_id = config.cluster_id.clone();
    options.checkpoint_interval_ms = config.checkpoint_interval_ms;
    options.node_id = config.node_id;
    options.fd_budget = crate::core::descriptors();
    options.unflushed_max = config.limits.unflushed_max_bytes;
    options
}

fn open_partitions(
    dir: &DataDir,
    image: &Image,
    config: &BrokerConfig,
    was_cut: bool,
    report: &mut StartReport,
) {
    let mut wanted = Vec::new();
    for topic in image.topics() {
        let log = Arc::new(log_config(&topic.name, image, config));
        for (index, state) in topic.partitions.iter().enumerate() {
            wanted.push((topic.id, index as i32, log.clone(), state.leader_epoch));
        }
    }
    let known: HashSet<(TopicId, i32)> = wanted.iter().map(|w| (w.0, w.1)).collect();
    // Metadata that lost its end may only have forgotten a directory.
    report.orphans = match was_cut {
        true => dir.report_orphans(&known),
        false => dir.scan_orphans(&known),
    };
    report.partitions = wanted.len();
    for (id, index, result) in dir.open_partitions(&wanted) {
        let reason = match &result {
            Ok(partition) => partition.offline_reason().map(|reason| reason.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = reason {
            let name = image.topic(&id).map_or("?", |topic| &topic.name);
            report.offline.push((format!("{name}-{index}"), reason));
        }
    }
}

/// After an unclean start, or one that had to check a log, every leader epoch goes up, above any
/// in the logs too, durably, before anything is appended.
fn raise_epochs(core: &Core, log: &mut MetaLog) -> Result<(), StartError> {
    let image = core.image.load_full();
    let mut records = Vec::new();
    let mut clean = core.dir.was_clean();
    for topic in image.topics() {
        for (index, state) in (0..).zip(&topic.partitions) {
            let Some(partition) = core.dir.partition(topic.id, index) else {
                continue;
            };
            let recovery = partition.recovery();
            clean &= recovery.clean;
            if recovery.last_epoch > state.leader_epoch {
                records.push(MetaRecord::Partition {
                    topic_id: topic.id,
                    index,
                    leader: state.leader,
                    leader_epoch: recovery.last_epoch,
                    replicas: state.replicas.to_vec(),
                    isr: state.isr.to_vec(),
                });
            }
        }
    }
    if clean || image.topic_count() == 0 {
        return Ok(());
    }
    records.push(MetaRecord::RaiseLeaderEpochs {
        leader: core.config.node_id,
    });
    log.propose(&records)?;
    let mut raised = (*image).clone();
    raised.apply_all(&records).map_err(MetaError::from)?;
    core.image.store(Arc::new(raised));
    Ok(())
}

fn publish_routes(core: &Core) {
    let image = core.image.load_full();
    let mut router = Router::default();
    for topic in image.topics() {
        if let Some(route) = executor::route(core, &image, &router, &topic.id) {
            router.put(route);
        }
    }
    core.router.store(Arc::new(router));
}

fn watch_directory(core: &Arc<Core>) {
    let weak = Arc::downgrade(core);
    core.dir.on_offline(Box::new(move |reason: &str| {
        if let Some(core) = weak.upgrade() {
            core.control
                .submit(ControlEvent::DirOffline(reason.to_owned()));
        }
    }));
}

fn info(partition: &Partition) -> PartitionInfo {
    let offline = (partition.state() != State::Online).then(|| {
        partition
            .offline_reason()
            .map_or("deleted".to_owned(), |reason| reason.to_string())
    });
    PartitionInfo {
        log_start: partition.log_start(),
        high_watermark: partition.high_watermark(),
        last_stable: partition.last_stable(),
        log_end: partition.log_end(),
        durable_end: partition.durable_end(),
        leader_epoch: partition.leader_epoch(),
        size_bytes: partition.size_bytes(),
        offline,
        directory: partition.directory(),
        segments: partition.segments(),
        producers: partition.producers(),
    }
}
