//! The operating system's network.

/// The operating system's network: tokio and socket2.
#[derive(Clone, Debug)]
pub struct OsNet;
