//! The matrix of the simulator: every machine of the scenario runs a server and asks its questions.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::Timestamp;
use hailer::net::Net;
use hailer_sim::engine::{self, Run, RunError, Script};
use hailer_sim::executor::Executor;
use hailer_sim::fabric::HostId;
use hailer_sim::fabric::random::Stream;
use hailer_sim::net::{SharedFabric, SimNet};
use hailer_sim::scenario::{NodeIndex, Scenario};
use hailer_sim::tasks::Tasks;
use hailer_sim::world::layout::Layout;
use hailer_sim::world::proxy::Publication;

use crate::plan::{self, Asker, Matrix};
use crate::probe;

const SEED: u64 = 1;
/// Between two steps: longer than any question takes.
const STEP: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Seen {
    answers: Matrix,
    heard: crate::Heard,
}

struct Laboratory {
    scenario: Scenario,
    fabric: SharedFabric,
    executor: Executor,
    tasks: Tasks,
    hosts: Vec<HostId>,
    askers: Vec<Asker>,
    published: Vec<Publication>,
    seen: Arc<Mutex<Seen>>,
}

/// Asks everything.
pub(crate) fn measure(scenario: &Scenario) -> Result<Matrix, RunError> {
    let Layout { mut fabric, hosts, .. } = Layout::new(scenario, SEED);
    for (host, node) in hosts.iter().zip(&scenario.nodes) {
        if !node.interfaces.is_empty() {
            fabric.power_on(*host);
        }
    }
    let askers = plan::askers(scenario);
    for step in 0..=askers.len() {
        fabric.appoint(Timestamp::ZERO.after(STEP * step as u32), step as u64);
    }
    let duration = STEP * (askers.len() as u32 + 1);
    let (executor, seen) = (Executor::default(), Arc::<Mutex<Seen>>::default());
    let laboratory = Laboratory {
        scenario: scenario.clone(),
        fabric: SharedFabric::new(fabric),
        tasks: Tasks::new(&executor, None),
        executor,
        hosts,
        askers,
        published: Vec::new(),
        seen: seen.clone(),
    };
    engine::run(laboratory, Run { seed: SEED, duration, tick: Duration::from_secs(1), progress: None })?;
    let Seen { mut answers, heard } = std::mem::take(&mut *seen.lock().expect("not poisoned"));
    crate::add_heard(&plan::askers(scenario), heard, &mut answers);
    Ok(answers)
}

impl Laboratory {
    fn net(&self, node: NodeIndex) -> SimNet {
        let random = Stream::new(SEED, &plan::node(&self.scenario, node).name);
        SimNet::new(self.fabric.clone(), self.hosts[node.0 as usize], self.tasks.clone(), random)
    }

    fn serve_all(&mut self) {
        for (index, node) in plan::all(&self.scenario) {
            let (net, name, port) = (self.net(index), node.name.clone(), plan::own_port(node));
            let (seen, own_name) = (self.seen.clone(), name.clone());
            let heard = move |number: &str, from: IpAddr| {
                let mut seen = seen.lock().expect("not poisoned");
                seen.heard.entry(number.to_owned()).or_default().insert(format!("{own_name} {from}"));
            };
            let server =
                async move { probe::serve(&net, &name, port, heard).await.expect("its port is free") };
            self.tasks.spawn(server).detach();
        }
        for (index, _) in plan::all(&self.scenario) {
            let fabric = &self.fabric;
            let published =
                Publication::new(&self.scenario, SEED, index, &self.hosts, fabric, &self.executor);
            self.published.extend(published);
        }
    }

    fn ask_all(&self, asker: usize) {
        let Asker { node, questions, names } = &self.askers[asker];
        for (place, (topic, question)) in questions.iter().enumerate() {
            let (net, key, question) = (self.net(*node), (*node, topic.clone()), question.clone());
            let (seen, number) = (self.seen.clone(), crate::number(asker, place));
            let task = async move {
                let answer = probe::ask(&net, number, &question).await;
                seen.lock().expect("not poisoned").answers.insert(key, answer);
            };
            self.tasks.spawn(task).detach();
        }
        for name in names {
            let (net, name, seen, node) = (self.net(*node), name.clone(), self.seen.clone(), *node);
            let task = async move {
                let found = net.resolve(&name, 0).await.unwrap_or_default();
                let found = found.iter().map(SocketAddr::ip).collect();
                let key = (node, format!("name {name}"));
                seen.lock().expect("not poisoned").answers.insert(key, crate::show_names(found));
            };
            self.tasks.spawn(task).detach();
        }
    }
}

impl Script for Laboratory {
    fn fabric(&self) -> &SharedFabric {
        &self.fabric
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    fn keep(&mut self, token: u64) {
        match token.checked_sub(1) {
            None => self.serve_all(),
            Some(asker) => self.ask_all(asker as usize),
        }
    }

    fn finish(&mut self) {
        self.tasks.end();
        self.published.iter().for_each(Publication::cut);
    }
}
