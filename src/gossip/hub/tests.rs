//! The hub's machine, driven by hand: [`Rig`] plays clients word by word.

use hex_literal::hex;
use proptest::prelude::*;

use super::*;

const ALICE: PeerId = PeerId::from_bytes([0xa1; 16]);
const BOB: PeerId = PeerId::from_bytes([0xb0; 16]);

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn digits(id: PeerId) -> Bytes {
    id.to_string().into()
}

fn publish(key: impl Into<Bytes>, value: &str, ttl: u32) -> Message {
    Message::Publish(Publish { key: key.into(), value: value.into(), ttl })
}

/// A client's message in short, with its ttl when it has one.
fn word(message: Message) -> String {
    match message {
        Message::Publish(Publish { key, value, ttl }) => match key.len() {
            16 => format!("raw {:02x} {value} {ttl}", key[0]),
            _ => format!("{} {value} {ttl}", String::from_utf8_lossy(&key[..2.min(key.len())])),
        },
        other => format!("{other:?}"),
    }
}

/// One hub, and the clock.
struct Rig {
    hub: HubMachine,
    now: Timestamp,
    outputs: Vec<Output>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Config::default(), Limits::default())
    }

    fn with(config: Config, limits: Limits) -> Self {
        let hub = HubMachine::new(config, limits, PeerId::from_bytes([7; 16]), 7, Timestamp::ZERO);
        Self { hub, now: Timestamp::ZERO, outputs: Vec::new() }
    }

    fn feed(&mut self, input: Input) {
        self.hub.handle(self.now, input);
        self.outputs.extend(std::iter::from_fn(|| self.hub.poll()));
    }

    fn until(&mut self, ms: u64) {
        while let Some(deadline) = self.hub.deadline().filter(|at| at.as_millis() < ms) {
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = Timestamp::from_millis(ms);
    }

    fn wait(&mut self, ms: u64) {
        self.until(self.now.as_millis() + ms);
    }

    fn connect(&mut self, identity: &[u8], from: &str) -> LinkId {
        let link = self.hub.new_link();
        let identity = Bytes::copy_from_slice(identity);
        self.feed(Input::ClientOpened { link, identity, remote: at(from) });
        link
    }

    fn say(&mut self, link: LinkId, message: &Message) {
        let frames = vec![message.encode().unwrap()];
        self.feed(Input::Received { link, frames });
    }

    /// A zyre node, with its HELLO answered.
    fn czmq(&mut self, id: PeerId, address: &str) -> LinkId {
        let link = self.connect(b"", address);
        self.say(link, &Message::Hello);
        let host = address.split_once(':').unwrap().0;
        self.say(link, &publish(digits(id), &format!("tcp://{host}:49152"), 0));
        self.wait(30);
        link
    }

    /// A Haskell node.
    fn haskell(&mut self, id: PeerId, address: &str) -> LinkId {
        let link = self.connect(id.as_bytes(), address);
        self.say(link, &Message::Hello);
        let host = address.split_once(':').unwrap().0;
        let key = Bytes::copy_from_slice(id.as_bytes());
        self.say(link, &publish(key, &format!("tcp://{host}:41000"), 600));
        link
    }

    /// A node of Hailer.
    fn hailer(&mut self, id: PeerId, address: &str) -> LinkId {
        let link = self.connect(&super::super::uplink::identity(false, id, LinkId::from_number(1)), address);
        self.say(link, &Message::Hello);
        self.say(link, &publish(digits(id), &format!("tcp://{address}"), 30_000));
        link
    }

    /// What a client was sent since this was asked last. The Haskell tools get their identity before each message.
    fn heard(&mut self, link: LinkId) -> Vec<String> {
        let is_his = |output: &mut Output| matches!(output, Output::Send { link: to, .. } if *to == link);
        let sent: Vec<Output> = self.outputs.extract_if(.., is_his).collect();
        let read = |output| {
            let Output::Send { mut frames, .. } = output else { unreachable!() };
            let message = word(Message::decode(frames.pop().unwrap()).unwrap());
            match frames.pop() {
                Some(identity) => format!("{:02x}: {message}", identity[0]),
                None => message,
            }
        };
        sent.into_iter().map(read).collect()
    }

    /// What was told since this was asked last, without who comes and goes.
    fn told(&mut self) -> Vec<String> {
        let is_event = |output: &mut Output| matches!(output, Output::Event(_));
        let events: Vec<Output> = self.outputs.extract_if(.., is_event).collect();
        let word = |output| match output {
            Output::Event(Event::Published { key, value, .. }) => {
                Some(format!("+{:.2} {value}", key.to_string()))
            }
            Output::Event(Event::Gone { key, why, .. }) => Some(format!("-{:.2} {why}", key.to_string())),
            _ => None,
        };
        events.into_iter().filter_map(word).collect()
    }

    fn keys(&self) -> Vec<String> {
        self.hub.tuples().map(|(key, _)| format!("{:.2}", key.to_string())).collect()
    }
}

