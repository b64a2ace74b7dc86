//! The modern protocol: proofs, limits, TLS, PROXY headers, health, draining, restarts.

use super::*;
use crate::relay::leg::receive;
use crate::relay::message::{Message, PREAMBLE, Refusal};
use crate::relay::proof::Context;

pub(super) fn token() -> Token {
    Token::new("a token of enough bytes").unwrap()
}

pub(super) fn relay_config(limits: Limits) -> Config {
    let service = Service { clients: ANY, protocol: Protocol::Tcp, token: token(), limits };
    Config { hosts: ANY, services: BTreeMap::from([("echo".to_owned(), service)]), ..Config::default() }
}

pub(super) fn host_config(relay: SocketAddr) -> HostConfig {
    let service = HostService { token: token(), ..HostService::new("127.0.0.1:1".parse().unwrap()) };
    HostConfig {
        relay: place(relay),
        tls: None,
        compatible: None,
        services: BTreeMap::from([("echo".to_owned(), service)]),
        drain: Duration::from_secs(5),
    }
}

pub(super) async fn relay(net: &OsNet, config: Config) -> (Relay, SocketAddr) {
    let relay = Relay::start(net, config).unwrap();
    let clients = relay.services().await["echo"];
    (relay, clients)
}

pub(super) async fn connected(host: &Host) {
    let mut status = host.status("echo").unwrap();
    status.wait_for(|status| status.is_connected).await.unwrap();
}

async fn echoes(net: &OsNet, clients: SocketAddr, content: &[u8]) -> bool {
    ask(net.connect(clients, None).await.unwrap(), content).await == content
}

#[test]
fn sessions_one_after_the_other_use_the_same_few_connections() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) = relay(&net, relay_config(limits())).await;
        let host = Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap();
        connected(&host).await;
        for number in 0..200 {
            assert!(echoes(&net, clients, &vec![number as u8; number * 50]).await);
        }
        assert_eq!(relay.counters().sessions.get(), 200);
        assert!(relay.counters().host_connections.get() < 20, "{:?}", relay.counters());
        host.stop().await;
        relay.stop().await;
    });
}

#[test]
fn many_at_once_let_the_pool_grow() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) = relay(&net, relay_config(limits())).await;
        let host = Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap();
        let tasks: Vec<_> = (0..100_u8)
            .map(|number| {
                let net = net.clone();
                let (done, outcome) = tokio::sync::oneshot::channel();
                net.clone()
                    .spawn("client", async move {
                        let _ = done.send(echoes(&net, clients, &[number; 50_000]).await);
                    })
                    .detach();
                outcome
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap());
        }
        assert_eq!(relay.counters().clients_denied.get(), 0);
        drop(host);
    });
}

#[test]
fn a_wrong_token_and_an_unknown_service_are_refused_alike() {
    run(async {
        let net = OsNet::new();
        let (relay, _) = relay(&net, relay_config(limits())).await;
        for (name, token) in [("echo", Token::new("another token, also long").unwrap()), ("ssh", token())] {
            let service = HostService { token, ..HostService::new("127.0.0.1:1".parse().unwrap()) };
            let services = BTreeMap::from([(name.to_owned(), service)]);
            let config = HostConfig { services, ..host_config(relay.hosts_at()) };
            let before = relay.counters().hosts_refused.get();
            let _host = Host::serve(&net, config, echo).unwrap();
            while relay.counters().hosts_refused.get() == before {
                pause(&net, 1).await;
            }
        }
        assert_eq!(relay.counters().hosts.get(), 0);
        // A ticket that was never given is none.
        let mut stream = net.connect(relay.hosts_at(), None).await.unwrap();
        let join = Message::Join { session: 1, ticket: 0, mac: [0; 32] };
        stream.write_all(&[&PREAMBLE[..], &join.encode()].concat()).await.unwrap();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        while relay.counters().host_faults.get() == 0 {
            pause(&net, 1).await;
        }
    });
}

