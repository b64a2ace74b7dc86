//! The original protocol, against emulations of the original's programs that do what was seen of them.

use super::*;
use crate::relay::compatible::Announcement;

async fn relay(net: &OsNet) -> (Relay, SocketAddr, SocketAddr, SocketAddr) {
    // The command channel's port is nowhere told, so a free one is looked for.
    let commands = net.listen(ANY).unwrap().local_addr().unwrap();
    let compatible = Compatible { commands, clients: ANY, limits: limits() };
    let config = Config { hosts: ANY, compatible: Some(compatible), ..Config::default() };
    let relay = Relay::start(net, config).unwrap();
    let (hosts, clients) = (relay.hosts_at(), relay.services().await[""]);
    (relay, hosts, commands, clients)
}

/// Opens a data connection as the original host process does, and checks the answer.
async fn data_connection(net: &OsNet, hosts: SocketAddr, session: i32, port: u16) -> Stream {
    let mut data = net.connect(hosts, None).await.unwrap();
    data.write_all(&hex!("00000002 0801")).await.unwrap();
    // The address as text, then the port as text: five digits here, as a free one was asked for.
    let port = port.to_string();
    let mut expected = vec![0, 0, 0, (15 + port.len()) as u8, 0x08, session as u8, 0x12, 9];
    expected.extend(b"127.0.0.1\x1a");
    expected.push(port.len() as u8);
    expected.extend(port.as_bytes());
    let mut answer = vec![0; expected.len()];
    data.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, expected);
    data
}

#[test]
fn a_host_process_of_the_original_serves_clients() {
    run(async {
        let net = OsNet::new();
        let (_relay, hosts, commands, clients) = relay(&net).await;
        let mut channel = net.connect(commands, None).await.unwrap();
        let mut first = data_connection(&net, hosts, 0, clients.port()).await;
        // A hello that comes again is answered again.
        first.write_all(&hex!("00000002 0801")).await.unwrap();
        assert_eq!(read_exactly::<8>(&mut first).await[..6], hex!("00000014 0800"));
        let mut rest = [0; 16];
        first.read_exact(&mut rest).await.unwrap();

        let mut client = net.connect(clients, None).await.unwrap();
        assert_eq!(read_exactly::<12>(&mut channel).await, hex!("00000008 0801 1000 1a02 0800"));
        let mut second = data_connection(&net, hosts, 1, clients.port()).await;
        client.write_all(b"question").await.unwrap();
        assert_eq!(&read_exactly::<8>(&mut first).await, b"question");
        first.write_all(b"answer").await.unwrap();
        assert_eq!(&read_exactly::<6>(&mut client).await, b"answer");
        // The end is announced, whichever side ends.
        drop(client);
        assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0);
        drop(first);
        assert_eq!(read_exactly::<12>(&mut channel).await, hex!("00000008 0801 1001 2202 0800"));

        let mut client = net.connect(clients, None).await.unwrap();
        assert_eq!(read_exactly::<12>(&mut channel).await, hex!("00000008 0801 1000 1a02 0801"));
        second.write_all(b"the host speaks first").await.unwrap();
        drop(second);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"the host speaks first");
        drop(client);
        assert_eq!(read_exactly::<12>(&mut channel).await, hex!("00000008 0801 1001 2202 0801"));
    });
}

