//! What waits for, and what is on its way to, one partition: the rules of order and of numbers.
//! No I/O happens here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use super::idempotence::{Identity, Numbering};
use crate::ClientError;

/// What a broker remembers of a producer's last batches. A batch whose end is not known must stay
/// among them, or its second copy would look like a gap: so nothing is sent that is further away
/// from the first such batch, however many in between are in the log already.
const REMEMBERED: u64 = 5;

/// One partition's batches.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: Arc<str>,
    /// In the order of their numbers: sent, and not known to be in the log or not.
    pub(crate) sent: VecDeque<Batch>,
    /// Sealed, in order; the flag says whether it is being compressed.
    pub(crate) ready: VecDeque<(Batch, bool)>,
    /// The open batch, if it lingers no longer.
    pub(crate) due: Option<u64>,
    /// Whether it stands in a node's list.
    pub(crate) listed: bool,
    pub(crate) not_before: Option<Instant>,
    /// Attempts that failed in a row.
    pub(crate) failures: u32,
    numbering: Option<Numbering>,
    /// The broker has taken a batch of this producer id. Before that it would take any number, so
    /// that a batch could overtake one that must be sent again.
    known: bool,
    /// A batch was refused for good; its numbers are missing at the broker.
    hole: bool,
    /// What is not known to be in the log needs numbers of a new epoch.
    renew: bool,
    flying: usize,
    node: i32,
    next_place: u64,
}

/// What a lane would send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// Something, but not now: an answer, a time or a thread comes first.
    Later,
    /// Something, once there is a producer id.
    Identity,
    /// The batch of `sent` at this place, again.
    Again(usize),
    /// The first of `ready`.
    First,
    /// The open batch.
    Open(u64),
}

/// What an answer says about a batch.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// It is in the log.
    Written {
        base_offset: i64,
        log_append_time: i64,
    },
    /// It is not there now, or nobody knows (`unknown`); another attempt may help.
    Again { unknown: bool },
    /// The numbers before it are missing.
    Gap,
    /// The broker does not know the producer, or a later epoch of it.
    Stranger,
    /// It is too large.
    TooLarge,
    /// It will never be taken.
    Refused,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Settled {
    /// It ended as the verdict says.
    Over(Box<Batch>),
    /// It is in the log, nobody knows where.
    There(Box<Batch>),
    /// It is sent again.
    Again,
    /// It must be split, at this place.
    Split(usize),
    /// No such batch is on its way.
    Unknown,
}

impl Lane {
    pub(crate) fn new(topic: Arc<str>) -> Lane {
        Lane {
            topic,
            sent: VecDeque::new(),
            ready: VecDeque::new(),
            due: None,
            listed: false,
            not_before: None,
            failures: 0,
            numbering: None,
            known: false,
            hole: false,
            renew: false,
            flying: 0,
            node: -1,
            next_place: 0,
        }
    }

