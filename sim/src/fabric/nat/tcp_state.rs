//! What a NAT takes a TCP connection to be: Linux's connection tracking, without its check of windows.
//!
//! It sees both directions go by and guesses. The states and the turns between them are those of
//! `nf_conntrack_proto_tcp.c`; which segments it does not believe, too.

use std::time::Duration;

use super::policy::TcpTimeouts;

/// What a NAT reads of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSignal {
    /// SYN is set.
    pub syn: bool,
    /// FIN is set.
    pub fin: bool,
    /// RST is set.
    pub rst: bool,
    /// The acknowledgement, when ACK is set.
    pub ack: Option<u32>,
    /// The sequence number after the segment.
    pub end: u32,
}

/// Who sent a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Whoever sent the first segment of the session.
    Opener,
    /// The other one.
    Answerer,
}

/// What becomes of a session after a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpTurn {
    /// It goes on for so long.
    Refresh(Duration),
    /// Nothing changes.
    Keep,
    /// It is forgotten, after the segment went through.
    Forget,
    /// The segment is not believed.
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    /// A SYN from each side.
    BothSynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    None,
}

impl TcpSignal {
    fn kind(&self) -> Kind {
        match *self {
            Self { rst: true, .. } => Kind::Rst,
            Self { syn: true, ack: Some(_), .. } => Kind::SynAck,
            Self { syn: true, .. } => Kind::Syn,
            Self { fin: true, .. } => Kind::Fin,
            Self { ack: Some(_), .. } => Kind::Ack,
            _ => Kind::None,
        }
    }

    /// Whether it opens a connection.
    pub(super) fn opens(&self) -> bool {
        self.kind() == Kind::Syn
    }

    /// Whether it can belong to a connection that was opened before.
    pub(super) fn continues(&self) -> bool {
        self.kind() == Kind::Ack
    }
}

/// One connection, as it looks from between its ends.
#[derive(Debug)]
pub(super) struct TcpTrack {
    state: State,
    /// Whether it was answered in every way that counts: it does not make way for others in a full table.
    pub(super) is_assured: bool,
    is_answered: bool,
    /// By side: the highest sequence number that was sent, and whether all up to there is acknowledged.
    sent: [Option<u32>; 2],
    is_unacknowledged: [bool; 2],
}

impl TcpTrack {
    /// A connection of which `first` is the first segment seen, which [opens](TcpSignal::opens) or
    /// [continues](TcpSignal::continues) it; and how long it lives.
    pub(super) fn new(first: &TcpSignal, timeouts: &TcpTimeouts) -> (Self, Duration) {
        let (state, life) = if first.opens() {
            (State::SynSent, timeouts.syn_sent)
        } else {
            (State::Established, timeouts.unacknowledged.min(timeouts.established))
        };
        let track = Self {
            state,
            is_assured: false,
            is_answered: false,
            sent: [Some(first.end), None],
            is_unacknowledged: [false; 2],
        };
        (track, life)
    }

    /// A further segment has come by.
    pub(super) fn update(
        &mut self,
        is_from_opener: bool,
        signal: &TcpSignal,
        timeouts: &TcpTimeouts,
    ) -> TcpTurn {
        let from = if is_from_opener { Side::Opener } else { Side::Answerer };
        let kind = signal.kind();
        let old = self.state;
        let new = match turn(from, kind, old) {
            Turn::To(new) => new,
            Turn::Ignore => {
                self.is_answered |= from == Side::Answerer;
                return TcpTurn::Keep;
            }
            Turn::Invalid => return TcpTurn::Invalid,
        };
        if new == State::SynSent && old != State::SynSent {
            // The same ends, another connection.
            let (fresh, life) = Self::new(signal, timeouts);
            *self = fresh;
            return TcpTurn::Refresh(life);
        }
        self.state = new;
        self.note_sequence(from, signal, kind);
        let was_answered = self.is_answered;
        self.is_answered |= from == Side::Answerer;
        let mut life = self.life(timeouts);
        if !was_answered {
            if kind == Kind::Rst {
                return TcpTurn::Forget;
            }
            if kind == Kind::Syn && from == Side::Opener && old == State::SynSent {
                // Or who tries again and again would keep the port for ever.
                return TcpTurn::Keep;
            }
            if new == State::Established {
                life = life.min(timeouts.unacknowledged);
            }
        } else if matches!(old, State::SynRecv | State::Established) && new == State::Established {
            self.is_assured = true;
        }
        TcpTurn::Refresh(life)
    }

