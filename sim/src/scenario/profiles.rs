//! Links that have a name: one table of what is typical of each kind of access.
//!
//! The figures are one way, and those of round numbers in the common emulation presets and field measurements; they make
//! a scenario plausible, not a study of a network. `scenarios/README.md` shows the same table, and a test compares them.
//!
//! Bursts. Models of bursts are written in packets: in a good state every next packet is lost with chance p, and once one
//! is lost the loss goes on until a chance r ends it, L = 1/r packets later; the share of all packets is p / (p + r). How
//! long that is in time depends on how dense the packets were, so those figures are taken as what a steady stream of 50
//! packets a second sees (one each 20 ms, a voice call, on which such figures are measured). For this stream to meet
//! exactly p and r, the mean times are bad = 20 ms / (s · (1 - share)) and good = 20 ms / (s · share), where
//! s = -ln(1 - p - r). All packets of a bad time are lost.

use std::time::Duration;

use super::{Burst, Chance, Delay, Direction, Link, MTU_DEFAULT, Replan};

/// A named link.
#[derive(Debug)]
pub struct Profile {
    /// What files call it.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// The mean delay of packets to the node and from the node, in microseconds.
    delay_us: Ways,
    /// The standard deviation of both delays.
    deviation_us: u64,
    /// In thousands of bits a second; zero for no limit.
    bandwidth_kbit: Ways,
    /// Loss without bursts.
    loss: Chance,
    /// Mean lengths of good and bad times in milliseconds, when loss comes in bursts.
    burst_ms: Option<(u64, u64)>,
    replan: Option<Replan>,
}

/// A figure for each direction.
#[derive(Debug)]
struct Ways {
    down: u64,
    up: u64,
}

const fn both(value: u64) -> Ways {
    Ways { down: value, up: value }
}

const fn ways(down: u64, up: u64) -> Ways {
    Ways { down, up }
}

/// What most profiles have: no variation, no limit, no loss.
const PLAIN: Profile = Profile {
    name: "",
    about: "",
    delay_us: both(0),
    deviation_us: 0,
    bandwidth_kbit: both(0),
    loss: Chance { ppm: 0 },
    burst_ms: None,
    replan: None,
};

/// Every profile, in the order of the documentation.
pub static PROFILES: [Profile; 14] = [
    Profile {
        name: "lan",
        about: "a cable to a switch",
        delay_us: both(200),
        bandwidth_kbit: both(1_000_000),
        ..PLAIN
    },
    Profile {
        name: "wifi-good",
        about: "Wi-Fi near its access point",
        delay_us: both(5_000),
        deviation_us: 2_000,
        burst_ms: Some((28_971, 29)),
        ..PLAIN
    },
    Profile {
        name: "wifi-congested",
        about: "Wi-Fi in a crowd",
        delay_us: both(40_000),
        deviation_us: 15_000,
        bandwidth_kbit: both(20_000),
        burst_ms: Some((4_361, 89)),
        ..PLAIN
    },
    Profile {
        name: "lte",
        about: "4G",
        delay_us: both(25_000),
        deviation_us: 8_000,
        bandwidth_kbit: ways(50_000, 20_000),
        burst_ms: Some((9_751, 49)),
        ..PLAIN
    },
    Profile {
        name: "hspa",
        about: "3G",
        delay_us: both(100_000),
        deviation_us: 30_000,
        bandwidth_kbit: both(2_000),
        burst_ms: Some((4_361, 89)),
        ..PLAIN
    },
    Profile {
        name: "edge",
        about: "2G",
        delay_us: ways(400_000, 440_000),
        bandwidth_kbit: ways(240, 200),
        loss: Chance { ppm: 10_000 },
        ..PLAIN
    },
    Profile {
        name: "dsl",
        about: "a telephone line",
        delay_us: both(25_000),
        bandwidth_kbit: ways(1_500, 384),
        ..PLAIN
    },
    Profile {
        name: "cable",
        about: "a television cable",
        delay_us: both(14_000),
        bandwidth_kbit: ways(5_000, 1_000),
        ..PLAIN
    },
    Profile {
        name: "fibre",
        about: "glass to the home",
        delay_us: both(2_000),
        bandwidth_kbit: ways(20_000, 5_000),
        ..PLAIN
    },
    Profile { name: "wan-us-eu", about: "across the Atlantic", delay_us: both(40_000), ..PLAIN },
    Profile { name: "wan-us-asia", about: "across the Pacific", delay_us: both(95_000), ..PLAIN },
    Profile { name: "wan-eu-asia", about: "from Europe to Asia", delay_us: both(120_000), ..PLAIN },
    // The deviation of 6 ms is shared out: 3 ms from packet to packet, and 9 ms / √3 from plan to plan.
    Profile {
        name: "leo",
        about: "satellites in low orbit",
        delay_us: both(25_000),
        deviation_us: 3_000,
        burst_ms: Some((14_850, 150)),
        replan: Some(Replan { every: Duration::from_secs(15), spread: Duration::from_millis(9) }),
        ..PLAIN
    },
    Profile {
        name: "geo",
        about: "a satellite that stands still",
        delay_us: both(300_000),
        deviation_us: 20_000,
        bandwidth_kbit: ways(25_000, 3_000),
        loss: Chance { ppm: 5_000 },
        ..PLAIN
    },
];

