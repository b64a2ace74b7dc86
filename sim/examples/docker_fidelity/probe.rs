//! What machines ask each other, and how they answer: the same lines of code over the operating system's network and over
//! the simulated one. Questions and answers are text, so that they cross processes and are compared as they are shown.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hailer::net::{Alarm, Net, TcpListener, UdpOptions, UdpSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where broadcasts are heard.
pub(crate) const BROADCAST_PORT: u16 = 5670;
/// The multicast group that everybody joins.
pub(crate) const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 0, 7));
/// An answer that takes longer does not come. Linux gives up a neighbour that does not answer after 3 s.
const PATIENCE: Duration = Duration::from_secs(4);
const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A question: `tcp 10.0.0.1:80`, `udp 10.0.0.1:80`, `broadcast 10.0.0.255`, `multicast`.
pub(crate) type Question = String;

/// Answers everybody by TCP and UDP with its own name and the address that it sees, and tells `heard` what is broadcast: the
/// number of the question, and from whom.
///
/// # Errors
/// When it can't listen.
pub(crate) async fn serve<N: Net>(
    net: &N,
    name: &str,
    port: u16,
    heard: impl Fn(&str, IpAddr) + Send + 'static,
) -> io::Result<()> {
    let listener = net.listen(SocketAddr::new(UNSPECIFIED, port))?;
    let datagrams = net.bind_udp(&UdpOptions::at(SocketAddr::new(UNSPECIFIED, port)))?;
    let everywhere = SocketAddr::new(UNSPECIFIED, BROADCAST_PORT);
    let broadcasts = net.bind_udp(&UdpOptions { reuse: true, ..UdpOptions::at(everywhere) })?;
    for interface in net.interfaces()?.into_iter().filter(|own| !own.is_loopback && own.address.is_ipv4()) {
        broadcasts.join_multicast(GROUP, &interface)?;
    }
    let own_name = name.to_owned();
    let streams = async move {
        while let Ok((mut stream, from)) = listener.accept().await {
            let answer = format!("{own_name} {}", from.ip());
            // Who asked too late has gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    let own_name = name.to_owned();
    let answers = async move {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = datagrams.recv_from(&mut buffer).await {
            let _ = datagrams.send_to(format!("{own_name} {}", from.ip()).as_bytes(), from).await;
        }
    };
    let listening = async move {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = broadcasts.recv_from(&mut buffer).await {
            heard(&String::from_utf8_lossy(&buffer[..length]), from.ip());
        }
    };
    net.spawn("streams", streams).detach();
    net.spawn("datagrams", answers).detach();
    net.spawn("broadcasts", listening).detach();
    Ok(())
}

/// Asks, and says what came of it. Broadcasts carry `number`; who heard them is known elsewhere.
pub(crate) async fn ask<N: Net>(net: &N, number: usize, question: &str) -> String {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(PATIENCE)));
    tokio::select! {
        biased;
        answer = attempt(net, number, question) => answer.unwrap_or_else(|error| match error.kind() {
            ErrorKind::ConnectionRefused => "refused".to_owned(),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable".to_owned(),
            // How a connection is closed that nobody has read from is not what is asked here.
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => "closed".to_owned(),
            other => format!("{other:?}"),
        }),
        () = alarm.ring() => "-".to_owned(),
    }
}

async fn attempt<N: Net>(net: &N, number: usize, question: &str) -> io::Result<String> {
    let (kind, to) = question.split_once(' ').unwrap_or((question, ""));
    let invalid = || io::Error::from(ErrorKind::InvalidInput);
    let mut buffer = [0; 100];
    match kind {
        "tcp" => {
            let mut stream = net.connect(to.parse().map_err(|_| invalid())?, None).await?;
            let mut length = 0;
            loop {
                match stream.read(&mut buffer[length..]).await? {
                    0 if length == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                    0 => return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                    read => length += read,
                }
            }
        }
        "udp" => {
            let to: SocketAddr = to.parse().map_err(|_| invalid())?;
            let socket = net.bind_udp(&UdpOptions::at(SocketAddr::new(UNSPECIFIED, 0)))?;
            socket.send_to(b"who is there?", to).await?;
            let (length, from) = socket.recv_from(&mut buffer).await?;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            Ok(if from == to { answer } else { format!("{answer}, by {from}") })
        }
        _ => {
            let own = net.interfaces()?.into_iter().filter(|own| !own.is_loopback && own.address.is_ipv4());
            let to = if kind == "multicast" { GROUP } else { to.parse().map_err(|_| invalid())? };
            let options = UdpOptions {
                broadcast: true,
                multicast_from: own.map(|own| own.address).next(),
                ..UdpOptions::at(SocketAddr::new(UNSPECIFIED, 0))
            };
            let socket = net.bind_udp(&options)?;
            socket.send_to(number.to_string().as_bytes(), SocketAddr::new(to, BROADCAST_PORT)).await?;
            Ok(String::new())
        }
    }
}
