//! The `hailer-sim` program: see [`hailer_sim::cli`].

use std::process::ExitCode;

/// Counts what nodes hold, for expectations about memory.
#[global_allocator]
static ALLOCATOR: tracking_allocator::Allocator<std::alloc::System> = hailer_sim::memory::counting();

fn main() -> ExitCode {
    hailer_sim::cli::main()
}
