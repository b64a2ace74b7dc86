//! One endpoint of one connection: its life, and what the application does with it.

use bytes::Bytes;
use hailer::Timestamp;

use super::acks::Acknowledger;
use super::config::Config;
use super::congestion::Congestion;
use super::receive::ReceiveBuffer;
use super::recovery::{Phase, Recovery};
use super::rtt::{RoundTrip, later};
use super::segment::{Segment, before};
use super::send::SendBuffer;

/// Bytes of the timestamps option in every segment, which the agreed segment size includes.
pub(super) const STAMP_BYTES: u16 = 12;
/// The segment size of a peer that names none (RFC 9293, 3.7.1).
const PEER_MSS_DEFAULT: u16 = 536;
/// A peer that names a smaller one is taken to mean this (Linux's `tcp_min_snd_mss`).
const PEER_MSS_MIN: u16 = 48;

/// The states of RFC 9293.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// SYN is sent.
    SynSent,
    /// SYN has come, SYN-ACK is sent.
    SynReceived,
    /// Both directions are open.
    Established,
    /// We have finished, the peer does not know yet.
    FinWait1,
    /// We have finished, the peer knows.
    FinWait2,
    /// Both have finished, the peer does not know that we have.
    Closing,
    /// Both have finished; we closed first and answer strays.
    TimeWait,
    /// The peer has finished.
    CloseWait,
    /// Both have finished, the peer first; it does not know that we have.
    LastAck,
    /// Over.
    Closed,
}

/// Why a connection ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// The peer's host has no listener on the port.
    #[error("connection refused: nothing listens on that port")]
    Refused,
    /// The peer ended the connection.
    #[error("connection reset by the peer")]
    Reset,
    /// The peer did not answer for as long as the configuration allows.
    #[error("connection timed out: the peer does not answer")]
    TimedOut,
    /// A router says that there is no way to the host, or the host does not answer on its own network.
    #[error("no route to the host")]
    HostUnreachable,
    /// A router says that there is no way to the network.
    #[error("network is unreachable")]
    NetworkUnreachable,
}

/// What an ICMP message says of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Type 3 code 0.
    Network,
    /// Type 3 code 1, or no answer to address resolution.
    Host,
    /// Type 3 code 3.
    Port,
    /// Type 3 codes 9, 10 and 13: a firewall.
    Prohibited,
}

/// What the one timer of the sending half is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerKind {
    /// SYN or SYN-ACK again.
    Handshake,
    /// The oldest segment again, and everything counts as lost.
    Retransmit,
    /// The tail loss probe.
    TailProbe,
    /// The end of the window for reordering.
    Reorder,
    /// The next question whether the peer's window is still closed.
    WindowProbe,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    pub(super) kind: TimerKind,
    pub(super) at: Timestamp,
}

/// A probe to be sent with the next [`Connection::poll_transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    None,
    Tail,
    Window,
}

/// A reset to be sent with the next [`Connection::poll_transmit`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset {
    pub(super) seq: u32,
    /// It comes from a connection and acknowledges; otherwise it answers a stray.
    pub(super) is_ours: bool,
}

/// One endpoint of one connection. [The module](super) says how to drive it.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) error: Option<TcpError>,
    /// The application is gone.
    pub(super) is_orphan: bool,
    pub(super) probe: Probe,
    /// How many SYN or SYN-ACK are to be sent now.
    pub(super) handshake_due: u8,
    /// Repetitions of SYN or SYN-ACK, and those of them that the timer made.
    pub(super) handshake_repeats: u8,
    pub(super) handshake_timeouts: u8,
    /// Time-outs in a row, and window probes in a row without any answer.
    pub(super) timeouts: u8,
    pub(super) probes: u8,
    pub(super) probe_backoff: u8,
    /// The peer's segment size less options.
    pub(super) send_mss: u16,
    /// The largest segment that passes all routers, as far as they have said so.
    pub(super) path_mss: u16,
    pub(super) initial_seq: u32,
    /// The peer's window, its largest, and the segment that told of it.
    pub(super) window: u32,
    pub(super) window_max: u32,
    pub(super) window_seq: u32,
    /// The peer's clock, to be echoed; 0 before it was seen.
    pub(super) peer_clock_ms: u32,
    pub(super) reset: Option<Reset>,
    pub(super) timer: Option<Timer>,
    /// The end of FIN_WAIT_2 or TIME_WAIT; never elsewhere.
    pub(super) life_ends: Timestamp,
    /// When SYN or SYN-ACK left first; later when data left last.
    pub(super) sent_at: Timestamp,
    /// When a segment outside the window was answered last; never before the first.
    pub(super) challenged_at: Timestamp,
    pub(super) trip: RoundTrip,
    pub(super) congestion: Congestion,
    pub(super) recovery: Recovery,
    pub(super) acks: Acknowledger,
    pub(super) send: SendBuffer,
    pub(super) receive: ReceiveBuffer,
}

