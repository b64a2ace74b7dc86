//! SRV records of the DNS (RFC 2782), which the operating system's resolver does not answer with.
//!
//! One question at a time, to the name servers of `/etc/resolv.conf` in their order: by UDP, and by TCP when the answer is
//! cut. simple-dns reads and writes the messages. What it does not do: search domains, cache, check signatures.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{Alarm, Net, UdpOptions, UdpSocket};

const PORT: u16 = 53;
/// As glibc reads three.
const SERVERS_MAX: usize = 3;
/// How long one server is waited for, by UDP and by TCP each; a question is asked once more, as much may be lost.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// What fits into a datagram of the DNS without its extensions.
const DATAGRAM: usize = 512;

/// The name servers of this machine, as its `resolv.conf` says.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok();
    let named = resolv_conf.lines().filter_map(address).take(SERVERS_MAX);
    let mut servers: Vec<_> = named.map(|address| SocketAddr::new(address, PORT)).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    servers
}

/// Asks for the hosts and ports of a service.
pub(super) async fn ask<N: Net>(
    net: &N,
    servers: &[SocketAddr],
    service: &str,
) -> io::Result<Vec<(String, u16)>> {
    let mut id = [0; 2];
    net.random(&mut id);
    let id = u16::from_le_bytes(id);
    let question = question(id, service)?;
    let mut outcome = Err(io::ErrorKind::TimedOut.into());
    for server in std::iter::repeat_n(servers, ATTEMPTS).flatten() {
        let mut answer = within(net, by_udp(net, *server, &question, id)).await;
        if matches!(answer, Ok(Answer::Cut)) {
            answer = within(net, by_tcp(net, *server, &question, id)).await;
        }
        match answer {
            Ok(Answer::Places(places)) => return Ok(places),
            Ok(Answer::NoSuchName) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no service {service} is known"),
                ));
            }
            Ok(Answer::Cut) => outcome = Err(invalid("the answer is cut")),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

#[derive(Debug, PartialEq)]
enum Answer {
    /// In the order in which they are to be tried.
    Places(Vec<(String, u16)>),
    NoSuchName,
    Cut,
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn question(id: u16, service: &str) -> io::Result<Vec<u8>> {
    let name = Name::new(service).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, TYPE::SRV.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(invalid)
}

/// Reads a message; `None` when it is no answer to this question.
fn read(message: &[u8], id: u16) -> Option<io::Result<Answer>> {
    let packet = match Packet::parse(message) {
        Ok(packet) => packet,
        // A cut message may end anywhere, and its head says that it is cut.
        Err(_) if is_cut(message, id) => return Some(Ok(Answer::Cut)),
        Err(_) => return None,
    };
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Ok(Answer::Cut));
    }
    Some(match packet.rcode() {
        RCODE::NoError => {
            let mut found: Vec<_> = packet
                .answers
                .iter()
                .filter_map(|record| match &record.rdata {
                    // A target of "." says that there is no such service.
                    RData::SRV(srv) if !srv.target.to_string().is_empty() => {
                        Some((srv.priority, u16::MAX - srv.weight, srv.target.to_string(), srv.port))
                    }
                    _ => None,
                })
                .collect();
            found.sort();
            Ok(Answer::Places(found.into_iter().map(|(.., host, port)| (host, port)).collect()))
        }
        RCODE::NameError => Ok(Answer::NoSuchName),
        code => Err(io::Error::other(format!("the name server answers {code:?}"))),
    })
}

/// The head of a message: its number, then flags: a response (0x8000) that is cut (0x0200).
fn is_cut(message: &[u8], id: u16) -> bool {
    const CUT_RESPONSE: u16 = 0x8200;
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    word(0) == Some(id) && word(2).is_some_and(|flags| flags & CUT_RESPONSE == CUT_RESPONSE)
}

async fn by_udp<N: Net>(net: &N, server: SocketAddr, question: &[u8], id: u16) -> io::Result<Answer> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { [0_u16; 8].into() };
    let socket = net.bind_udp(&UdpOptions::at(SocketAddr::new(any, 0)))?;
    socket.send_to(question, server).await?;
    let mut datagram = [0; DATAGRAM];
    loop {
        let (len, from) = socket.recv_from(&mut datagram).await?;
        if from == server
            && let Some(answer) = read(&datagram[..len], id)
        {
            return answer;
        }
    }
}

