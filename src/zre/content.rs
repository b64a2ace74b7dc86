//! What a program sends: the frames of a message.

use bytes::Bytes;

/// The frames of a message, at least one: zyre and pyre fail on a message without content.
///
/// Made from anything that is bytes (one frame) or a list of such (one frame each).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content(Vec<Bytes>);

impl Content {
    /// These frames; one empty frame when there are none.
    pub fn new(mut frames: Vec<Bytes>) -> Self {
        if frames.is_empty() {
            frames.push(Bytes::new());
        }
        Self(frames)
    }

    /// The frames, to look at.
    pub fn frames(&self) -> &[Bytes] {
        &self.0
    }

    /// The bytes in all frames together.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// The frames.
    pub fn into_frames(self) -> Vec<Bytes> {
        self.0
    }
}

macro_rules! one_frame {
    ($($from:ty),*) => {$(
        impl From<$from> for Content {
            fn from(frame: $from) -> Self {
                Self(vec![Bytes::from(frame)])
            }
        }
    )*};
}

one_frame!(String, Vec<u8>, Bytes);

impl From<&str> for Content {
    fn from(frame: &str) -> Self {
        frame.as_bytes().into()
    }
}

impl From<&[u8]> for Content {
    fn from(frame: &[u8]) -> Self {
        Bytes::copy_from_slice(frame).into()
    }
}

impl<const N: usize> From<&[u8; N]> for Content {
    fn from(frame: &[u8; N]) -> Self {
        frame.as_slice().into()
    }
}

impl From<Vec<Bytes>> for Content {
    fn from(frames: Vec<Bytes>) -> Self {
        Self::new(frames)
    }
}

impl<const N: usize> From<[&str; N]> for Content {
    fn from(frames: [&str; N]) -> Self {
        Self::new(frames.iter().map(|frame| Bytes::copy_from_slice(frame.as_bytes())).collect())
    }
}

impl<const N: usize> From<[&[u8]; N]> for Content {
    fn from(frames: [&[u8]; N]) -> Self {
        Self::new(frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect())
    }
}

macro_rules! frames {
    ($($from:ty),*) => {$(
        impl<const N: usize> From<[$from; N]> for Content {
            fn from(frames: [$from; N]) -> Self {
                Self::new(frames.into_iter().map(Bytes::from).collect())
            }
        }
    )*};
}

frames!(String, Vec<u8>, Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_made_from_whatever_is_bytes() {
        let hello = vec![Bytes::from_static(b"hello")];
        for content in [
            Content::from("hello"),
            String::from("hello").into(),
            b"hello".into(),
            b"hello".to_vec().into(),
            b"hello"[..].into(),
            Bytes::from_static(b"hello").into(),
            hello.clone().into(),
            ["hello"].into(),
            [&b"hello"[..]].into(),
            [String::from("hello")].into(),
        ] {
            assert_eq!(content.into_frames(), hello);
        }
        assert_eq!(Content::from(["a", "", "c"]).into_frames(), ["a", "", "c"]);
    }

    #[test]
    fn no_frames_are_one_empty_frame() {
        assert_eq!(Content::from(Vec::<Bytes>::new()).into_frames(), [""]);
        assert_eq!(Content::from("").into_frames(), [""]);
    }
}
