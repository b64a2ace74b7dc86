//! Runs the tasks of a world: one queue, first in, first out, on the thread that asks.
//!
//! A task that is woken goes to the back of the queue; one that wakes itself, or is woken while it runs, goes there when
//! it has run. So the order is always the same, and [`Executor::run`] knows when nothing is left to do at a moment, which a
//! runtime does not say: asking it round after round whether it is idle cost more than the queue does. There are no
//! timers and no budgets here; simulated time stands still while tasks run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Context;

use fragile::Fragile;
use futures_task::{ArcWake, waker_ref};
use hailer::net::TaskHandle;

/// The tasks of a world that are ready to run. Cloning gives another handle on the same queue. Only the thread that made it may
/// use it, and what it runs.
#[derive(Clone, Debug, Default)]
pub struct Executor(Arc<Fragile<RefCell<VecDeque<Arc<Job>>>>>);

/// A task panicked, and has said so on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

impl Executor {
    /// Puts a new task at the back of the queue.
    pub fn spawn(
        &self,
        gate: Arc<dyn Gate>,
        is_held: bool,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Job> {
        let job = Arc::new(Job {
            executor: self.clone(),
            gate,
            is_held: AtomicBool::new(is_held),
            is_woken: AtomicBool::new(true),
            is_running: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            future: Fragile::new(RefCell::new(Some(Box::pin(future)))),
        });
        self.push(job.clone());
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
        self.0.get().borrow_mut().pop_front()
    }

    fn push(&self, job: Arc<Job>) {
        self.0.get().borrow_mut().push_back(job);
    }
}

/// Who says whether a held task may run.
pub trait Gate: Send + Sync {
    /// Whether it may run now. When not, the gate keeps it, and wakes it when it may.
    fn is_open(&self, job: &Arc<Job>) -> bool;
}

/// A task. Its waker is a handle on it. Only one thread ever touches it: the atomics, and looking at which thread it is, are what
/// lets wakers and handles be `Send`.
pub struct Job {
    executor: Executor,
    /// Asked before each turn of a task that is held. Whether it is stands here, as there are as many turns as there are
    /// wakes, and gates lie far away.
    gate: Arc<dyn Gate>,
    is_held: AtomicBool,
    /// It is in the queue, or goes there when it has run.
    is_woken: AtomicBool,
    is_running: AtomicBool,
    /// It is to be dropped when its turn comes.
    is_aborted: AtomicBool,
    is_finished: AtomicBool,
    /// None once it has ended.
    future: Fragile<RefCell<Option<TaskFuture>>>,
}

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Job {
    /// From now on the gate is asked before each turn, or is not.
    pub fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Relaxed);
    }

    fn run(self: Arc<Self>) -> Result<(), Panicked> {
        self.is_woken.store(false, Relaxed);
        let is_aborted = self.is_aborted.load(Relaxed);
        if self.is_held.load(Relaxed) && !is_aborted && !self.gate.is_open(&self) {
            return Ok(());
        }
        let mut future = self.future.get().borrow_mut();
        // It ended before its turn came.
        let Some(running) = &mut *future else { return Ok(()) };
        let is_over = is_aborted || {
            self.is_running.store(true, Relaxed);
            // Without another handle on the job: most tasks are asked for none while they run.
            let waker = waker_ref(&self);
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
            self.executor.push(self.clone());
        }
        Ok(())
    }
}

impl ArcWake for Job {
    fn wake_by_ref(job: &Arc<Self>) {
        if job.is_woken.load(Relaxed) {
            return;
        }
        job.is_woken.store(true, Relaxed);
        if !job.is_running.load(Relaxed) {
            job.executor.push(job.clone());
        }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::task::Poll;

    use super::*;

    /// Never asked, or keeps what it is asked about.
    #[derive(Default)]
    struct Shut(Mutex<Vec<Arc<Job>>>);

    impl Gate for Shut {
        fn is_open(&self, job: &Arc<Job>) -> bool {
            self.0.lock().unwrap().push(job.clone());
            false
        }
    }

    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<String>>);

    impl Notes {
        fn add(&self, text: &str) {
            self.0.lock().unwrap().push_str(text);
        }

        fn take(&self) -> String {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    fn spawn(executor: &Executor, future: impl Future<Output = ()> + Send + 'static) -> Arc<Job> {
        executor.spawn(Arc::new(Shut::default()), false, future)
    }

    /// Notes its name each time that it runs, and wakes itself so often.
    fn task(notes: &Notes, name: &'static str, mut wakes: u32) -> impl Future<Output = ()> + use<> {
        let notes = notes.clone();
        poll_fn(move |context| {
            notes.add(name);
            if wakes == 0 {
                return Poll::Ready(());
            }
            wakes -= 1;
            // Twice is once.
            context.waker().wake_by_ref();
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn tasks_run_in_the_order_in_which_they_were_woken_until_none_is() {
        let (executor, notes) = (Executor::default(), Notes::default());
        let jobs =
            [("a", 2), ("b", 0), ("c", 1)].map(|(name, wakes)| spawn(&executor, task(&notes, name, wakes)));
        executor.run().unwrap();
        assert_eq!(notes.take(), "abcaca");
        assert!(jobs.iter().all(|job| job.is_finished()));
    }

    #[test]
    fn a_task_that_is_ended_is_dropped_in_its_turn_and_not_run() {
        struct Farewell(Notes, &'static str);
        impl Drop for Farewell {
            fn drop(&mut self) {
                self.0.add(self.1);
            }
        }
        let (executor, notes) = (Executor::default(), Notes::default());
        let farewell = |name| Farewell(notes.clone(), name);
        let (x, y) = (farewell("x"), farewell("y"));
        let waiting = spawn(&executor, async move {
            let _x = x;
            std::future::pending::<()>().await;
        });
        executor.run().unwrap();
        let ready = spawn(&executor, async move {
            y.0.add("never");
        });
        spawn(&executor, task(&notes, "z", 0));
        waiting.clone().abort();
        ready.clone().abort();
        assert_eq!((notes.take().as_str(), waiting.is_finished()), ("", false));
        executor.run().unwrap();
        assert_eq!(notes.take(), "yzx");
        assert!(waiting.is_finished() && ready.is_finished());
    }

    #[test]
    fn a_held_task_runs_when_its_gate_lets_it_and_can_be_ended_before() {
        let (executor, notes, gate) = (Executor::default(), Notes::default(), Arc::new(Shut::default()));
        let held = ["a", "b"].map(|name| executor.spawn(gate.clone(), true, task(&notes, name, 0)));
        executor.run().unwrap();
        assert_eq!((notes.take().as_str(), gate.0.lock().unwrap().len()), ("", 2));
        held[0].hold(false);
        held[0].clone().wake();
        held[1].clone().abort();
        executor.run().unwrap();
        assert_eq!(notes.take(), "a");
        assert!(held.iter().all(|job| job.is_finished()));
    }

    #[test]
    fn a_panic_is_told_of() {
        let executor = Executor::default();
        spawn(&executor, async { panic!("on purpose") });
        assert_eq!(executor.run(), Err(Panicked));
    }
}
