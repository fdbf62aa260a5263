//! The producer: records go into batches, batches into requests, and futures learn what became of
//! them. `docs/internals/client.md` has the rules.
//!
//! | file | holds |
//! |---|---|
//! | `partitioner` | which partition |
//! | `memory`, `batch`, `split` | `buffer_memory`; one batch; two of one |
//! | `accumulator`, `append` | where records wait; how one gets there |
//! | `lane`, `idempotence` | order and numbers of one partition; the producer id |
//! | `sender`, `dispatch`, `settle` | the task: what it takes, sends, and makes of answers |
//! | `request`, `answer` | the bytes of a request; what an answer means |
//! | `completions`, `metrics` | who is told; what is counted |

mod accumulator;
mod answer;
mod append;
mod batch;
mod completions;
mod dispatch;
mod idempotence;
mod lane;
mod memory;
mod metrics;
pub mod partitioner;
mod request;
mod sender;
mod settle;
mod split;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use append::{Append, Appended, Refused};
pub use batch::{BatchState, Failure, Outcome, Slot};
pub use completions::{Completions, Taken};
pub use memory::Turn;
pub use metrics::Snapshot;
pub use mqlog_record::{Content, HeaderRef};

use crate::cluster::Cluster;
use crate::config::ProducerConfig;
use crate::ClientError;
use accumulator::{now_ms, Accumulator};
use sender::Sender;

/// The longest that a wait takes before its caller looks for signals.
const TURN: Duration = Duration::from_millis(100);
/// Records that are appended without letting others in.
const CHUNK: usize = 256;
/// The same in bytes, more or less.
const CHUNK_BYTES: usize = 64 * 1024;

/// A producer. Any thread may use it, in the process that made it (`fork::Kept` sees to that).
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Accumulator>,
    cluster: Arc<Cluster>,
}

/// Where a record went.
#[derive(Debug)]
pub struct Put {
    /// Its batch; `None` if it is the one that the caller expected.
    pub batch: Option<Arc<BatchState>>,
    /// The partition.
    pub partition: i32,
    /// Its place in the batch.
    pub index: u32,
    /// Its timestamp, in ms.
    pub timestamp: i64,
}

/// A caller's patience: how long it has waited, and its place among those who wait.
#[derive(Debug, Default)]
pub struct Waiting {
    since: Option<Instant>,
    turn: Turn,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for is there.
    Done,
    /// Not yet: the caller looks for signals and at its own time, and comes back.
    NotYet,
}

/// Many records, one after the other.
pub trait Source {
    /// Record `index`; `None` if it cannot be read.
    fn row(&self, index: usize) -> Option<Row<'_>>;
}

/// One of many records.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// In ms; `None` is now.
    pub timestamp: Option<i64>,
    /// The partition, if it is given.
    pub partition: Option<i32>,
}

/// Records of one call that follow each other in one batch.
#[derive(Debug)]
pub struct Piece {
    /// The batch.
    pub batch: Arc<BatchState>,
    /// The place of the first of them.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Where the records of one call went.
#[derive(Debug, Default)]
pub struct Pieces {
    list: Vec<Piece>,
    /// By partition: the last of its pieces, plus 1.
    last: Vec<u32>,
}

impl Pieces {
    /// The pieces, by the first record of each.
    pub fn list(&self) -> &[Piece] {
        &self.list
    }

    fn add(&mut self, appended: &Appended<'_>) {
        let partition = usize::try_from(appended.batch.slot.partition).unwrap_or(0);
        if self.last.len() <= partition {
            self.last.resize(partition + 1, 0);
        }
        let Some(last) = self.last.get_mut(partition) else {
            return;
        };
        let piece = (*last as usize)
            .checked_sub(1)
            .and_then(|at| self.list.get_mut(at));
        match piece {
            Some(piece)
                if Arc::ptr_eq(&piece.batch, appended.batch)
                    && piece.first + piece.count == appended.index =>
            {
                piece.count += 1;
            }
            _ => {
                self.list.push(Piece {
                    batch: appended.batch.clone(),
                    first: appended.index,
                    count: 1,
                });
                *last = self.list.len() as u32;
            }
        }
    }
}

impl Producer {
    /// Starts a producer; it connects to nobody until it is used.
    pub fn start(cluster: Arc<Cluster>, config: ProducerConfig) -> Producer {
        let shared = Arc::new(Accumulator::new(config));
        let (events, received) = tokio::sync::mpsc::unbounded_channel();
        let sender = Sender::new(shared.clone(), cluster.clone(), events);
        cluster.io().spawn(sender.run(received));
        Producer { shared, cluster }
    }

