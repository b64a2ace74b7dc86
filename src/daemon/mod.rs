//! The configuration that starts roles, and what the program does around them.
//!
//! [`Config`] is one type for both worlds: `hailer run --config FILE` reads it from a file, and a scenario's nodes carry
//! the same tables.
//!
//! * [`start`]: starts the roles of a configuration on any network.
//! * [`reader`]: takes TOML tables apart, key by key; for scenario files too.
//! * [`diagnostic`]: mistakes in a file, with the lines they are about.

#[cfg(feature = "cli")]
mod chat;
#[cfg(feature = "cli")]
pub mod cli;
mod config;
pub mod diagnostic;
#[cfg(feature = "cli")]
mod output;
pub mod reader;
mod roles;

pub use config::Config;
pub use diagnostic::{Diagnostics, LoadError};
pub use roles::{RoleEvent, Roles, StartError, start};
