//! Records of DTLS 1.3, sealed and opened in place (RFC 9147 §4), with AES-128-GCM. Pure: keys are arguments.
//!
//! ```text
//! 001 C S L E E 1 │ number 1 or 2, masked │ length 0 or 2 ┃ plaintext │ kind 1 │ zeros │ tag 16
//! ```
//!
//! Ours have two bytes of number, and a length only where another record follows in the datagram. All forms are taken
//! but those with a connection id (C), which nobody was given.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey, quic};

use super::super::{SealError, window::Window};
use crate::link::records;

pub(in super::super) const KEY_BYTES: usize = 16;
pub(in super::super) const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// What the mask of a number is made of: the first bytes of what is sealed (RFC 9147 §4.2.3).
const SAMPLE_BYTES: usize = 16;

const FIXED: u8 = 0b0010_0000;
const LONG_NUMBER: u8 = 0b0000_1000;
const HAS_LENGTH: u8 = 0b0000_0100;
const EPOCH: u8 = 0b0000_0011;

/// Bytes that a record which ends its datagram adds to its plaintext: header, kind and tag.
pub(in super::super) const OVERHEAD_BYTES: usize = 3 + 1 + TAG_BYTES;

/// Plaintext of one record at most (RFC 8446 §5.2).
const PLAINTEXT_BYTES_MAX: usize = 1 << 14;

/// Records sealed with one key at most: below the 2^24.5 at which AES-GCM loses its margin (RFC 9147 §4.5.3).
const RECORDS_MAX: u64 = 1 << 24;

/// Records that are no peer's at most, for one key (RFC 9147 §4.5.3).
const FORGERIES_MAX: u64 = 1 << 36;

/// The keys of one direction and epoch.
pub(in super::super) struct Key {
    key: LessSafeKey,
    iv: [u8; IV_BYTES],
    mask: quic::HeaderProtectionKey,
}

impl Key {
    pub(super) fn new(key: &[u8; KEY_BYTES], iv: [u8; IV_BYTES], mask: &[u8; KEY_BYTES]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).ok()?);
        let mask = quic::HeaderProtectionKey::new(&quic::AES_128, mask).ok()?;
        Some(Self { key, iv, mask })
    }

    /// The number's 64 bits over the end of the vector (RFC 8446 §5.3).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        nonce.iter_mut().skip(IV_BYTES - 8).zip(number.to_be_bytes()).for_each(|(byte, of)| *byte ^= of);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Hides a header's number, or shows it.
    fn mask(&self, number: &mut [u8], sealed: &[u8]) -> Option<()> {
        let mask = self.mask.new_mask(sealed.get(..SAMPLE_BYTES)?).ok()?;
        number.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        Some(())
    }
}

/// Makes our records of one epoch.
pub(in super::super) struct Sealer {
    key: Key,
    pub(super) epoch: u64,
    pub(super) next: u64,
}

/// Where a record stands in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Place {
    /// Nothing follows, so its length goes without saying.
    Last,
    /// Others may follow.
    Before,
}

impl Sealer {
    pub(in super::super) const fn new(key: Key, epoch: u64, next: u64) -> Self {
        Self { key, epoch, next }
    }

