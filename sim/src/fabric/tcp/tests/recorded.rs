//! What Linux did in the same place: segments recorded between two network namespaces, beside what the machine does.
//!
//! Linux 6.18 with CUBIC and 250 Hz, knowing nothing of the destination from before. A relay between two tun devices
//! delayed by 10 ms and dropped the named segments. Of each run, the segments with SYN or data, in milliseconds after
//! the first. The kernel's timers ring late: by up to two ticks of 4 ms, and by up to 32 ms when set for more than
//! 256 ms ahead.

use super::properties::Weather;
use super::wire::{End, Wire, losing};
use crate::fabric::tcp::Segment;

use End::{Client, Server};

/// A segment: when it left Linux, which end sent it, and its payload.
type Line = (f64, End, usize);

struct Recording {
    name: &'static str,
    /// Losses, by end and number from 1.
    lost: &'static [(End, usize)],
    /// Writes of the client, in milliseconds; before the handshake was done they waited for it.
    writes: &'static [(u64, usize)],
    /// The server answers with 122 bytes once it has as many as this.
    answer_after: &'static [usize],
    lines: &'static [Line],
}

const RECORDINGS: &[Recording] = &[
    Recording {
        name: "a request lost four times",
        lost: &[(Client, 3), (Client, 4), (Client, 5), (Client, 6)],
        writes: &[(100, 150)],
        answer_after: &[150],
        lines: &[
            (0.0, Client, 0),
            (10.2, Server, 0),
            (100.2, Client, 150),
            (324.0, Client, 150),
            (548.0, Client, 150),
            (1012.0, Client, 150),
            (1908.3, Client, 150),
            (1918.6, Server, 122),
        ],
    },
    Recording {
        name: "an answer lost with the acknowledgement before it",
        lost: &[(Server, 2), (Server, 3)],
        writes: &[(100, 150)],
        answer_after: &[150],
        lines: &[
            (0.0, Client, 0),
            (10.2, Server, 0),
            (100.7, Client, 150),
            (111.0, Server, 122),
            (322.8, Client, 150),
            (334.7, Server, 122),
        ],
    },
    Recording {
        name: "a handshake's last acknowledgement lost with the request",
        lost: &[(Client, 2), (Client, 3)],
        writes: &[(20, 150)],
        answer_after: &[150],
        lines: &[
            (0.0, Client, 0),
            (10.2, Server, 0),
            (20.6, Client, 150),
            (241.9, Client, 150),
            (252.1, Server, 122),
        ],
    },
    Recording {
        name: "the last of two writes",
        lost: &[(Client, 4)],
        writes: &[(100, 100), (100, 100)],
        answer_after: &[],
        lines: &[
            (0.0, Client, 0),
            (10.2, Server, 0),
            (100.0, Client, 100),
            (100.1, Client, 100),
            (346.7, Client, 100),
        ],
    },
    Recording {
        name: "four of eight writes",
        lost: &[(Client, 4), (Client, 5), (Client, 6), (Client, 7)],
        writes: &[(100, 60), (100, 60), (100, 60), (100, 60), (100, 60), (100, 60), (100, 60), (100, 60)],
        answer_after: &[],
        lines: &[
            (0.0, Client, 0),
            (10.2, Server, 0),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.4, Client, 60),
            (100.4, Client, 60),
            (100.4, Client, 60),
            (100.4, Client, 60),
            (120.6, Client, 240),
        ],
    },
    Recording {
        name: "a repetition lost, and later data that shows it",
        lost: &[(Client, 3), (Client, 11)],
        writes: &[
            (100, 60),
            (100, 60),
            (100, 60),
            (100, 60),
            (100, 60),
            (100, 60),
            (100, 60),
            (100, 60),
            (120, 60),
        ],
        answer_after: &[],
        lines: &[
            (0.0, Client, 0),
            (10.1, Server, 0),
            (100.2, Client, 60),
            (100.2, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (100.3, Client, 60),
            (120.5, Client, 60),
            (120.6, Client, 60),
            (140.9, Client, 60),
        ],
    },
    Recording {
        // The first repetition of the second request is a time-out, not a probe: the probe of the first is still open.
        name: "two requests, the first lost once and the second twice",
        lost: &[(Client, 3), (Client, 6), (Client, 7)],
        writes: &[(100, 150), (700, 150)],
        answer_after: &[150, 300],
        lines: &[
            (0.0, Client, 0),
            (10.2, Server, 0),
            (100.6, Client, 150),
            (323.0, Client, 150),
            (333.1, Server, 122),
            (700.2, Client, 150),
            (935.0, Client, 150),
            (1403.0, Client, 150),
            (1413.2, Server, 122),
        ],
    },
    Recording {
        name: "a SYN and the request after it",
        lost: &[(Client, 1), (Client, 4)],
        writes: &[(0, 150)],
        answer_after: &[150],
        lines: &[
            (0.0, Client, 0),
            (1009.0, Client, 0),
            (1019.2, Server, 0),
            (1029.4, Client, 150),
            (1253.0, Client, 150),
            (1263.4, Server, 122),
        ],
    },
];

