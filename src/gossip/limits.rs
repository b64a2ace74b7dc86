//! What strangers may cost a hub or its client, and what they counted.
//!
//! Nobody proves who he is in gossip: whoever reaches the port can publish. Each limit keeps that affordable. A full table is
//! a counter, never a fault: what is there stays.

/// Bounds on what others can make a hub hold or do. [`Limits::default`] suits some thousand nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients, other hubs among them. Each costs a connection; one more is refused.
    pub clients: usize,
    /// Connections whose ZMTP handshake is not complete. One more, and the oldest is closed.
    pub handshakes: usize,
    /// Tuples in all, each counted once for each hub that tells of it.
    pub tuples: usize,
    /// Tuples of one client. A node has one; a czmq hub that is our client brings those of its own clients.
    pub tuples_per_client: usize,
    /// Bytes in keys and values of all tuples.
    pub tuple_bytes: usize,
    /// News of one client per second that are told on, after a burst of [`Limits::tuples_per_client`]. Each piece of news
    /// goes to everybody, so this bounds what one client can make of us.
    pub news_per_second: u32,
    /// Messages that wait for one client. One more, and it is too slow: its connection is closed.
    pub queue_messages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 4096,
            handshakes: 256,
            tuples: 16_384,
            tuples_per_client: 4096,
            tuple_bytes: 8 << 20,
            news_per_second: 100,
            queue_messages: 65_536,
        }
    }
}

/// What a hub counted since its start. All of it is harmless; a rising number tells an operator where to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Clients that connected.
    pub clients_connected: u64,
    /// Clients that were refused because there were too many.
    pub clients_over_limit: u64,
    /// Clients that were too slow.
    pub clients_too_slow: u64,
    /// Messages that could not be decoded, or whose key makes no sense.
    pub messages_malformed: u64,
    /// Tuples that came for the first time, or with a new value.
    pub published: u64,
    /// Tuples that went because their time was up.
    pub expired: u64,
    /// Tuples that were withdrawn by who had published them.
    pub withdrawn: u64,
    /// Tuples that were not taken because a limit was reached.
    pub tuples_over_limit: u64,
    /// Tuples that were not taken because their node is known to say otherwise, or to be dead.
    pub hearsay_refused: u64,
    /// News of other hubs that were known already.
    pub news_repeated: u64,
}
