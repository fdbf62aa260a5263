//! One client's connection: a task that reads, decodes, appends, answers and sends, in turns.
//!
//! A turn never waits. It settles what was pending, sends what it may, reads once, decodes every
//! complete frame of it and sends the answers together. Only Produce pipelines; any other request
//! that cannot be answered at once is *parked* and stops the decoding until it is answered, so
//! answers and effects are in request order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::close::Close;
use crate::core::Core;
use crate::fetch::FetchArena;
use crate::mailbox::{order, Mailbox, PartitionWake};
use crate::outbox::Outbox;
use crate::park::Parked;
use crate::pending_produce::PendingProduce;
use crate::produce::ProduceArena;
use crate::recv::{RecvBuf, RecvPool};
use crate::stream::Stream;

/// With more than this not taken by the peer, its next request is not decoded.
pub(crate) const MAX_BACKLOG: usize = 1 << 20;
/// Bytes read in one poll before the thread's other connections have their turn.
const READ_TURN: usize = 1 << 20;
/// An unfinished frame counts as progress each time this many bytes of it have come.
const PROGRESS_BYTES: usize = 64 * 1024;

thread_local! {
    static IO: RefCell<Io> = RefCell::new(Io::new());
}

/// What the connections of one I/O thread take turns with.
pub(crate) struct Io {
    pub(crate) recv: RecvPool,
    spare: Option<Box<Outbox>>,
    pub(crate) produce: ProduceArena,
    pub(crate) fetch: FetchArena,
}

impl Io {
    fn new() -> Io {
        Io {
            recv: RecvPool::new(),
            spare: None,
            produce: ProduceArena::default(),
            fetch: FetchArena::default(),
        }
    }
}

/// Gives memory back that the thread has not needed lately.
pub(crate) fn trim_thread() {
    IO.with_borrow_mut(|io| io.recv.trim());
}

/// Where a connection comes from and where it arrived.
pub(crate) struct Place {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) listener: Arc<str>,
}

/// The task of one connection. Small, because a thousand idle ones are held at once.
pub(crate) struct Connection {
    pub(crate) core: Arc<Core>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) place: Arc<Place>,
    stream: Stream,
    received: Option<RecvBuf>,
    /// What of `received` is charged to the broker's budget.
    held: usize,
    /// Complete frames are in `received` that may not be decoded yet.
    pub(crate) stopped: bool,
    /// A valid request has come: the full frame limit applies.
    pub(crate) trusted: bool,
    /// It produces: it is not read while too much is unflushed.
    pub(crate) producer: bool,
    partial_mark: usize,
    outbox: Option<Box<Outbox>>,
    pub(crate) produces: VecDeque<PendingProduce>,
    pub(crate) parked: Option<Box<Parked>>,
    /// What partitions wake this connection by.
    wake: Option<Arc<PartitionWake>>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What a step of a turn came to.
enum Step {
    /// There may be more to do.
    Again,
    /// Nothing before somebody wakes the task.
    Wait,
}

impl Connection {
    pub(crate) fn new(
        core: Arc<Core>,
        mailbox: Arc<Mailbox>,
        stream: Stream,
        place: Place,
    ) -> Connection {
        Connection {
            core,
            mailbox,
            place: Arc::new(place),
            stream,
            received: None,
            held: 0,
            stopped: false,
            trusted: false,
            producer: false,
            partial_mark: 0,
            outbox: None,
            produces: VecDeque::new(),
            parked: None,
            wake: None,
            timer: None,
        }
    }

    pub(crate) fn progress(&mut self) {
        self.partial_mark = 0;
        self.mailbox.progress_ms.store(self.core.now_ms(), Relaxed);
    }

    /// The handle by which partitions wake this connection.
    pub(crate) fn wake_handle(&mut self) -> Arc<PartitionWake> {
        let mailbox = &self.mailbox;
        let new = || Arc::new(PartitionWake::new(mailbox));
        self.wake.get_or_insert_with(new).clone()
    }

