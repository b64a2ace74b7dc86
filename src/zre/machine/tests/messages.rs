//! What peers say and what we say: numbers, groups, stop.

use super::*;

#[test]
fn whispers_and_shouts_are_told_with_all_their_frames() {
    let mut rig = Rig::new();
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let content = vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"c")];
    let outputs = rig.receive(link, 2, Body::Whisper { content: content.clone() });
    let whisper = Event::Whisper { peer: ALICE, name: "peer".into(), content: content.clone() };
    assert_eq!(outputs, [Output::Event(whisper)]);
    let group = text("NOT OURS");
    let outputs = rig.receive(link, 3, Body::Shout { group: group.clone(), content: content.clone() });
    assert_eq!(outputs, [Output::Event(Event::Shout { peer: ALICE, name: "peer".into(), group, content })]);
}

#[test]
fn a_gap_or_a_repeat_is_an_exit_and_both_links_are_closed() {
    for sequence in [1, 3, 0] {
        let mut rig = Rig::new();
        let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
        let outputs = rig.receive(inbound, sequence, whisper("x"));
        assert_eq!(story(&outputs), "-out-of-sequence");
        assert!(outputs.contains(&Output::Close(outbound)));
        assert!(outputs.contains(&Output::CloseInbound(inbound)));
        assert_eq!(dialled(&rig.beacon(ALICE, "10.0.0.2:49152")).len(), 1, "its next beacon brings it back");
    }
}

#[test]
fn ping_is_answered_always() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for sequence in 2..5 {
        let outputs = rig.receive(inbound, sequence, Body::Ping);
        assert_eq!(sent(&outputs, outbound), [Message { sequence, body: Body::PingOk }]);
    }
}

#[test]
fn answers_to_pings_find_who_asked_also_when_we_asked_ourselves_in_between() {
    let mut rig = Rig::new();
    let (inbound, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let ping = |token| Command::Ping { peer: ALICE, token };
    assert_eq!(rig.command(ping(7)).0, Ok(1));
    rig.until(5000);
    assert_eq!(rig.command(ping(8)).0, Ok(1));
    let pong = |token, is_answered| Output::Pong { token, is_answered };
    assert_eq!(rig.receive(inbound, 2, Body::PingOk), [pong(7, true)]);
    assert_eq!(rig.receive(inbound, 3, Body::PingOk), [], "that was the node's own");
    let outputs = rig.receive(inbound, 4, Body::Goodbye);
    assert!(outputs.contains(&pong(8, false)));
    assert_eq!(rig.command(ping(9)).0, Err(CommandError::UnknownPeer(ALICE)));
}

#[test]
fn counts_wrap_as_zyre_s_do() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for number in 2..=70_000_u32 {
        let outputs = rig.receive(inbound, number as u16, Body::Ping);
        assert_eq!(sent(&outputs, outbound)[0].sequence, number as u16);
    }
}

#[test]
fn a_peer_that_wraps_as_pyre_does_is_counted_with_and_counted_to_that_way() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for number in 2..=140_000_u32 {
        let outputs = rig.receive(inbound, (number % 65_535) as u16, Body::PingOk);
        assert_eq!(outputs, []);
    }
    for number in 2..=140_000_u32 {
        let (_, outputs) = rig.command(Command::Whisper { peer: ALICE, content: "x".into() });
        assert_eq!(sent(&outputs, outbound)[0].sequence, (number % 65_535) as u16);
    }
    let link = rig.accept(ALICE, "10.0.0.2:33334");
    rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
    assert!(rig.machine.peers[&ALICE].sent.wraps_early(), "it is remembered when the peer starts anew");
}

#[test]
fn an_unknown_message_takes_a_number_and_is_ignored() {
    let mut rig = Rig::new();
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let unknown = Bytes::from_static(b"\xaa\xa1\x63\x02\x00\x02whatever");
    assert_eq!(rig.feed(Input::Received { link, frames: vec![unknown] }), []);
    assert_eq!(rig.machine.counters().messages_unknown, 1);
    assert_eq!(story(&rig.receive(link, 3, whisper("x"))), "whisper(x)");
}

#[test]
fn a_malformed_message_is_a_lost_one() {
    let mut rig = Rig::new();
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let cut = Bytes::from_static(b"\xaa\xa1\x04\x02\x00\x02\x09CHA");
    let outputs = rig.feed(Input::Received { link, frames: vec![cut] });
    assert_eq!(story(&outputs), "-out-of-sequence");
    assert_eq!(rig.machine.counters().messages_malformed, 1);
}