    /// What it was told.
    pub fn config(&self) -> &ProducerConfig {
        &self.shared.config
    }

    /// The number of a topic, under which records name it. Its metadata is asked for.
    pub fn topic(&self, name: &str) -> u32 {
        let (number, new) = self.shared.topic(name);
        if new {
            self.cluster.want(name);
            self.shared.wake.notify_one();
        }
        number
    }

    /// The partitions of a topic, all and those with a leader; waits for one turn if they are not
    /// known.
    pub fn partitions(
        &self,
        topic: u32,
        waiting: &mut Waiting,
    ) -> Result<Option<(i32, Vec<i32>)>, ClientError> {
        let ticket = self.shared.bell.ticket();
        if let Some(found) = self.shared.partitions(topic)? {
            return Ok(Some(found));
        }
        match self.wait_turn(ticket, &Refused::Metadata, waiting) {
            true => Ok(None),
            false => Err(self.patience_ended(topic, &Refused::Metadata)),
        }
    }

    /// Appends one record, without waiting. `expected` is the batch that the caller has at hand.
    #[inline]
    pub fn append(
        &self,
        record: &Append<'_>,
        expected: *const BatchState,
        waiting: &mut Waiting,
    ) -> Result<Put, Refused> {
        let mut appender = self.shared.lock();
        let appended = appender.append(record, &mut waiting.turn)?;
        let put = Put {
            partition: appended.batch.slot.partition,
            batch: (Arc::as_ptr(appended.batch) != expected).then(|| appended.batch.clone()),
            index: appended.index,
            timestamp: appended.timestamp,
        };
        drop(appender);
        if waiting.turn != 0 {
            self.shared.memory.leave(&mut waiting.turn);
        }
        Ok(put)
    }

    /// The same, after waiting for one turn if it could not be appended at once. The caller comes
    /// back while the answer is [`Refused::Memory`] or [`Refused::Metadata`], and calls
    /// [`Producer::give_up`] if it does not.
    pub fn append_patiently(
        &self,
        record: &Append<'_>,
        waiting: &mut Waiting,
    ) -> Result<Put, Refused> {
        let ticket = self.shared.bell.ticket();
        let refused = match self.append(record, std::ptr::null(), waiting) {
            Err(refused @ (Refused::Memory { .. } | Refused::Metadata)) => refused,
            answer => return answer,
        };
        match self.wait_turn(ticket, &refused, waiting) {
            true => Err(refused),
            false => Err(Refused::Error(self.patience_ended(record.topic, &refused))),
        }
    }

    /// Appends the rows `from..to` of a source, and says how many; fewer only with a reason. Rows
    /// name a partition themselves, or `partition` does; their timestamp or the one given or now
    /// counts. Waits for a turn first if the last call was refused.
    #[allow(clippy::too_many_arguments)]
    pub fn append_many<S: Source>(
        &self,
        topic: u32,
        partition: Option<i32>,
        acks: i16,
        timestamp: Option<i64>,
        source: &S,
        rows: std::ops::Range<usize>,
        pieces: &mut Pieces,
        waiting: &mut Waiting,
    ) -> (usize, Result<(), Refused>) {
        let ticket = self.shared.bell.ticket();
        let start = rows.start;
        let mut at = rows.start;
        while at < rows.end {
            let (chunk, mut bytes) = (rows.end.min(at + CHUNK), 0);
            let now = timestamp.unwrap_or_else(now_ms);
            let mut appender = self.shared.lock();
            while at < chunk && bytes < CHUNK_BYTES {
                let Some(row) = source.row(at) else {
                    let text = format!("record {at} cannot be read");
                    return (at - start, Err(Refused::Error(ClientError::State(text))));
                };
                let record = Append {
                    topic,
                    partition: row.partition.or(partition),
                    acks,
                    timestamp: Some(row.timestamp.unwrap_or(now)),
                    content: Content {
                        key: row.key,
                        value: row.value,
                        headers: &[],
                    },
                };
                bytes += row.value.map_or(0, <[u8]>::len);
                match appender.append(&record, &mut waiting.turn) {
                    Ok(appended) => pieces.add(&appended),
                    Err(refused) => {
                        drop(appender);
                        let refused = self.wait_refused(topic, ticket, refused, waiting);
                        return (at - start, Err(refused));
                    }
                }
                at += 1;
            }
            drop(appender);
            waiting.since = None;
            if waiting.turn != 0 {
                self.shared.memory.leave(&mut waiting.turn);
            }
        }
        (at - start, Ok(()))
    }

