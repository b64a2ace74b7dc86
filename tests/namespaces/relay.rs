//! A service behind a real NAT (nftables masquerade) is reached through a relay: echo, half-close, bulk, many short sessions,
//! a relay that is killed; and a UDP service likewise. The client and the relay are outside the NAT, the host and its service
//! are inside.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "programs on real networks, seen from outside, in real time"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::lab::{self, Lab};

const SERVICE: u16 = 7000;
const CLIENTS: u16 = 2222;

/// A program that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does something in a thread that is in a namespace for good.
fn inside<T: Send + 'static>(
    namespace: &str,
    act: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    std::thread::spawn(move || {
        use std::os::fd::AsFd;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may do that");
        act()
    })
}

fn echo() {
    let listener = TcpListener::bind(("127.0.0.1", SERVICE)).unwrap();
    for mut stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        });
    }
}

fn ask(at: SocketAddr, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let (mut write, own) = (stream.try_clone()?, content.to_vec());
    let writer = std::thread::spawn(move || {
        write.write_all(&own)?;
        write.shutdown(Shutdown::Write)
    });
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer)?;
    let _ = writer.join();
    Ok(answer)
}

fn hailer(lab: &Lab, host: u8, words: &[&str]) -> Running {
    let mut command = lab.command(host, env!("CARGO_BIN_EXE_hailer"));
    Running(command.args(words).stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("ip can be run"))
}

fn relay(lab: &Lab) -> Running {
    hailer(lab, 0, &["relay", "--service", "echo=0.0.0.0:2222"])
}

/// Of the program that runs in a network namespace: `ip netns exec` becomes it.
fn descriptors(running: &Running) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", running.0.id())).expect("it runs").count()
}

/// The relay, a client, and the router, which has one more network behind it; that network; and where clients connect to.
fn networks() -> Option<(Lab, Home, SocketAddr)> {
    if !lab::is_available_or_say_so() {
        return None;
    }
    let lab = Lab::new(3);
    let home = Home::new(lab.namespace(2));
    let relay_at = SocketAddr::new(lab.address(0).into(), CLIENTS);
    Some((lab, home, relay_at))
}

