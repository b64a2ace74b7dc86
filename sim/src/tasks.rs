//! The tasks of one life of one node: they end together, and stop together.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures_task::ArcWake;
use hailer::net::{Task, TaskHandle};

use crate::executor::{Executor, Gate, Job};
use crate::memory::Account;

/// Who says when a node's tasks may run.
pub trait Turns: std::fmt::Debug + Send + Sync {
    /// Whether they may run now. When not, [`Tasks::turn`] is called at the moment from which they may.
    fn is_mine(&self) -> bool;
}

/// The tasks of one life. Cloning gives another handle on the same ones.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    executor: Executor,
    /// Whose memory is what they allocate.
    account: Option<Arc<Account>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, Arc<Job>>,
    next: u64,
    is_over: bool,
    is_paused: bool,
    /// Who says when tasks may run; without it they always may.
    turns: Option<Arc<dyn Turns>>,
    /// Who wanted to run while the node was paused, or it was not its turn.
    held: Vec<Arc<Job>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("live", &self.live.len()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// No tasks yet. What memory they will allocate is on this account.
    pub fn new(executor: &Executor, account: Option<Arc<Account>>) -> Self {
        Self(Arc::new(Shared { executor: executor.clone(), account, state: Mutex::default() }))
    }

    /// Starts a task. After the end of the life nothing starts any more.
    pub fn spawn<F>(&self, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let place = Place { tasks: self.clone(), number };
        let (gate, is_held) = (self.0.clone(), state.is_holding());
        let running = Running { place, future };
        // Two kinds of task, so that one without an account does not look for it at each turn.
        let handle = match self.0.account.clone() {
            None => self.0.executor.spawn(gate, is_held, running),
            Some(account) => self.0.executor.spawn(gate, is_held, Counted { account, running }),
        };
        if state.is_over {
            handle.clone().abort();
        } else {
            state.live.insert(number, handle.clone());
        }
        Task::new(handle)
    }

    /// Ends all tasks. Their destructors run when the executor runs next.
    pub fn end(&self) {
        let live = {
            let mut state = self.lock();
            state.is_over = true;
            state.held.clear();
            std::mem::take(&mut state.live)
        };
        live.into_values().for_each(TaskHandle::abort);
    }

    /// Stops running tasks: a task that is woken is held until [`Tasks::resume`].
    pub fn pause(&self) {
        self.hold(|state| state.is_paused = true);
    }

    /// Lets the tasks that were woken meanwhile run.
    pub fn resume(&self) {
        self.hold(|state| state.is_paused = false);
        self.turn();
    }

    /// From now on tasks run when it is their turn.
    pub fn take_turns(&self, turns: Arc<dyn Turns>) {
        self.hold(|state| state.turns = Some(turns));
    }

    fn hold(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.live.values().for_each(|job| job.hold(state.is_holding()));
    }

    /// Lets the tasks try that wanted to run.
    pub fn turn(&self) {
        let held = std::mem::take(&mut self.lock().held);
        held.into_iter().for_each(ArcWake::wake);
    }

    /// How many tasks have not ended.
    pub fn live(&self) -> usize {
        self.lock().live.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl Gate for Shared {
    fn is_open(&self, job: &Arc<Job>) -> bool {
        let (is_paused, turns) = {
            let state = self.lock();
            (state.is_paused, state.turns.clone())
        };
        let is_open = !is_paused && turns.is_none_or(|turns| turns.is_mine());
        if !is_open {
            self.lock().held.push(job.clone());
        }
        is_open
    }
}

impl State {
    /// Whether tasks ask before they run.
    fn is_holding(&self) -> bool {
        self.is_paused || self.turns.is_some()
    }
}

pin_project_lite::pin_project! {
    // With the future inside, so that a task is one piece of memory.
    struct Running<F> {
        place: Place,
        #[pin]
        future: F,
    }
}

pin_project_lite::pin_project! {
    // A task whose memory is counted.
    struct Counted<F> {
        account: Arc<Account>,
        #[pin]
        running: Running<F>,
    }
}

impl<F: Future<Output = ()>> Future for Running<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(context)
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.account.during(|| this.running.poll(context))
    }
}

/// A task's place among those of its life, which it leaves when it ends.
struct Place {
    tasks: Tasks,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tasks.lock().live.remove(&self.number);
    }
}
