//! Answers, time-outs, failures: what becomes of batches that were sent, or never will be.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mqlog_protocol::produce_client::{PartitionAnswer, ProduceAnswer};

use super::answer::{self, verdict};
use super::batch::{Batch, Failure, Outcome, Slot};
use super::dispatch::Flight;
use super::lane::{Lane, Settled, Verdict};
use super::sender::{Sender, TICK};
use crate::cluster::delay;
use crate::ClientError;

/// In the log, at an offset that nobody told.
const ELSEWHERE: Verdict = Verdict::Written {
    base_offset: -1,
    log_append_time: -1,
};

impl Sender {
    /// Takes the answer to request `flight`.
    pub(super) fn answered(
        &mut self,
        flight: u64,
        request: &Flight,
        answer: Result<Bytes, ClientError>,
    ) {
        let took = request.left.elapsed();
        self.shared
            .metrics
            .request_micros
            .add(took.as_micros() as usize);
        let body = match answer {
            Ok(body) => body,
            Err(error) => return self.unanswered(flight, request, &error),
        };
        if request.acks == 0 {
            for (slot, _) in &request.parts {
                self.settle(*slot, flight, &ELSEWHERE, None, Vec::new());
            }
            return;
        }
        let answer = match ProduceAnswer::parse(request.version, &body) {
            Ok(answer) => answer,
            Err(error) => {
                let error = ClientError::decode(request.connection.address(), &error);
                request.connection.close(error.clone());
                return self.unanswered(flight, request, &error);
            }
        };
        self.throttle(request.node, answer.throttle_time_ms);
        for (slot, id) in &request.parts {
            let Some(topic) = self.lanes.get(slot).map(|lane| lane.topic.clone()) else {
                continue;
            };
            match answer::find(&answer, &topic, *id, slot.partition) {
                Some(one) => {
                    let followed = answer::follow(&self.cluster, &answer, one, &topic);
                    let error = answer::error(one, &topic, slot.partition);
                    self.settle(*slot, flight, &verdict(one), error, refused(one));
                    if !followed {
                        self.back_off(*slot);
                    }
                }
                None => {
                    let error = ClientError::Protocol {
                        address: request.connection.address().clone(),
                        what: format!("an answer without {topic}-{}", slot.partition),
                    };
                    let again = Verdict::Again { unknown: true };
                    self.settle(*slot, flight, &again, Some(error), Vec::new());
                    self.back_off(*slot);
                }
            }
        }
    }

    /// A request that got no answer: nobody knows whether its batches arrived.
    fn unanswered(&mut self, flight: u64, request: &Flight, error: &ClientError) {
        let verdict = match error {
            ClientError::Unsupported { .. } => Verdict::Refused,
            _ => Verdict::Again { unknown: true },
        };
        self.cluster.request_update();
        for (slot, _) in &request.parts {
            self.settle(*slot, flight, &verdict, Some(error.clone()), Vec::new());
            self.back_off(*slot);
        }
    }

    fn settle(
        &mut self,
        slot: Slot,
        flight: u64,
        verdict: &Verdict,
        error: Option<ClientError>,
        records: Vec<(i32, String)>,
    ) {
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        let said = error.clone();
        match lane.settle(flight, verdict, error) {
            Settled::Over(batch) => self.over(&batch, verdict, said, records),
            Settled::There(batch) => self.over(&batch, &ELSEWHERE, None, Vec::new()),
            Settled::Split(at) => self.split(slot, at, said),
            Settled::Again => self.give_up_tired(slot),
            Settled::Unknown => {}
        }
        self.list(slot);
    }

    fn over(
        &mut self,
        batch: &Batch,
        verdict: &Verdict,
        error: Option<ClientError>,
        records: Vec<(i32, String)>,
    ) {
        let (metrics, count) = (&self.shared.metrics, batch.count as usize);
        if let Verdict::Written {
            base_offset,
            log_append_time,
        } = *verdict
        {
            metrics.batches_sent.add(1);
            metrics.records_sent.add(count);
            batch.state.complete(Outcome::Written {
                base_offset,
                log_append_time,
            });
            return;
        }
        let error = match error {
            _ if matches!(verdict, Verdict::TooLarge) => self.too_large(batch),
            Some(error) => error,
            None => ClientError::State("the batch was dropped".to_owned()),
        };
        metrics.record_errors.add(count);
        let failure = Failure { error, records };
        batch.state.complete(Outcome::Failed(failure.into()));
    }

    fn too_large(&self, batch: &Batch) -> ClientError {
        ClientError::RecordTooLarge {
            topic: batch.state.topic.clone(),
            size: batch.size(),
            limit: self.shared.config.max_request_size,
            setting: "max_request_size",
            hint: "the broker takes less: raise max.message.bytes of the topic or \
                   message.max.bytes of the broker"
                .to_owned(),
        }
    }

    /// A batch that the broker finds too large: once more, as two.
    fn split(&mut self, slot: Slot, at: usize, error: Option<ClientError>) {
        let (level, limit) = (self.shared.config.level, self.shared.config.buffer_memory);
        let memory = self.shared.memory.clone();
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        let batch = lane.sent.get(at);
        if let Some(halves) = batch.and_then(|batch| batch.split(&memory, level, limit)) {
            lane.replace(at, halves);
            self.shared.metrics.batches_split.add(1);
        } else if let Some(batch) = lane.remove(at) {
            self.over(&batch, &Verdict::Refused, error, Vec::new());
        }
    }