    fn note_sequence(&mut self, from: Side, signal: &TcpSignal, kind: Kind) {
        let (own, other) = (from as usize, 1 - from as usize);
        let is_new = self.sent[own].is_none_or(|sent| (sent.wrapping_sub(signal.end) as i32) < 0);
        if kind != Kind::Rst && is_new {
            self.is_unacknowledged[own] = self.sent[own].is_some() && !signal.syn;
            self.sent[own] = Some(signal.end);
        }
        if signal.ack.is_some() && signal.ack == self.sent[other] {
            self.is_unacknowledged[other] = false;
        }
    }

    fn life(&self, timeouts: &TcpTimeouts) -> Duration {
        let life = match self.state {
            State::SynSent | State::BothSynSent => timeouts.syn_sent,
            State::SynRecv => timeouts.syn_recv,
            State::Established => timeouts.established,
            State::FinWait => timeouts.fin_wait,
            State::CloseWait => timeouts.close_wait,
            State::LastAck => timeouts.last_ack,
            State::TimeWait => timeouts.time_wait,
            State::Close => timeouts.close,
        };
        if self.is_unacknowledged.contains(&true) { life.min(timeouts.unacknowledged) } else { life }
    }
}

enum Turn {
    To(State),
    Ignore,
    Invalid,
}

/// The table of `nf_conntrack_proto_tcp.c`.
fn turn(from: Side, kind: Kind, state: State) -> Turn {
    use State::{BothSynSent, Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, TimeWait};
    use Turn::{Ignore, Invalid, To};
    match (from, kind, state) {
        (_, Kind::Rst, _) => To(Close),
        (_, Kind::None, _) => Invalid,

        (Side::Opener, Kind::Syn, SynSent | TimeWait | Close) => To(SynSent),
        (_, Kind::Syn, BothSynSent) => To(BothSynSent),
        (Side::Opener, Kind::Syn, _) => Ignore,
        (Side::Answerer, Kind::Syn, SynSent) => To(BothSynSent),
        (Side::Answerer, Kind::Syn, _) => Invalid,

        (_, Kind::SynAck, BothSynSent) => To(SynRecv),
        (Side::Opener, Kind::SynAck, SynRecv) => To(SynRecv),
        (Side::Opener, Kind::SynAck, _) => Invalid,
        (Side::Answerer, Kind::SynAck, SynSent) => To(SynRecv),
        (Side::Answerer, Kind::SynAck, _) => Ignore,

        (_, Kind::Fin, SynSent | BothSynSent) => Invalid,
        (_, Kind::Fin, SynRecv | Established) => To(FinWait),
        (_, Kind::Fin, FinWait | CloseWait | LastAck) => To(LastAck),
        (_, Kind::Fin, TimeWait) => To(TimeWait),
        (_, Kind::Fin, Close) => To(Close),

        (Side::Opener, Kind::Ack, SynSent | BothSynSent) => Invalid,
        (Side::Opener, Kind::Ack, SynRecv) => To(Established),
        (Side::Answerer, Kind::Ack, SynSent | BothSynSent) => Ignore,
        (Side::Answerer, Kind::Ack, SynRecv) => To(SynRecv),
        (_, Kind::Ack, Established) => To(Established),
        (_, Kind::Ack, FinWait | CloseWait) => To(CloseWait),
        (_, Kind::Ack, LastAck | TimeWait) => To(TimeWait),
        (_, Kind::Ack, Close) => To(Close),
    }
}

#[cfg(test)]
mod tests {
    use super::super::presets::Preset;
    use super::*;

    const OPENER: bool = true;
    const ANSWERER: bool = false;

    fn timeouts() -> TcpTimeouts {
        Preset::Linux.policy().timeouts.tcp
    }

    fn syn() -> TcpSignal {
        TcpSignal { syn: true, end: 1, ..TcpSignal::default() }
    }

    fn segment(ack: u32, end: u32) -> TcpSignal {
        TcpSignal { ack: Some(ack), end, ..TcpSignal::default() }
    }

    fn refresh(secs: u64) -> TcpTurn {
        TcpTurn::Refresh(Duration::from_secs(secs))
    }

