//! The suite that every [`Net`] must pass.
//!
//! Roles are tested on a simulated network and run on a real one; what makes that worth anything is that both behave
//! alike where it matters. Each case states one thing that Linux does and roles rely on. Cases wait for events, never
//! for time to pass, except where time is the subject; then it is the network's own.
//!
//! What it does not do: loss, delay and other weather, which the two networks rightly do not share.
//!
//! ```
//! # use hailer::net::conformance::{Site, cases};
//! # use hailer::net::Net;
//! async fn run_all<N: Net>(site: &Site<N>) {
//!     for case in cases::<N>() {
//!         if site.offers(case.needs) {
//!             case.run(site).await;
//!         }
//!     }
//! }
//! ```

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use super::{Alarm, Interface, Net, TcpListener, UdpOptions, UdpSocket};

mod node;
mod tcp;
mod udp;

/// A case that takes longer than this (of the network's own time) waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two nodes that reach each other without loss. They may be one node twice, as on a loopback interface.
#[derive(Clone, Debug)]
pub struct Site<N> {
    /// The node that asks.
    pub a: N,
    /// Its address.
    pub a_address: IpAddr,
    /// The node that answers.
    pub b: N,
    /// Its address, of the same family.
    pub b_address: IpAddr,
    /// The nodes are two, on one broadcast domain, and share it with nobody else.
    pub are_neighbours: bool,
}

/// What a case asks of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Two addresses.
    Anything,
    /// Two nodes on one broadcast domain.
    Neighbours,
    /// Two nodes on one broadcast domain with IPv4 addresses.
    Broadcast,
}

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One thing that a network must do.
#[derive(Clone, Copy, Debug)]
pub struct Case<N: Net> {
    /// What it must do, as a sentence in snake case.
    pub name: &'static str,
    /// Where it can be tried.
    pub needs: Needs,
    run: for<'a> fn(&'a Site<N>) -> Running<'a>,
}

impl<N: Net> Case<N> {
    /// Tries the case. It leaves no socket and no task behind, so a site can be used again.
    ///
    /// # Panics
    /// When the network does not do what the case says, or nothing at all for a minute.
    pub async fn run(&self, site: &Site<N>) {
        assert!(site.offers(self.needs), "{} needs {:?}", self.name, self.needs);
        if within(&site.a, PATIENCE, (self.run)(site)).await.is_none() {
            panic!("{}: still waiting after {PATIENCE:?}", self.name);
        }
    }
}

macro_rules! cases {
    ($($needs:ident { $($module:ident::$name:ident,)+ })+) => {
        /// All cases, simplest first: when one fails, those after it may fail for the same reason.
        pub fn cases<N: Net>() -> Vec<Case<N>> {
            vec![$($(
                Case {
                    name: stringify!($name),
                    needs: Needs::$needs,
                    run: |site| Box::pin($module::$name(site)),
                },
            )+)+]
        }
    };
}

cases! {
    Anything {
        node::time_never_runs_backwards,
        node::an_alarm_rings_once_and_never_early,
        node::a_later_alarm_never_rings_before_an_earlier_one,
        node::an_alarm_can_be_set_earlier_later_and_off,
        node::a_deadline_in_the_past_rings_at_once,
        node::dropping_a_task_ends_it,
        node::a_detached_task_goes_on,
        node::randomness_differs_from_draw_to_draw,
        node::a_numeric_host_resolves_to_itself,
        node::a_node_lists_the_address_it_has,
        udp::datagrams_go_there_and_back,
        udp::an_empty_datagram_arrives_empty,
        udp::a_socket_is_readable_when_a_datagram_is_there,
        udp::a_datagram_longer_than_the_buffer_is_cut,
        udp::a_datagram_to_a_closed_port_harms_nobody,
        udp::a_port_belongs_to_one_socket_unless_both_share_it,
        udp::free_udp_ports_are_distinct_even_among_sharing_sockets,
        udp::an_address_of_somebody_else_cannot_be_bound,
        tcp::a_megabyte_is_echoed_while_it_is_sent,
        tcp::both_sides_know_their_addresses,
        tcp::a_connection_opens_before_it_is_accepted,
        tcp::one_direction_can_end_while_the_other_goes_on,
        tcp::a_closed_connection_ends_the_others_reading,
        tcp::closing_with_unread_bytes_resets_the_other_side,
        tcp::writing_to_one_who_has_gone_fails_in_the_end,
        tcp::a_port_nobody_listens_on_refuses,
        tcp::a_port_has_one_listener_and_is_free_again_after_it,
        tcp::free_tcp_ports_are_distinct,
        tcp::a_dropped_attempt_to_connect_leaves_the_listener_working,
        tcp::a_writer_is_stopped_by_one_who_does_not_read,
    }
    Neighbours {
        node::neighbours_are_inside_each_others_prefix,
        udp::a_multicast_reaches_members_and_only_members,
        udp::only_a_multicast_group_can_be_joined,
    }
    Broadcast {
        udp::a_broadcast_reaches_the_neighbour_and_its_sender,
        udp::a_broadcast_reaches_every_socket_that_shares_the_port,
        udp::a_broadcast_without_permission_is_refused,
        udp::a_socket_bound_to_one_address_hears_no_broadcast,
    }
}

