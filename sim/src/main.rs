//! The `hailer-sim` program: see [`hailer_sim::cli`].

use std::alloc::System;
use std::process::ExitCode;

use hailer_sim::memory;
use tracking_allocator::Allocator;

/// Counts what nodes hold, for expectations about memory.
#[global_allocator]
static ALLOCATOR: Allocator<System> = memory::counting(System);

fn main() -> ExitCode {
    hailer_sim::cli::main()
}
