//! The `hailer-sim` program: see [`hailer_sim::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hailer_sim::cli::main()
}
