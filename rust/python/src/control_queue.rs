//! The way of events from the engine's threads to the control thread: a queue and a condition
//! variable, so that no engine thread ever waits for the interpreter.
//!
//! It is bounded by what feeds it: one request per connection, one completion per effect.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mqlog_server::{ControlEvent, ControlPlane};

/// Events in the order of their arrival.
#[derive(Default)]
pub struct ControlQueue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<ControlEvent>,
    /// `wake` was called since the last `take`.
    woken: bool,
}

impl ControlPlane for ControlQueue {
    fn submit(&self, event: ControlEvent) {
        self.lock().events.push_back(event);
        self.arrived.notify_one();
    }
}

impl ControlQueue {
    /// At most `max` events; waits for one until `timeout` or `wake`. With the horizon: when the
    /// oldest request that is left arrived, or, if none is left, `clock` now.
    pub fn take(
        &self,
        max: usize,
        timeout: Duration,
        clock: impl Fn() -> u64,
    ) -> (Vec<ControlEvent>, u64) {
        let nothing = |state: &mut State| state.events.is_empty() && !state.woken;
        let mut state = if timeout.is_zero() {
            self.lock()
        } else {
            let waited = self
                .arrived
                .wait_timeout_while(self.lock(), timeout, nothing);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        state.woken = false;
        let count = state.events.len().min(max);
        let taken = state.events.drain(..count).collect();
        let oldest = state.events.iter().find_map(|event| match event {
            ControlEvent::Request(request) => Some(request.arrival_ns),
            _ => None,
        });
        // Under the lock: what arrives later is after the horizon.
        (taken, oldest.unwrap_or_else(clock))
    }

    /// Ends the `take` that waits, or the next one.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
