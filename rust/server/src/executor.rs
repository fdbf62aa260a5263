//! The metadata executor: the one writer of the metadata, on its own thread.
//!
//! A proposal becomes directories, then durable records, then the published image, then the
//! published router, then an event; a deletion is unpublished before its directories go. It
//! answers no client.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{channel, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;

use mqlog_log::{LogConfig, TopicId};
use mqlog_meta::{Image, MetaLog, MetaRecord, RESOURCE_BROKER, RESOURCE_TOPIC};
use mqlog_protocol::topic::TopicRef;

use crate::control::ControlEvent;
use crate::core::Core;
use crate::metadata::internal;
use crate::router::{Route, Router};
use crate::threads;
use crate::topic_config::log_config;

struct Proposal {
    id: u64,
    records: Vec<MetaRecord>,
}

/// The handle of the executor thread.
pub(crate) struct Executor {
    proposals: Option<Sender<Proposal>>,
    handle: Option<JoinHandle<()>>,
}

impl Executor {
    pub(crate) fn start(core: Arc<Core>, mut log: MetaLog) -> io::Result<Executor> {
        let (proposals, receiver) = channel::<Proposal>();
        let handle = threads::spawn("mqlog-meta".to_owned(), move || {
            for Proposal { id, records } in receiver {
                let result = apply(&core, &mut log, &records);
                core.control.submit(ControlEvent::Proposed { id, result });
            }
        })?;
        Ok(Executor {
            proposals: Some(proposals),
            handle: Some(handle),
        })
    }

    /// Queues a proposal. False: the executor has ended.
    pub(crate) fn propose(&self, id: u64, records: Vec<MetaRecord>) -> bool {
        let proposal = Proposal { id, records };
        self.proposals
            .as_ref()
            .is_some_and(|sender| sender.send(proposal).is_ok())
    }

    /// Finishes what is queued and ends the thread.
    pub(crate) fn stop(&mut self) {
        self.proposals = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

fn apply(core: &Core, log: &mut MetaLog, records: &[MetaRecord]) -> Result<(), String> {
    let before = core.image.load_full();
    let mut after = (*before).clone();
    after.apply_all(records).map_err(|e| e.to_string())?;
    let new = new_partitions(core, &before, &after, records);
    if !new.is_empty() {
        core.dir
            .create_partitions(&new)
            .map_err(|e| e.to_string())?;
    }
    log.propose(records).map_err(|e| e.to_string())?;
    let touched = touched(records, &before, &after);
    let removed: Vec<TopicId> = touched
        .iter()
        .filter(|id| after.topic(id).is_none())
        .copied()
        .collect();
    core.image.store(Arc::new(after));
    core.metadata_end.store(log.log_end(), SeqCst);
    let image = core.image.load_full();
    let mut router = (**core.router.load()).clone();
    removed.iter().for_each(|id| router.remove(id));
    for id in &touched {
        if let Some(route) = route(core, &image, &router, id) {
            router.put(route);
        }
    }
    core.router.store(Arc::new(router));
    for id in removed {
        core.dir.delete_topic(id);
        core.ledgers.forget(id);
    }
    Ok(())
}

type NewPartition = (TopicId, i32, Arc<LogConfig>, i32);

fn new_partitions(
    core: &Core,
    before: &Image,
    after: &Image,
    records: &[MetaRecord],
) -> Vec<NewPartition> {
    let named: BTreeSet<TopicId> = records
        .iter()
        .filter_map(|record| match record {
            MetaRecord::Partition { topic_id, .. } => Some(*topic_id),
            _ => None,
        })
        .collect();
    let mut new = Vec::new();
    for id in named {
        let Some(topic) = after.topic(&id) else {
            continue;
        };
        let known = before.topic(&id).map_or(0, |topic| topic.partitions.len());
        if known >= topic.partitions.len() {
            continue;
        }
        let config = Arc::new(log_config(&topic.name, after, &core.config));
        for (index, state) in topic.partitions.iter().enumerate().skip(known) {
            new.push((id, index as i32, config.clone(), state.leader_epoch));
        }
    }
    new
}

/// Topics whose route may have to change.
fn touched(records: &[MetaRecord], before: &Image, after: &Image) -> HashSet<TopicId> {
    let mut ids = HashSet::new();
    for record in records {
        match record {
            MetaRecord::Topic { id, .. } | MetaRecord::RemoveTopic { id } => {
                ids.insert(*id);
            }
            MetaRecord::Partition { topic_id, .. } => {
                ids.insert(*topic_id);
            }
            MetaRecord::Config {
                resource_type: RESOURCE_TOPIC,
                name,
                ..
            } => {
                ids.extend(after.topic_named(name).map(|topic| topic.id));
            }
            MetaRecord::Config {
                resource_type: RESOURCE_BROKER,
                ..
            }
            | MetaRecord::RaiseLeaderEpochs { .. } => {
                ids.extend(after.topics().map(|topic| topic.id));
            }
            MetaRecord::Config { .. } | MetaRecord::ProducerIds { .. } => {}
        }
    }
    ids.retain(|id| before.topic(id).is_some() || after.topic(id).is_some());
    ids
}

/// The route of a topic as the image has it; tells its partitions of new settings and epochs.
pub(crate) fn route(
    core: &Core,
    image: &Image,
    router: &Router,
    id: &TopicId,
) -> Option<Arc<Route>> {
    let topic = image.topic(id)?;
    let config = log_config(&topic.name, image, &core.config);
    let before = router.get(TopicRef::Id(*id));
    let config = match before {
        Some(route) if *route.config == config => route.config.clone(),
        _ => Arc::new(config),
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (index, state) in topic.partitions.iter().enumerate() {
        let partition = core.dir.partition(*id, index as i32)?;
        partition.set_config(config.clone());
        if partition.leader_epoch() < state.leader_epoch {
            partition.set_leader_epoch(state.leader_epoch);
        }
        partitions.push(partition);
    }
    Some(Arc::new(Route {
        id: *id,
        name: topic.name.clone(),
        internal: internal(&topic.name),
        config,
        partitions,
    }))
}
