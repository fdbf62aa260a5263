//! Events as the tuples that `mqlog.broker.control` takes, and its effects as the engine's values.
//!
//! The tuples are written down in `_native.pyi`.

use mqlog_meta::{MetaRecord, TopicId};
use mqlog_server::{Broker, ControlEvent, ControlRequest, FileOp, Replay};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// One event as a tuple that begins with its name.
pub fn event(py: Python<'_>, event: ControlEvent) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        ControlEvent::Request(request) => request_tuple(py, request),
        ControlEvent::Disconnected { token } => ("disconnected", token).into_pyobject(py),
        ControlEvent::Proposed { id, result } => ("proposed", id, result.err()).into_pyobject(py),
        ControlEvent::FilesDone { id, results } => {
            let results: Vec<(i64, i16, Option<String>)> = results
                .into_iter()
                .map(|result| match result {
                    Ok(value) => (value, 0, None),
                    Err((code, message)) => (-1, code, Some(message)),
                })
                .collect();
            ("files_done", id, results).into_pyobject(py)
        }
        ControlEvent::Loaded { id, result } => loaded_tuple(py, id, result),
        ControlEvent::Trimmed { id, result } => ("trimmed", id, result.err()).into_pyobject(py),
        ControlEvent::AppendFailed {
            topic_id,
            partition,
            reason,
        } => (
            "append_failed",
            PyBytes::new(py, &topic_id),
            partition,
            reason,
        )
            .into_pyobject(py),
        ControlEvent::DirOffline(reason) => ("dir_offline", reason).into_pyobject(py),
    }
}

fn loaded_tuple(
    py: Python<'_>,
    id: u64,
    result: Result<Replay, String>,
) -> PyResult<Bound<'_, PyTuple>> {
    let (error, replay) = match result {
        Ok(replay) => (None, replay),
        Err(error) => (Some(error), Replay::default()),
    };
    let offsets = PyList::empty(py);
    for (group, topic, index, value) in replay.offsets {
        offsets.append((group, topic, index, PyBytes::new(py, &value)))?;
    }
    let groups = PyList::empty(py);
    for (group, value) in replay.groups {
        groups.append((group, PyBytes::new(py, &value)))?;
    }
    ("loaded", id, error, offsets, groups, replay.bytes).into_pyobject(py)
}

