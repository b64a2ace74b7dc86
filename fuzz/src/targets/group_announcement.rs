//! A datagram of pir's kind at the port of a LAN group, and the URIs in it.

use std::net::IpAddr;

use hailer::group::{Announcement, HealthUri, URI_BYTES_MAX, Uri};

/// One execution.
pub fn run(datagram: &[u8]) {
    if let Ok(announcement) = Announcement::decode(datagram) {
        assert!(datagram.len() <= Announcement::LEN_MAX);
        assert_eq!(Announcement::decode(announcement.encode().as_bytes()), Ok(announcement));
    }
    let Ok(text) = std::str::from_utf8(datagram) else { return };
    if let Ok(uri) = Uri::parse(text) {
        assert!(text.len() <= URI_BYTES_MAX);
        for address in [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1])] {
            let there = uri.at(address);
            assert_eq!(there.at(address), there);
            if there.as_str().len() <= URI_BYTES_MAX {
                assert_eq!(Uri::parse(there.as_str()), Ok(there));
            }
        }
    }
    if let Ok(uri) = HealthUri::parse(text) {
        assert_eq!(HealthUri::parse(&uri.to_string()), Ok(uri));
    }
}
