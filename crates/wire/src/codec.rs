//! The binary alphabet: fixed big-endian integers, QUIC-style varints and length-prefixed bytes.
//!
//! Every binary object of the protocol is written with these few calls, so that `docs/protocol/encoding.md` can
//! say it in half a page. Reading is strict: a value has one encoding, a length has a bound, and nothing may be
//! left over.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::{Buf as _, Bytes};
use thiserror::Error;

/// Why bytes are not the object they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The bytes end before the object does.
    #[error("ends in the middle of {0}")]
    Short(&'static str),
    /// Bytes are left after the object.
    #[error("{0} bytes too many")]
    Long(usize),
    /// A length, count or value over its limit.
    #[error("{what} is {got}, the limit is {max}")]
    Over {
        /// What was counted.
        what: &'static str,
        /// The value found.
        got: u64,
        /// The highest value allowed.
        max: u64,
    },
    /// A value that has no meaning here.
    #[error("{what} cannot be {got}")]
    Value {
        /// The field.
        what: &'static str,
        /// The value found.
        got: u64,
    },
    /// A text that is not what its field takes (UTF-8, a slug, a URL-safe name).
    #[error("{0} is not text of the right form")]
    Text(&'static str),
    /// A varint longer than its value needs.
    #[error("{0} is not in its shortest form")]
    Padded(&'static str),
}

/// Writes an object.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty object with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// A variable-length integer (RFC 9000 §16), in its shortest form. Values over 2⁶² − 1 saturate: no field of
    /// ours comes near.
    pub fn varint(&mut self, value: u64) {
        match value {
            0..=0x3f => self.0.extend_from_slice(&value.to_be_bytes()[7..]),
            0x40..=0x3fff => self.0.extend_from_slice(&(value | 0x4000).to_be_bytes()[6..]),
            0x4000..=0x3fff_ffff => self.0.extend_from_slice(&(value | 0x8000_0000).to_be_bytes()[4..]),
            _ => self.u64(value.min(VARINT_MAX) | 0xc000_0000_0000_0000),
        }
    }

    /// Bytes as they are: fixed-size fields, or the rest of the object.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes behind their length as a varint.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// The object.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.0.into()
    }

    /// The object, to be written on.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// The highest value a varint carries.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Reads an object, sharing its bytes.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    /// How many of them were read.
    at: usize,
}

impl Reader {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.unread().len()
    }

    fn unread(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let array = *self.unread().first_chunk().ok_or(Error::Short(what))?;
        self.at += N;
        Ok(array)
    }

    /// Where the next length-prefixed bytes are.
    fn prefixed(&mut self, what: &'static str, max: usize) -> Result<Range<usize>, Error> {
        let len = self.varint(what, max as u64)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= self.left()).ok_or(Error::Short(what))?;
        let start = self.at;
        self.at += len;
        Ok(start..self.at)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Error::Short`] at the end of the bytes; so do all fixed-size reads below.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array(what).map(u8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`Error::Short`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`Error::Short`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`Error::Short`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// A variable-length integer of at most `max`.
    ///
    /// # Errors
    /// [`Error::Short`], [`Error::Padded`] when a shorter form exists, [`Error::Over`] beyond `max`.
    pub fn varint(&mut self, what: &'static str, max: u64) -> Result<u64, Error> {
        let first = *self.unread().first().ok_or(Error::Short(what))?;
        let (value, least) = match first >> 6 {
            0 => (u64::from(self.u8(what)?), 0),
            1 => (u64::from(self.u16(what)? & 0x3fff), 0x40),
            2 => (u64::from(self.u32(what)? & 0x3fff_ffff), 0x4000),
            _ => (self.u64(what)? & VARINT_MAX, 0x4000_0000),
        };
        if value < least {
            return Err(Error::Padded(what));
        }
        if value > max {
            return Err(Error::Over { what, got: value, max });
        }
        Ok(value)
    }

    /// A varint that fits 32 bits.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn varint32(&mut self, what: &'static str, max: u32) -> Result<u32, Error> {
        let value = self.varint(what, u64::from(max))?;
        u32::try_from(value).map_err(|_| Error::Over { what, got: value, max: u64::from(max) })
    }

    /// `N` bytes as they are.
    ///
    /// # Errors
    /// [`Error::Short`].
    pub fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        self.array(what)
    }

    /// Length-prefixed bytes, at most `max` of them.
    ///
    /// # Errors
    /// As [`Reader::varint`], for the length.
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<Bytes, Error> {
        let span = self.prefixed(what, max)?;
        Ok(self.bytes.slice(span))
    }

    /// Length-prefixed UTF-8 of at most `max` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`Error::Text`].
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<alloc::string::String, Error> {
        let span = self.prefixed(what, max)?;
        let bytes = self.bytes.get(span).unwrap_or_default();
        core::str::from_utf8(bytes).map(Into::into).map_err(|_| Error::Text(what))
    }

    /// Everything that is left.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        let mut rest = core::mem::take(&mut self.bytes);
        rest.advance(core::mem::take(&mut self.at));
        rest
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Error::Long`] when bytes are left.
    pub fn end(self) -> Result<(), Error> {
        match self.left() {
            0 => Ok(()),
            left => Err(Error::Long(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_has_one_form(value in 0..=VARINT_MAX) {
            let mut writer = Writer::default();
            writer.varint(value);
            let mut reader = Reader::new(writer.finish());
            prop_assert_eq!(reader.varint("x", VARINT_MAX), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn a_padded_varint_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0x40, 0x01]));
        assert_eq!(reader.varint("x", 10), Err(Error::Padded("x")));
    }

    #[test]
    fn the_vectors_of_rfc_9000() {
        let vectors: [(&'static [u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in vectors {
            assert_eq!(Reader::new(Bytes::from_static(bytes)).varint("x", VARINT_MAX), Ok(value));
        }
    }

    #[test]
    fn a_length_over_its_limit_is_refused_before_it_is_read() {
        let mut writer = Writer::default();
        writer.varint(1 << 40);
        let error = Reader::new(writer.finish()).bytes("name", 64);
        assert_eq!(error, Err(Error::Over { what: "name", got: 1 << 40, max: 64 }));
    }
}
