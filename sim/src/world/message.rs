//! The messages that simulated programs send: each says who sent it and which one it is, and can be checked byte by byte.

use bytes::{BufMut, Bytes, BytesMut};

use crate::scenario::{MESSAGE_BYTES_MIN, NodeIndex};

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The sender.
    pub node: NodeIndex,
    /// Which of the sender's lives.
    pub life: u32,
    /// Which message of that life.
    pub number: u64,
}

impl Label {
    /// The message with this label and this many bytes, at least [`MESSAGE_BYTES_MIN`].
    pub fn message(self, bytes: usize) -> Bytes {
        let mut message = BytesMut::with_capacity(bytes.max(MESSAGE_BYTES_MIN));
        message.put_u32(self.node.0);
        message.put_u32(self.life);
        message.put_u64(self.number);
        message.extend(self.filling().take(bytes.saturating_sub(MESSAGE_BYTES_MIN)));
        message.freeze()
    }

    /// Reads a received message: its label, and whether all of it is as it was sent.
    pub fn read(content: &[Bytes]) -> Option<(Self, bool)> {
        let first = content.first()?;
        let (label, rest) = first.split_at_checked(MESSAGE_BYTES_MIN)?;
        let number = |range: std::ops::Range<usize>| {
            label[range].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let read =
            Self { node: NodeIndex(number(0..4) as u32), life: number(4..8) as u32, number: number(8..16) };
        let is_intact = content.len() == 1 && rest.iter().copied().eq(read.filling().take(rest.len()));
        Some((read, is_intact))
    }

    /// Bytes that differ from message to message and from place to place.
    fn filling(self) -> impl Iterator<Item = u8> {
        let seed = self.number ^ u64::from(self.node.0) << 40 ^ u64::from(self.life) << 56;
        (1_u64..).map(move |place| (seed.wrapping_add(place).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label { node: NodeIndex(7), life: 2, number: 123_456_789_012 };

    #[test]
    fn a_message_is_read_back_and_found_whole() {
        for bytes in [16, 17, 1000] {
            let message = LABEL.message(bytes);
            assert_eq!(message.len(), bytes);
            assert_eq!(Label::read(&[message]), Some((LABEL, true)));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let message = LABEL.message(200);
        for place in 16..200 {
            let mut changed = message.to_vec();
            changed[place] ^= 1;
            let (_, is_intact) = Label::read(&[changed.into()]).unwrap();
            assert!(!is_intact, "byte {place}");
        }
    }

    #[test]
    fn what_is_no_message_of_ours_has_no_label() {
        assert_eq!(Label::read(&[]), None);
        assert_eq!(Label::read(&[Bytes::from_static(b"too short")]), None);
    }
}