#[test]
fn czmq_and_haskell_find_each_other_each_in_its_own_words() {
    let mut rig = Rig::new();
    let zyre = rig.czmq(ALICE, "10.0.0.1:5000");
    let haskell = rig.haskell(BOB, "10.0.0.2:5000");
    assert_eq!(rig.heard(haskell), ["b0: raw a1 tcp://10.0.0.1:49152 600"]);
    assert_eq!(rig.heard(zyre), ["B0 tcp://10.0.0.2:41000 0"]);
    assert_eq!(rig.told(), ["+A1 tcp://10.0.0.1:49152", "+B0 tcp://10.0.0.2:41000"]);
    let hailer = rig.hailer(PeerId::from_bytes([0xcc; 16]), "10.0.0.3:50");
    assert_eq!(
        rig.heard(hailer),
        ["A1 tcp://10.0.0.1:49152 4294967295", "B0 tcp://10.0.0.2:41000 4294967295"]
    );
    assert_eq!(rig.heard(zyre), ["CC tcp://10.0.0.3:50 0"]);
    assert_eq!(rig.heard(haskell), ["b0: raw cc tcp://10.0.0.3:50 600"]);
}

#[test]
fn what_is_captured_of_the_originals_is_understood_byte_by_byte() {
    let mut rig = Rig::new();
    // alice and hs in the capture hs-gossip
    let alice = rig.connect(b"", "10.77.0.1:48960");
    let hs_id = hex!("fd0dd4d4e57f11f18001323f20e00774");
    let hs = rig.connect(&hs_id, "10.77.0.2:36194");
    let hello = Bytes::from_static(&hex!("aaa00101"));
    for link in [alice, hs] {
        rig.feed(Input::Received { link, frames: vec![hello.clone()] });
    }
    let of_alice = Bytes::copy_from_slice(&hex!(
        "aaa00201203735383730364432413743453446323039373730363741463345433937324335"
        "000000157463703a2f2f31302e37372e302e313a343931353200000000"
    ));
    let of_hs = Bytes::copy_from_slice(&hex!(
        "aaa0020110fd0dd4d4e57f11f18001323f20e00774"
        "000000157463703a2f2f31302e37372e302e323a343130333000000258"
    ));
    rig.feed(Input::Received { link: alice, frames: vec![of_alice] });
    rig.feed(Input::Received { link: hs, frames: vec![of_hs] });
    rig.wait(30);
    let sent = |rig: &Rig, to: LinkId| -> Vec<Multipart> {
        let frames = |output: &Output| match output {
            Output::Send { link, frames } if *link == to => Some(frames.clone()),
            _ => None,
        };
        rig.outputs.iter().filter_map(frames).collect()
    };
    let to_alice = Bytes::copy_from_slice(&hex!(
        "aaa00201204644304444344434453537463131463138303031333233463230453030373734"
        "000000157463703a2f2f31302e37372e302e323a343130333000000000"
    ));
    let to_hs = Bytes::copy_from_slice(&hex!(
        "aaa0020110758706d2a7ce4f20977067af3ec972c5"
        "000000157463703a2f2f31302e37372e302e313a343931353200000258"
    ));
    assert_eq!(sent(&rig, alice), [vec![to_alice]]);
    assert_eq!(sent(&rig, hs), [vec![Bytes::copy_from_slice(&hs_id), to_hs]]);
}