fn request_tuple(py: Python<'_>, request: ControlRequest) -> PyResult<Bound<'_, PyTuple>> {
    (
        "request",
        request.token,
        request.api_key,
        request.api_version,
        request.client_id,
        PyBytes::new(py, &request.body),
        (request.peer.ip().to_string(), request.peer.port()),
        (request.local.ip().to_string(), request.local.port()),
        request.listener,
        request.arrival_ns,
    )
        .into_pyobject(py)
}

/// An effect, ready to be carried out.
pub enum Effect {
    Reply(u64, PyBackedBytes),
    ReplyMetadata(u64),
    Close(u64),
    Propose(u64, Vec<MetaRecord>),
    Files(u64, Vec<FileOp>),
    Append(TopicId, i32, PyBackedBytes),
    ReplyAfter(u64, PyBackedBytes, TopicId, Vec<i32>),
    Load(u64, TopicId, i32),
    Mark(TopicId, i32),
    Trim(u64, TopicId, i32),
}

impl Effect {
    /// Has the broker do it; none of these waits.
    pub fn run(self, broker: &Broker) {
        match self {
            Effect::Reply(token, body) => drop(broker.reply(token, &*body)),
            Effect::ReplyMetadata(token) => drop(broker.reply_metadata(token)),
            Effect::Close(token) => drop(broker.close(token)),
            Effect::Propose(id, records) => broker.propose(id, records),
            Effect::Files(id, operations) => broker.files(id, operations),
            Effect::Append(topic_id, index, batch) => broker.append(topic_id, index, &*batch),
            Effect::ReplyAfter(token, body, topic_id, indexes) => {
                broker.reply_after(token, &*body, topic_id, &indexes);
            }
            Effect::Load(id, topic_id, index) => broker.load(id, topic_id, index),
            Effect::Mark(topic_id, index) => broker.mark(topic_id, index),
            Effect::Trim(id, topic_id, index) => broker.trim(id, topic_id, index),
        }
    }
}

/// An effect from its tuple.
pub fn effect(tuple: &Bound<'_, PyTuple>) -> PyResult<Effect> {
    let number = || -> PyResult<u64> { tuple.get_item(1)?.extract() };
    Ok(match name(tuple)?.as_str() {
        "reply" => Effect::Reply(number()?, tuple.get_item(2)?.extract()?),
        "reply_metadata" => Effect::ReplyMetadata(number()?),
        "close" => Effect::Close(number()?),
        "propose" => Effect::Propose(number()?, list(tuple, record)?),
        "files" => Effect::Files(number()?, list(tuple, file_op)?),
        "append" => {
            let (_, topic_id, index, batch): (String, TopicId, i32, PyBackedBytes) =
                tuple.extract()?;
            Effect::Append(topic_id, index, batch)
        }
        "reply_after" => {
            type Fields = (String, u64, PyBackedBytes, TopicId, Vec<i32>);
            let (_, token, body, topic_id, indexes): Fields = tuple.extract()?;
            Effect::ReplyAfter(token, body, topic_id, indexes)
        }
        "load" => {
            let (_, id, topic_id, index): (String, u64, TopicId, i32) = tuple.extract()?;
            Effect::Load(id, topic_id, index)
        }
        "mark" => {
            let (_, topic_id, index): (String, TopicId, i32) = tuple.extract()?;
            Effect::Mark(topic_id, index)
        }
        "trim" => {
            let (_, id, topic_id, index): (String, u64, TopicId, i32) = tuple.extract()?;
            Effect::Trim(id, topic_id, index)
        }
        other => return Err(unknown("effect", other)),
    })
}

fn record(tuple: &Bound<'_, PyTuple>) -> PyResult<MetaRecord> {
    Ok(match name(tuple)?.as_str() {
        "topic" => {
            let (_, id, name): (String, TopicId, String) = tuple.extract()?;
            MetaRecord::Topic { id, name }
        }
        "partition" => {
            type Fields = (String, TopicId, i32, i32, i32, Vec<i32>, Vec<i32>);
            let (_, topic_id, index, leader, leader_epoch, replicas, isr): Fields =
                tuple.extract()?;
            MetaRecord::Partition {
                topic_id,
                index,
                leader,
                leader_epoch,
                replicas,
                isr,
            }
        }
        "remove_topic" => {
            let (_, id): (String, TopicId) = tuple.extract()?;
            MetaRecord::RemoveTopic { id }
        }
        "config" => {
            let (_, resource_type, name, key, value): (String, i8, String, String, Option<String>) =
                tuple.extract()?;
            MetaRecord::Config {
                resource_type,
                name,
                key,
                value,
            }
        }
        "producer_ids" => {
            let (_, next): (String, i64) = tuple.extract()?;
            MetaRecord::ProducerIds { next }
        }
        other => return Err(unknown("metadata record", other)),
    })
}

fn file_op(tuple: &Bound<'_, PyTuple>) -> PyResult<FileOp> {
    let (name, topic_id, partition, offset): (String, TopicId, i32, i64) = tuple.extract()?;
    Ok(match name.as_str() {
        "delete_records" => FileOp::DeleteRecords {
            topic_id,
            partition,
            offset,
        },
        "advance_log_start" => FileOp::AdvanceLogStart {
            topic_id,
            partition,
            offset,
        },
        other => return Err(unknown("file operation", other)),
    })
}

fn name(tuple: &Bound<'_, PyTuple>) -> PyResult<String> {
    tuple.get_item(0)?.extract()
}

fn list<T>(
    tuple: &Bound<'_, PyTuple>,
    convert: impl Fn(&Bound<'_, PyTuple>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let items: Vec<Bound<'_, PyTuple>> = tuple.get_item(2)?.extract()?;
    items.iter().map(convert).collect()
}

fn unknown(what: &str, name: &str) -> PyErr {
    PyValueError::new_err(format!("unknown {what} {name:?}"))
}