impl<N: Net> Site<N> {
    /// Whether a case can be tried here.
    pub fn offers(&self, needs: Needs) -> bool {
        match needs {
            Needs::Anything => true,
            Needs::Neighbours => self.are_neighbours,
            Needs::Broadcast => self.are_neighbours && self.a_address.is_ipv4(),
        }
    }

    /// The interface of `a`.
    fn a_interface(&self) -> Interface {
        interface_with(&self.a, self.a_address)
    }

    /// The interface of `b`.
    fn b_interface(&self) -> Interface {
        interface_with(&self.b, self.b_address)
    }

    /// `0.0.0.0` or `::`.
    fn unspecified(&self) -> IpAddr {
        if self.a_address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
    }

    /// An address that neither node has: one of those reserved for documentation.
    fn stranger(&self) -> IpAddr {
        if self.a_address.is_ipv4() {
            Ipv4Addr::new(192, 0, 2, 1).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
        }
    }

    /// A connection from `a` to `b`: the ends of `a` and `b`.
    async fn connection(&self) -> (N::Stream, N::Stream) {
        let listener = self.b.listen(at(self.b_address)).expect("a free port to listen on");
        let to = listener.local_addr().expect("a listener has an address");
        let (ours, theirs) = tokio::join!(self.a.connect(to, None), listener.accept());
        (ours.expect("a connection"), theirs.expect("a connection").0)
    }
}

/// The interface that has `address`.
fn interface_with<N: Net>(net: &N, address: IpAddr) -> Interface {
    let all = net.interfaces().expect("a list of interfaces");
    let found = all.iter().find(|interface| interface.address == address);
    found.unwrap_or_else(|| panic!("no interface has {address}: {all:?}")).clone()
}

/// Any free port of `address`.
fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 0)
}

/// A UDP socket at a free port of `address`, and where it is bound.
fn udp<N: Net>(net: &N, address: IpAddr) -> (N::Udp, SocketAddr) {
    bind(net, &UdpOptions::at(at(address)))
}

/// A UDP socket, and where it is bound.
fn bind<N: Net>(net: &N, options: &UdpOptions) -> (N::Udp, SocketAddr) {
    let socket = net.bind_udp(options).unwrap_or_else(|error| panic!("{options:?}: {error}"));
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

/// Sends a datagram whole.
async fn send(socket: &impl UdpSocket, datagram: &[u8], to: SocketAddr) {
    let sent = socket.send_to(datagram, to).await.unwrap_or_else(|error| panic!("sending to {to}: {error}"));
    assert_eq!(sent, datagram.len(), "a datagram is sent whole or not at all");
}

/// The next datagram and its sender.
async fn hear(socket: &impl UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2048];
    loop {
        // An error is the report of an earlier send; the socket stays usable.
        if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            buffer.truncate(len);
            return (buffer, from);
        }
    }
}

/// What `future` gives, or `None` when it takes longer than `span` on the network's clock.
async fn within<N: Net, T>(net: &N, span: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(span)));
    tokio::select! {
        biased;
        done = future => Some(done),
        () = alarm.ring() => None,
    }
}
