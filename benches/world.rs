//! How fast worlds run: simulated seconds per second, read as criterion's `elem/s`.
//!
//! * `zre`: whole nodes, fully meshed, each shouting to all others once a second (`busy`) or every ten seconds (`calm`):
//!   what a scenario costs.
//! * `beacons`: a 22-byte broadcast per node and second and nothing else, on the fabric and on turmoil's own network. It
//!   says what the engine costs, and why the fabric is not turmoil's. `100x100` is a hundred LANs of a hundred nodes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hailer::Timestamp;
use hailer::net::{Alarm, Net, UdpOptions, UdpSocket};
use hailer_sim::engine::{self, Run, Script};
use hailer_sim::executor::Executor;
use hailer_sim::fabric::Fabric;
use hailer_sim::fabric::random::Stream;
use hailer_sim::net::{SharedFabric, SimNet};
use hailer_sim::scenario::{Delay, Direction, Link, Scenario};
use hailer_sim::tasks::Tasks;
use hailer_sim::world::{self, Options};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BEACON: [u8; 22] = *b"ZRE\x01bench-bench-benc\xC0\x00";
const PORT: u16 = 5670;

/// Whole nodes on a LAN without loss, each shouting 64 bytes to all others every so often once the mesh stands.
fn zre_scenario(nodes: usize, seconds: u64, pause_s: u64) -> Scenario {
    let text = format!(
        r#"
        [scenario]
        about = "bench"
        seed = 1
        duration = "{seconds} s"
        tick = "100 ms"
        [[segment]]
        name = "lan"
        prefix = "10.0.0.0/16"
        link = {{ delay = "100us..300us" }}
        [[node]]
        name = "n"
        count = {nodes}
        segment = "lan"
        start = "0s..1s"
        [node.zre]
        groups = ["ALL"]
        [[traffic]]
        from = "n"
        shout = "ALL"
        every = "{pause_s} s"
        start = "2 s"
        stop = "{seconds} s"
        bytes = 64
        [[expect]]
        always = "nobody-unknown-appears"
        "#
    );
    Scenario::parse("bench.toml", &text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn zre(c: &mut Criterion) {
    let mut group = c.benchmark_group("zre");
    group.sample_size(10);
    for (nodes, seconds) in [(10, 60), (30, 60), (100, 20)] {
        for (name, pause_s) in [("busy", 1), ("calm", 10)] {
            let scenario = zre_scenario(nodes, seconds, pause_s);
            group.throughput(Throughput::Elements(seconds));
            group.bench_with_input(BenchmarkId::new(name, nodes), &scenario, |b, scenario| {
                b.iter(|| world::run(scenario, Options::default()).expect("the world runs"));
            });
        }
    }
    group.finish();
}

/// Sends a beacon a second, and hears what comes.
async fn beacon_node(net: SimNet, delay: Duration) {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT);
    let socket =
        net.bind_udp(&UdpOptions { reuse: true, broadcast: true, ..UdpOptions::at(any) }).expect("binds");
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), PORT);
    let mut alarm = net.alarm();
    let mut due = net.now().after(delay);
    alarm.set(Some(due));
    let mut buffer = [0; 64];
    loop {
        tokio::select! {
            biased;
            () = alarm.ring() => {
                socket.send_to(&BEACON, to).await.expect("sends");
                due = due.after(Duration::from_secs(1));
                alarm.set(Some(due));
            }
            heard = socket.recv_from(&mut buffer) => assert_eq!(heard.expect("receives").0, BEACON.len()),
        }
    }
}

struct Beacons {
    fabric: SharedFabric,
    executor: Executor,
    nodes: Vec<(Tasks, SimNet)>,
}

