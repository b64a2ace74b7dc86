use proptest::prelude::*;

use super::super::config::Filter;
use super::super::packet::Packet;
use super::*;
use crate::zre::beacon::Beacon;

const OTHER: &str = "10.2.0.1:2340";
const THIRD: &str = "10.3.0.1:2340";

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn lan(address: &str) -> Lan {
    Lan { address: address.parse().unwrap(), prefix: 24 }
}

fn machine(config: Config) -> RepeaterMachine {
    RepeaterMachine::new(config, vec![lan("10.1.0.1")], at(0))
}

fn standing_in() -> Config {
    Config { announce: Announce::StandIn, ..Config::default() }
}

fn peer(number: u64) -> PeerId {
    PeerId::from_bytes((0x1000 + u128::from(number)).to_be_bytes())
}

fn beacon(number: u64, port: u16) -> Bytes {
    Bytes::copy_from_slice(&Beacon { peer: peer(number), port }.encode())
}

fn packet(number: u64, port: u16, origin: &str) -> Bytes {
    [&beacon(number, port)[..], origin.as_bytes()].concat().into()
}

/// What the machine wants done, events left out.
fn feed(machine: &mut RepeaterMachine, ms: u64, input: Input) -> Vec<Output> {
    machine.handle(at(ms), input);
    std::iter::from_fn(|| machine.poll()).filter(|output| !matches!(output, Output::Event(_))).collect()
}

fn hear(machine: &mut RepeaterMachine, ms: u64, from: &str, datagram: Bytes) -> Vec<Output> {
    feed(machine, ms, Input::Heard { from: SocketAddr::new(from.parse().unwrap(), 40000), datagram })
}

fn take(machine: &mut RepeaterMachine, ms: u64, by: &str, frame: Bytes) -> Vec<Output> {
    feed(machine, ms, Input::Published { by: socket(by), message: vec![frame] })
}

fn wait(machine: &mut RepeaterMachine, ms: u64) -> Vec<Output> {
    feed(machine, ms, Input::Timeout)
}

fn publish(packet: Bytes) -> Output {
    Output::Publish { to: None, packet, is_news: true }
}

fn publish_again(packet: Bytes) -> Output {
    Output::Publish { to: None, packet, is_news: false }
}

fn tell(datagram: Bytes) -> Output {
    Output::Tell { lan: 0, to: None, datagram }
}

#[test]
fn what_is_heard_is_published_with_its_origin_once_an_interval() {
    let mut machine = machine(Config::default());
    let expected = packet(1, 49152, "10.1.0.7");
    assert_eq!(hear(&mut machine, 0, "10.1.0.7", beacon(1, 49152)), [publish(expected.clone())]);
    assert_eq!(hear(&mut machine, 100, "10.1.0.7", beacon(1, 49152)), []);
    assert_eq!(hear(&mut machine, 1000, "10.1.0.7", beacon(1, 49152)), [publish_again(expected)]);
    // Another port is news, and so is its end.
    assert_eq!(hear(&mut machine, 1001, "10.1.0.7", beacon(1, 5)), [publish(packet(1, 5, "10.1.0.7"))]);
    assert_eq!(hear(&mut machine, 1002, "10.1.0.7", beacon(1, 0)), [publish(packet(1, 0, "10.1.0.7"))]);
    assert_eq!(hear(&mut machine, 1003, "10.1.0.7", beacon(1, 0)), []);
    assert_eq!(machine.counters().nodes_here, 0);
}

#[test]
fn secured_nodes_are_carried_as_well() {
    let mut secure = [&beacon(1, 49152)[..], &[7; 32]].concat();
    secure[3] = 3;
    let mut here = machine(Config::default());
    let outputs = hear(&mut here, 0, "10.1.0.7", secure.clone().into());
    let carried: Bytes = [&secure[..], b"10.1.0.7"].concat().into();
    assert_eq!(outputs, [publish(carried.clone())]);
    let mut there = RepeaterMachine::new(Config::default(), vec![lan("10.2.0.1")], at(0));
    assert_eq!(take(&mut there, 0, "10.1.0.1:2340", carried.clone()), [tell(carried)]);
}

