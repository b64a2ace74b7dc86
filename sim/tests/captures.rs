//! `--pcap` and `--trace`: they change nothing, they agree with the counters, and Wireshark believes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::task::{Context, Waker};

use hailer::Timestamp;
use hailer::net::UdpOptions;
use hailer_sim::fabric::Fabric;
use hailer_sim::fabric::capture::Capture;
use hailer_sim::scenario::{Link, Scenario};
use hailer_sim::trace::Trace;
use hailer_sim::world::{self, Options};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;

/// Loss, duplicates, retransmissions, a reset, large messages.
const SCENARIO: &str = r#"
[scenario]
about = "three talkative nodes on a bad link"
seed = 3
duration = "8 s"

[[segment]]
name = "lan"
prefix = "10.0.0.0/24"
link = { delay = "1 ms..4 ms", loss = "8 %", duplicate = "2 %" }

[[node]]
name = "n"
count = 3
segment = "lan"
[node.zre]
groups = ["ALL"]

[[traffic]]
from = "n"
shout = "ALL"
every = "250 ms"
bytes = 5001

[[step]]
at = "6 s"
node = "n3"
crash = "process-exit"

[[expect]]
always = "nobody-unknown-appears"
"#;

fn run(pcap: Option<&Path>, trace: Option<&Path>) -> Trace {
    let scenario = Scenario::parse("captured.toml", SCENARIO).unwrap_or_else(|problems| panic!("{problems}"));
    world::run(&scenario, Options { pcap, trace, ..Options::default() }).unwrap()
}

/// Packets that the counters say were sent, and came.
fn counted(trace: &Trace) -> (u64, u64) {
    let sum = |counts: &BTreeMap<_, hailer_sim::trace::Count>| {
        counts.values().map(|count| count.packets).sum::<u64>()
    };
    let sent = trace.traffic.iter().map(|traffic| sum(&traffic.sent)).sum();
    (sent, trace.traffic.iter().map(|traffic| sum(&traffic.received)).sum())
}

#[test]
fn looking_on_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (pcap, trace) = (folder.path().join("run.pcapng"), folder.path().join("run.jsonl"));
    assert_eq!(run(Some(&pcap), Some(&trace)).digest, run(None, None).digest);
}

