//! The producer: records go into batches, batches into requests, and futures learn what became of
//! them. `docs/internals/client.md` has the rules.
//!
//! | file | holds |
//! |---|---|
//! | `partitioner` | which partition |
//! | `memory`, `batch`, `split` | `buffer_memory`; one batch; two of one |
//! | `accumulator`, `append`, `many` | where records wait; how one gets there, and many |
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
mod many;
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
pub use many::{Common, Piece, Pieces, Row, Source};
pub use memory::Turn;
pub use metrics::Snapshot;
pub use mqlog_record::{Content, HeaderRef};

use mqlog_protocol::ErrorCode;

use crate::cluster::Cluster;
use crate::config::ProducerConfig;
use crate::ClientError;
use accumulator::Accumulator;
use sender::Sender;

/// The longest that a wait takes before its caller looks for signals.
const TURN: Duration = Duration::from_millis(100);
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

/// Tickets of the two bells that an append may wait for.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    room: u32,
    news: u32,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for is there.
    Done,
    /// Not yet: the caller looks for signals and at its own time, and comes back.
    NotYet,
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
        let ticket = self.ticket();
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
        let ticket = self.ticket();
        let refused = match self.append(record, std::ptr::null(), waiting) {
            Err(refused @ (Refused::Memory { .. } | Refused::Metadata)) => refused,
            answer => return answer,
        };
        match self.wait_turn(ticket, &refused, waiting) {
            true => Err(refused),
            false => Err(Refused::Error(self.patience_ended(record.topic, &refused))),
        }
    }

    /// Gives up waiting for memory.
    pub fn give_up(&self, waiting: &mut Waiting) {
        self.shared.memory.leave(&mut waiting.turn);
    }

    /// Waits for a ring, a turn long; false if `max_block` has passed.
    fn wait_turn(&self, ticket: Ticket, why: &Refused, waiting: &mut Waiting) -> bool {
        let since = *waiting.since.get_or_insert_with(Instant::now);
        let left = self.config().max_block.saturating_sub(since.elapsed());
        let hopeless = matches!(why, Refused::Metadata) && self.hopeless().is_some();
        if left.is_zero() || hopeless {
            self.shared.memory.leave(&mut waiting.turn);
            return false;
        }
        match why {
            Refused::Memory { .. } => self.shared.memory.bell().wait(ticket.room, left.min(TURN)),
            _ => self.shared.bell.wait(ticket.news, left.min(TURN)),
        };
        true
    }

    /// To be taken before a record is tried.
    fn ticket(&self) -> Ticket {
        Ticket {
            room: self.shared.memory.bell().ticket(),
            news: self.shared.bell.ticket(),
        }
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
                let told = snapshot.topics.get(name).map(|topic| topic.error);
                let told = told.filter(|error| *error != ErrorCode::None);
                ClientError::Timeout {
                    what: format!("learning the partitions of topic {name}"),
                    limit: shared.config.max_block,
                    setting: "max_block_ms",
                    last: told.map_or(last, |error| error.message().to_owned()),
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
