//! UDP services, from the client's socket to the local service's.

use super::modern::{certificate, connected, host_config, relay, relay_config, token};
use super::*;
use crate::net::OsUdp;
use crate::relay::frame::DATAGRAM_BYTES_MAX;

fn udp_config(limits: Limits) -> Config {
    let mut config = relay_config(limits);
    config.services.get_mut("echo").unwrap().protocol = Protocol::Udp;
    config
}

fn udp_host(relay: SocketAddr, to: SocketAddr) -> HostConfig {
    let service = HostService { token: token(), ..HostService::at(Local::Udp(place(to))) };
    HostConfig { services: BTreeMap::from([("echo".to_owned(), service)]), ..host_config(relay) }
}

fn socket(net: &OsNet) -> OsUdp {
    net.bind_udp(&UdpOptions::at(ANY)).unwrap()
}

/// A service that answers each datagram with itself.
fn service(net: &OsNet) -> SocketAddr {
    let socket = socket(net);
    let at = socket.local_addr().unwrap();
    net.spawn("service", async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    })
    .detach();
    at
}

/// What is answered, if that is within a time.
async fn heard(net: &OsNet, socket: &OsUdp, milliseconds: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    tokio::select! {
        biased;
        received = socket.recv_from(&mut buffer) => {
            buffer.truncate(received.unwrap().0);
            Some(buffer)
        }
        () = pause(net, milliseconds) => None,
    }
}

async fn echoes(net: &OsNet, socket: &OsUdp, at: SocketAddr, datagram: &[u8]) -> bool {
    socket.send_to(datagram, at).await.unwrap();
    heard(net, socket, 5000).await.as_deref() == Some(datagram)
}

#[test]
fn datagrams_of_any_length_go_there_and_back_and_to_nobody_else() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) = relay(&net, udp_config(limits())).await;
        let host = Host::start(&net, udp_host(relay.hosts_at(), service(&net))).unwrap();
        connected(&host).await;
        let (one, two) = (socket(&net), socket(&net));
        assert!(echoes(&net, &two, clients, b"two").await);
        for len in [1, 0, 1200, DATAGRAM_BYTES_MAX, 0, 9000] {
            assert!(echoes(&net, &one, clients, &vec![len as u8; len]).await, "{len} bytes");
        }
        assert_eq!(heard(&net, &two, 50).await, None);
        assert_eq!((relay.counters().sessions.get(), relay.counters().datagrams_dropped.get()), (2, 0));
        one.send_to(&[0; DATAGRAM_BYTES_MAX + 1], clients).await.unwrap();
        while relay.counters().datagrams_dropped.get() == 0 {
            pause(&net, 1).await;
        }
        assert!(echoes(&net, &one, clients, b"still here").await);
        host.stop().await;
    });
}

#[test]
fn a_silent_session_is_over_and_its_data_connection_serves_the_next() {
    run(async {
        let net = OsNet::new();
        let idle = Duration::from_millis(100);
        let alone = Limits { connections: 1, pool: 1, idle, ..limits() };
        let (relay, clients) = relay(&net, udp_config(alone)).await;
        let host = Host::start(&net, udp_host(relay.hosts_at(), service(&net))).unwrap();
        connected(&host).await;
        let (one, two) = (socket(&net), socket(&net));
        assert!(echoes(&net, &one, clients, b"one").await);
        // There is room for one client, and its session goes on.
        two.send_to(b"two", clients).await.unwrap();
        while relay.counters().clients_denied.get() == 0 {
            pause(&net, 1).await;
        }
        let status = host.status("echo").unwrap();
        status.clone().wait_for(|status| status.sessions == 0).await.unwrap();
        let mut attempts = 0;
        while !{
            two.send_to(b"two", clients).await.unwrap();
            heard(&net, &two, 50).await.is_some()
        } {
            attempts += 1;
            assert!(attempts < 100, "the session of the first is never over");
        }
        // Two for the pool, none for each session.
        assert!(relay.counters().host_connections.get() <= 4, "{:?}", relay.counters());
        assert_eq!(heard(&net, &one, 20).await, None);
    });
}

