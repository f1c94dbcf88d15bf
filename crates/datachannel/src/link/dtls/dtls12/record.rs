//! Records of an open connection, sealed and opened in place: DTLS 1.2 (RFC 6347 §4.1) with AES-128-GCM (RFC 5288).
//! Pure: keys are arguments.
//!
//! ```text
//! kind 1 │ version 2 │ epoch 2 · number 6 │ length 2 ┃ epoch · number again 8 │ plaintext │ tag 16
//! ```
//!
//! The explicit part of the nonce is the epoch and the number, so no two records of ours have the same. The engine
//! that made the handshake sealed with the same key before us: see [`Sealer::new`].

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::super::{SealError, window::Window};
use crate::link::records::{HEADER_BYTES, VERSION};

/// Bytes of the AES key.
pub(in super::super) const KEY_BYTES: usize = 16;

/// Bytes of the secret part of the nonce.
pub(in super::super) const SALT_BYTES: usize = 4;

/// The epoch of everything after the first and only handshake: nothing renegotiates.
const EPOCH: u64 = 1;

/// One above the highest sequence number (RFC 6347 §4.1: 48 bits). After it a connection must end.
const NUMBERS: u64 = 1 << 48;

const NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Bytes that a record adds to its plaintext.
pub(in super::super) const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// Plaintext of one record at most (RFC 5246 §6.2.1).
const PLAINTEXT_BYTES_MAX: usize = 1 << 14;

/// The secrets of one direction.
#[derive(Clone)]
pub(in super::super) struct Key {
    key: LessSafeKey,
    salt: [u8; SALT_BYTES],
}

impl Key {
    /// None when `key` is not of [`KEY_BYTES`].
    pub(in super::super) fn new(key: &[u8], salt: [u8; SALT_BYTES]) -> Option<Self> {
        UnboundKey::new(&AES_128_GCM, key).ok().map(|key| Self { key: LessSafeKey::new(key), salt })
    }

