//! Taking in what a broker answered to a fetch: what is good is queued, with what ends it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use bytes::Bytes;
use mqlog_protocol::fetch_client::{FetchAnswer, FetchedPartition};
use mqlog_protocol::fetch_response::AbortedTransaction;
use mqlog_protocol::{ErrorCode, TopicRef};
use tokio::time::Instant;

use crate::budget::Pin;
use crate::connection::Connection;
use crate::consumer::{Shared, State};
use crate::fetched::{arrive, Aborted, Arrived, Bad, End, Fetched};
use crate::io::lock;
use crate::metadata::Broker;
use crate::positions::{Assigned, Handle, Marks, Phase};
use crate::session::Session;
use crate::ClientError;

pub(crate) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// Takes an answer in.
pub(crate) struct Intake<'a> {
    pub shared: &'a Shared,
    pub node: i32,
    pub session: &'a Session,
    pub connection: &'a Connection,
    pub body: &'a Bytes,
}

/// One partition of an answer, found to be what was asked for.
struct Part<'a> {
    topic: &'a Arc<str>,
    handle: Handle,
    offset: i64,
    answer: &'a FetchedPartition<'a>,
}

impl<'a> Intake<'a> {
    pub fn take(&self, answer: &'a FetchAnswer<'_>) {
        let check = self.shared.config.check_crcs;
        // What takes time is done without the lock.
        let mut parts = Vec::new();
        let (mut used, mut batches) = (0, 0);
        for (topic, partitions) in answer.topics() {
            for one in partitions {
                let Some(part) = self.part(topic, one) else {
                    continue;
                };
                let high = one.high_watermark;
                let arrived = arrive(self.body, one.records, part.offset, high, check);
                used += arrived.records.len();
                batches += arrived.batches;
                self.hint(&part, answer);
                parts.push((part, arrived));
            }
        }
        let metrics = &self.shared.metrics;
        metrics.batches.fetch_add(batches, Relaxed);
        let pin = self.pin(used, &mut parts);
        let mut state = lock(&self.shared.state);
        let mut stale_leader = false;
        for (part, arrived) in parts {
            stale_leader |= self.partition(&mut state, &part, arrived, &pin);
        }
        drop(state);
        self.shared.bell.ring();
        if stale_leader {
            self.shared.cluster.request_update();
        }
    }

