//! A consumer's core in Python: what is read from where, what needs a decision, and the heartbeats.
//!
//! Records do not pass through here: Cython takes them by the functions of `capi_consumer.rs`.

use std::sync::atomic::AtomicI32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqlog_client::config::{ConsumerConfig, MemberConfig};
use mqlog_client::fork::Kept;
use mqlog_client::heartbeat::{Heartbeat, Standing};
use mqlog_client::positions::{Event, Start};
use mqlog_protocol::fetch_response::AbortedTransaction;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use crate::capi_consumer::HANDLE;
use crate::client::Client;
use crate::client_config::{field, milliseconds, time};
use crate::client_error::{raised, Raise};

/// Adds `Consumer` and `Facts` to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Consumer>()?;
    module.add_class::<Facts>()
}

/// The longest wait before Python's signal handlers may run.
const SLICE: Duration = Duration::from_millis(100);

/// A partition and where to begin: topic, number, offset or None, leader epoch or -1.
type StartArg = (String, i32, Option<i64>, i32);

/// What a consumer is made of.
struct Core {
    consumer: Arc<mqlog_client::Consumer>,
    heartbeat: Mutex<Option<Heartbeat>>,
    /// How the member stood when that was asked last.
    seen: Mutex<Option<Standing>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.consumer.close();
    }
}

/// Reads partitions, ahead of who takes the records.
#[pyclass(frozen, module = "mqlog._native")]
pub struct Consumer {
    core: Kept<Core>,
    /// Keeps the connections.
    client: Py<Client>,
}

/// What is known of a partition. Offsets are -1 if they are unknown.
#[pyclass(frozen, get_all, module = "mqlog._native")]
struct Facts {
    /// What the user has not got yet begins here; None without a position.
    position: Option<i64>,
    /// Leader epoch of what lies before it; -1 if unknown.
    epoch: i32,
    /// Whether it is paused.
    paused: bool,
    /// Up to where consumers may read.
    high_watermark: i64,
    /// Up to where every transaction is decided.
    last_stable: i64,
    /// The first offset.
    log_start: i64,
}

impl From<mqlog_client::positions::Facts> for Facts {
    fn from(facts: mqlog_client::positions::Facts) -> Facts {
        Facts {
            position: facts.position,
            epoch: facts.epoch,
            paused: facts.paused,
            high_watermark: facts.marks.high_watermark,
            last_stable: facts.marks.last_stable,
            log_start: facts.marks.log_start,
        }
    }
}

fn starts(given: Vec<StartArg>) -> Vec<Start> {
    let start = |(topic, partition, offset, epoch): StartArg| Start {
        topic: topic.into(),
        partition,
        offset,
        epoch,
    };
    given.into_iter().map(start).collect()
}

impl Consumer {
    fn core(&self, py: Python<'_>) -> PyResult<&Core> {
        self.core.get().or_raise(py)
    }

    fn consumer(&self, py: Python<'_>) -> PyResult<&mqlog_client::Consumer> {
        Ok(&self.core(py)?.consumer)
    }
}

#[pymethods]
impl Consumer {
    /// A consumer on a client's connections, without partitions. `config` is what
    /// `mqlog.client.config` makes of the settings. Whatever happens rings the client's bell.
    #[new]
    fn new(
        py: Python<'_>,
        client: Bound<'_, Client>,
        config: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let config = ConsumerConfig {
            min_bytes: field(config, "min_bytes")?,
            max_wait: time(config, "max_wait_ms")?,
            max_bytes: field(config, "max_bytes")?,
            partition_max_bytes: field(config, "partition_max_bytes")?,
            prefetch_max_bytes: field(config, "prefetch_max_bytes")?,
            check_crcs: field(config, "check_crcs")?,
            read_committed: field(config, "read_committed")?,
            sessions: field(config, "sessions")?,
            max_decompressed_bytes: field(config, "max_decompressed_bytes")?,
        };
        let base = client.get().core(py)?;
        let consumer = mqlog_client::Consumer::new(base.cluster.clone(), config, base.bell.clone());
        let core = Core {
            consumer: Arc::new(consumer),
            heartbeat: Mutex::default(),
            seen: Mutex::default(),
        };
        Ok(Consumer {
            core: Kept::new("consumer", core),
            client: client.unbind(),
        })
    }

