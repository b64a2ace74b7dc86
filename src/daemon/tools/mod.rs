//! The small programs: each is a node with one purpose.
//!
//! `cat`, `time` and `worker` do what zrecat, zretime and zreworker of the Haskell tools do; `ping` and `bench` measure. Each
//! has a node that is started and will be stopped by the command line, and ends when it is done or asked to stop.

use std::time::Duration;

use crate::net::{Alarm, Net};

pub(super) mod bench;
pub(super) mod cat;
pub(super) mod ping;
pub(super) mod time;
pub(super) mod worker;

/// Rings at once and then after each `interval`.
struct Ticks<N: Net> {
    net: N,
    alarm: N::Alarm,
    interval: Duration,
}

impl<N: Net> Ticks<N> {
    fn new(net: &N, interval: Duration) -> Self {
        let mut alarm = net.alarm();
        alarm.set(Some(net.now()));
        Self { net: net.clone(), alarm, interval }
    }

    async fn next(&mut self) {
        self.alarm.ring().await;
        self.alarm.set(Some(self.net.now().after(self.interval)));
    }
}

/// Milliseconds with three digits after the point.
fn in_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Of values that are sorted, the one that a fraction of them does not exceed.
fn quantile(sorted: &[Duration], fraction: f64) -> Duration {
    let place = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|q| quantile(&sorted, q).as_millis()), [50, 99, 100]);
        assert_eq!(quantile(&sorted[..1], 0.5).as_millis(), 1);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
        assert_eq!(in_ms(Duration::from_nanos(1_234_567)), 1.235);
    }
}
