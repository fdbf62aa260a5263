//! Answers of a coordinator that wait until what it appended before them is durable.
//!
//! One ledger per partition of a coordinator's topic. Effects of the control plane reach it in
//! order; flushes end waits on the flusher's thread. `docs/internals/groups.md` says what an answer
//! promises, and what breaks a ledger.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use mqlog_log::{check_batch, AppendMode, Partition, State, TopicId, Wake};

use crate::control::ControlEvent;
use crate::core::Core;
use crate::mailbox::{lock, Letter};
use crate::replay::replay;

/// A coordinator's batch is as large as it has to be.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// All ledgers of a broker.
#[derive(Default)]
pub(crate) struct Ledgers {
    by_partition: Mutex<HashMap<(TopicId, i32), Arc<Ledger>>>,
}

struct Ledger {
    topic_id: TopicId,
    index: i32,
    core: Weak<Core>,
    this: Weak<Ledger>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    partition: Option<Arc<Partition>>,
    /// The high watermark must reach this before anything that comes now may be told.
    commit_at: i64,
    /// Where the log ended when the control plane asked for a mark.
    mark: i64,
    broken: bool,
    waking: bool,
    held: VecDeque<(i64, Held)>,
}

/// What waits.
enum Held {
    /// An answer; the partitions it has to wait for after this one.
    Answer {
        token: u64,
        body: Vec<u8>,
        next: Vec<i32>,
    },
    /// The removal of what lies below the mark.
    Trim { id: u64, below: i64 },
}

/// Appends a batch to a coordinator's partition. If that fails its ledger is broken.
pub(crate) fn append(core: &Arc<Core>, topic_id: TopicId, index: i32, mut batch: Vec<u8>) {
    let ledger = ledger(core, topic_id, index);
    if lock(&ledger.entries).broken {
        return;
    }
    match append_to(core, topic_id, index, &mut batch) {
        Ok((partition, commit_at)) => {
            let mut entries = lock(&ledger.entries);
            entries.partition = Some(partition);
            entries.commit_at = entries.commit_at.max(commit_at);
        }
        Err(reason) => ledger.end(core, &reason),
    }
}

fn append_to(
    core: &Core,
    topic_id: TopicId,
    index: i32,
    batch: &mut [u8],
) -> Result<(Arc<Partition>, i64), String> {
    let Some(partition) = core.dir.partition(topic_id, index) else {
        return Err("the partition is gone".to_owned());
    };
    let mut config = (*partition.config()).clone();
    config.max_message_bytes = MAX_BATCH_BYTES;
    let now_ms = core.clock.now_ms();
    let checked = check_batch(batch, &config, false, now_ms).map_err(|e| e.to_string())?;
    let mut results = Vec::with_capacity(1);
    partition.append(&mut [checked], AppendMode::Assign, &mut results, now_ms);
    match results.pop() {
        Some(Ok(appended)) => {
            core.dir.request_flush(&partition, 0);
            Ok((partition, appended.commit_at))
        }
        Some(Err(error)) => Err(error.to_string()),
        None => Err("nothing was appended".to_owned()),
    }
}

/// Answers the request of `token` when all that was appended to these partitions is durable.
pub(crate) fn reply_after(
    core: &Arc<Core>,
    token: u64,
    body: Vec<u8>,
    topic_id: TopicId,
    partitions: &[i32],
) {
    let Some((first, next)) = partitions.split_first() else {
        core.tokens.deliver(token, Letter::Reply(body));
        return;
    };
    let next = next.to_vec();
    let answer = Held::Answer { token, body, next };
    ledger(core, topic_id, *first).hold(core, answer);
}

/// Remembers where a partition's log ends, for [`trim`].
pub(crate) fn mark(core: &Arc<Core>, topic_id: TopicId, index: i32) {
    if let Some(partition) = core.dir.partition(topic_id, index) {
        lock(&ledger(core, topic_id, index).entries).mark = partition.log_end();
    }
}

/// Removes what lies below the mark when all that was appended since is durable.
pub(crate) fn trim(core: &Arc<Core>, id: u64, topic_id: TopicId, index: i32) {
    let ledger = ledger(core, topic_id, index);
    let below = lock(&ledger.entries).mark;
    ledger.hold(core, Held::Trim { id, below });
}

/// Mends a ledger and reads its log, in the pool.
pub(crate) fn load(core: &Arc<Core>, id: u64, topic_id: TopicId, index: i32) {
    let ledger = ledger(core, topic_id, index);
    let partition = core.dir.partition(topic_id, index);
    {
        let mut entries = lock(&ledger.entries);
        entries.broken = false;
        entries.partition.clone_from(&partition);
        if let Some(partition) = &partition {
            entries.commit_at = entries.commit_at.max(partition.log_end());
        }
    }
    let to = core.clone();
    core.dir.spawn(Box::new(move || {
        let result = match partition {
            Some(partition) => replay(&partition).map_err(|error| error.to_string()),
            None => Err("this broker has no such partition".to_owned()),
        };
        to.control.submit(ControlEvent::Loaded { id, result });
    }));
}