    /// Fails a batch that was not sent.
    pub(super) fn fail(&self, batch: &Batch, error: &ClientError) {
        if batch.state.fail(error) {
            self.shared.metrics.record_errors.add(batch.count as usize);
        }
    }

    /// Fails what was sent more often than `retries` allows.
    fn give_up_tired(&mut self, slot: Slot) {
        let retries = self.shared.config.retries;
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        let mut tired = false;
        for batch in lane.sent.iter().filter(|batch| batch.attempts > retries) {
            let error = batch.last_error.clone();
            let error = error.unwrap_or_else(|| ClientError::State("it was refused".to_owned()));
            if batch.state.fail(&error) {
                self.shared.metrics.record_errors.add(batch.count as usize);
            }
            tired = true;
        }
        if tired {
            lane.drop_ended();
        }
    }

    /// Lets a lane wait before its next attempt, if its last one failed.
    fn back_off(&mut self, slot: Slot) {
        let config = self.cluster.config();
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        if lane.sent.iter().all(|batch| batch.flight.is_some()) {
            return;
        }
        lane.failures = lane.failures.saturating_add(1);
        let pause = delay(
            lane.failures,
            config.retry_backoff,
            config.retry_backoff_max,
        );
        lane.not_before = Some(Instant::now() + pause);
    }

    fn throttle(&mut self, node: i32, millis: i32) {
        let Some(pause) = u64::try_from(millis).ok().filter(|pause| *pause > 0) else {
            return;
        };
        self.shared.metrics.throttled.add(1);
        self.shared.metrics.throttle_millis.add(pause as usize);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.not_before = Some(Instant::now() + Duration::from_millis(pause));
        }
    }

    /// Without a producer id nothing with acks=all leaves; if there never will be one, it fails.
    pub(super) fn no_identity(&mut self, error: &ClientError) {
        let hopeless = match error {
            ClientError::Broker { code, .. } => !code.retriable(),
            ClientError::Unsupported { .. } => true,
            _ => false,
        };
        let shared = &self.shared;
        for lane in self.lanes.values_mut() {
            for (batch, _) in lane.ready.iter_mut().filter(|(batch, _)| batch.acks == -1) {
                batch.last_error = Some(error.clone());
                if hopeless && batch.state.fail(error) {
                    shared.metrics.record_errors.add(batch.count as usize);
                }
            }
            lane.drop_ended();
        }
    }

    /// Every now and then: ends what is too old, and asks where leaders are.
    pub(super) fn look_after(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + TICK;
        if !self.homeless.is_empty() {
            self.cluster.request_update();
        }
        let limit = self.shared.config.delivery_timeout;
        let Some(oldest) = now.checked_sub(limit) else {
            return;
        };
        let mut late = self.shared.expired(oldest);
        let mut ended = !late.is_empty();
        for batch in late.drain(..) {
            let error = self.too_late(None, &batch, "in the queue");
            self.fail(&batch, &error);
        }
        for lane in self.lanes.values() {
            let sent = lane.sent.iter().map(|batch| match batch.flight {
                Some(_) => (batch, "in flight"),
                None => (batch, "to be sent again"),
            });
            let ready = lane.ready.iter().map(|(batch, _)| (batch, "in the queue"));
            for (batch, place) in sent.chain(ready) {
                if batch.opened < oldest && !batch.state.is_over() {
                    let error = self.too_late(Some(lane), batch, place);
                    self.fail(batch, &error);
                    ended = true;
                }
            }
        }
        if ended {
            self.lanes.values_mut().for_each(Lane::drop_ended);
            self.shared.bell.ring();
        }
    }

    fn too_late(&self, lane: Option<&Lane>, batch: &Batch, place: &str) -> ClientError {
        let slot = batch.state.slot;
        let metadata = self.cluster.snapshot();
        let leader = metadata.leader(&batch.state.topic, slot.partition);
        let place = match (leader, lane) {
            (None, _) => "the partition has no leader",
            (Some(_), _) => place,
        };
        let of_node = leader.and_then(|(node, _)| self.nodes.get(&node)?.last_error.clone());
        let last = batch
            .last_error
            .clone()
            .or(of_node)
            .or_else(|| self.cluster.last_error());
        ClientError::Timeout {
            what: format!(
                "delivering {} records to {}-{} ({place})",
                batch.count, batch.state.topic, slot.partition
            ),
            limit: self.shared.config.delivery_timeout,
            setting: "delivery_timeout_ms",
            last: last.map(|error| error.to_string()).unwrap_or_default(),
        }
    }
}

fn refused(answer: &PartitionAnswer<'_>) -> Vec<(i32, String)> {
    let named = answer.record_errors.iter();
    named
        .map(|(index, why)| {
            let why = why
                .or(answer.error_message)
                .unwrap_or("the broker refused it");
            (*index, why.to_owned())
        })
        .collect()
}
