//! What a connection's handle and its task share: requests to be written, requests that wait for
//! their answers, and how it ended.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::header::{parse_response_header, request_header};
use mqlog_protocol::schema::Versions;
use mqlog_protocol::{ApiKey, EncodeError};
use tokio::sync::{oneshot, Notify};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::connection::Pending;
use crate::io::lock;
use crate::metrics::Metrics;
use crate::request::Request;
use crate::transport::Sink;
use crate::ClientError;

/// Requests that may wait for answers on one connection.
const MOST_WAITING: usize = 10_000;
/// Pieces that one system call writes.
const PIECES: usize = 64;

/// Who is at the other end, and how we speak.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) node: i32,
    pub(crate) address: Arc<str>,
    pub(crate) client_id: Arc<str>,
    pub(crate) tls: bool,
    pub(crate) sasl: bool,
    pub(crate) max_idle: Duration,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peer: Peer,
    pub(crate) versions: OnceLock<Vec<Option<Versions>>>,
    /// The task that authenticates again.
    pub(crate) renewal: OnceLock<AbortHandle>,
    pub(crate) metrics: Arc<Metrics>,
    /// For the task: something is to be written, watched, or over.
    pub(crate) wake: Notify,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    sink: Option<Arc<Sink>>,
    over: Option<ClientError>,
    outgoing: VecDeque<Piece>,
    waiting: VecDeque<Waiting>,
    /// How many of them, at the back, are not written whole.
    unwritten: usize,
    /// Requests kept back while the connection authenticates again.
    held: Option<Vec<(Request, Reply)>>,
    correlation_id: i32,
    /// Until when the task sleeps.
    pub(crate) armed: Instant,
    last_used: Instant,
    /// Why writing failed; reading may find a better reason.
    broken: Option<String>,
    pub(crate) answers: u64,
}

type Reply = oneshot::Sender<Result<Bytes, ClientError>>;

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    ends: Ends,
}

/// What is over when a piece is written.
#[derive(Debug)]
enum Ends {
    Nothing,
    /// A request that will be answered.
    Request,
    /// A request that will not.
    Unanswered(Reply),
}

#[derive(Debug)]
struct Waiting {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    expected: usize,
    sent: Instant,
    timeout: Duration,
    reply: Reply,
}

/// What the task has to do next.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) over: bool,
    pub(crate) blocked: bool,
    pub(crate) broken: bool,
    pub(crate) until: Instant,
    pub(crate) expected: usize,
}

