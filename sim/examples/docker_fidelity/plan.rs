//! Who asks what: everything that a scenario with Docker hosts can be asked about who reaches whom.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hailer_sim::scenario::{Kind, Medium, Node, NodeIndex, Protocol, Scenario};

use crate::probe::Question;

/// A machine with its questions.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) node: NodeIndex,
    /// With what the question is about.
    pub(crate) questions: Vec<(Topic, Question)>,
    /// Names to resolve.
    pub(crate) names: Vec<String>,
}

/// What a question is about: the heading of its line.
pub(crate) type Topic = String;

/// The answers to all questions, by who asked and what about.
pub(crate) type Matrix = BTreeMap<(NodeIndex, Topic), String>;

/// The port of a machine's own server. Two of them share the machine of a Docker host.
pub(crate) fn own_port(node: &Node) -> u16 {
    match node.kind {
        Kind::Computer | Kind::Router | Kind::Container(_) => 80,
        Kind::DockerHost => 90,
        Kind::HostNetwork(_) => 91,
    }
}

pub(crate) fn node(scenario: &Scenario, index: NodeIndex) -> &Node {
    &scenario.nodes[index.0 as usize]
}

/// The Docker host that a node is or is on.
pub(crate) fn docker_host(scenario: &Scenario, index: NodeIndex) -> Option<NodeIndex> {
    let kind = node(scenario, index).kind;
    if kind == Kind::DockerHost { Some(index) } else { kind.docker_host() }
}

pub(crate) fn all(scenario: &Scenario) -> impl Iterator<Item = (NodeIndex, &Node)> {
    (0..).map(NodeIndex).zip(&scenario.nodes)
}

/// All questions of a scenario.
pub(crate) fn askers(scenario: &Scenario) -> Vec<Asker> {
    all(scenario).map(|(index, _)| asker(scenario, index)).collect()
}

fn asker(scenario: &Scenario, index: NodeIndex) -> Asker {
    let (own, home) = (node(scenario, index), docker_host(scenario, index));
    let mut questions = Vec::new();
    let mut both = |topic: &str, to: SocketAddr| {
        for protocol in ["tcp", "udp"] {
            questions.push((format!("{topic}, {protocol}"), format!("{protocol} {to}")));
        }
    };
    for (other, server) in all(scenario).filter(|(other, _)| *other != index) {
        // The default bridges of two hosts have the same addresses.
        let is_near = docker_host(scenario, other) == home;
        let place = server.kind.docker_host().map_or(server, |host| node(scenario, host));
        let place = if matches!(server.kind, Kind::HostNetwork(_)) { place } else { server };
        for own in &place.interfaces {
            let medium = scenario.segments[own.segment.0 as usize].medium;
            if is_near || medium == Medium::Lan {
                let to = SocketAddr::new(IpAddr::V4(own.address), own_port(server));
                both(&format!("{} at {to}", server.name), to);
            }
        }
    }
    for (host, docker) in all(scenario).filter(|(_, node)| node.kind == Kind::DockerHost) {
        let mut addresses: Vec<Ipv4Addr> = docker.interfaces.iter().map(|own| own.address).collect();
        if home == Some(host) {
            if !matches!(own.kind, Kind::Container(_)) {
                addresses.push(Ipv4Addr::LOCALHOST);
            }
        } else {
            addresses.truncate(1);
        }
        for (_, container) in all(scenario).filter(|(_, node)| node.kind == Kind::Container(host)) {
            for published in &container.published {
                for address in &addresses {
                    let protocol = if published.protocol == Protocol::Tcp { "tcp" } else { "udp" };
                    let to = SocketAddr::new(IpAddr::V4(*address), published.port);
                    let inner = published.to;
                    let topic = format!("{}:{inner} published at {to}, {protocol}", container.name);
                    questions.push((topic, format!("{protocol} {to}")));
                }
            }
        }
    }
    for interface in &own.interfaces {
        let broadcast = scenario.segments[interface.segment.0 as usize].prefix.broadcast();
        questions.push((format!("broadcast to {broadcast}"), format!("broadcast {broadcast}")));
    }
    let mut names = Vec::new();
    if let Kind::Container(host) = own.kind {
        let everywhere = "broadcast to 255.255.255.255".to_owned();
        questions.push((everywhere, "broadcast 255.255.255.255".to_owned()));
        questions.push(("multicast".to_owned(), "multicast".to_owned()));
        let near = all(scenario).filter(|(_, other)| other.kind == Kind::Container(host));
        names.extend(near.map(|(_, other)| other.name.clone()));
        names.push("site".to_owned());
    }
    Asker { node: index, questions, names }
}
