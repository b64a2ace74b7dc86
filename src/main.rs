//! The `hailer` program: see [`hailer::daemon::cli`].

use std::process::ExitCode;

/// The largest block that glibc takes for an ordinary one from the start on; see `main`.
const ORDINARY_BLOCK_BYTES: usize = 16 << 20;

fn main() -> ExitCode {
    // glibc gives memory back as soon as 128 KiB at the end of its heap are free, and where messages are large each finds its
    // pages gone: half of the rate. Twice the largest block that was ever freed may stay (mallopt(3), M_MMAP_THRESHOLD).
    drop(std::hint::black_box(Vec::<u8>::with_capacity(ORDINARY_BLOCK_BYTES)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hailer: can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // As a task beside those of its roles: woken by one of them, it runs on that one's thread, at once.
    let program = runtime.spawn(hailer::daemon::cli::main());
    let code = runtime.block_on(program).unwrap_or(ExitCode::FAILURE);
    // A thread may still wait for a line of standard input; nobody waits for it.
    runtime.shutdown_background();
    code
}
