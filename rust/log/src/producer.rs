//! What a partition remembers of its idempotent producers: the last five batches of each, so that
//! a batch sent again is answered and not stored again. Kafka's rules.

use std::collections::HashMap;

use mqlog_record::BatchHeader;

use crate::AppendError;

/// Batches remembered per producer: as many as a client may have under way.
const WINDOW: usize = 5;
/// Failed first batches that are remembered per partition.
const MAX_OWED: usize = 10_000;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Offset of its last record.
    pub last_offset: i64,
    /// Sequence of its first record.
    pub base_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Its largest timestamp, in ms.
    pub timestamp: i64,
}

/// A producer's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Producer id.
    pub id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Epoch of the transaction coordinator that wrote the last marker, -1 if none did.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction, -1 if there is none.
    pub first_transaction_offset: i64,
    /// When it last wrote, by its batches' timestamps, in ms.
    pub last_timestamp: i64,
    /// The newest batches, oldest first, at most five.
    pub batches: Vec<ProducerBatch>,
}

impl ProducerInfo {
    fn new(id: i64) -> ProducerInfo {
        ProducerInfo {
            id,
            epoch: -1,
            coordinator_epoch: -1,
            first_transaction_offset: -1,
            last_timestamp: -1,
            batches: Vec::new(),
        }
    }

    /// Sequence of the last record, -1 if none is known.
    pub fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }
}

/// The sequence `n` after `sequence`; they wrap from 2^31 - 1 to 0.
pub(crate) fn advance(sequence: i32, n: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(n);
    (sum & i64::from(i32::MAX)) as i32
}

fn last_sequence(header: &BatchHeader) -> i32 {
    advance(header.base_sequence, header.last_offset_delta)
}

/// What the producer check says about a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Append it.
    Next,
    /// It was appended before, from this offset on.
    Duplicate(i64),
}

/// Batches of the same write that were accepted or refused before this one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub id: i64,
    pub epoch: i16,
    /// Sequence that must follow.
    pub next: i32,
}

#[derive(Debug, Clone, Default)]
struct Tracked {
    info: Option<ProducerInfo>,
    /// Wall clock at the last append or at start: what expiry counts from.
    seen_ms: i64,
}

/// All producers of a partition.
#[derive(Debug, Default, Clone)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Tracked>,
    /// First batches that could not be written: what their producers must send next.
    owed: HashMap<i64, (i16, i32)>,
    /// Changed since the last snapshot.
    pub changed: bool,
}

impl Producers {
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Checks a batch of a producer against its state and against what is pending.
    pub fn check(
        &self,
        header: &BatchHeader,
        pending: &[Pending],
    ) -> Result<Sequence, AppendError> {
        let id = header.producer_id;
        let state = self
            .by_id
            .get(&id)
            .and_then(|tracked| tracked.info.as_ref());
        if let Some(offset) = state.and_then(|state| duplicate(state, header)) {
            return Ok(Sequence::Duplicate(offset));
        }
        let earlier = pending.iter().rev().find(|pending| pending.id == id);
        let (epoch, next) = match (earlier, state, self.owed.get(&id)) {
            (Some(pending), ..) => (pending.epoch, Some(pending.next)),
            (None, Some(state), _) if state.epoch >= 0 => {
                (state.epoch, Some(advance_or_first(state.last_sequence())))
            }
            (None, _, Some((epoch, sequence))) => (*epoch, Some(*sequence)),
            _ => (-1, None),
        };
        if header.producer_epoch < epoch {
            return Err(AppendError::ProducerEpoch {
                producer_id: id,
                epoch: header.producer_epoch,
                current: epoch,
            });
        }
        let expected = match next {
            Some(_) if header.producer_epoch > epoch => 0,
            Some(next) => next,
            None => header.base_sequence,
        };
        if header.base_sequence != expected {
            return Err(AppendError::OutOfOrderSequence {
                producer_id: id,
                epoch: header.producer_epoch,
                sequence: header.base_sequence,
                expected,
            });
        }
        Ok(Sequence::Next)
    }

    /// What must follow a batch, whether it is accepted (`appended`) or not.
    pub fn pending(header: &BatchHeader, appended: bool) -> Pending {
        Pending {
            id: header.producer_id,
            epoch: header.producer_epoch,
            next: if appended {
                advance(last_sequence(header), 1)
            } else {
                header.base_sequence
            },
        }
    }

    /// Remembers that a batch of an unknown producer was not written: the ones behind it, which
    /// it already sent, must not be taken in its place.
    pub fn failed(&mut self, header: &BatchHeader) {
        let known = self.by_id.contains_key(&header.producer_id);
        if header.has_producer() && !known && self.owed.len() < MAX_OWED {
            let owed = (header.producer_epoch, header.base_sequence);
            self.owed.entry(header.producer_id).or_insert(owed);
        }
    }