#[test]
fn what_is_no_message_of_zre_is_ignored_and_the_next_number_tells_whether_it_was_one() {
    let mut rig = Rig::new();
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for frames in [vec![], vec![Bytes::new()], vec![Bytes::from_static(b"GET / HTTP/1.1")]] {
        assert_eq!(rig.feed(Input::Received { link, frames }), []);
    }
    assert_eq!(rig.machine.counters().messages_malformed, 3);
    assert_eq!(story(&rig.receive(link, 2, whisper("x"))), "whisper(x)");
}

#[test]
fn groups_of_a_peer_are_told_when_they_change_and_statuses_are_not_believed() {
    let mut rig = Rig::new();
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &["A"]);
    let join = |group: &str| Body::Join { group: group.into(), status: 99 };
    let leave = |group: &str| Body::Leave { group: group.into(), status: 0 };
    assert_eq!(story(&rig.receive(link, 2, join("B"))), "join(B)");
    assert_eq!(story(&rig.receive(link, 3, join("B"))), "", "it is in already");
    assert_eq!(story(&rig.receive(link, 4, leave("A"))), "leave(A)");
    assert_eq!(story(&rig.receive(link, 5, leave("A"))), "", "it was not in");
    assert_eq!(rig.machine.members(&"B".into()).collect::<Vec<_>>(), [ALICE]);
    assert_eq!(rig.machine.peer(ALICE).unwrap().groups, ["B"]);
}

