//! The configuration that starts roles, and what the program does around them.
//!
//! [`Config`] is one type for both worlds: `hailer run --config FILE` reads it from a file, and a scenario's nodes carry
//! the same tables.

use crate::zre;

/// Which roles run, each with complete settings. At least one is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A ZRE node: the table `[zre]`.
    pub zre: Option<zre::Config>,
}