#[test]
fn what_was_repeated_is_never_repeated_again() {
    for config in [Config::default(), standing_in()] {
        let mut machine = machine(config);
        assert_eq!(hear(&mut machine, 0, "10.1.0.9", packet(1, 49152, "10.2.0.7")), []);
        assert_eq!(hear(&mut machine, 0, "10.1.0.9", packet(1, 49152, "10.2.0.710.1.0.9")), []);
        assert_eq!(hear(&mut machine, 0, "10.1.0.9", beacon(1, 23400)), []);
        assert_eq!(hear(&mut machine, 0, "10.1.0.9", beacon(1, 0)), []);
        assert_eq!(machine.counters().published, 0);
    }
}

#[test]
fn what_others_publish_is_told_here_once_an_interval_and_never_published() {
    let mut machine = machine(Config::default());
    let said = packet(1, 49152, "10.2.0.7");
    assert_eq!(take(&mut machine, 0, OTHER, said.clone()), [tell(said.clone())]);
    // Another repeater of that LAN brings the same.
    assert_eq!(take(&mut machine, 3, "10.2.0.2:2340", said.clone()), []);
    assert_eq!(take(&mut machine, 1000, "10.2.0.2:2340", said.clone()), [tell(said.clone())]);
    assert_eq!(take(&mut machine, 1002, OTHER, said), []);
    let leave = packet(1, 0, "10.2.0.7");
    assert_eq!(take(&mut machine, 1003, OTHER, leave.clone()), [tell(leave.clone())]);
    assert_eq!(take(&mut machine, 1004, "10.2.0.2:2340", leave), []);
    assert_eq!(machine.counters().published, 0);
    assert_eq!(machine.counters().nodes_elsewhere, 0);
}

#[test]
fn a_node_is_here_or_elsewhere_and_not_both() {
    let mut machine = machine(Config::default());
    hear(&mut machine, 0, "10.1.0.7", beacon(1, 49152));
    // Whoever says that it is elsewhere, or gone, is not believed.
    assert_eq!(take(&mut machine, 100, OTHER, packet(1, 49152, "10.2.0.7")), []);
    assert_eq!(take(&mut machine, 100, OTHER, packet(1, 0, "10.1.0.7")), []);
    // One that was silent here for long may have moved.
    let moved = packet(1, 49152, "10.2.0.7");
    assert_eq!(take(&mut machine, 5000, OTHER, moved.clone()), [tell(moved.clone())]);
    // One place elsewhere is believed at a time.
    assert_eq!(take(&mut machine, 5100, THIRD, packet(1, 49152, "10.3.0.7")), []);
    assert_eq!(take(&mut machine, 5100, THIRD, packet(1, 0, "10.3.0.7")), []);
    let moved = packet(1, 49152, "10.3.0.7");
    assert_eq!(take(&mut machine, 9100, THIRD, moved.clone()), [tell(moved)]);
    // Its own beacon here counts more than all of that.
    let here = publish(packet(1, 49152, "10.1.0.7"));
    assert_eq!(hear(&mut machine, 9200, "10.1.0.7", beacon(1, 49152)), [here]);
    assert_eq!(machine.counters().contradicted, 4);
}

