//! A datagram at the beacon port of a node.

use hailer::zre::beacon::Beacon;

/// One execution.
pub fn run(datagram: &[u8]) {
    if let Ok(beacon) = Beacon::decode(datagram) {
        let bytes = beacon.encode();
        assert_eq!(Beacon::decode(&bytes), Ok(beacon));
        assert!(datagram.starts_with(&bytes));
    }
}
