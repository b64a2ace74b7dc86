//! Measured spans of time, sorted, and what is said about them: percentiles, shares, curves.

use serde::{Serialize, Serializer};

/// Spans of time in nanoseconds, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(Vec<u64>);

/// A distribution in seven numbers. Percentiles are nearest-rank: each is a span that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// How many spans were measured, at least one.
    pub n: usize,
    /// The shortest, in nanoseconds, as the others.
    pub min: u64,
    /// Half are no longer.
    pub p50: u64,
    /// 90 % are no longer.
    pub p90: u64,
    /// 95 % are no longer.
    pub p95: u64,
    /// 99 % are no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Samples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest, in nanoseconds.
    pub fn min(&self) -> Option<u64> {
        self.0.first().copied()
    }

    /// The longest, in nanoseconds.
    pub fn max(&self) -> Option<u64> {
        self.0.last().copied()
    }

    /// The smallest sample that at least `permille` of a thousand are not above; `None` without samples.
    pub fn quantile(&self, permille: usize) -> Option<u64> {
        let rank = (self.0.len() * permille.min(1000)).div_ceil(1000).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The seven numbers; `None` without samples.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            n: self.len(),
            min: self.min()?,
            p50: self.quantile(500)?,
            p90: self.quantile(900)?,
            p95: self.quantile(950)?,
            p99: self.quantile(990)?,
            max: self.max()?,
        })
    }

    /// The cumulative distribution as a staircase from a share of 0 to 1: every sample when there are few, else every
    /// thousandth of them.
    pub fn staircase(&self) -> Vec<(u64, f64)> {
        const STEPS: usize = 1000;
        let mut points = Vec::new();
        let mut level = 0.0;
        let mut climb = |span: u64, share: f64| {
            points.push((span, level));
            points.push((span, share));
            level = share;
        };
        if self.len() <= STEPS {
            let n = self.len() as f64;
            for (index, span) in self.0.iter().enumerate() {
                climb(*span, (index + 1) as f64 / n);
            }
        } else {
            for permille in 0..=STEPS {
                climb(self.quantile(permille).unwrap_or_default(), permille as f64 / STEPS as f64);
            }
        }
        points
    }
}

impl FromIterator<u64> for Samples {
    fn from_iter<I: IntoIterator<Item = u64>>(spans: I) -> Self {
        let mut spans: Vec<u64> = spans.into_iter().collect();
        spans.sort_unstable();
        Self(spans)
    }
}

impl Serialize for Percentiles {
    /// Milliseconds, to the microsecond.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written {
            n: usize,
            min_ms: f64,
            p50_ms: f64,
            p90_ms: f64,
            p95_ms: f64,
            p99_ms: f64,
            max_ms: f64,
        }
        Written {
            n: self.n,
            min_ms: millis(self.min),
            p50_ms: millis(self.p50),
            p90_ms: millis(self.p90),
            p95_ms: millis(self.p95),
            p99_ms: millis(self.p99),
            max_ms: millis(self.max),
        }
        .serialize(serializer)
    }
}

/// Milliseconds, rounded to the microsecond.
pub(super) fn millis(nanos: u64) -> f64 {
    ((nanos + 500) / 1000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_samples_of_the_nearest_rank() {
        let samples: Samples = (1..=100).rev().collect();
        let percentiles = samples.percentiles().unwrap();
        assert_eq!(percentiles, Percentiles { n: 100, min: 1, p50: 50, p90: 90, p95: 95, p99: 99, max: 100 });
        let one: Samples = [7].into_iter().collect();
        assert_eq!(
            one.percentiles(),
            Some(Percentiles { n: 1, min: 7, p50: 7, p90: 7, p95: 7, p99: 7, max: 7 })
        );
        assert_eq!(Samples::default().percentiles(), None);
    }

    #[test]
    fn percentiles_are_written_in_milliseconds() {
        let one: Samples = [1_234_567].into_iter().collect();
        let text = serde_json::to_string(&one.percentiles()).unwrap();
        assert!(text.starts_with(r#"{"n":1,"min_ms":1.235,"p50_ms":1.235,"#), "{text}");
    }

    proptest! {
        #[test]
        fn a_staircase_climbs_from_nothing_to_all(spans in proptest::collection::vec(0u64..1_000_000, 1..3000)) {
            let samples: Samples = spans.into_iter().collect();
            let stairs = samples.staircase();
            prop_assert!(stairs.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
            prop_assert_eq!(stairs[0], (samples.min().unwrap(), 0.0));
            prop_assert_eq!(*stairs.last().unwrap(), (samples.max().unwrap(), 1.0));
        }
    }
}
