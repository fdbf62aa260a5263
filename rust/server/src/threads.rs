//! The I/O threads and their listeners.
//!
//! Each thread runs one current-thread runtime; a connection lives and dies on one of them. The
//! first thread accepts and hands the sockets out in turn. No thread of the broker takes a signal:
//! they belong to whoever owns the process.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::config::Listener;
use crate::connection::{self, Connection};
use crate::core::Core;
use crate::mailbox::{lock, order, Mailbox};
use crate::stream::Stream;

const BACKLOG: i32 = 1024;
/// After a failed `accept` (no descriptors, no memory) the listener rests for this long.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Idle connections are looked for at least this often.
const SWEEP_MAX: Duration = Duration::from_secs(10);

/// A socket that was accepted, on its way to its thread.
pub(crate) struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    listener: Arc<str>,
    ticket: Ticket,
}

/// What the broker keeps of an I/O thread.
struct IoThread {
    shared: Arc<ThreadShared>,
    handle: Option<JoinHandle<()>>,
}

/// What an I/O thread shares with the broker.
pub(crate) struct ThreadShared {
    /// Every connection of the thread, for shutdown and the idle sweeper.
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
    stop: tokio::sync::Notify,
}

impl ThreadShared {
    /// Gives every connection an order, and returns how many there were.
    pub(crate) fn order_all(&self, order: u64) -> usize {
        let mailboxes = lock(&self.mailboxes).clone();
        mailboxes
            .iter()
            .filter_map(Weak::upgrade)
            .map(|m| m.give_order(order))
            .count()
    }
}

/// All I/O threads of a broker.
pub(crate) struct IoThreads {
    threads: Vec<IoThread>,
}

impl IoThreads {
    /// Starts the threads and serves `listeners`; returns when every thread runs.
    pub(crate) fn start(core: &Arc<Core>, listeners: Vec<Bound>) -> io::Result<IoThreads> {
        let mut inboxes = Vec::new();
        let mut prepared = Vec::new();
        for _ in 0..core.config.io_threads.max(1) {
            let (sender, receiver) = mpsc::unbounded_channel();
            inboxes.push(sender);
            let shared = Arc::new(ThreadShared {
                mailboxes: Mutex::default(),
                stop: tokio::sync::Notify::new(),
            });
            prepared.push((receiver, shared));
        }
        let accepting = Arc::new(Acceptor {
            core: core.clone(),
            inboxes,
            next: AtomicUsize::new(0),
            per_ip: Mutex::default(),
        });
        let mut listeners = Some(listeners);
        let mut threads = Vec::new();
        let (running, started) = std::sync::mpsc::channel();
        for (number, (receiver, shared)) in prepared.into_iter().enumerate() {
            let listeners = listeners.take().unwrap_or_default();
            let (core, theirs) = (core.clone(), shared.clone());
            let (accepting, running) = (accepting.clone(), running.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let handle = spawn(format!("mqlog-io-{number}"), move || {
                let _ = running.send(());
                runtime.block_on(serve(core, accepting, listeners, receiver, theirs));
            })?;
            threads.push(IoThread {
                shared,
                handle: Some(handle),
            });
        }
        started.iter().take(threads.len()).for_each(drop);
        Ok(IoThreads { threads })
    }

    pub(crate) fn order_all(&self, order: u64) -> usize {
        self.threads.iter().map(|t| t.shared.order_all(order)).sum()
    }

    /// Ends the threads; whatever connections are left are dropped.
    pub(crate) fn stop(&mut self) {
        for thread in &self.threads {
            thread.shared.stop.notify_one();
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                let _ = handle.join();
            }
        }
        self.threads.clear();
    }
}

/// Starts a thread that takes no signal. The caller's mask is changed for the moment of the start,
/// so that the thread never runs without it.
pub(crate) fn spawn(
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // SAFETY: both sets are initialised by the calls that take them; the mask is the thread's own.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let handle = std::thread::Builder::new().name(name).spawn(body);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        handle
    }
}

async fn serve(
    core: Arc<Core>,
    acceptor: Arc<Acceptor>,
    listeners: Vec<Bound>,
    mut inbox: mpsc::UnboundedReceiver<Accepted>,
    shared: Arc<ThreadShared>,
) {
    for bound in listeners {
        tokio::spawn(acceptor.clone().listen(bound));
    }
    tokio::spawn(sweep(core.clone(), shared.clone()));
    loop {
        tokio::select! {
            biased;
            () = shared.stop.notified() => return,
            accepted = inbox.recv() => match accepted {
                Some(accepted) => open(&core, &shared, accepted),
                None => return,
            }
        }
    }
}

fn open(core: &Arc<Core>, shared: &Arc<ThreadShared>, accepted: Accepted) {
    let Accepted {
        stream,
        peer,
        listener,
        ticket,
    } = accepted;
    let _ = stream.set_nodelay(true);
    let tcp = stream
        .set_nonblocking(true)
        .and_then(|()| TcpStream::from_std(stream));
    let Ok((tcp, local)) = tcp.and_then(|tcp| tcp.local_addr().map(|local| (tcp, local))) else {
        core.stats.closed_io_error.add(1);
        return;
    };
    let mailbox = Arc::new(Mailbox::default());
    mailbox.progress_ms.store(core.now_ms(), Relaxed);
    lock(&shared.mailboxes).push(Arc::downgrade(&mailbox));
    let place = connection::Place {
        peer,
        local,
        listener,
    };
    let connection = Connection::new(core.clone(), mailbox, Stream::Plain(tcp), place);
    tokio::spawn(async move {
        connection.await;
        drop(ticket);
    });
}

