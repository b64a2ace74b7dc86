//! Sites: LANs of their own, joined by a backbone that carries no broadcast of theirs.
//!
//! Site 1 has the network 10.81.0.0/24, site 2 10.82.0.0/24, and so on; host 1 of each is its gateway, with `eth1` on the
//! backbone, 10.80.0.0/24, where its number is that of its site. Gateways pass packets on, or do not: then nobody reaches
//! anybody at another site.

use std::path::PathBuf;
use std::process::Command;

use super::lab::{run, sweep, try_run, unique};

/// Sites with hosts. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Sites {
    switches: Vec<String>,
    /// The hosts of each site, the gateway first.
    hosts: Vec<Vec<String>>,
}

impl Sites {
    /// So many sites of so many hosts, with routes between them or without.
    ///
    /// # Panics
    /// When a command fails; the message has its output.
    pub(crate) fn new(sites: u8, hosts: u8, is_routed: bool) -> Self {
        sweep();
        let mut lab = Self { switches: Vec::new(), hosts: Vec::new() };
        let backbone = lab.switch();
        for site in 1..=sites {
            let switch = lab.switch();
            lab.hosts.push(Vec::new());
            for host in 1..=hosts {
                let name = unique(&format!("s{site}h{host}"));
                lab.hosts[usize::from(site) - 1].push(name.clone());
                run("ip", &["netns", "add", &name]);
                inside(&name, "ip link set lo up");
                plug(&switch, &name, "eth0", &format!("10.{}.0.{host}", 80 + site));
                if host == 1 {
                    plug(&backbone, &name, "eth1", &format!("10.80.0.{site}"));
                    let forward = u8::from(is_routed);
                    inside(&name, &format!("sysctl -q -w net.ipv4.ip_forward={forward}"));
                    for other in (1..=sites).filter(|other| *other != site && is_routed) {
                        inside(&name, &format!("ip route add 10.{}.0.0/24 via 10.80.0.{other}", 80 + other));
                    }
                } else if is_routed {
                    inside(&name, &format!("ip route add default via 10.{}.0.1", 80 + site));
                }
            }
        }
        lab
    }

    /// Gives site 1 the network fd00:81::/64, site 2 fd00:82::/64 and so on, with routes between them.
    pub(crate) fn add_ipv6(&self) {
        for (site, hosts) in (1..).zip(&self.hosts) {
            for (number, host) in (1..).zip(hosts) {
                inside(host, &format!("ip addr add fd00:{}::{number}/64 nodad dev eth0", 80 + site));
                if number > 1 {
                    inside(host, &format!("ip route add default via fd00:{}::1", 80 + site));
                    continue;
                }
                inside(host, &format!("ip addr add fd00:80::{site}/64 nodad dev eth1"));
                inside(host, "sysctl -q -w net.ipv6.conf.all.forwarding=1");
                for other in (1..=self.hosts.len()).filter(|other| *other != site) {
                    inside(host, &format!("ip route add fd00:{}::/64 via fd00:80::{other}", 80 + other));
                }
            }
        }
    }

    /// A command that will run on a host; sites and hosts count from 1.
    pub(crate) fn command(&self, site: u8, host: u8, program: &str) -> Command {
        let mut command = Command::new("ip");
        let name = &self.hosts[usize::from(site) - 1][usize::from(host) - 1];
        command.args(["netns", "exec", name, program]);
        command
    }

    /// Programs on a host, started from now on, ask this server for names: `ip netns exec` shows them its own file.
    pub(crate) fn set_name_server(&self, site: u8, host: u8, address: &str) {
        let name = &self.hosts[usize::from(site) - 1][usize::from(host) - 1];
        let folder = folder_of(name);
        std::fs::create_dir_all(&folder).expect("we are root");
        std::fs::write(folder.join("resolv.conf"), format!("nameserver {address}\n")).expect("we are root");
    }

    fn switch(&mut self) -> String {
        let name = unique("sw");
        self.switches.push(name.clone());
        run("ip", &["netns", "add", &name]);
        inside(&name, "ip link add br0 type bridge mcast_snooping 0 forward_delay 0");
        inside(&name, "ip link set br0 up");
        name
    }
}

/// What `ip netns exec` shows in `/etc` to the programs of a namespace.
fn folder_of(namespace: &str) -> PathBuf {
    PathBuf::from("/etc/netns").join(namespace)
}

/// A cable from a host's interface to a switch.
fn plug(switch: &str, host: &str, interface: &str, address: &str) {
    let port = format!("p{}", address.replace('.', "-").trim_start_matches("10-"));
    inside(switch, &format!("ip link add {port} type veth peer name {interface} netns {host}"));
    inside(switch, &format!("ip link set {port} master br0 up"));
    inside(host, &format!("ip link set {interface} up"));
    inside(host, &format!("ip addr add {address}/24 brd + dev {interface}"));
}

fn inside(namespace: &str, command: &str) {
    let mut words = vec!["netns", "exec", namespace];
    words.extend(command.split(' '));
    run("ip", &words);
}

impl Drop for Sites {
    fn drop(&mut self) {
        for name in self.hosts.iter().flatten().chain(&self.switches) {
            if let Err(error) = try_run("ip", &["netns", "del", name]) {
                eprintln!("{error}");
            }
            let _ = std::fs::remove_dir_all(folder_of(name));
        }
    }
}
