//! A capture file: every packet at every interface, with the bytes it would have had on a real wire.
//!
//! The file is pcapng with one interface for each simulated one, nanoseconds since the start of the world, and packets
//! from their IP headers on: the fabric has no Ethernet, and nothing here makes one up. A packet appears where it leaves
//! (outbound) and where it comes to (inbound); between the two it may be lost, and then it has not come. What a machine
//! sends to itself touches no interface.
//!
//! The fabric knows TCP windows in bytes; a header has 16 bits for them and a scale from the handshake. The scale here is
//! the smallest that fits the receive buffer, so that what Wireshark computes is off by a few bytes at most, upwards: a
//! small window must not look like a closed one.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
use etherparse::icmpv6::{self, DestUnreachableCode};
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, TcpHeader};
use hailer::Timestamp;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, PcapError};

use super::InterfaceId;
use super::docker::{Tunnelled, VNI_FIRST};
use super::icmp::Problem;
use super::packet::{Body, Packet};
use super::stream::SOCKET;
use super::tap::Tap;
use super::tcp::Segment;

/// Powers of ten below a second: nanoseconds (`if_tsresol`).
const NANOSECONDS: u8 = 9;
/// Directions in the two lowest bits of `epb_flags`.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// The options of a TCP header, at most.
const TCP_OPTIONS_BYTES_MAX: usize = 40;

/// A capture file being written.
pub struct Capture<W: Write> {
    file: PcapNgWriter<W>,
    bytes: Vec<u8>,
    /// After the first error nothing more is written.
    error: Option<io::Error>,
}

impl<W: Write> Capture<W> {
    /// Begins a file. `interfaces` are the names of all interfaces, in the order of their making.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, interfaces: &[String]) -> io::Result<Self> {
        let mut file = PcapNgWriter::new(out).map_err(io_error)?;
        for name in interfaces {
            let interface = InterfaceDescriptionBlock {
                linktype: DataLink::RAW,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            };
            file.write_block(&interface.into_block()).map_err(io_error)?;
        }
        Ok(Self { file, bytes: Vec::new(), error: None })
    }

    fn write(&mut self, at: Timestamp, interface: InterfaceId, direction: u32, packet: &Packet) {
        if self.error.is_some() {
            return;
        }
        self.bytes.clear();
        let outcome = encode(packet, &mut self.bytes).and_then(|()| {
            let block = EnhancedPacketBlock {
                interface_id: interface.0,
                timestamp: Duration::from_nanos(at.as_nanos()),
                original_len: self.bytes.len() as u32,
                data: Cow::Borrowed(&self.bytes),
                options: vec![EnhancedPacketOption::Flags(direction)],
            };
            self.file.write_block(&block.into_block()).map_err(io_error)
        });
        self.error = outcome.err();
    }
}

impl<W: Write> std::fmt::Debug for Capture<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Capture").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<W: Write + Send> Tap for Capture<W> {
    fn sent(&mut self, at: Timestamp, from: InterfaceId, packet: &Packet) {
        self.write(at, from, OUTBOUND, packet);
    }

    fn received(&mut self, at: Timestamp, at_interface: InterfaceId, packet: &Packet) {
        self.write(at, at_interface, INBOUND, packet);
    }

    fn finish(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)?;
        self.file.get_mut().flush()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// A packet's bytes, from its IP header on, with its checksums.
fn encode(packet: &Packet, into: &mut Vec<u8>) -> io::Result<()> {
    let builder = match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), packet.ttl),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), packet.ttl),
        _ => return Err(io::Error::other("a packet from one family of addresses to the other")),
    };
    match &packet.body {
        Body::Udp(payload) => {
            builder.udp(packet.from.port(), packet.to.port()).write(into, payload).map_err(io::Error::other)
        }
        Body::Vxlan(tunnelled) => {
            let mut payload = vxlan_header(tunnelled);
            encode(&tunnelled.packet, &mut payload)?;
            builder.udp(packet.from.port(), packet.to.port()).write(into, &payload).map_err(io::Error::other)
        }
        Body::Tcp(segment) => {
            let header = tcp_header(packet.from, packet.to, segment)?;
            builder.tcp_header(header).write(into, &segment.payload).map_err(io::Error::other)
        }
        Body::Icmp(icmp) => {
            let mut quoted = Vec::new();
            encode(&icmp.about, &mut quoted)?;
            quoted.truncate(icmp.quoted_len());
            if packet.to.is_ipv4() {
                builder.icmpv4(icmp_type(icmp.problem)).write(into, &quoted)
            } else {
                builder.icmpv6(icmp6_type(icmp.problem)).write(into, &quoted)
            }
            .map_err(io::Error::other)
        }
    }
}

