//! Produce: the batches of all requests of one wake-up are checked without a lock, gathered by
//! partition, appended with one write per partition, and answered in request order.
//!
//! A request with acks=all in fsync mode is answered when its offsets are flushed; that delays the
//! answer only, never the append of the next request.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use mqlog_log::{check_batch, AppendError, AppendMode, Appended, Checked, LogConfig, Partition};
use mqlog_protocol::header::RequestHeader;
use mqlog_protocol::produce::{ProduceRequest, ProduceScratch};
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::ErrorCode;

use crate::close::Close;
use crate::connection::{Connection, Io};
use crate::core::Core;
use crate::outbox::Outbox;
use crate::produce_rules::{one_batch, request_fault, unknown, ADMIN_CLIENT, INTERNAL, NONE};

/// Produce requests of one connection that may wait for a flush at once.
pub(crate) const MAX_PENDING: usize = 1024;

/// `acks=all`.
pub(crate) const ALL: i16 = -1;
const NO_TARGET: usize = usize::MAX;

/// Requests gathered in one wake-up, and the memory they are worked on in.
#[derive(Default)]
pub(crate) struct ProduceArena {
    pub(crate) scratch: ProduceScratch,
    pub(crate) frames: Vec<Frame>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) parts: Vec<Part>,
    pub(crate) targets: Vec<Target>,
    /// Targets by the address of their partition.
    pub(crate) by_address: HashMap<usize, usize>,
    /// Requests of one wake-up mostly name the same partitions in the same order.
    pub(crate) expected: usize,
    /// Which target and part each checked batch belongs to.
    pub(crate) keys: Vec<(usize, usize)>,
    pub(crate) checked: Vec<Checked<'static>>,
    pub(crate) results: Vec<Result<Appended, AppendError>>,
}

pub(crate) struct Frame {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Range<usize>,
}

/// A topic of a frame; its name is a range of the bytes received.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) parts: Range<usize>,
}

pub(crate) enum TopicName {
    Range(Range<usize>),
    Id([u8; 16]),
}

pub(crate) struct Part {
    pub(crate) index: i32,
    pub(crate) records: Range<usize>,
    pub(crate) target: usize,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    /// Not appended yet.
    Open,
    Appended(Appended),
    Refused(AppendError),
    Fault(ErrorCode, &'static str),
}

/// A partition that this wake-up appends to.
pub(crate) struct Target {
    pub(crate) partition: Arc<Partition>,
    pub(crate) config: Arc<LogConfig>,
    /// Somebody wants this append to be flushed at once.
    pub(crate) urgent: bool,
}

impl ProduceArena {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        if self.frames.is_empty() && self.parts.is_empty() {
            return;
        }
        self.frames.clear();
        self.topics.clear();
        self.parts.clear();
        self.targets.clear();
        self.by_address.clear();
        self.keys.clear();
        self.results.clear();
    }

    /// Adds the request whose body is `data[body]`.
    pub(crate) fn gather(
        &mut self,
        core: &Core,
        header: &RequestHeader<'_>,
        data: &[u8],
        body: Range<usize>,
    ) -> Result<(), Close> {
        self.expected = 0;
        let mut scratch = std::mem::take(&mut self.scratch);
        let gathered = self.gather_parsed(core, header, data, body, &mut scratch);
        self.scratch = scratch;
        gathered
    }

    fn gather_parsed(
        &mut self,
        core: &Core,
        header: &RequestHeader<'_>,
        data: &[u8],
        body: Range<usize>,
        scratch: &mut ProduceScratch,
    ) -> Result<(), Close> {
        let version = header.api_version;
        let bytes = data.get(body.clone()).ok_or(Close::Malformed)?;
        let request =
            ProduceRequest::parse_into(version, bytes, scratch).map_err(|_| Close::Malformed)?;
        let fault = request_fault(&request);
        let admin = header.client_id == Some(ADMIN_CLIENT);
        let router = core.router.load();
        let first_topic = self.topics.len();
        for (topic, partitions) in request.topics() {
            let route = router.get(topic);
            let first_part = self.parts.len();
            let closed = route.is_some_and(|route| route.internal) && !admin;
            let fault = fault.or(closed.then_some(INTERNAL));
            for one in partitions {
                let found = match (fault, route.and_then(|route| route.partition(one.index))) {
                    (Some(fault), _) => Err(fault),
                    (None, Some(partition)) => Ok(partition),
                    (None, None) => Err(unknown(route.is_none(), topic)),
                };
                let found = found.and_then(|p| one.records.clone().ok_or(NONE).map(|r| (p, r)));
                let mut part = Part {
                    index: one.index,
                    records: 0..0,
                    target: NO_TARGET,
                    outcome: Outcome::Open,
                };
                match (found, route) {
                    (Ok((partition, records)), Some(route)) => {
                        part.records = shifted(records, body.start);
                        part.target = self.target(partition, &route.config);
                    }
                    (Err((code, why)), _) => part.outcome = Outcome::Fault(code, why),
                    (Ok(_), None) => {}
                }
                self.parts.push(part);
            }
            let name = match topic {
                TopicRef::Id(id) => TopicName::Id(id),
                TopicRef::Name(name) => TopicName::Range(place_in(data, name.as_bytes())),
            };
            self.topics.push(Topic {
                name,
                parts: first_part..self.parts.len(),
            });
        }
        self.frames.push(Frame {
            version,
            correlation_id: header.correlation_id,
            acks: request.acks,
            timeout_ms: request.timeout_ms,
            topics: first_topic..self.topics.len(),
        });
        Ok(())
    }

