//! Reading what was fetched: chunks of views, or columns.
//!
//! A chunk is moved out and belongs to who took it; given back, its memory serves the next. The
//! user's position does not move with it, only with [`Consumer::advance`].

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use bytes::Bytes;
use mqlog_record::{
    peek_size, BatchHeader, Codec, ControlRecord, RecordError, Records, HEADER_LEN,
};

use crate::budget::Pin;
use crate::columns::{RecordColumns, Run};
use crate::consumer::{Consumer, Shared, State};
use crate::fetched::{End, Fetched};
use crate::io::lock;
use crate::positions::{Handle, Readable};
use crate::views::{self, Limits, RecordView, Walker};
use crate::ClientError;

/// Records of one batch.
#[derive(Debug)]
pub struct Chunk {
    /// Their topic.
    pub topic: Arc<str>,
    /// Their partition.
    pub partition: i32,
    /// Whether timestamps are the broker's.
    pub append_time: bool,
    /// The records; at least one.
    pub views: Vec<RecordView>,
    /// Where to go on after them.
    pub next_offset: i64,
    /// Names the assignment they were fetched for.
    pub mark: Mark,
    body: Body,
    _pin: Option<Arc<Pin>>,
}

/// An assignment of a partition, for who has a chunk of it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    handle: Handle,
    /// Leader epoch of the batch, or -1.
    pub epoch: i32,
}

impl Chunk {
    /// What the views are of.
    pub fn body(&self) -> &[u8] {
        self.body.bytes()
    }
}

/// A records section: a part of what was received, or decompressed.
#[derive(Debug, Clone)]
enum Body {
    Stored(Bytes),
    Decompressed(Arc<Vec<u8>>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Body::Stored(bytes) => bytes,
            Body::Decompressed(bytes) => bytes,
        }
    }
}

/// What is being read. Its buffers are used again.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    current: Option<Current>,
    views: Vec<RecordView>,
    scratch: Arc<Vec<u8>>,
}

#[derive(Debug)]
struct Current {
    fetched: Fetched,
    batch: Option<OpenBatch>,
    /// The offset that is given out next.
    next: i64,
}

#[derive(Debug)]
struct OpenBatch {
    header: BatchHeader,
    walker: Walker,
    body: Body,
    done: bool,
}

/// A scratch buffer larger than this is not kept.
const KEPT_SCRATCH: usize = 32 << 20;
/// Records decoded at once on their way into columns: their views stay in the cache.
const COLUMN_STEP: usize = 512;
/// Columns end where a 32-bit offset does.
const COLUMN_BYTES: usize = 1 << 30;

/// What a step of reading came to.
enum Step {
    /// There are views.
    Views,
    /// Go on with the next batch.
    Batch,
    /// The fetched part is used up.
    Used,
    /// The next record is more than is wanted.
    Full,
}

impl Consumer {
    /// The next records, at most `max_records` and `max_bytes` (but at least one record). `None` if
    /// nothing is there: see [`Consumer::wait`] and [`Consumer::events`]. A chunk pins what it was
    /// fetched with: to be given to [`Consumer::recycle`] when it is used up.
    pub fn take(&self, max_records: usize, max_bytes: usize) -> Result<Option<Chunk>, ClientError> {
        self.check()?;
        let limits = Limits {
            records: max_records,
            bytes: max_bytes,
            at_least_one: true,
        };
        let mut reader = lock(self.reader());
        if !reader.next(self.shared(), limits) {
            return Ok(None);
        }
        Ok(reader.chunk())
    }

    /// Takes the memory of a chunk that is not needed any more for the next one.
    pub fn recycle(&self, chunk: Chunk) {
        // What it read from first: the views alone are worth keeping.
        drop((chunk.body, chunk._pin));
        lock(self.reader()).views = chunk.views;
    }

    /// The next records as columns, handed over: empty if nothing is there.
    pub fn take_columns(
        &self,
        max_records: usize,
        max_bytes: usize,
        headers: bool,
    ) -> Result<Arc<RecordColumns>, ClientError> {
        self.check()?;
        let shared = self.shared();
        let mut columns = shared.pool.take(headers);
        let mut left = max_bytes.min(COLUMN_BYTES);
        let mut reader = lock(self.reader());
        while columns.len() < max_records && (left > 0 || columns.is_empty()) {
            let limits = Limits {
                records: COLUMN_STEP.min(max_records - columns.len()),
                bytes: left,
                at_least_one: columns.is_empty(),
            };
            if !reader.next(shared, limits) {
                break;
            }
            let Some(chunk) = reader.chunk() else { break };
            left = left.saturating_sub(chunk.views.iter().map(|view| view.size as usize).sum());
            let run = Run {
                topic: &chunk.topic,
                partition: chunk.partition,
                next_offset: chunk.next_offset,
                epoch: chunk.mark.epoch,
            };
            columns.append(run, chunk.body(), &chunk.views);
            self.advance(chunk.mark, chunk.next_offset);
            reader.views = chunk.views;
        }
        Ok(shared.pool.finish(columns))
    }

