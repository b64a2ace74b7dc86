//! A plausible run: a LAN that loses packets, nodes that fail in every way, and steady messages.
//!
//! It is drawn, not simulated: times come from distributions with the right shapes. Every property holds.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::scenario::{Action, Crash, Expect, NodeIndex, Property, Step};
use crate::trace::{Count, Drop, Kind, Record, Subject, Trace, Traffic, What};

use super::{Run, peer, scenario, secs};

const DURATION: f64 = 90.0;
const GROUP: &str = "fleet";
/// Node, number, begin, end.
type Life = (u32, u32, f64, Option<(f64, Crash)>);

struct Draw(ChaCha8Rng);

impl Draw {
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// How long until the first beacon that is not lost.
    fn discovery(&mut self) -> f64 {
        let mut wait = self.between(0.004, 0.03);
        while self.unit() < 0.12 {
            wait += self.between(0.4, 1.0);
        }
        wait
    }

    fn latency(&mut self) -> f64 {
        let resent = if self.unit() < 0.02 { self.between(0.2, 0.24) } else { 0.0 };
        0.0016 * (0.45 * self.bell()).exp() + resent
    }
}

/// A run of at least 6 nodes, with a power cut, a killed process, a stop, restarts and a pause.
pub(crate) fn lan(nodes: u32, seed: u64) -> Run {
    assert!(nodes >= 6, "a node for each kind of fault, and some to watch");
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
    let (cut, killed, stopped, paused) = (1, 2, 4, 3);
    let pause = (60.0, 67.5);
    let mut lives: Vec<Life> = Vec::new();
    for node in 0..nodes {
        let start = f64::from(node) * 0.05;
        let down = match node {
            _ if node == cut => Some((12.0, Crash::PowerCut)),
            _ if node == killed => Some((16.0, Crash::ProcessExit)),
            _ if node == stopped => Some((24.0, Crash::Stop)),
            _ => None,
        };
        lives.push((node, 0, start, down));
    }
    lives.push((killed, 1, 20.0, None));
    lives.push((cut, 1, 50.0, None));

    let mut records: Vec<(f64, u32, What)> = Vec::new();
    for (node, life, up, down) in &lives {
        records.push((*up, *node, What::Up { life: *life, peer: peer(*node, *life) }));
        records.push((*up, *node, What::Joined(GROUP.to_owned())));
        if let Some((at, crash)) = down {
            records.push((*at, *node, What::Down(*crash)));
        }
    }
    records.push((pause.0, paused, What::Paused));
    records.push((pause.1, paused, What::Resumed));

    // Who knows whom, from when to when.
    let mut known: BTreeMap<(usize, usize), (f64, f64)> = BTreeMap::new();
    for (watcher, &(node, _, up, down)) in lives.iter().enumerate() {
        for (watched, &(other, other_life, other_up, other_down)) in lives.iter().enumerate() {
            if node == other {
                continue;
            }
            let end = down.map_or(DURATION, |(at, _)| at);
            let other_end = other_down.map_or(DURATION, |(at, _)| at);
            let enter = up.max(other_up) + draw.discovery();
            if up.max(other_up) >= end.min(other_end) || enter >= end.min(other_end) {
                continue;
            }
            let subject = Subject::Life(NodeIndex(other), other_life);
            records.push((enter, node, What::Enter(subject)));
            records.push((enter, node, What::Join(subject, GROUP.to_owned())));
            let mut until = f64::INFINITY;
            if let Some((at, crash)) = other_down.filter(|(at, _)| *at < end) {
                let (notice, reason) = match crash {
                    Crash::PowerCut => (draw.between(29.2, 30.9), "expired"),
                    Crash::ProcessExit => (draw.between(0.003, 0.02), "refused"),
                    Crash::Stop => (draw.between(0.001, 0.006), "left"),
                };
                if crash == Crash::PowerCut {
                    records.push((at + draw.between(4.2, 5.1), node, What::Evasive(subject)));
                    records.push((at + draw.between(9.3, 10.1), node, What::Silent(subject)));
                }
                until = at + notice;
                records.push((until, node, What::Exit(subject, reason.to_owned())));
            }
            if other == paused {
                records.push((pause.0 + draw.between(4.2, 5.1), node, What::Evasive(subject)));
            }
            known.insert((watcher, watched), (enter, until));
        }
    }
    say_things(&mut draw, &lives, &known, (paused, pause), &mut records);

    records.retain(|(at, node, what)| {
        let is_script = matches!(what, What::Up { .. } | What::Down(_) | What::Paused | What::Resumed);
        let runs = lives
            .iter()
            .any(|(whose, _, up, down)| whose == node && at >= up && down.is_none_or(|(end, _)| *at < end));
        is_script || (*at < DURATION && runs && !(*node == paused && *at >= pause.0 && *at < pause.1))
    });
    records.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let record = |(at, node, what): (f64, u32, What)| Record { at: secs(at), node: NodeIndex(node), what };
    let records: Vec<Record> = records.into_iter().map(record).collect();

    let duration = Duration::from_secs_f64(DURATION);
    let mut scenario = scenario(nodes, duration);
    scenario.name = format!("lan-{nodes}");
    scenario.about = format!(
        "{nodes} nodes on one lossy LAN find each other, lose a node in each of the three ways in which nodes are lost, \
         and talk all the while."
    );
    for (node, _, up, _) in lives.iter().filter(|(_, life, ..)| *life == 0) {
        scenario.nodes[*node as usize].start = Duration::from_secs_f64(*up);
    }
    let step = |at: f64, node: u32, action: Action, line: usize| Step {
        at: Duration::from_secs_f64(at),
        nodes: vec![NodeIndex(node)],
        action,
        line,
    };
    scenario.steps = vec![
        step(12.0, cut, Action::Crash(Crash::PowerCut), 30),
        step(16.0, killed, Action::Crash(Crash::ProcessExit), 35),
        step(20.0, killed, Action::Restart, 40),
        step(24.0, stopped, Action::Crash(Crash::Stop), 45),
        step(50.0, cut, Action::Restart, 50),
        step(pause.0, paused, Action::Pause, 55),
        step(pause.1, paused, Action::Resume, 60),
    ];
    let expect =
        |that, by: Option<u64>, line| Expect { that, among: None, by: by.map(Duration::from_secs), line };
    scenario.expects = vec![
        expect(Property::EveryoneKnowsEveryone, Some(11), 65),
        expect(Property::TheDeadAreGone, Some(45), 69),
        expect(Property::EveryoneKnowsEveryone, Some(58), 73),
        expect(Property::NoLivePeerExits, None, 77),
        expect(Property::NobodyUnknownAppears, None, 80),
        expect(Property::ShoutsArriveOnceAndInOrder, None, 83),
        expect(Property::WhispersArriveOnceAndInOrder, None, 86),
    ];
    let traffic = (0..nodes).map(|node| traffic(&mut draw, node, nodes)).collect();
    let digest = blake3::hash(format!("{records:?}").as_bytes()).to_hex().to_string();
    Run { scenario, trace: Trace { seed, duration, records, traffic, loads: Vec::new(), digest } }
}