    /// Takes in a batch that was written at its header's offset.
    pub fn apply(&mut self, header: &BatchHeader, now_ms: i64) {
        if !header.has_producer() {
            return;
        }
        self.changed = true;
        if !self.owed.is_empty() {
            self.owed.remove(&header.producer_id);
        }
        let tracked = self.by_id.entry(header.producer_id).or_default();
        tracked.seen_ms = now_ms;
        let state = tracked
            .info
            .get_or_insert_with(|| ProducerInfo::new(header.producer_id));
        if header.producer_epoch != state.epoch {
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        state.last_timestamp = header.max_timestamp;
        if header.is_control() {
            state.first_transaction_offset = -1;
            return;
        }
        if header.is_transactional() && state.first_transaction_offset < 0 {
            state.first_transaction_offset = header.base_offset;
        }
        if state.batches.len() >= WINDOW {
            state.batches.remove(0);
        }
        state.batches.push(ProducerBatch {
            last_offset: header.last_offset(),
            base_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            timestamp: header.max_timestamp,
        });
    }

    /// Puts back what a snapshot says.
    pub fn restore(&mut self, infos: Vec<ProducerInfo>, now_ms: i64) {
        self.by_id = infos
            .into_iter()
            .map(|info| {
                let tracked = Tracked {
                    info: Some(info),
                    seen_ms: now_ms,
                };
                (tracked.info.as_ref().map_or(-1, |info| info.id), tracked)
            })
            .collect();
        self.changed = false;
    }

    /// Forgets producers that were silent for `expiration_ms`, and the longest silent ones beyond
    /// `max`. Those with an open transaction stay.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64, max: usize) {
        let open = |tracked: &Tracked| {
            tracked
                .info
                .as_ref()
                .is_some_and(|info| info.first_transaction_offset >= 0)
        };
        let before = self.by_id.len();
        self.by_id.retain(|_, tracked| {
            open(tracked) || now_ms.saturating_sub(tracked.seen_ms) < expiration_ms
        });
        if self.by_id.len() > max {
            let mut silent: Vec<(i64, i64)> = self
                .by_id
                .iter()
                .filter(|(_, tracked)| !open(tracked))
                .map(|(id, tracked)| (tracked.seen_ms, *id))
                .collect();
            silent.sort_unstable();
            for (_, id) in silent.iter().take(self.by_id.len() - max) {
                self.by_id.remove(id);
            }
        }
        self.changed |= self.by_id.len() != before;
    }

    /// First offset of the oldest open transaction, `i64::MAX` if there is none.
    pub fn first_transaction_offset(&self) -> i64 {
        let open = self
            .by_id
            .values()
            .filter_map(|tracked| tracked.info.as_ref());
        open.map(|info| info.first_transaction_offset)
            .filter(|offset| *offset >= 0)
            .min()
            .unwrap_or(i64::MAX)
    }

    /// All states, by id.
    pub fn infos(&self) -> Vec<ProducerInfo> {
        let mut infos: Vec<ProducerInfo> = self
            .by_id
            .values()
            .filter_map(|tracked| tracked.info.clone())
            .collect();
        infos.sort_by_key(|info| info.id);
        infos
    }
}

/// After no known sequence (a marker raised the epoch) the first must be 0.
fn advance_or_first(last: i32) -> i32 {
    if last < 0 {
        0
    } else {
        advance(last, 1)
    }
}

fn duplicate(state: &ProducerInfo, header: &BatchHeader) -> Option<i64> {
    if state.epoch != header.producer_epoch {
        return None;
    }
    let last = last_sequence(header);
    let same = |batch: &&ProducerBatch| {
        batch.base_sequence == header.base_sequence && batch.last_sequence == last
    };
    let batch = state.batches.iter().find(same)?;
    Some(batch.last_offset - i64::from(header.last_offset_delta))
}

#[cfg(test)]
mod tests {
    use mqlog_record::{BatchBuilder, Codec};

    use super::*;

    fn header(id: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(Codec::None)
            .base_offset(offset)
            .producer(id, epoch, sequence);
        for _ in 0..count {
            builder.append(None, Some(b"x"), 1, &[]).unwrap();
        }
        BatchHeader::parse(&builder.build().unwrap()).unwrap()
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        let last = header(7, 0, i32::MAX - 1, 3, 100);
        assert_eq!(producers.check(&last, &[]), Ok(Sequence::Next));
        producers.apply(&last, 0);
        assert_eq!(producers.check(&last, &[]), Ok(Sequence::Duplicate(100)));
        assert_eq!(
            producers.check(&header(7, 0, 1, 1, 0), &[]),
            Ok(Sequence::Next)
        );
        assert!(producers.check(&header(7, 0, 0, 1, 0), &[]).is_err());
    }

    #[test]
    fn five_batches_are_remembered() {
        let mut producers = Producers::default();
        for n in 0..6 {
            producers.apply(&header(7, 0, n * 2, 2, i64::from(n) * 2), 0);
        }
        for n in 1..6 {
            let again = header(7, 0, n * 2, 2, 0);
            assert_eq!(
                producers.check(&again, &[]),
                Ok(Sequence::Duplicate(i64::from(n) * 2))
            );
        }
        let old = producers.check(&header(7, 0, 0, 2, 0), &[]).unwrap_err();
        assert_eq!(old.code(), 45);
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let mut producers = Producers::default();
        producers.apply(&header(7, 3, 40, 2, 0), 0);
        assert_eq!(
            producers
                .check(&header(7, 4, 42, 1, 0), &[])
                .unwrap_err()
                .code(),
            45
        );
        assert_eq!(
            producers
                .check(&header(7, 2, 42, 1, 0), &[])
                .unwrap_err()
                .code(),
            47
        );
        assert_eq!(
            producers.check(&header(7, 4, 0, 1, 0), &[]),
            Ok(Sequence::Next)
        );
    }

    #[test]
    fn a_failed_first_batch_holds_the_next_ones_back() {
        let mut producers = Producers::default();
        let first = header(9, 0, 0, 5, 0);
        assert_eq!(producers.check(&first, &[]), Ok(Sequence::Next));
        producers.failed(&first);
        assert_eq!(
            producers
                .check(&header(9, 0, 5, 5, 0), &[])
                .unwrap_err()
                .code(),
            45
        );
        assert_eq!(producers.check(&first, &[]), Ok(Sequence::Next));
        producers.apply(&first, 0);
        assert_eq!(
            producers.check(&header(9, 0, 5, 5, 0), &[]),
            Ok(Sequence::Next)
        );
    }
}
