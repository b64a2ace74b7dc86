//! How a NAT behaves: RFC 4787's two axes (mapping and filtering), and what else tells one box from another.
//!
//! Plain values. The named ones are in `presets`; what they lead to is decided in the parent module.

use std::time::Duration;

use super::presets::Preset;

/// All that makes one NAT different from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The preset it was derived from.
    pub preset: Preset,
    /// What an outside address and port are kept for (RFC 4787, 4.1).
    pub mapping: Dependence,
    /// From whom packets come in through a mapping (RFC 4787, 5).
    pub filtering: Dependence,
    /// Which outside port a mapping gets.
    pub ports: PortPolicy,
    /// Whether inside machines reach each other by their outside addresses (RFC 4787, 6). They then see each other's
    /// outside addresses.
    pub hairpin: Hairpin,
    /// What becomes of packets from outside that belong to nothing.
    pub unsolicited: Unsolicited,
    /// What becomes of TCP from inside that belongs to nothing and does not open a connection.
    pub mid_connection: MidConnection,
    /// Which packets keep a UDP or ICMP session alive. With TCP all do.
    pub refresh: Refresh,
    /// When silent sessions are forgotten.
    pub timeouts: Timeouts,
    /// Sessions at the same time, at most. In a full table the oldest one that was never answered makes way; where there is
    /// none, nothing new gets through.
    pub sessions_max: usize,
}

/// Which outside addresses and ports inside machines reach each other by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// None.
    Never,
    /// All.
    Always,
}

/// What a mapping or a permission depends on, besides the inside address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// Nothing.
    EndpointIndependent,
    /// The outside address.
    AddressDependent,
    /// The outside address and port.
    AddressAndPortDependent,
}

/// How outside ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPolicy {
    /// As Linux does: the inside port, also when another machine has it, as long as both ends together are unique.
    /// Otherwise a random one of its class (1 to 511, 600 to 1023, from 1024 on). Tells who is meant by the remote end
    /// alone, so it goes with address and port dependent filtering only: see [`Policy::with_filtering`].
    Linux,
    /// The inside port unless it is taken, then a random one from 1024 on of the same parity (RFC 4787, 4.2).
    Preserve,
    /// A random one from 1024 on.
    Random,
    /// The one after the one given last, from 1024 on.
    Sequential,
    /// Each inside address has a block of its own, and its ports are random within it (RFC 6888).
    Block {
        /// Ports in a block: what one inside address may use of each protocol.
        size: u16,
        /// How long a port that was given back is not given again.
        rest: Duration,
    },
}

/// What becomes of packets from outside that belong to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsolicited {
    /// The router takes them as meant for itself and answers them as any machine does. Their two ends are taken for as
    /// long as it remembers them: what goes out later between the same two gets another port.
    Accept,
    /// They vanish.
    Drop,
}

/// What becomes of TCP from inside that belongs to nothing and does not open a connection: its session was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidConnection {
    /// It gets a new session, as if the NAT had seen the connection from the beginning.
    PickUp,
    /// Its sender is told by a reset.
    Reset,
    /// It vanishes.
    Drop,
}

/// Which packets keep a session alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Those from inside: nobody outside can keep a mapping open (RFC 4787, 4.3).
    Outbound,
    /// All.
    Both,
}

/// When silent sessions are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP that was never answered, or that is younger than [`Timeouts::udp_stream_after`].
    pub udp_unreplied: Duration,
    /// UDP in both directions.
    pub udp_replied: Duration,
    /// How old UDP in both directions is before it has the longer time.
    pub udp_stream_after: Duration,
    /// ICMP queries.
    pub icmp: Duration,
    /// TCP by state.
    pub tcp: TcpTimeouts,
}

/// When silent TCP sessions are forgotten, by the state that the NAT takes the connection to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTimeouts {
    /// After a SYN, or one from each side.
    pub syn_sent: Duration,
    /// After the SYN was answered.
    pub syn_recv: Duration,
    /// Open.
    pub established: Duration,
    /// After one side's FIN.
    pub fin_wait: Duration,
    /// After that was acknowledged.
    pub close_wait: Duration,
    /// After both sides' FIN.
    pub last_ack: Duration,
    /// After both were acknowledged.
    pub time_wait: Duration,
    /// After a reset.
    pub close: Duration,
    /// At most, while something is not acknowledged, or of a connection that was picked up and not yet answered.
    pub unacknowledged: Duration,
}

impl Policy {
    /// This policy with another filtering. Where ports may have several owners that are told apart by the remote end,
    /// filtering that looks less closely would not know whom a packet is for: then ports get one owner each.
    pub fn with_filtering(mut self, filtering: Dependence) -> Self {
        self.filtering = filtering;
        if filtering != Dependence::AddressAndPortDependent && self.ports == PortPolicy::Linux {
            self.ports = PortPolicy::Preserve;
        }
        self
    }

    /// This policy with one time-out for all UDP.
    pub fn with_udp_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.udp_unreplied = timeout;
        self.timeouts.udp_replied = timeout;
        self
    }
}
