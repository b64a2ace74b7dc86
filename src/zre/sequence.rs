//! The number each message carries, one count per peer and direction; it is how lost messages are noticed.
//!
//! HELLO is 1 and each message counts one up. zyre wraps 65535 to 0; pyre counts modulo 65535 and so wraps 65534 to 0,
//! which nothing on the wire tells before it happens.

/// One direction's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    last: u16,
    wraps_early: bool,
}

impl Sequence {
    /// The count of a new link whose first message will be HELLO; `wraps_early` for a peer that counts as pyre does.
    pub(super) const fn new(wraps_early: bool) -> Self {
        Self { last: 0, wraps_early }
    }

    /// Whether 0 follows 65534, as pyre counts.
    pub(super) const fn wraps_early(self) -> bool {
        self.wraps_early
    }

    /// Makes 0 follow 65534.
    pub(super) const fn wrap_early(&mut self) {
        self.wraps_early = true;
    }

    /// What comes after the last number.
    pub(super) const fn next(self) -> u16 {
        if self.wraps_early && self.last == u16::MAX - 1 { 0 } else { self.last.wrapping_add(1) }
    }

    /// Counts one message up, and returns its number.
    pub(super) const fn advance(&mut self) -> u16 {
        self.last = self.next();
        self.last
    }

    /// Whether a message with this number is the next one; if so, it is counted. A 0 after 65534 is the next one too, and
    /// shows how the peer counts.
    pub(super) const fn accept(&mut self, number: u16) -> bool {
        if number == 0 && self.last == u16::MAX - 1 {
            self.wraps_early = true;
        } else if number != self.next() {
            return false;
        }
        self.last = number;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(last: u16) -> Sequence {
        Sequence { last, wraps_early: false }
    }

    #[test]
    fn hello_is_number_one() {
        assert_eq!(Sequence::new(false).advance(), 1);
        assert!(Sequence::new(false).accept(1));
        assert!(!Sequence::new(false).accept(0) && !Sequence::new(false).accept(2));
    }

    #[test]
    fn a_gap_or_a_repeat_is_not_accepted_and_not_counted() {
        let mut sequence = after(7);
        assert!(!sequence.accept(7) && !sequence.accept(9) && !sequence.accept(0));
        assert!(sequence.accept(8));
    }

    #[test]
    fn zyre_wraps_after_65535() {
        let mut sequence = after(65533);
        assert!([65534, 65535, 0, 1].iter().all(|number| sequence.accept(*number)));
        assert!(!sequence.wraps_early());
        let mut sequence = after(65534);
        assert_eq!([sequence.advance(), sequence.advance(), sequence.advance()], [65535, 0, 1]);
    }

    #[test]
    fn pyre_wraps_after_65534_and_is_known_by_it() {
        let mut sequence = after(65533);
        assert!([65534, 0, 1].iter().all(|number| sequence.accept(*number)));
        assert!(sequence.wraps_early());
        let mut sequence = Sequence { last: 65533, wraps_early: true };
        assert_eq!([sequence.advance(), sequence.advance(), sequence.advance()], [65534, 0, 1]);
    }
}
