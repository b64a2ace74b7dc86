//! TCP: one endpoint of one connection as a machine, so that loss costs in a simulation what it costs on Linux.
//!
//! It does no IO, has no clock and draws nothing: the time is an argument and the first sequence number is given.
//! Ports, addresses, listeners, resets for closed ports and sockets belong to whoever drives it:
//!
//! 1. hand it a segment ([`Connection::on_segment`]), the time ([`Connection::on_timer`]) or a wish of the application;
//! 2. send what [`Connection::poll_transmit`] returns until it returns `None`;
//! 3. come back with the next, or at [`Connection::deadline`].
//!
//! Modelled, as Linux 6.5 and later does it: the handshake and its repetition, timestamps, RFC 6298 with the 200 ms
//! floor, RACK and the tail loss probe (RFC 8985), selective and duplicate acknowledgements, proportional reduction,
//! CUBIC, path MTU discovery, delayed acknowledgements, windows and their probes, half-close, TIME_WAIT, resets checked
//! as RFC 5961 asks, and giving up. Nagle's algorithm is off.
//!
//! Not modelled: simultaneous open, urgent data, keep-alive, ECN, pacing, HyStart++, buffer auto-tuning, PAWS, the
//! compression of acknowledgements, ICMP errors that take a doubling of the time-out back (RFC 6069), and the grain of
//! the kernel's timers: at 250 Hz they ring up to 8 ms late, and up to 32 ms when set for more than 256 ms ahead. Nor what
//! a host remembers from one connection to the next (`tcp_metrics`), but for the path's MTU: on a host that has long
//! suffered loss, Linux's first time-outs are longer than here. Nor the processor's time: between hosts so near that an
//! answer comes before the next segment is made, hardly anything is in flight on Linux, and bulk transfers under loss meet
//! time-outs half again as often as here.
//!
//! In reading order: `segment`, `config`, `connection` (life and application), `input`, `acknowledge`, `output`,
//! `timers`; the parts they use are `send`, `receive`, `recovery`, `congestion`, `rtt`, `acks`.

mod acknowledge;
mod acks;
mod config;
mod congestion;
mod connection;
mod input;
mod output;
mod receive;
mod recovery;
mod rtt;
mod segment;
mod send;
mod timers;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use connection::{Connection, State, TcpError, Unreachable};
pub use receive::PIECES_MAX;
pub use segment::{PAYLOAD_BYTES_MAX, SackBlocks, Segment, Timestamps};