async fn by_tcp<N: Net>(net: &N, server: SocketAddr, question: &[u8], id: u16) -> io::Result<Answer> {
    let mut stream = net.connect(server, None).await?;
    let len = u16::try_from(question.len()).map_err(invalid)?;
    stream.write_all(&[&len.to_be_bytes(), question].concat()).await?;
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    read(&message, id).unwrap_or_else(|| Err(invalid("the answer is to another question")))
}

async fn within<N: Net>(net: &N, answer: impl Future<Output = io::Result<Answer>>) -> io::Result<Answer> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(PATIENCE)));
    tokio::select! {
        biased;
        answer = answer => answer,
        () = alarm.ring() => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    use super::*;
    use crate::net::{OsNet, TcpListener};

    fn answer(question: &[u8], records: &[(u16, u16, u16, &'static str)], flags: PacketFlag) -> Vec<u8> {
        let asked = Packet::parse(question).unwrap();
        let mut packet = Packet::new_reply(asked.id());
        packet.set_flags(PacketFlag::RESPONSE | flags);
        packet.questions = asked.questions.clone();
        for (priority, weight, port, target) in records {
            let target = Name::new_unchecked(target);
            let (priority, weight, port) = (*priority, *weight, *port);
            let srv = RData::SRV(SRV { priority, weight, port, target });
            packet.answers.push(ResourceRecord::new(asked.questions[0].qname.clone(), CLASS::IN, 60, srv));
        }
        packet.build_bytes_vec().unwrap()
    }

    const RECORDS: &[(u16, u16, u16, &str)] =
        &[(20, 0, 2342, "c.example"), (10, 1, 2341, "b.example"), (10, 9, 2340, "a.example")];

    fn places() -> Vec<(String, u16)> {
        let place = |(host, port): (&str, u16)| (host.to_owned(), port);
        [("a.example", 2340), ("b.example", 2341), ("c.example", 2342)].map(place).to_vec()
    }

    #[test]
    fn servers_are_those_of_resolv_conf() {
        let text =
            "# x\nsearch example\nnameserver 10.0.0.53\nnameserver fd00::53\nnameserver x\noptions y\n";
        let servers = name_servers(text);
        assert_eq!(servers, ["10.0.0.53:53".parse().unwrap(), "[fd00::53]:53".parse().unwrap()]);
        assert_eq!(name_servers(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn places_are_in_the_order_of_priority_and_weight() {
        let asked = question(7, "_repeater._tcp.example").unwrap();
        let reply = answer(&asked, RECORDS, PacketFlag::RECURSION_AVAILABLE);
        assert_eq!(read(&reply, 7).unwrap().unwrap(), Answer::Places(places()));
        assert!(read(&reply, 8).is_none() && read(&asked, 7).is_none());
        let none = answer(&asked, &[], PacketFlag::RECURSION_AVAILABLE);
        assert_eq!(read(&none, 7).unwrap().unwrap(), Answer::Places(vec![]));
        let cut = answer(&asked, RECORDS, PacketFlag::TRUNCATION);
        assert_eq!(read(&cut, 7).unwrap().unwrap(), Answer::Cut);
        assert_eq!(read(&cut[..cut.len() - 5], 7).unwrap().unwrap(), Answer::Cut);
        assert!(question(7, &"x".repeat(70)).is_err());
    }

    #[tokio::test]
    async fn a_cut_answer_is_asked_for_by_tcp() {
        let net = OsNet::new();
        let listener = net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        let socket = net.bind_udp(&UdpOptions::at(at)).unwrap();
        let server = async {
            let mut datagram = [0; 512];
            let (len, from) = socket.recv_from(&mut datagram).await.unwrap();
            let cut = answer(&datagram[..len], &[], PacketFlag::TRUNCATION);
            // What is not from the server, or not an answer, is not looked at.
            socket.send_to(b"nonsense", from).await.unwrap();
            socket.send_to(&cut, from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut asked).await.unwrap();
            let whole = answer(&asked, RECORDS, PacketFlag::RECURSION_AVAILABLE);
            stream.write_u16(whole.len() as u16).await.unwrap();
            stream.write_all(&whole).await.unwrap();
            stream
        };
        let servers = [at];
        let (asked, _stream) = tokio::join!(ask(&net, &servers, "_repeater._tcp.example"), server);
        assert_eq!(asked.unwrap(), places());
    }

    proptest! {
        #[test]
        fn no_message_is_a_panic(
            head in prop_oneof![Just(vec![]), Just(question(7, "_a._tcp.b").unwrap())],
            tail in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = read(&[head, tail].concat(), 7);
        }
    }
}
