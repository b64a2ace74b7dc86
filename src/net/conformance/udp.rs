//! Datagrams: unicast, sharing, broadcast, multicast.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Site, at, bind, hear, send, udp};
use crate::net::{Net, UdpOptions, UdpSocket};

pub(super) async fn datagrams_go_there_and_back<N: Net>(site: &Site<N>) {
    let (ours, our_address) = udp(&site.a, site.a_address);
    let (theirs, their_address) = udp(&site.b, site.b_address);
    assert_eq!((our_address.ip(), their_address.ip()), (site.a_address, site.b_address));
    assert!(our_address.port() != 0 && their_address.port() != 0);
    send(&ours, b"there", their_address).await;
    let (datagram, from) = hear(&theirs).await;
    assert_eq!((datagram.as_slice(), from), (b"there".as_slice(), our_address));
    send(&theirs, b"back", from).await;
    assert_eq!(hear(&ours).await, (b"back".to_vec(), their_address));
}

pub(super) async fn an_empty_datagram_arrives_empty<N: Net>(site: &Site<N>) {
    let (ours, our_address) = udp(&site.a, site.a_address);
    let (theirs, their_address) = udp(&site.b, site.b_address);
    send(&ours, b"", their_address).await;
    assert_eq!(hear(&theirs).await, (Vec::new(), our_address));
}

pub(super) async fn a_socket_is_readable_when_a_datagram_is_there<N: Net>(site: &Site<N>) {
    let (ours, _) = udp(&site.a, site.a_address);
    let (theirs, their_address) = udp(&site.b, site.b_address);
    for text in [&b"one"[..], b"", b"three"] {
        let (sent, readable) = tokio::join!(biased; ours.send_to(text, their_address), theirs.readable());
        assert_eq!(sent.expect("it is sent"), text.len());
        readable.expect("the socket is there");
        assert_eq!(hear(&theirs).await.0, text);
    }
}

pub(super) async fn a_datagram_longer_than_the_buffer_is_cut<N: Net>(site: &Site<N>) {
    let (ours, our_address) = udp(&site.a, site.a_address);
    let (theirs, their_address) = udp(&site.b, site.b_address);
    send(&ours, &[7; 100], their_address).await;
    send(&ours, b"next", their_address).await;
    let mut buffer = [0; 10];
    let (len, from) = theirs.recv_from(&mut buffer).await.expect("a datagram");
    assert_eq!((len, from, buffer), (10, our_address, [7; 10]));
    let (len, _) = theirs.recv_from(&mut buffer).await.expect("a datagram");
    assert_eq!(&buffer[..len], b"next", "the rest of a datagram that was cut is gone");
}

pub(super) async fn a_datagram_to_a_closed_port_harms_nobody<N: Net>(site: &Site<N>) {
    let (ours, _) = udp(&site.a, site.a_address);
    let (theirs, their_address) = udp(&site.b, site.b_address);
    let (closed, closed_address) = udp(&site.b, site.b_address);
    drop(closed);
    for _ in 0..3 {
        // Some systems report the earlier datagram's fate here.
        let _ = ours.send_to(b"nobody", closed_address).await;
    }
    while ours.send_to(b"somebody", their_address).await.is_err() {}
    let (datagram, from) = hear(&theirs).await;
    assert_eq!(datagram, b"somebody");
    send(&theirs, b"fine", from).await;
    assert_eq!(hear(&ours).await.0, b"fine");
}

pub(super) async fn a_port_belongs_to_one_socket_unless_both_share_it<N: Net>(site: &Site<N>) {
    let alone = |at| UdpOptions::at(at);
    let sharing = |at| UdpOptions { reuse: true, ..UdpOptions::at(at) };
    let (_first, taken) = bind(&site.b, &alone(at(site.b_address)));
    refused(site.b.bind_udp(&alone(taken)), io::ErrorKind::AddrInUse);
    refused(site.b.bind_udp(&sharing(taken)), io::ErrorKind::AddrInUse);
    let everywhere = SocketAddr::new(site.unspecified(), taken.port());
    refused(site.b.bind_udp(&alone(everywhere)), io::ErrorKind::AddrInUse);

    let (first, shared) = bind(&site.b, &sharing(at(site.b_address)));
    let (_second, _) = bind(&site.b, &sharing(shared));
    let (_third, _) = bind(&site.b, &sharing(SocketAddr::new(site.unspecified(), shared.port())));
    refused(site.b.bind_udp(&alone(shared)), io::ErrorKind::AddrInUse);
    drop((first, _second, _third));
    bind(&site.b, &alone(shared));
}

pub(super) async fn free_udp_ports_are_distinct_even_among_sharing_sockets<N: Net>(site: &Site<N>) {
    let mut sockets = Vec::new();
    for number in 0..64 {
        let options = UdpOptions { reuse: number % 2 == 0, ..UdpOptions::at(at(site.b_address)) };
        let (socket, address) = bind(&site.b, &options);
        assert!(sockets.iter().all(|(_, other)| *other != address), "{address} twice");
        sockets.push((socket, address));
    }
}

pub(super) async fn an_address_of_somebody_else_cannot_be_bound<N: Net>(site: &Site<N>) {
    let foreign = at(site.stranger());
    refused(site.a.bind_udp(&UdpOptions::at(foreign)), io::ErrorKind::AddrNotAvailable);
    refused(site.a.listen(foreign), io::ErrorKind::AddrNotAvailable);
    let to = SocketAddr::new(site.b_address, 9);
    refused(site.a.connect(to, Some(site.stranger())).await, io::ErrorKind::AddrNotAvailable);
}