impl Connection {
    /// Opens a connection; SYN leaves with the first [`Connection::poll_transmit`]. `isn` is the first sequence
    /// number.
    pub fn connect(config: &Config, isn: u32, now: Timestamp) -> Self {
        Self::new(config, isn, now, State::SynSent)
    }

    /// Answers a SYN; SYN-ACK leaves with the first [`Connection::poll_transmit`].
    pub fn accept(config: &Config, isn: u32, syn: &Segment, now: Timestamp) -> Self {
        let mut connection = Self::new(config, isn, now, State::SynReceived);
        connection.take_syn(syn);
        connection
    }

    fn new(config: &Config, isn: u32, now: Timestamp, state: State) -> Self {
        let config = config.bounded();
        let next = isn.wrapping_add(1);
        Self {
            config,
            state,
            error: None,
            is_orphan: false,
            probe: Probe::None,
            handshake_due: 1,
            handshake_repeats: 0,
            handshake_timeouts: 0,
            timeouts: 0,
            probes: 0,
            probe_backoff: 0,
            send_mss: PEER_MSS_DEFAULT - STAMP_BYTES,
            path_mss: u16::MAX,
            initial_seq: isn,
            window: 0,
            window_max: 0,
            window_seq: 0,
            peer_clock_ms: 0,
            reset: None,
            timer: Some(Timer {
                kind: TimerKind::Handshake,
                at: later(now, u64::from(config.rto_initial_ms) * 1000),
            }),
            life_ends: Timestamp::NEVER,
            sent_at: now,
            challenged_at: Timestamp::NEVER,
            trip: RoundTrip::new(&config),
            congestion: Congestion::new(u32::from(config.initial_cwnd)),
            recovery: Recovery::new(next),
            acks: Acknowledger::new(u32::from(config.mss - STAMP_BYTES)),
            send: SendBuffer::new(next),
            receive: ReceiveBuffer::new(0, config.receive_buffer_bytes),
        }
    }

    /// What the peer's SYN says.
    pub(super) fn take_syn(&mut self, syn: &Segment) {
        let peer_mss = syn.mss.unwrap_or(PEER_MSS_DEFAULT).max(PEER_MSS_MIN);
        self.send_mss = peer_mss.min(self.config.mss).min(self.path_mss) - STAMP_BYTES;
        self.window = syn.window.min(u32::from(u16::MAX));
        self.window_max = self.window;
        self.window_seq = syn.seq;
        self.peer_clock_ms = syn.timestamps.map_or(0, |stamps| stamps.value);
        self.receive = ReceiveBuffer::new(syn.seq.wrapping_add(1), self.config.receive_buffer_bytes);
    }

    /// The handshake is done.
    pub(super) fn establish(&mut self) {
        self.state = State::Established;
        self.timer = None;
        self.handshake_due = 0;
        // RFC 6928: more than one lost SYN says that the path is bad.
        let is_bad = self.handshake_timeouts > 0 && self.handshake_repeats > 1;
        self.congestion = Congestion::new(if is_bad { 1 } else { u32::from(self.config.initial_cwnd) });
    }