    fn nonce(&self, explicit: [u8; NONCE_BYTES]) -> Nonce {
        let ([a, b, c, d], [e, f, g, h, i, j, k, l]) = (self.salt, explicit);
        Nonce::assume_unique_for_key([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// Decrypts one record in place. Gives its number, kind and plaintext; none when it is not of this key.
    pub(in super::super) fn open<'a>(&self, record: &'a mut [u8]) -> Option<(u64, u8, &'a mut [u8])> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_BYTES>()?;
        let (explicit, sealed) = body.split_first_chunk_mut::<NONCE_BYTES>()?;
        let length = sealed.len().checked_sub(TAG_BYTES)?;
        let [kind, major, minor, ..] = *header;
        if [major, minor] != VERSION {
            return None;
        }
        let place = place(header);
        let aad = additional(place, kind, length)?;
        let plaintext = self.key.open_in_place(self.nonce(*explicit), aad, sealed).ok()?;
        (place >> 48 == EPOCH).then_some((place % NUMBERS, kind, plaintext))
    }
}

/// Makes our records.
pub(in super::super) struct Sealer {
    key: Key,
    next: u64,
    /// Explicit nonces that the engine has used. It draws them at random.
    taken: Vec<u64>,
}

impl Sealer {
    /// Goes on where the engine stopped: `next` is the first sequence number of epoch 1 that it has not used, `taken`
    /// are the explicit nonces of the records that it has sealed.
    pub(in super::super) const fn new(key: Key, next: u64, taken: Vec<u64>) -> Self {
        Self { key, next, taken }
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
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<bool, SealError> {
        let number = self.number()?;
        let start = out.len();
        out.reserve(OVERHEAD_BYTES);
        let at = (EPOCH << 48 | number).to_be_bytes();
        let [e0, e1, n0, n1, n2, n3, n4, n5] = at;
        let [major, minor] = VERSION;
        out.extend_from_slice(&[kind, major, minor, e0, e1, n0, n1, n2, n3, n4, n5, 0, 0]);
        out.extend_from_slice(&at);
        write(out);
        let plaintext = out.get_mut(start + HEADER_BYTES + NONCE_BYTES..).unwrap_or_default();
        let length = plaintext.len();
        if length == 0 {
            out.truncate(start);
            return Ok(false);
        }
        let tag = additional(u64::from_be_bytes(at), kind, length)
            .and_then(|aad| self.key.key.seal_in_place_separate_tag(self.key.nonce(at), aad, plaintext).ok());
        let whole = u16::try_from(NONCE_BYTES + length + TAG_BYTES);
        let place = out.get_mut(start + HEADER_BYTES - 2..start + HEADER_BYTES);
        let (Some(tag), Ok(whole), Some(place)) = (tag, whole, place) else {
            out.truncate(start);
            return Err(SealError::TooLong);
        };
        place.copy_from_slice(&whole.to_be_bytes());
        out.extend_from_slice(tag.as_ref());
        // Only now: a record that was not made has used no nonce.
        self.next = number + 1;
        Ok(true)
    }

    fn number(&self) -> Result<u64, SealError> {
        let mut number = self.next;
        while self.taken.contains(&(EPOCH << 48 | number)) {
            number += 1;
        }
        if number < NUMBERS { Ok(number) } else { Err(SealError::Exhausted) }
    }
}

/// Takes the peer's records, each once.
pub(in super::super) struct Opener {
    key: Key,
    window: Window,
}

impl Opener {
    pub(in super::super) fn new(key: Key) -> Self {
        Self { key, window: Window::default() }
    }

    /// Decrypts one whole record in place. Gives its kind and plaintext; none when it is forged, damaged, of another
    /// epoch, seen before or too old to know. Then nothing has changed, but that `record` may be garbage.
    pub(in super::super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Option<(u8, &'a mut [u8])> {
        let at = place(record.first_chunk::<HEADER_BYTES>()?);
        if at >> 48 != EPOCH || !self.window.is_new(at % NUMBERS) {
            return None;
        }
        let (number, kind, plaintext) = self.key.open(record)?;
        self.window.mark(number);
        Some((kind, plaintext))
    }
}

/// Epoch and sequence number of a record, as one number.
fn place(header: &[u8; HEADER_BYTES]) -> u64 {
    let [_, _, _, at @ .., _, _] = *header;
    u64::from_be_bytes(at)
}

/// What is authenticated beside the plaintext (RFC 5246 §6.2.3.3); none when the plaintext is too long.
fn additional(place: u64, kind: u8, length: usize) -> Option<Aad<[u8; 13]>> {
    let length = u16::try_from(length).ok().filter(|_| length <= PLAINTEXT_BYTES_MAX)?;
    let [a, b, c, d, e, f, g, h] = place.to_be_bytes();
    let [high, low] = length.to_be_bytes();
    let [major, minor] = VERSION;
    Some(Aad::from([a, b, c, d, e, f, g, h, kind, major, minor, high, low]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::link::records::{ALERT, APPLICATION_DATA};

    fn key() -> Key {
        Key::new(&[7; KEY_BYTES], [1, 2, 3, 4]).unwrap()
    }

    fn sealed(sealer: &mut Sealer, plaintext: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        sealer.seal(APPLICATION_DATA, &mut record, |out| out.extend_from_slice(plaintext)).unwrap();
        record
    }

    /// The explicit nonce of a record.
    fn nonce(record: &[u8]) -> u64 {
        u64::from_be_bytes(record[HEADER_BYTES..HEADER_BYTES + NONCE_BYTES].try_into().unwrap())
    }

    #[test]
    fn what_is_sealed_is_opened_once() {
        let (mut sealer, mut opener) = (Sealer::new(key(), 1, Vec::new()), Opener::new(key()));
        let mut batch = b"before".to_vec();
        for (kind, text) in
            [(APPLICATION_DATA, &b"hello"[..]), (ALERT, &[1, 0]), (APPLICATION_DATA, &[7; 1_400])]
        {
            let start = batch.len();
            sealer.seal(kind, &mut batch, |out| out.extend_from_slice(text)).unwrap();
            assert_eq!(batch.len() - start, text.len() + OVERHEAD_BYTES);
            let mut record = batch[start..].to_vec();
            assert_eq!(
                opener.open(&mut record.clone()).map(|(kind, text)| (kind, text.to_vec())),
                Some((kind, text.to_vec()))
            );
            assert!(opener.open(&mut record).is_none(), "a replay");
        }
        assert!(batch.starts_with(b"before"));
    }

    /// A record made by hand from RFC 5246 and 5288, with the vectors of no implementation.
    #[test]
    fn a_record_is_laid_out_as_the_standard_says() {
        let record = sealed(&mut Sealer::new(key(), 0x01_02_03, Vec::new()), b"hello");
        let header = [23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 1, 2, 3, 0, 29, 0, 1, 0, 0, 0, 1, 2, 3];
        assert_eq!(record[..21], header);
        let raw = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap());
        let nonce = Nonce::assume_unique_for_key([1, 2, 3, 4, 0, 1, 0, 0, 0, 1, 2, 3]);
        let aad = Aad::from([0, 1, 0, 0, 0, 1, 2, 3, 23, 0xFE, 0xFD, 0, 5]);
        assert_eq!(raw.open_in_place(nonce, aad, &mut record[21..].to_vec()).unwrap(), b"hello");
    }

    #[test]
    fn no_nonce_is_used_twice_whatever_the_engine_drew() {
        // The engine's random nonces happen to be ones that we would come to.
        let taken = vec![EPOCH << 48 | 4, EPOCH << 48 | 2, EPOCH << 48 | 3, u64::MAX];
        let mut used: BTreeSet<u64> = taken.iter().copied().collect();
        let mut sealer = Sealer::new(key(), 1, taken);
        for _ in 0..100 {
            let record = sealed(&mut sealer, b"x");
            assert!(used.insert(nonce(&record)));
            assert_eq!(nonce(&record), place(record.first_chunk().unwrap()));
        }
    }

    #[test]
    fn a_record_that_could_not_be_made_uses_no_number_and_leaves_no_trace() {
        let mut sealer = Sealer::new(key(), NUMBERS - 1, Vec::new());
        let mut out = vec![9];
        let long = vec![0; PLAINTEXT_BYTES_MAX + 1];
        assert_eq!(
            sealer.seal(APPLICATION_DATA, &mut out, |out| out.extend_from_slice(&long)),
            Err(SealError::TooLong)
        );
        assert_eq!(out, [9]);
        sealed(&mut sealer, b"the last one");
        assert_eq!(sealer.seal(APPLICATION_DATA, &mut out, |out| out.push(1)), Err(SealError::Exhausted));
        assert_eq!(out, [9]);
    }

    #[test]
    fn a_forged_record_changes_nothing() {
        let (mut sealer, mut opener) = (Sealer::new(key(), 1, Vec::new()), Opener::new(key()));
        let record = sealed(&mut sealer, b"hello");
        for at in 0..record.len() {
            // The length is the scan's to check.
            if (11..13).contains(&at) {
                continue;
            }
            let mut forged = record.clone();
            forged[at] ^= 0x80;
            assert!(opener.open(&mut forged).is_none(), "byte {at}");
        }
        for cut in 0..record.len() {
            assert!(opener.open(&mut record.clone()[..cut]).is_none(), "{cut} bytes");
        }
        // A number far ahead, not authenticated, must not have moved the window.
        assert!(opener.open(&mut record.clone()).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_are_opened(mut record in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Opener::new(key()).open(&mut record).is_none());
        }
    }
}
