//! A laboratory of network namespaces: hosts on one switch, made for one test and gone after it.
//!
//! Every host has `lo`, and `eth0` with the addresses 10.77.0.1, 10.77.0.2, .. (and fd77::1, ..). Every laboratory uses the
//! same addresses: they mean nothing outside it. The switch lives in a namespace of its own, so that nothing shows on the
//! machine itself but names that start with `hl-`. It needs root and the `ip` command, loss also `nft`.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Hosts on one switch. Dropping it removes it, also while a test panics.
#[derive(Debug)]
pub(crate) struct Lab {
    hosts: Vec<String>,
    switch: String,
}

/// Whether laboratories can be made here; if not, says so, and in CI fails.
pub(crate) fn is_available_or_say_so() -> bool {
    match available() {
        Ok(()) => true,
        Err(reason) => {
            say_not_run(&format!("network namespaces can't be used here: {reason}"));
            false
        }
    }
}

/// Says that a test did not run and why, past the test harness, which hides what a passing test prints. In CI (`CI=true`)
/// everything must run, so there it fails.
pub(crate) fn say_not_run(reason: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "NOT RUN: {reason}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "NOT RUN: {test}: {reason}").expect("standard error is open");
}

/// Whether laboratories can be made here, or why not.
pub(crate) fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("they need root".to_owned());
    }
    let probe = unique("probe");
    try_run("ip", &["netns", "add", &probe]).and_then(|()| try_run("ip", &["netns", "del", &probe]))
}

impl Lab {
    /// A laboratory of `count` hosts, at most 200.
    ///
    /// # Panics
    /// When a command fails; the message has its output.
    pub(crate) fn new(count: u8) -> Self {
        assert!((1..=200).contains(&count), "a laboratory has 1 to 200 hosts");
        sweep();
        let mut lab = Self { hosts: Vec::new(), switch: unique("sw") };
        let switch = lab.switch.clone();
        run("ip", &["netns", "add", &switch]);
        // Snooping would wait for a querier that is not there; the forwarding delay only matters to spanning trees.
        in_namespace(&switch, "ip link add br0 type bridge mcast_snooping 0 forward_delay 0");
        in_namespace(&switch, "ip link set br0 up");
        for host in 0..count {
            let name = unique(&format!("h{}", host + 1));
            lab.hosts.push(name.clone());
            run("ip", &["netns", "add", &name]);
            let port = format!("port{}", host + 1);
            in_namespace(&switch, &format!("ip link add {port} type veth peer name eth0 netns {name}"));
            in_namespace(&switch, &format!("ip link set {port} master br0 up"));
            in_namespace(&name, "ip link set lo up");
            in_namespace(&name, "ip link set eth0 up");
            in_namespace(&name, &format!("ip addr add {}/24 dev eth0", lab.address(host)));
            // Duplicate address detection would keep the address unusable for a second. A kernel without IPv6 is fine.
            let v6 = format!("netns exec {name} ip addr add {}/64 dev eth0 nodad", lab.address_v6(host));
            let _ = try_run("ip", &v6.split(' ').collect::<Vec<_>>());
        }
        lab
    }

    /// The namespace of a host, counted from 0.
    pub(crate) fn namespace(&self, host: u8) -> &str {
        &self.hosts[usize::from(host)]
    }

    /// A host's address, counted from 0.
    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, host + 1)
    }

    /// A host's IPv6 address.
    pub(crate) fn address_v6(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host) + 1)
    }

    /// A command that will run on a host.
    pub(crate) fn command(&self, host: u8, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.namespace(host), program]);
        command
    }

    /// Pulls a host's cable out: it sends and hears nothing, and its kernel does not know.
    #[allow(dead_code, reason = "each test program uses a part of this file")]
    pub(crate) fn unplug(&self, host: u8) {
        in_namespace(&self.switch, &format!("ip link set port{} nomaster", host + 1));
    }

    /// Puts it back.
    #[allow(dead_code, reason = "each test program uses a part of this file")]
    pub(crate) fn plug(&self, host: u8) {
        in_namespace(&self.switch, &format!("ip link set port{} master br0", host + 1));
    }

    /// Gives a host another address, as with a new lease of DHCP.
    #[allow(dead_code, reason = "each test program uses a part of this file")]
    pub(crate) fn readdress(&self, host: u8, address: Ipv4Addr) {
        let name = self.namespace(host);
        in_namespace(name, &format!("ip addr del {}/24 dev eth0", self.address(host)));
        in_namespace(name, &format!("ip addr add {address}/24 dev eth0"));
    }

    /// Loses `percent` of the TCP and UDP packets that come in at every host.
    #[allow(dead_code, reason = "each test program uses a part of this file")]
    pub(crate) fn lose(&self, percent: u8) {
        for host in &self.hosts {
            in_namespace(host, "nft add table netdev weather");
            in_namespace(
                host,
                "nft add chain netdev weather in { type filter hook ingress device eth0 priority 0 ; }",
            );
            for version in ["ip protocol", "ip6 nexthdr"] {
                in_namespace(
                    host,
                    &format!(
                        "nft add rule netdev weather in {version} {{ tcp, udp }} numgen random mod 100 < {percent} drop"
                    ),
                );
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.switch]) {
            if let Err(error) = try_run("ip", &["netns", "del", name]) {
                eprintln!("{error}");
            }
        }
    }
}

/// A namespace name that no other test of this machine uses: `hl-<process>-<number>-<what>`.
pub(crate) fn unique(what: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("hl-{}-{}-{what}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Removes what a killed test process left behind.
pub(crate) fn sweep() {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix("hl-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !std::path::Path::new("/proc").join(process).exists()) {
            // Another test may be sweeping too.
            let _ = try_run("ip", &["netns", "del", &name]);
        }
    }
}

/// Runs a command, whose words are separated by single spaces, in a namespace.
fn in_namespace(namespace: &str, command: &str) {
    let mut words = vec!["netns", "exec", namespace];
    words.extend(command.split(' '));
    run("ip", &words);
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    if let Err(error) = try_run(program, arguments) {
        panic!("{error}");
    }
}

pub(crate) fn try_run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
