//! Who answers on a segment: what address resolution (ARP, in IPv6 neighbour discovery) decides, without its packets.
//!
//! A machine whose neighbour answers pays nothing here. A packet for one that does not answer is lost for as long as the
//! sender would believe in what it knew, and then waits while the sender asks: once a second, three times, as on Linux.
//! When nobody answered, the sender of the packet is told that the host is unreachable; that may be the machine itself.
//!
//! Resolution suffers no loss: a link that loses everything is no reason to call a neighbour unreachable here.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use hailer::Timestamp;

use super::icmp::Problem;
use super::packet::Packet;
use super::{Event, Fabric, HostId, InterfaceId};
use crate::trace::Drop;

/// How long a neighbour is believed in that has gone: 30 s for which an answer is good (`base_reachable_time`), 5 s in
/// which a sign of life might come (`delay_first_probe_time`), and 3 s of questions.
const BELIEF: Duration = Duration::from_secs(38);
/// Time between two questions (`retrans_time`), and how many there are (`mcast_solicit`).
const QUESTION_PERIOD: Duration = Duration::from_secs(1);
const QUESTIONS: u8 = 3;
/// Packets that wait for an answer, at most; about `unres_qlen_bytes` of full ones. The oldest make way.
const WAITING_MAX: usize = 101;

/// A search for a neighbour that has not answered yet.
#[derive(Debug)]
pub(super) struct Search {
    questions: u8,
    waiting: VecDeque<Packet>,
}

/// Why nobody answers.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// For whom, and as what, a packet is counted that is lost for it.
    host: HostId,
    cause: Drop,
    /// Since when; `None` when nobody was ever there.
    since: Option<Timestamp>,
}

impl Fabric {
    /// A packet leaves an interface for a neighbour that does not answer.
    pub(super) fn seek(&mut self, from: InterfaceId, neighbour: IpAddr, packet: Packet) {
        // Who calls has seen that it does not.
        let Some(silence) = self.silence(from, neighbour) else { return };
        if let Some(search) = self.searches.get_mut(&(from, neighbour)) {
            search.waiting.push_back(packet);
            if search.waiting.len() > WAITING_MAX
                && let Some(packet) = search.waiting.pop_front()
            {
                self.counters.dropped(silence.host, silence.cause, &packet);
            }
            return;
        }
        let began = self.hosts[self.interfaces[from.index()].host.index()].powered_at;
        let is_believed_in =
            silence.since.is_some_and(|since| since >= began && self.now < since.after(BELIEF));
        if is_believed_in {
            return self.counters.dropped(silence.host, silence.cause, &packet);
        }
        self.searches.insert((from, neighbour), Search { questions: 1, waiting: [packet].into() });
        self.queue.push(self.now.after(QUESTION_PERIOD), Event::Question(from, neighbour));
    }

    /// The time for an answer is over.
    pub(super) fn question_due(&mut self, from: InterfaceId, neighbour: IpAddr) {
        let silence = self.silence(from, neighbour);
        let Some(search) = self.searches.get_mut(&(from, neighbour)) else { return };
        if silence.is_some() && search.questions < QUESTIONS {
            search.questions += 1;
            self.queue.push(self.now.after(QUESTION_PERIOD), Event::Question(from, neighbour));
            return;
        }
        let waiting = std::mem::take(&mut search.waiting);
        self.searches.remove(&(from, neighbour));
        let seeker = self.interfaces[from.index()].host;
        for packet in waiting {
            match silence {
                None => self.hand_over(from, neighbour, packet),
                Some(Silence { host, cause, .. }) => {
                    self.counters.dropped(host, cause, &packet);
                    self.complain(seeker, Problem::HostUnreachable, packet);
                }
            }
        }
    }

    /// A machine without power asks nobody.
    pub(super) fn end_searches(&mut self, host: HostId) {
        let interfaces = &self.interfaces;
        self.searches.retain(|(from, _), _| interfaces[from.index()].host != host);
    }

    /// Why a neighbour does not answer; `None` when it does.
    fn silence(&self, from: InterfaceId, neighbour: IpAddr) -> Option<Silence> {
        let sender = &self.interfaces[from.index()];
        if !sender.is_plugged {
            // Without a carrier, Linux forgets all neighbours at once.
            return Some(Silence { host: sender.host, cause: Drop::Unplugged, since: None });
        }
        let nobody = Silence { host: sender.host, cause: Drop::NoHost, since: None };
        let Some(id) = self.segments[sender.segment.0 as usize].interface_with(neighbour) else {
            return Some(nobody);
        };
        let receiver = &self.interfaces[id.index()];
        let host = receiver.host;
        if let Some(since) = self.cut_since(sender.host, host) {
            return Some(Silence { host, cause: Drop::Partition, since: Some(since) });
        }
        let cause = if receiver.is_plugged { Drop::NoHost } else { Drop::Unplugged };
        (!receiver.answers).then_some(Silence { host, cause, since: receiver.answered_until })
    }

    /// After a machine's power or cables changed: whether its interfaces answer.
    pub(super) fn note_answering(&mut self, host: HostId) {
        let machine = &self.hosts[host.index()];
        for id in &machine.interfaces {
            let interface = &mut self.interfaces[id.index()];
            let answers = machine.is_powered && interface.is_plugged;
            if interface.answers && !answers {
                interface.answered_until = Some(self.now);
            }
            interface.answers = answers;
        }
    }
}
