//! Odd and hostile input as real peers were given it, row by row of the table in `docs/zre.md`: zyre aborts, pyre dies or
//! either floods its application at many of these. Here a node stays alive, its other peers see nothing of it, and a
//! counter names the cause.

use super::*;
use crate::zre::message::DecodeError;

const UUID: [u8; 16] = [1; 16];

/// A node with BOB, who is well and has nothing to do with it, and what it counted before the input came.
struct Scene {
    rig: Rig,
    bob: (InboundLink, OutboundLink),
    bobs: u16,
    ours: u16,
    before: Counters,
}

impl Scene {
    fn new() -> Self {
        let mut rig = Rig::new();
        let bob = rig.meet(BOB, "10.0.0.3:49152", &["CHAT"]);
        let before = rig.machine.counters();
        Self { rig, bob, bobs: 1, ours: 1, before }
    }

    /// With ALICE, whose next message is number 2.
    fn with_alice() -> (Self, InboundLink) {
        let mut scene = Self::new();
        let (link, _) = scene.rig.meet(ALICE, "10.0.0.2:49152", &["CHAT"]);
        scene.before = scene.rig.machine.counters();
        (scene, link)
    }

    fn datagram(&mut self, bytes: &[u8]) -> String {
        let outputs =
            self.rig.feed(Input::Beacon { from: at("10.0.0.9:5670"), beacon: Beacon::decode(bytes) });
        story(&outputs)
    }

    /// A connection with this identity, and whether it is kept.
    fn connect(&mut self, identity: &[u8]) -> (InboundLink, bool) {
        self.rig.last_inbound += 1;
        let link = InboundLink::from_number(self.rig.last_inbound);
        let identity = Bytes::copy_from_slice(identity);
        let outputs = self.rig.feed(Input::InboundOpened { link, identity, remote: at("10.0.0.2:33333") });
        (link, !outputs.contains(&Output::CloseInbound(link)))
    }

    /// Frames as they come over the wire.
    fn say(&mut self, link: InboundLink, frames: &[&[u8]]) -> String {
        let frames = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        story(&self.rig.feed(Input::Received { link, frames }))
    }

    /// BOB is heard and can be talked to, in sequence; and exactly these counters rose, by one each.
    fn is_unharmed_and_counted(&mut self, causes: &[&str]) {
        let after = self.rig.machine.counters();
        let rose: Vec<_> = self
            .before
            .iter()
            .zip(after.iter())
            .filter(|((_, before), (name, after))| {
                before != after && !matches!(*name, "entered" | "exited" | "dialled")
            })
            .map(|((_, before), (name, after))| {
                assert_eq!(after - before, 1, "{name}");
                name
            })
            .collect();
        assert_eq!(rose, causes);
        self.bobs += 1;
        self.ours += 1;
        assert_eq!(
            story(&self.rig.receive(self.bob.0, self.bobs, whisper("I am well"))),
            "whisper(I am well)"
        );
        let (answer, outputs) = self.rig.command(Command::Whisper { peer: BOB, content: "good".into() });
        assert_eq!((answer, sent(&outputs, self.bob.1)[0].sequence), (Ok(1), self.ours));
        assert!(self.rig.machine.members(&"CHAT".into()).any(|member| member == BOB));
        self.before = self.rig.machine.counters();
    }
}

fn identity(first: u8) -> Vec<u8> {
    [&[first], &UUID[..]].concat()
}

/// The start of a HELLO as far as the groups.
fn hello_up_to_groups(version: u8, endpoint: &str) -> Vec<u8> {
    let head = [0xaa, 0xa1, 1, version, 0, 1, endpoint.len() as u8];
    [&head, endpoint.as_bytes()].concat()
}

fn whole_hello(endpoint: &str) -> Vec<u8> {
    [&hello_up_to_groups(2, endpoint)[..], &[0, 0, 0, 0, 0, 1, b'n', 0, 0, 0, 0]].concat()
}