#[test]
fn a_capture_has_every_packet_that_was_sent_and_every_one_that_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.pcapng");
    let trace = run(Some(&path), None);
    let mut reader = PcapNgReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let (mut interfaces, mut sent, mut received, mut bytes) = (0, 0, 0, 0);
    let mut last = std::time::Duration::ZERO;
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(_) => interfaces += 1,
            Block::EnhancedPacket(packet) => {
                assert!(packet.timestamp >= last, "packets are in the order of time");
                last = packet.timestamp;
                match packet.options[..] {
                    [EnhancedPacketOption::Flags(1)] => received += 1,
                    [EnhancedPacketOption::Flags(2)] => {
                        sent += 1;
                        bytes += packet.data.len() as u64;
                    }
                    ref other => panic!("a packet without a direction: {other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let counted_bytes =
        trace.traffic.iter().flat_map(|traffic| traffic.sent.values()).map(|count| count.bytes);
    assert_eq!(interfaces, 3);
    assert_eq!((sent, received), counted(&trace));
    assert_eq!(bytes, counted_bytes.sum::<u64>());
    assert!(received < sent * 2, "what was lost has not come");
}

#[test]
fn a_trace_file_has_a_line_for_every_record_and_every_drop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let trace = run(None, Some(&path));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let times: Vec<u64> = lines.iter().map(|line| line["at_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
    let (drops, records): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["what"] == "drop");
    assert_eq!(records.len(), trace.records.len());
    let dropped =
        trace.traffic.iter().flat_map(|traffic| traffic.dropped.values()).map(|count| count.packets);
    assert_eq!(drops.len() as u64, dropped.sum::<u64>());
    assert!(drops.iter().any(|line| line["cause"] == "loss" && line["kind"] == "beacon"));
}

fn hailer_sim(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("captured.toml"), SCENARIO).unwrap();
    std::fs::write(folder.path().join("other.toml"), SCENARIO).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hailer-sim"));
    command.current_dir(folder.path()).arg("run").args(arguments).output().unwrap()
}

#[test]
fn captures_of_several_runs_are_refused() {
    for arguments in [
        &["captured.toml", "--seeds", "1..2", "--pcap", "x"][..],
        &["captured.toml", "--seeds", "1..2", "--trace", "x"],
        &["captured.toml", "other.toml", "--pcap", "x"],
        &["captured.toml", "other.toml", "--trace", "x"],
    ] {
        assert_eq!(hailer_sim(arguments).status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn a_capture_that_cannot_be_written_is_named() {
    let output = hailer_sim(&["captured.toml", "--no-report", "--pcap", "nowhere/run.pcapng"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't write nowhere/run.pcapng"));
}

/// What tshark prints about a capture, a line for each packet that the filter lets through.
fn tshark(path: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-T", "fields", "-Y", filter]);
    for protocol in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    let output = command.args(fields.iter().flat_map(|field| ["-e", field])).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A capture of what passes a router, and of each error: port, host and network unreachable, time exceeded, too long.
fn capture_errors(path: &Path) {
    let mut fabric = Fabric::new(1, 5670);
    let link = |mtu| Link { mtu, ..Link::default() };
    let [left, right] =
        ["10.1.0.0/24", "10.2.0.0/24"].map(|prefix| fabric.add_segment(prefix.parse().unwrap()));
    let [a, r, b] = ["a", "r", "b"].map(|name| fabric.add_host(name));
    let at = |text: &str| text.parse().unwrap();
    let a_left = fabric.attach(a, left, at("10.1.0.9"), &link(1500));
    let r_left = fabric.attach(r, left, at("10.1.0.1"), &link(1500));
    let r_right = fabric.attach(r, right, at("10.2.0.1"), &link(1300));
    let b_right = fabric.attach(b, right, at("10.2.0.9"), &link(1500));
    fabric.make_router(r);
    for (interface, address, prefix) in [
        (a_left, "fd00:1::9", "fd00:1::/64"),
        (r_left, "fd00:1::1", "fd00:1::/64"),
        (r_right, "fd00:2::1", "fd00:2::/64"),
        (b_right, "fd00:2::9", "fd00:2::/64"),
    ] {
        fabric.add_address6(interface, address.parse().unwrap(), prefix.parse().unwrap());
    }
    for (interface, to, via) in [
        (a_left, "::/0", "fd00:1::1"),
        (b_right, "::/0", "fd00:2::1"),
        (r_right, "fd00:3::/64", "fd00:2::9"),
        (a_left, "0.0.0.0/0", "10.1.0.1"),
        (b_right, "0.0.0.0/0", "10.2.0.1"),
        // Round in a circle.
        (r_right, "10.3.0.0/16", "10.2.0.9"),
    ] {
        fabric.add_route(to.parse().unwrap(), interface, via.parse().unwrap());
    }
    fabric.make_router(b);
    [a, r, b].into_iter().for_each(|host| fabric.power_on(host));
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let names = fabric.interface_names();
    fabric.add_tap(Box::new(Capture::new(file, &names).unwrap()));
    let socket = fabric.udp_bind(a, &UdpOptions::at("0.0.0.0:7000".parse().unwrap())).unwrap();
    for to in ["10.2.0.9:9", "10.2.0.77:9", "10.9.0.1:9", "10.3.0.1:9"] {
        fabric.udp_send(socket, &[1; 700], to.parse().unwrap()).unwrap();
    }
    let socket6 = fabric.udp_bind(a, &UdpOptions::at("[::]:7000".parse().unwrap())).unwrap();
    for to in ["[fd00:2::9]:9", "[fd00:2::77]:9", "[fd00:9::1]:9", "[fd00:3::1]:9"] {
        fabric.udp_send(socket6, &[1; 700], to.parse().unwrap()).unwrap();
    }
    fabric.udp_send(socket6, &[1; 1400], "[fd00:2::9]:9".parse().unwrap()).unwrap();
    fabric.udp_send(socket, &[2; 1400], "10.2.0.9:7000".parse().unwrap()).unwrap();
    fabric.tcp_listen(b, "0.0.0.0:80".parse().unwrap()).unwrap();
    let stream = fabric.tcp_connect(a, "10.2.0.9:80".parse().unwrap(), None).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut is_written = false;
    let end = Timestamp::from_millis(20_000);
    while fabric.next_at().is_some_and(|next| next < end) {
        fabric.step();
        if !is_written && fabric.tcp_poll_connected(stream, &mut context).is_ready() {
            is_written = fabric.tcp_poll_write(stream, &mut context, &[3; 5000]).is_ready();
        }
    }
    fabric.take_taps().into_iter().for_each(|mut tap| tap.finish().unwrap());
}

/// What Wireshark would call wrong: packets that make no sense, checksums, errors of protocols.
const BAD: &str = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 \
                   || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || _ws.expert.severity == error";

/// A scenario of the repository, captured.
fn capture_scenario(name: &str, folder: &Path) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(format!("{name}.toml"));
    let path = folder.join(format!("{name}.pcapng"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hailer-sim"));
    let output = command.args(["run", "--no-report", "--pcap"]).args([&path, &file]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    path
}

fn has_tshark() -> bool {
    let has = Command::new("tshark").arg("--version").output().is_ok();
    if !has {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI has to have tshark");
        eprintln!("not checked: there is no tshark here");
    }
    has
}

#[test]
#[ignore = "needs tshark (Debian: apt-get install tshark); run with `cargo test -p hailer-sim --test captures -- --ignored`"]
fn wireshark_knows_every_error_and_every_router_on_the_way() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("errors.pcapng");
    capture_errors(&path);
    // Wireshark tries to check the TCP segments that errors quote, of which most is cut off.
    let bad = "_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 || (_ws.expert.severity == error && !icmp && !icmpv6)";
    assert_eq!(tshark(&path, bad, &["frame.number", "_ws.expert.message"]), Vec::<String>::new());
    let mut errors = tshark(&path, "icmp && frame.packet_flags_direction == 2", &["icmp.type", "icmp.code"]);
    errors.sort();
    errors.dedup();
    // Network, host, port unreachable, fragmentation needed; time exceeded.
    assert_eq!(errors, ["11\t0", "3\t0", "3\t1", "3\t3", "3\t4"]);
    let filter = "icmpv6 && frame.packet_flags_direction == 2";
    let mut errors = tshark(&path, filter, &["icmpv6.type", "icmpv6.code"]);
    errors.sort();
    errors.dedup();
    // No route, address, port; too big; time exceeded.
    assert_eq!(errors, ["1\t0", "1\t3", "1\t4", "2\t0", "3\t0"]);
    assert!(!tshark(&path, "icmp.mtu == 1300", &["frame.number"]).is_empty());
    // One router takes one off the time to live of what comes to b.
    let came =
        "frame.interface_name == \"b/eth0\" && frame.packet_flags_direction == 1 && ip.dst == 10.2.0.9";
    let mut lives = tshark(&path, came, &["ip.ttl"]);
    lives.dedup();
    assert_eq!(lives, ["63"]);
}

#[test]
#[ignore = "needs tshark (Debian: apt-get install tshark); run with `cargo test -p hailer-sim --test captures -- --ignored`"]
fn wireshark_opens_a_capture_without_complaint() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.pcapng");
    let trace = run(Some(&path), None);
    let (sent, received) = counted(&trace);

    assert_eq!(tshark(&path, BAD, &["frame.number", "_ws.expert.message"]), Vec::<String>::new());
    let good = "ip.checksum.status == 1 && (tcp.checksum.status == 1 || udp.checksum.status == 1)";
    assert_eq!(tshark(&path, good, &["frame.number"]).len() as u64, sent + received);
    assert_eq!(tshark(&path, "frame.packet_flags_direction == 2", &["frame.number"]).len() as u64, sent);

    let mut names = tshark(&path, "frame", &["frame.interface_name"]);
    names.sort();
    names.dedup();
    assert_eq!(names, ["n1/eth0", "n2/eth0", "n3/eth0"]);
    // A ZRE beacon: "ZRE", version 1.
    let beacons = tshark(&path, "udp.dstport == 5670", &["data.data"]);
    assert!(beacons.iter().all(|beacon| beacon.starts_with("5a524501") && beacon.len() == 44), "{beacons:?}");
    assert!(beacons.len() > 30);
    // A ZMTP greeting: its signature, and version 3.
    let greetings = tshark(&path, "tcp.len > 0 && tcp.seq == 1", &["tcp.payload"]);
    assert!(
        greetings.iter().any(|payload| payload.starts_with("ff") && payload[18..].starts_with("7f03")),
        "{greetings:?}"
    );
    // Windows are those of the handshake's scale: wider than 16 bits can say.
    let windows = tshark(&path, "tcp.window_size > 65535 && tcp.flags.syn == 0", &["tcp.window_size"]);
    assert!(!windows.is_empty());
}

#[test]
#[ignore = "needs tshark (Debian: apt-get install tshark); run with `cargo test -p hailer-sim --test captures -- --ignored`"]
fn wireshark_opens_captures_of_nats_docker_ipv6_and_services_without_complaint() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, protocol) in [
        ("double-nat", "udp.dstport == 5670"),
        ("docker-overlay", "tcp"),
        ("islands", "ipv6 && udp.dstport == 5670"),
        ("relay-udp", "echo"),
        ("relay-zre", "tcp.dstport == 8000"),
        ("repeater-bridges", "tcp"),
        ("repeater-overlay-2", "vxlan"),
    ] {
        let path = capture_scenario(name, folder.path());
        let bad = tshark(&path, BAD, &["frame.number", "frame.protocols", "_ws.expert.message"]);
        assert_eq!(bad, Vec::<String>::new(), "{name}");
        assert!(tshark(&path, protocol, &["frame.number"]).len() > 100, "{name} has {protocol}");
    }
}

#[test]
#[ignore = "needs tshark (Debian: apt-get install tshark); run with `cargo test -p hailer-sim --test captures -- --ignored`"]
fn wireshark_looks_into_the_tunnels_of_an_overlay() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = capture_scenario("repeater-overlay-2", folder.path());
    // Of two IP headers in a packet tshark tells both, the outer one first.
    let fields = ["vxlan.vni", "ip.src", "ip.dst", "ip.len", "eth.dst", "tcp.checksum.status"];
    let filter = "vxlan && tcp && frame.packet_flags_direction == 2";
    let tunnelled = tshark(&path, filter, &fields);
    assert!(tunnelled.len() > 100);
    for line in &tunnelled {
        let fields: Vec<Vec<&str>> = line.split('\t').map(|field| field.split(',').collect()).collect();
        let [vni, from, to, lengths, towards, checksum] = &fields[..] else { panic!("{line}") };
        assert_eq!((&vni[..], &checksum[..]), (&["4097"][..], &["1"][..]), "{line}");
        assert!(from[0].starts_with("192.168.1.") && to[0].starts_with("192.168.1."), "{line}");
        assert!(from[1].starts_with("10.0.1.") && to[1].starts_with("10.0.1."), "{line}");
        let numbers = to[1].split('.').map(|number| format!("{:02x}", number.parse::<u8>().unwrap()));
        assert_eq!(towards[0], format!("02:42:{}", numbers.collect::<Vec<_>>().join(":")));
        let [outer, inner] = [0, 1].map(|at: usize| lengths[at].parse::<u32>().unwrap());
        assert_eq!(outer, inner + 50, "IP, UDP, VXLAN, Ethernet");
    }
}

#[test]
#[ignore = "needs tshark (Debian: apt-get install tshark); run with `cargo test -p hailer-sim --test captures -- --ignored`"]
fn wireshark_sees_a_translated_connection_with_both_of_its_addresses() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = capture_scenario("relay-zre", folder.path());
    let at = |interface: &str, direction: u8| {
        let filter = format!(
            "frame.interface_name == \"{interface}\" && frame.packet_flags_direction == {direction} \
             && tcp.flags.syn == 1 && tcp.flags.ack == 0 && ip.dst == 203.0.113.100"
        );
        let lines = tshark(&path, &filter, &["ip.src", "tcp.dstport", "tcp.seq_raw"]);
        lines.into_iter().map(|line| {
            let (from, rest) = line.split_once('\t').unwrap();
            (rest.to_owned(), from.to_owned())
        })
    };
    // The same SYN by its destination and sequence number, as it comes to the router and as it leaves that.
    for router in ["router-a", "router-b"] {
        let inside: BTreeMap<_, _> = at(&format!("{router}/eth0"), 1).collect();
        let outside: BTreeMap<_, _> = at(&format!("{router}/eth1"), 2).collect();
        assert!(inside.len() > 3, "{inside:?}");
        assert_eq!(inside.keys().collect::<Vec<_>>(), outside.keys().collect::<Vec<_>>());
        assert!(inside.values().all(|from| from.starts_with("192.168.1.")), "{inside:?}");
        let mut translated: Vec<_> = outside.into_values().collect();
        translated.dedup();
        assert_eq!(translated.len(), 1, "one address for all of them: {translated:?}");
        assert!(translated[0].starts_with("203.0.113."), "{translated:?}");
    }
}
