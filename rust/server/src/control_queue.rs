//! The way of events from the engine's threads to the control thread: a queue and a condition
//! variable, so that no engine thread ever waits for the interpreter.
//!
//! It is bounded by what feeds it: one request per connection, one completion per effect.
//!
//! Heartbeats alone wait a moment for each other: nobody waits for their answers, and thousands of
//! members would otherwise wake two threads each for theirs.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mqlog_protocol::ApiKey;

use crate::{ControlEvent, ControlPlane};

/// How long heartbeats wait for company, at most.
const PATIENCE: Duration = Duration::from_millis(3);
/// How many are company enough.
const ENOUGH: usize = 8;

/// Events in the order of their arrival.
pub struct ControlQueue {
    state: Mutex<State>,
    arrived: Condvar,
    patience: Duration,
}

impl Default for ControlQueue {
    fn default() -> ControlQueue {
        ControlQueue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            patience: PATIENCE,
        }
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<ControlEvent>,
    /// One of them is no heartbeat, or has waited before.
    urgent: bool,
    /// A `take` has seen heartbeats and waits for more.
    patient: bool,
    /// `wake` was called since the last `take`.
    woken: bool,
}

impl ControlPlane for ControlQueue {
    fn submit(&self, event: ControlEvent) {
        let mut state = self.lock();
        state.urgent |= !is_heartbeat(&event);
        state.events.push_back(event);
        let ring = !state.patient || state.urgent || state.events.len() >= ENOUGH;
        drop(state);
        if ring {
            self.arrived.notify_one();
        }
    }
}

fn is_heartbeat(event: &ControlEvent) -> bool {
    matches!(event, ControlEvent::Request(request) if request.api_key == ApiKey::Heartbeat as i16)
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
        let mut state = self.lock();
        if !timeout.is_zero() {
            state = self.wait(state, timeout, |state| {
                state.events.is_empty() && !state.woken
            });
        }
        if timeout >= self.patience && !state.events.is_empty() {
            state.patient = true;
            state = self.wait(state, self.patience, |state| {
                !state.urgent && !state.woken && state.events.len() < ENOUGH
            });
            state.patient = false;
        }
        state.woken = false;
        let count = state.events.len().min(max);
        let taken = state.events.drain(..count).collect();
        state.urgent = !state.events.is_empty();
        let oldest = state.events.iter().find_map(|event| match event {
            ControlEvent::Request(request) => Some(request.arrival_ns),
            _ => None,
        });
        // Under the lock: what arrives later is after the horizon.
        (taken, oldest.unwrap_or_else(clock))
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        timeout: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.arrived.wait_timeout_while(state, timeout, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ControlRequest;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    fn request(api_key: ApiKey) -> ControlEvent {
        let address = ([127, 0, 0, 1], 9092).into();
        ControlEvent::Request(ControlRequest {
            token: 1,
            api_key: api_key as i16,
            api_version: 0,
            client_id: None,
            body: Vec::new(),
            peer: address,
            local: address,
            listener: String::new(),
            arrival_ns: 7,
        })
    }

    fn patient(patience: Duration) -> Arc<ControlQueue> {
        Arc::new(ControlQueue {
            patience,
            ..ControlQueue::default()
        })
    }

    #[test]
    fn heartbeats_are_taken_together() {
        let queue = patient(Duration::from_millis(300));
        queue.submit(request(ApiKey::Heartbeat));
        let other = queue.clone();
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            other.submit(request(ApiKey::Heartbeat));
        });
        let (events, horizon) = queue.take(10, LONG, || 42);
        later.join().unwrap();
        assert_eq!((events.len(), horizon), (2, 42));
    }

    #[test]
    fn nobody_else_waits_for_them() {
        let queue = patient(LONG);
        let began = Instant::now();
        queue.submit(request(ApiKey::Heartbeat));
        let other = queue.clone();
        let later = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            other.submit(request(ApiKey::OffsetCommit));
        });
        assert_eq!(queue.take(10, LONG, || 42).0.len(), 2);
        later.join().unwrap();
        queue.submit(request(ApiKey::OffsetCommit));
        queue.submit(request(ApiKey::Heartbeat));
        assert_eq!(queue.take(10, LONG, || 42).0.len(), 2);
        queue.submit(request(ApiKey::Heartbeat));
        queue.wake();
        assert_eq!(queue.take(10, LONG, || 42).0.len(), 1);
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn many_do_not_wait() {
        let queue = patient(LONG);
        let began = Instant::now();
        let other = queue.clone();
        let later = thread::spawn(move || {
            for _ in 0..ENOUGH {
                thread::sleep(Duration::from_millis(5));
                other.submit(request(ApiKey::Heartbeat));
            }
        });
        assert_eq!(queue.take(10, LONG, || 42).0.len(), ENOUGH);
        later.join().unwrap();
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn what_is_left_has_waited_enough() {
        let queue = patient(LONG);
        let began = Instant::now();
        for _ in 0..3 {
            queue.submit(request(ApiKey::Heartbeat));
        }
        // Who has a timer that is due does not wait at all.
        let (events, horizon) = queue.take(2, Duration::ZERO, || 42);
        assert_eq!((events.len(), horizon), (2, 7));
        assert_eq!(queue.take(2, LONG, || 42).0.len(), 1);
        assert!(began.elapsed() < LONG);
    }
}
