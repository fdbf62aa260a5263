//! The engine's handle in Python. Every call that may wait releases the interpreter.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mqlog_log::{Durability, LogError, TopicId};
use mqlog_server::{BrokerConfig, ConfigError, ControlQueue, Listener, PartitionInfo, StartError};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::control_values;
use crate::image::Image;

mod errors {
    pyo3::import_exception!(mqlog.errors, ConfigError);
    pyo3::import_exception!(mqlog.errors, DataDirectoryInUseError);
    pyo3::import_exception!(mqlog.errors, StartError);
    pyo3::import_exception!(mqlog.errors, UsedAfterForkError);
}

/// Longest wait of one `poll`, seconds.
const LONGEST_POLL: f64 = 3600.0;

type SegmentTuple = (i64, u64, i64, i64, bool);
type ProducerTuple = (i64, i16, i32, i64, i32, i64);

/// Adds `Broker` and `Image` to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Broker>()?;
    module.add_class::<Image>()
}

/// One broker: made, started, asked, ended; may be started once.
#[pyclass(frozen, module = "mqlog._native")]
struct Broker {
    queue: Arc<ControlQueue>,
    state: Mutex<State>,
    pid: u32,
}

enum State {
    Made(Box<BrokerConfig>),
    Starting,
    Running(Arc<mqlog_server::Broker>),
    Ended,
}

