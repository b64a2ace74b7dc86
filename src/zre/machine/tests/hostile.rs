//! Whatever comes from the network: no panic, no limit passed, no peer that is well pushed out.

use proptest::prelude::*;

use super::*;
use crate::zre::beacon::BeaconError;

const LIMITS: Limits = Limits {
    peers: 8,
    peers_not_ready: 4,
    new_peers_per_second: 10,
    groups_per_peer: 3,
    handshakes: 4,
    links_without_hello: 5,
    hello_timeout: Duration::from_secs(15),
    queue_messages: 4,
    queue_bytes: 4,
    events: 4,
};

fn small() -> Rig {
    Rig::with(Config::default(), LIMITS)
}

fn stranger(number: u16) -> PeerId {
    let mut bytes = [9; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PeerId::from_bytes(bytes)
}

#[test]
fn a_storm_of_invented_beacons_costs_no_more_than_the_limits_and_no_peer() {
    let mut rig = small();
    rig.meet(ALICE, "10.0.0.2:49152", &["CHAT"]);
    let mut dials = 0;
    for number in 0..10_000 {
        rig.until(u64::from(number) / 10);
        rig.beacon(ALICE, "10.0.0.2:49152");
        let outputs = rig.beacon(stranger(number), &format!("10.0.9.9:{}", number + 1));
        assert!(rig.machine.peers.len() <= 8 && rig.machine.not_ready <= 4);
        // The storm's host refuses, so that places are free again at once.
        for (link, _) in dialled(&outputs) {
            dials += 1;
            let failure = DialFailure::Refused;
            assert_eq!(story(&rig.feed(Input::DialFailed { link, attempt: 1, failure })), "");
        }
    }
    assert!(rig.machine.peer(ALICE).is_some());
    assert_eq!(dials, 4 + 9, "a burst, and ten a second");
    assert_eq!(rig.machine.counters().beacons_over_limit, 10_000 - dials);
}

#[test]
fn a_full_table_of_peers_that_never_answer_does_not_keep_out_one_that_says_hello() {
    let mut rig = small();
    for number in 0..5 {
        rig.beacon(stranger(number), &format!("10.0.9.9:{}", number + 1));
    }
    assert_eq!((rig.machine.not_ready, rig.machine.counters().beacons_over_limit), (4, 1));
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    assert_eq!(story(&rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]))), "+");
}

#[test]
fn a_full_table_refuses_the_next_and_keeps_those_that_are_there() {
    let mut rig = small();
    for number in 0..9 {
        let address = format!("10.0.1.{number}:49152");
        let link = rig.accept(stranger(number), &address);
        let outputs = rig.receive(link, 1, hello(&format!("tcp://{address}"), &[]));
        assert_eq!(story(&outputs), if number < 8 { "+" } else { "" }, "{number}");
    }
    assert_eq!((rig.machine.peers().count(), rig.machine.counters().hellos_over_limit), (8, 1));
    let link = rig.accept(stranger(3), "10.0.1.3:33334");
    let outputs = rig.receive(link, 1, hello("tcp://10.0.1.3:49152", &[]));
    assert_eq!(story(&outputs), "-replaced +", "one that is there may start anew");
}

#[test]
fn a_link_more_than_the_limit_without_hello_closes_the_oldest() {
    let mut rig = small();
    for number in 0..5 {
        rig.accept(stranger(number), "10.0.9.9:1");
    }
    let link = InboundLink::from_number(6);
    let identity: Bytes = ALICE.as_bytes().to_vec().into();
    let input = Input::InboundOpened { link, identity, remote: at("10.0.9.9:1") };
    assert_eq!(rig.feed(input), [Output::CloseInbound(InboundLink::from_number(1))]);
    assert_eq!(rig.machine.counters().links_without_hello, 1);
    let outputs = rig.receive(link, 1, hello("tcp://10.0.9.9:49152", &[]));
    assert_eq!(story(&outputs), "+", "a stranger who means it gets in");
    rig.last_inbound = 6;
    rig.accept(stranger(1), "10.0.9.9:1");
}

#[test]
fn a_group_more_than_the_limit_is_not_entered() {
    let mut rig = small();
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    let refused = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &["A", "B", "C", "D"]));
    assert_eq!(refused, [Output::CloseInbound(link)]);
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &["A", "B"]);
    let join = |group: &str| Body::Join { group: group.into(), status: 0 };
    assert_eq!(story(&rig.receive(link, 2, join("C"))), "join(C)");
    assert_eq!(story(&rig.receive(link, 3, join("D"))), "");
    assert_eq!(rig.machine.counters().groups_over_limit, 1);
    let leave = Body::Leave { group: "D".into(), status: 0 };
    assert_eq!(story(&rig.receive(link, 4, leave)), "", "it never joined, for the application");
}

