//! Fetch: from offsets to ranges of stored batches, waiting if there is not enough.
//!
//! A fetch that waits is parked with a timer and a registration at each of its partitions; it
//! holds no thread. Bytes that are cold, or that this process has not checked yet, are read by the
//! pool first; then the answer is put together here.

use std::sync::{Arc, Mutex};

use mqlog_log::{Partition, ReadError, ReadRange, ReadUpTo, Wake};
use mqlog_protocol::fetch::{FetchRequest, FetchScratch};
use mqlog_protocol::fetch_response::{EpochEndOffset, FetchFrame};
use mqlog_protocol::topic::TopicRef;
use mqlog_protocol::ErrorCode;

use crate::close::Close;
use crate::connection::{Connection, Io};
use crate::decode::Request;
use crate::fetch_answer;
use crate::lookup;
use crate::mailbox::{lock, Letter, PartitionWake};
use crate::outbox::Outbox;
use crate::park::Parked;
use crate::router::{Route, Router};
use crate::session::{Asked, Session, SessionError, TopicKey, Want, FINAL_EPOCH, INITIAL_EPOCH};

/// Reads that were still cold after this many trips through the pool are sent as they are.
const WARM_TRIES: u8 = 3;

/// Memory of an I/O thread that one fetch after the other is worked on in.
#[derive(Default)]
pub(crate) struct FetchArena {
    scratch: FetchScratch,
    pub(crate) frame: FetchFrame,
    pub(crate) finds: Vec<Find>,
}

/// A fetch as the client asked for it.
pub(crate) struct Query {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    min_bytes: u64,
    max_bytes: usize,
    up_to: ReadUpTo,
    pub(crate) read_committed: bool,
    deadline_ms: u64,
    pub(crate) session_id: i32,
    /// Set for incremental requests: only what changed is answered.
    pub(crate) session: Option<Arc<Mutex<Session>>>,
    pub(crate) incremental: bool,
    pub(crate) error: ErrorCode,
    pub(crate) items: Vec<Item>,
}

/// One partition of a fetch.
pub(crate) struct Item {
    pub(crate) topic: TopicKey,
    pub(crate) index: i32,
    want: Want,
    partition: Result<Arc<Partition>, ErrorCode>,
}

/// What was found for one partition.
pub(crate) struct Find {
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable: i64,
    pub(crate) log_start: i64,
    pub(crate) diverging: Option<EpochEndOffset>,
    pub(crate) leader_epoch: i32,
    pub(crate) range: Option<ReadRange>,
    needs_pool: bool,
}

/// A fetch that waits.
pub(crate) struct FetchWait {
    query: Query,
    /// The ticket of the pool's letter, if it waits for the pool.
    pool: Option<u64>,
    pool_tries: u8,
    watching: Watching,
}

/// Registrations at partitions, taken back when dropped.
#[derive(Default)]
struct Watching {
    wake: Option<Arc<PartitionWake>>,
    partitions: Vec<Arc<Partition>>,
}

impl Watching {
    fn end(&mut self) {
        if let Some(wake) = &self.wake {
            let wake: Arc<dyn Wake> = wake.clone();
            self.partitions
                .drain(..)
                .for_each(|partition| partition.unwait(&wake));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.end();
    }
}

impl FetchWait {
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.pool.is_none().then_some(self.query.deadline_ms)
    }
}

impl Connection {
    /// Answers a fetch, or parks it.
    pub(crate) fn fetch(
        &mut self,
        request: &Request<'_>,
        io: &mut Io,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        let query = self.query(request, &mut io.fetch.scratch)?;
        let wait = FetchWait {
            query,
            pool: None,
            pool_tries: 0,
            watching: Watching::default(),
        };
        let mut parked = Box::new(Parked::Fetch(wait));
        if let Parked::Fetch(wait) = &mut *parked {
            if self.try_fetch(wait, io, out)? {
                return Ok(());
            }
            self.core
                .stats
                .fetch_waits
                .add(u64::from(wait.pool.is_none()));
        }
        self.parked = Some(parked);
        Ok(())
    }