impl Beacons {
    /// So many LANs with so many nodes each.
    fn new(lans: usize, nodes: usize) -> Self {
        let mut fabric = Fabric::new(1, PORT);
        let prefix = "10.0.0.0/16".parse().expect("a prefix");
        let segments: Vec<_> = (0..lans).map(|_| fabric.add_segment(prefix)).collect();
        let (low, high) = (Duration::from_millis(2), Duration::from_millis(6));
        let down = Direction { delay: Delay::Uniform(low, high), ..Direction::default() };
        let link = Link { up: Direction::default(), down, ..Link::default() };
        let hosts: Vec<_> = (0..lans * nodes)
            .map(|number| {
                let host = fabric.add_host(&format!("n{number}"));
                let address = Ipv4Addr::from(0x0A00_0001 + (number / lans) as u32);
                fabric.attach(host, segments[number % lans], address, &link);
                fabric.power_on(host);
                host
            })
            .collect();
        fabric.appoint(Timestamp::ZERO, 0);
        let (fabric, executor) = (SharedFabric::new(fabric), Executor::default());
        let nodes = hosts.into_iter().map(|host| {
            let tasks = Tasks::new(&executor, None);
            let net = SimNet::new(fabric.clone(), host, tasks.clone(), Stream::new(1, "bench"));
            (tasks, net)
        });
        let nodes = nodes.collect();
        Self { fabric, executor, nodes }
    }
}

impl Script for Beacons {
    fn fabric(&self) -> &SharedFabric {
        &self.fabric
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    fn keep(&mut self, _token: u64) {
        let count = self.nodes.len() as u32;
        for (place, (tasks, net)) in self.nodes.iter().enumerate() {
            let delay = Duration::from_secs(1) * place as u32 / count;
            tasks.spawn(beacon_node(net.clone(), delay)).detach();
        }
    }

    fn finish(&mut self) {
        for (tasks, _) in &self.nodes {
            tasks.end();
        }
    }
}

/// The same on turmoil's own network, at its honest step of one millisecond.
#[expect(clippy::disallowed_methods, reason = "turmoil's hosts live in tokio's simulated time")]
fn turmoil_beacons(nodes: usize, seconds: u64) {
    let mut simulation = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(seconds * 2))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(6))
        .udp_capacity(1024)
        .epoch(std::time::UNIX_EPOCH)
        .rng_seed(1)
        .build();
    for number in 0..nodes {
        let delay = Duration::from_secs(1) * number as u32 / nodes as u32;
        simulation.client(format!("n{number}"), async move {
            let socket = turmoil::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
            socket.set_broadcast(true)?;
            tokio::time::sleep(delay).await;
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            let mut buffer = [0; 64];
            for _ in 0..seconds {
                loop {
                    tokio::select! {
                        biased;
                        _ = ticks.tick() => break,
                        heard = socket.recv_from(&mut buffer) => assert_eq!(heard?.0, BEACON.len()),
                    }
                }
                socket.send_to(&BEACON, (Ipv4Addr::BROADCAST, PORT)).await?;
            }
            Ok(())
        });
    }
    simulation.run().expect("the simulation runs");
}

fn beacons(c: &mut Criterion) {
    let mut group = c.benchmark_group("beacons");
    group.sample_size(10);
    for (lans, nodes, seconds) in
        [(1, 10, 60), (1, 50, 60), (1, 100, 60), (1, 1000, 5), (500, 20, 5), (100, 100, 2)]
    {
        group.throughput(Throughput::Elements(seconds));
        let name = if lans == 1 { nodes.to_string() } else { format!("{lans}x{nodes}") };
        group.bench_function(BenchmarkId::new("fabric", name), |b| {
            let run = Run {
                seed: 1,
                duration: Duration::from_secs(seconds),
                tick: Duration::from_millis(100),
                progress: None,
            };
            b.iter(|| engine::run(Beacons::new(lans, nodes), run).expect("the world runs"));
        });
    }
    for (nodes, seconds) in [(10, 10), (50, 10), (100, 5)] {
        group.throughput(Throughput::Elements(seconds));
        group.bench_function(BenchmarkId::new("turmoil", nodes), |b| {
            b.iter(|| turmoil_beacons(nodes, seconds));
        });
    }
    group.finish();
}

criterion_group!(benches, zre, beacons);
criterion_main!(benches);
