//! The configuration that starts roles, and what the program does around them.
//!
//! [`Config`] is one type for both worlds: `hailer run --config FILE` reads it from a file, and a scenario's nodes carry
//! the same tables.
//!
//! * [`reader`]: takes TOML tables apart, key by key; for scenario files too.
//! * [`diagnostic`]: mistakes in a file, with the lines they are about.

mod config;
pub mod diagnostic;
pub mod reader;

pub use config::Config;
pub use diagnostic::{Diagnostics, LoadError};
