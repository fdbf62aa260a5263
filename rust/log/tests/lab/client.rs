//! An idempotent producer, as a client library has one: a window of batches without an answer,
//! sent again in order, and a new epoch when the log has lost what came before.

use std::collections::VecDeque;
use std::sync::Arc;

use mqlog_log::sim::SimRng;
use mqlog_log::{AppendError, Appended};

use super::batch::{batch, Sent};
use super::ledger::Ledger;

/// Batches that wait for an answer; the log remembers as many.
const WINDOW: usize = 5;

struct Waiting {
    sent: Arc<Sent>,
    /// What the high watermark must reach; `None` while the log did not take it.
    commit_at: Option<i64>,
}

/// A producer.
pub struct Client {
    id: i64,
    epoch: i16,
    sequence: i32,
    /// `acks=all`; else `acks=1`.
    all: bool,
    window: VecDeque<Waiting>,
    /// The newest batch it has an answer for.
    acked: Option<Arc<Sent>>,
    /// The log may have lost what this producer sent before: it may be told so.
    excused: bool,
    /// A batch of the request in progress was refused: so will be those behind it.
    refused: bool,
}

impl Client {
    pub fn new(id: i64, all: bool) -> Client {
        Client {
            id,
            epoch: 0,
            sequence: 0,
            all,
            window: VecDeque::new(),
            acked: None,
            excused: false,
            refused: false,
        }
    }

    /// What its next request holds: batches without an answer, then new ones.
    pub fn request(&mut self, rng: &mut SimRng, serial: &mut u64, now_ms: i64) -> Vec<Arc<Sent>> {
        self.refused = false;
        for _ in 0..rng.index(3) {
            if self.window.len() < WINDOW {
                *serial += 1;
                let sent = batch(
                    rng,
                    *serial,
                    now_ms,
                    Some((self.id, self.epoch, self.sequence)),
                );
                self.sequence += sent.header.records_count;
                self.window.push_back(Waiting {
                    sent,
                    commit_at: None,
                });
            }
        }
        let open = self
            .window
            .iter()
            .filter(|waiting| waiting.commit_at.is_none());
        open.map(|waiting| waiting.sent.clone()).collect()
    }

    /// Whether an answer to one of its batches is one it may get.
    pub fn answer(
        &mut self,
        sent: &Arc<Sent>,
        answer: &Result<Appended, AppendError>,
    ) -> Result<(), String> {
        match answer {
            Ok(appended) => {
                // The log takes what follows: it has no excuse any more.
                self.excused &= appended.duplicate;
                let mut window = self.window.iter_mut();
                if let Some(waiting) = window.find(|w| w.sent.serial == sent.serial) {
                    waiting.commit_at = Some(appended.commit_at);
                }
                if !self.all {
                    self.committed(i64::MAX);
                }
                Ok(())
            }
            Err(AppendError::Storage(_)) => {
                self.refused = true;
                Ok(())
            }
            Err(AppendError::OutOfOrderSequence { .. }) if self.refused => Ok(()),
            Err(AppendError::OutOfOrderSequence { .. }) if self.excused => {
                self.refused = true;
                self.new_epoch();
                Ok(())
            }
            Err(error) => Err(format!("batch {}: {error}", sent.serial)),
        }
    }

    fn new_epoch(&mut self) {
        self.epoch += 1;
        self.sequence = 0;
        self.window.clear();
        self.acked = None;
        self.excused = false;
    }

    /// Everything below `end` is committed.
    pub fn committed(&mut self, end: i64) {
        let done = |waiting: &Waiting| waiting.commit_at.is_some_and(|at| at <= end);
        while self.window.front().is_some_and(done) {
            self.acked = self.window.pop_front().map(|waiting| waiting.sent);
        }
    }

    /// The log may be another than before: everything without an answer is sent again. It must
    /// be taken or recognised, unless the log lost what it follows.
    pub fn reconnect(&mut self, ledger: &Ledger) {
        self.window
            .iter_mut()
            .for_each(|waiting| waiting.commit_at = None);
        let acked = self.acked.as_ref();
        let known = acked.is_none_or(|sent| ledger.holds(sent) || ledger.deleted(sent));
        let damaged = acked.is_some_and(|sent| ledger.was_damaged(sent));
        let mut held = self.window.iter().map(|w| {
            (ledger.holds(&w.sent) || ledger.deleted(&w.sent)) && !ledger.was_damaged(&w.sent)
        });
        let in_order = held.by_ref().find(|held| !held).is_none() || !held.any(|held| held);
        self.excused |= !known || damaged || !in_order;
    }
}