#[test]
fn row_1_a_hello_that_is_number_5_or_a_whisper_before_hello_is_no_peer() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(1));
    let mut hello = whole_hello("tcp://10.0.0.2:49152");
    hello[5] = 5;
    assert_eq!(scene.say(link, &[&hello]), "");
    scene.is_unharmed_and_counted(&["hellos_out_of_sequence"]);
    let (link, _) = scene.connect(&identity(1));
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x01", b"x"]), "");
    scene.is_unharmed_and_counted(&["messages_ignored"]);
    assert_eq!(scene.say(link, &[&whole_hello("tcp://10.0.0.2:49152")]), "+", "who says HELLO then gets in");
}

#[test]
fn row_2_a_sequence_gap_or_a_repeat_is_an_exit_of_that_peer_alone() {
    for number in [1, 3, 200] {
        let (mut scene, link) = Scene::with_alice();
        assert_eq!(scene.say(link, &[&[0xaa, 0xa1, 6, 2, 0, number]]), "-out-of-sequence");
        scene.is_unharmed_and_counted(&["exits_out_of_sequence"]);
    }
}

#[test]
fn row_3_a_join_or_leave_with_a_wrong_status_counts_by_its_group() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x04\x02\x00\x02\x04ROOM\x63"]), "join(ROOM)");
    scene.is_unharmed_and_counted(&["statuses_wrong"]);
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x05\x02\x00\x03\x04ROOM\x07"]), "leave(ROOM)");
    scene.is_unharmed_and_counted(&["statuses_wrong"]);
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x04\x02\x00\x04\x04ROOM\x08"]), "join(ROOM)");
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn row_4_a_leave_of_a_group_never_joined_is_no_event() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x05\x02\x00\x02\x04ROOM\x02"]), "");
    scene.is_unharmed_and_counted(&["groups_unchanged"]);
}

#[test]
fn row_5_an_identity_that_is_no_uuid_is_refused_and_one_without_its_first_byte_is_read() {
    let mut scene = Scene::new();
    assert!(!scene.connect(b"").1);
    scene.is_unharmed_and_counted(&["links_refused"]);
    assert!(!scene.connect(&[0, 1, 2, 3, 4]).1, "what libzmq calls a socket without an identity");
    scene.is_unharmed_and_counted(&["links_refused"]);
    let (link, is_kept) = scene.connect(&UUID);
    assert!(is_kept);
    assert_eq!(scene.say(link, &[&whole_hello("tcp://10.0.0.2:49152")]), "+");
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn row_6_the_identity_of_the_haskell_tools_starts_with_a_character_and_is_read() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(0x31));
    assert_eq!(scene.say(link, &[&whole_hello("tcp://10.0.0.2:41000")]), "+");
    assert!(scene.rig.machine.peer(ALICE).is_some());
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn row_7_a_hello_whose_endpoint_is_garbage_or_empty_is_refused() {
    for endpoint in ["garbage", "", "tcp://", "inproc://x"] {
        let mut scene = Scene::new();
        let (link, _) = scene.connect(&identity(1));
        assert_eq!(scene.say(link, &[&whole_hello(endpoint)]), "", "{endpoint:?}");
        scene.is_unharmed_and_counted(&["hellos_without_place"]);
    }
}

#[test]
fn row_8_a_hello_of_another_version_of_the_protocol_is_no_message() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(1));
    let mut hello = whole_hello("tcp://10.0.0.2:49152");
    hello[3] = 1;
    assert_eq!(scene.say(link, &[&hello]), "");
    scene.is_unharmed_and_counted(&["messages_malformed"]);
}

#[test]
fn row_9_a_wrong_signature_an_empty_frame_or_no_frame_takes_no_number() {
    let (mut scene, link) = Scene::with_alice();
    for frames in [&[&b"\xaa\xa2\x06\x02\x00\x02"[..]][..], &[b""], &[]] {
        assert_eq!(scene.say(link, frames), "");
        scene.is_unharmed_and_counted(&["messages_malformed"]);
    }
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x02", b"x"]), "whisper(x)");
}