#[test]
fn of_two_repeaters_on_a_lan_the_second_speaks_when_the_first_is_silent() {
    let mut second = RepeaterMachine::new(Config::default(), vec![lan("10.1.0.2")], at(0));
    let said = packet(1, 49152, "10.2.0.7");
    let is_heard = |machine: &mut RepeaterMachine, ms| hear(machine, ms, "10.1.0.1", said.clone());
    // It can't know of the other yet.
    assert_eq!(take(&mut second, 0, OTHER, said.clone()), [tell(said.clone())]);
    assert_eq!(is_heard(&mut second, 1), []);
    for second_s in 1..5 {
        let ms = second_s * 1000;
        assert_eq!(take(&mut second, ms, OTHER, said.clone()), []);
        assert_eq!(is_heard(&mut second, ms + 2), []);
        assert_eq!(wait(&mut second, ms + 50), []);
    }
    // The first one is gone.
    assert_eq!(take(&mut second, 5000, OTHER, said.clone()), []);
    assert_eq!(wait(&mut second, 5050), [tell(said.clone())]);
    for ms in [6000, 7000, 8000, 9000] {
        take(&mut second, ms, OTHER, said.clone());
        wait(&mut second, ms + 50);
    }
    assert_eq!(take(&mut second, 10_000, OTHER, said.clone()), [tell(said.clone())]);
    // The first one need not wait for the second.
    let mut first = machine(Config::default());
    assert_eq!(take(&mut first, 0, OTHER, said.clone()), [tell(said.clone())]);
    assert_eq!(hear(&mut first, 10, "10.1.0.2", said.clone()), []);
    assert_eq!(take(&mut first, 1000, OTHER, said.clone()), [tell(said)]);
}

#[test]
fn a_node_that_comes_is_told_of_all_elsewhere_and_a_subscriber_of_all_here() {
    let mut machine = machine(Config::default());
    let far = packet(1, 49152, "10.2.0.7");
    take(&mut machine, 0, OTHER, far.clone());
    take(&mut machine, 0, OTHER, packet(2, 49152, "10.2.0.8"));
    take(&mut machine, 0, OTHER, packet(2, 0, "10.2.0.8"));
    let near = packet(3, 49153, "10.1.0.7");
    let introduced = Output::Tell { lan: 0, to: Some(socket("10.1.0.7:5670")), datagram: far };
    let expected = [introduced.clone(), publish(near.clone())];
    assert_eq!(hear(&mut machine, 10, "10.1.0.7", beacon(3, 49153)), expected);
    // Twice more, because some of it may be lost.
    assert_eq!(wait(&mut machine, 209), []);
    assert_eq!(wait(&mut machine, 210), vec![introduced.clone()]);
    assert_eq!(wait(&mut machine, 410), [introduced]);
    assert_eq!(wait(&mut machine, 610), []);
    let subscriber = Subscriber(7);
    let greeting = Output::Publish { to: Some(subscriber), packet: near, is_news: true };
    assert_eq!(feed(&mut machine, 620, Input::Subscribed(subscriber)), [greeting]);
    // Who subscribes a moment after a farewell gets it as well, but not what was elsewhere.
    hear(&mut machine, 700, "10.1.0.7", beacon(3, 0));
    let packet = packet(3, 0, "10.1.0.7");
    let farewell = Output::Publish { to: Some(subscriber), packet, is_news: true };
    assert_eq!(feed(&mut machine, 800, Input::Subscribed(subscriber)), [farewell]);
    wait(&mut machine, 6000);
    assert_eq!(feed(&mut machine, 6000, Input::Subscribed(subscriber)), []);
}