    /// The user has got the records of a chunk up to `offset`.
    pub fn advance(&self, mark: Mark, offset: i64) {
        let mut state = lock(&self.shared().state);
        if let Some(one) = state.positions.get(mark.handle) {
            one.advance(offset, mark.epoch);
        }
    }

    /// Whether the records of a chunk may be handed over: not after a seek, without the partition,
    /// or while it is paused. To be asked when [`Consumer::revision`] has moved.
    pub fn is_wanted(&self, mark: Mark) -> bool {
        let state = lock(&self.shared().state);
        state.positions.is_readable(mark.handle) == Readable::Yes
    }

    /// The user did not get the records of a chunk from `offset` on: they come again.
    pub fn give_back(&self, mark: Mark, offset: i64) {
        let mut state = lock(&self.shared().state);
        let Some(one) = state.positions.get(mark.handle) else {
            return;
        };
        // Not `advance`: what was skipped after the chunk lies behind these records.
        (one.position, one.epoch) = (offset, mark.epoch);
        let (topic, partition) = (one.topic.clone(), one.partition);
        state.positions.restart(&topic, partition);
        let State {
            positions, queue, ..
        } = &mut *state;
        queue.drop_stale(positions);
        drop(state);
        self.shared().budget.wanted.send_replace(());
    }
}

impl Reader {
    /// Fills `views` with the next records; false if there are none now.
    fn next(&mut self, shared: &Shared, limits: Limits) -> bool {
        if limits.records == 0 {
            return false;
        }
        loop {
            self.views.clear();
            if self.current.is_none() && !self.begin(shared) {
                return false;
            }
            match self.step(shared, limits) {
                Step::Batch => {}
                Step::Full => return false,
                Step::Used => self.end(shared),
                Step::Views => match self.settle(shared) {
                    Readable::Yes => return true,
                    Readable::Stale => self.current = None,
                    Readable::Paused => self.put_back(shared),
                },
            }
        }
    }

    /// Moves the views out, with what they are of.
    fn chunk(&mut self) -> Option<Chunk> {
        let current = self.current.as_ref()?;
        let batch = current.batch.as_ref()?;
        let chunk = Chunk {
            topic: current.fetched.topic.clone(),
            partition: current.fetched.partition,
            append_time: batch.header.is_log_append_time(),
            views: std::mem::take(&mut self.views),
            next_offset: current.next,
            mark: Mark {
                handle: current.fetched.handle,
                epoch: batch.header.partition_leader_epoch,
            },
            body: batch.body.clone(),
            _pin: current.fetched.pin.clone(),
        };
        if current.is_used_up() {
            // The chunk keeps what it needs.
            self.current = None;
        }
        Some(chunk)
    }

    /// Takes the next part out of the queue.
    fn begin(&mut self, shared: &Shared) -> bool {
        let mut guard = lock(&shared.state);
        let state = &mut *guard;
        state.reading = None;
        let Some(fetched) = state.queue.pop(&state.positions) else {
            return false;
        };
        let Some(one) = state.positions.get(fetched.handle) else {
            return false;
        };
        state.reading = Some(fetched.handle);
        self.current = Some(Current {
            next: one.read,
            fetched,
            batch: None,
        });
        true
    }

    /// Decodes more of the open batch, or opens the next.
    fn step(&mut self, shared: &Shared, limits: Limits) -> Step {
        let Some(current) = &mut self.current else {
            return Step::Used;
        };
        let open = current.batch.as_ref().is_some_and(|batch| !batch.done);
        if !open && !current.open(shared, &mut self.scratch) {
            return Step::Used;
        }
        let Some(batch) = &mut current.batch else {
            return Step::Used;
        };
        let views = &mut self.views;
        let body = batch.body.bytes();
        let result = batch.walker.decode(body, current.next, limits, views);
        if let Some(last) = views.last() {
            current.next = last.offset.saturating_add(1);
        }
        match result {
            Ok(done) => {
                batch.done = done;
                if done {
                    current.next = current.next.max(batch.header.next_offset());
                }
            }
            // Behind views, the error comes again when they are read.
            Err(error) if views.is_empty() => {
                let header = batch.header;
                current.fail(&header, &error);
                return Step::Used;
            }
            Err(_) => {}
        }
        match (views.is_empty(), batch.done) {
            (false, _) => Step::Views,
            (true, true) => Step::Batch,
            (true, false) => Step::Full,
        }
    }