impl Shared {
    pub(crate) fn new(peer: Peer, sink: Arc<Sink>, metrics: Arc<Metrics>) -> Shared {
        let now = Instant::now();
        let state = State {
            sink: Some(sink),
            over: None,
            outgoing: VecDeque::new(),
            waiting: VecDeque::new(),
            unwritten: 0,
            held: None,
            correlation_id: 0,
            armed: now,
            last_used: now,
            broken: None,
            answers: 0,
        };
        Shared {
            peer,
            versions: OnceLock::new(),
            renewal: OnceLock::new(),
            metrics,
            wake: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// `may_wait`: whether it waits while the connection authenticates again.
    pub(crate) fn send(&self, request: Request, may_wait: bool) -> Pending {
        let (reply, pending) = oneshot::channel();
        let mut state = lock(&self.state);
        match &mut state.held {
            Some(held) if may_wait && held.len() < MOST_WAITING => held.push((request, reply)),
            _ => self.put(&mut state, request, reply),
        }
        Pending(pending)
    }

    fn put(&self, state: &mut State, request: Request, reply: Reply) {
        if let Some(error) = &state.over {
            return refuse(reply, error.clone());
        }
        if state.waiting.len() >= MOST_WAITING {
            let address = &self.peer.address;
            let text = format!("{MOST_WAITING} requests wait for an answer of {address} already");
            return refuse(reply, ClientError::State(text));
        }
        state.correlation_id = state.correlation_id.wrapping_add(1);
        let head = match self.head(&request, state.correlation_id) {
            Ok(head) => head,
            Err(error) => return refuse(reply, ClientError::encode(&error)),
        };
        let idle = state.outgoing.is_empty();
        let now = Instant::now();
        state.last_used = now;
        let ends = if request.answered {
            if now + request.timeout < state.armed {
                self.wake.notify_one();
            }
            state.unwritten += 1;
            state.waiting.push_back(Waiting {
                api: request.api,
                version: request.version,
                correlation_id: state.correlation_id,
                expected: request.expected,
                sent: now,
                timeout: request.timeout,
                reply,
            });
            Ends::Request
        } else {
            Ends::Unanswered(reply)
        };
        let pieces = std::iter::once(Bytes::from(head)).chain(request.body);
        state.outgoing.extend(pieces.map(|bytes| Piece {
            bytes,
            ends: Ends::Nothing,
        }));
        if let Some(last) = state.outgoing.back_mut() {
            last.ends = ends;
        }
        Metrics::add(&self.metrics.requests, 1);
        if idle {
            self.flush(state);
        }
    }

    /// A frame's length and a request's header.
    fn head(&self, request: &Request, correlation_id: i32) -> Result<Vec<u8>, EncodeError> {
        let id = Some(&*self.peer.client_id);
        let mut head = Vec::with_capacity(24 + self.peer.client_id.len());
        head.extend_from_slice(&[0; 4]);
        request_header(request.api, request.version, correlation_id, id, &mut head)?;
        let length = head.len() - 4 + request.body.iter().map(Bytes::len).sum::<usize>();
        let checked = i32::try_from(length).map_err(|_| EncodeError::TooLong {
            field: "frame",
            length,
            limit: i32::MAX as usize,
        })?;
        head[..4].copy_from_slice(&checked.to_be_bytes());
        Metrics::add(&self.metrics.bytes_out, length + 4);
        Ok(head)
    }

    /// Writes until the socket takes no more.
    pub(crate) fn flush(&self, state: &mut State) {
        let Some(sink) = state.sink.clone() else {
            return;
        };
        let written = loop {
            if state.outgoing.is_empty() {
                break sink.try_flush();
            }
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (slot, piece) in pieces.iter_mut().zip(&state.outgoing) {
                *slot = IoSlice::new(&piece.bytes);
                count += 1;
            }
            match sink.try_write(pieces.get(..count).unwrap_or_default()) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => state.wrote(count),
                Err(error) => break Err(error),
            }
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wake.notify_one(),
            Err(error) => {
                state.broken = Some(crate::open::plain(&error));
                self.wake.notify_one();
            }
        }
    }

    /// Gives a frame to who waits for it.
    pub(crate) fn answer(&self, frame: &Bytes) -> Result<(), ClientError> {
        let mut state = lock(&self.state);
        let asked = state.waiting.len() > state.unwritten;
        let Some(waiting) = state.waiting.pop_front().filter(|_| asked) else {
            let what = format!("it sent {} bytes that nobody asked for", frame.len());
            return Err(self.protocol(what));
        };
        state.answers += 1;
        drop(state);
        let body = match parse_response_header(waiting.api, waiting.version, frame) {
            Ok((id, body)) if id == waiting.correlation_id => frame.slice(body..),
            Ok((id, _)) => {
                let error = self.protocol(format!(
                    "its answer to {} has correlation id {id} instead of {}",
                    waiting.api.name(),
                    waiting.correlation_id
                ));
                refuse(waiting.reply, error.clone());
                return Err(error);
            }
            Err(error) => {
                let error = ClientError::decode(&self.peer.address, &error);
                refuse(waiting.reply, error.clone());
                return Err(error);
            }
        };
        Metrics::add(&self.metrics.bytes_in, frame.len() + 4);
        self.metrics.answered(waiting.sent.elapsed());
        // Whoever asked may have gone.
        let _ = waiting.reply.send(Ok(body));
        Ok(())
    }

    pub(crate) fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol {
            address: self.peer.address.clone(),
            what,
        }
    }

    /// What the task does next, and until when it may sleep.
    pub(crate) fn plan(&self) -> Plan {
        let mut state = lock(&self.state);
        let deadline = state.timed().map(Waiting::deadline).min();
        let until = deadline.unwrap_or(state.last_used + self.peer.max_idle);
        // A timer that rings too early costs less than one that is set with every request.
        let now = Instant::now();
        if until < state.armed || state.armed <= now {
            state.armed = until;
        }
        Plan {
            over: state.over.is_some(),
            blocked: state.is_blocked(),
            broken: state.broken.is_some(),
            until: state.armed,
            expected: state.waiting.front().map_or(0, |first| first.expected),
        }
    }