    fn open() -> TcpTrack {
        let (mut track, life) = TcpTrack::new(&syn(), &timeouts());
        assert_eq!(life, Duration::from_secs(120));
        let answer = TcpSignal { syn: true, ..segment(1, 101) };
        assert_eq!(track.update(ANSWERER, &answer, &timeouts()), refresh(60));
        assert!(!track.is_assured);
        assert_eq!(track.update(OPENER, &segment(101, 1), &timeouts()), refresh(432_000));
        assert!(track.is_assured);
        track
    }

    #[test]
    fn a_connection_lives_and_ends_with_the_time_outs_of_linux() {
        let mut track = open();
        let fin = |ack, end| TcpSignal { fin: true, ..segment(ack, end) };
        assert_eq!(track.update(OPENER, &fin(101, 2), &timeouts()), refresh(120));
        assert_eq!(track.update(ANSWERER, &segment(2, 101), &timeouts()), refresh(60));
        assert_eq!(track.update(ANSWERER, &fin(2, 102), &timeouts()), refresh(30));
        assert_eq!(track.update(OPENER, &segment(102, 2), &timeouts()), refresh(120));
        assert_eq!(track.update(OPENER, &syn(), &timeouts()), refresh(120));
        assert!(!track.is_assured, "a new connection between the same ends");
    }

    #[test]
    fn data_that_nobody_acknowledges_shortens_the_time() {
        let mut track = open();
        assert_eq!(track.update(OPENER, &segment(101, 51), &timeouts()), refresh(300));
        assert_eq!(track.update(ANSWERER, &segment(20, 101), &timeouts()), refresh(300));
        assert_eq!(track.update(ANSWERER, &segment(51, 101), &timeouts()), refresh(432_000));
    }

    #[test]
    fn a_reset_leaves_ten_seconds_and_one_that_is_the_only_answer_nothing() {
        let rst = TcpSignal { rst: true, ..segment(1, 0) };
        assert_eq!(open().update(ANSWERER, &rst, &timeouts()), refresh(10));
        let (mut track, _) = TcpTrack::new(&syn(), &timeouts());
        assert_eq!(track.update(ANSWERER, &rst, &timeouts()), TcpTurn::Forget);
    }

    #[test]
    fn a_repeated_syn_does_not_prolong_anything() {
        let (mut track, _) = TcpTrack::new(&syn(), &timeouts());
        assert_eq!(track.update(OPENER, &syn(), &timeouts()), TcpTurn::Keep);
    }

    #[test]
    fn both_ends_may_open_at_once() {
        let (mut track, _) = TcpTrack::new(&syn(), &timeouts());
        assert_eq!(track.update(ANSWERER, &syn(), &timeouts()), refresh(120));
        let answer = TcpSignal { syn: true, ..segment(1, 1) };
        assert_eq!(track.update(OPENER, &answer, &timeouts()), refresh(60));
        assert_eq!(track.update(ANSWERER, &answer, &timeouts()), TcpTurn::Keep);
        assert_eq!(track.update(OPENER, &segment(1, 1), &timeouts()), refresh(432_000));
    }

    #[test]
    fn a_connection_picked_up_in_the_middle_has_little_time_until_it_is_answered() {
        let (mut track, life) = TcpTrack::new(&segment(101, 51), &timeouts());
        assert_eq!(life, Duration::from_secs(300));
        assert_eq!(track.update(OPENER, &segment(101, 51), &timeouts()), refresh(300));
        assert_eq!(track.update(ANSWERER, &segment(51, 101), &timeouts()), refresh(300));
        assert_eq!(track.update(OPENER, &segment(101, 51), &timeouts()), refresh(432_000));
        assert!(track.is_assured);
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let (mut track, _) = TcpTrack::new(&syn(), &timeouts());
        assert_eq!(track.update(OPENER, &segment(1, 1), &timeouts()), TcpTurn::Invalid);
        assert_eq!(open().update(ANSWERER, &syn(), &timeouts()), TcpTurn::Invalid);
        assert_eq!(open().update(OPENER, &TcpSignal::default(), &timeouts()), TcpTurn::Invalid);
        assert_eq!(open().update(OPENER, &syn(), &timeouts()), TcpTurn::Keep);
    }
}