    /// Looks at a parked fetch again. True: it is answered.
    pub(crate) fn fetch_again(
        &mut self,
        wait: &mut FetchWait,
        io: &mut Io,
        out: &mut Outbox,
    ) -> Result<bool, Close> {
        if let Some(ticket) = wait.pool {
            match self.mailbox.collect(ticket) {
                Some(Letter::Warmed) => wait.pool = None,
                Some(_) => return Err(Close::ByControl),
                None => return Ok(false),
            }
        }
        self.try_fetch(wait, io, out)
    }

    fn try_fetch(
        &mut self,
        wait: &mut FetchWait,
        io: &mut Io,
        out: &mut Outbox,
    ) -> Result<bool, Close> {
        let arena = &mut io.fetch;
        let query = &wait.query;
        let due = self.draining() || self.core.now_ms() >= query.deadline_ms;
        let enough = find_all(query, &mut arena.finds);
        if enough || due {
            if wait.pool_tries < WARM_TRIES && self.warm(wait, &mut arena.finds) {
                return Ok(false);
            }
            arena.finds.iter_mut().for_each(Find::give_up);
            wait.watching.end();
            fetch_answer::write(&self.core, &self.place, &wait.query, arena, out)?;
            arena.finds.clear();
            return Ok(true);
        }
        let moved = self.watch(wait, &arena.finds);
        arena.finds.clear();
        if moved {
            self.mailbox.wake();
        }
        Ok(false)
    }

    /// Registers at every partition for what lies beyond the marks that were just found. True if
    /// one has moved on meanwhile.
    fn watch(&mut self, wait: &mut FetchWait, finds: &[Find]) -> bool {
        if wait
            .watching
            .wake
            .as_ref()
            .is_some_and(|wake| !wake.fired())
        {
            return false;
        }
        wait.watching.end();
        let wake = Arc::new(PartitionWake::new(&self.mailbox));
        wait.watching.wake = Some(wake.clone());
        let mut moved = false;
        for (item, find) in wait.query.items.iter().zip(finds) {
            let Ok(partition) = &item.partition else {
                continue;
            };
            wait.watching.partitions.push(partition.clone());
            let next = find.high_watermark.max(item.want.offset).saturating_add(1);
            moved |= partition.wait_for(next, wake.clone());
        }
        moved
    }

    /// Hands what is cold or unchecked to the pool. False: nothing is.
    fn warm(&mut self, wait: &mut FetchWait, finds: &mut [Find]) -> bool {
        let mut jobs = Vec::new();
        for (item, find) in wait.query.items.iter().zip(finds.iter_mut()) {
            let Ok(partition) = &item.partition else {
                continue;
            };
            let cold = |range: &ReadRange| range.needs_check() || !range.resident();
            if find.needs_pool || find.range.as_ref().is_some_and(cold) {
                jobs.push((partition.clone(), item.want, find.range.take()));
            }
        }
        if jobs.is_empty() {
            return false;
        }
        self.core.stats.fetch_cold.add(jobs.len() as u64);
        let ticket = self.core.tokens.ticket();
        wait.pool = Some(ticket);
        wait.pool_tries += 1;
        let mailbox = Arc::downgrade(&self.mailbox);
        let (up_to, max_bytes) = (wait.query.up_to, wait.query.max_bytes);
        self.core.dir.spawn(Box::new(move || {
            for (partition, want, range) in jobs {
                if mailbox.strong_count() == 0 {
                    return;
                }
                let limit = max_bytes.min(want.max_bytes.max(0) as usize);
                warm_one(&partition, want.offset, limit, up_to, range);
            }
            if let Some(mailbox) = mailbox.upgrade() {
                mailbox.post(ticket, Letter::Warmed);
            }
        }));
        true
    }