#[test]
fn a_host_of_the_wrong_kind_serves_nobody_and_says_so() {
    run(async {
        let net = OsNet::new();
        let (udp, datagrams) = relay(&net, udp_config(limits())).await;
        let (tcp, connections) = relay(&net, relay_config(limits())).await;
        let streams = Host::serve(&net, host_config(udp.hosts_at()), echo).unwrap();
        let packets = Host::start(&net, udp_host(tcp.hosts_at(), service(&net))).unwrap();
        connected(&streams).await;
        connected(&packets).await;
        let client = socket(&net);
        client.send_to(b"hello?", datagrams).await.unwrap();
        assert_eq!(heard(&net, &client, 50).await, None);
        assert_eq!(ask(net.connect(connections, None).await.unwrap(), b"").await, b"");
        for relay in [&udp, &tcp] {
            assert_eq!((relay.counters().sessions.get(), relay.counters().sessions_broken.get()), (1, 0));
        }
    });
}

#[test]
fn a_relay_that_stops_leaves_its_port_to_the_next_at_once() {
    run(async {
        let net = OsNet::new();
        let (first, clients) = relay(&net, udp_config(limits())).await;
        let hosts = first.hosts_at();
        let host = Host::start(&net, udp_host(hosts, service(&net))).unwrap();
        connected(&host).await;
        let client = socket(&net);
        assert!(echoes(&net, &client, clients, b"one").await);
        first.stop().await;
        let mut config = udp_config(limits());
        config.hosts = hosts;
        config.services.get_mut("echo").unwrap().clients = clients;
        let _second = loop {
            match Relay::start(&net, config.clone()) {
                Ok(relay) => break relay,
                Err(_) => pause(&net, 1).await,
            }
        };
        assert!(echoes(&net, &client, clients, b"two").await);
    });
}

#[test]
fn a_service_may_become_another_kind_while_the_relay_runs() {
    run(async {
        let net = OsNet::new();
        let (relay, before) = relay(&net, relay_config(limits())).await;
        let host = Host::start(&net, udp_host(relay.hosts_at(), service(&net))).unwrap();
        connected(&host).await;
        relay.reload(udp_config(limits())).await.unwrap();
        let clients = relay.services().await["echo"];
        // Nobody listens there any more, as soon as the task has ended that did.
        while net.connect(before, None).await.is_ok() {}
        let client = socket(&net);
        assert!(echoes(&net, &client, clients, b"after").await);
        relay.reload(relay_config(limits())).await.unwrap();
        client.send_to(b"too late", clients).await.unwrap();
        assert_eq!(heard(&net, &client, 50).await, None);
    });
}

#[test]
fn inside_tls_datagrams_are_datagrams_too_and_no_more_pass_than_may() {
    run(async {
        let net = OsNet::new();
        let directory = tempfile::tempdir().unwrap();
        let (files, hash) = certificate(directory.path());
        // A hundred kilobytes a second, and a tenth of a second's at once.
        let mut config = udp_config(Limits { bandwidth: Some(800_000), ..limits() });
        config.tls = Some(files);
        let (relay, clients) = relay(&net, config).await;
        let tls = Some(Trust::Pinned(hash));
        let host =
            Host::start(&net, HostConfig { tls, ..udp_host(relay.hosts_at(), service(&net)) }).unwrap();
        connected(&host).await;
        let client = socket(&net);
        assert!(echoes(&net, &client, clients, &[7; 1000]).await);
        let begun = net.now();
        let mut came = 0;
        for number in 0..400 {
            client.send_to(&[7; 1000], clients).await.unwrap();
            // More at once would be too much for the kernel's own queue.
            if number % 20 == 0 {
                pause(&net, 1).await;
            }
        }
        while heard(&net, &client, 300).await.is_some() {
            came += 1;
        }
        let may = 12 + net.now().since(begun).as_millis() / 10;
        assert!(came > 10 && came <= may, "{came} of 400, and {may} may");
        assert!(relay.counters().datagrams_dropped.get() > 0);
    });
}
