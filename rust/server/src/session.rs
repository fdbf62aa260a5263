//! Incremental fetch sessions (KIP-227): a client names its partitions once, then only what
//! changed, and is told only what changed.
//!
//! The cache belongs to the broker, not to a connection: a client may go on over another one. It
//! is bounded; who has to go follows Kafka's rules (unused for two minutes, or smaller than the
//! newcomer and older than two minutes), and who finds no place is served without a session.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mqlog_protocol::topic::TopicRef;

use crate::mailbox::lock;
use crate::stats::Stats;

/// A session is left alone for this long after it was used or made.
const EVICTION_MS: u64 = 120_000;
/// Epoch of a full fetch that asks for a new session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// Epoch of a full fetch that wants none (and closes the one it names).
pub(crate) const FINAL_EPOCH: i32 = -1;

/// A topic as the session's requests name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    /// Fetch 13 and later.
    Id([u8; 16]),
    /// Before.
    Name(Arc<str>),
}

impl TopicKey {
    pub(crate) fn as_ref(&self) -> TopicRef<'_> {
        match self {
            TopicKey::Id(id) => TopicRef::Id(*id),
            TopicKey::Name(name) => TopicRef::Name(name),
        }
    }
}

/// What a client asks of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What a client was last told about one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

struct Cached {
    topic: TopicKey,
    partition: i32,
    want: Want,
    told: Told,
}

/// One client's session.
pub(crate) struct Session {
    id: i32,
    /// The epoch its next request must carry.
    epoch: i32,
    by_topic_id: bool,
    /// Where in the round each partition stands: one that was served goes to the end.
    places: HashMap<(TopicKey, i32), u64>,
    round: BTreeMap<u64, Cached>,
    next_place: u64,
}

impl Session {
    fn put(&mut self, topic: TopicKey, partition: i32, want: Want) {
        let key = (topic, partition);
        if let Some(cached) = self
            .places
            .get(&key)
            .and_then(|place| self.round.get_mut(place))
        {
            cached.want = want;
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        let topic = key.0.clone();
        self.places.insert(key, place);
        let told = Told {
            high_watermark: -1,
            log_start: -1,
        };
        self.round.insert(
            place,
            Cached {
                topic,
                partition,
                want,
                told,
            },
        );
    }

    fn forget(&mut self, topic: &TopicKey, partition: i32) {
        if let Some(place) = self.places.remove(&(topic.clone(), partition)) {
            self.round.remove(&place);
        }
    }

    /// All partitions, in the order in which they are to be served.
    pub(crate) fn wants(&self) -> impl Iterator<Item = (&TopicKey, i32, &Want)> {
        self.round
            .values()
            .map(|cached| (&cached.topic, cached.partition, &cached.want))
    }

    /// Whether an answer about a partition must be sent, given what the client knows already;
    /// remembers what it will know. A partition with records goes to the end of the round.
    pub(crate) fn tell(
        &mut self,
        topic: &TopicKey,
        partition: i32,
        now: Told,
        has_records: bool,
        error: bool,
        diverging: bool,
    ) -> bool {
        let key = (topic.clone(), partition);
        let Some(&place) = self.places.get(&key) else {
            return true;
        };
        let Some(cached) = self.round.get_mut(&place) else {
            return true;
        };
        let changed = cached.told.high_watermark != now.high_watermark
            || cached.told.log_start != now.log_start;
        cached.told = now;
        if error {
            // So that the end of the error is news, too.
            cached.told.high_watermark = -1;
        }
        if has_records {
            if let Some(cached) = self.round.remove(&place) {
                self.round.insert(self.next_place, cached);
                self.places.insert(key, self.next_place);
                self.next_place += 1;
            }
        }
        changed || has_records || error || diverging
    }
}

struct Slot {
    session: Arc<Mutex<Session>>,
    created_ms: u64,
    used_ms: u64,
    size: usize,
}

/// All sessions of a broker.
pub(crate) struct SessionCache {
    max: usize,
    slots: Mutex<HashMap<i32, Slot>>,
    /// Ids are a count, hashed with a secret: not to be guessed, and not soon given again.
    random: RandomState,
    ids_made: AtomicU64,
}

/// Why a session request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionError {
    NotFound,
    WrongEpoch,
    TopicIdMismatch,
}

