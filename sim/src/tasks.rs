//! The tasks of one life of one node: they end together, and stop together.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use hailer::net::Task;
use tokio::task::AbortHandle;

use crate::memory::Account;

/// Counts how often any task of a world was polled: when a whole round of the executor polls none, nothing is left to do
/// at this moment.
#[derive(Clone, Debug, Default)]
pub struct Polls(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    polls: AtomicU64,
    is_panicked: AtomicBool,
}

impl Polls {
    /// Polls so far.
    pub fn count(&self) -> u64 {
        self.0.polls.load(Ordering::Relaxed)
    }

    /// Whether a task panicked.
    pub fn is_panicked(&self) -> bool {
        self.0.is_panicked.load(Ordering::Relaxed)
    }
}

/// Who says when a node's tasks may run.
pub trait Turns: std::fmt::Debug + Send + Sync {
    /// Whether they may run now. When not, [`Tasks::turn`] is called at the moment from which they may.
    fn is_mine(&self) -> bool;
}

/// The tasks of one life.
#[derive(Clone, Debug)]
pub struct Tasks {
    polls: Polls,
    is_paused: Arc<AtomicBool>,
    has_turns: Arc<AtomicBool>,
    /// Whose memory is what they allocate.
    account: Option<Arc<Account>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<u64, AbortHandle>,
    next: u64,
    is_over: bool,
    /// Who says when tasks may run; without it they always may.
    turns: Option<Arc<dyn Turns>>,
    /// Who wanted to run while the node was paused, or it was not its turn.
    held: Vec<Waker>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(polls: Polls) -> Self {
        Self {
            polls,
            is_paused: Arc::default(),
            has_turns: Arc::default(),
            account: None,
            state: Arc::default(),
        }
    }

    /// The same, with an account of the memory that they allocate. Tasks that were started before have none.
    pub fn on_account(self, account: Option<Arc<Account>>) -> Self {
        Self { account, ..self }
    }

    /// Starts a task. After the end of the life nothing starts any more.
    pub fn spawn<F>(&self, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let running = Running { place: Place { tasks: self.clone(), number }, future };
        #[expect(
            clippy::disallowed_methods,
            reason = "this is where a node's tasks are kept, so that a crash ends them"
        )]
        let handle = tokio::spawn(running).abort_handle();
        if state.is_over {
            handle.abort();
        } else {
            state.live.insert(number, handle.clone());
        }
        Task::new(handle)
    }

    /// Ends all tasks. Their destructors run before the executor's next round is over.
    pub fn end(&self) {
        let live = {
            let mut state = self.lock();
            state.is_over = true;
            state.held.clear();
            std::mem::take(&mut state.live)
        };
        live.into_values().for_each(|handle| handle.abort());
    }

    /// Stops running tasks: a task that is woken is held until [`Tasks::resume`].
    pub fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
    }

    /// Lets the tasks that were woken meanwhile run.
    pub fn resume(&self) {
        self.is_paused.store(false, Ordering::Relaxed);
        self.turn();
    }

    /// From now on tasks run when it is their turn.
    pub fn take_turns(&self, turns: Arc<dyn Turns>) {
        self.lock().turns = Some(turns);
        self.has_turns.store(true, Ordering::Relaxed);
    }

    /// Lets the tasks try that wanted to run.
    pub fn turn(&self) {
        let held = std::mem::take(&mut self.lock().held);
        held.into_iter().for_each(Waker::wake);
    }

    /// How many tasks have not ended.
    pub fn live(&self) -> usize {
        self.lock().live.len()
    }

    fn is_their_turn(&self) -> bool {
        let turns = self.lock().turns.clone();
        turns.is_none_or(|turns| turns.is_mine())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
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

impl<F: Future<Output = ()>> Future for Running<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let tasks = &this.place.tasks;
        tasks.polls.0.polls.fetch_add(1, Ordering::Relaxed);
        if tasks.is_paused.load(Ordering::Relaxed) {
            tasks.lock().held.push(context.waker().clone());
            return Poll::Pending;
        }
        if tasks.has_turns.load(Ordering::Relaxed) && !tasks.is_their_turn() {
            tasks.lock().held.push(context.waker().clone());
            return Poll::Pending;
        }
        match &tasks.account {
            Some(account) => account.during(|| this.future.poll(context)),
            None => this.future.poll(context),
        }
    }
}

/// A task's place among those of its life, which it leaves when it ends.
struct Place {
    tasks: Tasks,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The executor swallows a task's panic; a run must not.
            self.tasks.polls.0.is_panicked.store(true, Ordering::Relaxed);
        }
        self.tasks.lock().live.remove(&self.number);
    }
}
