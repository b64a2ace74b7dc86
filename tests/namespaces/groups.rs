//! LAN groups: hailers among themselves, and with pir.
//!
//! pir is the original when `HAILER_PIR_GO` names a program that tells its events as `pir_peer.py` does; otherwise that
//! script, which does the same byte for byte.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{self, Lab};
use super::peer::{Peer, SOON};

/// A dead process is gone in the time that pir takes at best.
const KILLED_KNOWN_MAX: Duration = Duration::from_secs(4);
/// A silent machine is gone in half the time that pir takes.
const SILENT_KNOWN_MAX: Duration = Duration::from_secs(6);

fn lab(hosts: u8) -> Option<Lab> {
    if !lab::is_available_or_say_so() {
        return None;
    }
    let lab = Lab::new(hosts);
    for host in 0..hosts {
        // pir sends where the routing table says, and ends when it says nothing.
        let status = lab.command(host, "ip").args(["route", "add", "224.0.0.0/4", "dev", "eth0"]).status();
        assert!(status.expect("ip is there").success());
    }
    Some(lab)
}

fn join(lab: &Lab, host: u8, more: &[&str]) -> Peer {
    let words = [&["join", "cameras", "--service", "tcp://*:8554", "--json"], more].concat();
    Peer::hailer_group(lab, host, &words)
}

/// What a member announces as its service: by IPv4 or by IPv6, whichever it was met over.
fn services(lab: &Lab, host: u8) -> [String; 2] {
    [format!("tcp://{}:8554", lab.address(host)), format!("tcp://[{}]:8554", lab.address_v6(host))]
}

/// Waits until a member has added the one on a host, and returns that one's identity.
fn meets(lab: &Lab, peer: &mut Peer, host: u8) -> Value {
    let patterns = services(lab, host).map(|service| added(&service));
    peer.expect_one_of(SOON, &patterns)["member"].clone()
}

/// Waits until everybody has added everybody, and returns their identities.
fn all_meet<const COUNT: usize>(lab: &Lab, peers: [&mut Peer; COUNT]) -> [Value; COUNT] {
    let mut ids = [const { Value::Null }; COUNT];
    for (own, peer) in peers.into_iter().enumerate() {
        for (host, id) in ids.iter_mut().enumerate().filter(|(host, _)| *host != own) {
            *id = meets(lab, peer, host as u8);
        }
    }
    ids
}

fn added(service: &str) -> Value {
    json!({ "event": "ADDED", "group": "cameras", "service": service })
}

#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn members_find_each_other_and_notice_who_dies_goes_or_falls_silent() {
    let Some(lab) = lab(4) else { return };
    let [mut alice, mut bob, mut carol, mut dave] = [0, 1, 2, 3].map(|host| join(&lab, host, &[]));
    let ids = all_meet(&lab, [&mut alice, &mut bob, &mut carol, &mut dave]);
    bob.kill();
    alice.expect(KILLED_KNOWN_MAX, json!({ "event": "REMOVED", "member": ids[1], "reason": "failed" }));
    carol.expect(SOON, json!({ "event": "REMOVED", "member": ids[1] }));
    carol.interrupt();
    alice.expect(Duration::from_secs(2), json!({ "event": "REMOVED", "member": ids[2], "reason": "left" }));
    assert!(carol.ended(SOON).success(), "an interrupt is a clean end");
    carol.expect(SOON, json!({ "event": "LEFT" }));
    lab.unplug(3);
    alice.expect(SILENT_KNOWN_MAX, json!({ "event": "REMOVED", "member": ids[3] }));
    lab.plug(3);
    alice.expect(Duration::from_secs(15), json!({ "event": "ADDED", "member": ids[3] }));
    // Dave, whom nobody answered, may have kept the others in doubt, or have lost them: a matter of the moment.
    dave.expect(Duration::from_secs(15), json!({ "health": "healthy", "member": ids[0] }));
}

#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn a_list_has_who_is_there_and_a_watcher_is_nobody() {
    let Some(lab) = lab(3) else { return };
    let mut alice = join(&lab, 0, &[]);
    let mut bob = join(&lab, 1, &["--check", "open://0.0.0.0:8554"]);
    let mut watcher = Peer::hailer_group(&lab, 2, &["watch", "cameras", "--json"]);
    meets(&lab, &mut watcher, 0);
    let mut all = Peer::hailer_group(&lab, 2, &["list", "--json"]);
    all.expect(SOON, json!({ "group": "cameras", "health": "healthy" }));
    assert!(all.ended(SOON).success());
    // Nothing listens at bob's 8554, so it has not passed the check that it asks for.
    for service in services(&lab, 1) {
        watcher.has_not_said(added(&service));
    }
    let mut service = lab.command(1, "python3");
    let server = "import socket,time; s=socket.create_server(('0.0.0.0',8554)); time.sleep(60)";
    let mut service = service.args(["-c", server]).spawn().expect("python3 is there");
    let patterns = services(&lab, 1).map(|service| added(&service));
    let member = alice.expect_one_of(Duration::from_secs(40), &patterns)["member"].clone();
    alice.has_not_said(json!({ "event": "REMOVED" }));
    let _ = service.kill();
    let _ = service.wait();
    alice.expect(KILLED_KNOWN_MAX, json!({ "event": "REMOVED", "member": member, "reason": "failed" }));
    bob.interrupt();
    assert!(bob.ended(SOON).success());
    watcher.interrupt();
    assert!(watcher.ended(SOON).success());
}

#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn members_find_each_other_over_ipv6_alone() {
    let Some(lab) = lab(2) else { return };
    let [mut alice, mut bob] = [0, 1].map(|host| {
        let address = lab.address_v6(host).to_string();
        join(&lab, host, &["--interface", &address])
    });
    alice.expect(SOON, added("tcp://[fd77::2]:8554"));
    bob.expect(SOON, added("tcp://[fd77::1]:8554"));
}

#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn pir_and_hailer_are_members_of_one_group() {
    let Some(lab) = lab(3) else { return };
    let mut alice = join(&lab, 0, &[]);
    let (mut pir, pir_id) = Peer::pir(&lab, 1, "cameras", "tcp://10.1.1.1:80");
    let mut bob = join(&lab, 2, &[]);
    let member = alice.expect(SOON, added("tcp://10.1.1.1:80"));
    assert_eq!(member["member"], pir_id.as_str());
    bob.expect(SOON, added("tcp://10.1.1.1:80"));
    let bob_id = meets(&lab, &mut alice, 2);
    for service in ["tcp://10.77.0.1:8554", "tcp://10.77.0.3:8554"] {
        pir.expect(SOON, json!({ "event": "peer-added", "service": service }));
    }
    // Longer than pir's rule needs to remove somebody who does not answer it.
    bob.stays_quiet(Duration::from_secs(9), json!({ "event": "REMOVED" }));
    pir.has_not_said(json!({ "event": "peer-removed" }));
    bob.kill();
    alice.expect(KILLED_KNOWN_MAX, json!({ "event": "REMOVED", "member": bob_id }));
    pir.expect(SOON, json!({ "event": "peer-removed", "service": "tcp://10.77.0.3:8554" }));
    pir.kill();
    alice.expect(KILLED_KNOWN_MAX, json!({ "event": "REMOVED", "member": pir_id, "reason": "failed" }));
}