    /// Whether there is anything to look after.
    pub(crate) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.ready.is_empty() && self.due.is_none()
    }

    /// Where it has requests on their way to.
    pub(crate) fn bound_to(&self) -> Option<i32> {
        (self.flying > 0).then_some(self.node)
    }

    /// What can be sent to `node` now. `idempotent`: batches with acks=all get numbers.
    pub(crate) fn next(&mut self, node: i32, now: Instant, identity: &mut Identity) -> Next {
        if self.is_idle() {
            return Next::Nothing;
        }
        let waits = self.not_before.is_some_and(|when| when > now);
        // What is unanswered at another node may still arrive there.
        if waits || self.bound_to().is_some_and(|bound| bound != node) {
            return Next::Later;
        }
        if self.renew || (self.hole && self.sent.is_empty()) {
            if self.flying > 0 {
                return Next::Later;
            }
            if !self.start_again(identity) {
                return Next::Identity;
            }
        }
        if let Some(again) = self.sent.iter().position(|batch| batch.flight.is_none()) {
            // In order: not before what follows it has come back as well.
            let all_back = self.sent.range(again..).all(|batch| batch.flight.is_none());
            let place = self.sent.get(again).map_or(0, |batch| batch.place);
            let free = all_back && self.is_remembered(place);
            return if free {
                Next::Again(again)
            } else {
                Next::Later
            };
        }
        let (acks, next) = match (self.ready.front(), self.due) {
            (Some((_, true)), _) => return Next::Later,
            (Some((batch, false)), _) => (Some(batch.acks), Next::First),
            (None, Some(serial)) => (None, Next::Open(serial)),
            (None, None) => return Next::Nothing,
        };
        let together = match (self.sent.front(), acks) {
            (None, _) => true,
            (Some(flying), Some(acks)) => flying.acks == acks && flying.numbers.is_some(),
            (Some(flying), None) => flying.numbers.is_some(),
        };
        if !together || self.hole || !self.is_remembered(self.next_place) {
            return Next::Later;
        }
        next
    }

    /// Whether the broker still knows the first batch of `sent` when the one at `place` is written.
    fn is_remembered(&self, place: u64) -> bool {
        let most = if self.known { REMEMBERED } else { 1 };
        let first = self.sent.front().map_or(place, |batch| batch.place);
        place - first < most
    }

    /// The batch that [`Lane::next`] means.
    pub(crate) fn candidate(&self, next: &Next) -> Option<&Batch> {
        match next {
            Next::Again(at) => self.sent.get(*at),
            Next::First => self.ready.front().map(|(batch, _)| batch),
            _ => None,
        }
    }

    /// Moves the first of `ready` to `sent`, and says where it is. With `identity` a batch of
    /// acks=all gets numbers; `None` without a producer id.
    pub(crate) fn admit(&mut self, identity: Option<&Identity>) -> Option<usize> {
        let (batch, _) = self.ready.front_mut()?;
        if let Some(identity) = identity.filter(|_| batch.acks == -1 && batch.numbers.is_none()) {
            if self.numbering.is_none() {
                self.numbering = identity.first();
            }
            batch.numbers = Some(self.numbering.as_mut()?.take(batch.count));
        }
        let (mut batch, _) = self.ready.pop_front()?;
        batch.place = self.next_place;
        self.next_place += 1;
        self.sent.push_back(batch);
        Some(self.sent.len() - 1)
    }

    /// A batch of `sent` leaves with request `flight`.
    pub(crate) fn leaves(&mut self, at: usize, flight: u64, node: i32) {
        if let Some(batch) = self.sent.get_mut(at) {
            batch.flight = Some(flight);
            self.flying += 1;
            self.node = node;
        }
    }

    /// Takes what is said about the batch of request `flight`.
    pub(crate) fn settle(
        &mut self,
        flight: u64,
        verdict: &Verdict,
        error: Option<ClientError>,
    ) -> Settled {
        let place = self
            .sent
            .iter()
            .position(|batch| batch.flight == Some(flight));
        let Some((at, batch)) = place.and_then(|at| Some((at, self.sent.get_mut(at)?))) else {
            return Settled::Unknown;
        };
        batch.flight = None;
        self.flying -= 1;
        let numbered = batch.numbers.is_some();
        if error.is_some() {
            batch.last_error = error;
        }
        match verdict {
            Verdict::Written { .. } => {
                self.failures = 0;
                self.known |= numbered;
                if numbered {
                    let earlier = self.sent.range_mut(..at);
                    earlier.for_each(|batch| batch.proven = batch.numbers.is_some());
                }
                return self.over(at);
            }
            Verdict::Gap | Verdict::Stranger if numbered && batch.proven => {
                let batch = self.sent.remove(at);
                return batch.map_or(Settled::Unknown, |batch| Settled::There(Box::new(batch)));
            }
            Verdict::Again { unknown } => {
                batch.unknown |= unknown;
                batch.attempts += 1;
            }
            Verdict::Gap | Verdict::Stranger if numbered => {
                self.known &= matches!(verdict, Verdict::Gap);
                // What comes after a batch that did not arrive cannot arrive either; the lowest
                // was refused for itself, so neither it nor what follows is in the log.
                if at == 0 {
                    self.renew = true;
                    batch.unknown = false;
                    batch.attempts += 1;
                }
            }
            Verdict::TooLarge if batch.count > 1 => return Settled::Split(at),
            _ => {
                self.hole |= numbered;
                return self.over(at);
            }
        }
        let ended = batch.state.is_over();
        if ended && !(numbered && batch.unknown) {
            self.hole |= numbered;
            return self.over(at);
        }
        Settled::Again
    }

    fn over(&mut self, at: usize) -> Settled {
        let batch = self.sent.remove(at);
        batch.map_or(Settled::Unknown, |batch| Settled::Over(Box::new(batch)))
    }

    /// Puts the halves of a batch in its place.
    pub(crate) fn replace(&mut self, at: usize, halves: [Batch; 2]) {
        let Some(whole) = self.sent.remove(at) else {
            return;
        };
        // What was sent after it was refused with it, and moves by one.
        self.sent.range_mut(at..).for_each(|batch| batch.place += 1);
        self.next_place += 1;
        for (more, mut half) in halves.into_iter().enumerate().rev() {
            half.place = whole.place + more as u64;
            self.sent.insert(at, half);
        }
    }

    /// Takes out a batch that could not be split.
    pub(crate) fn remove(&mut self, at: usize) -> Option<Batch> {
        let batch = self.sent.remove(at)?;
        self.hole |= batch.numbers.is_some();
        Some(batch)
    }

    /// Drops what need not be sent any more of batches whose futures have failed: all that the
    /// broker cannot have. What it may have stays, numbers and all, until it is known.
    pub(crate) fn drop_ended(&mut self) {
        let mut hole = self.hole;
        self.sent.retain(|batch| {
            let stays = batch.flight.is_some() || (batch.numbers.is_some() && batch.unknown);
            let goes = batch.state.is_over() && !stays;
            hole |= goes && batch.numbers.is_some();
            !goes
        });
        self.hole = hole;
        self.ready.retain(|(batch, _)| !batch.state.is_over());
    }

    /// With nothing on its way: what is not in the log is numbered anew, in a later epoch.
    fn start_again(&mut self, identity: &mut Identity) -> bool {
        if let Some(numbering) = &self.numbering {
            let Some(next) = identity.beyond(numbering) else {
                return false;
            };
            self.known &= next.is_same_producer(numbering);
            self.numbering = Some(next);
        }
        while let Some(mut batch) = self.sent.pop_back() {
            if batch.state.is_over() {
                continue;
            }
            batch.numbers = None;
            batch.unknown = false;
            batch.proven = false;
            self.ready.push_front((batch, false));
        }
        self.renew = false;
        self.hole = false;
        true
    }
}
