//! What the codecs of this crate share: reading fields from bytes that a stranger sent.
//!
//! It knows no protocol. Limits on lengths and counts belong to the message that has them.

use bytes::{Buf, Bytes};

/// Reads fields from the front of a buffer. Byte strings it returns are slices of that buffer, not copies.
#[derive(Debug)]
pub(crate) struct Reader(Bytes);

/// The buffer ended before this field did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Which field, in the protocol's words.
    pub(crate) field: &'static str,
}

impl Reader {
    /// Reads from the start of `bytes`.
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Whether everything has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of bytes that have not been read.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Everything that has not been read.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    /// One byte.
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Cut> {
        self.0.try_get_u8().map_err(|_| Cut { field })
    }

    /// Two bytes, big-endian.
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Cut> {
        self.0.try_get_u16().map_err(|_| Cut { field })
    }

    /// Four bytes, big-endian: a number, a count, or a length.
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Cut> {
        self.0.try_get_u32().map_err(|_| Cut { field })
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, Cut> {
        if len > self.0.len() { Err(Cut { field }) } else { Ok(self.0.split_to(len)) }
    }

    /// A byte string with a length of one byte before it.
    pub(crate) fn short(&mut self, field: &'static str) -> Result<Bytes, Cut> {
        let len = self.u8(field)?;
        self.take(usize::from(len), field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_without_copies() {
        let bytes = Bytes::from_static(b"\x01\x02\x03\x00\x00\x00\x04\x02hiX");
        let mut reader = Reader::new(bytes.clone());
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.u16("b"), Ok(0x0203));
        assert_eq!(reader.u32("c"), Ok(4));
        let text = reader.short("d").unwrap();
        assert_eq!(text, "hi");
        assert_eq!(text.as_ptr(), bytes[8..].as_ptr());
        assert!(!reader.is_empty());
        assert_eq!(reader.rest(), "X");
    }

    #[test]
    fn a_field_that_is_cut_is_named() {
        for cut in [&b""[..], b"\x03", b"\x03ab"] {
            assert_eq!(Reader::new(Bytes::copy_from_slice(cut)).short("name"), Err(Cut { field: "name" }));
        }
        assert_eq!(Reader::new(Bytes::from_static(b"\0")).u16("x"), Err(Cut { field: "x" }));
        assert_eq!(Reader::new(Bytes::from_static(b"\0\0\0")).u32("x"), Err(Cut { field: "x" }));
        assert_eq!(Reader::new(Bytes::new()).take(usize::MAX, "x"), Err(Cut { field: "x" }));
    }
}