/// Every running node shouts once a second and whispers to its neighbour every other second.
fn say_things(
    draw: &mut Draw,
    lives: &[Life],
    known: &BTreeMap<(usize, usize), (f64, f64)>,
    (paused, pause): (u32, (f64, f64)),
    records: &mut Vec<(f64, u32, What)>,
) {
    let mut latest: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for (sender, &(node, life, up, down)) in lives.iter().enumerate() {
        let end = down.map_or(DURATION, |(at, _)| at);
        let mut at = up.max(4.0) + f64::from(node) * 0.031;
        let mut number = 0;
        while at < end {
            if node == paused && at >= pause.0 && at < pause.1 {
                at += 1.0;
                continue;
            }
            let from = Subject::Life(NodeIndex(node), life);
            let is_known = |other: &usize| {
                known.get(&(sender, *other)).is_some_and(|(enter, exit)| *enter < at && at < *exit)
            };
            let mut receivers: Vec<usize> = (0..lives.len()).filter(is_known).collect();
            let is_shout = number % 3 != 2;
            let bytes = 256;
            if is_shout {
                records.push((at, node, What::SentShout { group: GROUP.to_owned(), number, bytes }));
            } else {
                receivers.retain(|other| lives[*other].0 > node);
                receivers.truncate(1);
                let Some(to) = receivers.first() else {
                    at += 1.0;
                    continue;
                };
                let to = Subject::Life(NodeIndex(lives[*to].0), lives[*to].1);
                records.push((at, node, What::SentWhisper { to, number, bytes }));
            }
            for receiver in receivers {
                let mut arrives = at + draw.latency();
                if lives[receiver].0 == paused && arrives >= pause.0 && arrives < pause.1 {
                    arrives = pause.1 + draw.between(0.001, 0.01);
                }
                let before = latest.entry((sender, receiver)).or_default();
                arrives = arrives.max(*before + 1e-6);
                *before = arrives;
                let number = Some(number);
                let what = if is_shout {
                    What::GotShout { from, group: GROUP.to_owned(), number, is_intact: true }
                } else {
                    What::GotWhisper { from, number, is_intact: true }
                };
                if lives[receiver].3.is_none_or(|(end, _)| arrives < end) {
                    records.push((arrives, lives[receiver].0, what));
                }
            }
            number += 1;
            at += if is_shout { 0.7 } else { 1.1 };
        }
    }
}

fn traffic(draw: &mut Draw, node: u32, nodes: u32) -> Traffic {
    let others = u64::from(nodes - 1);
    let jitter = |draw: &mut Draw, mean: u64| (mean as f64 * draw.between(0.97, 1.03)) as u64;
    let mut traffic = Traffic::default();
    let mut both = |kind, sent: u64, received: u64, bytes: u64| {
        traffic.sent.insert(kind, Count { packets: sent, bytes: sent * bytes });
        traffic.received.insert(kind, Count { packets: received, bytes: received * bytes });
    };
    let seconds = 90 - u64::from(node % 7);
    both(Kind::Beacon, seconds, jitter(draw, seconds * others * 95 / 100), 50);
    both(Kind::TcpHandshake, others * 2, others * 2, 60);
    both(Kind::TcpData, jitter(draw, others * 95), jitter(draw, others * 95), 330);
    both(Kind::TcpRetransmit, jitter(draw, others * 3), jitter(draw, others * 3), 330);
    both(Kind::TcpControl, jitter(draw, others * 90), jitter(draw, others * 90), 52);
    both(Kind::TcpReset, u64::from(node % 3), u64::from(node % 2), 40);
    let mut lost = |cause, packets: u64, bytes: u64| {
        traffic.dropped.insert(cause, Count { packets, bytes: packets * bytes });
    };
    lost(Drop::Loss, jitter(draw, others * 14), 180);
    lost(Drop::NoHost, u64::from(node % 4) * 3, 120);
    traffic
}