    /// What the clock says: the error to end with, if it is time.
    pub(crate) fn late(&self) -> Option<ClientError> {
        let state = lock(&self.state);
        let now = Instant::now();
        let disconnected = |reason| ClientError::Disconnected {
            address: self.peer.address.clone(),
            reason,
            hint: String::new(),
        };
        if let Some(late) = state.timed().find(|one| one.deadline() <= now) {
            return Some(disconnected(format!(
                "no answer to {} within {} ms (request_timeout_ms)",
                late.api.name(),
                late.timeout.as_millis()
            )));
        }
        let idle = state.waiting.is_empty() && state.last_used + self.peer.max_idle <= now;
        let max_idle = self.peer.max_idle.as_millis();
        idle.then(|| {
            disconnected(format!(
                "nothing sent for {max_idle} ms (connections_max_idle_ms)"
            ))
        })
    }

    /// Why writing failed, and how many requests wait.
    pub(crate) fn standing(&self) -> (Option<String>, usize, u64) {
        let state = lock(&self.state);
        (state.broken.clone(), state.waiting.len(), state.answers)
    }

    /// Ends the connection; the first reason counts.
    pub(crate) fn fail(&self, error: ClientError) {
        let mut state = lock(&self.state);
        if state.over.is_some() {
            return;
        }
        state.over = Some(error.clone());
        let sink = state.sink.take();
        let waiting = std::mem::take(&mut state.waiting);
        let outgoing = std::mem::take(&mut state.outgoing);
        let held = state.held.take().unwrap_or_default();
        drop(state);
        drop(sink);
        if let Some(renewal) = self.renewal.get() {
            renewal.abort();
        }
        let replies = waiting.into_iter().map(|one| one.reply);
        let unwritten = outgoing.into_iter().filter_map(|piece| match piece.ends {
            Ends::Unanswered(reply) => Some(reply),
            _ => None,
        });
        let held = held.into_iter().map(|(_, reply)| reply);
        for reply in replies.chain(unwritten).chain(held) {
            refuse(reply, error.clone());
        }
        self.wake.notify_one();
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.state).over.is_some()
    }

    pub(crate) fn throttled(&self, by: Duration) {
        for waiting in &mut lock(&self.state).waiting {
            waiting.timeout = waiting.timeout.saturating_add(by);
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Keeps requests back until `release`.
    pub(crate) fn hold(&self) {
        lock(&self.state).held.get_or_insert_default();
    }

    /// Sends what was kept back.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        for (request, reply) in state.held.take().unwrap_or_default() {
            self.put(&mut state, request, reply);
        }
    }
}

impl State {
    fn is_blocked(&self) -> bool {
        let flushed = self.sink.as_ref().is_none_or(|sink| sink.is_flushed());
        self.broken.is_none() && !(self.outgoing.is_empty() && flushed)
    }

    /// Requests whose time runs: those written, and the one that is being written. Those behind it
    /// have not begun.
    fn timed(&self) -> impl Iterator<Item = &Waiting> {
        let begun = self.waiting.len() - self.unwritten.saturating_sub(1).min(self.waiting.len());
        self.waiting.iter().take(begun)
    }

    fn wrote(&mut self, mut count: usize) {
        while let Some(piece) = self.outgoing.front_mut() {
            if count < piece.bytes.len() {
                bytes::Buf::advance(&mut piece.bytes, count);
                break;
            }
            count -= piece.bytes.len();
            match self.outgoing.pop_front().map(|piece| piece.ends) {
                Some(Ends::Request) => {
                    self.restart_clock();
                    self.unwritten = self.unwritten.saturating_sub(1);
                }
                Some(Ends::Unanswered(reply)) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok(Bytes::new()));
                }
                _ => {}
            }
        }
        if self.unwritten > 0 {
            self.restart_clock();
        }
    }

    /// Of the request that is being written: it goes on, or is done.
    fn restart_clock(&mut self) {
        let writing = self.waiting.len().saturating_sub(self.unwritten);
        if let Some(waiting) = self.waiting.get_mut(writing) {
            waiting.sent = Instant::now();
        }
    }
}

impl Waiting {
    fn deadline(&self) -> Instant {
        self.sent + self.timeout
    }
}

fn refuse(reply: Reply, error: ClientError) {
    // Whoever asked may have gone.
    let _ = reply.send(Err(error));
}