    /// What the request asks for, with its session applied.
    fn query(&mut self, request: &Request<'_>, scratch: &mut FetchScratch) -> Result<Query, Close> {
        let version = request.header.api_version;
        let parsed = FetchRequest::parse_into(version, request.body, scratch)
            .map_err(|_| Close::Malformed)?;
        let core = &self.core;
        let router = core.router.load();
        let now_ms = core.now_ms();
        let read_committed = parsed.isolation_level == 1;
        let mut query = Query {
            version,
            correlation_id: request.header.correlation_id,
            min_bytes: parsed.min_bytes.max(0) as u64,
            max_bytes: (parsed.max_bytes.max(0) as usize).min(core.config.limits.fetch_max_bytes),
            up_to: if read_committed {
                ReadUpTo::LastStable
            } else {
                ReadUpTo::HighWatermark
            },
            read_committed,
            deadline_ms: now_ms.saturating_add(parsed.max_wait_ms.max(0) as u64),
            session_id: 0,
            session: None,
            incremental: false,
            error: ErrorCode::None,
            items: Vec::new(),
        };
        let asked = asked(&parsed, &router);
        let by_id = version >= 13;
        match parsed.session_epoch {
            FINAL_EPOCH | INITIAL_EPOCH => {
                if parsed.session_id != 0 {
                    core.sessions.remove(parsed.session_id);
                }
                if parsed.session_epoch == INITIAL_EPOCH && version >= 7 {
                    let made = core.sessions.create(&asked, by_id, now_ms, &core.stats);
                    if let Some((id, session)) = made {
                        query.session_id = id;
                        query.session = Some(session);
                    }
                }
                let items = asked.into_iter();
                query.items = items
                    .map(|(topic, index, want)| item(&router, topic, index, want))
                    .collect();
            }
            epoch => {
                let forgotten: Vec<(TopicKey, i32)> = (parsed.forgotten())
                    .flat_map(|(topic, indexes)| {
                        let key = key(&router, topic);
                        indexes.iter().map(move |index| (key.clone(), *index))
                    })
                    .collect();
                let (id, sessions) = (parsed.session_id, &core.sessions);
                match sessions.resume(id, epoch, by_id, &asked, &forgotten, now_ms) {
                    Ok(Some(session)) => {
                        query.session_id = id;
                        query.items = (lock(&session).wants())
                            .map(|(topic, index, want)| item(&router, topic.clone(), index, *want))
                            .collect();
                        query.session = Some(session);
                        query.incremental = true;
                    }
                    Ok(None) => {}
                    Err(error) => query.error = session_error(error),
                }
            }
        }
        if parsed.replica_id >= 0 {
            // Followers come with the cluster; Kafka says this to one that is none of its own.
            for item in &mut query.items {
                item.partition = Err(ErrorCode::NotLeaderOrFollower);
            }
        }
        Ok(query)
    }
}

fn session_error(error: SessionError) -> ErrorCode {
    match error {
        SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIdMismatch => ErrorCode::FetchSessionTopicIdError,
    }
}

fn asked(request: &FetchRequest<'_>, router: &Router) -> Vec<Asked> {
    let mut asked = Vec::with_capacity(request.partition_count());
    for (topic, partitions) in request.topics() {
        let key = key(router, topic);
        asked.extend(partitions.iter().map(|one| {
            let want = Want {
                offset: one.fetch_offset,
                max_bytes: one.max_bytes,
                leader_epoch: one.current_leader_epoch,
                last_fetched_epoch: one.last_fetched_epoch,
            };
            (key.clone(), one.index, want)
        }));
    }
    asked
}

fn key(router: &Router, topic: TopicRef<'_>) -> TopicKey {
    match topic {
        TopicRef::Id(id) => TopicKey::Id(id),
        TopicRef::Name(name) => {
            let known = router
                .get(topic)
                .map(|route: &Arc<Route>| route.name.clone());
            TopicKey::Name(known.unwrap_or_else(|| name.into()))
        }
    }
}