#[test]
fn a_client_that_is_silent_for_an_hour_still_hears_news() {
    let mut rig = Rig::new();
    let zyre = rig.czmq(ALICE, "10.0.0.1:5000");
    rig.until(3_600_000);
    rig.haskell(BOB, "10.0.0.2:5000");
    assert_eq!(rig.heard(zyre), ["B0 tcp://10.0.0.2:41000 0"]);
    assert_eq!(rig.keys(), ["A1", "B0"]);
}

#[test]
fn a_node_is_told_of_for_a_while_after_its_connection_and_no_longer() {
    let mut rig = Rig::new();
    let zyre = rig.czmq(ALICE, "10.0.0.1:5000");
    let hailer = rig.hailer(BOB, "10.0.0.2:50");
    rig.heard(hailer);
    rig.told();
    rig.feed(Input::Closed { link: zyre });
    rig.wait(29_000);
    // BOB has not been heard of since, but is connected; he says it again in time.
    rig.say(hailer, &publish(digits(BOB), "tcp://10.0.0.2:50", 30_000));
    assert_eq!(rig.told(), [] as [&str; 0]);
    rig.wait(2_000);
    assert_eq!(rig.told(), ["-A1 expired"]);
    assert_eq!(rig.heard(hailer), ["A1 tcp://10.0.0.1:49152 0"]);
    assert_eq!(rig.keys(), ["B0"]);
}

#[test]
fn a_node_that_reconnects_in_time_is_never_gone() {
    let mut rig = Rig::new();
    let first = rig.czmq(ALICE, "10.0.0.1:5000");
    rig.told();
    rig.feed(Input::Closed { link: first });
    rig.wait(10_000);
    rig.czmq(ALICE, "10.0.0.1:5001");
    rig.wait(600_000);
    assert_eq!(rig.told(), [] as [&str; 0]);
}

#[test]
fn a_haskell_node_that_says_nothing_more_expires_after_its_own_ttl() {
    let mut rig = Rig::new();
    rig.haskell(BOB, "10.0.0.2:5000");
    rig.told();
    rig.until(599_000);
    assert_eq!(rig.told(), [] as [&str; 0]);
    rig.until(602_000);
    assert_eq!(rig.told(), ["-B0 expired"]);
}

#[test]
fn what_is_withdrawn_is_gone_at_once() {
    let mut rig = Rig::new();
    let alice = rig.hailer(ALICE, "10.0.0.1:50");
    let bob = rig.hailer(BOB, "10.0.0.2:50");
    rig.told();
    rig.heard(bob);
    rig.say(bob, &publish(digits(ALICE), "tcp://10.0.0.1:50", 0));
    assert_eq!(rig.told(), [] as [&str; 0], "another's tuple can't be withdrawn");
    rig.say(alice, &publish(digits(ALICE), "tcp://10.0.0.1:50", 0));
    assert_eq!(rig.told(), ["-A1 withdrawn"]);
    assert_eq!(rig.heard(bob), ["A1 tcp://10.0.0.1:50 0"]);
}

