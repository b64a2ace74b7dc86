//! A scenario: a small internet, what happens on it, and what must be true of it.
//!
//! The types here, in `internet` and in `course` are *resolved*: names are checked, counts are expanded, defaults are filled
//! in, and nothing is left to decide while a world runs. How a file becomes one is the business of `file` and its parts: `link`, `segments`, `nodes`,
//! `routes`, `nat`, `docker`, `machine`, `script`, `faults`, `churn`, `timeline`, `limits`, and `names` and `amounts` for all of
//! them; [`profiles`] are links with names.
//! `scenarios/README.md` lists every key.

use std::time::Duration;

pub use consul::Consul;
pub use course::*;
pub use internet::*;
pub use original_repeater::{OriginalRegistry, OriginalRepeater};

mod amounts;
mod churn;
mod consul;
mod course;
mod docker;
mod faults;
mod file;
mod internet;
mod limits;
mod link;
mod machine;
mod names;
mod nat;
mod nodes;
mod original_repeater;
pub mod profiles;
mod routes;
mod script;
mod segments;
mod sessions;
mod timeline;

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What the scenario shows, in a sentence or two.
    pub about: String,
    /// The seed when the command line names none.
    pub seed: u64,
    /// How long the world lives, in simulated time.
    pub duration: Duration,
    /// The step of the outer engine, in whole milliseconds. It changes nothing but speed.
    pub tick: Duration,
    /// Broadcast domains, in the order of the file.
    pub segments: Vec<Segment>,
    /// Nodes and after them containers, counts expanded, each in the order of the file; then routers, then Docker hosts.
    pub nodes: Vec<Node>,
    /// What happens, sorted by time; steps at the same moment keep the order of the file.
    pub steps: Vec<Step>,
    /// What else happens, drawn from the seed; [`Scenario::unrolled`] makes steps of it.
    pub churn: Vec<Churn>,
    /// Messages that nodes send all by themselves.
    pub traffic: Vec<Traffic>,
    /// What must be true.
    pub expects: Vec<Expect>,
    /// Consul agents.
    pub consuls: Vec<Consul>,
    /// Original-format repeaters.
    pub originals: Vec<OriginalRepeater>,
}
