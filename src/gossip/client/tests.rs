//! The client's machine, driven by hand, against hubs of all three kinds.

use proptest::prelude::*;

use super::*;
use crate::gossip::dialect::Identity;
use crate::zre::PeerId;

const OWN: PeerId = PeerId::from_bytes([0xaa; 16]);
const BOB: PeerId = PeerId::from_bytes([0xb0; 16]);

struct Rig {
    client: ClientMachine,
    now: Timestamp,
    outputs: Vec<Output>,
}

impl Rig {
    /// A client that publishes where it is, of so many hubs.
    fn new(hubs: u16) -> Self {
        let hubs = (1..=hubs).map(|number| Endpoint { host: "hub".into(), port: number }).collect();
        let client = ClientMachine::new(hubs, Limits::default(), 7, Timestamp::ZERO);
        let mut rig = Self { client, now: Timestamp::ZERO, outputs: Vec::new() };
        rig.feed(Input::Publish { key: Key::Peer(OWN), value: "tcp://10.0.0.1:1".into() });
        rig.feed(Input::Timeout);
        rig
    }

    fn feed(&mut self, input: Input) {
        self.client.handle(self.now, input);
        self.outputs.extend(std::iter::from_fn(|| self.client.poll()));
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now.after(Duration::from_millis(ms));
        while let Some(deadline) = self.client.deadline().filter(|at| *at < until) {
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = until;
    }

    /// The connection that was dialled last.
    fn dialled(&mut self) -> LinkId {
        let is_dial = |output: &mut Output| matches!(output, Output::Dial { .. });
        match self.outputs.extract_if(.., is_dial).last() {
            Some(Output::Dial { link, .. }) => link,
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, link: LinkId, identity: Bytes) {
        self.feed(Input::Opened { link, identity });
    }

    /// A hub of Hailer.
    fn open_hailer(&mut self, link: LinkId) {
        let id = PeerId::from_bytes([7; 16]);
        self.open(link, Identity { is_hub: true, id }.to_bytes(0));
    }

    fn receive(&mut self, link: LinkId, message: &Message) {
        self.feed(Input::Received { link, frames: vec![message.encode().unwrap()] });
    }

    fn sent(&mut self) -> Vec<String> {
        let is_send = |output: &mut Output| matches!(output, Output::Send { .. });
        let word = |output| {
            let Output::Send { mut frames, .. } = output else { unreachable!() };
            match Message::decode(frames.pop().unwrap()).unwrap() {
                Message::Publish(Publish { key, ttl, .. }) => format!("publish {} {ttl}", key.len()),
                other => format!("{other:?}").to_lowercase(),
            }
        };
        self.outputs.extract_if(.., is_send).map(word).collect()
    }

    fn heard(&mut self) -> Vec<String> {
        let is_event = |output: &mut Output| matches!(output, Output::Event(_));
        let word = |output| match output {
            Output::Event(Heard::Found { key, value }) => format!("+{:.2} {value}", key.to_string()),
            Output::Event(Heard::Lost { key }) => format!("-{:.2}", key.to_string()),
            Output::Event(Heard::Hub { dialect, .. }) => format!("hub {}", dialect.as_str()),
            Output::Event(Heard::HubLost { .. }) => "hub lost".into(),
            _ => unreachable!(),
        };
        self.outputs.extract_if(.., is_event).map(word).collect()
    }
}

fn bob(dialect: Dialect, left_ms: u32) -> Message {
    dialect.publish(&Key::Peer(BOB), &"tcp://10.0.0.2:2".into(), left_ms).unwrap()
}

#[test]
fn a_hub_of_hailer_hears_hello_and_our_tuple_at_once_and_again_in_time() {
    let mut rig = Rig::new(1);
    let link = rig.dialled();
    rig.open_hailer(link);
    assert_eq!(rig.heard(), ["hub hailer"]);
    assert_eq!(rig.sent(), ["hello", "publish 32 30000", "ping"]);
    rig.wait(10_001);
    assert_eq!(rig.sent(), ["publish 32 30000"]);
    rig.receive(link, &bob(Dialect::Client, 5));
    rig.receive(link, &bob(Dialect::Client, 0));
    assert_eq!(rig.heard(), ["+B0 tcp://10.0.0.2:2", "-B0"]);
}

#[test]
fn a_czmq_hub_is_known_by_its_pong_and_pinged_before_it_forgets_us() {
    let mut rig = Rig::new(1);
    let link = rig.dialled();
    rig.open(link, Bytes::new());
    assert_eq!(rig.sent(), ["hello", "publish 32 2", "ping"]);
    rig.receive(link, &Message::Pong);
    assert_eq!(rig.heard(), ["hub czmq"]);
    assert_eq!(rig.sent(), ["publish 32 0"]);
    rig.wait(1_000);
    assert_eq!(rig.sent(), ["ping", "ping"], "it forgets after a second of silence");
    // It forgot us all the same.
    rig.receive(link, &Message::Invalid);
    assert_eq!(rig.sent(), ["hello", "publish 32 0", "ping"]);
}

#[test]
fn a_haskell_hub_is_known_by_its_two_frames_and_gets_keys_that_are_bytes() {
    let mut rig = Rig::new(1);
    let link = rig.dialled();
    rig.open(link, Bytes::new());
    assert_eq!(rig.sent(), ["hello", "publish 32 2", "ping"]);
    rig.wait(1_001);
    assert_eq!(rig.sent(), ["publish 32 2", "hello"], "it does not know PING");
    // It answers with what it just got, behind the identity that its ROUTER gave us.
    let own = Dialect::Czmq.publish(&Key::Peer(OWN), &"tcp://10.0.0.1:1".into(), 1).unwrap();
    let two = |message: &Message| vec![Bytes::from_static(b"\0abcd"), message.encode().unwrap()];
    rig.feed(Input::Received { link, frames: two(&own) });
    assert_eq!(rig.heard(), ["hub haskell"]);
    assert_eq!(rig.sent(), ["publish 16 600"]);
    rig.feed(Input::Received { link, frames: two(&bob(Dialect::Haskell, 1)) });
    assert_eq!(rig.heard(), ["+B0 tcp://10.0.0.2:2"]);
    rig.wait(5_001);
    assert!(
        rig.sent().contains(&"hello".into()),
        "its news go to those only whose keys are their identities"
    );
    // Who is not mentioned any more has gone.
    rig.wait(15_000);
    assert!(rig.heard().contains(&"-B0".into()));
    // The next connection is spoken to as this one was.
    rig.feed(Input::Closed { link });
    rig.wait(1_000);
    let link = rig.dialled();
    rig.sent();
    rig.open(link, Bytes::new());
    assert_eq!(rig.sent(), ["hello", "publish 16 600", "ping"]);
}

#[test]
fn what_a_hub_has_not_any_more_when_it_is_back_is_gone() {
    let mut rig = Rig::new(1);
    let link = rig.dialled();
    rig.open_hailer(link);
    rig.receive(link, &bob(Dialect::Client, 5));
    rig.receive(link, &Message::Pong);
    rig.heard();
    rig.feed(Input::Closed { link });
    rig.wait(5_000);
    assert!(!rig.heard().contains(&"-B0".into()), "nobody said so");
    let link = rig.dialled();
    rig.open_hailer(link);
    rig.receive(link, &Message::Pong);
    assert_eq!(rig.heard(), ["hub hailer", "-B0"]);
}

#[test]
fn a_tuple_is_there_as_long_as_one_of_several_hubs_has_it() {
    let mut rig = Rig::new(2);
    let links = [LinkId::from_number(1), LinkId::from_number(2)];
    for link in links {
        rig.open_hailer(link);
        rig.receive(link, &bob(Dialect::Client, 5));
    }
    rig.heard();
    rig.receive(links[0], &bob(Dialect::Client, 0));
    assert_eq!(rig.heard(), [] as [&str; 0]);
    rig.receive(links[1], &bob(Dialect::Client, 0));
    assert_eq!(rig.heard(), ["-B0"]);
}

#[test]
fn a_tuple_is_told_again_soon_and_then_every_ten_seconds() {
    let mut rig = Rig::new(1);
    let link = rig.dialled();
    rig.open_hailer(link);
    rig.receive(link, &bob(Dialect::Client, 5));
    let mut at = Vec::new();
    for second in 0..60 {
        rig.wait(1_000);
        if rig.heard().iter().any(|heard| heard.starts_with("+B0")) {
            at.push(second);
        }
    }
    assert_eq!(at, [0, 1, 3, 7, 15, 25, 35, 45, 55]);
}

#[test]
fn a_hub_that_is_away_is_dialled_ever_more_slowly_and_told_everything_when_it_is_back() {
    let mut rig = Rig::new(1);
    let mut dials = 0;
    let start = rig.now;
    while rig.now.since(start) < Duration::from_secs(60) {
        let is_dial = |output: &mut Output| matches!(output, Output::Dial { .. });
        if let Some(Output::Dial { link, .. }) = rig.outputs.extract_if(.., is_dial).last() {
            dials += 1;
            rig.feed(Input::Closed { link });
        }
        rig.wait(10);
    }
    assert!((20..50).contains(&dials), "{dials} attempts in a minute");
    rig.wait(3_000);
    let link = rig.dialled();
    rig.open_hailer(link);
    assert_eq!(rig.sent(), ["hello", "publish 32 30000", "ping"]);
}

#[test]
fn what_we_withdraw_is_withdrawn_where_that_can_be_said() {
    for (identity, expected) in [(true, vec!["publish 32 0"]), (false, vec![])] {
        let mut rig = Rig::new(1);
        let link = rig.dialled();
        if identity {
            rig.open_hailer(link);
        } else {
            rig.open(link, Bytes::new());
            rig.receive(link, &Message::Pong);
        }
        rig.sent();
        rig.feed(Input::Withdraw { key: Key::Peer(OWN) });
        assert_eq!(rig.sent(), expected);
    }
}

#[test]
fn our_own_tuple_is_no_news_to_us() {
    let mut rig = Rig::new(1);
    let link = rig.dialled();
    rig.open_hailer(link);
    rig.heard();
    rig.receive(link, &Dialect::Client.publish(&Key::Peer(OWN), &"elsewhere".into(), 5).unwrap());
    assert_eq!(rig.heard(), [] as [&str; 0]);
}

#[derive(Clone, Debug)]
enum Whim {
    Open { link: u64, identity: Vec<u8> },
    Close { link: u64 },
    Receive { link: u64, frames: Vec<Vec<u8>> },
    Publish { key: u8 },
    Withdraw { key: u8 },
    Wait { ms: u64 },
}

fn any_whim() -> impl Strategy<Value = Whim> {
    let hailer = Identity { is_hub: true, id: BOB }.to_bytes(0).to_vec();
    let identity = prop_oneof![Just(Vec::new()), Just(hailer), prop::collection::vec(any::<u8>(), 0..40)];
    let publish = |(dialect, key, left_ms): (usize, u8, u32)| {
        let dialect = [Dialect::Czmq, Dialect::Haskell, Dialect::Client][dialect];
        let key = Key::Peer(PeerId::from_bytes([key; 16]));
        dialect.publish(&key, &"tcp://10.0.0.2:2".into(), left_ms)
    };
    let message = prop_oneof![
        4 => (0..3_usize, 0..4_u8, prop_oneof![Just(0), any::<u32>()]).prop_map(publish),
        1 => Just(Some(Message::Pong)),
        1 => Just(Some(Message::Invalid)),
        1 => Just(Some(Message::Ping)),
    ];
    let frame = prop_oneof![
        4 => message.prop_map(|message| message.map_or_else(Vec::new, |message| message.encode().unwrap().to_vec())),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop_oneof![
        2 => (1..6_u64, identity).prop_map(|(link, identity)| Whim::Open { link, identity }),
        1 => (1..6_u64).prop_map(|link| Whim::Close { link }),
        6 => (1..6_u64, prop::collection::vec(frame, 0..3)).prop_map(|(link, frames)| Whim::Receive { link, frames }),
        1 => (0..4_u8).prop_map(|key| Whim::Publish { key }),
        1 => (0..4_u8).prop_map(|key| Whim::Withdraw { key }),
        2 => (0..20_000_u64).prop_map(|ms| Whim::Wait { ms }),
    ]
}

proptest! {
    /// Whatever hubs say: no panic, no endless loop, and what was told is what there is.
    #[test]
    fn hubs_can_say_what_they_like(whims in prop::collection::vec(any_whim(), 0..80)) {
        let mut rig = Rig::new(2);
        let mut told = BTreeMap::new();
        for whim in whims {
            let link = LinkId::from_number;
            let key = |byte: u8| Key::Peer(PeerId::from_bytes([byte; 16]));
            match whim {
                Whim::Open { link: number, identity } => rig.open(link(number), identity.into()),
                Whim::Close { link: number } => rig.feed(Input::Closed { link: link(number) }),
                Whim::Receive { link: number, frames } => {
                    let frames = frames.into_iter().map(Bytes::from).collect();
                    rig.feed(Input::Received { link: link(number), frames });
                }
                Whim::Publish { key: byte } => {
                    rig.feed(Input::Publish { key: key(byte), value: "tcp://10.0.0.1:1".into() });
                }
                Whim::Withdraw { key: byte } => rig.feed(Input::Withdraw { key: key(byte) }),
                Whim::Wait { ms } => rig.wait(ms),
            }
            for output in rig.outputs.drain(..) {
                match output {
                    Output::Send { frames, .. } => {
                        prop_assert!(Message::decode(frames.last().unwrap().clone()).is_ok());
                    }
                    Output::Event(Heard::Found { key, value }) => drop(told.insert(key, value)),
                    Output::Event(Heard::Lost { key }) => prop_assert!(told.remove(&key).is_some()),
                    _ => {}
                }
            }
            let there: Vec<_> = rig.client.tuples().map(|(key, _)| key.clone()).collect();
            prop_assert_eq!(there, told.keys().cloned().collect::<Vec<_>>());
        }
    }
}
