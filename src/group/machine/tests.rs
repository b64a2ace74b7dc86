//! Machines stepped by hand: datagrams and outcomes in, orders and events out.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::super::announcement::Announcement;
use super::super::config::Config;
use super::super::event::Reason;
use super::super::limits;
use super::super::message::Entry;
use super::super::uri::Uri;
use super::*;

const PORT: u16 = 40_000;

fn id(number: u8) -> MemberId {
    MemberId::from_bytes([number; 16])
}

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], port))
}

fn entry(number: u8) -> Entry {
    Entry {
        member: id(number),
        version: 1,
        port: 5000,
        health: HealthUri::answer(at(number, PORT)),
        service: Uri::parse("tcp://x:1").unwrap(),
        check: None,
    }
}

fn config() -> Config {
    let mut config = Config::new("g".parse().unwrap());
    config.service = Some(Uri::parse("tcp://*:1").unwrap());
    config
}

/// A machine, its time, and what it said.
struct Hand {
    machine: GroupMachine,
    now: Timestamp,
    events: Vec<Event>,
    /// Orders that nobody has answered yet.
    checks: Vec<(CheckId, Vec<HealthUri>)>,
    said: Vec<(Message, To)>,
    announced: usize,
    refuted: usize,
    lists: usize,
}

impl Hand {
    fn new(machine: GroupMachine) -> Self {
        let mut hand = Self {
            machine,
            now: Timestamp::ZERO,
            events: Vec::new(),
            checks: Vec::new(),
            said: Vec::new(),
            announced: 0,
            refuted: 0,
            lists: 0,
        };
        let own = Interface {
            name: "eth0".to_owned(),
            index: 2,
            address: at(1, 0).ip(),
            prefix: 24,
            broadcast: None,
            is_loopback: false,
            is_point_to_point: false,
            is_up: true,
        };
        hand.give(Input::Interfaces(vec![own]));
        hand
    }

    fn ours() -> Self {
        Self::new(GroupMachine::Evidence(Box::new(Evidence::new(&config(), id(1), 7, Timestamp::ZERO))))
    }

    fn pirs() -> Self {
        Self::new(GroupMachine::Pir(Box::new(Pir::new(&config(), id(1), Timestamp::ZERO))))
    }

    fn give(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Check { check, targets, .. } => self.checks.push((check, targets)),
                Output::Tell { message, to } => self.said.push((message, to)),
                Output::Announce { .. } => self.announced += 1,
                Output::Refute { .. } => self.refuted += 1,
                Output::FetchList { from, .. } => {
                    self.lists += 1;
                    self.machine.handle(self.now, Input::Listed { from, list: Some(List::default()) });
                }
                Output::Left => {}
            }
        }
    }

    /// Lets time pass, deadline by deadline; each check comes out after a millisecond as `outcome` says of its first target.
    fn pass(&mut self, seconds: f64, outcome: impl Fn(SocketAddr) -> Outcome) {
        let end = self.now.after(Duration::from_secs_f64(seconds));
        loop {
            for (check, targets) in std::mem::take(&mut self.checks) {
                self.now = self.now.after(Duration::from_micros(1));
                let outcome = outcome(targets[0].at);
                self.give(Input::Checked { check, outcome });
            }
            match self.machine.deadline().filter(|deadline| *deadline <= end) {
                Some(deadline) => {
                    self.now = self.now.max(deadline);
                    self.give(Input::Timeout);
                }
                None if self.checks.is_empty() => break,
                None => {}
            }
        }
        self.now = self.now.max(end);
    }

    fn hears(&mut self, number: u8, message: Message) {
        let told = Told { group: "g".parse().unwrap(), sender: id(number), message };
        self.give(Input::Told { told, from: at(number, 5000) });
    }

    fn hears_pir(&mut self, number: u8, health: SocketAddr) {
        let announcement = Announcement {
            group: "g".parse().unwrap(),
            member: id(number),
            health: HealthUri::answer(health),
            service: Uri::parse("tcp://x:1").unwrap(),
        };
        self.give(Input::Announced { announcement, from: at(number, 5000) });
    }

    fn take_events(&mut self) -> Vec<String> {
        let name = |event: Event| match event {
            Event::Added(member) => format!("+{}", member.id.as_bytes()[0]),
            Event::Removed(member, reason) => format!("-{} {reason}", member.id.as_bytes()[0]),
            Event::Changed(member) => format!("~{} {}", member.id.as_bytes()[0], member.health),
            Event::Suspect(member) => format!("?{}", member.id.as_bytes()[0]),
            Event::Left => "left".to_owned(),
        };
        std::mem::take(&mut self.events).into_iter().map(name).collect()
    }

    fn says(&self, wanted: impl Fn(&Message) -> bool) -> usize {
        self.said.iter().filter(|(message, _)| wanted(message)).count()
    }
}

