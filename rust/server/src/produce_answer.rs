//! The answers to produce requests, in request order: at once, or when their offsets are committed.

use mqlog_log::AppendError;
use mqlog_protocol::produce::{ProducePartitionResponse, ProduceResponseWriter, RecordError};
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::{EncodeError, ErrorCode};

use crate::admit::throttle;
use crate::close::Close;
use crate::connection::Connection;
use crate::core::Core;
use crate::outbox::Outbox;
use crate::pending_produce::{PendingProduce, Wait};
use crate::produce::{parts_of, text, Frame, Outcome, Part, ProduceArena, TopicName, ALL};
use crate::produce_rules::NO_TRANSACTIONS;

impl Connection {
    pub(crate) fn answer_produces(
        &mut self,
        arena: &ProduceArena,
        data: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Close> {
        let mut result = Ok(());
        for frame in &arena.frames {
            let failed = count_outcomes(&self.core, arena, frame);
            if frame.acks == 0 {
                if failed {
                    result = Err(Close::Acks0Error);
                }
                continue;
            }
            let ahead = !self.produces.is_empty();
            if !ahead && !must_wait(arena, frame) {
                self.write_answer(arena, frame, data, &mut out.bytes, None)?;
                continue;
            }
            let (mut bytes, mut waits) = (Vec::new(), Vec::new());
            self.write_answer(arena, frame, data, &mut bytes, Some(&mut waits))?;
            if !waits.is_empty() {
                self.core.stats.produce_waits.add(1);
            }
            let deadline = self.core.now_ms() + frame.timeout_ms.max(0) as u64;
            self.produces
                .push_back(PendingProduce::new(bytes, waits, deadline));
        }
        result
    }

    /// Writes one answer. Partitions whose offsets are not committed yet are noted in `waits`.
    fn write_answer(
        &self,
        arena: &ProduceArena,
        frame: &Frame,
        data: &[u8],
        out: &mut Vec<u8>,
        mut waits: Option<&mut Vec<Wait>>,
    ) -> Result<(), Close> {
        let too_long = |_| Close::Malformed;
        let topics = arena.topics.get(frame.topics.clone()).unwrap_or_default();
        let mut writer =
            ProduceResponseWriter::new(out, frame.version, frame.correlation_id, topics.len())
                .map_err(too_long)?;
        for topic in topics {
            let name = match &topic.name {
                TopicName::Id(id) => TopicRef::Id(*id),
                TopicName::Range(range) => TopicRef::Name(text(data, range)),
            };
            let parts = arena.parts.get(topic.parts.clone()).unwrap_or_default();
            writer.topic(name, parts.len()).map_err(too_long)?;
            for part in parts {
                if let (Some(waits), Some(commit_at)) = (&mut waits, commit_at(frame, part)) {
                    let partition = arena.targets[part.target].partition.clone();
                    waits.push(Wait {
                        partition,
                        commit_at,
                        at: writer.position(),
                    });
                }
                write_part(&mut writer, part).map_err(too_long)?;
            }
        }
        writer
            .finish(throttle(&self.place), &[])
            .map_err(too_long)?;
        Ok(())
    }
}

/// The offset that must be committed before the partition may be answered.
fn commit_at(frame: &Frame, part: &Part) -> Option<i64> {
    match &part.outcome {
        Outcome::Appended(appended) if frame.acks == ALL => Some(appended.commit_at),
        _ => None,
    }
}

fn must_wait(arena: &ProduceArena, frame: &Frame) -> bool {
    let parts = &arena.parts[parts_of(&arena.topics, frame)];
    parts.iter().any(|part| {
        let mark = |offset| arena.targets[part.target].partition.high_watermark() < offset;
        commit_at(frame, part).is_some_and(mark)
    })
}

/// Counts batches; true if any was refused.
fn count_outcomes(core: &Core, arena: &ProduceArena, frame: &Frame) -> bool {
    let (mut accepted, mut refused, mut bytes) = (0, 0, 0);
    for part in &arena.parts[parts_of(&arena.topics, frame)] {
        match part.outcome {
            Outcome::Appended(_) => {
                accepted += 1;
                bytes += part.records.len() as u64;
            }
            _ => refused += 1,
        }
    }
    core.stats.batches_in.add(accepted);
    core.stats.append_bytes.add(bytes);
    if refused > 0 {
        core.stats.batches_refused.add(refused);
    }
    refused > 0
}

fn write_part(writer: &mut ProduceResponseWriter<'_>, part: &Part) -> Result<(), EncodeError> {
    match &part.outcome {
        Outcome::Appended(appended) => writer.partition(&ProducePartitionResponse {
            index: part.index,
            error_code: 0,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time,
            log_start_offset: appended.log_start,
            record_errors: &[],
            error_message: None,
            current_leader: None,
        }),
        Outcome::Refused(error) => {
            let message = error.to_string();
            let named = error.record_errors().iter();
            let named: Vec<RecordError<'_>> = named
                .map(|(index, why)| RecordError {
                    batch_index: *index,
                    message: Some(why),
                })
                .collect();
            let mut one = failed(part.index, code(error), &message);
            one.record_errors = &named;
            writer.partition(&one)
        }
        Outcome::Fault(code, why) => writer.partition(&failed(part.index, *code as i16, why)),
        Outcome::Open => {
            let code = ErrorCode::UnknownServerError;
            writer.partition(&failed(part.index, code as i16, code.message()))
        }
    }
}

fn code(error: &AppendError) -> i16 {
    match error {
        AppendError::Transactional => NO_TRANSACTIONS as i16,
        other => other.code(),
    }
}

fn failed(index: i32, code: i16, why: &str) -> ProducePartitionResponse<'_> {
    ProducePartitionResponse::error(index, code, Some(why))
}
