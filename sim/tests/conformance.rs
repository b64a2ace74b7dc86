//! The simulated network passes the suite that the real one passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hailer::Timestamp;
use hailer::net::conformance::{self, Case, Needs, Site};
use hailer_sim::engine::{self, Run, Script};
use hailer_sim::executor::Executor;
use hailer_sim::fabric::Fabric;
use hailer_sim::fabric::random::Stream;
use hailer_sim::net::{SharedFabric, SimNet};
use hailer_sim::scenario::{Delay, Direction, Link};
use hailer_sim::tasks::Tasks;

/// Two machines on one segment, and one case.
struct Stage {
    fabric: SharedFabric,
    executor: Executor,
    tasks: Tasks,
    case: Option<(Case<SimNet>, Site<SimNet>)>,
    is_done: Arc<AtomicBool>,
}

fn stage(case: Case<SimNet>, is_v6: bool) -> Stage {
    let mut fabric = Fabric::new(1, 5670);
    let segment = fabric.add_segment("10.1.2.0/24".parse().unwrap());
    let direction = Direction { delay: Delay::Fixed(Duration::from_micros(100)), ..Direction::default() };
    let link = Link { up: direction.clone(), down: direction, ..Link::default() };
    let addresses = [Ipv4Addr::new(10, 1, 2, 1), Ipv4Addr::new(10, 1, 2, 2)];
    let hosts = ["a", "b"].map(|name| fabric.add_host(name));
    let addresses6 =
        addresses.map(|address| Ipv6Addr::from_bits(0xFD00 << 112 | u128::from(address.to_bits())));
    for (host, (address, address6)) in hosts.into_iter().zip(addresses.into_iter().zip(addresses6)) {
        let interface = fabric.attach(host, segment, address, &link);
        fabric.add_address6(interface, address6, "fd00::/64".parse().unwrap());
        fabric.power_on(host);
    }
    let addresses = if is_v6 { addresses6.map(IpAddr::V6) } else { addresses.map(IpAddr::V4) };
    fabric.appoint(Timestamp::ZERO, 0);
    let (fabric, executor) = (SharedFabric::new(fabric), Executor::default());
    let tasks = Tasks::new(&executor, None);
    let net = |host, name| SimNet::new(fabric.clone(), host, tasks.clone(), Stream::new(1, name));
    let site = Site {
        a: net(hosts[0], "a"),
        a_address: addresses[0],
        b: net(hosts[1], "b"),
        b_address: addresses[1],
        are_neighbours: true,
    };
    Stage { fabric, executor, tasks, case: Some((case, site)), is_done: Arc::default() }
}

impl Script for Stage {
    fn fabric(&self) -> &SharedFabric {
        &self.fabric
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    fn keep(&mut self, _token: u64) {
        let (case, site) = self.case.take().expect("there is one appointment");
        let is_done = self.is_done.clone();
        let running = async move {
            case.run(&site).await;
            is_done.store(true, Ordering::Relaxed);
        };
        self.tasks.spawn(running).detach();
    }

    fn finish(&mut self) {
        self.tasks.end();
    }
}

#[test]
fn the_simulated_network_passes_every_case() {
    pass_every_case(false);
}

#[test]
fn the_simulated_network_passes_every_case_of_ipv6() {
    pass_every_case(true);
}

fn pass_every_case(is_v6: bool) {
    for case in conformance::cases::<SimNet>() {
        if is_v6 && case.needs == Needs::Broadcast {
            continue;
        }
        let stage = stage(case.clone(), is_v6);
        let (is_done, tasks) = (stage.is_done.clone(), stage.tasks.clone());
        let run = Run {
            seed: 1,
            duration: Duration::from_secs(120),
            tick: Duration::from_millis(10),
            progress: None,
        };
        engine::run(stage, run).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(is_done.load(Ordering::Relaxed), "{} did not end", case.name);
        assert_eq!(tasks.live(), 0, "{} left tasks behind", case.name);
    }
}