fn well(_: SocketAddr) -> Outcome {
    Outcome::Answered(0)
}

/// All answer but this one.
fn but(number: u8, outcome: Outcome) -> impl Fn(SocketAddr) -> Outcome {
    move |target| if target.ip() == at(number, 0).ip() { outcome } else { Outcome::Answered(0) }
}

fn group_of(numbers: std::ops::RangeInclusive<u8>) -> Hand {
    let mut hand = Hand::ours();
    for number in numbers {
        hand.hears(number, Message::Here(entry(number)));
    }
    hand.pass(0.5, well);
    hand.take_events();
    hand
}

#[test]
fn nobody_is_added_without_an_answer() {
    let mut hand = Hand::ours();
    hand.hears(2, Message::Here(entry(2)));
    hand.hears_pir(3, at(3, PORT));
    hand.pass(60.0, |target| if target == at(3, PORT) { Outcome::Answered(0) } else { Outcome::Silent });
    assert_eq!(hand.take_events(), ["+3"]);
}

#[test]
fn a_newcomer_compares_lists_each_second_and_later_each_five() {
    let mut hand = group_of(2..=4);
    hand.pass(5.0, well);
    let early = std::mem::take(&mut hand.lists);
    assert!((5..=7).contains(&early), "{early} lists in the first seconds");
    hand.pass(20.0, well);
    assert!((3..=5).contains(&hand.lists), "{} lists in the next twenty", hand.lists);
}

#[test]
fn an_announcement_makes_nobody_dial_somebody_else() {
    let mut hand = Hand::ours();
    hand.hears_pir(3, at(9, PORT));
    hand.hears_pir(4, at(4, 22));
    let lie = Entry { check: Some(HealthUri::answer(at(9, PORT))), ..entry(5) };
    hand.hears(5, Message::Here(lie));
    hand.pass(5.0, well);
    assert_eq!(hand.take_events(), Vec::<String>::new());
}

#[test]
fn who_answers_nobody_is_suspect_first_and_then_gone() {
    let mut hand = group_of(2..=5);
    hand.pass(20.0, but(3, Outcome::Failed));
    assert_eq!(hand.take_events(), ["?3", "-3 failed"]);
    assert!(hand.says(|message| matches!(message, Message::Ask(_))) >= 3, "others were asked");
    let copies = hand.says(|message| matches!(message, Message::Suspect(_)));
    assert!((4..=6).contains(&copies), "{copies} copies of the suspicion");
}

#[test]
fn who_answers_another_stays_and_is_unreachable_in_the_end() {
    let mut hand = group_of(2..=3);
    for _ in 0..100 {
        hand.pass(0.3, but(3, Outcome::Failed));
        let is_asked = hand.says(|message| matches!(message, Message::Ask(_))) > 0;
        hand.said.clear();
        if is_asked {
            hand.hears(2, Message::Alive(vec![entry(3)]));
        }
    }
    assert_eq!(hand.take_events(), ["~3 unreachable"]);
    hand.pass(20.0, well);
    assert_eq!(hand.take_events(), ["~3 healthy"]);
}

#[test]
fn who_hears_all_and_reaches_nobody_is_sick_and_removes_nobody() {
    let mut hand = group_of(2..=4);
    for _ in 0..60 {
        (2..=4).for_each(|number| hand.hears(number, Message::Here(entry(number))));
        hand.pass(0.5, |_| Outcome::Silent);
    }
    let events = hand.take_events();
    assert!(events.iter().all(|event| event.ends_with("unreachable")), "{events:?}");
}

#[test]
fn who_hears_and_reaches_nobody_any_more_is_alone() {
    let mut hand = group_of(2..=4);
    hand.pass(10.0, |_| Outcome::Silent);
    assert_eq!(hand.machine.members(), []);
}

#[test]
fn a_false_suspicion_ends_with_our_own_check_and_all_hear_of_it() {
    let mut hand = group_of(2..=4);
    hand.hears(2, Message::Suspect(vec![(id(3), 0)]));
    hand.pass(3.0, well);
    assert_eq!(hand.take_events(), ["?3", "~3 healthy"]);
    assert!(
        hand.says(|message| matches!(message, Message::Alive(entries) if entries[0].member == id(3))) >= 1
    );
}

#[test]
fn who_is_suspected_himself_says_that_he_lives() {
    let mut hand = group_of(2..=3);
    hand.hears(2, Message::Suspect(vec![(id(1), 0)]));
    hand.pass(1.0, well);
    assert_eq!(hand.refuted, 2);
}

