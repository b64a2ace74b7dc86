//! Endpoints driven by hand, two at a time, over a wire whose every loss is written down.

mod costs;
mod endings;
mod properties;
mod recorded;
mod wire;
