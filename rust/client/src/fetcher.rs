//! Fetching ahead: one task that follows the leaders, and one for each broker that leads something.
//!
//! A broker's task has one request on its way. It asks for every partition that may be fetched,
//! from where the batches received so far end, as long as there is room to read ahead.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use mqlog_protocol::fetch::{FetchPartition, VERSIONS};
use mqlog_protocol::fetch_client::{FetchAnswer, FetchHead};
use mqlog_protocol::{ApiKey, ErrorCode};
use tokio::time::Instant;

use crate::budget::Reserved;
use crate::connection::{Purpose, Request};
use crate::consumer::{Shared, State};
use crate::intake::{code, Intake};
use crate::io::lock;
use crate::metadata::Metadata;
use crate::positions::{Assigned, Event, Phase};
use crate::session::{Session, Want};
use crate::ClientError;

/// The newest version spoken: what came later is between brokers.
const NEWEST: i16 = 17;
/// The longest pause that a broker may ask for.
const THROTTLE_MAX: Duration = Duration::from_secs(300);
/// Room in an answer for all that is not records.
const OVERHEAD: usize = 16 << 10;

/// Follows who leads what, and has a task for each leader. Ends when the consumer is closed.
pub(crate) async fn direct(shared: Arc<Shared>) {
    let _guard = Guard(shared.clone());
    let mut metadata = shared.cluster.watch();
    let mut assigned = shared.assigned.subscribe();
    let mut attempt = 0;
    while !shared.is_closed() {
        let known = metadata.borrow_and_update().clone();
        assigned.mark_unchanged();
        let missing = follow(&shared, &known);
        if missing {
            attempt += 1;
            shared.cluster.request_update();
        } else {
            attempt = 0;
        }
        tokio::select! {
            changed = metadata.changed() => if changed.is_err() { return },
            changed = assigned.changed() => if changed.is_err() { return },
            () = shared.cluster.backoff(attempt), if missing => {}
        }
    }
}

/// Sees to it that nobody waits for a task that is gone.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.0.is_closed() {
            self.0.break_down();
        }
    }
}

/// Takes over the leaders; says whether some partition has none.
fn follow(shared: &Arc<Shared>, known: &Metadata) -> bool {
    let mut state = lock(&shared.state);
    let (doubts, missing) = state.positions.lead(known);
    if doubts {
        state.freshen();
        shared.bell.ring();
    }
    for error in refused(known, &state) {
        state.tell(error);
        shared.bell.ring();
    }
    let now = Instant::now();
    let nodes: Vec<i32> = state
        .positions
        .iter()
        .flat_map(|one| [one.leader, one.node(now)])
        .flatten()
        .collect();
    for node in nodes {
        if state.nodes.insert(node) {
            shared.cluster.io().spawn(serve(shared.clone(), node));
        }
    }
    drop(state);
    shared.budget.wanted.send_replace(());
    missing
}

/// Topics that will not come by waiting.
fn refused(known: &Metadata, state: &State) -> Vec<Event> {
    let mut errors: Vec<Event> = Vec::new();
    for one in state.positions.iter() {
        let Some(topic) = known.topics.get(&one.topic) else {
            continue;
        };
        let final_word = matches!(
            topic.error,
            ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException
        );
        if final_word {
            let error = Event::Error {
                error: ClientError::about(topic.error, &one.topic, -1),
                topic: one.topic.clone(),
                partition: -1,
                offset: -1,
            };
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
    }
    errors
}

/// What a broker's task does next.
enum Plan {
    /// The broker leads nothing for us any more.
    Leave,
    /// Nothing may be fetched now; perhaps then.
    Wait(Option<Instant>),
    /// These, with so many bytes reserved for the answer.
    Fetch(Vec<Want>, usize, Reserved),
}

/// Fetches from one broker until it leads nothing for us.
async fn serve(shared: Arc<Shared>, node: i32) {
    let _guard = Guard(shared.clone());
    let mut session = Session::default();
    let mut wanted = shared.budget.wanted.subscribe();
    let mut failures = 0;
    let mut turn = 0;
    loop {
        wanted.mark_unchanged();
        turn += 1;
        let (wants, room, reserved) = match plan(&shared, node, turn) {
            Plan::Leave => return,
            Plan::Fetch(wants, room, reserved) => (wants, room, reserved),
            Plan::Wait(until) => {
                let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep_until(until) => {}
                }
                continue;
            }
        };
        let result = fetch(&shared, node, &mut session, wants, room).await;
        drop(reserved);
        match result {
            Ok(throttle) => {
                failures = 0;
                if !throttle.is_zero() {
                    tokio::time::sleep(throttle.min(THROTTLE_MAX)).await;
                }
            }
            Err(_) if shared.is_closed() => return,
            Err(error) => {
                failures += 1;
                session.reset(true);
                shared.metrics.failed_fetches.fetch_add(1, Relaxed);
                failed(&shared, node, error);
                shared.cluster.backoff(failures).await;
            }
        }
    }
}

/// A fetch that failed as a whole. Some other broker may lead by now, or be asked.
fn failed(shared: &Shared, node: i32, error: ClientError) {
    let mut state = lock(&shared.state);
    for one in state.positions.iter_mut() {
        one.replica = one.replica.filter(|(replica, _)| *replica != node);
    }
    // Whoever waits longer will see what these come to.
    let passes = error.is_retriable()
        || matches!(error, ClientError::Timeout { .. })
        || error == ClientError::code(ErrorCode::UnknownServerError);
    if !passes {
        state.tell(Event::Error {
            error,
            topic: Arc::from(""),
            partition: -1,
            offset: -1,
        });
        shared.bell.ring();
    }
    drop(state);
    shared.cluster.request_update();
}

