//! Sessions on the simulated network: two machines on one segment, each losing a share of what comes in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::Timestamp;
use hailer_sim::engine::{self, Run, Script};
use hailer_sim::executor::Executor;
use hailer_sim::fabric::random::Stream;
use hailer_sim::fabric::{Fabric, HostId};
use hailer_sim::net::{SharedFabric, SimNet};
use hailer_sim::scenario::{Chance, Delay, Direction, Link};
use hailer_sim::tasks::Tasks;

use crate::workload::{self, Session};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), crate::PORT);
/// About what a pair of virtual cables takes.
const DELAY: Duration = Duration::from_micros(20);

struct Laboratory {
    fabric: SharedFabric,
    executor: Executor,
    server: (Tasks, SimNet),
    client: (Tasks, SimNet),
    count: usize,
    at_once: usize,
    sessions: Arc<Mutex<Vec<Session>>>,
}

/// Times so many sessions.
pub(crate) fn measure(
    loss_percent: u32,
    count: usize,
    at_once: usize,
) -> Result<Vec<Session>, engine::RunError> {
    let mut fabric = Fabric::new(1, 5670);
    let segment = fabric.add_segment("10.77.0.0/24".parse().expect("a prefix"));
    let delay = Delay::Fixed(DELAY);
    let down = Direction {
        delay: delay.clone(),
        loss: Chance { ppm: loss_percent * 10_000 },
        ..Direction::default()
    };
    let up = Direction {
        delay,
        bandwidth: Some(crate::BANDWIDTH),
        queue: Some(crate::QUEUE),
        ..Direction::default()
    };
    let link = Link { up, down, ..Link::default() };
    let mut add = |number: u8| {
        let host = fabric.add_host(&format!("h{number}"));
        fabric.attach(host, segment, Ipv4Addr::new(10, 77, 0, number), &link);
        fabric.power_on(host);
        host
    };
    let hosts = [add(1), add(2)];
    fabric.appoint(Timestamp::ZERO, 0);
    let (fabric, executor) = (SharedFabric::new(fabric), Executor::default());
    let machine = |host: HostId, name: &str| {
        let tasks = Tasks::new(&executor, None);
        (tasks.clone(), SimNet::new(fabric.clone(), host, tasks, Stream::new(1, name)))
    };
    let (server, client) = (machine(hosts[0], "server"), machine(hosts[1], "client"));
    let sessions = Arc::default();
    let laboratory =
        Laboratory { fabric, executor, server, client, count, at_once, sessions: Arc::clone(&sessions) };
    let duration = workload::PATIENCE * (count.div_ceil(at_once) as u32 + 1);
    engine::run(laboratory, Run { seed: 1, duration, tick: Duration::from_secs(1), progress: None })?;
    let mut sessions = sessions.lock().expect("not poisoned");
    Ok(std::mem::take(&mut *sessions))
}

impl Script for Laboratory {
    fn fabric(&self) -> &SharedFabric {
        &self.fabric
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    fn keep(&mut self, _token: u64) {
        let (tasks, net) = self.server.clone();
        tasks.spawn(async move { workload::serve(net, SERVER).await.expect("it can listen") }).detach();
        for place in 0..self.at_once {
            let (tasks, net) = self.client.clone();
            let (sessions, own) =
                (Arc::clone(&self.sessions), (place..self.count).step_by(self.at_once).len());
            let client = async move {
                for _ in 0..own {
                    let session = workload::session(&net, SERVER).await;
                    sessions.lock().expect("not poisoned").push(session);
                }
            };
            tasks.spawn(client).detach();
        }
    }

    fn finish(&mut self) {
        self.client.0.end();
        self.server.0.end();
    }
}