#[test]
fn a_relay_that_restarts_is_found_again_at_once() {
    run(async {
        let net = OsNet::new();
        let (first, clients) = relay(&net, relay_config(limits())).await;
        let hosts = first.hosts_at();
        let host = Host::serve(&net, host_config(hosts), echo).unwrap();
        connected(&host).await;
        assert!(echoes(&net, clients, b"one").await);
        let open = net.connect(clients, None).await.unwrap();
        pause(&net, 50).await;
        // It drains while the next one has its ports already.
        let draining = first.clone();
        let stopping = net.spawn("stop", async move { draining.stop().await });
        let mut config = relay_config(limits());
        config.hosts = hosts;
        config.services.get_mut("echo").unwrap().clients = clients;
        let second = loop {
            match Relay::start(&net, config.clone()) {
                Ok(relay) => break relay,
                Err(_) => pause(&net, 1).await,
            }
        };
        let started = net.now();
        assert!(echoes(&net, clients, b"two").await);
        let took = net.now().since(started);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(!stopping.is_finished(), "a session of the old relay goes on");
        assert_eq!(ask(open, b"still here").await, b"still here");
        drop(second);
    });
}

#[test]
fn limits_hold() {
    run(async {
        let net = OsNet::new();
        let tight = Limits { connections: 2, wait: Duration::from_millis(100), ..limits() };
        let (relay, clients) = relay(&net, relay_config(tight)).await;
        // Nobody serves: a client waits as long as it may.
        let mut waiting = net.connect(clients, None).await.unwrap();
        assert_eq!(waiting.read(&mut [0; 9]).await.unwrap(), 0);
        let host = Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap();
        connected(&host).await;
        let (mut one, mut two) =
            (net.connect(clients, None).await.unwrap(), net.connect(clients, None).await.unwrap());
        for stream in [&mut one, &mut two] {
            stream.write_all(b"x").await.unwrap();
            assert_eq!(&read_exactly::<1>(stream).await, b"x");
        }
        let mut three = net.connect(clients, None).await.unwrap();
        assert_eq!(three.read(&mut [0; 9]).await.unwrap(), 0);
        // The limits change while sessions go on.
        let mut config = relay_config(Limits { allow: vec!["10.0.0.0/8".parse().unwrap()], ..limits() });
        config.hosts = ANY;
        relay.reload(config.clone()).await.unwrap();
        assert!(relay.services().await["echo"] == clients);
        let mut stranger = net.connect(clients, None).await.unwrap();
        assert_eq!(stranger.read(&mut [0; 9]).await.unwrap(), 0);
        one.write_all(b"y").await.unwrap();
        assert_eq!(&read_exactly::<1>(&mut one).await, b"y");
        assert_eq!(relay.counters().clients_denied.get(), 3);
        config.heartbeat = Duration::from_secs(1);
        assert!(relay.reload(config).await.is_err());
        assert_eq!(host.status("echo").unwrap().borrow().connects, 1);
    });
}

#[test]
fn a_service_moves_no_more_in_a_second_than_it_may() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) =
            relay(&net, relay_config(Limits { bandwidth: Some(8_000_000), ..limits() })).await;
        let host = Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap();
        connected(&host).await;
        // Two sessions with 150 KB each: of 300 KB at a megabyte a second, a tenth of a second's is free, and what each
        // moves at once.
        let started = net.now();
        let content = vec![7; 150_000];
        let both = tokio::join!(biased; echoes(&net, clients, &content), echoes(&net, clients, &content));
        assert_eq!(both, (true, true));
        let took = net.now().since(started);
        assert!(took >= Duration::from_millis(100), "{took:?}");
        // The limit goes while sessions go on.
        relay.reload(relay_config(limits())).await.unwrap();
        assert!(echoes(&net, clients, &vec![7; 3_000_000]).await);
    });
}