#[test]
fn row_10_a_hello_that_is_cut_anywhere_is_refused() {
    let hello = whole_hello("tcp://10.0.0.2:49152");
    for len in 6..hello.len() {
        let mut scene = Scene::new();
        let (link, _) = scene.connect(&identity(1));
        assert_eq!(scene.say(link, &[&hello[..len]]), "", "cut to {len}");
        scene.is_unharmed_and_counted(&["messages_malformed", "messages_ignored"]);
        assert!(scene.rig.machine.peer(ALICE).is_none());
    }
}

#[test]
fn row_11_a_hello_with_four_thousand_million_groups_is_refused_and_takes_no_memory() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(1));
    let hello = [&hello_up_to_groups(2, "tcp://10.0.0.2:49152")[..], &[0xff; 4]].concat();
    assert!(matches!(Message::decode(vec![hello.clone().into()]), Err(DecodeError::Malformed { id: 1, .. })));
    assert_eq!(scene.say(link, &[&hello]), "");
    scene.is_unharmed_and_counted(&["messages_malformed", "messages_ignored"]);
}

#[test]
fn row_12_a_message_of_one_byte_takes_no_number() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa"]), "");
    scene.is_unharmed_and_counted(&["messages_malformed"]);
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x02", b"x"]), "whisper(x)");
}

#[test]
fn row_13_an_unknown_message_takes_its_number_and_nothing_is_lost() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x63\x02\x00\x02"]), "");
    scene.is_unharmed_and_counted(&["messages_unknown"]);
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x03", b"x"]), "whisper(x)");
}

#[test]
fn row_14_a_goodbye_is_believed_however_the_peer_was_found() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x0a\x02\x00\x02"]), "-left");
    scene.is_unharmed_and_counted(&["exits_left"]);
}

#[test]
fn row_15_a_whisper_without_content_is_one_empty_frame() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x02"]), "whisper()");
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x03", b"next"]), "whisper(next)", "nothing fuses");
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn row_16_names_and_groups_that_are_not_utf_8_are_kept_as_they_are() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x04\x02\x00\x02\x02\xff\xfe\x02"]), "join(\u{fffd}\u{fffd})");
    let (answer, outputs) = scene
        .rig
        .command(Command::Shout { group: Bytes::from_static(b"\xff\xfe").into(), content: "x".into() });
    assert_eq!((answer, outputs.len()), (Ok(1), 1));
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn row_17_empty_keys_and_other_alphabets_are_taken_and_a_group_that_no_other_message_could_name_is_not() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(1));
    let start = hello_up_to_groups(2, "tcp://10.0.0.2:49152");
    let rest = [&[1, 2], "é".as_bytes(), &[0, 0, 0, 1, 0, 0, 0, 0, 2], "ü".as_bytes()].concat();
    let group = |len: u8| [vec![0, 0, 0, 1, 0, 0, 1, len], vec![b'g'; 256 + usize::from(len)]].concat();
    assert_eq!(scene.say(link, &[&[&start[..], &group(44), &rest].concat()]), "");
    scene.is_unharmed_and_counted(&["messages_malformed", "messages_ignored"]);
    let (link, _) = scene.connect(&identity(1));
    let group = [&[0, 0, 0, 1, 0, 0, 0, 2], "ß".as_bytes()].concat();
    assert_eq!(scene.say(link, &[&[start, group, rest].concat()]), "+ join(ß)");
    let info = scene.rig.machine.peer(ALICE).unwrap();
    assert_eq!((info.name, info.headers), (text("é"), Headers::from([(text(""), text("ü"))])));
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn row_18_a_hello_that_names_our_own_endpoint_starts_no_conversation_with_ourselves() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(1));
    assert_eq!(scene.say(link, &[&whole_hello("tcp://10.0.0.1:49152")]), "");
    scene.is_unharmed_and_counted(&["hellos_of_our_place"]);
    let from = at("10.0.0.1:49152");
    let beacon = Ok(Beacon { peer: ALICE, port: 49152 });
    assert_eq!(scene.rig.feed(Input::Beacon { from, beacon }), [], "nor does a beacon with our place");
    scene.is_unharmed_and_counted(&["beacons_of_our_place"]);
}