#[pymethods]
impl Broker {
    /// Checks the configuration; opens nothing. ConfigError names the setting.
    #[new]
    #[pyo3(signature = (*, data_dir, listeners, advertised=None, durability="fsync", io_threads=0,
        settings=BTreeMap::new()))]
    fn new(
        data_dir: std::path::PathBuf,
        listeners: Vec<(String, String, u16)>,
        advertised: Option<(String, u16)>,
        durability: &str,
        io_threads: usize,
        settings: BTreeMap<String, String>,
    ) -> PyResult<Self> {
        let mut config = BrokerConfig::new(data_dir, SocketAddr::from(([127, 0, 0, 1], 0)));
        config.listeners = listeners
            .into_iter()
            .map(listener)
            .collect::<PyResult<_>>()?;
        config.advertised = advertised;
        config.durability = match durability {
            "fsync" => Durability::Fsync,
            "os" => Durability::Os,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "durability {durability:?}: expected fsync or os"
                )))
            }
        };
        if io_threads > 0 {
            config.io_threads = io_threads;
        }
        for (name, value) in &settings {
            config.set(name, value).map_err(illegal)?;
        }
        Ok(Broker {
            queue: Arc::default(),
            state: Mutex::new(State::Made(Box::new(config))),
            pid: std::process::id(),
        })
    }

    /// Recovers the data directory and serves it; what it found. StartError says what is in the
    /// way.
    fn start<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.check_pid()?;
        let config = match self.exchange(State::Starting) {
            State::Made(config) => *config,
            other => {
                self.exchange(other);
                return Err(PyRuntimeError::new_err("a broker is started once"));
            }
        };
        let queue = self.queue.clone();
        let started = py.detach(|| mqlog_server::Broker::start(config, queue));
        let broker = Arc::new(started.map_err(|error| {
            self.exchange(State::Ended);
            refused(error)
        })?);
        self.exchange(State::Running(broker.clone()));
        facts(py, &broker)
    }

    /// At most `max_events` events, and the horizon in ms: all that arrived before it are in these
    /// or earlier ones. Waits for the first at most `timeout_s` seconds, or until `wake`.
    fn poll<'py>(
        &self,
        py: Python<'py>,
        max_events: usize,
        timeout_s: f64,
    ) -> PyResult<(Vec<Bound<'py, PyTuple>>, u64)> {
        let broker = self.running()?;
        let timeout = if timeout_s.is_nan() { 0.0 } else { timeout_s };
        let timeout = Duration::from_secs_f64(timeout.clamp(0.0, LONGEST_POLL));
        let clock = || broker.mono_ns();
        let (events, horizon_ns) = py.detach(|| self.queue.take(max_events, timeout, clock));
        let events = events
            .into_iter()
            .map(|event| control_values::event(py, event))
            .collect::<PyResult<_>>()?;
        Ok((events, horizon_ns / 1_000_000))
    }

    /// Carries effects out, in order. ValueError if one is none; nothing of the list is done then.
    fn submit(&self, py: Python<'_>, effects: Vec<Bound<'_, PyTuple>>) -> PyResult<()> {
        let broker = self.running()?;
        let effects: Vec<_> = effects
            .iter()
            .map(control_values::effect)
            .collect::<PyResult<_>>()?;
        py.detach(|| effects.into_iter().for_each(|effect| effect.run(&broker)));
        Ok(())
    }

    /// Now, in ms of the clock of `poll`'s horizon.
    fn mono_ms(&self) -> PyResult<u64> {
        Ok(self.running()?.mono_ns() / 1_000_000)
    }

    /// Ends the `poll` that waits, or the next one. Any thread, any time.
    fn wake(&self) {
        self.queue.wake();
    }

    /// The metadata as it is now.
    fn image(&self) -> PyResult<Image> {
        Ok(Image(self.running()?.image()))
    }

    /// The offset after the last record of the metadata log.
    fn metadata_end(&self) -> PyResult<i64> {
        Ok(self.running()?.metadata_end())
    }

    /// Bytes of a partition's log, or None if it is not here.
    fn partition_size(
        &self,
        py: Python<'_>,
        topic_id: TopicId,
        index: i32,
    ) -> PyResult<Option<u64>> {
        let info = self.info(py, topic_id, index)?;
        Ok(info.map(|info| info.size_bytes))
    }

    /// A partition's segments, oldest first: base offset, bytes, largest timestamp, when it was
    /// begun (both ms, -1: unknown), whether it is the active one. None while it is offline.
    fn segments(
        &self,
        py: Python<'_>,
        topic_id: TopicId,
        index: i32,
    ) -> PyResult<Vec<SegmentTuple>> {
        let info = self.info(py, topic_id, index)?;
        let online = info.filter(|info| info.offline.is_none());
        let segments = online.into_iter().flat_map(|info| info.segments);
        Ok(segments
            .map(|s| {
                (
                    s.base_offset,
                    s.size,
                    s.max_timestamp,
                    s.created_ms,
                    s.active,
                )
            })
            .collect())
    }

    /// A partition's producers: id, epoch, last sequence, last timestamp, coordinator epoch, first
    /// offset of the open transaction. None if the partition is not here.
    fn producers(
        &self,
        py: Python<'_>,
        topic_id: TopicId,
        index: i32,
    ) -> PyResult<Option<Vec<ProducerTuple>>> {
        let info = self.info(py, topic_id, index)?;
        Ok(info.map(|info| info.producers.iter().map(producer).collect()))
    }

    /// Marks of a partition: log_start, high_watermark, last_stable, log_end, durable_end,
    /// leader_epoch, size_bytes, offline, directory. None if it is not here.
    fn partition<'py>(
        &self,
        py: Python<'py>,
        topic_id: TopicId,
        index: i32,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(info) = self.info(py, topic_id, index)? else {
            return Ok(None);
        };
        let marks = PyDict::new(py);
        marks.set_item("log_start", info.log_start)?;
        marks.set_item("high_watermark", info.high_watermark)?;
        marks.set_item("last_stable", info.last_stable)?;
        marks.set_item("log_end", info.log_end)?;
        marks.set_item("durable_end", info.durable_end)?;
        marks.set_item("leader_epoch", info.leader_epoch)?;
        marks.set_item("size_bytes", info.size_bytes)?;
        marks.set_item("offline", info.offline)?;
        marks.set_item("directory", info.directory)?;
        Ok(Some(marks))
    }

    /// Every counter by its name; "requests" by API key; "turns": times of the I/O threads' turns
    /// as (upper bound in microseconds, count).
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let broker = self.running()?;
        let stats = PyDict::new(py);
        let snapshot = broker.stats();
        for (name, value) in &snapshot.counters {
            stats.set_item(name, value)?;
        }
        for (name, value) in broker.dir_stats().named() {
            stats.set_item(format!("log_{name}"), value)?;
        }
        stats.set_item("requests", snapshot.requests)?;
        stats.set_item("turns", snapshot.turns)?;
        Ok(stats)
    }

    /// Fault, for tests in this process: append produce requests and close the connection instead
    /// of answering.
    fn drop_produce_answers(&self, on: bool) -> PyResult<()> {
        self.running()?.faults().drop_produce_answers(on);
        Ok(())
    }

    /// Closes the listeners, finishes what was begun, flushes, marks the directory clean.
    fn shutdown(&self, py: Python<'_>) {
        self.end(py, mqlog_server::Broker::shutdown);
    }

    /// Ends as a crash of the process would: nothing is finished, flushed or marked.
    fn kill(&self, py: Python<'_>) {
        self.end(py, mqlog_server::Broker::kill);
    }
}

