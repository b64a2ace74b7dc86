//! One direction of a link: what becomes of each packet, and when it comes out at the other end.
//!
//! A packet first waits for its turn where the bandwidth is limited (`line`), may then be lost or damaged on the way,
//! more often in bad times than in good ones (`bursts`), and takes its time (`delay`). A fragmented datagram goes through
//! all but the last of this piece by piece. Everything is drawn from streams of the pipe's own. Who gets a packet is not
//! decided here.

use std::collections::VecDeque;
use std::sync::Arc;

use hailer::Timestamp;

use super::packet::Pieces;
use super::random::Stream;
use crate::scenario::Direction;
use crate::trace::Drop;
use bursts::Bursts;
use delay::Plans;
pub(crate) use delay::draw;
use line::Line;

mod bursts;
mod delay;
mod line;

/// One direction of a link at work.
#[derive(Debug)]
pub struct Pipe {
    /// The make of the cable, which whole segments have in common: one that is used by all is always in a cache.
    direction: Arc<Direction>,
    stream: Stream,
    line: Option<Line>,
    bursts: Option<Box<Bursts>>,
    plans: Option<Box<Plans>>,
    /// When the last packet that was not held back comes out: the next one can't be earlier.
    last_out: Timestamp,
}

/// The makes of cable that were used of late.
#[derive(Debug, Default)]
pub struct Makes(VecDeque<Arc<Direction>>);

impl Makes {
    /// More than a network has, unless every cable differs; then there is nothing to share.
    const MAX: usize = 16;

    /// One direction of a cable of this make.
    pub fn of(&mut self, direction: &Direction) -> Arc<Direction> {
        if let Some(known) = self.0.iter().find(|known| ***known == *direction) {
            return known.clone();
        }
        if self.0.len() == Self::MAX {
            self.0.pop_back();
        }
        let make = Arc::new(direction.clone());
        self.0.push_front(make.clone());
        make
    }
}

/// When the copies of a packet come out, the second of which is seldom there; or why none does.
pub type Arrivals = Result<(Timestamp, Option<Timestamp>), Drop>;

impl Pipe {
    /// A pipe with the random streams of this name. Bad times and plans have streams of their own, so that they come and
    /// go alike whatever is sent.
    pub fn new(direction: Arc<Direction>, seed: u64, name: &str) -> Self {
        let stream = |part| Stream::new(seed, &format!("{name}/{part}"));
        Self {
            stream: Stream::new(seed, name),
            line: direction.bandwidth.map(|bandwidth| Line::new(bandwidth, direction.queue_bytes())),
            bursts: direction.burst.map(|burst| Box::new(Bursts::new(burst, stream("bursts")))),
            plans: direction.replan.map(|replan| Box::new(Plans::new(replan, stream("plans")))),
            last_out: Timestamp::ZERO,
            direction,
        }
    }

    /// Sends a packet in at `now`, which is never earlier than in the call before.
    ///
    /// # Errors
    /// Why the packet does not come out.
    pub fn send(&mut self, now: Timestamp, pieces: Pieces) -> Arrivals {
        let mut carried = Ok(now);
        for _ in 1..pieces.count {
            let piece = self.carry(now, pieces.each);
            carried = carried.and(piece);
        }
        // One missing piece leaves the others in vain, but they travel nevertheless.
        let last = self.carry(now, pieces.last);
        let left = carried.and(last)?;
        let first = self.arrival(left);
        let second = self.stream.happens(self.direction.duplicate).then(|| self.arrival(left));
        Ok((first, second))
    }

    /// When a piece of `len` bytes has left, if it does not get lost.
    fn carry(&mut self, now: Timestamp, len: u32) -> Result<Timestamp, Drop> {
        let left = match &mut self.line {
            None => now,
            Some(line) => line.send(now, len)?,
        };
        let bad = self.bursts.as_mut().and_then(|bursts| bursts.loss_at(left));
        if self.stream.happens(bad.unwrap_or(self.direction.loss)) {
            return Err(Drop::Loss);
        }
        if self.stream.happens(self.direction.corruption) {
            return Err(Drop::Corrupt);
        }
        Ok(left)
    }

