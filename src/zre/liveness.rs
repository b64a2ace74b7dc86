//! How long a peer has been quiet, and what is to be done about it.
//!
//! Beacons and messages are signs of life alike (in zyre only messages are, so that idle zyre nodes ping for ever). But a
//! beacon proves nothing about the connections, so a link that was silent for long is checked by itself.
//!
//! Times only; who is told what is the machine's.

use std::time::Duration;

use super::Config;
use crate::Timestamp;

/// How long an asked peer has to answer before it is asked again.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(1);

/// How long a probe of the link waits for its answer. Taking a live link for a dead one costs an EXIT on the other side, so
/// it outlasts many lost packets in a row: Linux resends after 0.2, 0.6, 1.4, 3, 6.2, 12.6, 25 and 51 s on a local network.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(60);

/// A link over which nothing came for this many expired times, while beacons do come, is probed. A link that broke makes
/// itself known by its own; this is for one whose other end vanished without a word.
const PROBE_AFTER_EXPIRED: u32 = 4;

/// When a quiet peer is asked, suspected, given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) evasive: Duration,
    pub(super) silent: Duration,
    pub(super) expired: Duration,
}

impl Patience {
    /// How long a peer that has not introduced itself stays. Making it anew says HELLO again, which costs an EXIT on the
    /// other side if that knew us and was only slow to connect, so this outlasts even bad luck.
    pub(super) fn not_ready(&self) -> Duration {
        self.expired * 2
    }
}

impl From<&Config> for Patience {
    fn from(config: &Config) -> Self {
        Self { evasive: config.evasive, silent: config.silent, expired: config.expired }
    }
}

/// What silence calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Ask it.
    Ping,
    /// It was asked and did not answer: say so, once in this quiet spell.
    Evasive,
    /// It has been quiet for long: say so, once in this quiet spell.
    Silent,
    /// It is gone.
    Expired,
    /// Beacons come but nothing came over the link for long: ask over the link.
    Probe,
    /// The probe was not answered: the link is dead.
    LinkDead,
}

/// The quiet of one ready peer.
#[derive(Debug)]
// In this order in memory: what each beacon looks at comes first, in as few cache lines as it needs.
#[repr(C)]
pub(super) struct Liveness {
    heard: Timestamp,
    /// Set while it is being asked: the first time, and the next.
    asked: Option<(Timestamp, Timestamp)>,
    is_evasive: bool,
    is_silent: bool,
    link_heard: Timestamp,
    probe_until: Option<Timestamp>,
}

