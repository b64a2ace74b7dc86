//! Settings that change while relay and host run.

use super::modern::{certificate, connected, host_config, relay, relay_config, token};
use super::*;
use crate::relay::HostError;

/// A service that says its letter and then what it hears. Returns where it is.
fn letter(net: &OsNet, letter: u8) -> SocketAddr {
    let listener = net.listen(ANY).unwrap();
    let at = listener.local_addr().unwrap();
    let server = net.clone();
    net.spawn("service", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let session = async move {
                let _ = stream.write_all(&[letter]).await;
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            };
            server.spawn("session", session).detach();
        }
    })
    .detach();
    at
}

/// Sessions, until this service answers one: a host that is about to leave may still be given some. None is cut off.
async fn until_served_by(net: &OsNet, clients: SocketAddr, letter: u8) {
    while read_exactly(&mut net.connect(clients, None).await.unwrap()).await != [letter] {}
}

fn host_services<const N: usize>(relay: SocketAddr, services: [(&str, SocketAddr); N]) -> HostConfig {
    let service = |(name, at): (&str, _)| {
        (name.to_owned(), HostService { token: token(), ..HostService::new(place(at)) })
    };
    HostConfig { services: services.map(service).into(), ..host_config(relay) }
}

#[test]
fn a_host_takes_other_services_while_sessions_go_on() {
    run(async {
        let net = OsNet::new();
        let mut config = relay_config(Limits { wait: Duration::from_secs(1), ..limits() });
        config.services.insert("more".to_owned(), config.services["echo"].clone());
        let (relay, clients) = relay(&net, config).await;
        let hosts = relay.hosts_at();
        let (a, b) = (letter(&net, b'a'), letter(&net, b'b'));
        let mut host = Host::start(&net, host_services(hosts, [("echo", a), ("more", a)])).unwrap();
        connected(&host).await;
        let mut old = net.connect(clients, None).await.unwrap();
        assert_eq!(&read_exactly(&mut old).await, b"a");

        host.reload(host_services(hosts, [("echo", b), ("more", a)])).unwrap();
        until_served_by(&net, clients, b'b').await;
        let mut relayed = host.status("more").unwrap();
        relayed.wait_for(|status| status.is_connected).await.unwrap();
        assert_eq!(relayed.borrow().connects, 1, "nothing happened to this one");
        old.write_all(b"x").await.unwrap();
        assert_eq!(&read_exactly(&mut old).await, b"x");

        let mut wrong = host_services(hosts, [("echo", a), ("more", a)]);
        wrong.services.get_mut("more").unwrap().to = Local::Node;
        assert!(matches!(host.reload(wrong), Err(HostError::NoNode(name)) if name == "more"));
        until_served_by(&net, clients, b'b').await;

        host.reload(host_services(hosts, [("more", a)])).unwrap();
        assert!(host.status("echo").is_none());
        old.write_all(b"y").await.unwrap();
        assert_eq!(&read_exactly(&mut old).await, b"y");
        drop(old);
        let mut late = net.connect(clients, None).await.unwrap();
        while late.read(&mut [0; 9]).await.unwrap() > 0 {
            late = net.connect(clients, None).await.unwrap();
        }
        assert_eq!(relay.counters().sessions_broken.get(), 0);
        host.stop().await;
    });
}

#[test]
fn a_relay_takes_a_renewed_certificate_and_no_broken_one() {
    run(async {
        let net = OsNet::new();
        let directory = tempfile::tempdir().unwrap();
        let (files, hash) = certificate(directory.path());
        let config = Config { tls: Some(files.clone()), ..relay_config(limits()) };
        let (relay, clients) = relay(&net, config.clone()).await;
        let with = |hash| HostConfig { tls: Some(Trust::Pinned(hash)), ..host_config(relay.hosts_at()) };
        let first = Host::serve(&net, with(hash), echo).unwrap();
        connected(&first).await;
        let mut session = net.connect(clients, None).await.unwrap();
        session.write_all(b"1").await.unwrap();
        assert_eq!(&read_exactly(&mut session).await, b"1");

        let (_, renewed) = certificate(directory.path());
        relay.reload(config.clone()).await.unwrap();
        std::fs::write(&files.key, "no key").unwrap();
        assert!(relay.reload(config).await.is_err());
        let second = Host::serve(&net, with(renewed), echo).unwrap();
        connected(&second).await;
        session.write_all(b"2").await.unwrap();
        assert_eq!(&read_exactly(&mut session).await, b"2");
        assert_eq!(first.status("echo").unwrap().borrow().connects, 1);
    });
}
