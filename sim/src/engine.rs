//! How simulated time passes: turmoil outside, the fabric inside.
//!
//! The whole world is one turmoil host. turmoil gives the runtime, its paused clock and the outer step; within a step the
//! fabric's own events decide what happens when, to the nanosecond, so that the step changes nothing but speed.
//!
//! After each moment the driver lets tasks run until none is ready; only then does time go on. Node code takes no simulated
//! time.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::Timestamp;

use crate::executor::{Executor, Panicked};
use crate::net::SharedFabric;

/// What lives in the simulated world, as the engine sees it.
pub trait Script: Send + 'static {
    /// The network.
    fn fabric(&self) -> &SharedFabric;

    /// What runs all tasks of this world.
    fn executor(&self) -> &Executor;

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
        // All of the world runs within this one task, and tokio's channels would count what one task does at a time.
        let outcome = tokio::task::unconstrained(drive(script, duration, tick)).await;
        *report.lock().expect("not poisoned") = outcome.err();
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
    let panicked = |at| move |Panicked| RunError::Panicked { at };
    let mut clock = OuterClock::start(tick);
    loop {
        let next = script.fabric().lock().next_at().filter(|next| *next <= end);
        let Some(next) = next else { break };
        clock.catch_up(next).await;
        happen(&mut script, next);
        script.executor().run().map_err(panicked(next))?;
    }
    script.finish();
    script.executor().run().map_err(panicked(end))
}

/// Lets everything happen that happens at this moment.
fn happen(script: &mut impl Script, moment: Timestamp) {
    let fabric = script.fabric().clone();
    let mut guard = fabric.lock();
    while guard.next_at() == Some(moment) {
        if let Some(token) = guard.step() {
            drop(guard);
            script.keep(token);
            guard = fabric.lock();
        }
    }
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
