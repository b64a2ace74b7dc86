//! A service behind a real NAT (nftables masquerade) is reached through a relay: echo, half-close, bulk, many short sessions,
//! a relay that is killed. The client and the relay are outside the NAT, the host and its service are inside.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "programs on real networks, seen from outside, in real time"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
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

#[test]
#[ignore = "needs root, network namespaces and nftables: .ci/run runs them"]
fn a_service_behind_a_masquerading_router_is_reached_through_a_relay() {
    if !lab::is_available_or_say_so() {
        return;
    }
    // The relay, a client, and the router, which has one more network behind it.
    let lab = Lab::new(3);
    let home = Home::new(lab.namespace(2));
    let relay_at = SocketAddr::new(lab.address(0).into(), CLIENTS);
    let _service = inside(&home.host, echo);
    let mut relay_program = relay(&lab);
    let mut host = Command::new("ip");
    host.args(["netns", "exec", &home.host, env!("CARGO_BIN_EXE_hailer"), "host", "--to", "127.0.0.1:7000"]);
    host.args(["--relay", &format!("{}:8000", lab.address(0)), "--service", "echo"]);
    let host = Running(host.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("ip can be run"));
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