/// The header of VXLAN (RFC 7348), and one of Ethernet with the addresses that Docker makes from those of IP.
fn vxlan_header(tunnelled: &Tunnelled) -> Vec<u8> {
    const HAS_NUMBER: u8 = 8;
    const IPV4: [u8; 2] = [8, 0];
    let number = VNI_FIRST + tunnelled.segment.0;
    let mut bytes = vec![HAS_NUMBER, 0, 0, 0];
    bytes.extend((number << 8).to_be_bytes());
    for end in [tunnelled.packet.to, tunnelled.packet.from] {
        bytes.extend([2, 0x42]);
        match end.ip() {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(&address.octets()[12..]),
        }
    }
    bytes.extend(IPV4);
    bytes
}

fn tcp_header(from: SocketAddr, to: SocketAddr, segment: &Segment) -> io::Result<TcpHeader> {
    // The window of a handshake is never scaled (RFC 7323, 2.2).
    let scale = if segment.syn { 0 } else { window_scale() };
    let window = segment.window.div_ceil(1 << scale).min(u32::from(u16::MAX)) as u16;
    let mut header = TcpHeader::new(from.port(), to.port(), segment.seq, window);
    header.acknowledgment_number = segment.ack.unwrap_or_default();
    header.ack = segment.ack.is_some();
    header.syn = segment.syn;
    header.fin = segment.fin;
    header.rst = segment.rst;
    header.psh = segment.psh;
    header.set_options_raw(&tcp_options(segment)).map_err(io::Error::other)?;
    Ok(header)
}

fn icmp_type(problem: Problem) -> Icmpv4Type {
    use DestUnreachableHeader as Unreachable;
    Icmpv4Type::DestinationUnreachable(match problem {
        Problem::NetworkUnreachable => Unreachable::Network,
        Problem::HostUnreachable => Unreachable::Host,
        Problem::PortUnreachable => Unreachable::Port,
        Problem::Prohibited => Unreachable::FilterProhibited,
        Problem::TooLong { mtu } => Unreachable::FragmentationNeeded { next_hop_mtu: mtu },
        Problem::TimeExceeded => return Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
    })
}

fn icmp6_type(problem: Problem) -> Icmpv6Type {
    Icmpv6Type::DestinationUnreachable(match problem {
        Problem::NetworkUnreachable => DestUnreachableCode::NoRoute,
        Problem::HostUnreachable => DestUnreachableCode::Address,
        Problem::PortUnreachable => DestUnreachableCode::Port,
        Problem::Prohibited => DestUnreachableCode::Prohibited,
        Problem::TooLong { mtu } => return Icmpv6Type::PacketTooBig { mtu: mtu.into() },
        Problem::TimeExceeded => {
            return Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded);
        }
    })
}

/// The shift with which the receive buffer of every socket fits the header's 16 bits.
fn window_scale() -> u8 {
    (u32::BITS - SOCKET.receive_buffer_bytes.leading_zeros()).saturating_sub(u16::BITS) as u8
}