impl Profile {
    /// The link of this profile.
    pub fn link(&self) -> Link {
        let direction = |delay_us: u64, kbit: u64| {
            let mean = Duration::from_micros(delay_us);
            let deviation = Duration::from_micros(self.deviation_us);
            let delay =
                if deviation.is_zero() { Delay::Fixed(mean) } else { Delay::Normal { mean, deviation } };
            Direction {
                delay,
                loss: self.loss,
                burst: self.burst_ms.map(|(good, bad)| Burst {
                    loss: Chance { ppm: 1_000_000 },
                    good: Duration::from_millis(good),
                    bad: Duration::from_millis(bad),
                }),
                replan: self.replan,
                bandwidth: (kbit > 0).then_some(kbit * 1_000),
                ..Direction::default()
            }
        };
        Link {
            down: direction(self.delay_us.down, self.bandwidth_kbit.down),
            up: direction(self.delay_us.up, self.bandwidth_kbit.up),
            mtu: MTU_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss, and mean burst in packets, as the sources give them.
    const PACKET_MODELS: [(&str, f64, f64); 5] = [
        ("wifi-good", 0.001, 2.0),
        ("wifi-congested", 0.02, 5.0),
        ("lte", 0.005, 3.0),
        ("hspa", 0.02, 5.0),
        ("leo", 0.01, 8.0),
    ];

    #[test]
    fn bursts_in_time_are_those_of_the_packet_models() {
        for profile in &PROFILES {
            let model = PACKET_MODELS.iter().find(|(name, ..)| *name == profile.name);
            let (Some((good, bad)), Some((_, share, length))) = (profile.burst_ms, model) else {
                assert!(profile.burst_ms.is_none() && model.is_none(), "{}", profile.name);
                continue;
            };
            let (good, bad) = (good as f64, bad as f64);
            assert!((bad / (good + bad) / share - 1.0).abs() < 0.001, "{} has another share", profile.name);
            let r = 1.0 / length;
            let p = share * r / (1.0 - share);
            let exact = 20.0 / (-(1.0 - p - r).ln() * (1.0 - share));
            assert!((bad / exact - 1.0).abs() < 0.01, "{}: {bad} ms, and not {exact}", profile.name);
        }
    }

    fn in_units(amount: u64, units: &[(u64, &str)]) -> String {
        let fits = |(unit, _): &&(u64, &str)| amount >= *unit;
        let (unit, name) = units.iter().find(fits).unwrap_or(&(1, ""));
        format!("{} {name}", amount as f64 / *unit as f64)
    }

    /// The row of a profile in `scenarios/README.md`.
    fn row(profile: &Profile) -> String {
        let span = |us| in_units(us, &[(1_000, "ms"), (1, "us")]);
        let rate = |kbit| in_units(kbit, &[(1_000_000, "Gbit/s"), (1_000, "Mbit/s"), (1, "kbit/s")]);
        let pair = |ways: &Ways, text: &dyn Fn(u64) -> String| match (ways.down, ways.up) {
            (0, _) => String::new(),
            (down, up) if down == up => text(down),
            (down, up) => format!("{} / {}", text(down), text(up)),
        };
        let mut delay = pair(&profile.delay_us, &span);
        if profile.deviation_us > 0 {
            delay += &format!(" ± {}", span(profile.deviation_us));
        }
        if let Some(replan) = profile.replan {
            let (spread, every) = (span(replan.spread.as_micros() as u64), replan.every.as_secs());
            delay += &format!(", and up to {spread} more or less, drawn every {every} s");
        }
        let percent = |ppm: f64| format!("{} %", ppm / 1e4);
        let loss = match profile.burst_ms {
            Some((good, bad)) => {
                let share = percent((bad as f64 / (good + bad) as f64 * 1e6 / 100.0).round() * 100.0);
                format!("{share}: all in bad times of {bad} ms, after good ones of {} s", good as f64 / 1e3)
            }
            None if profile.loss.ppm == 0 => String::new(),
            None => percent(f64::from(profile.loss.ppm)),
        };
        let rate = pair(&profile.bandwidth_kbit, &rate);
        let cells = [format!("`{}`", profile.name), profile.about.to_owned(), delay, rate, loss];
        let cells = cells.map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") });
        format!("|{}|", cells.join("|"))
    }

    #[test]
    fn the_documentation_has_every_profile_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/README.md");
        let document = std::fs::read_to_string(path).unwrap();
        let rows: Vec<String> = PROFILES.iter().map(row).collect();
        let table = rows.join("\n");
        assert!(document.contains(&table), "scenarios/README.md must have this table:\n{table}");
    }
}
