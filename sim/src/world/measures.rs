//! Measures what each node sends and holds, where a scenario expects something of that, and only there.
//!
//! What it sends: the most packets, the most bytes, and the most answers to SYN, in any second. A second is any span of that length, not one of a
//! clock: of each packet it is asked what was sent in the second that ends with it. What it holds is counted by the
//! allocator ([`crate::memory`]).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::Timestamp;

use super::{NodeState, World};
use crate::engine::RunError;
use crate::fabric::packet::Packet;
use crate::fabric::tap::Tap;
use crate::fabric::{HostId, InterfaceId};
use crate::memory::Account;
use crate::scenario::Property;
use crate::trace::{Load, Peak};

const SECOND: Duration = Duration::from_secs(1);

/// What is measured of a run.
pub(super) struct Measures {
    meter: Option<Meter>,
    /// One for each node, or none.
    accounts: Vec<Arc<Account>>,
}

impl Measures {
    /// Begins what the expectations ask for, before any program runs. The meter is the fabric's last onlooker and has no
    /// file to write.
    ///
    /// # Errors
    /// [`RunError::NotCounted`] when memory is asked for and this program's allocator does not count.
    pub(super) fn begin(world: &mut World) -> Result<Self, RunError> {
        let is_asked =
            |is: fn(&Property) -> bool| world.scenario.expects.iter().any(|expect| is(&expect.that));
        let (traffic, memory) = (
            is_asked(|that| matches!(that, Property::TrafficStaysBelow(_))),
            is_asked(|that| matches!(that, Property::MemoryStaysBelow(_))),
        );
        let meter = traffic.then(|| {
            let mut fabric = world.fabric.lock();
            let meter = Meter::new(world.nodes.len(), fabric.interface_hosts());
            fabric.add_tap(Box::new(meter.clone()));
            meter
        });
        let fabric = &world.fabric;
        let open = |state: &mut NodeState| {
            let fabric = fabric.clone();
            let account = Account::open(Arc::new(move || fabric.lock().now())).ok_or(RunError::NotCounted)?;
            Ok(state.account.insert(Arc::new(account)).clone())
        };
        let nodes = if memory { world.nodes.as_mut_slice() } else { &mut [] };
        let accounts: Result<Vec<_>, RunError> = nodes.iter_mut().map(open).collect();
        Ok(Self { meter, accounts: accounts? })
    }

    /// What was measured, one entry for each node; none when nothing was.
    pub(super) fn loads(self) -> Vec<Load> {
        let mut loads = self.meter.map(|meter| meter.loads()).unwrap_or_default();
        if !self.accounts.is_empty() {
            loads.resize(self.accounts.len(), Load::default());
            loads.iter_mut().zip(self.accounts).for_each(|(load, account)| load.memory = account.peak());
        }
        loads
    }
}

/// A meter. Cloning gives another handle on the same one.
#[derive(Clone, Debug)]
struct Meter {
    /// Whose each interface is.
    hosts: Arc<Vec<HostId>>,
    gauges: Arc<Mutex<Vec<Gauge>>>,
}

/// What one node sent.
#[derive(Clone, Debug, Default)]
struct Gauge {
    /// What was sent in the last second, oldest first.
    last: VecDeque<(Timestamp, u64)>,
    bytes: u64,
    /// When it answered a SYN in the last second, oldest first.
    answers: VecDeque<Timestamp>,
    load: Load,
}

impl Meter {
    /// A meter for so many nodes, whose hosts were the first to be made, in their order.
    fn new(nodes: usize, hosts: Vec<HostId>) -> Self {
        Self { hosts: Arc::new(hosts), gauges: Arc::new(Mutex::new(vec![Gauge::default(); nodes])) }
    }

    /// What was measured, node by node.
    fn loads(&self) -> Vec<Load> {
        self.lock().iter().map(|gauge| gauge.load.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Gauge>> {
        self.gauges.lock().expect("counting does not panic")
    }
}

impl Tap for Meter {
    fn sent(&mut self, at: Timestamp, from: InterfaceId, packet: &Packet) {
        let node = self.hosts[from.index()].index();
        if let Some(gauge) = self.lock().get_mut(node) {
            gauge.count(at, packet.wire_len() as u64);
            if packet.is_syn_ack() {
                gauge.answer(at);
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Gauge {
    fn count(&mut self, at: Timestamp, bytes: u64) {
        while let Some((sent, old)) = self.last.front()
            && sent.after(SECOND) <= at
        {
            self.bytes -= old;
            self.last.pop_front();
        }
        self.last.push_back((at, bytes));
        self.bytes += bytes;
        self.load.packets.note(self.last.len() as u64, at);
        self.load.bytes.note(self.bytes, at);
    }

    fn answer(&mut self, at: Timestamp) {
        while self.answers.front().is_some_and(|sent| sent.after(SECOND) <= at) {
            self.answers.pop_front();
        }
        self.answers.push_back(at);
        self.load.connections.note(self.answers.len() as u64, at);
    }
}

impl Peak {
    fn note(&mut self, value: u64, at: Timestamp) {
        if value > self.most {
            *self = Self { most: value, at };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_any_second_and_ends_before_it_is_over() {
        let mut gauge = Gauge::default();
        for (millis, bytes) in [(0, 10), (600, 10), (999, 10), (1_000, 10), (1_500, 100), (9_000, 1)] {
            gauge.count(Timestamp::from_millis(millis), bytes);
        }
        let at = Timestamp::from_millis;
        // The packets at 0 and at 1,000 ms are a second apart, and so never in the same one.
        assert_eq!(gauge.load.packets, Peak { most: 4, at: at(1_500) });
        assert_eq!(gauge.load.bytes, Peak { most: 130, at: at(1_500) });
        assert_eq!(gauge.last.len(), 1);
        for millis in [0, 10, 999, 1_000, 5_000] {
            gauge.answer(Timestamp::from_millis(millis));
        }
        assert_eq!(gauge.load.connections, Peak { most: 3, at: at(999) });
    }
}
