//! `_native.Producer`: a producer's life in Python. Records go through `capi_producer`.

use std::sync::Arc;
use std::time::Duration;

use mqlog_client::config::ProducerConfig;
use mqlog_client::fork::Kept;
use mqlog_client::producer::{Producer, Waited, Waiting};
use mqlog_record::Codec;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::capi_producer::{Handle, HANDLE};
use crate::client::Client;
use crate::client_config::{field, milliseconds, time};
use crate::client_error::Raise;

/// Adds `Producer` to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<NativeProducer>()
}

/// The producer of a client. Its settings come from `mqlog.client.config`.
#[pyclass(frozen, name = "Producer", module = "mqlog._native")]
struct NativeProducer(Kept<Arc<Producer>>);

#[pymethods]
impl NativeProducer {
    /// Starts it; nothing is connected to before it is used.
    #[new]
    fn new(py: Python<'_>, client: &Client, config: &Bound<'_, PyDict>) -> PyResult<Self> {
        let cluster = client.core(py)?.cluster.clone();
        let producer = Producer::start(cluster, settings(config)?);
        Ok(NativeProducer(Kept::new("producer", Arc::new(producer))))
    }

    /// For Cython: what the functions of `_PRODUCER_API` take.
    #[getter]
    fn _handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let handle: Handle = Kept::new("producer", self.0.get().or_raise(py)?.clone());
        PyCapsule::new_with_value(py, handle, HANDLE)
    }

    /// The partitions of a topic by number: how many there are, and which have a leader. Waits up
    /// to `max_block_ms` until they are known.
    fn partitions(&self, py: Python<'_>, topic: u32) -> PyResult<(i32, Vec<i32>)> {
        let producer = self.0.get().or_raise(py)?;
        let mut waiting = Waiting::default();
        loop {
            let found = py.detach(|| producer.partitions(topic, &mut waiting));
            if let Some(found) = found.or_raise(py)? {
                return Ok(found);
            }
            py.check_signals()?;
        }
    }

    /// Sends what is there, and waits for its end. False if `timeout_ms` passed before; None
    /// waits for as long as it takes.
    #[pyo3(signature = (timeout_ms=None))]
    fn flush(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<bool> {
        let producer = self.0.get().or_raise(py)?;
        let end = timeout_ms.map(|ms| std::time::Instant::now() + milliseconds(ms));
        let last = producer.flush();
        loop {
            let left = match end {
                Some(end) => end.saturating_duration_since(std::time::Instant::now()),
                None => Duration::MAX,
            };
            if py.detach(|| producer.flushed(last, left)) == Waited::Done {
                return Ok(true);
            }
            py.check_signals()?;
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Records that are not done; 0 in a child of the process that made it.
    fn unfinished(&self) -> u64 {
        self.0.get().map_or(0, |producer| producer.unfinished())
    }

    /// Ends it: what is not done fails. Does not wait; twice is as good as once.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let producer = self.0.get().or_raise(py)?;
        py.detach(|| producer.close());
        Ok(())
    }

    /// Counters by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let producer = self.0.get().or_raise(py)?;
        let metrics = PyDict::new(py);
        for (name, value) in producer.metrics().counts() {
            metrics.set_item(name, value)?;
        }
        metrics.set_item("memory_used", producer.memory_used())?;
        metrics.set_item("memory_limit", producer.config().buffer_memory)?;
        Ok(metrics)
    }
}

fn settings(config: &Bound<'_, PyDict>) -> PyResult<ProducerConfig> {
    let name: String = field(config, "codec")?;
    let codec = Codec::ALL.into_iter().find(|codec| codec.name() == name);
    Ok(ProducerConfig {
        acks: field(config, "acks")?,
        idempotent: field(config, "idempotent")?,
        linger: time(config, "linger_ms")?,
        batch_size: field(config, "batch_size")?,
        buffer_memory: field(config, "buffer_memory")?,
        max_block: time(config, "max_block_ms")?,
        max_request_size: field(config, "max_request_size")?,
        max_in_flight: field(config, "max_in_flight")?,
        delivery_timeout: time(config, "delivery_timeout_ms")?,
        retries: field(config, "retries")?,
        codec: codec.ok_or_else(|| PyValueError::new_err(format!("codec {name:?}")))?,
        level: field(config, "level")?,
    })
}