    /// Takes a copy of as much of `data` as there is room for, and says how much. 0 when the buffer is full, before
    /// the handshake is done and after [`Connection::shutdown`]. Poll after each write, so that what could have left at
    /// once travels in a segment of its own, as without Nagle's algorithm.
    pub fn write(&mut self, now: Timestamp, data: &[u8]) -> usize {
        let length = data.len().min(self.room());
        self.write_bytes(now, Bytes::copy_from_slice(&data[..length]))
    }

    /// [`Connection::write`] without the copy: takes what there is room for from the front of `data`.
    pub fn write_bytes(&mut self, _now: Timestamp, mut data: Bytes) -> usize {
        data.truncate(self.room());
        let length = data.len();
        if length > 0 {
            self.send.queue(data);
        }
        length
    }

    fn room(&self) -> usize {
        if !matches!(self.state, State::Established | State::CloseWait) {
            return 0;
        }
        self.config.send_buffer_bytes.saturating_sub(self.send.held_bytes()) as usize
    }

    /// Moves bytes to `into` and says how many. 0 with [`Connection::is_read_closed`] false: nothing yet. Poll after
    /// it: reading may open the window.
    pub fn read(&mut self, _now: Timestamp, into: &mut [u8]) -> usize {
        let read = self.receive.read(into);
        if read > 0 && self.is_synchronised() && self.state != State::TimeWait {
            self.acks.note_read(self.unacknowledged(), self.receive.unread_bytes() == 0);
            if self.receive.must_announce_window(self.acks.segment_bytes) {
                self.acks.is_due = true;
            }
        }
        read
    }

    /// Bytes that came since the last acknowledgement left.
    pub(super) fn unacknowledged(&self) -> u32 {
        self.receive.next.wrapping_sub(self.receive.acknowledged)
    }

    /// Sets the ceiling of the retransmission time-out and how long the connection may go unanswered, in milliseconds.
    pub fn limit_silence(&mut self, rto_max_ms: u32, user_timeout_ms: u32) {
        self.config = Config { rto_max_ms, user_timeout_ms, ..self.config }.bounded();
    }