    /// Appends a record of `kind` to `out`, with what `write` appends as its plaintext; none when that is nothing. Says
    /// whether there is one.
    ///
    /// # Errors
    ///
    /// [`SealError::Exhausted`] and [`SealError::TooLong`]; `out` is then as it was.
    pub(in super::super) fn seal(
        &mut self,
        kind: u8,
        place: Place,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<bool, SealError> {
        let number = self.next;
        if number >= RECORDS_MAX {
            return Err(SealError::Exhausted);
        }
        let start = out.len();
        out.reserve(OVERHEAD_BYTES + 2);
        let ([.., epoch], [.., n0, n1]) = (self.epoch.to_be_bytes(), number.to_be_bytes());
        let first = FIXED | LONG_NUMBER | epoch & EPOCH;
        let header = match place {
            Place::Last => &[first, n0, n1][..],
            Place::Before => &[first | HAS_LENGTH, n0, n1, 0, 0],
        };
        out.extend_from_slice(header);
        write(out);
        let length = out.len() - start - header.len();
        if length == 0 {
            out.truncate(start);
            return Ok(false);
        }
        out.push(kind);
        let sealed = out.get_mut(start..).and_then(|record| self.finish(record, header.len()));
        let Some(tag) = sealed.filter(|_| length <= PLAINTEXT_BYTES_MAX) else {
            out.truncate(start);
            return Err(SealError::TooLong);
        };
        out.extend_from_slice(tag.as_ref());
        if let Some((_, [n0, n1, rest @ ..])) = out.get_mut(start..).and_then(<[u8]>::split_first_mut) {
            let mut hidden = [*n0, *n1];
            let text = rest.get(header.len() - 3..).unwrap_or_default();
            if self.key.mask(&mut hidden, text).is_some() {
                [*n0, *n1] = hidden;
            }
        }
        // Only now: a record that was not made has used no nonce.
        self.next = number + 1;
        Ok(true)
    }

    /// Writes the length, if there is one, and encrypts what stands behind the header.
    fn finish(&self, record: &mut [u8], header_bytes: usize) -> Option<Tag> {
        let (header, text) = record.split_at_mut_checked(header_bytes)?;
        if let [_, _, _, length @ ..] = header
            && !length.is_empty()
        {
            length.copy_from_slice(&u16::try_from(text.len() + TAG_BYTES).ok()?.to_be_bytes());
        }
        self.key.key.seal_in_place_separate_tag(self.key.nonce(self.next), Aad::from(&*header), text).ok()
    }
}

/// A record that is the peer's, and new.
pub(in super::super) struct Opened<'a> {
    pub(in super::super) number: u64,
    pub(in super::super) kind: u8,
    pub(in super::super) body: &'a mut [u8],
}

/// Takes the peer's records of one epoch, each once.
pub(in super::super) struct Opener {
    key: Key,
    pub(super) epoch: u64,
    window: Window,
    forgeries: u64,
}

impl Opener {
    pub(in super::super) fn new(key: Key, epoch: u64) -> Self {
        Self { key, epoch, window: Window::default(), forgeries: 0 }
    }

    /// Whether a record may be of this epoch, as far as its first byte says.
    pub(super) fn is_of(&self, record: &[u8]) -> bool {
        let [.., epoch] = self.epoch.to_be_bytes();
        record.first().is_some_and(|first| first & EPOCH == epoch & EPOCH)
    }

    /// So many forgeries that another might succeed: end the connection.
    pub(super) const fn is_worn(&self) -> bool {
        self.forgeries >= FORGERIES_MAX
    }

    /// Decrypts one whole record in place. None when it is forged, damaged, of another epoch, seen before, too old to
    /// know, or of no kind. Then nothing has changed, but that `record` may be garbage.
    pub(in super::super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Option<Opened<'a>> {
        if !self.is_of(record) {
            return None;
        }
        let (header, sealed) = record.split_at_mut_checked(records::sealed_header_bytes(record)?)?;
        let is_long = header.first()? & LONG_NUMBER != 0;
        let place = header.get_mut(1..if is_long { 3 } else { 2 })?;
        self.key.mask(place, sealed)?;
        let number = match *place {
            [number] => nearest(u64::from(number), 8, self.window.end()),
            [n0, n1] => nearest(u64::from(u16::from_be_bytes([n0, n1])), 16, self.window.end()),
            _ => return None,
        };
        if !self.window.is_new(number) {
            return None;
        }
        let Ok(text) = self.key.key.open_in_place(self.key.nonce(number), Aad::from(&*header), sealed) else {
            self.forgeries += 1;
            return None;
        };
        self.window.mark(number);
        // What pads it is zeros, so the kind is the last byte that is none (RFC 8446 §5.4).
        let end = text.iter().rposition(|byte| *byte != 0)?;
        let (body, rest) = text.split_at_mut_checked(end)?;
        Some(Opened { number, kind: *rest.first()?, body })
    }
}

/// The number with these low `bits` that is nearest to `expected` (RFC 9147 §4.2.2).
fn nearest(low: u64, bits: u32, expected: u64) -> u64 {
    let span = 1 << bits;
    let middle = (expected & !(span - 1)) + low;
    if middle > expected + span / 2 {
        middle.checked_sub(span).unwrap_or(middle)
    } else if middle + span / 2 < expected {
        middle + span
    } else {
        middle
    }
}

#[cfg(test)]
mod tests;