fn ledger(core: &Arc<Core>, topic_id: TopicId, index: i32) -> Arc<Ledger> {
    let mut ledgers = lock(&core.ledgers.by_partition);
    let made = || {
        Arc::new_cyclic(|this| Ledger {
            topic_id,
            index,
            core: Arc::downgrade(core),
            this: this.clone(),
            entries: Mutex::default(),
        })
    };
    ledgers
        .entry((topic_id, index))
        .or_insert_with(made)
        .clone()
}

impl Ledgers {
    /// Forgets the ledgers of a topic that is gone.
    pub(crate) fn forget(&self, topic_id: TopicId) {
        lock(&self.by_partition).retain(|at, _| at.0 != topic_id);
    }
}

impl Wake for Ledger {
    fn wake(&self) {
        lock(&self.entries).waking = false;
        if let (Some(core), Some(ledger)) = (self.core.upgrade(), self.this.upgrade()) {
            ledger.settle(&core);
        }
    }
}

impl Ledger {
    fn hold(self: &Arc<Self>, core: &Arc<Core>, what: Held) {
        {
            let mut entries = lock(&self.entries);
            if !entries.broken {
                let at = entries.commit_at;
                entries.held.push_back((at, what));
            } else {
                drop(entries);
                what.fail(core, "its log is being read again");
                return;
            }
        }
        self.settle(core);
    }

    /// Lets go of what has waited long enough; sees to it that the rest is looked at again.
    fn settle(self: &Arc<Self>, core: &Arc<Core>) {
        loop {
            let (ready, wait) = self.ready(core);
            for what in ready {
                what.go_on(core, self);
            }
            let Some((partition, at)) = wait else {
                return;
            };
            if !partition.wait_for(at, self.clone()) {
                return;
            }
            lock(&self.entries).waking = false;
        }
    }

    /// What may go, and, if something is left that nobody will wake, what to wait for.
    fn ready(&self, core: &Arc<Core>) -> (Vec<Held>, Option<(Arc<Partition>, i64)>) {
        let mut entries = lock(&self.entries);
        let Some(partition) = entries.partition.clone() else {
            // Nothing was ever appended.
            return (entries.held.drain(..).map(|one| one.1).collect(), None);
        };
        let mut ready = Vec::new();
        while let Some((at, _)) = entries.held.front() {
            if partition.high_watermark() < *at {
                break;
            }
            ready.extend(entries.held.pop_front().map(|one| one.1));
        }
        let Some((at, _)) = entries.held.front() else {
            return (ready, None);
        };
        let at = *at;
        if let Some(reason) = lost(&partition) {
            drop(entries);
            self.end(core, &reason);
            return (ready, None);
        }
        if std::mem::replace(&mut entries.waking, true) {
            return (ready, None);
        }
        (ready, Some((partition, at)))
    }

    /// Breaks the ledger: nothing that waits, or comes before a load, is told to anybody.
    fn end(&self, core: &Arc<Core>, reason: &str) {
        let held = {
            let mut entries = lock(&self.entries);
            if std::mem::replace(&mut entries.broken, true) {
                return;
            }
            std::mem::take(&mut entries.held)
        };
        for (_, what) in held {
            what.fail(core, reason);
        }
        core.control.submit(ControlEvent::AppendFailed {
            topic_id: self.topic_id,
            partition: self.index,
            reason: reason.to_owned(),
        });
    }
}

impl Held {
    fn go_on(self, core: &Arc<Core>, ledger: &Ledger) {
        match self {
            Held::Answer { token, body, next } => {
                reply_after(core, token, body, ledger.topic_id, &next);
            }
            Held::Trim { id, below } => {
                let partition = lock(&ledger.entries).partition.clone();
                let to = core.clone();
                core.dir.spawn(Box::new(move || {
                    let result = match partition {
                        Some(partition) => partition
                            .delete_records(below)
                            .map(|_| ())
                            .map_err(|error| error.to_string()),
                        None => Err("nothing was written".to_owned()),
                    };
                    to.control.submit(ControlEvent::Trimmed { id, result });
                }));
            }
        }
    }

    fn fail(self, core: &Arc<Core>, reason: &str) {
        match self {
            Held::Answer { token, .. } => {
                core.tokens.deliver(token, Letter::Close);
            }
            Held::Trim { id, .. } => core.control.submit(ControlEvent::Trimmed {
                id,
                result: Err(reason.to_owned()),
            }),
        }
    }
}

/// Why what was appended will never be committed.
fn lost(partition: &Partition) -> Option<String> {
    match partition.state() {
        State::Deleted => Some("the partition was deleted".to_owned()),
        _ => partition.offline_reason().map(|reason| reason.to_string()),
    }
}