    /// Sends FIN after what was written. Reading goes on. Without effect before the handshake is done.
    pub fn shutdown(&mut self, _now: Timestamp) {
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            _ => return,
        };
        self.send.is_finishing = true;
    }

    /// The application has dropped the socket. What was written still goes out, then FIN; but if bytes are there or
    /// come later that nobody will read, the peer gets a reset. Keep the endpoint until [`Connection::is_finished`].
    pub fn close(&mut self, now: Timestamp) {
        if self.is_orphan {
            return;
        }
        self.is_orphan = true;
        match self.state {
            State::SynSent | State::Closed => self.end(),
            State::TimeWait => {}
            State::SynReceived => self.abort(now),
            _ if self.receive.unread_bytes() > 0 => self.abort(now),
            State::FinWait2 => self.life_ends = later(now, u64::from(self.config.fin_timeout_ms) * 1000),
            _ => self.shutdown(now),
        }
        self.receive.discard();
    }

    /// Ends the connection at once, with a reset where the peer knows of it.
    pub fn abort(&mut self, _now: Timestamp) {
        if !matches!(self.state, State::SynSent | State::TimeWait | State::Closed) {
            self.reset = Some(Reset { seq: self.send.next, is_ours: true });
        }
        self.is_orphan = true;
        self.end();
    }

    /// A router answered a segment of this connection. It ends an attempt to connect; an open connection goes on and
    /// hopes, as on Linux.
    pub fn on_unreachable(&mut self, _now: Timestamp, what: Unreachable) {
        if self.state == State::SynSent {
            self.fail(match what {
                Unreachable::Network => TcpError::NetworkUnreachable,
                Unreachable::Host | Unreachable::Prohibited => TcpError::HostUnreachable,
                Unreachable::Port => TcpError::Refused,
            });
        }
    }

    /// A router says how large a segment with its options may be. What is in flight and larger is sent again in pieces,
    /// at once and without slowing down, for no congestion has lost it (Linux's `tcp_simple_retransmit`).
    pub fn on_path_mss(&mut self, _now: Timestamp, mss: u16) {
        self.path_mss = self.path_mss.min(mss.max(PEER_MSS_MIN));
        let send_mss = self.path_mss - STAMP_BYTES;
        if send_mss >= self.send_mss {
            return;
        }
        self.send_mss = send_mss;
        if self.is_synchronised() && self.send.split_longer(usize::from(send_mss)) > 0 {
            self.recovery.tail_probe = None;
            if self.recovery.phase != Phase::Loss {
                self.recovery.end_undo();
                self.recovery.phase = Phase::Loss;
                self.recovery.high = self.send.next;
            }
        }
    }

    /// Whether a segment with this sequence number may be on its way: an error about any other is not about this
    /// connection.
    pub fn has_in_flight(&self, seq: u32) -> bool {
        if matches!(self.state, State::SynSent | State::SynReceived) {
            return seq == self.initial_seq;
        }
        !before(seq, self.send.una) && !before(self.send.next, seq)
    }

    pub(super) fn fail(&mut self, error: TcpError) {
        self.error = Some(error);
        self.end();
    }

    /// Nothing more is sent but a reset; bytes in order can still be read.
    pub(super) fn end(&mut self) {
        self.state = State::Closed;
        self.timer = None;
        self.life_ends = Timestamp::NEVER;
        self.probe = Probe::None;
        self.acks.is_due = false;
        self.acks.deadline = Timestamp::NEVER;
        self.send.clear();
        if self.is_orphan {
            self.receive.discard();
        }
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// The handshake is done and the connection is not over.
    pub fn is_established(&self) -> bool {
        self.is_synchronised()
    }

    pub(super) fn is_synchronised(&self) -> bool {
        !matches!(self.state, State::SynSent | State::SynReceived | State::Closed)
    }

    /// Bytes that are there to be read.
    pub fn unread_bytes(&self) -> usize {
        self.receive.unread_bytes() as usize
    }

    /// [`Connection::read`] would not have to wait: bytes, the end, or an error.
    pub fn is_readable(&self) -> bool {
        self.receive.unread_bytes() > 0 || self.is_read_closed()
    }

    /// No bytes are there and none will come: the peer has finished, or the connection is over.
    pub fn is_read_closed(&self) -> bool {
        self.receive.unread_bytes() == 0 && (self.receive.is_finished || self.state == State::Closed)
    }

    /// A third of the send buffer is free (Linux's rule for waking a writer) and the connection takes bytes. Never true
    /// after an error or [`Connection::shutdown`]: wake the writer for those too.
    pub fn is_writable(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
            && u64::from(self.send.held_bytes()) * 3 <= u64::from(self.config.send_buffer_bytes) * 2
    }

    /// Both have finished, we first: only strays are to be answered.
    pub fn has_reached_time_wait(&self) -> bool {
        self.state == State::TimeWait
    }

    /// Nothing is left to do; the endpoint may be dropped once its bytes were read.
    pub fn is_finished(&self) -> bool {
        self.state == State::Closed && self.reset.is_none()
    }

    /// Whether `syn` may open a new connection in place of this one, which lingers in TIME_WAIT (RFC 6191, as Linux).
    pub fn makes_way_for(&self, syn: &Segment) -> bool {
        self.state == State::TimeWait
            && syn.syn
            && syn.ack.is_none()
            && !syn.rst
            && (super::segment::before(self.receive.next, syn.seq)
                || syn
                    .timestamps
                    .is_some_and(|stamps| super::segment::before(self.peer_clock_ms, stamps.value)))
    }

    /// Why the connection ended, if not as it should.
    pub fn error(&self) -> Option<TcpError> {
        self.error
    }

    /// When [`Connection::on_timer`] must be called at the latest.
    pub fn deadline(&self) -> Option<Timestamp> {
        let timer = self.timer.map_or(Timestamp::NEVER, |timer| timer.at);
        let deadline = timer.min(self.acks.deadline).min(self.life_ends);
        (deadline != Timestamp::NEVER).then_some(deadline)
    }
}