#[test]
fn strangers_and_would_be_members_are_not_believed() {
    let mut hand = group_of(2..=3);
    hand.hears(9, Message::Suspect(vec![(id(3), 60_000)]));
    hand.hears(9, Message::Alive(vec![entry(8)]));
    hand.hears(9, Message::Here(entry(9)));
    hand.hears(9, Message::Leave);
    // A member's name from another machine's address.
    let told = Told { group: "g".parse().unwrap(), sender: id(2), message: Message::Leave };
    hand.give(Input::Told { told, from: at(9, 5000) });
    hand.pass(1.0, but(9, Outcome::Silent));
    assert_eq!(hand.take_events(), Vec::<String>::new());
}

#[test]
fn who_takes_a_member_s_name_is_not_believed_in_it() {
    let mut hand = group_of(2..=4);
    let stolen = Entry { version: 9, health: HealthUri::answer(at(66, PORT)), ..entry(3) };
    for message in [Message::Here(stolen), Message::Leave, Message::Suspect(vec![(id(4), 60_000)])] {
        let told = Told { group: "g".parse().unwrap(), sender: id(3), message };
        hand.give(Input::Told { told, from: at(66, 5000) });
    }
    hand.pass(3.0, well);
    assert_eq!(hand.take_events(), Vec::<String>::new());
}

#[test]
fn a_goodbye_is_believed_at_once_and_for_good() {
    let mut hand = group_of(2..=3);
    hand.hears(3, Message::Leave);
    hand.hears(3, Message::Here(entry(3)));
    hand.hears(2, Message::Alive(vec![entry(3)]));
    hand.pass(5.0, well);
    assert_eq!(hand.take_events(), ["-3 left"]);
}

#[test]
fn a_member_that_moves_stays_a_member_under_its_new_address() {
    let mut hand = group_of(2..=3);
    let moved = Entry { version: 2, health: HealthUri::answer(at(33, PORT)), ..entry(3) };
    let told = Told { group: "g".parse().unwrap(), sender: id(3), message: Message::Here(moved.clone()) };
    hand.give(Input::Told { told, from: at(33, 5000) });
    // The old address is silent; the driver then tries the other.
    let end = hand.now.after(Duration::from_secs(5));
    while hand.now < end {
        for (check, targets) in std::mem::take(&mut hand.checks) {
            let place = targets.iter().position(|target| target.at != at(3, PORT));
            hand.give(Input::Checked { check, outcome: place.map_or(Outcome::Silent, Outcome::Answered) });
        }
        hand.now = hand.machine.deadline().unwrap_or(end).max(hand.now);
        hand.give(Input::Timeout);
    }
    assert_eq!(hand.take_events(), ["~3 healthy"]);
    let member = hand.machine.members().into_iter().find(|member| member.id == id(3)).unwrap();
    assert_eq!(member.health_uri, moved.health);
}

#[test]
fn a_live_member_is_not_moved_by_somebody_who_takes_its_name() {
    let mut hand = group_of(2..=3);
    let stolen = Entry { version: 9, health: HealthUri::answer(at(66, PORT)), ..entry(3) };
    let told = Told { group: "g".parse().unwrap(), sender: id(3), message: Message::Here(stolen) };
    hand.give(Input::Told { told, from: at(66, 5000) });
    hand.pass(10.0, well);
    let member = hand.machine.members().into_iter().find(|member| member.id == id(3)).unwrap();
    assert_eq!(member.health_uri.at, at(3, PORT));
}

#[test]
fn who_was_stopped_for_a_while_removes_nobody_for_it() {
    let mut hand = group_of(2..=3);
    // Checks are under way, the program stands still, and all of them time out at once.
    while hand.checks.len() < 2 {
        hand.now = hand.machine.deadline().unwrap();
        hand.give(Input::Timeout);
    }
    hand.now = hand.now.after(Duration::from_secs(30));
    for (check, _) in std::mem::take(&mut hand.checks) {
        hand.give(Input::Checked { check, outcome: Outcome::Silent });
    }
    hand.pass(5.0, well);
    assert_eq!(hand.take_events(), Vec::<String>::new());
}

#[test]
fn announcements_become_rarer_as_the_group_grows() {
    let mut hand = Hand::ours();
    hand.pass(10.0, well);
    let alone = hand.announced;
    assert!((9..=12).contains(&alone), "{alone} in 10 s");
    for number in 2..=101 {
        hand.hears(number, Message::Here(entry(number)));
    }
    hand.pass(30.0, well);
    hand.announced = 0;
    hand.pass(100.0, well);
    assert!((18..=23).contains(&hand.announced), "{} in 100 s, 101 members", hand.announced);
}

