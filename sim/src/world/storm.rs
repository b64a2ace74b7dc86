//! What a broadcast storm is made of: beacons of nodes that are not there, and garbage.
//!
//! This is no protocol behaviour: the bytes of a beacon are put together here as an attacker would, who has no node.

use bytes::Bytes;

use crate::fabric::random::Stream;

/// The port that a storm comes from: "discard", where nobody waits for an answer.
pub(super) const FROM_PORT: u16 = 9;

/// Bytes of a ZRE beacon: its signature and version, an identity, a port (RFC 36).
const BEACON_BYTES: usize = 22;

/// The next datagram of a storm: a beacon of somebody drawn at random, or `bytes` bytes of garbage.
pub(super) fn payload(stream: &mut Stream, bytes: usize) -> Bytes {
    if stream.draw() & 1 == 0 {
        let mut beacon = [0; BEACON_BYTES];
        stream.fill(&mut beacon);
        beacon[..4].copy_from_slice(b"ZRE\x01");
        return Bytes::copy_from_slice(&beacon);
    }
    let mut garbage = vec![0; bytes];
    stream.fill(&mut garbage);
    Bytes::from(garbage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_half_of_a_storm_are_beacons_and_no_two_of_them_the_same() {
        let mut stream = Stream::new(1, "storm");
        let all: Vec<Bytes> = (0..1000).map(|_| payload(&mut stream, 100)).collect();
        let beacons: std::collections::BTreeSet<_> =
            all.iter().filter(|payload| payload.starts_with(b"ZRE\x01")).collect();
        assert!((400..600).contains(&beacons.len()), "{} of 1000", beacons.len());
        let is_sized = |payload: &Bytes| payload.len() == if beacons.contains(payload) { 22 } else { 100 };
        assert!(all.iter().all(is_sized));
    }
}