    /// For Cython: what the functions of `_CONSUMER_API` take.
    #[getter]
    fn _handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let handle = Kept::new("consumer", self.core(py)?.consumer.clone());
        PyCapsule::new_with_value(py, handle, HANDLE)
    }

    /// The client it was made on.
    #[getter]
    fn client(&self, py: Python<'_>) -> Py<Client> {
        self.client.clone_ref(py)
    }

    /// Raises what keeps the consumer from working: it is closed, or of another process.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.consumer(py)?.check().or_raise(py)
    }

    /// Makes these the partitions that are read. Those read already go on where they are; an
    /// offset of None waits for `seek`.
    fn assign(&self, py: Python<'_>, partitions: Vec<StartArg>) -> PyResult<()> {
        self.consumer(py)?.assign(starts(partitions)).or_raise(py)
    }

    /// Reads more partitions; those read already go on where they are.
    fn add(&self, py: Python<'_>, partitions: Vec<StartArg>) -> PyResult<()> {
        self.consumer(py)?.add(starts(partitions)).or_raise(py)
    }

    /// Reads partitions no longer, and drops what was read ahead of them.
    fn remove(&self, py: Python<'_>, partitions: Vec<(String, i32)>) -> PyResult<()> {
        let gone: Vec<_> = partitions
            .into_iter()
            .map(|(topic, partition)| (Arc::from(topic), partition))
            .collect();
        self.consumer(py)?.remove(&gone).or_raise(py)
    }

    /// Goes on at an offset; at None, waits for the next seek. `epoch` is the leader epoch of what
    /// lies before. False if the partition is not read.
    #[pyo3(signature = (topic, partition, offset, epoch=-1))]
    fn seek(
        &self,
        py: Python<'_>,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
        epoch: i32,
    ) -> PyResult<bool> {
        self.consumer(py)?
            .seek(topic, partition, offset, epoch)
            .or_raise(py)
    }

    /// Answers "validate": the leader has what was fetched.
    fn validated(&self, py: Python<'_>, topic: &str, partition: i32) -> PyResult<bool> {
        self.consumer(py)?.validated(topic, partition).or_raise(py)
    }

    /// Answers "validate": the leader's log ends at `end`, below what was fetched. What was read
    /// ahead is dropped. True if the user has got more than that: then a seek is awaited.
    fn truncated(&self, py: Python<'_>, topic: &str, partition: i32, end: i64) -> PyResult<bool> {
        self.consumer(py)?
            .truncated(topic, partition, end)
            .or_raise(py)
    }

    /// Gives out nothing of a partition, or goes on. False if it is not read.
    fn pause(&self, py: Python<'_>, topic: &str, partition: i32, on: bool) -> PyResult<bool> {
        self.consumer(py)?.pause(topic, partition, on).or_raise(py)
    }

    /// What is known of a partition; None if it is not read.
    fn facts(&self, py: Python<'_>, topic: &str, partition: i32) -> PyResult<Option<Facts>> {
        let facts = self.consumer(py)?.facts(topic, partition);
        Ok(facts.map(Facts::from))
    }

    /// All partitions that are read: `(topic, partition, facts)`.
    fn all_facts(&self, py: Python<'_>) -> PyResult<Vec<(String, i32, Facts)>> {
        let all = self.consumer(py)?.all_facts().into_iter();
        Ok(all
            .map(|(topic, partition, facts)| (topic.to_string(), partition, facts.into()))
            .collect())
    }

    /// What needs a decision, as tuples that begin with a word:
    /// `("unset", topic, partition, offset)`: seek; the offset is what the broker did not have, or
    /// None. `("validate", topic, partition, offset, epoch)`: find out whether the leader has what
    /// was fetched up to there; answer by `validated`, `truncated` or `seek`.
    /// `("error", exception, topic, partition, offset)`: raise; "", -1 and -1 if it is about none.
    /// A partition is told every time until it goes on.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let events = self.consumer(py)?.events();
        events.iter().map(|event| told(py, event)).collect()
    }

    /// Whether there are records to take, or something to decide that was not told yet.
    fn is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.consumer(py)?.is_ready())
    }

    /// Waits until it is ready or the member stands otherwise than `standing` told last, at most so
    /// many milliseconds. Runs signal handlers and raises what they raise. False if the time has
    /// passed.
    fn wait(&self, py: Python<'_>, timeout_ms: f64) -> PyResult<bool> {
        let core = self.core(py)?;
        let end = Instant::now() + milliseconds(timeout_ms);
        loop {
            core.consumer.check().or_raise(py)?;
            let left = end.saturating_duration_since(Instant::now());
            if core.consumer.is_ready() || core.stands_anew() {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            py.detach(|| core.consumer.wait(left.min(SLICE)));
            py.check_signals()?;
        }
    }

    /// Keeps a member in its group, instead of the one before. `member`: group, member_id,
    /// instance_id, generation, coordinator (a node), heartbeat_interval_ms, session_timeout_ms,
    /// max_poll_interval_ms. Counts as a poll.
    fn heartbeat_start(&self, py: Python<'_>, member: &Bound<'_, PyDict>) -> PyResult<()> {
        let text = |name| field::<String>(member, name).map(Arc::from);
        let instance: Option<String> = field(member, "instance_id")?;
        let config = MemberConfig {
            group: text("group")?,
            member_id: text("member_id")?,
            instance_id: instance.map(Arc::from),
            generation: field(member, "generation")?,
            coordinator: field(member, "coordinator")?,
            heartbeat_interval: time(member, "heartbeat_interval_ms")?,
            session_timeout: time(member, "session_timeout_ms")?,
            max_poll_interval: time(member, "max_poll_interval_ms")?,
        };
        let core = self.core(py)?;
        core.consumer.check().or_raise(py)?;
        let base = self.client.get().core(py)?;
        let coordinator = Arc::new(AtomicI32::new(config.coordinator));
        let (cluster, bell) = (base.cluster.clone(), base.bell.clone());
        let started = Heartbeat::start(cluster, config, bell, coordinator);
        *locked(&core.seen) = None;
        let before = core.heart().replace(started);
        drop(before);
        Ok(())
    }

    /// No more heartbeats; the membership is left as it is.
    fn heartbeat_stop(&self, py: Python<'_>) -> PyResult<()> {
        let before = self.core(py)?.heart().take();
        drop(before);
        Ok(())
    }

    /// Somebody polls: `max_poll_interval_ms` counts from now.
    fn poll_mark(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(heartbeat) = &*self.core(py)?.heart() {
            heartbeat.mark_poll();
        }
        Ok(())
    }

    /// How the member stands: `(generation, word, code)`, the word being "fine", "rebalance",
    /// "lost" (by that error code) or "late" (nobody polled in time). None without heartbeats.
    fn standing(&self, py: Python<'_>) -> PyResult<Option<(i32, &'static str, i16)>> {
        let core = self.core(py)?;
        let heart = core.heart();
        let Some(heartbeat) = &*heart else {
            return Ok(None);
        };
        let standing = heartbeat.standing();
        *locked(&core.seen) = Some(standing);
        let (word, code) = match standing {
            Standing::Fine => ("fine", 0),
            Standing::Rebalance => ("rebalance", 0),
            Standing::Lost(code) => ("lost", code.code()),
            Standing::Left => ("late", 0),
            Standing::Broken => {
                return Err(PyRuntimeError::new_err(
                    "the heartbeats failed, which is a fault of mqlog",
                ))
            }
        };
        Ok(Some((heartbeat.generation(), word, code)))
    }

    /// Counters by name, and the bytes that are read ahead.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let consumer = self.consumer(py)?;
        let metrics = PyDict::new(py);
        for (name, value) in consumer.metrics().all() {
            metrics.set_item(name, value)?;
        }
        metrics.set_item("buffered_bytes", consumer.buffered())?;
        Ok(metrics)
    }

    /// Takes batches in as if a broker had sent them, for tests and fuzzers. `aborted` are pairs
    /// of a producer id and the first offset of its transaction. False if the partition waits for
    /// nothing.
    #[pyo3(signature = (topic, partition, batches, aborted=Vec::new()))]
    fn _feed(
        &self,
        py: Python<'_>,
        topic: &str,
        partition: i32,
        batches: &[u8],
        aborted: Vec<(i64, i64)>,
    ) -> PyResult<bool> {
        let one = |(producer_id, first_offset)| AbortedTransaction {
            producer_id,
            first_offset,
        };
        let aborted = aborted.into_iter().map(one).collect();
        let batches = Bytes::copy_from_slice(batches);
        let consumer = self.consumer(py)?;
        let fed = py.detach(|| consumer.feed(topic, partition, batches, aborted));
        fed.or_raise(py)
    }

    /// Ends reading and heartbeats; waits for nothing. Twice is as good as once. From any thread.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core(py)?;
        let before = core.heart().take();
        drop(before);
        py.detach(|| core.consumer.close());
        Ok(())
    }
}

impl Core {
    fn heart(&self) -> MutexGuard<'_, Option<Heartbeat>> {
        locked(&self.heartbeat)
    }

    /// Whether the member stands otherwise than it was last told, and not fine.
    fn stands_anew(&self) -> bool {
        let standing = self.heart().as_ref().map(Heartbeat::standing);
        let news = standing.is_some_and(|standing| standing != Standing::Fine);
        news && *locked(&self.seen) != standing
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Unset {
            topic,
            partition,
            out_of_range,
        } => ("unset", &**topic, *partition, *out_of_range).into_pyobject(py),
        Event::Validate {
            topic,
            partition,
            offset,
            epoch,
            ..
        } => ("validate", &**topic, *partition, *offset, *epoch).into_pyobject(py),
        Event::Error {
            error,
            topic,
            partition,
            offset,
        } => {
            let error = raised(py, error).into_value(py);
            ("error", error, &**topic, *partition, *offset).into_pyobject(py)
        }
    }
}