#[test]
fn the_machine_sends_what_linux_sent_and_when() {
    for recording in RECORDINGS {
        let mut wire = Wire::new(losing(10_000, |from, nth| recording.lost.contains(&(from, nth))));
        let mut writes = recording.writes.iter().peekable();
        let mut answers = recording.answer_after.iter().peekable();
        let end_ms = recording.lines.last().expect("a recording has lines").0 as u64 + 5;
        for now_ms in 0..end_ms {
            wire.run_to(now_ms * 1000);
            if wire.client.is_established() {
                while let Some((_, length)) = writes.next_if(|&&(at_ms, _)| at_ms <= now_ms) {
                    wire.write(Client, &vec![1; *length]);
                }
            }
            while answers.next_if(|&&count| wire.received[1].len() >= count).is_some() {
                wire.write(Server, &[2; 122]);
            }
        }
        let sent: Vec<Line> = wire
            .log
            .iter()
            .filter(|logged| logged.segment.syn || !logged.segment.payload.is_empty())
            .map(|logged| (logged.at.as_secs_f64() * 1000.0, logged.from, logged.segment.payload.len()))
            .collect();
        let shape = |lines: &[Line]| lines.iter().map(|&(_, end, length)| (end, length)).collect::<Vec<_>>();
        assert_eq!(shape(&sent), shape(recording.lines), "{}: {sent:?}", recording.name);
        for (ours, linux) in sent.iter().zip(recording.lines) {
            let is_close = linux.0 >= ours.0 - 1.0 && linux.0 <= ours.0 * 1.04 + 12.0;
            assert!(is_close, "{}: {} ms here, {} ms on Linux", recording.name, ours.0, linux.0);
        }
    }
}

/// 8,000 sessions between two network namespaces where every host lost 30 % of what came in: connect, 150 bytes, and 122
/// back. The share of sessions that took longer than so many milliseconds.
const LONGER_AT_30_PERCENT: &[(u64, f64)] = &[
    (150, 0.7610),
    (300, 0.6201),
    (500, 0.5636),
    (700, 0.5553),
    (900, 0.5330),
    (1150, 0.3730),
    (1300, 0.3048),
    (1700, 0.2701),
    (2500, 0.1694),
    (5000, 0.0555),
    (7000, 0.0312),
    (10_000, 0.0186),
    (15_000, 0.0083),
    (40_000, 0.0014),
];

#[test]
fn sessions_under_loss_take_as_long_as_on_linux() {
    let times_us: Vec<u64> = (0..8000).map(session_us).collect();
    for &(limit_ms, linux) in LONGER_AT_30_PERCENT {
        let longer = times_us.iter().filter(|&&time_us| time_us > limit_ms * 1000).count();
        let ours = longer as f64 / times_us.len() as f64;
        // Three standard deviations of the difference of two such samples.
        let tolerance = 3.0 * (2.0 * linux * (1.0 - linux) / times_us.len() as f64).sqrt();
        assert!((ours - linux).abs() <= tolerance, "over {limit_ms} ms: {ours} here, {linux} on Linux");
    }
}

/// How long one session takes; for ever when it fails.
fn session_us(seed: u64) -> u64 {
    let weather = Weather { seed, loss_percent: 30, double_percent: 0, delay_us: 50, jitter_us: 0 };
    let mut wire = Wire::new(weather.rule());
    if wire.connect().1.is_some() {
        return u64::MAX;
    }
    wire.write(Client, &[1; 150]);
    let mut is_answered = false;
    let time_us = wire.run_until(|wire| {
        if !is_answered && wire.received[1].len() >= 150 {
            is_answered = true;
            wire.write(Server, &[2; 122]);
        }
        wire.received[0].len() >= 122 || wire.client.error().is_some()
    });
    if wire.client.error().is_some() { u64::MAX } else { time_us }
}

/// 500 transfers of 64 KiB between two network namespaces where each host sent 100 Mbit/s and lost 10 % of what came in:
/// the segments that the sender repeated, with its probes and without its SYNs (`TcpRetransSegs` less `TCPSynRetrans`).
const REPEATED_IN_500_TRANSFERS: f64 = 2678.0;

#[test]
fn transfers_under_loss_repeat_as_many_segments_as_on_linux() {
    let repeated: usize = (0..500).map(repeated_in_transfer).sum();
    // Three standard deviations of the difference of two such counts.
    let tolerance = 3.0 * (2.0 * REPEATED_IN_500_TRANSFERS).sqrt();
    let excess = repeated as f64 - REPEATED_IN_500_TRANSFERS;
    assert!(excess.abs() <= tolerance, "{repeated} here, {REPEATED_IN_500_TRANSFERS} on Linux");
}

/// How many segments with data a sender repeats.
fn repeated_in_transfer(seed: u64) -> usize {
    const LENGTH: usize = 64 << 10;
    let weather = Weather { seed, loss_percent: 10, double_percent: 0, delay_us: 50, jitter_us: 0 };
    let mut wire = Wire::new(weather.rule());
    wire.connect();
    wire.write(Client, &vec![1; LENGTH]);
    wire.run_until(|wire| wire.received[1].len() >= LENGTH);
    let is_repeated = |segment: &Segment| segment.is_retransmission && !segment.payload.is_empty();
    wire.log.iter().filter(|logged| logged.from == Client && is_repeated(&logged.segment)).count()
}