/// Ends connections that have finished nothing for `connections.max.idle.ms`, and forgets those
/// that are gone.
async fn sweep(core: Arc<Core>, shared: Arc<ThreadShared>) {
    let idle_ms = core.config.limits.connections_max_idle_ms;
    let period = Duration::from_millis((idle_ms / 4).max(10)).min(SWEEP_MAX);
    loop {
        tokio::time::sleep(period).await;
        connection::trim_thread();
        let now = core.now_ms();
        lock(&shared.mailboxes).retain(|weak| {
            let Some(mailbox) = weak.upgrade() else {
                return false;
            };
            if now.saturating_sub(mailbox.progress_ms.load(Relaxed)) >= idle_ms {
                mailbox.give_order(order::IDLE);
            }
            true
        });
    }
}

/// A listening socket that is bound but not yet served.
pub(crate) struct Bound {
    socket: std::net::TcpListener,
    listener: Arc<str>,
    pub(crate) address: SocketAddr,
}

/// Binds all listeners. Those of one name that ask for port 0 share the first one's port.
pub(crate) fn bind(listeners: &[Listener]) -> Result<Vec<Bound>, (SocketAddr, io::Error)> {
    const TRIES: usize = 16;
    let mut last = None;
    for _ in 0..TRIES {
        match bind_once(listeners) {
            Err((address, e)) if e.kind() == io::ErrorKind::AddrInUse && address.port() == 0 => {
                last = Some((address, e));
            }
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| (([0, 0, 0, 0], 0).into(), io::ErrorKind::AddrInUse.into())))
}

fn bind_once(listeners: &[Listener]) -> Result<Vec<Bound>, (SocketAddr, io::Error)> {
    let mut free_ports: HashMap<&str, u16> = HashMap::new();
    let mut bound = Vec::new();
    for listener in listeners {
        let mut address = listener.address;
        if address.port() == 0 {
            address.set_port(free_ports.get(listener.name.as_str()).copied().unwrap_or(0));
        }
        let made = listen_on(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = made.map_err(|e| (listener.address, e))?;
        free_ports.entry(&listener.name).or_insert(address.port());
        bound.push(Bound {
            socket,
            listener: listener.name.as_str().into(),
            address,
        });
    }
    Ok(bound)
}

fn listen_on(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts for all threads.
struct Acceptor {
    core: Arc<Core>,
    inboxes: Vec<mpsc::UnboundedSender<Accepted>>,
    next: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
}

impl Acceptor {
    async fn listen(self: Arc<Self>, bound: Bound) {
        let Ok(socket) = TcpListener::from_std(bound.socket) else {
            return;
        };
        loop {
            let stopped = self.core.stop_accepting.notified();
            tokio::pin!(stopped);
            // Registered before the phase is looked at, so that no notification is missed.
            stopped.as_mut().enable();
            if !self.core.serving() {
                return;
            }
            let accepted = tokio::select! {
                () = stopped => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &bound.listener),
                Err(e) if transient(&e) => {}
                Err(_) => {
                    self.core.stats.accept_failures.add(1);
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, listener: &Arc<str>) {
        let Some(ticket) = Ticket::take(self, peer.ip().to_canonical()) else {
            return;
        };
        let Ok(stream) = stream.into_std() else {
            return;
        };
        self.core.stats.connections_accepted.add(1);
        let thread = self.next.fetch_add(1, Relaxed) % self.inboxes.len();
        let listener = listener.clone();
        let _ = self.inboxes[thread].send(Accepted {
            stream,
            peer,
            listener,
            ticket,
        });
    }
}

/// The peer gave up between its SYN and our `accept`: nothing is wrong here.
fn transient(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        e.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
    )
}

/// One connection's share of `max.connections` and `max.connections.per.ip`.
struct Ticket {
    acceptor: Weak<Acceptor>,
    core: Arc<Core>,
    ip: IpAddr,
}

impl Ticket {
    fn take(acceptor: &Arc<Acceptor>, ip: IpAddr) -> Option<Ticket> {
        let core = acceptor.core.clone();
        let stats = &core.stats;
        if stats.connections_open.get() >= core.max_connections() as u64 {
            stats.refused_max_connections.add(1);
            return None;
        }
        let mut per_ip = lock(&acceptor.per_ip);
        let count = per_ip.entry(ip).or_insert(0);
        if *count >= core.max_connections_per_ip() {
            stats.refused_per_ip.add(1);
            if *count == 0 {
                per_ip.remove(&ip);
            }
            return None;
        }
        *count += 1;
        drop(per_ip);
        stats.connections_open.add(1);
        core.share_descriptors();
        Some(Ticket {
            acceptor: Arc::downgrade(acceptor),
            core,
            ip,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.core.stats.connections_open.sub(1);
        self.core.share_descriptors();
        let Some(acceptor) = self.acceptor.upgrade() else {
            return;
        };
        let mut per_ip = lock(&acceptor.per_ip);
        if let Some(count) = per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&self.ip);
            }
        }
    }
}
