//! Runs the tasks of a world: one queue, first in, first out, on the thread that asks.
//!
//! A task that is woken goes to the back of the queue; one that wakes itself, or is woken while it runs, goes there when
//! it has run. So the order is always the same, and [`Executor::run`] knows when nothing is left to do at a moment, which a
//! runtime does not say: asking it round after round whether it is idle cost more than the queue does. There are no
//! timers and no budgets here; simulated time stands still while tasks run.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Wake, Waker};

use hailer::net::TaskHandle;

/// The tasks of a world that are ready to run. Cloning gives another handle on the same queue.
#[derive(Clone, Debug, Default)]
pub struct Executor(Arc<Mutex<VecDeque<Arc<Job>>>>);

/// A task panicked, and has said so on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

impl Executor {
    /// Puts a new task at the back of the queue.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Arc<dyn TaskHandle> {
        let job = Arc::new(Job {
            executor: self.clone(),
            is_woken: AtomicBool::new(true),
            is_running: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            future: Mutex::new(Some(Box::pin(future))),
        });
        self.lock().push_back(job.clone());
        job
    }

    /// Runs tasks until none is ready.
    ///
    /// # Errors
    /// When a task panics. The others were not run then.
    pub fn run(&self) -> Result<(), Panicked> {
        while let Some(job) = self.next() {
            job.run()?;
        }
        Ok(())
    }

    fn next(&self) -> Option<Arc<Job>> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// A task. Its waker is a handle on it. Only one thread ever touches it: the atomics and the lock are what lets wakers and
/// handles be `Send`, and nobody ever waits for them.
struct Job {
    executor: Executor,
    /// It is in the queue, or goes there when it has run.
    is_woken: AtomicBool,
    is_running: AtomicBool,
    /// It is to be dropped when its turn comes.
    is_aborted: AtomicBool,
    is_finished: AtomicBool,
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Job {
    fn run(self: Arc<Self>) -> Result<(), Panicked> {
        self.is_woken.store(false, Relaxed);
        let mut future = self.future.lock().expect("a task that panicked is not run again");
        // It ended before its turn came.
        let Some(running) = &mut *future else { return Ok(()) };
        let is_over = self.is_aborted.load(Relaxed) || {
            self.is_running.store(true, Relaxed);
            let waker = Waker::from(self.clone());
            let mut context = Context::from_waker(&waker);
            let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(&mut context)));
            self.is_running.store(false, Relaxed);
            polled.map_err(|_| Panicked)?.is_ready() || self.is_aborted.load(Relaxed)
        };
        if is_over {
            *future = None;
            self.is_finished.store(true, Relaxed);
        } else if self.is_woken.load(Relaxed) {
            drop(future);
            self.executor.lock().push_back(self.clone());
        }
        Ok(())
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if !self.is_woken.swap(true, Relaxed) && !self.is_running.load(Relaxed) {
            let executor = self.executor.clone();
            executor.lock().push_back(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.clone().wake();
    }
}

impl TaskHandle for Job {
    fn abort(self: Arc<Self>) {
        self.is_aborted.store(true, Relaxed);
        self.wake();
    }

    fn is_finished(&self) -> bool {
        self.is_finished.load(Relaxed)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("is_finished", &self.is_finished).finish_non_exhaustive()
    }
}
