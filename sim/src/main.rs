//! The `hailer-sim` program.

fn main() {}