    fn turn(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Result<(), Close> {
        // A panic may have left another connection's requests there.
        io.produce.clear();
        let mut out = self
            .outbox
            .take()
            .or_else(|| io.spare.take())
            .unwrap_or_default();
        let mut result = self
            .obey(&out)
            .and_then(|()| self.advance(io, &mut out, cx));
        if result.is_err() {
            // What was answered before the fault still leaves, as far as the peer takes it.
            let _ = out.poll_flush(&self.stream, cx, &self.core.stats);
            out.clear();
        }
        if out.is_empty() {
            io.spare = Some(out);
        } else {
            self.outbox = Some(out);
        }
        self.received = self.received.take().and_then(|buf| io.recv.give_back(buf));
        let held = self.received.as_ref().map_or(0, RecvBuf::capacity);
        self.core.budget.change(&self.mailbox, self.held, held);
        self.held = held;
        if result.is_ok() && self.drained() {
            result = Err(Close::Shutdown);
        }
        result
    }

    /// What the broker wants of this connection besides serving it.
    fn obey(&mut self, out: &Outbox) -> Result<(), Close> {
        let owed = self.parked.is_some() || !self.produces.is_empty();
        match self.mailbox.order.load(Relaxed) {
            order::IDLE if owed && out.is_empty() => {
                // It is we who are late.
                let _ = self.mailbox.order.compare_exchange(
                    order::IDLE,
                    order::SERVE,
                    Relaxed,
                    Relaxed,
                );
                Ok(())
            }
            order::IDLE => Err(Close::Idle),
            order::KILL => Err(Close::Killed),
            _ => Ok(()),
        }
    }

    pub(crate) fn draining(&self) -> bool {
        self.mailbox.order.load(Relaxed) == order::DRAIN
    }

    fn drained(&self) -> bool {
        self.draining()
            && self.parked.is_none()
            && self.produces.is_empty()
            && self.outbox.is_none()
    }

    fn advance(
        &mut self,
        io: &mut Io,
        out: &mut Outbox,
        cx: &mut Context<'_>,
    ) -> Result<(), Close> {
        let mut read = 0;
        loop {
            self.settle_produces(out)?;
            self.unpark(io, out)?;
            if !out.is_empty() {
                self.send(out, cx)?;
                if out.backlog() > MAX_BACKLOG {
                    self.core.stats.paused_slow_peer.add(1);
                    return Ok(());
                }
            }
            if self.parked.is_some() || self.draining() {
                return self.arm(cx);
            }
            if read >= READ_TURN {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match self.receive(io, out, &mut read, cx)? {
                Step::Again => {}
                Step::Wait => return self.arm(cx),
            }
        }
    }

    fn send(&mut self, out: &mut Outbox, cx: &mut Context<'_>) -> Result<(), Close> {
        let before = out.backlog();
        let sent = out.poll_flush(&self.stream, cx, &self.core.stats);
        if out.backlog() < before {
            self.progress();
        }
        match sent {
            Poll::Ready(Err(_)) => Err(Close::Io),
            _ => Ok(()),
        }
    }

    /// Reads once, if the connection may read, and decodes all complete frames.
    fn receive(
        &mut self,
        io: &mut Io,
        out: &mut Outbox,
        read: &mut usize,
        cx: &mut Context<'_>,
    ) -> Result<Step, Close> {
        if !std::mem::take(&mut self.stopped) {
            let max = self.may_read();
            if max == 0 {
                return Ok(Step::Wait);
            }
            match self.stream.poll_readable(cx) {
                Poll::Pending => return Ok(Step::Wait),
                Poll::Ready(Err(_)) => return Err(Close::Io),
                Poll::Ready(Ok(())) => {}
            }
            let mut buf = io.recv.take(self.received.take());
            let frame = frame_size(buf.unread());
            buf.make_room(frame);
            let polled = buf.poll_read(&mut self.stream, cx, max);
            let unread = buf.len();
            self.received = Some(buf);
            match polled {
                Poll::Pending => return Ok(Step::Wait),
                Poll::Ready(Err(_)) => return Err(Close::Io),
                Poll::Ready(Ok(0)) => return Err(Close::ByPeer),
                Poll::Ready(Ok(n)) => {
                    self.core.stats.bytes_in.add(n as u64);
                    *read += n;
                }
            }
            if unread >= self.partial_mark + PROGRESS_BYTES {
                self.progress();
                self.partial_mark = unread;
            }
        }
        let Some(mut buf) = self.received.take() else {
            return Ok(Step::Again);
        };
        let (used, decoded) = self.decode(buf.unread(), io, out);
        buf.consume(used);
        self.received = Some(buf);
        decoded.map(|()| Step::Again)
    }

    /// How many bytes back-pressure lets this connection read. At 0 it is woken when that changes.
    fn may_read(&mut self) -> usize {
        if self.producer && self.core.dir.over_unflushed() {
            let core = self.core.clone();
            core.stats.paused_unflushed.add(1);
            core.dir.wait_unflushed(self.wake_handle());
            if core.dir.over_unflushed() {
                return 0;
            }
        }
        let held = self.received.as_ref().map_or(0, RecvBuf::len);
        let max = self.core.budget.may_read(&self.mailbox, held);
        if max == 0 {
            self.core.stats.paused_request_bytes.add(1);
        }
        max
    }

    /// Sets the timer to the next deadline, if there is one.
    fn arm(&mut self, cx: &mut Context<'_>) -> Result<(), Close> {
        let parked = self.parked.as_ref().and_then(|parked| parked.deadline_ms());
        let produce = self.produces.front().and_then(PendingProduce::deadline_ms);
        let Some(deadline) = [parked, produce].into_iter().flatten().min() else {
            return Ok(());
        };
        let left = Duration::from_millis(deadline.saturating_sub(self.core.now_ms()));
        let at = Instant::now() + left;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            none => *none = Some(Box::pin(tokio::time::sleep_until(at))),
        }
        let due = self
            .timer
            .as_mut()
            .is_some_and(|t| t.as_mut().poll(cx).is_ready());
        if due {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }
}

/// Bytes of the frame that begins here, as far as that can be told.
fn frame_size(bytes: &[u8]) -> usize {
    let length = bytes
        .first_chunk()
        .map_or(0, |prefix| i32::from_be_bytes(*prefix));
    4 + usize::try_from(length).unwrap_or(0)
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.mailbox.attend(cx.waker());
        let began = this.core.clock.mono_ns();
        let result = IO.with_borrow_mut(|io| this.turn(io, cx));
        this.core
            .stats
            .turn(this.core.clock.mono_ns().saturating_sub(began));
        match result {
            Ok(()) => Poll::Pending,
            Err(close) => {
                close.count(&this.core.stats);
                if matches!(close, Close::Killed) {
                    this.stream.reset_on_drop();
                }
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.core.budget.change(&self.mailbox, self.held, 0);
        if let Some(parked) = &self.parked {
            parked.abandon(&self.core);
        }
    }
}
