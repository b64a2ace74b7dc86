//! The `hailer` program: see [`hailer::daemon::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
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
