//! A snapshot of the metadata, for decisions.

use std::collections::HashMap;
use std::sync::Arc;

use mqlog_meta::{Topic, TopicId};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The metadata at one moment.
#[pyclass(frozen, module = "mqlog._native")]
pub struct Image(pub Arc<mqlog_meta::Image>);

/// Id, name and, by partition: leader, leader epoch, replicas, in-sync replicas.
type TopicTuple<'py> = (
    Bound<'py, PyBytes>,
    String,
    Vec<(i32, i32, Vec<i32>, Vec<i32>)>,
);

type ShapeTuple<'py> = (Bound<'py, PyBytes>, String, usize);

#[pymethods]
impl Image {
    /// The topic of that name, or None.
    fn topic<'py>(&self, py: Python<'py>, name: &str) -> Option<TopicTuple<'py>> {
        self.0.topic_named(name).map(|topic| tuple(py, topic))
    }

    /// The topic of that id, or None.
    fn topic_by_id<'py>(&self, py: Python<'py>, topic_id: TopicId) -> Option<TopicTuple<'py>> {
        self.0.topic(&topic_id).map(|topic| tuple(py, topic))
    }

    /// Id, name and number of partitions of the topic of that name, or None.
    fn shape<'py>(&self, py: Python<'py>, name: &str) -> Option<ShapeTuple<'py>> {
        self.0.topic_named(name).map(|topic| shape(py, topic))
    }

    /// Id, name and number of partitions of the topic of that id, or None.
    fn shape_by_id<'py>(&self, py: Python<'py>, topic_id: TopicId) -> Option<ShapeTuple<'py>> {
        self.0.topic(&topic_id).map(|topic| shape(py, topic))
    }

    /// All names, sorted.
    fn topic_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.topics().map(|t| t.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// The dynamic configs of a resource.
    fn configs(&self, resource_type: i8, name: &str) -> HashMap<String, String> {
        let found = self.0.configs(resource_type, name);
        let pairs = found.into_iter().flat_map(|configs| configs.iter());
        pairs
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    /// Type and name of every resource that has dynamic configs.
    fn config_resources(&self) -> Vec<(i8, String)> {
        let all = self.0.all_configs();
        all.map(|(kind, name, _)| (kind, name.to_owned())).collect()
    }

    /// The first producer id that no block has covered.
    fn next_producer_id(&self) -> i64 {
        self.0.next_producer_id()
    }
}

fn shape<'py>(py: Python<'py>, topic: &Topic) -> ShapeTuple<'py> {
    let id = PyBytes::new(py, &topic.id);
    (id, topic.name.to_string(), topic.partitions.len())
}

fn tuple<'py>(py: Python<'py>, topic: &Topic) -> TopicTuple<'py> {
    let partitions = (topic.partitions.iter())
        .map(|p| {
            (
                p.leader,
                p.leader_epoch,
                p.replicas.to_vec(),
                p.isr.to_vec(),
            )
        })
        .collect();
    (
        PyBytes::new(py, &topic.id),
        topic.name.to_string(),
        partitions,
    )
}