    fn target(&mut self, partition: &Arc<Partition>, config: &Arc<LogConfig>) -> usize {
        let same = |target: &Target| Arc::ptr_eq(&target.partition, partition);
        let mut at = self.expected;
        if !self.targets.get(at).is_some_and(same) {
            let targets = &mut self.targets;
            at = *self
                .by_address
                .entry(Arc::as_ptr(partition) as usize)
                .or_insert_with(|| {
                    let (partition, config) = (partition.clone(), config.clone());
                    targets.push(Target {
                        partition,
                        config,
                        urgent: false,
                    });
                    targets.len() - 1
                });
        }
        self.expected = at + 1;
        at
    }

    /// Checks every batch, in the order of the requests.
    fn check<'a>(&mut self, data: &'a mut [u8], now_ms: i64, checked: &mut Vec<Checked<'a>>) {
        let (mut rest, mut at) = (data, 0);
        for frame in &self.frames {
            let parts = parts_of(&self.topics, frame);
            for (number, part) in parts.clone().zip(&mut self.parts[parts]) {
                let Some(target) = self.targets.get_mut(part.target) else {
                    continue;
                };
                let Some(bytes) = cut(&mut rest, &mut at, &part.records) else {
                    part.outcome = Outcome::Fault(ErrorCode::UnknownServerError, "lost records");
                    continue;
                };
                if let Err((code, why)) = one_batch(frame.version, bytes) {
                    part.outcome = Outcome::Fault(code, why);
                    continue;
                }
                match check_batch(bytes, &target.config, true, now_ms) {
                    Ok(batch) => {
                        target.urgent |= frame.acks == ALL;
                        self.keys.push((part.target, number));
                        checked.push(batch);
                    }
                    Err(error) => part.outcome = Outcome::Refused(error),
                }
            }
        }
    }

    /// Appends what passed, one call per partition.
    fn append(&mut self, core: &Core, checked: &mut Vec<Checked<'_>>, now_ms: i64) {
        if !grouped(&self.keys) {
            sort_by_target(&mut self.keys, checked);
        }
        let mut first = 0;
        while let Some(&(target, _)) = self.keys.get(first) {
            let count = self.keys[first..]
                .iter()
                .take_while(|key| key.0 == target)
                .count();
            let batches = &mut checked[first..first + count];
            self.results.clear();
            let Target {
                partition, urgent, ..
            } = &self.targets[target];
            partition.append(batches, AppendMode::Assign, &mut self.results, now_ms);
            core.stats.appends.add(1);
            let mut any = false;
            for (key, result) in self.keys[first..].iter().zip(self.results.drain(..)) {
                any |= result.is_ok();
                self.parts[key.1].outcome = match result {
                    Ok(appended) => Outcome::Appended(appended),
                    Err(error) => Outcome::Refused(error),
                };
            }
            // Without this the log flushes within flush.ms.
            if any && *urgent && core.fsync() {
                core.dir.request_flush(partition, 0);
            }
            first += count;
        }
    }
}

impl Connection {
    /// Appends and answers what was gathered.
    pub(crate) fn run_produces(
        &mut self,
        data: &mut [u8],
        io: &mut Io,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        let arena = &mut io.produce;
        if arena.is_empty() {
            return Ok(());
        }
        self.producer = true;
        let core = self.core.clone();
        let now_ms = core.clock.now_ms();
        let mut checked = reuse(std::mem::take(&mut arena.checked));
        arena.check(data, now_ms, &mut checked);
        arena.append(&core, &mut checked, now_ms);
        arena.checked = reuse(checked);
        let answered = self.answer_produces(arena, data, out);
        arena.clear();
        if core.faults.drops_produce_answers() {
            return Err(Close::ByControl);
        }
        answered
    }
}

pub(crate) fn parts_of(topics: &[Topic], frame: &Frame) -> Range<usize> {
    match topics.get(frame.topics.clone()).unwrap_or_default() {
        [] => 0..0,
        [first, .., last] => first.parts.start..last.parts.end,
        [only] => only.parts.clone(),
    }
}

/// Whether equal targets stand together.
fn grouped(keys: &[(usize, usize)]) -> bool {
    keys.windows(2).all(|pair| pair[0].0 <= pair[1].0)
}

/// Brings the batches of each target together, in the order of the requests.
fn sort_by_target(keys: &mut Vec<(usize, usize)>, checked: &mut Vec<Checked<'_>>) {
    let mut pairs: Vec<_> = keys.drain(..).zip(checked.drain(..)).collect();
    pairs.sort_by_key(|(key, _)| *key);
    for (key, batch) in pairs {
        keys.push(key);
        checked.push(batch);
    }
}

/// Cuts `range` out of what is left of the bytes; `at` is where `rest` begins.
fn cut<'a>(rest: &mut &'a mut [u8], at: &mut usize, range: &Range<usize>) -> Option<&'a mut [u8]> {
    let skip = range.start.checked_sub(*at)?;
    let all = std::mem::take(rest);
    let (_, tail) = all.split_at_mut_checked(skip)?;
    let (records, tail) = tail.split_at_mut_checked(range.len())?;
    *rest = tail;
    *at = range.end;
    Some(records)
}

fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Where `part`, a slice of `data`, lies in it.
fn place_in(data: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(data.as_ptr() as usize);
    start..start + part.len()
}

pub(crate) fn text<'a>(data: &'a [u8], range: &Range<usize>) -> &'a str {
    data.get(range.clone())
        .and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or("")
}

/// An empty vector with the memory of another, whatever its elements borrowed.
fn reuse<'a>(mut batches: Vec<Checked<'_>>) -> Vec<Checked<'a>> {
    batches.clear();
    batches
        .into_iter()
        .map(|_| unreachable!("it is empty"))
        .collect()
}