#[test]
fn one_address_makes_only_so_many_names_up() {
    let mut hand = Hand::ours();
    for number in 0..1000_u32 {
        let announcement = Announcement {
            group: "g".parse().unwrap(),
            member: MemberId::from_random(u128::from(number).to_be_bytes()),
            health: HealthUri::answer(at(6, PORT)),
            service: Uri::parse("tcp://x:1").unwrap(),
        };
        hand.give(Input::Announced { announcement, from: at(6, 5000) });
    }
    let mut asked = 0;
    let end = hand.now.after(Duration::from_secs(1));
    while let Some(deadline) = hand.machine.deadline().filter(|deadline| *deadline <= end) {
        hand.now = deadline.max(hand.now);
        hand.give(Input::Timeout);
        for (check, _) in std::mem::take(&mut hand.checks) {
            asked += 1;
            hand.give(Input::Checked { check, outcome: Outcome::Silent });
        }
    }
    let most = limits::OWN_CHECKS_BURST + limits::OWN_CHECKS_PER_S;
    assert!(asked as u64 <= most, "{asked} checks in a second");
}

#[test]
fn pir_s_rule_adds_at_once_and_removes_after_three_failures_and_again() {
    let mut hand = Hand::pirs();
    hand.hears_pir(3, at(3, PORT));
    assert_eq!(hand.take_events(), ["+3"]);
    hand.pass(3.9, |_| Outcome::Failed);
    assert_eq!(hand.take_events(), Vec::<String>::new());
    hand.pass(0.2, |_| Outcome::Failed);
    assert_eq!(hand.take_events(), ["-3 three-strikes"]);
    hand.hears_pir(3, at(3, PORT));
    assert_eq!(hand.take_events(), ["+3"]);
}

#[test]
fn pir_s_rule_forgives_one_failure_for_each_answer() {
    let mut hand = Hand::pirs();
    hand.hears_pir(3, at(3, PORT));
    for _ in 0..20 {
        hand.pass(4.0, |_| Outcome::Failed);
        hand.pass(4.0, well);
        hand.take_events();
    }
    assert_eq!(hand.machine.members().len(), 1);
}

/// What a driver could hand in, in any order.
fn inputs() -> impl Strategy<Value = Vec<(u8, u8, u8, u16)>> {
    proptest::collection::vec((0..10_u8, 2..8_u8, 2..8_u8, 0..2000_u16), 0..200)
}

proptest! {
    /// ADDED and REMOVED alternate for each member, its list agrees with them, and no order of inputs makes it panic.
    #[test]
    fn events_tell_what_the_list_has(script in inputs(), is_pir: bool) {
        let mut hand = if is_pir { Hand::pirs() } else { Hand::ours() };
        for (kind, one, other, wait_ms) in script {
            match kind {
                0 => hand.hears(one, Message::Here(entry(one))),
                1 => hand.hears(one, Message::Alive(vec![Entry { version: u32::from(wait_ms % 3), ..entry(other) }])),
                2 => hand.hears(one, Message::Suspect(vec![(id(other), wait_ms)])),
                3 => hand.hears(one, Message::Ask(vec![id(other)])),
                4 => hand.hears(one, Message::Leave),
                5 => hand.hears_pir(one, at(one, PORT)),
                6 => {
                    let moved = Entry { version: 2, health: HealthUri::answer(at(one + 50, PORT)), ..entry(one) };
                    let told = Told { group: "g".parse().unwrap(), sender: id(one), message: Message::Here(moved) };
                    hand.give(Input::Told { told, from: at(one + 50, 5000) });
                }
                7 => {
                    let list = List { entries: vec![entry(other)], gone: vec![id(one)] };
                    hand.give(Input::Listed { from: id(one), list: Some(list) });
                }
                8 => hand.now = hand.now.after(Duration::from_millis(wait_ms.into())),
                _ => hand.pass(f64::from(wait_ms) / 1e3, |target| match target.ip() {
                    ip if ip == at(one, 0).ip() => Outcome::Silent,
                    ip if ip == at(other, 0).ip() => Outcome::Failed,
                    _ => Outcome::Answered(0),
                }),
            }
        }
        let mut known = std::collections::BTreeSet::new();
        for event in &hand.events {
            match event {
                Event::Added(member) => prop_assert!(known.insert(member.id), "added twice"),
                Event::Removed(member, reason) => {
                    prop_assert!(known.remove(&member.id), "removed and not there");
                    prop_assert_eq!(*reason == Reason::ThreeStrikes, is_pir);
                }
                Event::Changed(member) | Event::Suspect(member) => {
                    prop_assert!(known.contains(&member.id), "told of somebody who is not there");
                }
                Event::Left => {}
            }
        }
        let listed: Vec<_> = hand.machine.members().into_iter().map(|member| member.id).collect();
        prop_assert_eq!(listed, known.into_iter().collect::<Vec<_>>());
    }
}