#[test]
fn a_local_port_is_told_who_the_client_is_and_one_that_is_closed_ends_the_session() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) = relay(&net, relay_config(limits())).await;
        let local = net.listen(ANY).unwrap();
        let to = place(local.local_addr().unwrap());
        let service = HostService { token: token(), proxy: Some(ProxyVersion::V1), ..HostService::new(to) };
        let services = BTreeMap::from([("echo".to_owned(), service)]);
        let host = Host::start(&net, HostConfig { services, ..host_config(relay.hosts_at()) }).unwrap();
        let mut client = net.connect(clients, None).await.unwrap();
        let own = client.local_addr().unwrap();
        client.write_all(b"hi").await.unwrap();
        let (mut session, _) = local.accept().await.unwrap();
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhi", own.port(), clients.port());
        let mut header = vec![0; expected.len()];
        session.read_exact(&mut header).await.unwrap();
        assert_eq!(String::from_utf8(header).unwrap(), expected);
        drop((client, session, local));
        let mut client = net.connect(clients, None).await.unwrap();
        assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0);
        drop(host);
    });
}

#[test]
fn a_host_whose_service_is_ill_gets_no_clients_until_it_is_well() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) = relay(&net, relay_config(limits())).await;
        let local = net.listen(ANY).unwrap();
        let at = local.local_addr().unwrap();
        drop(local);
        let check = Some(Duration::from_millis(20));
        let service = HostService { token: token(), check, ..HostService::new(place(at)) };
        let services = BTreeMap::from([("echo".to_owned(), service)]);
        let host = Host::start(&net, HostConfig { services, ..host_config(relay.hosts_at()) }).unwrap();
        connected(&host).await;
        pause(&net, 200).await;
        // It waits, because the only host is ill.
        let client = net.connect(clients, None).await.unwrap();
        pause(&net, 50).await;
        let local = net.listen(at).unwrap();
        let server = net.clone();
        net.spawn("service", async move {
            while let Ok((mut stream, _)) = local.accept().await {
                server
                    .spawn("session", async move {
                        let (mut read, mut write) = stream.split();
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                    })
                    .detach();
            }
        })
        .detach();
        assert_eq!(ask(client, b"patience").await, b"patience");
    });
}

/// A new certificate for "relay.test", and its hash.
pub(super) fn certificate(directory: &std::path::Path) -> (TlsFiles, [u8; 32]) {
    let (certificate, key) = (directory.join("c.pem"), directory.join("k.pem"));
    let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(made.cert.der()).into();
    (TlsFiles { certificate, key }, hash)
}

#[test]
fn tls_is_asked_for_and_the_relay_is_known_by_its_certificate() {
    run(async {
        let net = OsNet::new();
        let directory = tempfile::tempdir().unwrap();
        let (files, hash) = certificate(directory.path());
        let certificate = files.certificate.clone();
        let mut config = relay_config(limits());
        config.tls = Some(files);
        let (relay, clients) = relay(&net, config).await;
        let name = Some("relay.test".to_owned());
        for trust in [Trust::Pinned(hash), Trust::Authority { file: certificate.clone(), name }] {
            let config = HostConfig { tls: Some(trust), ..host_config(relay.hosts_at()) };
            let host = Host::serve(&net, config, echo).unwrap();
            connected(&host).await;
            assert!(echoes(&net, clients, &[7; 300_000]).await);
            host.stop().await;
        }
        let before = relay.counters().hosts.get();
        // Without TLS, and with a certificate of somebody else's.
        for tls in [None, Some(Trust::Pinned([0; 32]))] {
            let host = Host::serve(&net, HostConfig { tls, ..host_config(relay.hosts_at()) }, echo).unwrap();
            pause(&net, 300).await;
            assert!(!host.status("echo").unwrap().borrow().is_connected);
        }
        assert_eq!(relay.counters().hosts.get(), before);
        let mut plain = net.connect(relay.hosts_at(), None).await.unwrap();
        plain.write_all(&PREAMBLE).await.unwrap();
        let refused = Message::Refused(Refusal::TlsRequired).encode();
        let mut heard = Vec::new();
        plain.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, refused);
    });
}

