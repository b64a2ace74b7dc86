//! Links as programs meet them: TCP and datagrams over limited, short, damaged and named links.

use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hailer::Timestamp;
use hailer::net::UdpOptions;
use hailer_sim::check;
use hailer_sim::fabric::stream::{ListenerKey, TcpKey};
use hailer_sim::fabric::udp::UdpKey;
use hailer_sim::fabric::{Fabric, HostId};
use hailer_sim::scenario::profiles::PROFILES;
use hailer_sim::scenario::{Chance, Delay, Direction, Link, Scenario};
use hailer_sim::trace::{Drop, Kind};
use hailer_sim::world::{self, Options};
use tokio::io::ReadBuf;

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
const PORT: u16 = 7000;

/// Two machines, each behind a link, and time that passes as far as it is told to.
struct Two {
    fabric: Fabric,
    hosts: [HostId; 2],
}

impl Two {
    fn new(links: [Link; 2]) -> Self {
        let mut fabric = Fabric::new(1, 5670);
        let segment = fabric.add_segment("10.0.0.0/24".parse().unwrap());
        let hosts = ["a", "b"].map(|name| fabric.add_host(name));
        for ((host, address), link) in hosts.into_iter().zip(ADDRESSES).zip(&links) {
            fabric.attach(host, segment, address, link);
            fabric.power_on(host);
        }
        Self { fabric, hosts }
    }

    fn pass_until(&mut self, at: Timestamp) {
        while self.fabric.next_at().is_some_and(|next| next <= at) {
            self.fabric.step();
        }
    }

    fn socket(&mut self, host: usize) -> UdpKey {
        let at = SocketAddr::from((ADDRESSES[host], PORT));
        self.fabric.udp_bind(self.hosts[host], &UdpOptions::at(at)).unwrap()
    }

    /// Sends `count` datagrams of `len` bytes from the first machine to the second at one moment, and says when each
    /// that arrives does.
    fn datagrams(&mut self, count: usize, len: usize) -> Vec<Timestamp> {
        let (from, to) = (self.socket(0), self.socket(1));
        let address = SocketAddr::from((ADDRESSES[1], PORT));
        for _ in 0..count {
            self.fabric.udp_send(from, &vec![0; len], address).unwrap();
        }
        let (mut buffer, mut arrivals) = (vec![0; len], Vec::new());
        while self.fabric.next_at().is_some() {
            self.fabric.step();
            while let Poll::Ready(got) = self.fabric.udp_poll_recv(to, &mut context(), &mut buffer) {
                assert_eq!(got.unwrap().0, len);
                arrivals.push(self.fabric.now());
            }
        }
        arrivals
    }

    /// A connection from the first machine to the second.
    fn connect(&mut self) -> (TcpKey, TcpKey) {
        let at = SocketAddr::from((ADDRESSES[1], PORT));
        let listener: ListenerKey = self.fabric.tcp_listen(self.hosts[1], at).unwrap();
        let client = self.fabric.tcp_connect(self.hosts[0], at, None).unwrap();
        loop {
            assert!(self.fabric.next_at().is_some(), "the connection never stands");
            self.fabric.step();
            if let Poll::Ready(accepted) = self.fabric.listener_poll_accept(listener, &mut context()) {
                return (client, accepted.unwrap().0);
            }
        }
    }

