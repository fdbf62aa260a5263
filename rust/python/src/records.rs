//! Building batches from Python objects: for tests and tools, one record at a time.

use mqlog_record::{control_batch, BatchBuilder, Codec, ControlRecord, HeaderRef, Marker};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyBytes;

/// Timestamp in ms, key, value, headers.
type RecordArg = (
    i64,
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
    Vec<(PyBackedStr, Option<PyBackedBytes>)>,
);

/// Adds `build_batch` and `build_control_batch` to `mqlog._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(build_batch, module)?)?;
    module.add_function(wrap_pyfunction!(build_control_batch, module)?)
}

fn refused(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// One batch of the records `(timestamp, key, value, headers)`, headers being `(str, bytes | None)`
/// pairs. `codec` is a name ("none", "gzip", "snappy", "lz4", "zstd"), `level` on its own scale;
/// `log_append_time` in ms stamps the whole batch. ValueError if the batch cannot be written.
#[pyfunction]
#[pyo3(signature = (records, codec="none", *, level=None, base_offset=0, leader_epoch=-1,
    producer_id=-1, producer_epoch=-1, base_sequence=-1, transactional=false,
    log_append_time=None))]
#[allow(clippy::too_many_arguments)]
fn build_batch<'py>(
    py: Python<'py>,
    records: Vec<RecordArg>,
    codec: &str,
    level: Option<i32>,
    base_offset: i64,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    log_append_time: Option<i64>,
) -> PyResult<Bound<'py, PyBytes>> {
    let codec = Codec::ALL
        .into_iter()
        .find(|known| known.name() == codec)
        .ok_or_else(|| {
            refused(format!(
                "codec {codec:?} is unknown; one of none, gzip, snappy, lz4, zstd"
            ))
        })?;
    let mut builder = BatchBuilder::new(codec)
        .base_offset(base_offset)
        .leader_epoch(leader_epoch)
        .producer(producer_id, producer_epoch, base_sequence);
    if let Some(level) = level {
        builder = builder.level(level);
    }
    if transactional {
        builder = builder.transactional();
    }
    for (timestamp, key, value, headers) in &records {
        let headers: Vec<HeaderRef<'_>> = headers
            .iter()
            .map(|(k, v)| (k.as_bytes(), v.as_deref()))
            .collect();
        builder
            .append(key.as_deref(), value.as_deref(), *timestamp, &headers)
            .map_err(refused)?;
    }
    let batch = match log_append_time {
        Some(now) => builder.build_log_append_time(now),
        None => builder.build(),
    };
    Ok(PyBytes::new(py, &batch.map_err(refused)?))
}

/// A transaction's end marker of one producer; `timestamp` in ms.
#[pyfunction]
#[pyo3(signature = (*, commit, producer_id, producer_epoch, coordinator_epoch=0, timestamp=0))]
fn build_control_batch(
    py: Python<'_>,
    commit: bool,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp: i64,
) -> PyResult<Bound<'_, PyBytes>> {
    let marker = if commit {
        Marker::Commit
    } else {
        Marker::Abort
    };
    let content = ControlRecord {
        marker,
        coordinator_epoch,
    };
    let batch = control_batch(content, producer_id, producer_epoch, timestamp).map_err(refused)?;
    Ok(PyBytes::new(py, &batch))
}
