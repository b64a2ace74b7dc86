use hex_literal::hex;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1000);
const LATE: Timestamp = Timestamp::from_millis(31_000);
const ALMOST_LATE: Timestamp = Timestamp::from_millis(30_999);
const IDENTITY: &[u8] = &hex!("01 c7446d35e1384f10bb67f58f903d0b85");
/// READY of a ROUTER as libzmq 4.3.5 sends it (capture zyre-zyre).
const ROUTER: &[u8] =
    &hex!("04 29 05 5245414459 0b 536f636b65742d54797065 00000006 524f55544552 08 4964656e74697479 00000000");

fn session(socket_type: SocketType) -> Session {
    Session::new(SessionConfig::new(socket_type, Bytes::from_static(IDENTITY)), NOW)
}

fn outputs(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn receive(session: &mut Session, bytes: &[u8]) -> Vec<Output> {
    session.handle(NOW, Input::Received(Bytes::copy_from_slice(bytes)));
    outputs(session)
}

fn greeting() -> Vec<u8> {
    Greeting::null(0).encode().to_vec()
}

/// A DEALER that has sent its part.
fn greeted() -> Session {
    let mut session = session(SocketType::Dealer);
    outputs(&mut session);
    session
}

/// A DEALER that has shaken hands with a ROUTER.
fn ready() -> Session {
    let mut session = greeted();
    let outputs = receive(&mut session, &[&greeting(), ROUTER].concat());
    assert!(matches!(outputs[..], [Output::Ready(_)]));
    session
}

fn ready_command(properties: &[(&'static str, &'static [u8])]) -> Vec<u8> {
    let mut list = Properties::new();
    for (name, value) in properties {
        list.push(name, Bytes::from_static(value));
    }
    command(&Command::Ready(list))
}

fn command(command: &Command) -> Vec<u8> {
    let frame = Frame::Command(command.encode());
    let mut bytes = BytesMut::new();
    frame.put_header(&mut bytes);
    bytes.extend_from_slice(frame.body());
    bytes.to_vec()
}

/// What a fresh DEALER answers to a greeting and this.
fn handshake(after_greeting: &[u8]) -> Output {
    let mut outputs = receive(&mut greeted(), &[&greeting(), after_greeting].concat());
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    outputs.remove(0)
}

fn message(frames: &[&'static str]) -> Multipart {
    frames.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect()
}

#[test]
fn the_first_piece_holds_all_that_may_be_said_unasked() {
    let mut session = session(SocketType::Dealer);
    let golden = hex!(
        "ff 0000000000000012 7f 03 01 4e554c4c 00000000000000000000000000000000 00"
        "00000000000000000000000000000000000000000000000000000000000000"
        "04 3a 05 5245414459 0b 536f636b65742d54797065 00000006 4445414c4552"
        "08 4964656e74697479 00000011 01 c7446d35e1384f10bb67f58f903d0b85"
    );
    assert_eq!(outputs(&mut session), [Output::Transmit(Bytes::copy_from_slice(&golden))]);
}

#[test]
fn publishers_do_not_tell_an_identity() {
    let Some(Output::Transmit(bytes)) = session(SocketType::Pub).poll() else { panic!("it says nothing") };
    assert_eq!(bytes[64..], hex!("04 19 05 5245414459 0b 536f636b65742d54797065 00000003 505542"));
}

#[test]
fn messages_wait_for_the_peers_ready_and_then_leave_in_one_piece() {
    let mut session = greeted();
    session.send(message(&["A", "", "B"]));
    session.send(message(&[]));
    assert_eq!(session.pending_bytes(), 10);
    assert_eq!(receive(&mut session, &greeting()), []);
    assert!(!session.is_ready());
    let properties =
        PeerProperties { socket_type: Some(SocketType::Router), identity: Bytes::new(), minor: 1 };
    assert_eq!(
        receive(&mut session, ROUTER),
        [
            Output::Ready(properties),
            Output::Transmit(Bytes::from_static(&hex!("01 01 41 01 00 00 01 42 00 00")))
        ]
    );
    assert_eq!(session.pending_bytes(), 0);
}

#[test]
fn a_reserved_session_says_who_it_is_when_told_to_and_looks_at_nothing_before() {
    let config = SessionConfig {
        is_reserved: true,
        ..SessionConfig::new(SocketType::Dealer, Bytes::from_static(IDENTITY))
    };
    let mut session = Session::new(config, Timestamp::ZERO);
    let said = outputs(&mut session);
    assert_eq!(said, [Output::Transmit(Bytes::copy_from_slice(&Greeting::null(IDENTITY.len()).encode()))]);
    session.send(message(&["A"]));
    assert_eq!(receive(&mut session, &[&greeting(), ROUTER].concat()), [Output::Greeted]);
    session.introduce();
    let outputs = outputs(&mut session);
    let [Output::Transmit(ready), Output::Ready(_), Output::Transmit(after)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let Some(Output::Transmit(at_once)) = self::session(SocketType::Dealer).poll() else {
        panic!("it is silent")
    };
    assert_eq!((&ready[..], &after[..]), (&at_once[Greeting::LEN..], &hex!("00 01 41")[..]));
}

#[test]
fn frames_become_messages() {
    let mut session = ready();
    assert_eq!(receive(&mut session, &hex!("01 01 41 01 00")), []);
    assert!(!session.is_between_messages());
    assert_eq!(
        receive(&mut session, &hex!("00 01 42 00 00")),
        [Output::Message(message(&["A", "", "B"])), Output::Message(message(&[""]))]
    );
    assert!(session.is_between_messages());
}

#[test]
fn the_identity_of_the_peer_is_told() {
    let mut router = session(SocketType::Router);
    let Some(Output::Transmit(from_dealer)) = session(SocketType::Dealer).poll() else {
        panic!("it is silent")
    };
    outputs(&mut router);
    let outputs = receive(&mut router, &from_dealer);
    let [Output::Ready(peer)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((peer.socket_type, &peer.identity[..]), (Some(SocketType::Dealer), IDENTITY));
}

#[test]
fn a_ping_is_answered_whatever_the_peers_minor_version() {
    for minor in [0, 1, 2] {
        let mut session = greeted();
        let greeting = Greeting { minor, ..Greeting::null(0) }.encode();
        let outputs = receive(&mut session, &[&greeting, ROUTER].concat());
        assert!(matches!(&outputs[..], [Output::Ready(peer)] if peer.minor == minor));
        let ping = Command::Ping { ttl: 300, context: "ctx".into() };
        assert_eq!(
            receive(&mut session, &command(&ping)),
            [Output::Transmit(Bytes::from_static(&hex!("04 08 04 504f4e47 637478")))]
        );
    }
}

#[test]
fn a_pong_returns_16_bytes_of_context_at_most() {
    let answer = |len: usize| {
        let ping = Command::Ping { ttl: 0, context: vec![b'x'; len].into() };
        let outputs = receive(&mut ready(), &command(&ping));
        let [Output::Transmit(bytes)] = &outputs[..] else { panic!("{outputs:?}") };
        bytes.len() - 2 - 5
    };
    assert_eq!((answer(16), answer(17)), (16, 16));
}

#[test]
fn commands_may_come_between_the_frames_of_a_message() {
    let mut session = ready();
    let pong = command(&Command::Pong { context: Bytes::new() });
    let unknown = command(&Command::Other { name: "FANCY".into(), data: "data".into() });
    let stream = [&hex!("01 01 41")[..], &pong, &unknown, ROUTER, &hex!("00 01 42")].concat();
    assert_eq!(receive(&mut session, &stream), [Output::Message(message(&["A", "B"]))]);
}

#[test]
fn property_names_are_read_in_any_case_and_unknown_ones_are_ignored() {
    let ready = ready_command(&[("X-Any", b"thing"), ("socket-TYPE", b"ROUTER"), ("identity", b"me")]);
    let Output::Ready(peer) = handshake(&ready) else { panic!("refused") };
    assert_eq!((peer.socket_type, &peer.identity[..]), (Some(SocketType::Router), &b"me"[..]));
}

#[test]
fn a_peer_may_keep_its_socket_type_to_itself() {
    let Output::Ready(peer) = handshake(&ready_command(&[])) else { panic!("refused") };
    assert_eq!(peer, PeerProperties { socket_type: None, identity: Bytes::new(), minor: 1 });
}

#[test]
fn an_identity_has_255_bytes_at_most() {
    static LONG: [u8; 256] = [7; 256];
    let Output::Ready(peer) = handshake(&ready_command(&[("Identity", &LONG[1..])])) else {
        panic!("refused")
    };
    assert_eq!(peer.identity, &LONG[1..]);
    assert_eq!(
        handshake(&ready_command(&[("Identity", &LONG)])),
        Output::Failed(SessionError::Identity { len: 256 })
    );
}

#[test]
fn a_handshake_that_leads_nowhere_fails_with_its_reason() {
    let ours = SocketType::Dealer;
    for (after_greeting, error) in [
        (
            ready_command(&[("Socket-Type", b"PUB")]),
            SessionError::Incompatible { ours, theirs: SocketType::Pub },
        ),
        (ready_command(&[("Socket-Type", b"FOO")]), SessionError::SocketType { name: "FOO".into() }),
        (command(&Command::Error { reason: "400".into() }), SessionError::Refused { reason: "400".into() }),
        (
            command(&Command::Ping { ttl: 0, context: Bytes::new() }),
            SessionError::Unexpected { name: "PING".into() },
        ),
        (vec![0, 1, b'x'], FrameError::MessageTooEarly.into()),
        (vec![4, 2, 5, b'R'], CommandError::Cut { field: "name" }.into()),
        (vec![5, 0], FrameError::CommandWithMore.into()),
        (hex!("06 0000000000002001").to_vec(), FrameError::CommandTooLong { size: 8193, max: 8192 }.into()),
    ] {
        assert_eq!(handshake(&after_greeting), Output::Failed(error));
    }
}

#[test]
fn a_secured_peer_is_refused() {
    let greeting = Greeting { mechanism: Mechanism::Curve, ..Greeting::null(0) };
    let error = SessionError::Mechanism { theirs: Mechanism::Curve };
    assert_eq!(error.to_string(), "the peer wants mechanism CURVE, ours is NULL: secure both sides, or none");
    assert_eq!(receive(&mut greeted(), &greeting.encode()), [Output::Failed(error)]);
}

#[test]
fn an_error_command_ends_traffic_too() {
    let mut session = ready();
    let error = command(&Command::Error { reason: "bye".into() });
    assert_eq!(
        receive(&mut session, &error),
        [Output::Failed(SessionError::Refused { reason: "bye".into() })]
    );
}

#[test]
fn after_a_failure_nothing_more_comes_out() {
    let mut session = ready();
    session.send(message(&["lost"]));
    let outputs = receive(&mut session, &hex!("05 00 00 01 41"));
    assert!(matches!(outputs[..], [Output::Transmit(_), Output::Failed(_)]));
    session.send(message(&["lost"]));
    assert_eq!(receive(&mut session, &hex!("00 01 41")), []);
    session.handle(LATE, Input::Timeout);
    assert_eq!(session.poll(), None);
    assert_eq!((session.pending_bytes(), session.deadline(), session.transmit()), (0, None, None));
}

#[test]
fn the_handshake_has_to_be_complete_in_time() {
    for received in [&[][..], &greeting()[..10], &greeting(), &[&greeting(), &ROUTER[..20]].concat()] {
        let mut session = greeted();
        assert_eq!(receive(&mut session, received), []);
        assert_eq!(session.deadline(), Some(LATE));
        session.handle(ALMOST_LATE, Input::Timeout);
        assert_eq!(session.poll(), None);
        session.handle(LATE, Input::Timeout);
        assert_eq!(outputs(&mut session), [Output::Failed(SessionError::Timeout)]);
    }
    let mut session = ready();
    assert_eq!(session.deadline(), None);
    session.handle(LATE, Input::Timeout);
    assert_eq!(session.poll(), None);
}

#[test]
fn messages_keep_to_the_limits_of_the_session() {
    let limits = Limits { frame_bytes: 3, message_bytes: 4, frames: 2, ..Limits::DEFAULT };
    let receive = |stream: &[u8]| {
        let config = SessionConfig { limits, ..SessionConfig::new(SocketType::Dealer, Bytes::new()) };
        let mut session = Session::new(config, NOW);
        outputs(&mut session);
        receive(&mut session, &[&greeting(), ROUTER, stream].concat()).remove(1)
    };
    assert_eq!(receive(&hex!("01 03 414141 00 01 42")), Output::Message(message(&["AAA", "B"])));
    for (stream, error) in [
        (&hex!("01 03 414141 00 02 4242")[..], FrameError::MessageTooLong { max: 4 }),
        (&hex!("00 04 41414141"), FrameError::FrameTooLong { size: 4, max: 3 }),
        (&hex!("01 00 01 00 00 00"), FrameError::TooManyFrames { max: 2 }),
    ] {
        assert_eq!(receive(stream), Output::Failed(error.into()));
    }
}

#[test]
fn a_piece_that_comes_before_the_last_one_was_used_up_is_not_lost() {
    let mut session = ready();
    session.handle(NOW, Input::Received(Bytes::from_static(&hex!("00 01"))));
    session.handle(NOW, Input::Received(Bytes::from_static(&hex!("41 00 01 42"))));
    assert_eq!(outputs(&mut session), [Output::Message(message(&["A"])), Output::Message(message(&["B"]))]);
}

fn any_traffic() -> impl Strategy<Value = Vec<u8>> {
    let body = |max: usize| proptest::collection::vec(any::<u8>(), 0..max);
    let frame = |frame: Frame| {
        let mut bytes = BytesMut::new();
        frame.put_header(&mut bytes);
        bytes.extend_from_slice(frame.body());
        bytes.to_vec()
    };
    prop_oneof![
        6 => (body(300), any::<bool>())
            .prop_map(move |(body, more)| frame(Frame::Part { body: body.into(), more })),
        2 => (any::<u16>(), body(20))
            .prop_map(|(ttl, context)| command(&Command::Ping { ttl, context: context.into() })),
        1 => body(9).prop_map(|data| command(&Command::Other { name: "ANY".into(), data: data.into() })),
        1 => body(12),
    ]
}

proptest! {
    #[test]
    fn the_outputs_are_the_same_however_the_stream_is_cut(
        traffic in proptest::collection::vec(any_traffic(), 0..8),
        broken in any::<Option<(prop::sample::Index, u8)>>(),
        cuts in proptest::collection::vec(1..50_usize, 1..20),
    ) {
        let mut stream = [&greeting(), ROUTER, &traffic.concat()].concat();
        if let Some((at, flip)) = broken {
            let at = at.index(stream.len());
            stream[at] ^= flip;
        }
        let whole = receive(&mut greeted(), &stream);
        let (mut session, mut pieces, mut rest) = (greeted(), Vec::new(), &stream[..]);
        for len in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at(rest.len().min(*len));
            pieces.extend(receive(&mut session, piece));
            rest = tail;
        }
        prop_assert_eq!(&whole, &pieces);
        let failures = whole.iter().filter(|output| matches!(output, Output::Failed(_))).count();
        prop_assert!(failures == 0 || failures == 1 && matches!(whole.last(), Some(Output::Failed(_))));
    }

    #[test]
    fn no_stream_is_a_panic(stream in proptest::collection::vec(any::<u8>(), 0..400), after: bool) {
        let mut session = if after { ready() } else { greeted() };
        receive(&mut session, &stream);
    }
}

/// A session of one of the two kinds that has shaken hands with the other kind, which speaks this minor version.
fn pub_sub(ours: SocketType, theirs: &'static str, minor: u8) -> Session {
    let mut session = session(ours);
    outputs(&mut session);
    let greeting = Greeting { minor, ..Greeting::null(0) }.encode();
    let ready = ready_command(&[(Properties::SOCKET_TYPE, theirs.as_bytes())]);
    assert!(matches!(receive(&mut session, &[&greeting[..], &ready].concat())[..], [Output::Ready(_)]));
    session
}

#[test]
fn a_subscription_is_written_as_the_publisher_reads_it() {
    let all = Subscription::Subscribe(Bytes::new());
    for (minor, bytes) in [(0, &hex!("00 01 01")[..]), (1, &hex!("04 0a 09 535542534352494245"))] {
        let mut early = session(SocketType::Sub);
        outputs(&mut early);
        early.subscribe(all.clone());
        let greeting = Greeting { minor, ..Greeting::null(0) }.encode();
        let ready = ready_command(&[(Properties::SOCKET_TYPE, b"PUB")]);
        let [Output::Ready(_), Output::Transmit(sent)] =
            &receive(&mut early, &[&greeting[..], &ready].concat())[..]
        else {
            panic!("no subscription was sent")
        };
        assert_eq!(sent, bytes);
        let mut late = pub_sub(SocketType::Sub, "PUB", minor);
        late.subscribe(all.clone());
        assert_eq!(outputs(&mut late), [Output::Transmit(Bytes::copy_from_slice(bytes))]);
    }
}

#[test]
fn a_publisher_hears_of_subscriptions_in_either_form() {
    let asked = Output::Message(vec![Bytes::from_static(b"\x01AB")]);
    for minor in [0, 1] {
        let mut session = pub_sub(SocketType::Pub, "SUB", minor);
        assert_eq!(receive(&mut session, &hex!("00 03 01 41 42")), vec![asked.clone()]);
        assert_eq!(receive(&mut session, &hex!("04 0c 09 535542534352494245 41 42")), vec![asked.clone()]);
        let cancelled = Output::Message(vec![Bytes::from_static(b"\x00AB")]);
        assert_eq!(receive(&mut session, &hex!("04 09 06 43414e43454c 41 42")), [cancelled]);
        assert_eq!(receive(&mut session, &hex!("04 04 03 414243")), []);
    }
    // To others it is a command like any that they do not know.
    assert_eq!(receive(&mut ready(), &hex!("04 0a 09 535542534352494245")), []);
}

#[test]
fn only_a_peer_that_knows_the_question_is_asked_for_a_sign_of_life() {
    let mut session = pub_sub(SocketType::Sub, "PUB", 1);
    session.ping();
    assert_eq!(
        outputs(&mut session),
        [Output::Transmit(Bytes::from_static(&hex!("04 07 04 50494e47 0000")))]
    );
    let mut session = pub_sub(SocketType::Sub, "PUB", 0);
    session.ping();
    assert_eq!(outputs(&mut session), []);
}