#[test]
#[ignore = "needs root, network namespaces and nftables: .ci/run runs them"]
fn a_service_behind_a_masquerading_router_is_reached_through_a_relay() {
    let Some((lab, home, relay_at)) = networks() else { return };
    let _service = inside(&home.host, echo);
    let mut relay_program = relay(&lab);
    let host = home.serve(lab.address(0), "127.0.0.1:7000");
    let client = lab.namespace(1).to_owned();

    let outcome = inside(&client, move || {
        let begun = Instant::now();
        while ask(relay_at, b"are you there?").unwrap_or_default() != b"are you there?" {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody answers");
            std::thread::sleep(Duration::from_millis(50));
        }
        let bulk: Vec<u8> = (0..50_000_000_u32).map(|i| (i % 251) as u8).collect();
        assert!(ask(relay_at, &bulk).unwrap() == bulk, "bytes differ");
        // Short ones, eight at once.
        let workers: Vec<_> = (0..8_u8)
            .map(|worker| {
                inside_same(move || {
                    for number in 0..250_u8 {
                        let question = [worker, number, 7];
                        assert_eq!(ask(relay_at, &question).unwrap(), question);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    outcome.join().unwrap();
    // What is left are free data connections, and they become no more than a busy pool has.
    let (at_relay, at_host) = (descriptors(&relay_program), descriptors(&host));
    assert!(at_relay < 150 && at_host < 150, "{at_relay} descriptors at the relay, {at_host} at the host");

    // Killed and back after two seconds.
    drop(relay_program);
    std::thread::sleep(Duration::from_secs(2));
    relay_program = relay(&lab);
    let back = inside(&client, move || {
        let begun = Instant::now();
        let mut listening = None;
        loop {
            if listening.is_none() && TcpStream::connect_timeout(&relay_at, Duration::from_secs(1)).is_ok() {
                listening = Some(Instant::now());
            }
            if ask(relay_at, b"again").unwrap_or_default() == b"again" {
                return listening.map_or(Duration::ZERO, |at| at.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody answers any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let took = back.join().unwrap();
    println!("the service answered {} ms after the relay listened again", took.as_millis());
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(relay_program);
}

fn inside_same(act: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    // A new thread is in the namespace of the one that starts it.
    std::thread::spawn(act)
}

/// How many connections must leave no descriptor behind.
fn connections() -> usize {
    let given = std::env::var("HAILER_RELAY_CONNECTIONS").ok();
    given.map_or(10_000, |count| count.parse().expect("HAILER_RELAY_CONNECTIONS is a number"))
}

/// One of many clients: most of them say something and hear it, some go without a word or in the middle of one.
fn come_and_go(at: SocketAddr, number: usize) {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(5)) else { return };
    match number % 10 {
        0 => {}
        1 => drop(stream.write_all(&[7; 100_000])),
        _ => {
            stream.write_all(b"x").unwrap();
            assert_eq!(stream.read(&mut [0; 9]).unwrap(), 1);
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and nftables: .ci/run runs them"]
fn no_descriptor_is_left_after_many_connections() {
    let Some((lab, home, relay_at)) = networks() else { return };
    let _service = inside(&home.host, echo);
    // At each heartbeat half of the connections that nobody needed are closed.
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("relay.toml");
    let service = "[[relay.service]]\nname = \"echo\"\nclients = \"0.0.0.0:2222\"\n";
    std::fs::write(&config, format!("[relay]\nheartbeat = \"1 s\"\n{service}")).unwrap();
    let relay = hailer(&lab, 0, &["run", "--config", config.to_str().unwrap()]);
    let host = home.serve(lab.address(0), "127.0.0.1:7000");
    let client = lab.namespace(1).to_owned();
    // Where ports are used again only after a minute there are too few.
    run(&format!("ip netns exec {client} sysctl -q -w net.ipv4.tcp_tw_reuse=1"));
    run(&format!("ip netns exec {} sysctl -q -w net.ipv4.tcp_tw_reuse=1", home.host));
    let begun = Instant::now();
    let first = inside(&client, move || {
        while ask(relay_at, b"?").unwrap_or_default() != b"?" {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody answers");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    first.join().unwrap();
    let both = || (descriptors(&relay), descriptors(&host));
    std::thread::sleep(Duration::from_secs(5));
    let before = both();
    let each = connections() / 8;
    let clients = inside(&client, move || {
        let work = move |worker| move || (0..each).for_each(|i| come_and_go(relay_at, worker + 8 * i));
        let workers: Vec<_> = (0..8).map(|worker| inside_same(work(worker))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    clients.join().unwrap();
    let (busy, ended) = (both(), Instant::now());
    while both() != before {
        let after = both();
        assert!(ended.elapsed() < Duration::from_secs(30), "{before:?} before, {after:?} 30 s after");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "{} connections in {} s: {before:?} descriptors at relay and host, {busy:?} at their end, as before {} s later",
        8 * each,
        begun.elapsed().as_secs(),
        ended.elapsed().as_secs()
    );
}

/// Answers datagrams with themselves.
fn echo_datagrams() {
    let socket = UdpSocket::bind(("127.0.0.1", SERVICE)).unwrap();
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..len], from);
    }
}

/// Asks by a datagram, and again until it is answered.
fn ask_by_datagram(socket: &UdpSocket, at: SocketAddr, question: &[u8]) {
    let mut buffer = vec![0; 65_536];
    for _ in 0..100 {
        socket.send_to(question, at).unwrap();
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            assert_eq!(from, at);
            if buffer[..len] == *question {
                return;
            }
        }
    }
    panic!("nobody answers");
}

fn client_socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

#[test]
#[ignore = "needs root, network namespaces and nftables: .ci/run runs them"]
fn a_udp_service_behind_a_masquerading_router_answers_through_a_relay() {
    let Some((lab, home, relay_at)) = networks() else { return };
    let _service = inside(&home.host, echo_datagrams);
    let relay = || hailer(&lab, 0, &["relay", "--service", "echo=udp:0.0.0.0:2222"]);
    let relay_program = relay();
    let host = home.serve(lab.address(0), "udp:127.0.0.1:7000");
    let client = lab.namespace(1).to_owned();
    let first = inside(&client, move || {
        let socket = client_socket();
        // Fragments on the way to the relay, one frame from there on.
        for len in [10, 1, 0, 1472, 1473, 9000, 60_000] {
            ask_by_datagram(&socket, relay_at, &vec![len as u8; len]);
        }
        // Many clients, eight at once, each with an address of its own.
        let workers: Vec<_> = (0..8_u8)
            .map(|worker| {
                inside_same(move || {
                    for number in 0..25 {
                        let socket = client_socket();
                        for round in 0..4 {
                            ask_by_datagram(&socket, relay_at, &[worker, number, round]);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        socket
    });
    let socket = first.join().unwrap();
    // A session each, of which none is over yet.
    let (at_relay, at_host) = (descriptors(&relay_program), descriptors(&host));
    assert!((200..400).contains(&at_relay), "{at_relay} descriptors at the relay");
    assert!((400..700).contains(&at_host), "{at_host} descriptors at the host");

    drop(relay_program);
    let _relay_program = relay();
    let begun = Instant::now();
    // A socket stays in the namespace where it was made.
    ask_by_datagram(&socket, relay_at, b"again");
    println!("the service answered {} ms after the relay was started again", begun.elapsed().as_millis());
}

/// A network behind a router that masquerades, with one host.
struct Home {
    host: String,
}

impl Home {
    fn new(router: &str) -> Self {
        let host = format!("{router}-home");
        run(&format!("ip netns add {host}"));
        run(&format!("ip -n {router} link add inside type veth peer name eth0 netns {host}"));
        for line in [
            format!("ip -n {router} addr add 192.168.1.1/24 dev inside"),
            format!("ip -n {router} link set inside up"),
            format!("ip -n {host} addr add 192.168.1.2/24 dev eth0"),
            format!("ip -n {host} link set lo up"),
            format!("ip -n {host} link set eth0 up"),
            format!("ip -n {host} route add default via 192.168.1.1"),
            format!("ip netns exec {router} sysctl -q -w net.ipv4.ip_forward=1"),
            format!("ip netns exec {router} nft add table ip nat"),
            format!(
                "ip netns exec {router} nft add chain ip nat out {{ type nat hook postrouting priority 100 ; }}"
            ),
            format!("ip netns exec {router} nft add rule ip nat out oifname eth0 masquerade"),
        ] {
            run(&line);
        }
        Self { host }
    }

    /// The host of the service `echo`, which is there.
    fn serve(&self, relay: Ipv4Addr, to: &str) -> Running {
        let mut host = Command::new("ip");
        host.args(["netns", "exec", &self.host, env!("CARGO_BIN_EXE_hailer"), "host", "--to", to]);
        host.args(["--relay", &format!("{relay}:8000"), "--service", "echo"]);
        Running(host.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("ip can be run"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.host]).status();
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let program = words.next().expect("a line has a word");
    let status = Command::new(program).args(words).status().expect("the program is installed");
    assert!(status.success(), "{line}: {status}");
}