    fn arrival(&mut self, left: Timestamp) -> Timestamp {
        let mut delay = draw(&self.direction.delay, &mut self.stream);
        if let Some(plans) = &mut self.plans {
            delay = plans.planned(left, delay);
        }
        let out = left.after(delay);
        if self.stream.happens(self.direction.reorder) {
            return out.after(self.direction.reorder_by);
        }
        self.last_out = self.last_out.max(out);
        self.last_out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::{Burst, Chance, Delay};

    const MS: Duration = Duration::from_millis(1);
    const SMALL: Pieces = Pieces::whole(100);

    fn pipe(direction: Direction) -> Pipe {
        Pipe::new(direction.into(), 1, "test")
    }

    #[test]
    fn a_fixed_delay_is_exact() {
        let mut pipe = pipe(Direction { delay: Delay::Fixed(MS * 5), ..Direction::default() });
        assert_eq!(pipe.send(Timestamp::from_millis(1), SMALL), Ok((Timestamp::from_millis(6), None)));
    }

    #[test]
    fn packets_do_not_overtake_each_other_unless_reordering_says_so() {
        let delay = Delay::Uniform(MS, MS * 50);
        let outs = |direction| {
            let mut pipe = pipe(direction);
            let send = |i| pipe.send(Timestamp::from_millis(i), SMALL).unwrap().0;
            (0..200).map(send).collect::<Vec<_>>()
        };
        assert!(outs(Direction { delay: delay.clone(), ..Direction::default() }).is_sorted());
        let reorder = Chance { ppm: 100_000 };
        assert!(!outs(Direction { delay, reorder, reorder_by: MS * 20, ..Direction::default() }).is_sorted());
    }

    #[test]
    fn loss_damage_and_duplication_are_as_frequent_as_configured() {
        let (loss, duplicate) = (Chance { ppm: 100_000 }, Chance { ppm: 200_000 });
        let corruption = Chance { ppm: 50_000 };
        let mut pipe = pipe(Direction { loss, corruption, duplicate, ..Direction::default() });
        let sent: Vec<Arrivals> = (0..20_000).map(|i| pipe.send(Timestamp::from_millis(i), SMALL)).collect();
        let count = |is: fn(&Arrivals) -> bool| sent.iter().filter(|arrivals| is(arrivals)).count();
        let lost = count(|arrivals| *arrivals == Err(Drop::Loss));
        let damaged = count(|arrivals| *arrivals == Err(Drop::Corrupt));
        let doubled = count(|arrivals| matches!(arrivals, Ok((_, Some(_)))));
        assert!((1_800..2_200).contains(&lost), "{lost} of 20000 at 10 %");
        assert!((780..1_020).contains(&damaged), "{damaged} of about 18000 at 5 %");
        assert!((3_200..3_650).contains(&doubled), "{doubled} of about 17100 at 20 %");
    }

    #[test]
    fn a_datagram_in_pieces_is_lost_with_any_of_them() {
        let mut pipe = pipe(Direction { loss: Chance { ppm: 100_000 }, ..Direction::default() });
        let pieces = Pieces { count: 4, each: 1396, last: 60 };
        let sent = (0..20_000).map(|i| pipe.send(Timestamp::from_millis(i), pieces));
        let lost = sent.filter(Result::is_err).count();
        // 1 - 0.9^4 is 34.4 %.
        assert!((6_650..7_110).contains(&lost), "{lost} of 20000 at 10 % for each of four pieces");
    }

    #[test]
    fn every_piece_of_a_datagram_pays_for_the_line() {
        let mut pipe = pipe(Direction { bandwidth: Some(1_000_000), ..Direction::default() });
        let pieces = Pieces { count: 3, each: 1000, last: 500 };
        // 2500 bytes at 1 Mbit/s.
        assert_eq!(pipe.send(Timestamp::ZERO, pieces), Ok((Timestamp::from_millis(20), None)));
    }

    #[test]
    fn a_lost_packet_has_used_the_line_and_one_that_found_no_room_has_not() {
        let direction = Direction { bandwidth: Some(1_000_000), queue: Some(1500), ..Direction::default() };
        let mut lossy = pipe(Direction { loss: Chance { ppm: 1_000_000 }, ..direction.clone() });
        let (packet, now) = (Pieces::whole(1250), Timestamp::ZERO);
        assert_eq!(lossy.send(now, packet), Err(Drop::Loss));
        assert_eq!(lossy.send(now, packet), Err(Drop::LinkQueueFull));
        let mut good = pipe(direction);
        assert_eq!(good.send(now, packet), Ok((Timestamp::from_millis(10), None)));
        assert_eq!(good.send(now, packet), Err(Drop::LinkQueueFull));
        assert_eq!(good.send(now, Pieces::whole(250)), Ok((Timestamp::from_millis(12), None)));
    }

    #[test]
    fn between_bad_times_a_link_loses_what_it_always_loses() {
        let burst = Burst { loss: Chance { ppm: 500_000 }, good: MS * 900, bad: MS * 100 };
        let loss = Chance { ppm: 50_000 };
        let mut pipe = pipe(Direction { burst: Some(burst), loss, ..Direction::default() });
        let lost = (0..400_000).filter(|i| pipe.send(Timestamp::from_millis(i * 5), SMALL).is_err()).count();
        // A tenth of the time at 50 %, and nine tenths at 5 %: 9.5 %.
        assert!((37_000..39_000).contains(&lost), "{lost} of 400000 at 9.5 %");
    }
}
