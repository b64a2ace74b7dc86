//! Which of a node's sources woke its task, so that it asks no others.
//!
//! A waker says that something has happened, and not what. A node has nine sources, a beacon comes by one of them, and to ask
//! the other eight each time cost more than all the rest of a beacon. So each source is polled with a waker of its own,
//! which notes the source before it wakes the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Wake, Waker};

/// Where things come from, in the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Time,
    Notes,
    Connections,
    /// What is beaconed to everybody.
    Datagrams,
    /// What is beaconed to groups, which is seldom.
    Groups,
    Requests,
    /// Room for events that the application had no room for.
    Room,
    Intake,
    /// Beacons that were said.
    Said,
}

impl Source {
    pub(super) const ALL: [Self; 9] = [
        Self::Time,
        Self::Notes,
        Self::Connections,
        Self::Datagrams,
        Self::Groups,
        Self::Requests,
        Self::Room,
        Self::Intake,
        Self::Said,
    ];

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// The sources of one task.
#[derive(Debug)]
pub(super) struct Sources {
    noted: Arc<Noted>,
    wakers: [Waker; Source::ALL.len()],
}

/// Some sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News(u16);

/// What woke a task. It is the waker of [`Source::Datagrams`], too: there are many, and so they find all in one place.
#[derive(Debug)]
struct Noted {
    sources: AtomicU16,
    /// `None` until it is known.
    task: Option<Waker>,
}

/// The waker of another source.
#[derive(Debug)]
struct Bell {
    noted: Arc<Noted>,
    source: Source,
}

impl Sources {
    /// All of them are to be asked first.
    pub(super) fn new() -> Self {
        Self { noted: Noted::all(None), wakers: Source::ALL.map(|_| Waker::noop().clone()) }
    }

    /// Whoever is noted from now on wakes the task of this context. To be called first each time that it is polled. When the
    /// task has moved, which is seldom, all sources are to be asked again, so that they know.
    pub(super) fn wake_for(&mut self, context: &Context<'_>) {
        let task = context.waker();
        if self.noted.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            return;
        }
        self.noted = Noted::all(Some(task.clone()));
        self.wakers = Source::ALL.map(|source| match source {
            Source::Datagrams => Arc::clone(&self.noted).into(),
            _ => Arc::new(Bell { noted: Arc::clone(&self.noted), source }).into(),
        });
    }

    /// What to poll a source with.
    pub(super) fn context(&self, source: Source) -> Context<'_> {
        Context::from_waker(&self.wakers[source as usize])
    }

    /// A source is to be asked again, by the task itself.
    pub(super) fn note(&self, source: Source) {
        self.noted.sources.fetch_or(source.bit(), Ordering::AcqRel);
    }

    /// Those that were noted since the last call; none when there are none, and then the first one wakes the task.
    pub(super) fn take(&self) -> Option<News> {
        // As each time that the task has done all: without a write, which costs more.
        if self.noted.sources.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(News(self.noted.sources.swap(0, Ordering::AcqRel)))
    }
}

impl From<Source> for News {
    fn from(source: Source) -> Self {
        Self(source.bit())
    }
}

impl News {
    pub(super) const fn is_of(self, source: Source) -> bool {
        self.0 & source.bit() != 0
    }
}

impl Noted {
    /// All sources, of this task.
    fn all(task: Option<Waker>) -> Arc<Self> {
        Arc::new(Self { sources: AtomicU16::new(u16::MAX), task })
    }

    fn ring(&self, source: Source) {
        // Who came first has woken the task, and it has not looked since.
        if self.sources.fetch_or(source.bit(), Ordering::AcqRel) == 0
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }
}

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring(Source::Datagrams);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.noted.ring(self.source);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(news: Option<News>) -> Vec<Source> {
        Source::ALL.into_iter().filter(|source| news.is_some_and(|news| news.is_of(*source))).collect()
    }

    #[test]
    fn all_sources_are_asked_at_first_and_then_those_that_woke() {
        let (mut sources, count) = (Sources::new(), Arc::new(Count::default()));
        sources.wake_for(&Context::from_waker(&Waker::from(count.clone())));
        assert_eq!(of(sources.take()), Source::ALL);
        assert!(sources.take().is_none());
        sources.context(Source::Datagrams).waker().wake_by_ref();
        sources.context(Source::Notes).waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "the task is woken once until it looks");
        assert_eq!(of(sources.take()), [Source::Notes, Source::Datagrams]);
        sources.context(Source::Said).waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        sources.note(Source::Time);
        assert_eq!(of(sources.take()), [Source::Time, Source::Said]);
    }

    #[test]
    fn a_task_that_moved_is_woken_where_it_is() {
        let (mut sources, old, new) =
            (Sources::new(), Arc::new(Count::default()), Arc::new(Count::default()));
        for count in [&old, &new] {
            sources.wake_for(&Context::from_waker(&Waker::from(count.clone())));
        }
        sources.take();
        sources.context(Source::Time).waker().wake_by_ref();
        assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
    }
}