fn plan(shared: &Shared, node: i32, turn: usize) -> Plan {
    let now = Instant::now();
    let known = shared.cluster.snapshot();
    let mut guard = lock(&shared.state);
    let state = &mut *guard;
    let served = |one: &Assigned| one.leader == Some(node) || one.node(now) == Some(node);
    if shared.is_closed() || !state.positions.iter().any(served) {
        state.nodes.remove(&node);
        return Plan::Leave;
    }
    let (mut wants, wake) = wants(shared, state, &known, node, now);
    if wants.is_empty() {
        return Plan::Wait(wake);
    }
    let budget = &shared.budget;
    let room = budget.room().or_else(|| {
        // Nobody reads what is paused: it must not keep others from being fetched.
        if !state.queue.has_paused(&state.positions) {
            return None;
        }
        state.queue.drop_paused(&mut state.positions);
        budget.room()
    });
    let Some(room) = room else {
        return Plan::Wait(wake);
    };
    let of_all = usize::try_from(shared.config.max_bytes).unwrap_or(1);
    let each = usize::try_from(shared.config.partition_max_bytes).unwrap_or(1);
    let room = room.min(of_all).min(each.saturating_mul(wants.len()));
    rotate(&mut wants, turn);
    Plan::Fetch(wants, room, budget.reserve(room))
}

/// What may be fetched from a node, and when more may be.
fn wants(
    shared: &Shared,
    state: &State,
    known: &Metadata,
    node: i32,
    now: Instant,
) -> (Vec<Want>, Option<Instant>) {
    let mut wants = Vec::new();
    let mut wake: Option<Instant> = None;
    for one in state.positions.iter() {
        if one.phase != Phase::Fetching || one.paused || one.node(now) != Some(node) {
            continue;
        }
        if let Some(until) = one.not_before.filter(|until| *until > now) {
            wake = Some(wake.map_or(until, |wake| wake.min(until)));
            continue;
        }
        wants.push(Want {
            handle: one.handle,
            topic: one.topic.clone(),
            topic_id: known.topic(&one.topic).map_or([0; 16], |topic| topic.id),
            fetch: FetchPartition {
                index: one.partition,
                current_leader_epoch: one.leader_epoch,
                fetch_offset: one.fetch_offset,
                // As other consumers do: positions are validated when the leader changes.
                last_fetched_epoch: -1,
                log_start_offset: -1,
                max_bytes: shared.config.partition_max_bytes,
            },
        });
    }
    (wants, wake)
}

/// Brokers fill an answer in the order of the request: everybody is the first in turn. A topic
/// stays in one piece.
fn rotate(wants: &mut [Want], turn: usize) {
    wants.sort_by(|a, b| (&a.topic, a.fetch.index).cmp(&(&b.topic, b.fetch.index)));
    let Some(last) = wants.len().checked_sub(1) else {
        return;
    };
    let mut middle = turn % wants.len();
    let one_topic = wants.first().map(|want| &want.topic) == wants.get(last).map(|w| &w.topic);
    let inside = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| wants.get(before));
        before.is_some_and(|before| wants.get(at).is_some_and(|want| want.topic == before.topic))
    };
    while !one_topic && inside(middle) {
        middle -= 1;
    }
    wants.rotate_left(middle);
}

/// One request and its answer. Gives how long the broker wants to be left alone.
async fn fetch(
    shared: &Shared,
    node: i32,
    session: &mut Session,
    wants: Vec<Want>,
    room: usize,
) -> Result<Duration, ClientError> {
    let config = &shared.config;
    let connection = shared.cluster.connection(node, Purpose::Fetch).await?;
    let version = Session::version(&wants, connection.version(ApiKey::Fetch, NEWEST)?);
    if !VERSIONS.contains(&version) {
        return Err(connection.unsupported(ApiKey::Fetch, *VERSIONS.start(), NEWEST));
    }
    let head = FetchHead {
        max_wait_ms: i32::try_from(config.max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.min_bytes,
        max_bytes: i32::try_from(room).unwrap_or(i32::MAX),
        isolation_level: i8::from(config.read_committed),
        session_id: 0,
        session_epoch: 0,
        rack_id: &shared.cluster.config().client_rack,
    };
    let mut body = Vec::with_capacity(256);
    session
        .write(version, config.sessions, head, wants, &mut body)
        .map_err(|error| ClientError::encode(&error))?;
    let timeout = shared.cluster.config().request_timeout + config.max_wait;
    let request = Request::new(ApiKey::Fetch, version, vec![body.into()], timeout);
    let body = connection.send(request.expecting(room + OVERHEAD)).await?;
    let answer = FetchAnswer::parse(version, &body)
        .map_err(|error| ClientError::decode(connection.address(), &error))?;
    shared.metrics.fetches.fetch_add(1, Relaxed);
    let bytes = body.len() as u64;
    shared.metrics.fetched_bytes.fetch_add(bytes, Relaxed);
    let throttle = u64::try_from(answer.head.throttle_time_ms).unwrap_or(0);
    let code = code(answer.head.error_code);
    if code != ErrorCode::None {
        return match session.failed(code) {
            true => Ok(Duration::from_millis(throttle)),
            false => Err(ClientError::code(code)),
        };
    }
    Intake {
        shared,
        node,
        session,
        connection: &connection,
        body: &body,
    }
    .take(&answer);
    session.answered(answer.head.session_id);
    Ok(Duration::from_millis(throttle))
}
