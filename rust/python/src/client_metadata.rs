//! A snapshot of a cluster's metadata, for decisions.

use std::sync::Arc;

use mqlog_client::fork::Kept;
use mqlog_client::metadata::{self, Broker, Partition, Topic};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::client_error::Raise;

/// What was known at one moment. It never changes.
#[pyclass(frozen, module = "mqlog._native")]
pub struct Metadata(pub Kept<Arc<metadata::Metadata>>);

/// Id, host, port, rack.
type BrokerTuple = (i32, String, u16, Option<String>);
/// Index, leader (-1: none), leader epoch (-1: unknown), error code, replicas, in sync, offline.
type PartitionTuple = (i32, i32, i32, i16, Vec<i32>, Vec<i32>, Vec<i32>);
/// Name, id, whether it is internal, error code.
type TopicTuple<'py> = (String, Bound<'py, PyBytes>, bool, i16);

impl Metadata {
    fn get(&self, py: Python<'_>) -> PyResult<&metadata::Metadata> {
        Ok(self.0.get().or_raise(py)?)
    }
}

#[pymethods]
impl Metadata {
    /// Counts the changes: a larger one is newer.
    #[getter]
    fn revision(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.get(py)?.revision)
    }

    /// How long ago brokers were last asked, milliseconds; None before the first answer.
    #[getter]
    fn age_ms(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let updated = self.get(py)?.updated;
        Ok(updated.map(|at| at.elapsed().as_secs_f64() * 1000.0))
    }

    /// The cluster's id, where brokers tell.
    #[getter]
    fn cluster_id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.get(py)?.cluster_id.as_deref().map(str::to_owned))
    }

    /// The controller's node, or -1.
    #[getter]
    fn controller(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self.get(py)?.controller.unwrap_or(-1))
    }

    /// The brokers: (id, host, port, rack), by id.
    fn brokers(&self, py: Python<'_>) -> PyResult<Vec<BrokerTuple>> {
        Ok(self.get(py)?.brokers.values().map(broker).collect())
    }

    /// The names of the topics that exist, sorted.
    fn topics(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let known = self.get(py)?;
        let exist = |name: &&Arc<str>| known.topic(name).is_some();
        let mut names: Vec<String> = known
            .topics
            .keys()
            .filter(exist)
            .map(ToString::to_string)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// A topic: (name, id of 16 bytes, internal, error code); None if nobody asked about it. The
    /// code says whether it exists.
    fn topic<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<TopicTuple<'py>>> {
        Ok(self.get(py)?.topics.get(name).map(|found| topic(py, found)))
    }

    /// The name of the topic with an id, or None.
    fn topic_name(&self, py: Python<'_>, topic_id: [u8; 16]) -> PyResult<Option<String>> {
        let found = self.get(py)?.topic_by_id(&topic_id);
        Ok(found.map(|topic| topic.name.to_string()))
    }

    /// A topic's partitions, by index: (index, leader, leader epoch, error code, replicas, in sync,
    /// offline); leader and epoch may be -1. None if the topic does not exist or is not known.
    fn partitions(&self, py: Python<'_>, topic: &str) -> PyResult<Option<Vec<PartitionTuple>>> {
        let found = self.get(py)?.topic(topic);
        Ok(found.map(|topic| topic.partitions.iter().map(partition).collect()))
    }

    /// A partition's leader and its epoch (-1: unknown); None without a leader.
    fn leader(&self, py: Python<'_>, topic: &str, partition: i32) -> PyResult<Option<(i32, i32)>> {
        Ok(self.get(py)?.leader(topic, partition))
    }
}

fn broker(broker: &Broker) -> BrokerTuple {
    let rack = broker.rack.as_deref().map(str::to_owned);
    (broker.id, broker.host.to_string(), broker.port, rack)
}

fn topic<'py>(py: Python<'py>, topic: &Topic) -> TopicTuple<'py> {
    (
        topic.name.to_string(),
        PyBytes::new(py, &topic.id),
        topic.internal,
        topic.error.code(),
    )
}

fn partition(partition: &Partition) -> PartitionTuple {
    (
        partition.index,
        partition.leader,
        partition.epoch,
        partition.error.code(),
        partition.replicas.clone(),
        partition.isr.clone(),
        partition.offline.clone(),
    )
}
