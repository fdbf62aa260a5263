//! Many records of one call: appended run by run, a run being what follows each other in one batch.

use std::ops::Range;
use std::sync::Arc;

use super::accumulator::now_ms;
use super::append::{Append, Appender, Refused};
use super::batch::BatchState;
use super::memory::Turn;
use super::{Content, HeaderRef, Producer, Ticket, Waiting};
use crate::ClientError;

/// Bytes that are appended without letting others in, more or less.
const CHUNK_BYTES: usize = 64 * 1024;
/// The same in records.
const CHUNK: usize = 1024;

/// What the records of one call share.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// The topic's number.
    pub topic: u32,
    /// The partition of rows that name none.
    pub partition: Option<i32>,
    /// -1, 0 or 1.
    pub acks: i16,
    /// The timestamp, in ms, of rows that have none; `None` is now.
    pub timestamp: Option<i64>,
    /// The headers of each.
    pub headers: &'a [HeaderRef<'a>],
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
#[derive(Debug, Clone)]
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

    fn add(&mut self, batch: &Arc<BatchState>, first: u32, count: u32) {
        let partition = usize::try_from(batch.slot.partition).unwrap_or(0);
        if self.last.len() <= partition {
            self.last.resize(partition + 1, 0);
        }
        let Some(last) = self.last.get_mut(partition) else {
            return;
        };
        let before = (*last as usize).checked_sub(1);
        match before.and_then(|at| self.list.get_mut(at)) {
            Some(piece)
                if Arc::ptr_eq(&piece.batch, batch) && piece.first + piece.count == first =>
            {
                piece.count += count;
            }
            _ => {
                let batch = batch.clone();
                self.list.push(Piece {
                    batch,
                    first,
                    count,
                });
                *last = self.list.len() as u32;
            }
        }
    }
}

impl<'a> Common<'a> {
    fn record(&self, row: Row<'a>, now: i64) -> Append<'a> {
        Append {
            topic: self.topic,
            partition: row.partition.or(self.partition),
            acks: self.acks,
            timestamp: Some(row.timestamp.unwrap_or(now)),
            content: Content {
                key: row.key,
                value: row.value,
                headers: self.headers,
            },
        }
    }
}

impl Producer {
    /// Appends some rows of a source, and says how many; fewer only with a reason. Waits for a turn
    /// before it says that it cannot go on.
    pub fn append_many<S: Source>(
        &self,
        common: &Common<'_>,
        source: &S,
        rows: Range<usize>,
        pieces: &mut Pieces,
        waiting: &mut Waiting,
    ) -> (usize, Result<(), Refused>) {
        let ticket = self.ticket();
        let mut at = rows.start;
        while at < rows.end {
            let now = common.timestamp.unwrap_or_else(now_ms);
            let chunk = at..rows.end.min(at + CHUNK);
            let (count, result) = {
                let mut appender = self.shared.lock();
                append_chunk(
                    &mut appender,
                    common,
                    now,
                    source,
                    chunk,
                    pieces,
                    &mut waiting.turn,
                )
            };
            at += count;
            if count > 0 {
                waiting.since = None;
            }
            if let Err(refused) = result {
                let refused = self.wait_refused(common.topic, ticket, refused, waiting);
                return (at - rows.start, Err(refused));
            }
            self.shared.memory.leave(&mut waiting.turn);
        }
        (at - rows.start, Ok(()))
    }

    fn wait_refused(
        &self,
        topic: u32,
        ticket: Ticket,
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
}

fn append_chunk<S: Source>(
    appender: &mut Appender<'_>,
    common: &Common<'_>,
    now: i64,
    source: &S,
    rows: Range<usize>,
    pieces: &mut Pieces,
    turn: &mut Turn,
) -> (usize, Result<(), Refused>) {
    let (mut at, mut bytes) = (rows.start, 0);
    while at < rows.end && bytes < CHUNK_BYTES {
        let Some(row) = source.row(at) else {
            let text = format!("record {at} of them lies outside of its column");
            return (
                at - rows.start,
                Err(Refused::Error(ClientError::State(text))),
            );
        };
        let record = common.record(row, now);
        let mut run = match appender.run(&record, turn) {
            Ok(run) => run,
            Err(refused) => return (at - rows.start, Err(refused)),
        };
        at += 1;
        while at < rows.end && run.bytes() < CHUNK_BYTES {
            let Some(row) = source.row(at) else { break };
            if !run.put(&common.record(row, now)) {
                break;
            }
            at += 1;
        }
        bytes += run.bytes();
        let (batch, first, count) = run.end();
        pieces.add(batch, first, count);
    }
    (at - rows.start, Ok(()))
}
