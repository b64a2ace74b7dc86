//! Who waits for a socket or a timer.
//!
//! A task that was woken waits again soon, as a rule with the same waker. So a waker stays here when it has woken: to give
//! it back and to take it again would count it twice for each packet, in memory that no cache holds.

use std::task::{Context, Waker};

/// Whoever waits for one thing: nobody, or the task that asked last.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waker: Option<Waker>,
    /// Whether it asked since it was woken last.
    is_there: bool,
}

impl Waiting {
    /// The task of this context waits.
    pub(super) fn wait(&mut self, context: &Context<'_>) {
        self.is_there = true;
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }

    /// Wakes who waits, if somebody does. Whoever was woken has to ask again.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.is_there)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }

    /// Whether somebody waits.
    pub(super) const fn is_there(&self) -> bool {
        self.is_there
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once_and_the_last_one_counts() {
        let [first, second] = [(); 2].map(|()| Arc::new(Count::default()));
        let woken = || [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        let wakers = [&first, &second].map(|count| Waker::from(Arc::clone(count)));
        let mut waiting = Waiting::default();
        waiting.wake();
        for _ in 0..2 {
            waiting.wait(&Context::from_waker(&wakers[0]));
            waiting.wake();
            waiting.wake();
        }
        assert_eq!(woken(), [2, 0]);
        waiting.wait(&Context::from_waker(&wakers[0]));
        waiting.wait(&Context::from_waker(&wakers[1]));
        assert!(waiting.is_there());
        waiting.wake();
        assert!(!waiting.is_there());
        assert_eq!(woken(), [2, 1]);
    }
}