fn item(router: &Router, topic: TopicKey, index: i32, want: Want) -> Item {
    let partition = lookup::find(router, topic.as_ref(), index).cloned();
    Item {
        topic,
        index,
        want,
        partition,
    }
}

/// Finds what there is for every partition. True: the answer may leave, because there is enough
/// of it or because something must be said at once.
fn find_all(query: &Query, finds: &mut Vec<Find>) -> bool {
    finds.clear();
    let mut at_once = query.items.is_empty() || query.min_bytes == 0;
    let (mut left, mut bytes, mut found_any) = (query.max_bytes, 0, false);
    for item in &query.items {
        let mut find = Find::default();
        match &item.partition {
            Err(code) => find.error = *code as i16,
            Ok(partition) => {
                find.look(partition, &item.want, query, left, !found_any);
            }
        }
        if let Some(range) = &find.range {
            left = left.saturating_sub(range.len);
            bytes += range.len as u64;
            found_any |= range.len > 0;
            // A range ends with its segment: what follows need not be waited for.
            at_once |= range.len > 0 && range.next_offset < find.high_watermark;
        }
        at_once |= find.error != 0 || find.diverging.is_some() || find.needs_pool;
        finds.push(find);
    }
    at_once || bytes >= query.min_bytes
}

impl Default for Find {
    fn default() -> Self {
        Find {
            error: 0,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            diverging: None,
            leader_epoch: -1,
            range: None,
            needs_pool: false,
        }
    }
}

impl Find {
    fn look(
        &mut self,
        partition: &Partition,
        want: &Want,
        query: &Query,
        left: usize,
        min_one: bool,
    ) {
        self.leader_epoch = partition.leader_epoch();
        if let Err(code) = lookup::check_epoch(partition, want.leader_epoch) {
            self.error = code as i16;
            return;
        }
        if want.last_fetched_epoch >= 0 {
            let (epoch, end_offset) = partition.end_offset_for_epoch(want.last_fetched_epoch);
            if end_offset < 0 {
                self.error = ErrorCode::OffsetOutOfRange as i16;
                return;
            }
            if epoch < want.last_fetched_epoch || end_offset < want.offset {
                self.diverging = Some(EpochEndOffset { epoch, end_offset });
                self.mark(partition);
                return;
            }
        }
        let limit = left.min(want.max_bytes.max(0) as usize);
        match partition.read(want.offset, limit, min_one, query.up_to) {
            Ok(range) => {
                self.mark(partition);
                // What is committed is served to the end; but nothing more will come.
                if range.len == 0 && partition.offline_reason().is_some() {
                    self.error = ErrorCode::KafkaStorageError as i16;
                    return;
                }
                self.range = Some(range);
            }
            Err(ReadError::NeedsPool) => {
                self.mark(partition);
                self.needs_pool = true;
            }
            // Kafka tells no offsets beside this error, nor do we beside any.
            Err(error) => self.error = error.code(),
        }
    }

    /// What the pool could not bring is an error, what it could not check is not served.
    fn give_up(&mut self) {
        let unchecked = self.range.as_ref().is_some_and(ReadRange::needs_check);
        if unchecked || (self.needs_pool && self.range.is_none()) {
            self.range = None;
            self.error = ErrorCode::KafkaStorageError as i16;
        }
    }

    fn mark(&mut self, partition: &Partition) {
        self.high_watermark = partition.high_watermark();
        self.last_stable = partition.last_stable();
        self.log_start = partition.log_start();
    }
}

/// On the pool: loads what the look-up needs, checks bytes that were never checked, and brings
/// cold ones into memory.
fn warm_one(
    partition: &Partition,
    offset: i64,
    limit: usize,
    up_to: ReadUpTo,
    range: Option<ReadRange>,
) {
    let range = match range {
        Some(range) => range,
        None => match partition.read_blocking(offset, limit, true, up_to) {
            Ok(range) => range,
            // The look on the I/O thread will meet the same error and answer it.
            Err(_) => return,
        },
    };
    range.warm();
}
