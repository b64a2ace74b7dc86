//! A deterministic network simulator that runs Hailer's own code from scenario files, and judges it.
//!
//! A map, in reading order; start with [`scenario`].
//!
//! * [`scenario`]: a scenario file, read, checked and resolved: segments, nodes, steps, traffic, expectations.
//! * [`fabric`]: the simulated network. A plain library: no async, no clock, no tasks.
//! * [`net`]: the fabric as the product sees it, an implementation of [`hailer::net::Net`].
//! * [`tasks`]: the tasks of one life of one node, which end and stop together.
//! * [`memory`]: how much of it each node's program holds.
//! * [`executor`]: runs tasks, first in, first out.
//! * [`engine`]: turmoil's clock, and how simulated time passes.
//! * [`world`]: one run: the nodes, the script, the trace they leave.
//! * [`trace`]: what a run leaves behind: what every application saw, and what the script did.
//! * [`check`]: verdicts, from the trace and the scenario alone.
//! * [`report`]: the trace for people: page, plots, tables.
//! * [`cli`]: the program `hailer-sim`.
//!
//! If a line of protocol behaviour is written in this crate, it is in the wrong place.

pub mod check;
pub mod cli;
pub mod engine;
pub mod executor;
pub mod fabric;
pub mod memory;
pub mod net;
pub mod report;
pub mod scenario;
pub mod tasks;
pub mod trace;
pub mod world;