#[test]
fn an_echo_of_what_a_czmq_client_heard_keeps_nobody_alive() {
    let mut rig = Rig::new();
    let alice = rig.czmq(ALICE, "10.0.0.1:5000");
    let bob = rig.czmq(BOB, "10.0.0.2:5000");
    assert_eq!(rig.heard(bob), ["A1 tcp://10.0.0.1:49152 0"]);
    rig.say(bob, &publish(digits(ALICE), "tcp://10.0.0.1:49152", 0));
    rig.told();
    rig.feed(Input::Closed { link: alice });
    rig.wait(15_000);
    // bob reconnects and says everything that he ever heard.
    rig.feed(Input::Closed { link: bob });
    let bob = rig.connect(b"", "10.0.0.2:5001");
    rig.say(bob, &Message::Hello);
    rig.say(bob, &publish(digits(ALICE), "tcp://10.0.0.1:49152", 0));
    rig.say(bob, &publish(digits(BOB), "tcp://10.0.0.2:49152", 0));
    rig.wait(20_000);
    assert_eq!(rig.told(), ["-A1 expired"]);
    // And once more, after she has gone.
    rig.feed(Input::Closed { link: bob });
    let bob = rig.connect(b"", "10.0.0.2:5002");
    rig.say(bob, &Message::Hello);
    rig.say(bob, &publish(digits(ALICE), "tcp://10.0.0.1:49152", 0));
    assert_eq!(rig.told(), [] as [&str; 0]);
    assert_eq!(rig.hub.counters().hearsay_refused, 1);
    // She herself is believed.
    rig.czmq(ALICE, "10.0.0.1:5009");
    assert_eq!(rig.told(), ["+A1 tcp://10.0.0.1:49152"]);
}

#[test]
fn a_hub_that_was_restarted_knows_everybody_again_from_what_the_clients_say() {
    let mut rig = Rig::new();
    // bob is first, and knows of alice; both have names that are no addresses.
    let bob = rig.connect(b"", "10.0.0.2:5001");
    rig.say(bob, &Message::Hello);
    rig.say(bob, &publish(digits(ALICE), "tcp://alice:49152", 0));
    rig.say(bob, &publish(digits(BOB), "tcp://bob:49152", 0));
    rig.wait(100);
    let alice = rig.connect(b"", "10.0.0.1:5001");
    rig.say(alice, &Message::Hello);
    rig.say(alice, &publish(digits(ALICE), "tcp://alice:49152", 0));
    rig.wait(100);
    rig.feed(Input::Closed { link: bob });
    rig.wait(60_000);
    assert_eq!(rig.keys(), ["A1"], "alice still says so herself");
}

#[test]
fn hearsay_does_not_replace_what_a_node_says_itself() {
    let mut rig = Rig::new();
    rig.czmq(ALICE, "10.0.0.1:5000");
    let bob = rig.czmq(BOB, "10.0.0.2:5000");
    rig.told();
    rig.say(bob, &publish(digits(ALICE), "tcp://10.0.0.66:666", 0));
    assert_eq!(rig.told(), [] as [&str; 0]);
    assert_eq!(rig.hub.counters().hearsay_refused, 1);
}

#[test]
fn a_node_that_moves_is_told_of_at_its_new_place() {
    let mut rig = Rig::new();
    let alice = rig.hailer(ALICE, "10.0.0.1:50");
    let bob = rig.czmq(BOB, "10.0.0.2:5000");
    rig.heard(bob);
    rig.say(alice, &publish(digits(ALICE), "tcp://10.0.0.9:50", 30_000));
    assert_eq!(rig.heard(bob), ["A1 tcp://10.0.0.9:50 0"]);
}

#[test]
fn a_secured_zyre_hears_of_no_node_without_a_key_and_the_haskell_tools_of_none_with_one() {
    let mut rig = Rig::new();
    let key = "k".repeat(40);
    let open = rig.czmq(ALICE, "10.0.0.1:5000");
    let haskell = rig.haskell(PeerId::from_bytes([0x33; 16]), "10.0.0.3:5000");
    rig.heard(open);
    rig.heard(haskell);
    let secure = rig.connect(b"", "10.0.0.2:5000");
    rig.say(secure, &Message::Hello);
    rig.say(secure, &publish(digits(BOB), &format!("tcp://10.0.0.2:49152|{key}"), 0));
    rig.wait(30);
    assert_eq!(rig.heard(secure), [] as [&str; 0]);
    assert_eq!(rig.heard(haskell), [] as [&str; 0]);
    assert_eq!(rig.heard(open), [format!("B0 tcp://10.0.0.2:49152|{key} 0")]);
    rig.hailer(PeerId::from_bytes([0x44; 16]), "10.0.0.4:50");
    assert_eq!(rig.heard(secure), [] as [&str; 0]);
}

