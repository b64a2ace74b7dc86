//! A datagram at the beacon port of a repeater, and a packet of another repeater.

use hailer::repeater::packet::{Packet, RawBeacon};

/// One execution.
pub fn run(bytes: &[u8]) {
    if let Ok(beacon) = RawBeacon::decode(bytes) {
        assert_eq!(beacon.as_bytes(), bytes);
        assert!(bytes.len() <= RawBeacon::LEN_MAX);
        assert_eq!(beacon.with_port(beacon.port()).as_bytes(), bytes);
    }
    if let Ok(packet) = Packet::decode(bytes) {
        let again = packet.encode();
        assert!(again.len() <= Packet::LEN_MAX);
        assert_eq!(Packet::decode(&again), Ok(packet));
    }
}
