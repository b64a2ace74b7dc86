//! What an administrator could tune on Linux, with Linux's defaults.

/// The settings of one endpoint. [`Config::default`] is Linux 6.5 and later with untouched sysctls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The largest payload with its options that fits the interface, in bytes: MTU less 40. At least 88 is used.
    pub mss: u16,
    /// How much the application may have written that is not acknowledged yet, in bytes. Linux grows it as needed
    /// (`tcp_wmem`); here it is fixed.
    pub send_buffer_bytes: u32,
    /// How much may have arrived that the application has not read, in bytes. Linux grows it as needed (`tcp_rmem`);
    /// here it is fixed. At most 1 GiB is used.
    pub receive_buffer_bytes: u32,
    /// Segments that may be sent before the first acknowledgement (RFC 6928).
    pub initial_cwnd: u16,
    /// How often a SYN is repeated with doubling time-outs, after the linear ones (`tcp_syn_retries`).
    pub syn_retries: u8,
    /// How often a SYN is repeated at an even pace before that (`tcp_syn_linear_timeouts`, new in Linux 6.5). With 4,
    /// SYNs leave at 0, 1, 2, 3, 4, 5, 7, 11, .. s and the attempt ends after 131 s; with 0, as before, they leave at
    /// 0, 1, 3, 7, .. s and it ends after 127 s.
    pub syn_linear_timeouts: u8,
    /// How often a SYN-ACK is repeated (`tcp_synack_retries`).
    pub synack_retries: u8,
    /// How many doublings of the shortest time-out an unanswered connection lives for (`tcp_retries2`); 15 is 924.6 s.
    /// Also the number of unanswered window probes.
    pub retries2: u8,
    /// The same for a connection that the application has closed (`tcp_orphan_retries`, where 0 means 8).
    pub orphan_retries: u8,
    /// The retransmission time-out before there is a sample of the round trip.
    pub rto_initial_ms: u32,
    /// The floor of the variance's part of the retransmission time-out (`tcp_rto_min_us`, and `TCP_RTO_MIN_US`, an option of the
    /// socket).
    pub rto_min_ms: u32,
    /// The ceiling of the retransmission time-out (`tcp_rto_max_ms`, and `TCP_RTO_MAX_MS`, an option of the socket).
    pub rto_max_ms: u32,
    /// How long a connection lives on which nothing is acknowledged, in place of `retries2` and `orphan_retries`; 0 for those
    /// (`TCP_USER_TIMEOUT`, an option of the socket).
    pub user_timeout_ms: u32,
    /// Do not double the first six time-outs while fewer than four segments are in flight (`TCP_THIN_LINEAR_TIMEOUTS`, an
    /// option of the socket).
    pub thin_linear_timeouts: bool,
    /// The shortest delay of an acknowledgement that need not leave at once.
    pub delayed_ack_min_ms: u32,
    /// The longest.
    pub delayed_ack_max_ms: u32,
    /// How long a connection that the application has closed waits for the peer's FIN (`tcp_fin_timeout`).
    pub fin_timeout_ms: u32,
    /// How long the side that closed first answers stray segments.
    pub time_wait_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self::LINUX
    }
}

impl Config {
    /// Linux's `TCP_RTO_MIN`, which also counts where a socket has a floor of its own.
    pub(super) const SHORTEST_MS: u32 = 200;

    /// What Linux does unasked.
    pub const LINUX: Self = Self {
        mss: 1460,
        send_buffer_bytes: 256 * 1024,
        receive_buffer_bytes: 256 * 1024,
        initial_cwnd: 10,
        syn_retries: 6,
        syn_linear_timeouts: 4,
        synack_retries: 5,
        retries2: 15,
        orphan_retries: 8,
        rto_initial_ms: 1000,
        rto_min_ms: Self::SHORTEST_MS,
        rto_max_ms: 120_000,
        user_timeout_ms: 0,
        thin_linear_timeouts: false,
        delayed_ack_min_ms: 40,
        delayed_ack_max_ms: 200,
        fin_timeout_ms: 60_000,
        time_wait_ms: 60_000,
    };

    /// The same settings with every value in the range that the machine's arithmetic is made for.
    pub(super) fn bounded(&self) -> Self {
        Self {
            mss: self.mss.max(88),
            receive_buffer_bytes: self.receive_buffer_bytes.clamp(1, 1 << 30),
            send_buffer_bytes: self.send_buffer_bytes.clamp(1, 1 << 30),
            initial_cwnd: self.initial_cwnd.max(1),
            rto_initial_ms: self.rto_initial_ms.clamp(1, 120_000),
            rto_min_ms: self.rto_min_ms.clamp(1, 120_000),
            rto_max_ms: self.rto_max_ms.clamp(self.rto_min_ms.clamp(1, 120_000), 120_000),
            delayed_ack_min_ms: self.delayed_ack_min_ms.clamp(1, 1000),
            delayed_ack_max_ms: self.delayed_ack_max_ms.clamp(1, 1000),
            ..*self
        }
    }

    /// How long an unanswered connection goes on after its first retransmission, in microseconds: what it was told, or what
    /// `retries` doublings of the shortest time-out would take (Linux's `tcp_model_timeout`).
    pub(super) fn give_up_after_us(&self, retries: u8) -> u64 {
        if self.user_timeout_ms > 0 {
            return u64::from(self.user_timeout_ms) * 1000;
        }
        let (floor, ceiling) = (u64::from(Self::SHORTEST_MS) * 1000, u64::from(self.rto_max_ms) * 1000);
        let doublings = u32::from(retries).min((ceiling / floor).max(1).ilog2());
        ((2 << doublings) - 1) * floor + u64::from(u32::from(retries) - doublings) * ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_up_takes_what_the_manual_of_linux_says() {
        assert_eq!(Config::default().give_up_after_us(15), 924_600_000);
        assert_eq!(Config::default().give_up_after_us(8), 102_200_000);
        assert_eq!(Config::default().give_up_after_us(0), 200_000);
        let short = Config { rto_max_ms: 3000, ..Config::default() };
        assert_eq!(short.give_up_after_us(15), 39_000_000);
        let told = Config { user_timeout_ms: 120_000, ..short };
        assert_eq!(told.give_up_after_us(15), 120_000_000);
    }
}
