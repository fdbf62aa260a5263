//! Threads for what may wait for the device. Without threads a job runs where it is given.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use crate::partition::lock;

/// Work for the pool.
pub type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    stopping: bool,
}

/// A queue of jobs and the threads that do them.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

impl Pool {
    /// Does a job later, or now if there are no threads.
    pub fn spawn(&self, job: Job) {
        let mut state = lock(&self.state);
        if state.threads == 0 {
            drop(state);
            job();
            return;
        }
        state.jobs.push_back(job);
        drop(state);
        self.work.notify_one();
    }

    pub fn start(self: &Arc<Self>, n: usize) -> std::io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for number in 0..n.max(1) {
            let pool = self.clone();
            let thread = spawn_thread(format!("mqlog-pool-{number}"), move || {
                crate::os::yield_to_others();
                pool.run();
            })?;
            lock(&self.state).threads += 1;
            threads.push(thread);
        }
        Ok(threads)
    }

    /// Lets the threads finish what is queued and end.
    pub fn stop(&self) {
        lock(&self.state).stopping = true;
        self.work.notify_all();
    }

    /// Jobs that were queued too late for the threads run here.
    pub fn finish(&self) {
        let jobs = {
            let mut state = lock(&self.state);
            state.threads = 0;
            state.stopping = false;
            std::mem::take(&mut state.jobs)
        };
        jobs.into_iter().for_each(|job| job());
    }

    fn run(&self) {
        loop {
            let job = {
                let mut state = lock(&self.state);
                loop {
                    if let Some(job) = state.jobs.pop_front() {
                        break job;
                    }
                    if state.stopping {
                        return;
                    }
                    state = self
                        .work
                        .wait(state)
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            };
            // A job that panics must not take the thread and the jobs behind it along.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        }
    }
}

/// A thread with all signals blocked, so that the process's handlers run elsewhere.
pub(crate) fn spawn_thread(
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name)
        .stack_size(512 << 10)
        .spawn(move || {
            crate::os::block_signals();
            run();
        })
}