/// A node that lost its power is forgotten after half a minute only, and may be there again under another identity before.
#[test]
fn who_comes_is_not_told_of_the_dead() {
    let mut machine = machine(Config::default());
    for (number, host) in [(1, 7), (2, 8)] {
        hear(&mut machine, 0, &format!("10.1.0.{host}"), beacon(number, 49152));
        take(&mut machine, 0, OTHER, packet(number + 10, 49152, &format!("10.2.0.{host}")));
    }
    // One of each is there again at the same place.
    for ms in [1000, 2000] {
        hear(&mut machine, ms, "10.1.0.7", beacon(3, 49152));
        take(&mut machine, ms, OTHER, packet(13, 49152, "10.2.0.7"));
    }
    let (dead_here, dead_there) = (packet(2, 49152, "10.1.0.8"), packet(12, 49152, "10.2.0.8"));
    let (alive_here, alive_there) = (packet(3, 49152, "10.1.0.7"), packet(13, 49152, "10.2.0.7"));
    let mut told_at = |ms, number: u64| {
        let address = format!("10.1.0.{number}");
        let place = socket(&format!("{address}:5670"));
        let outputs = hear(&mut machine, ms, &address, beacon(number, 49152)).into_iter();
        let told = outputs.filter_map(|output| match output {
            Output::Tell { to, datagram, .. } if to == Some(place) => Some(datagram),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        let outputs = feed(&mut machine, ms, Input::Subscribed(Subscriber(number))).into_iter();
        let greeted = outputs.filter_map(|output| match output {
            Output::Publish { to: Some(_), packet, .. } => Some(packet),
            _ => None,
        });
        (told, greeted.collect::<Vec<_>>())
    };
    let own = |number: u64| packet(number, 49152, &format!("10.1.0.{number}"));
    let told = (vec![dead_there, alive_there.clone()], vec![dead_here, alive_here.clone(), own(20)]);
    assert_eq!(told_at(2500, 20), told);
    assert_eq!(told_at(5000, 21), (vec![alive_there], vec![alive_here, own(20), own(21)]));
    assert_eq!(told_at(7000, 22), (vec![], vec![own(21), own(22)]));
}

#[test]
fn who_subscribes_again_and_again_is_not_told_without_end() {
    let mut machine = machine(Config::default());
    for number in 0..100 {
        hear(&mut machine, 0, "10.1.0.7", beacon(number, 49152));
    }
    let mut told = 0;
    for number in 0..10_000 {
        told += feed(&mut machine, 1000, Input::Subscribed(Subscriber(number))).len();
    }
    assert_eq!(told, GREETED_BURST);
    assert_eq!(machine.counters().greeted, GREETED_BURST as u64);
}

#[test]
fn several_lans_hear_of_each_other() {
    let mut machine = RepeaterMachine::new(Config::default(), vec![lan("10.1.0.1"), lan("10.4.0.1")], at(0));
    let said = packet(1, 49152, "10.4.0.7");
    assert_eq!(hear(&mut machine, 0, "10.4.0.7", beacon(1, 49152)), [publish(said.clone()), tell(said)]);
    assert_eq!(hear(&mut machine, 0, "10.5.0.7", beacon(2, 49152)), []);
    let far = packet(3, 49152, "10.2.0.7");
    let told = |lan| Output::Tell { lan, to: None, datagram: far.clone() };
    assert_eq!(take(&mut machine, 0, OTHER, far.clone()), [told(0), told(1)]);
}

#[test]
fn filters_hold_back_both_ways_and_an_advertised_address_goes_out() {
    let deny = |network: &str| Filter { allow: vec![], deny: vec![network.parse().unwrap()] };
    let mut machine = machine(Config {
        advertise: Some("192.0.2.7".parse().unwrap()),
        publish: deny("10.1.0.128/25"),
        accept: deny("10.2.0.0/24"),
        ..Config::default()
    });
    let expected = publish(packet(1, 49152, "192.0.2.7"));
    assert_eq!(hear(&mut machine, 0, "10.1.0.7", beacon(1, 49152)), [expected]);
    assert_eq!(hear(&mut machine, 0, "10.1.0.200", beacon(2, 49152)), []);
    assert_eq!(take(&mut machine, 0, OTHER, packet(3, 49152, "10.2.0.7")), []);
    // What comes back from a repeater beside us.
    assert_eq!(take(&mut machine, 0, OTHER, packet(4, 49152, "192.0.2.7")), []);
    assert_eq!((machine.counters().filtered, machine.counters().contradicted), (2, 1));
}

#[test]
fn repeaters_are_those_of_all_registries_but_ourselves_and_dont_ip() {
    let mut machine = machine(Config { dont_ip: vec!["10.9.0.1".parse().unwrap()], ..Config::default() });
    let found = |places: &[&str]| places.iter().map(|place| socket(place)).collect::<BTreeSet<_>>();
    let first = found(&["10.1.0.1:2340", OTHER, "10.9.0.1:2340", "0.0.0.0:2340", "10.8.0.1:0"]);
    let mut find = |registry, repeaters| feed(&mut machine, 0, Input::Found { registry, repeaters });
    assert_eq!(find(0, first), [Output::Link(socket(OTHER))]);
    assert_eq!(find(1, found(&[OTHER, THIRD])), [Output::Link(socket(THIRD))]);
    assert_eq!(find(0, found(&[])), []);
    assert_eq!(find(1, found(&[THIRD])), [Output::Unlink(socket(OTHER))]);
    let many: BTreeSet<_> = (0..1000).map(|port| SocketAddr::from(([10, 7, 0, 1], 1 + port))).collect();
    assert_eq!(find(0, many).len(), REPEATERS_MAX - 1);
}

#[test]
fn a_stand_in_is_told_with_a_port_of_ours_once_it_listens() {
    let mut machine = machine(standing_in());
    let place = RemotePlace { inbox: socket("10.2.0.7:49152"), repeater: socket(OTHER) };
    let stand_in = |port| Output::StandIn { peer: peer(1), port, place };
    let listens = |port, is_there| Input::StandsIn { peer: peer(1), port, is_there };
    assert_eq!(take(&mut machine, 0, OTHER, packet(1, 49152, "10.2.0.7")), [stand_in(23400)]);
    assert_eq!(machine.stand_in_of(peer(1), peer(9)), None);
    // Another program has the port.
    assert_eq!(feed(&mut machine, 1, listens(23400, false)), [stand_in(23401)]);
    assert_eq!(feed(&mut machine, 2, listens(23401, true)), [tell(beacon(1, 23401))]);
    assert_eq!(take(&mut machine, 1000, OTHER, packet(1, 49152, "10.2.0.7")), [tell(beacon(1, 23401))]);
    hear(&mut machine, 1001, "10.1.0.9", beacon(9, 49152));
    wait(&mut machine, 1201);
    wait(&mut machine, 1401);
    assert_eq!(machine.stand_in_of(peer(1), peer(9)), Some(socket("10.1.0.1:23401")));
    // The node has another port now; the stand-in stays.
    let place = RemotePlace { inbox: socket("10.2.0.7:5"), ..place };
    let moved = Output::StandIn { peer: peer(1), port: 23401, place };
    assert_eq!(take(&mut machine, 2000, OTHER, packet(1, 5, "10.2.0.7")), [moved, tell(beacon(1, 23401))]);
    let leave = [tell(beacon(1, 0)), Output::EndStandIn(peer(1))];
    assert_eq!(take(&mut machine, 2100, OTHER, packet(1, 0, "10.2.0.7")), leave);
}

/// On Docker's overlays all hosts have one network, and broadcasts do not cross: nodes elsewhere look like neighbours.
#[test]
fn a_node_elsewhere_may_have_an_address_of_our_network() {
    let said = packet(1, 49152, "10.1.0.8");
    assert_eq!(take(&mut machine(Config::default()), 0, OTHER, said.clone()), [tell(said.clone())]);
    // A neighbour would be heard before its second beacon has come by another repeater.
    let mut machine = machine(standing_in());
    assert_eq!(take(&mut machine, 0, OTHER, said.clone()), []);
    assert!(matches!(take(&mut machine, 1000, OTHER, said)[..], [Output::StandIn { port: 23400, .. }]));
    let beside = packet(2, 49152, "10.1.0.9");
    assert_eq!(take(&mut machine, 0, OTHER, beside.clone()), []);
    assert_eq!(hear(&mut machine, 900, "10.1.0.9", beacon(2, 49152)), [publish(beside.clone())]);
    assert_eq!(take(&mut machine, 1000, OTHER, beside), []);
}

#[test]
fn without_a_free_port_a_node_is_not_told_of() {
    let mut machine = machine(Config { stand_in_ports: 23400..=23400, ..standing_in() });
    assert_eq!(take(&mut machine, 0, OTHER, packet(1, 49152, "10.2.0.7")).len(), 1);
    assert_eq!(take(&mut machine, 0, OTHER, packet(2, 49152, "10.2.0.8")), []);
    assert!(machine.counters().over_limit > 0);
    take(&mut machine, 100, OTHER, packet(1, 0, "10.2.0.7"));
    assert_eq!(take(&mut machine, 200, OTHER, packet(3, 49152, "10.2.0.9")).len(), 1);
}

#[test]
fn who_is_silent_for_long_is_forgotten() {
    let mut machine = machine(standing_in());
    for ms in [0, 1000] {
        hear(&mut machine, ms, "10.1.0.7", beacon(1, 49152));
        take(&mut machine, ms, OTHER, packet(2, 49152, "10.2.0.7"));
    }
    // Heard of once only.
    take(&mut machine, 1000, OTHER, packet(3, 49152, "10.2.0.8"));
    assert_eq!(wait(&mut machine, 6000), [Output::EndStandIn(peer(3))]);
    assert_eq!(wait(&mut machine, 30_900), []);
    assert_eq!((machine.counters().nodes_here, machine.counters().nodes_elsewhere), (1, 1));
    assert_eq!(wait(&mut machine, 31_950), [Output::EndStandIn(peer(2))]);
    assert_eq!((machine.counters().nodes_here, machine.counters().nodes_elsewhere), (0, 0));
    assert_eq!(machine.deadline(), None);
}

#[test]
fn a_mad_machine_is_held_to_the_budget_and_its_inventions_are_forgotten_early() {
    let mut machine = machine(Config::default());
    hear(&mut machine, 0, "10.1.0.7", beacon(0, 49152));
    let mut published = 0;
    for number in 1..20_000 {
        published += hear(&mut machine, number / 2, "10.1.0.66", beacon(number, 49152)).len();
        if number % 2000 == 0 {
            // Who was there before is heard as ever.
            assert_eq!(hear(&mut machine, number / 2, "10.1.0.7", beacon(0, 49152)).len(), 1);
        }
    }
    let most = NEWCOMERS_BURST as u64 + 10 * u64::from(NEWCOMERS_PER_SECOND);
    assert!((1000..=most as usize).contains(&published), "{published}");
    wait(&mut machine, 16_000);
    assert_eq!(machine.counters().nodes_here, 1);
}

#[test]
fn messages_that_are_no_packets_are_counted_and_ignored() {
    let mut machine = machine(Config::default());
    let good = packet(1, 49152, "10.2.0.7");
    for message in [vec![], vec![good.clone(), good], vec![Bytes::new()], vec![beacon(1, 49152)]] {
        assert_eq!(feed(&mut machine, 0, Input::Published { by: socket(OTHER), message }), []);
    }
    assert_eq!(machine.counters().packets_malformed, 4);
}

/// Beacons, packets and garbage from a few nodes at a few places.
fn any_input() -> impl Strategy<Value = (u64, Input)> {
    let address = (1..5_u8, 1..4_u8).prop_map(|(net, host)| format!("10.{net}.0.{host}"));
    let port = prop_oneof![Just(0_u16), Just(49152), Just(49153), Just(23400), Just(23401)];
    let bytes = prop_oneof![
        4 => (0..6_u64, port.clone()).prop_map(|(number, port)| beacon(number, port)),
        4 => (0..6_u64, port.clone(), address.clone()).prop_map(|(number, port, origin)| packet(number, port, &origin)),
        1 => proptest::collection::vec(any::<u8>(), 0..70).prop_map(Bytes::from),
    ];
    let input = prop_oneof![
        4 => (address.clone(), bytes.clone()).prop_map(|(from, datagram)| {
            Input::Heard { from: SocketAddr::new(from.parse().unwrap(), 1), datagram }
        }),
        4 => (address, proptest::collection::vec(bytes, 0..3)).prop_map(|(by, message)| {
            Input::Published { by: SocketAddr::new(by.parse().unwrap(), 2340), message }
        }),
        1 => (0..6_u64, port, any::<bool>())
            .prop_map(|(number, port, is_there)| Input::StandsIn { peer: peer(number), port, is_there }),
        1 => Just(Input::Subscribed(Subscriber(1))),
        1 => Just(Input::Timeout),
    ];
    (prop_oneof![Just(1_u64), Just(40), Just(800), Just(7000)], input)
}

proptest! {
    /// Whatever happens: nothing that others published is published, and each node is told of once an interval.
    #[test]
    fn nothing_loops_and_nothing_is_told_too_often(
        inputs in proptest::collection::vec(any_input(), 0..120),
        stands_in: bool,
        relay: bool,
    ) {
        let config = if stands_in { Config { relay, ..standing_in() } } else { Config::default() };
        let mut machine = machine(config);
        let (mut now, mut told) = (0, BTreeMap::<Bytes, u64>::new());
        for (pause, input) in inputs {
            now += pause;
            let heard = match &input {
                Input::Heard { datagram, .. } => Some(datagram.clone()),
                _ => None,
            };
            machine.handle(at(now), input);
            while let Some(output) = machine.poll() {
                match output {
                    Output::Publish { to: None, packet, .. } => {
                        let packet = Packet::decode(&packet).unwrap();
                        prop_assert_eq!(heard.as_deref(), Some(packet.beacon.as_bytes()));
                    }
                    Output::Publish { to: Some(_), packet, .. } => prop_assert!(Packet::decode(&packet).is_ok()),
                    Output::Tell { to: None, datagram, .. } => {
                        let last = told.insert(datagram.clone(), now);
                        let is_leave = datagram[20..22] == [0, 0];
                        // A node that changes its port, or leaves, and comes back is told of at once.
                        let is_changed = stands_in || is_leave || machine.counters().nodes_elsewhere > 0;
                        prop_assert!(is_changed || last.is_none_or(|last| now - last >= 700));
                        prop_assert_eq!(datagram.len() == 22, stands_in);
                    }
                    _ => {}
                }
            }
            if let Some(deadline) = machine.deadline() {
                prop_assert!(deadline > at(now));
            }
        }
    }
}

/// Twenty repeaters in a full mesh, fifty nodes each that beacon every second for ten seconds.
#[test]
fn twenty_sites_of_fifty_nodes_are_told_of_each_beacon_once_an_interval() {
    const SITES: u64 = 20;
    const NODES: u64 = 50;
    const SECONDS: u64 = 10;
    let address = |site: u64, host: u64| format!("10.{site}.0.{host}");
    let mut machines: Vec<_> = (0..SITES)
        .map(|site| RepeaterMachine::new(Config::default(), vec![lan(&address(site, 250))], at(0)))
        .collect();
    let (mut told, mut published) = (vec![BTreeMap::<PeerId, u64>::new(); SITES as usize], 0);
    for second in 0..SECONDS {
        for node in 0..NODES {
            for site in 0..SITES {
                let ms = second * 1000 + node * 20;
                let (number, by) = (site * NODES + node, address(site, 250) + ":2340");
                let outputs =
                    hear(&mut machines[site as usize], ms, &address(site, node + 1), beacon(number, 49152));
                for output in outputs {
                    let Output::Publish { to: None, packet, .. } = output else { continue };
                    published += 1;
                    for (other, machine) in
                        machines.iter_mut().enumerate().filter(|(at, _)| *at as u64 != site)
                    {
                        for output in take(machine, ms, &by, packet.clone()) {
                            if matches!(output, Output::Tell { to: None, .. }) {
                                *told[other].entry(peer(number)).or_default() += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(published, SITES * NODES * SECONDS);
    for told in told {
        assert_eq!(told.len() as u64, (SITES - 1) * NODES);
        assert!(told.values().all(|count| *count == SECONDS));
    }
}
