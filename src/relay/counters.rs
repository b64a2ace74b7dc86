//! What a relay counts, for people who watch it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counts since the relay started. Each only grows.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        impl Counters {
            /// All of them by name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections that came in on the port for hosts or for command channels.
    host_connections,
    /// ... that said something which no host says, before or after they had proved anything.
    host_faults,
    /// ... that took too long to introduce themselves, or were pushed out by others that had not either.
    host_timeouts,
    /// Hosts that were refused: their token was wrong, there is no such service, or too many hosts.
    hosts_refused,
    /// Hosts that were let in.
    hosts,
    /// Clients that came.
    clients,
    /// ... that were not served.
    clients_denied,
    /// Sessions that began.
    sessions,
    /// ... that ended because the data connection broke.
    sessions_broken,
    /// Datagrams of clients that were dropped: too many of them waited, they were too long, or there was no session for them.
    datagrams_dropped,
    /// Bytes from clients.
    bytes_up,
    /// Bytes to clients.
    bytes_down,
}

/// One count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}
