//! How much memory each node's program holds, counted by the allocator.
//!
//! A program that wants to count uses [`counting`] as its global allocator, as `hailer-sim` does. An [`Account`] then has
//! every byte that was allocated while its node's tasks ran and has not been freed since, wherever it is freed. What the
//! simulated kernel and the trace allocate meanwhile is not the program's: [`outside`].
//!
//! The count is of the program's own requests, without what an allocator adds, and does not enter any digest: it is the
//! same for the same build, but for the kilobytes that libraries allocate once in a process.

use std::alloc::GlobalAlloc;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};

use hailer::Timestamp;
use tracking_allocator::{
    AllocationGroupId, AllocationGroupToken, AllocationRegistry, AllocationTracker, Allocator,
};

use crate::trace::Peak;

/// An allocator that counts once there is an account, and gets its memory from this one.
pub const fn counting<A: GlobalAlloc>(allocator: A) -> Allocator<A> {
    Allocator::from_allocator(allocator)
}

/// Whether any account was ever opened in this process. Until then nothing is paid for counting but a word a block.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The accounts of the runs of this thread. A run never leaves its thread.
    static BOOKS: RefCell<BTreeMap<usize, Book>> = const { RefCell::new(BTreeMap::new()) };
    /// What is allocated outside of all accounts.
    static OUTSIDE: RefCell<Option<AllocationGroupToken>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Default)]
struct Book {
    held: u64,
    most: u64,
}

struct Bookkeeper;

impl Bookkeeper {
    fn change(group: &AllocationGroupId, change: impl FnOnce(&mut Book)) {
        // Whatever the books themselves need while they are open is nobody's.
        let _ = BOOKS.try_with(|books| {
            if let Ok(mut books) = books.try_borrow_mut()
                && let Some(book) = books.get_mut(&group.as_usize().get())
            {
                change(book);
            }
        });
    }
}

impl AllocationTracker for Bookkeeper {
    fn allocated(&self, _: usize, size: usize, _: usize, group: AllocationGroupId) {
        Self::change(&group, |book| {
            book.held += size as u64;
            book.most = book.most.max(book.held);
        });
    }

    fn deallocated(&self, _: usize, size: usize, _: usize, group: AllocationGroupId, _: AllocationGroupId) {
        Self::change(&group, |book| book.held = book.held.saturating_sub(size as u64));
    }
}

/// The memory of one node's program, over all its lives.
pub struct Account {
    id: usize,
    token: Mutex<AllocationGroupToken>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    peak: Mutex<Peak>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Account {
    /// An empty account, for use on this thread. `now` says when. `None` in a program whose allocator does not count.
    pub fn open(now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Option<Self> {
        static START: Once = Once::new();
        START.call_once(|| {
            // Somebody else's tracker is as good as none: the probe below finds that nothing is counted.
            let _ = AllocationRegistry::set_global_tracker(Bookkeeper);
            AllocationRegistry::enable_tracking();
            IS_COUNTING.store(true, Ordering::Relaxed);
        });
        let token = AllocationGroupToken::register()?;
        let id = token.id().as_usize().get();
        BOOKS.with_borrow_mut(|books| books.insert(id, Book::default()));
        let account = Self { id, token: Mutex::new(token), now, peak: Mutex::default() };
        let probe = account.during(|| std::hint::black_box(Box::new([0_u8; 64])));
        let is_counted = account.book().held == 64;
        drop(probe);
        BOOKS.with_borrow_mut(|books| books.insert(id, Book::default()));
        *account.peak.lock().expect("nothing panics while it holds this lock") = Peak::default();
        is_counted.then_some(account)
    }

    /// Does something on this account.
    pub fn during<R>(&self, act: impl FnOnce() -> R) -> R {
        // Who is on it already stays on it.
        let Ok(mut token) = self.token.try_lock() else { return act() };
        let guard = token.enter();
        let outcome = act();
        drop(guard);
        drop(token);
        let most = self.book().most;
        let mut peak = self.peak.lock().expect("nothing panics while it holds this lock");
        if most > peak.most {
            *peak = Peak { most, at: (self.now)() };
        }
        outcome
    }

    /// The most bytes that it ever had, and the moment at the end of which it was known.
    pub fn peak(&self) -> Peak {
        *self.peak.lock().expect("nothing panics while it holds this lock")
    }

    /// Bytes that it has now.
    pub fn held(&self) -> u64 {
        self.book().held
    }

    fn book(&self) -> Book {
        BOOKS.with_borrow(|books| books.get(&self.id).copied().unwrap_or_default())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = BOOKS.try_with(|books| books.try_borrow_mut().map(|mut books| books.remove(&self.id)));
    }
}

/// Does something that is not the program's own: what the simulated kernel or the trace allocates is on no account.
pub fn outside<R>(act: impl FnOnce() -> R) -> R {
    if !IS_COUNTING.load(Ordering::Relaxed) {
        return act();
    }
    OUTSIDE.with(|token| {
        let Ok(mut token) = token.try_borrow_mut() else { return act() };
        if token.is_none() {
            *token = AllocationGroupToken::register();
        }
        let Some(token) = token.as_mut() else { return act() };
        let _guard = token.enter();
        act()
    })
}

/// The same value, none of whose memory is on an account.
pub fn taken_outside<T: Clone>(value: T) -> T {
    if IS_COUNTING.load(Ordering::Relaxed) { outside(|| value.clone()) } else { value }
}