    fn wait_refused(
        &self,
        topic: u32,
        ticket: u32,
        refused: Refused,
        waiting: &mut Waiting,
    ) -> Refused {
        if !matches!(refused, Refused::Memory { .. } | Refused::Metadata) {
            return refused;
        }
        match self.wait_turn(ticket, &refused, waiting) {
            true => refused,
            false => Refused::Error(self.patience_ended(topic, &refused)),
        }
    }

    /// Gives up waiting for memory.
    pub fn give_up(&self, waiting: &mut Waiting) {
        self.shared.memory.leave(&mut waiting.turn);
    }

    /// Waits for a ring, a turn long; false if `max_block` has passed.
    fn wait_turn(&self, ticket: u32, why: &Refused, waiting: &mut Waiting) -> bool {
        let since = *waiting.since.get_or_insert_with(Instant::now);
        let left = self.config().max_block.saturating_sub(since.elapsed());
        let hopeless = matches!(why, Refused::Metadata) && self.hopeless().is_some();
        if left.is_zero() || hopeless {
            self.shared.memory.leave(&mut waiting.turn);
            return false;
        }
        self.shared.bell.wait(ticket, left.min(TURN));
        true
    }

    /// An error that no waiting mends: a password, a certificate, a broker too old.
    fn hopeless(&self) -> Option<ClientError> {
        self.cluster.last_error().filter(|error| {
            matches!(
                error,
                ClientError::Authentication { .. }
                    | ClientError::Tls { .. }
                    | ClientError::Unsupported { .. }
            )
        })
    }

    fn patience_ended(&self, topic: u32, refused: &Refused) -> ClientError {
        let shared = &self.shared;
        let last = self.cluster.last_error();
        let last = last.map(|error| error.to_string()).unwrap_or_default();
        match refused {
            Refused::Memory { size } => ClientError::BufferFull {
                size: *size,
                used: shared.memory.used(),
                limit: shared.memory.limit(),
                waited: shared.config.max_block,
                last,
            },
            _ => {
                if let Some(error) = self.hopeless() {
                    return error;
                }
                let names = shared.names();
                let name = names.get(topic as usize).map_or("?", |name| &**name);
                let snapshot = self.cluster.snapshot();
                let told = snapshot.topics.get(name).map(|topic| topic.error.message());
                ClientError::Timeout {
                    what: format!("learning the partitions of topic {name}"),
                    limit: shared.config.max_block,
                    setting: "max_block_ms",
                    last: told.map_or(last, str::to_owned),
                }
            }
        }
    }

    /// Waits, one turn or `limit`, for the end of a record. Its batch lingers no longer.
    pub fn wait(&self, batch: &BatchState, index: u32, limit: Duration) -> Waited {
        let ticket = self.shared.bell.ticket();
        if batch.outcome(index).is_some() {
            return Waited::Done;
        }
        self.shared.make_due(batch);
        self.wait_until(ticket, limit, || batch.outcome(index).is_some())
    }

    /// Lets no batch linger; gives what [`Producer::flushed`] waits for.
    pub fn flush(&self) -> u64 {
        self.shared.flush()
    }

    /// Waits, one turn or `limit`, until all is done that was there at [`Producer::flush`].
    pub fn flushed(&self, last: u64, limit: Duration) -> Waited {
        let ticket = self.shared.bell.ticket();
        if self.shared.is_flushed(last) {
            return Waited::Done;
        }
        self.wait_until(ticket, limit, || self.shared.is_flushed(last))
    }

    fn wait_until(&self, ticket: u32, limit: Duration, done: impl Fn() -> bool) -> Waited {
        self.shared.bell.wait(ticket, limit.min(TURN));
        match done() {
            true => Waited::Done,
            false => Waited::NotYet,
        }
    }

    /// Records that are not done.
    pub fn unfinished(&self) -> u64 {
        self.shared.unfinished()
    }

    /// Ends it: what is not done fails. Does not wait. Doing it again is nothing.
    pub fn close(&self) {
        self.shared.abort(&ClientError::Closed("producer"));
        self.shared.completions.close();
    }

    /// Where tokens of watched batches arrive.
    pub fn completions(&self) -> &Arc<Completions> {
        &self.shared.completions
    }

    /// What was counted so far.
    pub fn metrics(&self) -> Snapshot {
        self.shared.metrics.snapshot()
    }

    /// Bytes of batches that are not done, of `buffer_memory`.
    pub fn memory_used(&self) -> usize {
        self.shared.memory.used()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.close();
    }
}
