//! Topic name or id to partitions: what the data path looks up per request.
//!
//! Published after the metadata image and after the directories exist; so the image can name a
//! topic that is a moment away here, never the other way round for a new topic.

use std::collections::HashMap;
use std::sync::Arc;

use mqlog_log::{LogConfig, Partition, TopicId};
use mqlog_protocol::topic::TopicRef;

/// One topic that this broker holds.
pub(crate) struct Route {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    /// Only the broker writes to it.
    pub(crate) internal: bool,
    pub(crate) config: Arc<LogConfig>,
    /// By partition index.
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Route {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// All topics that this broker holds.
#[derive(Default, Clone)]
pub(crate) struct Router {
    by_id: HashMap<TopicId, Arc<Route>>,
    by_name: HashMap<Arc<str>, Arc<Route>>,
}

impl Router {
    pub(crate) fn get(&self, topic: TopicRef<'_>) -> Option<&Arc<Route>> {
        match topic {
            TopicRef::Name(name) => self.by_name.get(name),
            TopicRef::Id(id) => self.by_id.get(&id),
        }
    }

    pub(crate) fn put(&mut self, route: Arc<Route>) {
        self.by_id.insert(route.id, route.clone());
        self.by_name.insert(route.name.clone(), route);
    }

    pub(crate) fn remove(&mut self, id: &TopicId) {
        let Some(route) = self.by_id.remove(id) else {
            return;
        };
        // The name may have been given to another topic in the same proposal.
        if self
            .by_name
            .get(&route.name)
            .is_some_and(|named| named.id == *id)
        {
            self.by_name.remove(&route.name);
        }
    }
}