    fn read(&mut self, key: TcpKey, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = self.fabric.tcp_poll_read(key, &mut context(), &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    /// Writes as fast as the connection takes it and reads all that comes until `end`; the bytes read after `start`.
    fn stream(&mut self, (client, server): (TcpKey, TcpKey), start: Timestamp, end: Timestamp) -> usize {
        let (chunk, mut buffer, mut read) = (vec![7; 16 * 1024], vec![0; 64 * 1024], 0);
        while self.fabric.now() < end {
            while let Poll::Ready(written) = self.fabric.tcp_poll_write(client, &mut context(), &chunk) {
                assert!(written.unwrap() > 0);
            }
            self.fabric.step();
            while let Poll::Ready(got) = self.read(server, &mut buffer) {
                let got = got.unwrap();
                read += if self.fabric.now() >= start { got } else { 0 };
                if got == 0 {
                    break;
                }
            }
        }
        read
    }

    fn dropped(&self, host: usize, cause: Drop) -> u64 {
        self.fabric.traffic()[host].dropped.get(&cause).map_or(0, |count| count.packets)
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn ms(delay: u64) -> Delay {
    Delay::Fixed(Duration::from_millis(delay))
}

/// A line of 1 Mbit/s with this queue, after which a packet takes 10 ms, and a way back without a limit.
fn modem(queue: u64) -> Link {
    let up =
        Direction { delay: ms(10), bandwidth: Some(1_000_000), queue: Some(queue), ..Direction::default() };
    Link { up, down: Direction { delay: ms(10), ..Direction::default() }, ..Link::default() }
}

#[test]
fn datagrams_leave_one_after_the_other_and_those_without_room_are_dropped_and_counted() {
    let mut two = Two::new([modem(5_000), Link::default()]);
    // With headers each is 1000 bytes, which take 8 ms; five have room.
    let arrivals: Vec<_> = two.datagrams(9, 972).iter().map(|at| at.as_millis()).collect();
    assert_eq!(arrivals, [18, 26, 34, 42, 50]);
    assert_eq!(two.dropped(0, Drop::LinkQueueFull), 4);
    assert_eq!((two.dropped(0, Drop::Loss), two.dropped(0, Drop::QueueFull)), (0, 0));
}

#[test]
fn tcp_fills_a_narrow_line_and_waits_in_its_queue_as_long_as_the_queue_is() {
    const SECONDS: u64 = 60;
    let mut two = Two::new([modem(50_000), Link::default()]);
    let connection = two.connect();
    let (start, end) = (Timestamp::from_millis(10_000), Timestamp::from_millis((10 + SECONDS) * 1000));
    let read = two.stream(connection, start, end);
    // Each packet of 1500 bytes carries 1448.
    let share = read as f64 * 8.0 * 1500.0 / 1448.0 / (1e6 * SECONDS as f64);
    assert!((0.97..=1.001).contains(&share), "TCP has {share} of the line");
    let tails = two.dropped(0, Drop::LinkQueueFull);
    assert!(tails > 0, "a queue of 0.4 s is shorter than TCP's patience");

    // A datagram now waits for what is before it: between nothing and the whole queue, which is 400 ms.
    let (from, to) = (two.socket(0), two.socket(1));
    let (mut longest, mut buffer) = (Duration::ZERO, [0; 8]);
    for probe in 0..40 {
        let sent = Timestamp::from_millis((10 + SECONDS) * 1000 + probe * 1000);
        two.stream(connection, sent, sent);
        let now = two.fabric.now();
        two.fabric.udp_send(from, &[1; 8], SocketAddr::from((ADDRESSES[1], PORT))).unwrap();
        for step in 0..1000 {
            let at = now.after(Duration::from_millis(step));
            two.stream(connection, at, at);
            if two.fabric.udp_poll_recv(to, &mut context(), &mut buffer).is_ready() {
                longest = longest.max(two.fabric.now().since(now));
                break;
            }
        }
    }
    let queue = Duration::from_millis(400);
    let fixed = Duration::from_millis(10);
    assert!((queue * 3 / 4 + fixed..=queue + fixed * 2).contains(&longest), "{longest:?} of 410 ms at most");
}

#[test]
fn the_way_back_has_a_bandwidth_of_its_own() {
    let narrow = Direction { bandwidth: Some(80_000), ..Direction::default() };
    let mut up = Two::new([Link { up: narrow.clone(), ..Link::default() }, Link::default()]);
    let mut down = Two::new([Link { down: narrow, ..Link::default() }, Link::default()]);
    assert_eq!(up.datagrams(1, 972), [Timestamp::from_millis(100)]);
    assert_eq!(down.datagrams(1, 972), [Timestamp::ZERO]);
}

#[test]
fn a_datagram_beyond_the_mtu_of_either_end_is_lost_with_any_fragment() {
    let lossy = |loss| Direction { loss: Chance { ppm: loss }, ..Direction::default() };
    let count = |mtus: [u16; 2]| {
        let link = |mtu, down| Link { up: Direction::default(), down, mtu };
        let links = [link(mtus[0], Direction::default()), link(mtus[1], lossy(100_000))];
        let mut two = Two::new(links);
        let (from, to) = (two.socket(0), two.socket(1));
        let mut got = 0;
        for i in 0..5_000 {
            two.fabric.udp_send(from, &[0; 4000], SocketAddr::from((ADDRESSES[1], PORT))).unwrap();
            two.pass_until(Timestamp::from_millis(i));
            got += usize::from(two.fabric.udp_poll_recv(to, &mut context(), &mut [0; 4000]).is_ready());
        }
        got
    };
    // 90 %; 0.9^3 is 72.9 %; 0.9^8 is 43 %.
    for (mtus, range) in
        [([9000, 9000], 4_430..4_570), ([9000, 1500], 3_550..3_740), ([576, 9000], 2_050..2_250)]
    {
        let got = count(mtus);
        assert!(range.contains(&got), "{got} of 5000 with MTUs {mtus:?}");
    }
}

#[test]
fn the_largest_segment_fits_the_smaller_mtu_of_both_ends() {
    for (mtus, packets) in [([1500, 1500], 100), ([1400, 1500], 108), ([1500, 1400], 108), ([9000, 9000], 17)]
    {
        let links = mtus.map(|mtu| Link { mtu, ..modem(1 << 20) });
        let mut two = Two::new(links);
        let (client, server) = two.connect();
        let (data, mut buffer, mut read) = (vec![7; 144_800], vec![0; 65_536], 0);
        let written = two.fabric.tcp_poll_write(client, &mut context(), &data);
        assert!(matches!(written, Poll::Ready(Ok(144_800))));
        while read < data.len() {
            two.fabric.step();
            if let Poll::Ready(got) = two.read(server, &mut buffer) {
                read += got.unwrap();
            }
        }
        let sent = two.fabric.traffic()[0].sent[&Kind::TcpData];
        assert_eq!(sent.packets, packets, "with MTUs {mtus:?}");
    }
}

#[test]
fn a_damaged_packet_is_counted_for_itself_and_tcp_brings_its_bytes_nevertheless() {
    let bad = Direction { delay: ms(5), corruption: Chance { ppm: 50_000 }, ..Direction::default() };
    let mut two = Two::new([Link { up: bad, ..Link::default() }, Link::default()]);
    let connection = two.connect();
    let read = two.stream(connection, Timestamp::ZERO, Timestamp::from_millis(20_000));
    let (sent, damaged) = (two.fabric.traffic()[0].clone(), two.dropped(0, Drop::Corrupt));
    let sent: u64 = sent.sent.values().map(|count| count.packets).sum();
    assert!(read > 1_000_000, "{read} bytes");
    assert!((0.04..0.06).contains(&(damaged as f64 / sent as f64)), "{damaged} of {sent} at 5 %");
    assert_eq!(two.dropped(0, Drop::Loss), 0);
}

/// Ten nodes on a segment with this profile.
fn ten_nodes(profile: &str) -> Scenario {
    let text = format!(
        r#"
[scenario]
about = "ten nodes on {profile}"
seed = 1
duration = "60 s"

[[segment]]
name = "all"
prefix = "10.0.0.0/24"
link = "{profile}"

[[node]]
name = "n"
count = 10
segment = "all"
start = "0 s..1 s"
[node.zre]
groups = ["ALL"]

[[expect]]
by = "20 s"
that = "everyone-knows-everyone"

[[expect]]
always = "no-live-peer-exits"

[[expect]]
always = "nobody-unknown-appears"
"#
    );
    Scenario::parse(&format!("{profile}.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn ten_nodes_find_and_keep_each_other_on_every_profile() {
    for profile in &PROFILES {
        let scenario = ten_nodes(profile.name);
        let trace = world::run(&scenario, Options::default()).unwrap();
        let verdict = check::judge(&scenario, &trace);
        assert!(verdict.passed(), "{}: {verdict:?}", profile.name);
    }
}
