//! A scenario's network as it is before anything happens: segments, machines, routes, NATs, Docker.

use crate::fabric::random::Stream;
use crate::fabric::{Fabric, HostId, InterfaceId, SegmentId};
use crate::scenario::{self, Kind, Scenario};

/// A network that nobody has switched on.
#[derive(Debug)]
pub struct Layout {
    /// The network.
    pub fabric: Fabric,
    /// The machine of each of the scenario's nodes. A container on the network of its host has that of the host.
    pub hosts: Vec<HostId>,
    /// What each node's clock is drawn from.
    pub(super) clocks: Vec<Stream>,
}

impl Layout {
    /// Builds the network of a scenario.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let mut fabric = Fabric::new(seed, super::beacon_port(scenario));
        let segment = |segment: &scenario::Segment| {
            let id = fabric.add_segment(segment.prefix);
            fabric.set_medium(id, segment.medium, segment.has_names);
            for (name, addresses) in &segment.names {
                addresses.iter().for_each(|address| fabric.add_name(id, name, *address));
            }
            for (name, places) in &segment.services {
                let places = places.iter().map(|place| (place.host.clone(), place.port)).collect();
                fabric.add_service(id, name, places);
            }
            id
        };
        let segments: Vec<SegmentId> = scenario.segments.iter().map(segment).collect();
        let mut layout = Self { fabric, hosts: Vec::new(), clocks: Vec::new() };
        let mut drawn = Vec::new();
        for node in &scenario.nodes {
            let host = layout.add(scenario, &segments, node);
            layout.hosts.push(host);
            let mut clock = Stream::new(seed, &format!("{}/clock", node.name));
            drawn.push((clock.drift(node.clock.drift), clock.skew(node.clock.skew)));
            layout.clocks.push(clock);
        }
        for (index, node) in scenario.nodes.iter().enumerate() {
            let machine = node.kind.docker_host().map_or(index, |docker_host| docker_host.0 as usize);
            let docker_host = layout.hosts[machine];
            match node.kind {
                Kind::HostNetwork(_) => layout.hosts[index] = docker_host,
                Kind::Container(_) => layout.fabric.put_on_docker_host(layout.hosts[index], docker_host),
                Kind::Computer | Kind::Router | Kind::DockerHost => {}
            }
            // A container has the clock of its Docker host.
            let (drift, skew) = drawn[machine];
            layout.fabric.set_clock(layout.hosts[index], skew, drift);
        }
        layout
    }

    fn add(&mut self, scenario: &Scenario, segments: &[SegmentId], node: &scenario::Node) -> HostId {
        let fabric = &mut self.fabric;
        let host = fabric.add_host(&node.name);
        let attach = |attachment: &scenario::Attachment| {
            let segment = segments[attachment.segment.0 as usize];
            let id = fabric.attach(host, segment, attachment.address, &attachment.link);
            let prefix = scenario.segments[attachment.segment.0 as usize].prefix6;
            if let (Some(address), Some(prefix)) = (attachment.address6, prefix) {
                fabric.add_address6(id, address, prefix);
            }
            id
        };
        let interfaces: Vec<InterfaceId> = node.interfaces.iter().map(attach).collect();
        for route in &node.routes {
            fabric.add_route(route.to, interfaces[route.interface], route.via);
        }
        if node.kind.is_router() {
            fabric.make_router(host);
        }
        if let Some(nat) = &node.nat {
            fabric.translate(interfaces[nat.outside], nat.policy.clone());
            match nat.userland_proxy {
                // Its ports are published when containers start.
                Some(has_proxy) => fabric.publish_ports(host, has_proxy),
                None => nat.forwards.iter().for_each(|forward| {
                    fabric.forward_port(host, forward.protocol, forward.port, forward.to);
                }),
            }
        }
        host
    }
}