#[test]
fn row_19_beacons_of_any_other_length_are_counted_by_what_they_are() {
    let beacon = Beacon { peer: ALICE, port: 49152 }.encode();
    let mut scene = Scene::new();
    let longer = |version: u8, rest: &[u8]| {
        let mut datagram = [&beacon[..], rest].concat();
        datagram[3] = version;
        datagram
    };
    for (datagram, cause) in [
        (beacon[..21].to_vec(), "beacons_malformed"),
        (Vec::new(), "beacons_malformed"),
        (longer(1, &[7; 32]), "beacons_malformed"),
        (longer(1, &[0; 8]), "beacons_malformed"),
        (longer(3, &[7; 32]), "beacons_secure"),
        (longer(1, b"10.81.0.12"), "beacons_repeated"),
        (longer(1, b"172.17.0.510.0.0.2"), "beacons_malformed"),
    ] {
        assert_eq!(scene.datagram(&datagram), "");
        assert!(scene.rig.machine.peers.len() == 1, "{datagram:02x?}");
        scene.is_unharmed_and_counted(&[cause]);
    }
}

#[test]
fn row_20_a_beacon_of_version_2_is_none_port_0_of_a_stranger_is_nothing_and_a_nil_uuid_is_a_peer() {
    let mut scene = Scene::new();
    let mut beacon = Beacon { peer: ALICE, port: 49152 }.encode();
    beacon[3] = 2;
    scene.datagram(&beacon);
    scene.is_unharmed_and_counted(&["beacons_malformed"]);
    scene.datagram(&Beacon::leaving(ALICE).encode());
    assert_eq!(scene.rig.machine.peers.len(), 1);
    scene.is_unharmed_and_counted(&[]);
    let nil = PeerId::from_bytes([0; 16]);
    scene.datagram(&Beacon { peer: nil, port: 49152 }.encode());
    assert!(scene.rig.machine.peers.contains_key(&nil), "it is dialled like any other");
    scene.is_unharmed_and_counted(&[]);
}

// The quirks of the family beyond that table.

