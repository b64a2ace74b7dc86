//! What a node counted, each cause by itself, so that an operator who sees a number rise knows where to look.
//!
//! Counting only; what is done about each is the machine's and the driver's.

use super::ExitReason;
use super::beacon::BeaconError;
use crate::counters::counters;

counters! {
    /// What a node counted since its start. None of it harms the node.
    Counters {
        /// Peers that entered.
        entered,
        /// Peers that exited, for whatever reason; the reasons follow.
        exited,
        /// ... because they said goodbye.
        exits_left,
        /// ... because nothing was heard from them for the expired time.
        exits_expired,
        /// ... because they were silent and nothing at their place answered.
        exits_unreachable,
        /// ... because their connections were closed and their port refused new ones.
        exits_refused,
        /// ... because they started anew, or another node is at their place.
        exits_replaced,
        /// ... because messages of theirs were lost or made no sense.
        exits_out_of_sequence,
        /// ... because they did not take what we sent fast enough.
        exits_too_slow,
        /// Connection attempts.
        dialled,
        /// Datagrams on the beacon port that are no beacons we know, by length, header or version.
        beacons_malformed,
        /// Beacons of nodes that are secured with CURVE, which an open node can't talk to.
        beacons_secure,
        /// Beacons that a repeater carried over, with the address of their origin behind them.
        beacons_repeated,
        /// Beacons that would have us connect to ourselves: a stranger's identity with our own place.
        beacons_of_our_place,
        /// Beacons of unknown peers that were ignored because a table or the rate was at its limit.
        beacons_over_limit,
        /// Inbound connections that ended before their ZMTP handshake was complete.
        handshakes_failed,
        /// Inbound connections that were closed because too many others were in their handshake.
        handshakes_over_limit,
        /// Inbound links whose identity is not that of a ZRE node, or is our own.
        links_refused,
        /// Inbound links that were closed because too many had sent no HELLO, or because theirs did not come in time.
        links_without_hello,
        /// HELLOs that were refused because their number was not 1.
        hellos_out_of_sequence,
        /// HELLOs that were refused because they name no place where their sender could be reached.
        hellos_without_place,
        /// HELLOs that were refused because they name our own endpoint.
        hellos_of_our_place,
        /// HELLOs that were refused because the table of peers was full, or because they list too many groups.
        hellos_over_limit,
        /// Messages that could not be decoded.
        messages_malformed,
        /// Messages with an id that this version of the protocol does not have.
        messages_unknown,
        /// Messages before a HELLO, or on a link that a newer one replaced.
        messages_ignored,
        /// JOINs and LEAVEs whose status is not the next one. zyre and pyre abort at it; here the group is what counts.
        statuses_wrong,
        /// JOINs of groups that the peer was in, and LEAVEs of groups that it was not in.
        groups_unchanged,
        /// Groups that were not entered because the peer was in too many.
        groups_over_limit,
    }
}

impl Counters {
    /// Counts a datagram that is not a beacon we can use.
    pub(super) fn refuse_beacon(&mut self, error: BeaconError) {
        match error {
            BeaconError::Secure => self.beacons_secure += 1,
            BeaconError::Repeated { .. } => self.beacons_repeated += 1,
            BeaconError::Length { .. } | BeaconError::Header | BeaconError::Version { .. } => {
                self.beacons_malformed += 1;
            }
        }
    }

    /// Counts an EXIT.
    pub(super) fn exit(&mut self, reason: ExitReason) {
        self.exited += 1;
        *match reason {
            ExitReason::Left => &mut self.exits_left,
            ExitReason::Expired => &mut self.exits_expired,
            ExitReason::Unreachable => &mut self.exits_unreachable,
            ExitReason::Refused => &mut self.exits_refused,
            ExitReason::Replaced => &mut self.exits_replaced,
            ExitReason::OutOfSequence => &mut self.exits_out_of_sequence,
            ExitReason::TooSlow => &mut self.exits_too_slow,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_name() {
        let mut counters = Counters::default();
        counters.exit(ExitReason::TooSlow);
        let counted: Vec<_> = counters.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("exited", 1), ("exits_too_slow", 1)]);
        assert!(counters.iter().count() > 25);
    }
}