pub(super) async fn a_broadcast_reaches_the_neighbour_and_its_sender<N: Net>(site: &Site<N>) {
    let everywhere = at(site.unspecified());
    let (theirs, heard_at) = bind(&site.b, &UdpOptions::at(everywhere));
    let port = heard_at.port();
    let echo_at = SocketAddr::new(site.unspecified(), port);
    let (echo, _) = bind(&site.a, &UdpOptions { reuse: true, ..UdpOptions::at(echo_at) });
    let (ours, our_address) =
        bind(&site.a, &UdpOptions { broadcast: true, ..UdpOptions::at(at(site.a_address)) });
    let directed = site.a_interface().broadcast.expect("a segment has a broadcast address");
    for target in [directed, Ipv4Addr::BROADCAST.into()] {
        let datagram = target.to_string().into_bytes();
        send(&ours, &datagram, SocketAddr::new(target, port)).await;
        assert_eq!(hear(&theirs).await, (datagram.clone(), our_address));
        assert_eq!(hear(&echo).await, (datagram, our_address), "a node hears its own broadcasts");
    }
}

pub(super) async fn a_broadcast_reaches_every_socket_that_shares_the_port<N: Net>(site: &Site<N>) {
    let sharing = |at| UdpOptions { reuse: true, ..UdpOptions::at(at) };
    let directed = site.b_interface().broadcast.expect("a segment has a broadcast address");
    let (first, address) = bind(&site.b, &sharing(at(site.unspecified())));
    let (second, _) = bind(&site.b, &sharing(address));
    let (third, _) = bind(&site.b, &sharing(SocketAddr::new(directed, address.port())));
    let (ours, our_address) =
        bind(&site.a, &UdpOptions { broadcast: true, ..UdpOptions::at(at(site.a_address)) });
    send(&ours, b"all", SocketAddr::new(directed, address.port())).await;
    for socket in [&first, &second, &third] {
        assert_eq!(hear(socket).await, (b"all".to_vec(), our_address));
    }
}

pub(super) async fn a_broadcast_without_permission_is_refused<N: Net>(site: &Site<N>) {
    let (ours, _) = udp(&site.a, site.a_address);
    let directed = site.a_interface().broadcast.expect("a segment has a broadcast address");
    for target in [directed, Ipv4Addr::BROADCAST.into()] {
        let sent = ours.send_to(b"?", SocketAddr::new(target, 5670)).await;
        refused(sent, io::ErrorKind::PermissionDenied);
    }
}

pub(super) async fn a_socket_bound_to_one_address_hears_no_broadcast<N: Net>(site: &Site<N>) {
    let (theirs, their_address) = udp(&site.b, site.b_address);
    let (ours, _) = bind(&site.a, &UdpOptions { broadcast: true, ..UdpOptions::at(at(site.a_address)) });
    let directed = site.a_interface().broadcast.expect("a segment has a broadcast address");
    send(&ours, b"to all", SocketAddr::new(directed, their_address.port())).await;
    send(&ours, b"to you", their_address).await;
    assert_eq!(hear(&theirs).await.0, b"to you");
}

pub(super) async fn a_multicast_reaches_members_and_only_members<N: Net>(site: &Site<N>) {
    let group: IpAddr = if site.a_address.is_ipv4() {
        Ipv4Addr::new(239, 255, 83, 71).into()
    } else {
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x5347).into()
    };
    let everywhere = UdpOptions::at(at(site.unspecified()));
    let (member, member_at) = bind(&site.b, &everywhere);
    member.join_multicast(group, &site.b_interface()).expect("membership");
    // Same node, same group, another port: the node hears the group, this socket must not.
    let (outsider, outsider_at) = bind(&site.b, &everywhere);
    let (own, own_at) = bind(&site.a, &everywhere);
    own.join_multicast(group, &site.a_interface()).expect("membership");
    let sender = UdpOptions { multicast_from: Some(site.a_address), ..UdpOptions::at(at(site.a_address)) };
    let (ours, our_address) = bind(&site.a, &sender);
    send(&ours, b"to members", SocketAddr::new(group, member_at.port())).await;
    assert_eq!(hear(&member).await, (b"to members".to_vec(), our_address));
    send(&ours, b"to myself", SocketAddr::new(group, own_at.port())).await;
    assert_eq!(hear(&own).await, (b"to myself".to_vec(), our_address), "a member hears its own node");
    send(&ours, b"to members", SocketAddr::new(group, outsider_at.port())).await;
    send(&ours, b"to you", SocketAddr::new(site.b_address, outsider_at.port())).await;
    assert_eq!(hear(&outsider).await.0, b"to you");
}

pub(super) async fn only_a_multicast_group_can_be_joined<N: Net>(site: &Site<N>) {
    let (ours, _) = udp(&site.a, site.unspecified());
    refused(ours.join_multicast(site.b_address, &site.a_interface()), io::ErrorKind::InvalidInput);
}

fn refused<T>(result: io::Result<T>, expected: io::ErrorKind) {
    match result {
        Ok(_) => panic!("allowed, and {expected:?} was expected"),
        Err(error) => assert_eq!(error.kind(), expected, "{error}"),
    }
}
