//! How simulated time passes: turmoil outside, the fabric inside.
//!
//! The whole world is one turmoil host. turmoil gives the runtime, its paused clock and the outer step; within a step the
//! fabric's own events decide what happens when, to the nanosecond, so that the step changes nothing but speed.
//!
//! After each moment at which something was woken, the driver lets tasks run until none was polled in a whole round of
//! the executor; only then does time go on. Node code takes no simulated time.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use hailer::Timestamp;

use crate::net::SharedFabric;
use crate::tasks::Polls;

/// What lives in the simulated world, as the engine sees it.
pub trait Script: Send + 'static {
    /// The network.
    fn fabric(&self) -> &SharedFabric;

    /// The counter that all tasks of this world share.
    fn polls(&self) -> &Polls;

    /// An appointment made with [`Fabric::appoint`](crate::fabric::Fabric::appoint) has come.
    fn keep(&mut self, token: u64);

    /// Simulated time is over: ends every task.
    fn finish(&mut self);
}

/// How long and how to run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// turmoil's seed. Nothing of ours draws from it.
    pub seed: u64,
    /// When simulated time ends.
    pub duration: Duration,
    /// turmoil's step, in whole milliseconds, at least one.
    pub tick: Duration,
    /// Called after each step with the simulated time that has passed.
    pub progress: Option<&'a dyn Fn(Duration)>,
}

/// Why a run could not be finished. A verdict is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Node code panicked: a bug of ours; the message is on standard error.
    #[error("a node panicked at {at}; run again with RUST_BACKTRACE=1 to see where")]
    Panicked {
        /// Simulated time of the panic.
        at: Timestamp,
    },
    /// What was to be written while the world lived could not be.
    #[error("can't write {}: {source}", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A scenario expects something about memory, and this program does not count it.
    #[error("this program does not count memory, which the scenario is about; run it with `hailer-sim`")]
    NotCounted,
    /// The outer engine gave up.
    #[error("the engine stopped: {0}")]
    Engine(String),
}

/// turmoil has a limit of its own on simulated time; ours is the scenario's duration, so this one must never be met.
const TURMOIL_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Lets a world live from its beginning to its end.
///
/// # Errors
/// See [`RunError`].
pub fn run(script: impl Script, run: Run<'_>) -> Result<(), RunError> {
    let Run { seed, duration, tick, progress } = run;
    let mut simulation = turmoil::Builder::new()
        .simulation_duration(TURMOIL_DURATION)
        .tick_duration(tick)
        .epoch(std::time::UNIX_EPOCH)
        .rng_seed(seed)
        .build();
    let failure = Arc::new(Mutex::new(None));
    let report = failure.clone();
    simulation.client("world", async move {
        // The driver is a task like those it waits for: all of them share the executor's one first-in-first-out queue.
        #[expect(clippy::disallowed_methods, reason = "the driver belongs to no node")]
        let driver = tokio::spawn(drive(script, duration, tick));
        match driver.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => *report.lock().expect("not poisoned") = Some(error),
            Err(error) => *report.lock().expect("not poisoned") = Some(RunError::Engine(error.to_string())),
        }
        Ok(())
    });
    loop {
        let is_finished = simulation.step().map_err(|error| RunError::Engine(error.to_string()))?;
        if let Some(progress) = progress {
            progress(simulation.elapsed().min(duration));
        }
        if is_finished {
            break;
        }
    }
    let failure = failure.lock().expect("not poisoned").take();
    failure.map_or(Ok(()), Err)
}

async fn drive(mut script: impl Script, duration: Duration, tick: Duration) -> Result<(), RunError> {
    let end = Timestamp::ZERO.after(duration);
    let mut clock = OuterClock::start(tick);
    loop {
        let next = script.fabric().lock().next_at().filter(|next| *next <= end);
        let Some(next) = next else { break };
        clock.catch_up(next).await;
        let is_woken = happen(&mut script, next);
        if is_woken {
            quiesce(script.polls()).await;
            if script.polls().is_panicked() {
                return Err(RunError::Panicked { at: next });
            }
        }
    }
    script.finish();
    quiesce(script.polls()).await;
    Ok(())
}

/// Lets everything happen that happens at this moment. Returns whether a task may want to run.
fn happen(script: &mut impl Script, moment: Timestamp) -> bool {
    let fabric = script.fabric().clone();
    let mut is_scripted = false;
    let mut guard = fabric.lock();
    while guard.next_at() == Some(moment) {
        if let Some(token) = guard.step() {
            drop(guard);
            script.keep(token);
            is_scripted = true;
            guard = fabric.lock();
        }
    }
    guard.take_woken() || is_scripted
}

/// Runs tasks until a whole round of the executor polled none.
async fn quiesce(polls: &Polls) {
    loop {
        let before = polls.count();
        to_the_back_of_the_queue().await;
        if polls.count() == before {
            return;
        }
    }
}

/// Lets every task that is ready now run once. (`yield_now` would wait for the runtime to look at its timers, too.)
async fn to_the_back_of_the_queue() {
    let is_second = AtomicBool::new(false);
    std::future::poll_fn(|context| {
        if is_second.swap(true, Ordering::Relaxed) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The clock of turmoil's runtime, which follows the fabric's by whole steps. No node ever sees it.
struct OuterClock {
    #[expect(clippy::disallowed_types, reason = "this is the runtime's simulated clock")]
    start: tokio::time::Instant,
    tick: Duration,
    passed: Duration,
}

impl OuterClock {
    #[expect(clippy::disallowed_types, reason = "this is the runtime's simulated clock")]
    fn start(tick: Duration) -> Self {
        Self { start: tokio::time::Instant::now(), tick, passed: Duration::ZERO }
    }

    /// Waits until turmoil has come to the step in which `moment` lies.
    #[expect(clippy::disallowed_methods, reason = "this is the runtime's simulated clock")]
    async fn catch_up(&mut self, moment: Timestamp) {
        let tick = self.tick.as_nanos() as u64;
        let step = Duration::from_nanos(moment.as_nanos() / tick * tick);
        if step > self.passed {
            self.passed = step;
            tokio::time::sleep_until(self.start + step).await;
        }
    }
}