/// Messages that are almost right.
fn frames() -> impl Strategy<Value = Vec<Bytes>> {
    let body = prop_oneof![
        2 => (0..6_u8, proptest::collection::vec(0..6_u8, 0..5)).prop_map(|(port, groups)| {
            let groups: Vec<String> = groups.iter().map(u8::to_string).collect();
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            hello(&format!("tcp://10.0.0.{port}:{port}"), &groups)
        }),
        1 => Just(whisper("x")),
        1 => (0..6_u8).prop_map(|group| Body::Join { group: group.to_string().into(), status: group }),
        1 => (0..6_u8).prop_map(|group| Body::Leave { group: group.to_string().into(), status: group }),
        1 => Just(Body::Ping),
        1 => Just(Body::PingOk),
        1 => Just(Body::Goodbye),
    ];
    let sequence = prop_oneof![4 => Just(1), 4 => 1..5_u16, 1 => any::<u16>()];
    let message = (sequence, body).prop_map(|(sequence, body)| Message { sequence, body }.encode().unwrap());
    let flipped = (message.clone(), any::<(u8, u8)>()).prop_map(|(mut frames, (at, flip))| {
        let mut frame = frames[0].to_vec();
        let at = usize::from(at) % frame.len();
        frame[at] ^= flip;
        frames[0] = frame.into();
        frames
    });
    let noise = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..3)
        .prop_map(|frames| frames.into_iter().map(Bytes::from).collect());
    prop_oneof![6 => message, 2 => flipped, 1 => noise]
}

fn input() -> impl Strategy<Value = Input> {
    let address = || (0..6_u8, 0..6_u16).prop_map(|(host, port)| SocketAddr::from(([10, 0, 0, host], port)));
    let peer = || prop_oneof![9 => (0..12_u16).prop_map(stranger), 1 => Just(OWN)];
    let inbound = || (0..12_u64).prop_map(InboundLink::from_number);
    let outbound = || (0..30_u64).prop_map(OutboundLink::from_number);
    let identity = prop_oneof![
        9 => (any::<u8>(), peer()).prop_map(|(first, peer)| [&[first], &peer.as_bytes()[..]].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let failure = prop_oneof![
        Just(DialFailure::Refused),
        Just(DialFailure::AnotherPeer),
        Just(DialFailure::TimedOut),
        Just(DialFailure::Unreachable)
    ];
    prop_oneof![
        1 => Just(Input::Timeout),
        1 => (address(), peer(), 0..3_u16).prop_map(|(from, peer, port)| {
            let beacon = Ok(Beacon { peer, port: port * from.port() });
            Input::Beacon { from, beacon }
        }),
        1 => address().prop_map(|from| Input::Beacon { from, beacon: Err(BeaconError::Header) }),
        1 => outbound().prop_map(|link| Input::Opened { link }),
        1 => (outbound(), 0..4_u32, failure)
            .prop_map(|(link, attempt, failure)| Input::DialFailed { link, attempt, failure }),
        1 => outbound().prop_map(|link| Input::Closed { link }),
        1 => outbound().prop_map(|link| Input::QueueFull { link }),
        4 => (inbound(), identity, address()).prop_map(|(link, identity, remote)| {
            Input::InboundOpened { link, identity: identity.into(), remote }
        }),
        1 => inbound().prop_map(|link| Input::InboundClosed { link }),
        16 => (inbound(), frames()).prop_map(|(link, frames)| Input::Received { link, frames }),
        1 => (0..4_u8).prop_map(|group| Input::Command(Command::Join(group.to_string().into()))),
        1 => (0..4_u8).prop_map(|group| Input::Command(Command::Leave(group.to_string().into()))),
        1 => peer().prop_map(|peer| Input::Command(Command::Whisper { peer, content: "x".into() })),
        1 => (0..4_u8).prop_map(|group| {
            Input::Command(Command::Shout { group: group.to_string().into(), content: "x".into() })
        }),
    ]
}

proptest! {
    #[test]
    fn no_input_breaks_a_machine(inputs in proptest::collection::vec((input(), 0..400_u64), 0..300)) {
        let mut rig = small();
        // The driver numbers links in the order in which they are accepted, and never uses a number again.
        let mut numbers = BTreeMap::new();
        let mut last = 0;
        for (mut input, pause) in inputs {
            rig.until(rig.now.as_millis() + pause);
            if let Input::InboundOpened { link, .. } = &mut input {
                last += 1;
                numbers.insert(*link, InboundLink::from_number(last));
            }
            if let Input::InboundOpened { link, .. }
            | Input::InboundClosed { link }
            | Input::Received { link, .. } = &mut input
            {
                *link = numbers.get(link).copied().unwrap_or(*link);
            }
            rig.feed(input);
            rig.machine.assert_sound();
        }
    }
}