impl Liveness {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            heard: now,
            link_heard: now,
            asked: None,
            is_evasive: false,
            is_silent: false,
            probe_until: None,
        }
    }

    /// A sign of life by any way.
    pub(super) fn hear(&mut self, now: Timestamp) {
        self.heard = now;
        self.asked = None;
        self.is_evasive = false;
        self.is_silent = false;
    }

    /// Whether it was asked and has not answered.
    pub(super) const fn is_evasive(&self) -> bool {
        self.is_evasive
    }

    /// A sign of life over the link.
    pub(super) fn hear_link(&mut self, now: Timestamp) {
        self.link_heard = now;
        self.hear(now);
    }

    /// Starts a probe, unless one runs: PING is to be sent, and without PING-OK in `wait` the link is dead.
    pub(super) fn probe(&mut self, now: Timestamp, wait: Duration) -> bool {
        let is_new = self.probe_until.is_none();
        self.probe_until.get_or_insert(now.after(wait));
        is_new
    }

    /// PING-OK came, or there is a new link: nothing to wait for.
    pub(super) fn end_probe(&mut self, now: Timestamp) {
        self.probe_until = None;
        self.link_heard = now;
    }

    /// Time that passed without us is not the peer's silence.
    pub(super) fn forgive(&mut self, span: Duration) {
        for time in [&mut self.heard, &mut self.link_heard].into_iter().chain(&mut self.probe_until) {
            *time = time.after(span);
        }
        if let Some((first, next)) = &mut self.asked {
            (*first, *next) = (first.after(span), next.after(span));
        }
    }

    /// When [`Liveness::check`] has something to say, if nothing is heard before.
    pub(super) fn due(&self, patience: &Patience) -> Timestamp {
        let quiet = match self.asked {
            None => self.heard.after(patience.evasive),
            Some((_, next)) => {
                let silent =
                    if self.is_silent { Timestamp::NEVER } else { self.heard.after(patience.silent) };
                next.min(silent)
            }
        };
        let link =
            self.probe_until.unwrap_or_else(|| self.link_heard.after(patience.expired * PROBE_AFTER_EXPIRED));
        quiet.min(link).min(self.heard.after(patience.expired))
    }

    /// The next thing that silence calls for at this time; to be asked until it is `None`. After `Expired` and
    /// `LinkDead` the machine makes the peer or its link anew.
    pub(super) fn check(&mut self, now: Timestamp, patience: &Patience) -> Option<Sign> {
        if self.heard.after(patience.expired) <= now {
            return Some(Sign::Expired);
        }
        if self.heard.after(patience.evasive) <= now {
            if let Some((first, _)) = self.asked
                && !self.is_evasive
                && first.after(ANSWER_TIME) <= now
            {
                self.is_evasive = true;
                return Some(Sign::Evasive);
            }
            if !self.is_silent && self.asked.is_some() && self.heard.after(patience.silent) <= now {
                self.is_silent = true;
                return Some(Sign::Silent);
            }
            if self.asked.is_none_or(|(_, next)| next <= now) {
                let first = self.asked.map_or(now, |(first, _)| first);
                self.asked = Some((first, now.after(ANSWER_TIME)));
                return Some(Sign::Ping);
            }
        }
        match self.probe_until {
            Some(until) if until <= now => Some(Sign::LinkDead),
            None if self.link_heard.after(patience.expired * PROBE_AFTER_EXPIRED) <= now => {
                self.probe(now, PROBE_TIME);
                Some(Sign::Probe)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        evasive: Duration::from_secs(5),
        silent: Duration::from_secs(10),
        expired: Duration::from_secs(30),
    };

    /// Runs the clock from one due time to the next until `end`, and returns (milliseconds, sign).
    fn run(liveness: &mut Liveness, end_ms: u64) -> Vec<(u64, Sign)> {
        let mut signs = Vec::new();
        loop {
            let now = liveness.due(&PATIENCE);
            if now.as_millis() > end_ms {
                return signs;
            }
            let before = signs.len();
            while let Some(sign) = liveness.check(now, &PATIENCE) {
                signs.push((now.as_millis(), sign));
                if matches!(sign, Sign::Expired | Sign::LinkDead) {
                    return signs;
                }
            }
            assert!(signs.len() > before, "due and nothing to do at {now}");
        }
    }

    #[test]
    fn a_quiet_peer_is_asked_each_second_suspected_once_and_given_up() {
        let signs = run(&mut Liveness::new(Timestamp::ZERO), 60_000);
        let times = |sign| signs.iter().filter(|(_, s)| *s == sign).map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(times(Sign::Ping), (5..30).map(|second| second * 1000).collect::<Vec<_>>());
        assert_eq!(times(Sign::Evasive), [6000]);
        assert_eq!(times(Sign::Silent), [10_000]);
        assert_eq!(times(Sign::Expired), [30_000]);
    }

    #[test]
    fn an_answer_in_time_is_no_event() {
        let mut liveness = Liveness::new(Timestamp::ZERO);
        assert_eq!(run(&mut liveness, 5999), [(5000, Sign::Ping)]);
        liveness.hear_link(Timestamp::from_millis(5999));
        assert_eq!(run(&mut liveness, 11_000), [(10_999, Sign::Ping)]);
    }

    #[test]
    fn a_new_quiet_spell_is_suspected_anew() {
        let mut liveness = Liveness::new(Timestamp::ZERO);
        run(&mut liveness, 12_000);
        liveness.hear(Timestamp::from_millis(12_000));
        let signs = run(&mut liveness, 18_000);
        assert_eq!(signs[..2], [(17_000, Sign::Ping), (18_000, Sign::Evasive)]);
    }

    #[test]
    fn beacons_keep_a_peer_alive_but_its_silent_link_is_probed() {
        let mut liveness = Liveness::new(Timestamp::ZERO);
        let mut signs = Vec::new();
        for second in 1..=200 {
            liveness.hear(Timestamp::from_millis(second * 1000));
            signs.extend(run(&mut liveness, second * 1000 + 999));
            if signs.len() == 2 {
                break;
            }
        }
        assert_eq!(signs, [(120_000, Sign::Probe), (180_000, Sign::LinkDead)]);
    }

    #[test]
    fn an_answered_probe_is_over() {
        let mut liveness = Liveness::new(Timestamp::ZERO);
        assert!(
            liveness.probe(Timestamp::from_millis(100), PROBE_TIME)
                && !liveness.probe(Timestamp::from_millis(150), PROBE_TIME)
        );
        liveness.end_probe(Timestamp::from_millis(200));
        assert_eq!(run(&mut liveness, 4999), []);
    }

    #[test]
    fn time_that_passed_without_us_is_forgiven() {
        let mut liveness = Liveness::new(Timestamp::ZERO);
        liveness.forgive(Duration::from_secs(100));
        assert_eq!(run(&mut liveness, 105_000), [(105_000, Sign::Ping)]);
    }
}
