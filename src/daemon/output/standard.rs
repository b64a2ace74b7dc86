//! Standard output, whose reader may be slow or stand still.
//!
//! The program is a task beside those of its roles, and shares its thread with them. So what can be written at once is
//! written; before a write that may have to wait, the thread's other tasks are handed to another thread, which costs more
//! than most writes.

use std::io::{self, Write};

/// What a pipe takes at once when it says that it takes anything, or not at all (`PIPE_BUF` of Linux).
const AT_ONCE_MAX: usize = 4096;

/// Writes all of it.
///
/// # Errors
/// As [`io::Write::write_all`], `BrokenPipe` when the reader has gone.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let write = || {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    };
    if bytes.len() <= AT_ONCE_MAX && is_ready() { write() } else { tokio::task::block_in_place(write) }
}

/// Whether a write will not wait.
#[cfg(unix)]
fn is_ready() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let stdout = io::stdout();
    // An error is told by the write, at once.
    poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(not(unix))]
fn is_ready() -> bool {
    false
}