#[test]
fn a_client_waits_for_a_host_process() {
    run(async {
        let net = OsNet::new();
        let (_relay, hosts, commands, clients) = relay(&net).await;
        let client = net.connect(clients, None).await.unwrap();
        let data = data_connection(&net, hosts, 0, clients.port()).await;
        let _channel = net.connect(commands, None).await.unwrap();
        let (answer, ()) = tokio::join!(biased; ask(client, b"early"), async {
            let (mut read, mut write) = tokio::io::split(data);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        assert_eq!(answer, b"early");
    });
}

#[test]
fn bytes_of_no_protocol_are_counted_and_end_their_connection() {
    run(async {
        let net = OsNet::new();
        let (relay, hosts, commands, _) = relay(&net).await;
        for wrong in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &hex!("00100000 00"), &hex!("00000000"), &hex!("16030100")]
        {
            let mut stream = net.connect(hosts, None).await.unwrap();
            stream.write_all(wrong).await.unwrap();
            let ended = stream.read(&mut [0; 64]).await;
            assert!(!matches!(ended, Ok(1..)), "{wrong:?}");
        }
        let mut channel = net.connect(commands, None).await.unwrap();
        channel.write_all(b"x").await.unwrap();
        assert!(!matches!(channel.read(&mut [0; 9]).await, Ok(1..)));
        while relay.counters().host_faults.get() < 5 {
            pause(&net, 1).await;
        }
    });
}

/// The original relay: announces on another connection, and closes a data connection 5 s after its client has gone.
struct Original {
    data: <OsNet as Net>::Listener,
    commands: <OsNet as Net>::Listener,
}

impl Original {
    fn new(net: &OsNet) -> (Self, HostConfig) {
        let (data, commands) = (net.listen(ANY).unwrap(), net.listen(ANY).unwrap());
        let host = CompatibleHost {
            commands_port: commands.local_addr().unwrap().port(),
            connections: 2,
            ..CompatibleHost::new("127.0.0.1:1".parse().unwrap())
        };
        let config = HostConfig {
            relay: place(data.local_addr().unwrap()),
            tls: None,
            compatible: Some(host),
            services: BTreeMap::new(),
            drain: Duration::from_secs(1),
        };
        (Self { data, commands }, config)
    }

    async fn accept(&self, session: i32) -> Stream {
        let (mut data, _) = self.data.accept().await.unwrap();
        assert_eq!(read_exactly::<6>(&mut data).await, hex!("00000002 0801"));
        let mut response = hex!("00000013 0800 1209 3132372e302e302e31 1a04 38303032");
        response[5] = session as u8;
        data.write_all(&response).await.unwrap();
        data
    }
}

#[test]
fn a_host_serves_behind_a_relay_of_the_original() {
    run(async {
        let net = OsNet::new();
        let (original, config) = Original::new(&net);
        // It greets first, as a mail server does.
        let greeter = |mut stream: LocalStream, _: Option<Visitor>| async move {
            stream.write_all(b"hello").await.unwrap();
            echo(stream, None).await;
        };
        let _host = Host::serve(&net, config, greeter).unwrap();
        let (mut channel, _) = original.commands.accept().await.unwrap();
        let mut first = original.accept(0).await;
        let mut second = original.accept(1).await;
        // Announced before any byte: the local end is opened, and greets.
        channel.write_all(&Announcement::Open(0).encode()).await.unwrap();
        assert_eq!(&read_exactly::<5>(&mut first).await, b"hello");
        // A free connection comes in its place at once.
        let mut third = original.accept(2).await;
        first.write_all(b"ping").await.unwrap();
        assert_eq!(&read_exactly::<4>(&mut first).await, b"ping");
        // The client has gone; the connection is closed by the host, without the five seconds.
        channel.write_all(&Announcement::Drop(0).encode()).await.unwrap();
        assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0);
        // Bytes before the announcement.
        second.write_all(b"early").await.unwrap();
        assert_eq!(&read_exactly::<10>(&mut second).await, b"helloearly");
        channel
            .write_all(&[Announcement::Open(1).encode(), Announcement::Open(2).encode()].concat())
            .await
            .unwrap();
        assert_eq!(&read_exactly::<5>(&mut third).await, b"hello");
        // The host says nothing on the command channel.
        let silence = tokio::select! {
            biased;
            _ = channel.read_u8() => false,
            () = pause(&net, 100) => true,
        };
        assert!(silence);
    });
}

#[test]
fn relay_and_host_speak_the_original_protocol_with_each_other() {
    run(async {
        let net = OsNet::new();
        let (relay, hosts, commands, clients) = relay(&net).await;
        let host = CompatibleHost {
            commands_port: commands.port(),
            connections: 2,
            ..CompatibleHost::new("127.0.0.1:1".parse().unwrap())
        };
        let config = HostConfig {
            relay: place(hosts),
            tls: None,
            compatible: Some(host),
            services: BTreeMap::new(),
            drain: Duration::from_secs(1),
        };
        let _host = Host::serve(&net, config, echo).unwrap();
        // More at once than there are free connections, and a half-close that must be passed on.
        let asks: Vec<_> = (0..20_u8)
            .map(|number| {
                let net = net.clone();
                async move { ask(net.connect(clients, None).await.unwrap(), &vec![number; 100_000]).await }
            })
            .collect();
        for (number, ask) in asks.into_iter().enumerate() {
            assert!(ask.await == vec![number as u8; 100_000], "bytes differ");
        }
        assert_eq!(relay.counters().sessions.get(), 20);
        assert_eq!(relay.counters().host_faults.get(), 0);
    });
}
