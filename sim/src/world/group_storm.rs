//! What a storm against LAN groups is made of: what is known to kill pir, lies about members, ghosts, and garbage.
//!
//! This is no protocol behaviour: the texts are put together here as an attacker would, who has no member.

use bytes::Bytes;
use hailer::group::{GroupName, MemberId};

use crate::fabric::random::Stream;
use crate::scenario::Scenario;

/// The group that is attacked, and its port: the first of the first node that is in one.
pub(super) fn target(scenario: &Scenario) -> Option<(&GroupName, u16)> {
    let mut groups = scenario.nodes.iter().flat_map(|node| &node.config.groups);
    groups.next().map(|group| (&group.name, group.port))
}

/// The next datagram; `members` are those in whose names it may lie.
pub(super) fn payload(stream: &mut Stream, group: &GroupName, members: &[MemberId], bytes: usize) -> Bytes {
    let draw = stream.draw();
    let member = |at: u64| match members.len() {
        0 => MemberId::from_bytes([0; 16]),
        count => members[(at % count as u64) as usize],
    };
    let (one, other) = (member(draw >> 8), member(draw >> 24));
    let ghost = MemberId::from_random(u128::from(draw).to_le_bytes());
    let host = format!("10.77.0.{}", 1 + (draw >> 40) % 200);
    let text = match draw % 10 {
        0 => format!("{group}|{ghost}|tcp://%zz|tcp://x:1"),
        1 => format!("{group}|{ghost}|udp://{host}:9|tcp://x:1"),
        // Everybody is to dial a port of somebody else.
        2 => format!("{group}|{ghost}|tcp://{host}:{}|tcp://x:1", 1024 + (draw >> 48) % 10_000),
        3 => format!("{group}|{one}|tcp://{host}:22|tcp://x:1"),
        4 => format!("hailer1+{group}|{one}|hailer:leave|hailer:"),
        5 => format!("hailer1+{group}|{one}|hailer:suspect|hailer:{other},60000"),
        6 => format!("hailer1+{group}|{one}|hailer:alive|hailer:{ghost},9,9,tcp://{host}:2000,tcp://x:1,"),
        7 => format!("hailer1+{group}|{one}|hailer:here|hailer:{one},99,9,tcp://{host}:2000,tcp://x:1,"),
        8 => format!("hailer1+{group}|{one}|hailer:ask|hailer:{other}"),
        _ => {
            let mut garbage = vec![0; bytes];
            stream.fill(&mut garbage);
            return Bytes::from(garbage);
        }
    };
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_lie_is_told_and_no_two_ghosts_are_the_same() {
        let mut stream = Stream::new(1, "storm");
        let group = "g".parse().unwrap();
        let members = [MemberId::from_bytes([7; 16])];
        let all: Vec<Bytes> = (0..1000).map(|_| payload(&mut stream, &group, &members, 30)).collect();
        for lie in [
            "|tcp://%zz|",
            "|udp://",
            "hailer:leave",
            "hailer:suspect",
            "hailer:alive",
            "hailer:here",
            "hailer:ask",
        ] {
            let told = all.iter().filter(|payload| String::from_utf8_lossy(payload).contains(lie)).count();
            assert!((50..200).contains(&told), "{lie}: {told} of 1000");
        }
    }
}