#[test]
fn bytes_after_the_last_field_are_ignored() {
    let mut scene = Scene::new();
    let (link, _) = scene.connect(&identity(1));
    let hello = [&whole_hello("tcp://10.0.0.2:49152")[..], b"more"].concat();
    assert_eq!(scene.say(link, &[&hello]), "+");
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x04\x02\x00\x02\x04ROOM\x01trailing"]), "join(ROOM)");
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn a_second_connection_with_the_same_identity_takes_over_when_it_speaks_and_not_before() {
    let (mut scene, first) = Scene::with_alice();
    let (second, is_kept) = scene.connect(&identity(1));
    assert!(is_kept);
    assert_eq!(scene.say(first, &[b"\xaa\xa1\x02\x02\x00\x02", b"old"]), "whisper(old)");
    assert_eq!(scene.say(second, &[b"\xaa\xa1\x02\x02\x00\x03", b"new"]), "whisper(new)");
    assert_eq!(scene.say(first, &[b"\xaa\xa1\x02\x02\x00\x04", b"late"]), "", "it was closed");
    scene.is_unharmed_and_counted(&[]);
}

#[test]
fn two_nodes_with_one_identity_make_a_peer_that_starts_anew_and_never_a_storm() {
    let (mut scene, _) = Scene::with_alice();
    let mut events = 0;
    let mut dials = 0;
    for second in 1..=60 {
        let mut outputs = scene.rig.until(second * 1000);
        // Both beacon each second, from two hosts, and both say HELLO whenever we dial them.
        outputs.extend(scene.rig.beacon(ALICE, "10.0.0.2:49152"));
        outputs.extend(scene.rig.beacon(ALICE, "10.0.0.4:49152"));
        let now_dialled = dialled(&outputs);
        dials += now_dialled.len();
        events += story(&outputs).matches(['+', '-']).count();
        for (link, endpoint) in now_dialled {
            scene.rig.feed(Input::Opened { link });
            let (inbound, _) = scene.connect(&identity(1));
            let outputs = scene.say(inbound, &[&whole_hello(&endpoint)]);
            events += outputs.matches(['+', '-']).count();
        }
        scene.bobs += 1;
        scene.rig.receive(scene.bob.0, scene.bobs, Body::PingOk);
    }
    assert!(dials <= 30 && events <= 60, "{dials} dials and {events} events in a minute");
}

#[test]
fn a_node_that_restarts_on_the_same_port_replaces_its_earlier_life_at_once() {
    let (mut scene, _) = Scene::with_alice();
    let reborn = PeerId::from_bytes([7; 16]);
    assert_eq!(story(&scene.rig.beacon(reborn, "10.0.0.2:49152")), "-replaced");
    scene.is_unharmed_and_counted(&["exits_replaced"]);
}

#[test]
fn a_node_that_restarts_on_another_port_is_a_second_peer_until_the_first_refuses() {
    let (mut scene, link) = Scene::with_alice();
    let outbound = scene.rig.machine.peers[&ALICE].outbound.link;
    let reborn = PeerId::from_bytes([7; 16]);
    assert_eq!(story(&scene.rig.beacon(reborn, "10.0.0.2:49153")), "");
    scene.rig.feed(Input::InboundClosed { link });
    let outputs = scene.rig.feed(Input::Closed { link: outbound });
    let mut story_so_far = story(&outputs);
    let attempt = dialled(&outputs).first().map(|(link, _)| *link);
    let link = attempt.unwrap_or_else(|| dialled(&scene.rig.until(1000))[0].0);
    let attempt = scene.rig.machine.peers[&ALICE].outbound.attempt;
    let failure = DialFailure::Refused;
    story_so_far += &story(&scene.rig.feed(Input::DialFailed { link, attempt, failure }));
    assert_eq!(story_so_far, "-refused");
    scene.is_unharmed_and_counted(&["exits_refused"]);
}

#[test]
fn a_restart_with_a_kept_identity_on_another_port_is_followed() {
    let (mut scene, _) = Scene::with_alice();
    scene.rig.until(11_000);
    scene.rig.beacon(BOB, "10.0.0.3:49152");
    let (link, _) = scene.connect(&identity(1));
    let frames = vec![Bytes::from(whole_hello("tcp://10.0.0.2:49155"))];
    let outputs = scene.rig.feed(Input::Received { link, frames });
    assert_eq!(story(&outputs), "-replaced +");
    assert_eq!(dialled(&outputs)[0].1, "tcp://10.0.0.2:49155");
}

#[test]
fn a_gap_costs_one_exit_and_the_next_beacon_brings_the_peer_back_with_a_fresh_count() {
    let (mut scene, link) = Scene::with_alice();
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x06\x02\x00\x09"]), "-out-of-sequence");
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x06\x02\x00\x0a"]), "", "the rest of that stream is ignored");
    assert_eq!(dialled(&scene.rig.beacon(ALICE, "10.0.0.2:49152")).len(), 1);
    let (link, _) = scene.connect(&identity(1));
    assert_eq!(scene.say(link, &[&whole_hello("tcp://10.0.0.2:49152")]), "+");
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x02", b"x"]), "whisper(x)");
}

#[test]
fn pyre_s_wrap_after_65534_loses_nothing_in_either_direction() {
    let (mut scene, link) = Scene::with_alice();
    for number in 2..=65_534_u16 {
        let [high, low] = number.to_be_bytes();
        assert_eq!(scene.say(link, &[&[0xaa, 0xa1, 7, 2, high, low]]), "");
    }
    assert_eq!(scene.say(link, &[b"\xaa\xa1\x02\x02\x00\x00", b"x"]), "whisper(x)");
    assert!(scene.rig.machine.peers[&ALICE].sent.wraps_early());
    scene.is_unharmed_and_counted(&[]);
}
