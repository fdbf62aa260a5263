//! The thread that touches sockets, and the pool that compresses.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::fork;

/// A mutex's content, also after a panic of who held it: each user leaves it whole at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that runs a tokio current-thread runtime; clients may share one. Dropping the last
/// handle ends the thread and waits for it, except from the thread itself and in a forked child.
#[derive(Debug)]
pub struct IoThread {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pool: Pool,
    generation: u32,
}

impl IoThread {
    /// Starts the thread.
    pub fn start() -> io::Result<Arc<IoThread>> {
        let generation = fork::generation();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let thread = spawn("mqlog-client", move || {
            runtime.block_on(stopped.notified());
            // Tasks are dropped here, on their own thread; none is waited for.
            runtime.shutdown_background();
        })?;
        Ok(Arc::new(IoThread {
            handle,
            stop,
            thread: Mutex::new(Some(thread)),
            pool: Pool::default(),
            generation,
        }))
    }

    /// Runs a task on the thread. From any thread.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// Where work goes that takes long: up to 4 threads, made when first needed.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether this process is a child of the one that started the thread.
    pub fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        let thread = lock(&self.thread).take();
        if self.is_forked() {
            // The thread does not exist here; its handle must not be touched.
            std::mem::forget(thread);
            return;
        }
        self.stop.notify_one();
        self.pool.close();
        let own = std::thread::current().id();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != own) {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
    }
}

/// A thread that takes no signal: they belong to whoever owns the process.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            block_signals();
            body();
        })
}

fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes the whole set before pthread_sigmask reads it; only the mask of
    // this thread changes.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads for work that would hold up the I/O thread.
#[derive(Default)]
pub struct Pool {
    shared: Arc<PoolShared>,
}

#[derive(Default)]
struct PoolShared {
    state: Mutex<PoolState>,
    work: Condvar,
}

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

const POOL_THREADS: usize = 4;

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Runs `job` on some thread of the pool; in this thread if none can be made.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.shared.state);
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        if state.idle == 0 && state.threads < most.min(POOL_THREADS) {
            let shared = self.shared.clone();
            if spawn("mqlog-pool", move || shared.serve()).is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                drop(state);
                return job();
            }
        }
        state.jobs.push_back(Box::new(job));
        self.shared.work.notify_one();
    }

    fn close(&self) {
        lock(&self.shared.state).closed = true;
        self.shared.work.notify_all();
    }
}

impl PoolShared {
    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = lock(&self.state);
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn tasks_and_jobs_run_and_the_thread_ends() {
        let io = IoThread::start().unwrap();
        let (told, heard) = channel();
        let said = told.clone();
        io.spawn(async move { said.send("task").unwrap() });
        assert_eq!(heard.recv().unwrap(), "task");
        io.pool().run(move || told.send("job").unwrap());
        assert_eq!(heard.recv().unwrap(), "job");
        drop(io);
    }

    #[test]
    fn a_task_may_drop_the_last_handle() {
        let io = IoThread::start().unwrap();
        let (told, heard) = channel();
        let last = io.clone();
        io.spawn(async move {
            tokio::task::yield_now().await;
            drop(last);
            told.send(()).unwrap();
        });
        drop(io);
        heard.recv().unwrap();
    }
}
