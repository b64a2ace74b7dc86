//! The program among real peers on real networks: between network namespaces, with pyre and czmq, under loss.
//!
//! These tests need root, network namespaces and pyre, so plain `cargo test` leaves them out and `.ci/run` runs them:
//!
//!     .ci/pyre.sh && cargo test --test namespaces -- --ignored
//!
//! Where something is missing a test says NOT RUN and why; in CI it fails. What they do not do: look inside; they see what
//! a user sees, the program's events.
#![cfg(all(target_os = "linux", feature = "cli"))]

mod between_hailers;
mod consul;
mod elsewhere;
mod groups;
mod inside;
mod lab;
mod peer;
mod pyre_stays;
mod relay;
mod repeater;
mod sites;
mod under_loss;
mod with_czmq;
mod with_pyre;
