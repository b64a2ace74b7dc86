//! What happens to repeaters.

use std::net::SocketAddr;

/// Something that happened to a repeater, or that it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepeaterWhat {
    /// The script switched the node on, on which it runs.
    Up,
    /// Event REPEATER-FOUND.
    Found(SocketAddr),
    /// Event REPEATER-GONE.
    Gone(SocketAddr),
}