#[test]
fn our_status_counts_what_peers_are_told_and_hello_carries_it_with_its_groups() {
    let mut rig = Rig::with(Config { groups: vec!["X".into()], ..Config::default() }, Limits::default());
    let (_, link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let mut step = |command| sent(&rig.command(command).1, link);
    let join = Body::Join { group: "A".into(), status: 2 };
    assert_eq!(step(Command::Join("A".into())), [Message { sequence: 2, body: join }]);
    assert_eq!(step(Command::Join("A".into())), [], "we are in already");
    assert_eq!(step(Command::Leave("B".into())), [], "we are not in it");
    let leave = Body::Leave { group: "X".into(), status: 3 };
    assert_eq!(step(Command::Leave("X".into())), [Message { sequence: 3, body: leave }]);
    let outputs = rig.beacon(BOB, "10.0.0.3:49152");
    let Body::Hello(hello) = sent(&outputs, dialled(&outputs)[0].0)[0].body.clone() else { panic!() };
    assert_eq!((hello.groups, hello.status), (vec![text("A")], 3));
}

#[test]
fn shouts_go_to_the_members_we_know_and_need_no_membership_of_ours() {
    let mut rig = Rig::new();
    let (_, alice) = rig.meet(ALICE, "10.0.0.2:49152", &["A"]);
    let (_, bob) = rig.meet(BOB, "10.0.0.3:49152", &[]);
    let shout = |group: &str| Command::Shout { group: group.into(), content: ["x", "y"].into() };
    let (answer, outputs) = rig.command(shout("A"));
    assert_eq!(answer, Ok(1));
    let content = vec![Bytes::from_static(b"x"), Bytes::from_static(b"y")];
    assert_eq!(sent(&outputs, alice)[0].body, Body::Shout { group: "A".into(), content });
    assert_eq!(sent(&outputs, bob), []);
    assert_eq!(rig.command(shout("nobody's")), (Ok(0), vec![]));
}

#[test]
fn whispers_to_peers_that_did_not_enter_are_errors() {
    let mut rig = Rig::new();
    let whisper = || Command::Whisper { peer: ALICE, content: "x".into() };
    assert_eq!(rig.command(whisper()), (Err(CommandError::UnknownPeer(ALICE)), vec![]));
    rig.beacon(ALICE, "10.0.0.2:49152");
    assert_eq!(rig.command(whisper()), (Err(CommandError::UnknownPeer(ALICE)), vec![]));
}

#[test]
fn a_group_that_does_not_fit_is_refused_and_changes_nothing() {
    let mut rig = Rig::new();
    let (_, link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let (answer, outputs) = rig.command(Command::Join("x".repeat(256).into()));
    assert!(matches!(answer, Err(CommandError::Message(_))) && outputs.is_empty());
    let (_, outputs) = rig.command(Command::Join("x".repeat(255).into()));
    let Body::Join { status, .. } = sent(&outputs, link)[0].body else { panic!() };
    assert_eq!(status, 1);
}

#[test]
fn goodbye_is_an_exit() {
    let mut rig = Rig::new();
    let (link, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    assert_eq!(story(&rig.receive(link, 2, Body::Goodbye)), "-left");
}

#[test]
fn goodbye_is_said_to_hailers_and_zyres_and_to_nobody_who_may_not_know_it() {
    for config in [Config::default(), Config { beacon: false, ..Config::default() }] {
        let mut rig = Rig::with(config, Limits::default());
        let (_, stock) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
        let (link, zyre) = rig.meet(BOB, "10.0.0.3:49152", &["A"]);
        rig.receive(link, 2, Body::Elect { group: "A".into(), challenger: BOB.to_string().into() });
        let carol = PeerId::from_bytes([3; 16]);
        let link = rig.accept(carol, "10.0.0.4:49152");
        let Body::Hello(mut introduction) = hello("tcp://10.0.0.4:49152", &[]) else { unreachable!() };
        introduction.headers.insert(KIND_HEADER.into(), KIND.into());
        let outputs = rig.receive(link, 1, Body::Hello(introduction));
        let (hailer, _) = dialled(&outputs)[0].clone();
        rig.feed(Input::Opened { link: hailer });
        let outputs = rig.feed(Input::Ending);
        let said = |link| sent(&outputs, link).into_iter().map(|message| message.body).collect::<Vec<_>>();
        assert_eq!((said(zyre), said(hailer)), (vec![Body::Goodbye], vec![Body::Goodbye]));
        assert_eq!(said(stock), [], "pyre would take it for a lost message");
        assert_eq!(rig.feed(Input::Ending), [], "once");
    }
}

#[test]
fn who_has_said_goodbye_does_not_say_that_it_is_here_while_its_last_words_are_written() {
    let mut rig = Rig::new();
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.feed(Input::Ending);
    rig.machine.handle(Timestamp::from_millis(1000), Input::Timeout);
    assert!(!std::iter::from_fn(|| rig.machine.poll()).any(|output| matches!(output, Output::Beacon(_))));
    assert_eq!(
        rig.feed(Input::Beacon { from: at("10.0.0.3:49152"), beacon: Ok(Beacon { peer: BOB, port: 49152 }) }),
        []
    );
    let endpoint = "tcp://10.0.0.3:49152".parse().unwrap();
    assert_eq!(rig.feed(Input::Found { peer: BOB, endpoint }), []);
}

#[test]
fn stop_says_goodbye_twice_and_is_the_last_thing() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let (answer, outputs) = rig.command(Command::Stop);
    let leave = Output::Beacon(Beacon::leaving(OWN).encode());
    assert_eq!(answer, Ok(0));
    assert_eq!(
        outputs,
        [
            leave.clone(),
            leave,
            Output::Close(outbound),
            Output::CloseInbound(inbound),
            Output::Event(Event::Stop),
            Output::Stopped
        ]
    );
    assert_eq!((rig.machine.deadline(), rig.beacon(BOB, "10.0.0.3:1")), (None, vec![]));
    assert_eq!(rig.command(Command::Join("A".into())).0, Err(CommandError::Stopped));
}

#[test]
fn settings_that_can_not_be_carried_out_are_refused() {
    let new = |config| {
        let endpoint = "tcp://10.0.0.1:49152".parse().unwrap();
        NodeMachine::new(config, Limits::default(), OWN, endpoint, 0, Timestamp::ZERO).err()
    };
    let default = Config::default;
    assert_eq!(new(default()), None);
    assert_eq!(new(Config { interval: Duration::ZERO, ..default() }), Some(ConfigError::Interval));
    assert_eq!(new(Config { evasive: Duration::ZERO, ..default() }), Some(ConfigError::Patience));
    assert_eq!(new(Config { silent: Duration::from_secs(60), ..default() }), Some(ConfigError::Patience));
    let name = Some("x".repeat(256).into());
    assert!(matches!(new(Config { name, ..default() }), Some(ConfigError::Introduction(_))));
}

#[test]
fn a_node_without_a_name_has_the_start_of_its_identity() {
    assert_eq!(*Rig::new().machine.name(), "AAAAAA");
}