/// One partition in a request.
pub(crate) type Asked = (TopicKey, i32, Want);

impl SessionCache {
    pub(crate) fn new(max: usize) -> Self {
        SessionCache {
            max,
            slots: Mutex::default(),
            random: RandomState::new(),
            ids_made: AtomicU64::new(0),
        }
    }

    /// Ends a session. Unknown ids are no error.
    pub(crate) fn remove(&self, id: i32) {
        lock(&self.slots).remove(&id);
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        lock(&self.slots).len()
    }

    /// Makes a session for a full fetch of `asked`, if there is a place for it.
    pub(crate) fn create(
        &self,
        asked: &[Asked],
        by_topic_id: bool,
        now_ms: u64,
        stats: &Stats,
    ) -> Option<(i32, Arc<Mutex<Session>>)> {
        let mut slots = lock(&self.slots);
        if asked.is_empty() || !make_place(&mut slots, self.max, asked.len(), now_ms, stats) {
            return None;
        }
        let id = self.unused_id(&slots);
        let mut session = Session {
            id,
            epoch: 1,
            by_topic_id,
            places: HashMap::new(),
            round: BTreeMap::new(),
            next_place: 0,
        };
        for (topic, partition, want) in asked {
            session.put(topic.clone(), *partition, *want);
        }
        let size = session.round.len();
        let session = Arc::new(Mutex::new(session));
        let slot = Slot {
            session: session.clone(),
            created_ms: now_ms,
            used_ms: now_ms,
            size,
        };
        slots.insert(id, slot);
        stats.sessions_created.add(1);
        Some((id, session))
    }

    /// Goes on with a session: checks the epoch, applies what changed, counts the epoch up.
    /// `Ok(None)`: nothing is left in it, so it is over.
    pub(crate) fn resume(
        &self,
        id: i32,
        epoch: i32,
        by_topic_id: bool,
        changed: &[Asked],
        forgotten: &[(TopicKey, i32)],
        now_ms: u64,
    ) -> Result<Option<Arc<Mutex<Session>>>, SessionError> {
        let mut slots = lock(&self.slots);
        let slot = slots.get_mut(&id).ok_or(SessionError::NotFound)?;
        let shared = slot.session.clone();
        let mut session = lock(&shared);
        if session.epoch != epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.by_topic_id != by_topic_id {
            return Err(SessionError::TopicIdMismatch);
        }
        for (topic, partition, want) in changed {
            session.put(topic.clone(), *partition, *want);
        }
        for (topic, partition) in forgotten {
            session.forget(topic, *partition);
        }
        slot.used_ms = now_ms;
        slot.size = session.round.len();
        if session.round.is_empty() {
            slots.remove(&session.id);
            return Ok(None);
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        drop(session);
        Ok(Some(shared))
    }

    fn unused_id(&self, slots: &HashMap<i32, Slot>) -> i32 {
        loop {
            let count = self.ids_made.fetch_add(1, Ordering::Relaxed);
            let id = (self.random.hash_one(count) & 0x7fff_ffff) as i32;
            if id != 0 && !slots.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Evicts if it must and may; true if one more fits.
fn make_place(
    slots: &mut HashMap<i32, Slot>,
    max: usize,
    size: usize,
    now_ms: u64,
    stats: &Stats,
) -> bool {
    if slots.len() < max {
        return true;
    }
    let age = |since: u64| now_ms.saturating_sub(since);
    let unused = slots.iter().min_by_key(|(id, slot)| (slot.used_ms, **id));
    let victim = match unused {
        Some((id, slot)) if age(slot.used_ms) > EVICTION_MS => Some(*id),
        _ => (slots.iter())
            .filter(|(_, slot)| age(slot.created_ms) > EVICTION_MS && slot.size < size)
            .min_by_key(|(id, slot)| (slot.size, **id))
            .map(|(id, _)| *id),
    };
    let Some(id) = victim else { return false };
    slots.remove(&id);
    stats.sessions_evicted.add(1);
    true
}