#[test]
fn malformed_messages_are_counted_and_harm_nobody() {
    let mut rig = Rig::new();
    let alice = rig.czmq(ALICE, "10.0.0.1:5000");
    for frames in [
        vec![],
        vec![Bytes::new()],
        vec![Bytes::from_static(&hex!("aaa00201ff"))],
        vec![Bytes::from_static(b"\xff")],
    ] {
        rig.feed(Input::Received { link: alice, frames });
    }
    let haskell = rig.haskell(BOB, "10.0.0.2:5000");
    rig.say(haskell, &publish("seventeen bytes..", "x", 600));
    assert_eq!(rig.hub.counters().messages_malformed, 5);
    rig.say(alice, &Message::Ping);
    assert_eq!(rig.heard(alice).last().unwrap(), "Pong");
    assert_eq!(rig.keys(), ["A1", "B0"]);
}

#[test]
fn clients_tuples_and_bytes_have_limits_and_what_is_there_stays() {
    let limits =
        Limits { clients: 2, tuples: 3, tuples_per_client: 2, tuple_bytes: 200, ..Limits::default() };
    let mut rig = Rig::with(Config::default(), limits);
    let greedy = rig.connect(b"", "10.0.0.1:5000");
    for key in ["one", "two", "three"] {
        rig.say(greedy, &publish(key, "value", 0));
    }
    let other = rig.connect(b"", "10.0.0.2:5000");
    for (key, value) in [("four", "x".repeat(400)), ("five", "5".into()), ("six", "6".into())] {
        rig.say(other, &publish(key, &value, 0));
    }
    assert_eq!(rig.keys(), ["fi", "on", "tw"]);
    assert_eq!(rig.hub.counters().tuples_over_limit, 3);
    let third = rig.connect(b"", "10.0.0.3:5000");
    assert!(rig.outputs.contains(&Output::Close(third)));
    assert_eq!(rig.hub.counters().clients_over_limit, 1);
}

#[test]
fn a_client_that_floods_news_is_slowed_down() {
    let limits = Limits { tuples_per_client: 5, news_per_second: 10, ..Limits::default() };
    let mut rig = Rig::with(Config::default(), limits);
    let mad = rig.connect(b"", "10.0.0.1:5000");
    for value in 0..1000 {
        rig.say(mad, &publish("key", &value.to_string(), 0));
    }
    assert_eq!(rig.told().len(), 5);
    rig.wait(1_000);
    for value in 1000..2000 {
        rig.say(mad, &publish("key", &value.to_string(), 0));
    }
    assert_eq!(rig.told().len(), 5, "the burst is refilled at its rate, up to its size");
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let mut rig = Rig::new();
    let slow = rig.czmq(ALICE, "10.0.0.1:5000");
    rig.feed(Input::QueueFull { link: slow });
    assert!(rig.outputs.contains(&Output::Close(slow)));
    assert_eq!(rig.hub.counters().clients_too_slow, 1);
    rig.wait(31_000);
    assert_eq!(rig.keys(), [] as [&str; 0]);
}

/// What strangers can do to a hub.
#[derive(Clone, Debug)]
enum Whim {
    Connect { identity: Vec<u8>, host: u8 },
    Say { link: u64, message: Message },
    Garbage { link: u64, frames: Vec<Vec<u8>> },
    Hub { link: u64, identity: Vec<u8> },
    Close { link: u64 },
    Full { link: u64 },
    Wait { ms: u64 },
}

