//! A NAT by hand: machines inside, strangers outside, and a clock that the test turns.

use std::time::Duration;

use super::*;

mod classification;
mod linux;
mod properties;
mod recorded;
mod rules;

/// The outside address.
const WAN: [u8; 4] = [203, 0, 113, 1];

fn end(address: [u8; 4], port: u16) -> SocketAddr {
    (address, port).into()
}

/// An inside end.
fn inside(machine: u8, port: u16) -> SocketAddr {
    end([192, 168, 1, machine], port)
}

/// An end of a stranger.
fn stranger(machine: u8, port: u16) -> SocketAddr {
    end([198, 51, 100, machine], port)
}

/// An outside end of the NAT.
fn wan(port: u16) -> SocketAddr {
    end(WAN, port)
}

struct Bench {
    nat: Nat,
    now: Timestamp,
}

impl Bench {
    fn new(preset: Preset) -> Self {
        Self::with(preset.policy())
    }

    fn with(policy: Policy) -> Self {
        let nat = Nat::new(policy, vec![WAN.into()], Stream::new(1, "nat"));
        Self { nat, now: Timestamp::ZERO }
    }

    fn wait(&mut self, secs: u64) {
        self.now = self.now.after(Duration::from_secs(secs));
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    fn len(&mut self) -> usize {
        self.nat.len(self.now)
    }

    /// A datagram goes out; as whom.
    fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.try_out(from, to).unwrap()
    }

    fn try_out(&mut self, from: SocketAddr, to: SocketAddr) -> Result<SocketAddr, Refusal> {
        self.nat.outbound(self.now, &Flow { protocol: Protocol::Udp, from, to }, &Signal::Datagram)
    }

    /// A datagram comes in.
    fn back(&mut self, from: SocketAddr, to: SocketAddr) -> Inbound {
        self.nat.inbound(self.now, &Flow { protocol: Protocol::Udp, from, to }, &Signal::Datagram)
    }

    fn tcp_out(&mut self, from: SocketAddr, to: SocketAddr, tcp: TcpSignal) -> Result<SocketAddr, Refusal> {
        self.nat.outbound(self.now, &Flow { protocol: Protocol::Tcp, from, to }, &Signal::Segment(tcp))
    }

    fn tcp_back(&mut self, from: SocketAddr, to: SocketAddr, tcp: TcpSignal) -> Inbound {
        self.nat.inbound(self.now, &Flow { protocol: Protocol::Tcp, from, to }, &Signal::Segment(tcp))
    }

    /// Opens a connection from inside; as whom.
    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let outside = self.tcp_out(from, to, SYN).unwrap();
        assert_eq!(self.tcp_back(to, outside, SYN_ACK), Inbound::Forward(from));
        assert_eq!(self.tcp_out(from, to, ACK), Ok(outside));
        outside
    }
}

const NOTHING: TcpSignal = TcpSignal { syn: false, fin: false, rst: false, ack: None, end: 0 };
const SYN: TcpSignal = TcpSignal { syn: true, end: 1, ..NOTHING };
const SYN_ACK: TcpSignal = TcpSignal { syn: true, ack: Some(1), end: 101, ..NOTHING };
const ACK: TcpSignal = TcpSignal { ack: Some(101), end: 1, ..NOTHING };
const RST: TcpSignal = TcpSignal { rst: true, ack: Some(1), end: 0, ..NOTHING };