    /// Counts the memory. Little that would keep much of it is copied out.
    fn pin(&self, used: usize, parts: &mut [(Part<'_>, Arrived)]) -> Arc<Pin> {
        if used * 2 >= self.body.len() {
            return self.shared.budget.pin(self.body.len());
        }
        for (_, arrived) in parts {
            arrived.records = Bytes::copy_from_slice(&arrived.records);
        }
        self.shared.budget.pin(used)
    }

    fn part(&self, topic: TopicRef<'_>, answer: &'a FetchedPartition<'a>) -> Option<Part<'a>>
    where
        Self: 'a,
    {
        let (topic, handle, offset) = self.session.asked(topic, answer.index)?;
        Some(Part {
            topic,
            handle,
            offset,
            answer,
        })
    }

    /// A leader named in passing (KIP-951).
    fn hint(&self, part: &Part<'_>, answer: &FetchAnswer<'_>) {
        let Some(leader) = part.answer.current_leader else {
            return;
        };
        let named = answer
            .endpoints
            .iter()
            .find(|endpoint| endpoint.node_id == leader.leader_id);
        let node = named.and_then(|endpoint| {
            Some(Broker {
                id: endpoint.node_id,
                host: endpoint.host.into(),
                port: u16::try_from(endpoint.port).ok()?,
                rack: endpoint.rack.map(Arc::from),
            })
        });
        let index = part.answer.index;
        self.shared
            .cluster
            .apply_hint(part.topic, index, leader, node);
    }

    /// Takes one partition in; says whether its leader must be asked for.
    fn partition(
        &self,
        state: &mut State,
        part: &Part<'_>,
        arrived: Arrived,
        pin: &Arc<Pin>,
    ) -> bool {
        let Some(one) = state.positions.get(part.handle) else {
            return false;
        };
        // Somebody else may have answered meanwhile.
        if one.fetch_offset != part.offset || one.phase != Phase::Fetching {
            return false;
        }
        let code = code(part.answer.error_code);
        if code != ErrorCode::None {
            return self.error(state, part, code);
        }
        one.failures = 0;
        one.not_before = None;
        note(&mut one.marks, part.answer);
        if part.answer.preferred_read_replica >= 0 {
            let until = Instant::now() + self.shared.cluster.config().metadata_max_age;
            one.replica = Some((part.answer.preferred_read_replica, until));
            self.shared.assigned.send_replace(());
        }
        if part.answer.diverging_epoch.is_some() {
            // Part of what was fetched is not in the leader's log.
            one.phase = Phase::Validating;
            state.freshen();
            return false;
        }
        let end = match arrived.error {
            // Damage on the way goes away when it is fetched again.
            Some(_) if one.suspect != Some(arrived.next) => {
                one.suspect = Some(arrived.next);
                None
            }
            error => error.map(|bad| End::Error(self.bad(part, bad))),
        };
        if matches!(end, Some(End::Error(ClientError::Corrupt { .. }))) {
            self.shared.metrics.corrupt_batches.fetch_add(1, Relaxed);
        }
        if arrived.records.is_empty() && end.is_none() {
            return false;
        }
        one.fetch_offset = arrived.next;
        if arrived.batches > 0 {
            one.fetch_epoch = arrived.epoch;
        }
        if end.is_some() {
            one.phase = Phase::Ending;
        }
        let aborted = part.answer.aborted.clone().unwrap_or_default();
        state.queue.push(Fetched {
            handle: part.handle,
            topic: part.topic.clone(),
            partition: part.answer.index,
            records: arrived.records,
            at: 0,
            aborted: Aborted::new(aborted),
            end,
            pin: Some(pin.clone()),
        });
        // A newer leader may have come while this was on its way.
        if state.positions.doubts() {
            state.freshen();
        }
        false
    }

    fn bad(&self, part: &Part<'_>, bad: Bad) -> ClientError {
        match bad {
            Bad::Corrupt(offset, what) => ClientError::Corrupt {
                topic: part.topic.clone(),
                partition: part.answer.index,
                offset,
                what,
            },
            Bad::Misplaced(what) => ClientError::Protocol {
                address: self.connection.address().clone(),
                what: format!("{}-{}: {what}", part.topic, part.answer.index),
            },
            Bad::TooLarge(size) => ClientError::RecordTooLarge {
                topic: part.topic.clone(),
                size,
                limit: usize::try_from(self.shared.config.partition_max_bytes).unwrap_or(0),
                setting: "max_partition_fetch_bytes",
                hint: format!(
                    "the batch at offset {} of partition {} is that large",
                    part.offset, part.answer.index
                ),
            },
        }
    }

    /// A partition's error; says whether its leader must be asked for.
    fn error(&self, state: &mut State, part: &Part<'_>, code: ErrorCode) -> bool {
        let Some(one) = state.positions.get(part.handle) else {
            return false;
        };
        let from_leader = one.leader == Some(self.node);
        if !from_leader && one.replica.take().is_some() {
            // A follower may be behind: the leader knows.
            return false;
        }
        let end = match code {
            ErrorCode::OffsetOutOfRange => End::OutOfRange(part.offset),
            ErrorCode::CorruptMessage => End::Error(ClientError::Corrupt {
                topic: part.topic.clone(),
                partition: part.answer.index,
                offset: part.offset,
                what: format!("{} cannot read it", self.connection.address()),
            }),
            code if code.retriable() => {
                self.retreat(one);
                return true;
            }
            code => {
                self.retreat(one);
                End::Denied(ClientError::about(code, part.topic, part.answer.index))
            }
        };
        one.phase = Phase::Ending;
        if one.read == one.fetch_offset {
            self.shared.finish(state, part.handle, end);
            return false;
        }
        // Not before the data that was fetched before.
        state.queue.push(Fetched {
            handle: part.handle,
            topic: part.topic.clone(),
            partition: part.answer.index,
            records: Bytes::new(),
            at: 0,
            aborted: Aborted::default(),
            end: Some(end),
            pin: None,
        });
        false
    }

    /// Leaves a partition alone for a while.
    fn retreat(&self, one: &mut Assigned) {
        let config = self.shared.cluster.config();
        let doubled = config.retry_backoff * (1 << one.failures.min(10));
        one.failures += 1;
        one.not_before = Some(Instant::now() + doubled.min(config.retry_backoff_max));
    }
}

impl Shared {
    /// Takes batches in as if a broker had sent them for a partition that is assigned: for tests
    /// and fuzzers. False if it waits for nothing.
    pub fn feed(
        &self,
        topic: &str,
        partition: i32,
        body: Bytes,
        aborted: Vec<AbortedTransaction>,
    ) -> bool {
        let check = self.config.check_crcs;
        let mut state = lock(&self.state);
        let Some(one) = state.positions.find_mut(topic, partition) else {
            return false;
        };
        if one.phase != Phase::Fetching {
            return false;
        }
        let arrived = arrive(&body, &body, one.fetch_offset, -1, check);
        (one.fetch_offset, one.fetch_epoch) = (arrived.next, arrived.epoch);
        let end = arrived.error.map(|bad| {
            one.phase = Phase::Ending;
            let (offset, what) = match bad {
                Bad::Corrupt(offset, what) => (offset, what),
                Bad::Misplaced(what) => (arrived.next, what),
                Bad::TooLarge(size) => (arrived.next, format!("cut off; it has {size} bytes")),
            };
            End::Error(ClientError::Corrupt {
                topic: one.topic.clone(),
                partition,
                offset,
                what,
            })
        });
        let fetched = Fetched {
            handle: one.handle,
            topic: one.topic.clone(),
            partition,
            records: arrived.records,
            at: 0,
            aborted: Aborted::new(aborted),
            end,
            pin: Some(self.budget.pin(body.len())),
        };
        state.queue.push(fetched);
        self.bell.ring();
        true
    }
}

/// What the broker told of a partition: newer words for older, and none for none.
fn note(marks: &mut Marks, told: &FetchedPartition<'_>) {
    for (mark, told) in [
        (&mut marks.high_watermark, told.high_watermark),
        (&mut marks.last_stable, told.last_stable_offset),
        (&mut marks.log_start, told.log_start_offset),
    ] {
        if told >= 0 {
            *mark = told;
        }
    }
}
