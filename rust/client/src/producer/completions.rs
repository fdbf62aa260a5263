//! Batches that ended and that somebody wants to be told of, for one thread that tells.

use std::sync::Mutex;
use std::time::Duration;

use crate::io::lock;
use crate::{Bell, Woken};

/// A queue of tokens; see `BatchState::watch`.
#[derive(Debug, Default)]
pub struct Completions {
    state: Mutex<State>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct State {
    tokens: Vec<u64>,
    closed: bool,
}

/// What [`Completions::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many tokens were written.
    Tokens(usize),
    /// Nothing came in time, or a signal did.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl Completions {
    pub(crate) fn put(&self, token: u64) {
        let mut state = lock(&self.state);
        state.tokens.push(token);
        // Who takes empties the queue, so the first of several rings for all.
        let first = state.tokens.len() == 1;
        drop(state);
        if first {
            self.bell.ring();
        }
    }

    /// Nothing is put any more; [`Completions::take`] says so when all is taken.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.bell.ring();
    }

    /// Moves tokens to `out`, waiting up to `timeout` for the first.
    pub fn take(&self, out: &mut [u64], timeout: Duration) -> Taken {
        let ticket = self.bell.ticket();
        match self.try_take(out) {
            Taken::Nothing => {}
            taken => return taken,
        }
        match self.bell.wait(ticket, timeout) {
            Woken::Rung => self.try_take(out),
            Woken::TimedOut | Woken::Interrupted => Taken::Nothing,
        }
    }

    fn try_take(&self, out: &mut [u64]) -> Taken {
        let mut state = lock(&self.state);
        let count = state.tokens.len().min(out.len());
        if count == 0 {
            return if state.closed {
                Taken::Closed
            } else {
                Taken::Nothing
            };
        }
        for (to, token) in out.iter_mut().zip(state.tokens.drain(..count)) {
            *to = token;
        }
        Taken::Tokens(count)
    }
}