fn any_whim() -> impl Strategy<Value = Whim> {
    let id = |byte: u8| PeerId::from_bytes([byte; 16]);
    let identity = prop_oneof![
        Just(Vec::new()),
        (0..3_u8).prop_map(|byte| vec![byte; 16]),
        (any::<bool>(), 0..3_u8).prop_map(move |(is_hub, byte)| {
            super::super::uplink::identity(is_hub, id(byte), LinkId::from_number(1)).to_vec()
        }),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let key = prop_oneof![
        (0..3_u8).prop_map(move |byte| id(byte).to_string().into_bytes()),
        (0..3_u8).prop_map(|byte| vec![byte; 16]),
        (0..3_u8, 0..9_u64, 0..3_u8).prop_map(move |(origin, stamp, key)| {
            Stamped { origin: id(origin), stamp, key: Key::Peer(id(key)) }.to_bytes().to_vec()
        }),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let value = prop_oneof![
        (0..3_u8).prop_map(|host| format!("tcp://10.0.0.{host}:49152")),
        (0..3_u8).prop_map(|host| format!("tcp://10.0.0.{host}:49152|key")),
        ".{0,20}",
    ];
    let ttl = prop_oneof![Just(0), 1..60_000_u32, any::<u32>()];
    let message = prop_oneof![
        4 => (key, value, ttl).prop_map(|(key, value, ttl)| publish(key, &value, ttl)),
        1 => Just(Message::Hello),
        1 => prop_oneof![Just(Message::Ping), Just(Message::Pong), Just(Message::Invalid)],
    ];
    prop_oneof![
        3 => (identity.clone(), 0..3_u8).prop_map(|(identity, host)| Whim::Connect { identity, host }),
        9 => (0..8_u64, message).prop_map(|(link, message)| Whim::Say { link, message }),
        1 => (0..8_u64, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..4))
            .prop_map(|(link, frames)| Whim::Garbage { link, frames }),
        1 => (0..8_u64, identity).prop_map(|(link, identity)| Whim::Hub { link, identity }),
        1 => (0..8_u64).prop_map(|link| Whim::Close { link }),
        1 => (0..8_u64).prop_map(|link| Whim::Full { link }),
        2 => (0..40_000_u64).prop_map(|ms| Whim::Wait { ms }),
    ]
}

proptest! {
    /// Whatever strangers do, and in whatever order: no panic, no endless loop, no more than the limits, no message that can't
    /// be sent, and no news of what everybody knows.
    #[test]
    fn strangers_can_do_what_they_like(whims in prop::collection::vec(any_whim(), 0..80)) {
        let peers = vec!["tcp://other:1".parse().unwrap(), "tcp://another:2".parse().unwrap()];
        let limits = Limits { clients: 4, tuples: 8, tuples_per_client: 4, ..Limits::default() };
        let mut rig = Rig::with(Config { peers, ..Config::default() }, limits);
        let mut told = std::collections::BTreeMap::new();
        for whim in whims {
            let link = LinkId::from_number;
            match whim {
                Whim::Connect { identity, host } => drop(rig.connect(&identity, &format!("10.0.0.{host}:5000"))),
                Whim::Say { link: number, message } => rig.say(link(number), &message),
                Whim::Garbage { link: number, frames } => {
                    let frames = frames.into_iter().map(Bytes::from).collect();
                    rig.feed(Input::Received { link: link(number), frames });
                }
                Whim::Hub { link: number, identity } => {
                    rig.feed(Input::HubOpened { link: link(number), identity: identity.into() });
                }
                Whim::Close { link: number } => rig.feed(Input::Closed { link: link(number) }),
                Whim::Full { link: number } => rig.feed(Input::QueueFull { link: link(number) }),
                Whim::Wait { ms } => rig.wait(ms),
            }
            for output in rig.outputs.drain(..) {
                match output {
                    Output::Send { frames, .. } => {
                        prop_assert!(Message::decode(frames.last().unwrap().clone()).is_ok());
                    }
                    Output::Event(Event::Published { key, value, .. }) => {
                        prop_assert_ne!(told.insert(key, value.clone()), Some(value));
                    }
                    Output::Event(Event::Gone { key, value, .. }) => {
                        prop_assert_eq!(told.remove(&key), Some(value));
                    }
                    _ => {}
                }
            }
            let there: std::collections::BTreeMap<_, _> =
                rig.hub.tuples().map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(&there, &told);
            rig.hub.assert_sound();
        }
    }
}
