//! `buffer_memory`: what the batches of a producer may take together, and who waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::io::lock;
use crate::Bell;

/// Counts bytes; whoever waits for some is served in order.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    state: Mutex<State>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    last_turn: u64,
    /// Turns, and how much each is for.
    waiting: VecDeque<(Turn, usize)>,
}

impl State {
    /// Whether who waits should look: there is room for it, and for more, so that a full producer
    /// does not go to sleep after each batch. Nobody depends on it: waits are short.
    fn is_worth_a_ring(&self, limit: usize) -> bool {
        let free = limit.saturating_sub(self.used);
        let first = self.waiting.front();
        first.is_some_and(|(_, bytes)| free >= (*bytes).max(limit / 4))
    }
}

/// A place among those who wait; 0 for who does not.
pub type Turn = u64;

impl Memory {
    pub(crate) fn new(limit: usize) -> Arc<Memory> {
        Arc::new(Memory {
            limit,
            state: Mutex::default(),
            bell: Bell::default(),
        })
    }

    /// Rings when there is room for who waits.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// `bytes`, unless that is too much or others wait longer. Whoever gets nothing has a turn
    /// from then on, and gives it up with [`Memory::leave`] when it no longer waits.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize, turn: &mut Turn) -> Option<Reserved> {
        let mut state = lock(&self.state);
        let mine = state.waiting.front().is_none_or(|(first, _)| first == turn);
        if mine && state.used.saturating_add(bytes) <= self.limit {
            state.used += bytes;
            if *turn != 0 {
                state.waiting.pop_front();
                *turn = 0;
                let next = !state.waiting.is_empty();
                drop(state);
                if next {
                    self.bell.ring();
                }
            }
            return Some(self.reserved(bytes));
        }
        if *turn == 0 {
            state.last_turn += 1;
            *turn = state.last_turn;
            state.waiting.push_back((*turn, bytes));
        }
        None
    }

    /// `bytes`, whatever the limit: for what is needed to free others.
    pub(crate) fn force(self: &Arc<Self>, bytes: usize) -> Reserved {
        lock(&self.state).used += bytes;
        self.reserved(bytes)
    }

    /// `bytes` more, if nobody waits and there is room.
    pub(crate) fn extend(&self, reserved: &mut Reserved, bytes: usize) -> bool {
        let mut state = lock(&self.state);
        let fits = state.waiting.is_empty() && state.used.saturating_add(bytes) <= self.limit;
        if fits {
            state.used += bytes;
            reserved.bytes += bytes;
        }
        fits
    }

    /// Gives up a turn.
    pub(crate) fn leave(&self, turn: &mut Turn) {
        if *turn == 0 {
            return;
        }
        lock(&self.state).waiting.retain(|(one, _)| one != turn);
        *turn = 0;
        self.bell.ring();
    }

    /// Whether somebody waits.
    pub(crate) fn is_wanted(&self) -> bool {
        !lock(&self.state).waiting.is_empty()
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        lock(&self.state).used
    }

    /// `buffer_memory`.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    fn reserved(self: &Arc<Self>, bytes: usize) -> Reserved {
        Reserved {
            memory: self.clone(),
            bytes,
        }
    }
}

/// Bytes that are given back when this goes.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Reserved {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = lock(&self.memory.state);
        state.used = state.used.saturating_sub(self.bytes);
        let ring = state.is_worth_a_ring(self.memory.limit);
        drop(state);
        if ring {
            self.memory.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_served_in_order() {
        let memory = Memory::new(100);
        let (mut first, mut second, mut third) = (0, 0, 0);
        let held = memory.reserve(80, &mut 0).unwrap();
        assert!(memory.reserve(90, &mut first).is_none());
        assert!(
            memory.reserve(10, &mut second).is_none(),
            "there is room, but not for who came later"
        );
        assert!(memory.is_wanted());
        drop(held);
        assert!(memory.reserve(10, &mut second).is_none());
        let held = memory.reserve(90, &mut first).unwrap();
        let more = memory.reserve(10, &mut second).unwrap();
        assert_eq!((first, second, memory.used()), (0, 0, 100));
        assert!(memory.reserve(1, &mut third).is_none());
        memory.leave(&mut third);
        assert!(!memory.is_wanted());
        drop((held, more));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn growing_takes_nothing_from_who_waits() {
        let memory = Memory::new(100);
        let mut held = memory.reserve(10, &mut 0).unwrap();
        assert!(memory.extend(&mut held, 20) && !memory.extend(&mut held, 80));
        let mut turn = 0;
        assert!(memory.reserve(80, &mut turn).is_none());
        assert!(!memory.extend(&mut held, 1));
        drop(held);
        assert_eq!(memory.force(300).bytes, memory.used());
        assert_eq!(memory.used(), 0);
    }
}