    /// The views go out: makes the reader's place known.
    fn settle(&mut self, shared: &Shared) -> Readable {
        let Some(current) = &self.current else {
            return Readable::Stale;
        };
        let handle = current.fetched.handle;
        let mut state = lock(&shared.state);
        let readable = state.positions.is_readable(handle);
        if readable == Readable::Yes {
            state.reading = (!current.is_used_up()).then_some(handle);
            if let Some(one) = state.positions.get(handle) {
                one.reached(current.next, true);
            }
        }
        drop(state);
        if readable == Readable::Yes {
            let bytes = self.views.iter().map(|view| u64::from(view.size)).sum();
            let records = self.views.len() as u64;
            shared.metrics.record_bytes.fetch_add(bytes, Relaxed);
            shared.metrics.records.fetch_add(records, Relaxed);
        }
        readable
    }

    /// The part that was read is used up: comes to what it ends in.
    fn end(&mut self, shared: &Shared) {
        let Some(current) = self.current.take() else {
            return;
        };
        let fetched = current.fetched;
        let mut state = lock(&shared.state);
        state.reading = None;
        if let Some(one) = state.positions.get(fetched.handle) {
            one.reached(current.next, false);
        }
        if let Some(end) = fetched.end {
            shared.finish(&mut state, fetched.handle, end);
        }
    }

    /// The partition is paused: what was decoded and is not given out waits in the queue.
    fn put_back(&mut self, shared: &Shared) {
        let Some(current) = self.current.take() else {
            return;
        };
        let mut fetched = current.fetched;
        if let Some(batch) = &current.batch {
            // It is opened again, and what was read of it is skipped by its offset.
            fetched.at = fetched.at.saturating_sub(batch.header.size());
        }
        let mut state = lock(&shared.state);
        state.reading = None;
        state.queue.push_front(fetched);
    }
}

impl Current {
    /// Opens the next batch that has something for the user; false if there is none. A damaged
    /// one becomes the end.
    fn open(&mut self, shared: &Shared, scratch: &mut Arc<Vec<u8>>) -> bool {
        let records = self.fetched.records.clone();
        loop {
            self.batch = None;
            let start = self.fetched.at;
            let rest = records.get(start..).unwrap_or_default();
            let Some(bytes) = peek_size(rest).and_then(|size| rest.get(..size)) else {
                return false;
            };
            // It was looked at when it arrived.
            let Ok(header) = BatchHeader::parse(bytes) else {
                return false;
            };
            self.fetched.at += bytes.len();
            if self.is_for_nobody(&header, bytes, shared) {
                self.next = self.next.max(header.next_offset());
                continue;
            }
            let body = match header.codec() {
                Ok(Codec::None) => Ok(Body::Stored(
                    records.slice(start + HEADER_LEN..self.fetched.at),
                )),
                _ => decompress(shared, &header, bytes, scratch),
            };
            match body {
                Ok(body) => {
                    self.batch = Some(OpenBatch {
                        walker: Walker::new(&header),
                        header,
                        body,
                        done: false,
                    });
                    return true;
                }
                Err(error) => {
                    self.fail(&header, &error);
                    return false;
                }
            }
        }
    }

    /// Control batches, those of aborted transactions, and those that were read already.
    fn is_for_nobody(&mut self, header: &BatchHeader, bytes: &[u8], shared: &Shared) -> bool {
        let skips = shared.config.read_committed && self.fetched.aborted.skips(header);
        if header.is_control() {
            let body = bytes.get(HEADER_LEN..).unwrap_or_default();
            let first = Records::new(*header, body).next().and_then(Result::ok);
            if let Some(control) = first.as_ref().and_then(ControlRecord::parse) {
                let aborted = &mut self.fetched.aborted;
                aborted.marker(header.producer_id, control.marker);
            }
            return true;
        }
        skips || header.last_offset() < self.next
    }

    /// What cannot be read ends what was fetched.
    fn fail(&mut self, header: &BatchHeader, error: &RecordError) {
        self.batch = None;
        self.fetched.at = self.fetched.records.len();
        self.fetched.end = Some(End::Error(ClientError::Corrupt {
            topic: self.fetched.topic.clone(),
            partition: self.fetched.partition,
            offset: header.base_offset,
            what: match error {
                RecordError::Bomb { .. } => format!("{error} (max_decompressed_bytes)"),
                _ => format!(
                    "{error} (the next batch begins at {})",
                    header.next_offset()
                ),
            },
        }));
    }

    fn is_used_up(&self) -> bool {
        let open = self.batch.as_ref().is_some_and(|batch| !batch.done);
        !open && self.fetched.at >= self.fetched.records.len() && self.fetched.end.is_none()
    }
}

/// Into the scratch buffer, or another one if a chunk still reads from that.
fn decompress(
    shared: &Shared,
    header: &BatchHeader,
    batch: &[u8],
    scratch: &mut Arc<Vec<u8>>,
) -> Result<Body, RecordError> {
    if scratch.capacity() > KEPT_SCRATCH || Arc::get_mut(scratch).is_none() {
        *scratch = Arc::default();
    }
    if let Some(buffer) = Arc::get_mut(scratch) {
        views::open(header, batch, shared.config.max_decompressed_bytes, buffer)?;
    }
    Ok(Body::Decompressed(scratch.clone()))
}