/// A relay, written by hand, that lets a host in and wants one data connection of it.
async fn relay_by_hand(net: &OsNet, listener: &<OsNet as Net>::Listener) -> (Stream, Stream) {
    let (mut control, _) = listener.accept().await.unwrap();
    let mut input = bytes::BytesMut::new();
    control.read_exact(&mut [0; PREAMBLE.len()]).await.unwrap();
    let Message::Hello { service, nonce: host_nonce } = receive(&mut control, &mut input).await.unwrap()
    else {
        panic!("a host says hello first")
    };
    let mut relay_nonce = [0; 32];
    net.random(&mut relay_nonce);
    control.write_all(&Message::Challenge { nonce: relay_nonce }.encode()).await.unwrap();
    let proof = receive(&mut control, &mut input).await.unwrap();
    assert!(matches!(proof, Message::Proof { .. }));
    let context = Context { service: &service, host_nonce: &host_nonce, relay_nonce: &relay_nonce };
    let mac = token().relay_proof(&context, 1);
    let welcome = Message::Welcome { session: 1, heartbeat_ms: 15_000, mac };
    control.write_all(&welcome.encode()).await.unwrap();
    control.write_all(&Message::Want { first: 0, count: 1 }.encode()).await.unwrap();
    let (mut data, _) = listener.accept().await.unwrap();
    data.read_exact(&mut [0; PREAMBLE.len()]).await.unwrap();
    assert!(matches!(receive(&mut data, &mut input).await.unwrap(), Message::Join { ticket: 0, .. }));
    (control, data)
}

#[test]
fn a_client_that_meets_a_host_which_is_just_leaving_is_served() {
    run(async {
        let net = OsNet::new();
        let listener = net.listen(ANY).unwrap();
        let host = Host::serve(&net, host_config(listener.local_addr().unwrap()), echo).unwrap();
        let (mut control, mut data) = relay_by_hand(&net, &listener).await;
        let stopping = async {
            host.stop().await;
            net.now()
        };
        let late = async {
            // The host has said that it leaves, and the relay, which has not read it yet, gives it one more client.
            let mut input = bytes::BytesMut::new();
            assert_eq!(receive(&mut control, &mut input).await.unwrap(), Message::Draining);
            let open = hex!("01 000012 00000000 04 0a000009 c738 04 0a000001 08ae");
            data.write_all(&[&open[..], &hex!("02 000002 6869"), &hex!("03 000004 00000000")].concat())
                .await
                .unwrap();
            let mut answer = [0; 14];
            data.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, hex!("02 000002 6869 03 000004 00000000"));
            let closed = net.now();
            drop(data);
            closed
        };
        let (stopped, closed) = tokio::join!(biased; stopping, late);
        assert!(stopped >= closed, "it waits until the relay has closed its data connections");
    });
}

#[test]
fn clients_go_on_to_the_other_host_when_one_leaves() {
    run(async {
        let net = OsNet::new();
        let (relay, clients) = relay(&net, relay_config(limits())).await;
        let mut hosts = Vec::new();
        for _ in 0..2 {
            let host = Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap();
            connected(&host).await;
            hosts.push(host);
        }
        for round in 0..10_u8 {
            let leaving = hosts.remove(0);
            let (asked, ()) = tokio::join!(
                biased;
                async {
                    for number in 0..20 {
                        if !echoes(&net, clients, &[round, number]).await {
                            return Err(number);
                        }
                    }
                    Ok(())
                },
                leaving.stop(),
            );
            assert_eq!(asked, Ok(()), "round {round}");
            hosts.push(Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap());
            connected(hosts.last().unwrap()).await;
        }
        assert_eq!(relay.counters().sessions_broken.get(), 0);
        assert_eq!(relay.counters().clients_denied.get(), 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn no_bytes_on_the_port_for_hosts_stop_the_relay(
        noises in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 1..8),
    ) {
        run(async {
            let net = OsNet::new();
            let mut config = relay_config(limits());
            config.compatible = Some(Compatible { commands: ANY, clients: ANY, limits: limits() });
            let (relay, clients) = relay(&net, config).await;
            for (is_modern, noise) in noises {
                let mut stream = net.connect(relay.hosts_at(), None).await.unwrap();
                let preamble: &[u8] = if is_modern { &PREAMBLE } else { b"" };
                let _ = stream.write_all(&[preamble, &noise].concat()).await;
            }
            let host = Host::serve(&net, host_config(relay.hosts_at()), echo).unwrap();
            assert!(echoes(&net, clients, b"still here").await);
            drop(host);
        });
    }
}