/// The options as Linux lays them out: those lengths are what [`Segment::wire_len`] counts.
fn tcp_options(segment: &Segment) -> Vec<u8> {
    const NOP: u8 = 1;
    let mut options = Vec::with_capacity(TCP_OPTIONS_BYTES_MAX);
    if let Some(mss) = segment.mss {
        options.extend([2, 4]);
        options.extend(mss.to_be_bytes());
    }
    match (segment.timestamps, segment.syn) {
        (Some(stamps), is_handshake) => {
            // On a handshake SACK-permitted takes the place of the padding.
            options.extend(if is_handshake { [4, 2] } else { [NOP, NOP] });
            options.extend([8, 10]);
            options.extend(stamps.value.to_be_bytes());
            options.extend(stamps.echo.to_be_bytes());
        }
        (None, true) => options.extend([NOP, NOP, 4, 2]),
        (None, false) => {}
    }
    if segment.syn {
        options.extend([NOP, 3, 3, window_scale()]);
    }
    if !segment.sack.is_empty() {
        let room = (TCP_OPTIONS_BYTES_MAX - options.len()).saturating_sub(4) / 8;
        let blocks = &segment.sack.as_slice()[..segment.sack.len().min(room)];
        options.extend([NOP, NOP, 5, 2 + 8 * blocks.len() as u8]);
        for (start, end) in blocks {
            options.extend(start.to_be_bytes());
            options.extend(end.to_be_bytes());
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use etherparse::{SlicedPacket, TransportSlice};

    use super::super::icmp::Icmp;
    use super::super::tcp::Timestamps;
    use super::*;

    fn packet(body: Body) -> Packet {
        Packet::new("10.0.0.1:5670".parse().unwrap(), "10.0.0.2:49152".parse().unwrap(), body)
    }

    fn segments() -> Vec<Segment> {
        let stamped = Segment {
            ack: Some(9),
            timestamps: Some(Timestamps { value: 1, echo: 2 }),
            ..Segment::default()
        };
        let blocks = |count: u32| (0..count).map(|block| (block * 10, block * 10 + 5)).collect();
        let payload = Bytes::from_static(b"odd");
        vec![
            Segment { syn: true, mss: Some(1460), window: 65_535, ..stamped.clone() },
            Segment { syn: true, ..Segment::default() },
            Segment { window: 1, ..stamped.clone() },
            Segment { sack: blocks(1), window: 262_144, payload, psh: true, fin: true, ..stamped.clone() },
            Segment { sack: blocks(3), ..stamped },
            Segment { rst: true, ..Segment::default() },
        ]
    }

    #[test]
    fn a_packet_has_as_many_bytes_as_the_fabric_counts() {
        let mut packets: Vec<Packet> =
            segments().into_iter().map(|segment| packet(Body::Tcp(Box::new(segment)))).collect();
        packets.push(packet(Body::Udp(Bytes::from_static(b"ZRE\x01"))));
        packets.push(Packet::new(
            "[fe80::1]:5670".parse().unwrap(),
            "[ff02::1]:5670".parse().unwrap(),
            Body::Udp(Bytes::from_static(b"ZRE\x01")),
        ));
        for len in [22, 3000] {
            let from_to = ["[fd00::1]:1", "[fd00::2]:2"].map(|address| address.parse().unwrap());
            let about = Packet::new(from_to[0], from_to[1], Body::Udp(Bytes::from(vec![0; len])));
            let problem = Problem::TooLong { mtu: 1400 };
            let body = Body::Icmp(Box::new(Icmp { problem, about }));
            packets.push(Packet::new(from_to[1], from_to[0], body));
            let about = packet(Body::Udp(Bytes::from(vec![0; len])));
            let problem = Problem::TooLong { mtu: 1400 };
            packets.push(packet(Body::Icmp(Box::new(Icmp { problem, about }))));
        }
        for packet in packets {
            let mut bytes = Vec::new();
            encode(&packet, &mut bytes).unwrap();
            assert_eq!(bytes.len(), packet.wire_len(), "{packet:?}");
        }
    }

    #[test]
    fn a_segment_is_read_back_with_its_flags_window_and_payload() {
        for segment in segments() {
            let mut bytes = Vec::new();
            encode(&packet(Body::Tcp(Box::new(segment.clone()))), &mut bytes).unwrap();
            let Some(TransportSlice::Tcp(read)) = SlicedPacket::from_ip(&bytes).unwrap().transport else {
                panic!("a TCP segment");
            };
            let flags = (read.syn(), read.ack(), read.fin(), read.rst(), read.psh());
            assert_eq!(flags, (segment.syn, segment.ack.is_some(), segment.fin, segment.rst, segment.psh));
            assert_eq!(read.payload(), &segment.payload[..]);
            let scale = if segment.syn { 0 } else { window_scale() };
            let window = u32::from(read.window_size()) << scale;
            assert!((segment.window..segment.window + 8).contains(&window), "{window} for {segment:?}");
        }
    }

    #[test]
    fn an_error_is_kept_until_the_end_and_nothing_is_written_after_it() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut capture = Capture::new(Full(150), &["n/eth0".to_owned()]).unwrap();
        let datagram = packet(Body::Udp(Bytes::from_static(&[0; 100])));
        for at in 0..3 {
            capture.sent(Timestamp::from_nanos(at), InterfaceId(0), &datagram);
        }
        assert_eq!(capture.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
