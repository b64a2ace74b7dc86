//! How simulated time passes: turmoil outside, the fabric inside.
//!
//! The whole world is one turmoil host. turmoil gives the runtime, its paused clock and the outer step; within a step the
//! fabric's own events decide what happens when, to the nanosecond, so that the step changes nothing but speed.
//!
//! After each moment at which something was woken, the driver lets tasks run until none was polled in a whole round of
//! the executor; only then does time go on. Node code takes no simulated time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use hailer::Timestamp;

use super::{RunError, World};

/// turmoil has a limit of its own on simulated time; ours is the scenario's duration, so this one must never be met.
const TURMOIL_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

pub(super) fn run(world: World, tick: Duration, progress: Option<&dyn Fn(Duration)>) -> Result<(), RunError> {
    let duration = world.scenario.duration;
    let mut simulation = turmoil::Builder::new()
        .simulation_duration(TURMOIL_DURATION)
        .tick_duration(tick)
        .epoch(std::time::UNIX_EPOCH)
        .rng_seed(world.seed)
        .build();
    let failure = Arc::new(Mutex::new(None));
    let report = failure.clone();
    simulation.client("world", async move {
        // The driver is a task like those it waits for: all of them share the executor's one first-in-first-out queue.
        #[expect(clippy::disallowed_methods, reason = "the driver belongs to no node")]
        let driver = tokio::spawn(drive(world, tick));
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

async fn drive(mut world: World, tick: Duration) -> Result<(), RunError> {
    let end = Timestamp::ZERO.after(world.scenario.duration);
    let mut clock = OuterClock::start(tick);
    loop {
        let next = world.fabric.lock().next_at().filter(|next| *next <= end);
        let Some(next) = next else { break };
        clock.catch_up(next).await;
        let is_woken = happen(&mut world, next);
        if is_woken {
            quiesce(&world).await;
            if world.polls.is_panicked() {
                return Err(RunError::Panicked { at: next });
            }
        }
    }
    world.finish();
    quiesce(&world).await;
    Ok(())
}

/// Lets everything happen that happens at this moment. Returns whether a task may want to run.
fn happen(world: &mut World, moment: Timestamp) -> bool {
    let fabric = world.fabric.clone();
    let mut is_scripted = false;
    let mut guard = fabric.lock();
    while guard.next_at() == Some(moment) {
        if let Some(token) = guard.step() {
            drop(guard);
            world.keep(token);
            is_scripted = true;
            guard = fabric.lock();
        }
    }
    guard.take_woken() || is_scripted
}

/// Runs tasks until a whole round of the executor polled none.
async fn quiesce(world: &World) {
    loop {
        let before = world.polls.count();
        to_the_back_of_the_queue().await;
        if world.polls.count() == before {
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
    #[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the runtime's simulated clock")]
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