impl Broker {
    fn exchange(&self, state: State) -> State {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *held, state)
    }

    fn check_pid(&self) -> PyResult<()> {
        if std::process::id() == self.pid {
            return Ok(());
        }
        Err(errors::UsedAfterForkError::new_err(format!(
            "this broker was made by process {}; a fork has none of its threads: start another",
            self.pid
        )))
    }

    fn running(&self) -> PyResult<Arc<mqlog_server::Broker>> {
        self.check_pid()?;
        let held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            State::Running(broker) => Ok(broker.clone()),
            State::Made(_) | State::Starting => {
                Err(PyRuntimeError::new_err("the broker has not been started"))
            }
            State::Ended => Err(PyRuntimeError::new_err("the broker has ended")),
        }
    }

    fn end(&self, py: Python<'_>, how: fn(&mqlog_server::Broker)) {
        if std::process::id() != self.pid {
            return;
        }
        if let State::Running(broker) = self.exchange(State::Ended) {
            py.detach(|| {
                how(&broker);
                drop(broker);
            });
        }
    }

    fn info(&self, py: Python<'_>, id: TopicId, index: i32) -> PyResult<Option<PartitionInfo>> {
        let broker = self.running()?;
        Ok(py.detach(|| broker.partition_info(id, index)))
    }
}

fn listener((name, host, port): (String, String, u16)) -> PyResult<Listener> {
    let ip: IpAddr = host
        .parse()
        .map_err(|_| PyValueError::new_err(format!("listener {host:?}: not an IP address")))?;
    Ok(Listener {
        name,
        address: SocketAddr::new(ip, port),
    })
}

fn producer(p: &mqlog_log::ProducerInfo) -> ProducerTuple {
    let last = p.last_sequence();
    (
        p.id,
        p.epoch,
        last,
        p.last_timestamp,
        p.coordinator_epoch,
        p.first_transaction_offset,
    )
}

fn illegal(error: ConfigError) -> PyErr {
    errors::ConfigError::new_err((error.name, error.value, error.expected))
}

fn refused(error: StartError) -> PyErr {
    let text = error.to_string();
    match error {
        StartError::Log(LogError::Locked { .. }) => errors::DataDirectoryInUseError::new_err(text),
        _ => errors::StartError::new_err(text),
    }
}

fn facts<'py>(py: Python<'py>, broker: &mqlog_server::Broker) -> PyResult<Bound<'py, PyDict>> {
    let report = broker.start_report();
    let stats = broker.dir_stats();
    let addresses: Vec<(String, u16)> = (broker.local_addrs().iter())
        .map(|address| (address.ip().to_string(), address.port()))
        .collect();
    let facts = PyDict::new(py);
    facts.set_item("addresses", addresses)?;
    facts.set_item("cluster_id", broker.cluster_id())?;
    facts.set_item("clean", report.clean)?;
    facts.set_item("partitions", report.partitions)?;
    facts.set_item("orphans", report.orphans.clone())?;
    facts.set_item("offline", report.offline.clone())?;
    facts.set_item("checked_bytes", stats.recovered_bytes)?;
    facts.set_item("cut_bytes", stats.cut_bytes)?;
    facts.set_item("quarantined_ranges", stats.quarantined_ranges)?;
    Ok(facts)
}
