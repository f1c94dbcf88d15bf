//! The secrets of a DTLS 1.3 connection and the keys made of them (RFC 8446 §7, RFC 9147 §5.9). Pure.
//!
//! ```text
//! traffic secret ─┬─ "key" · "iv" · "sn" ──▶ the keys of one epoch and direction
//!                 └─ "traffic upd" ────────▶ the secret of the next epoch
//! ```

use ring::hmac;

use super::record::{IV_BYTES, KEY_BYTES, Key};

/// Bytes of a secret: an output of SHA-256.
pub(in super::super) const SECRET_BYTES: usize = 32;

/// What stands before every label (RFC 9147 §5.9).
const PREFIX: &[u8] = b"dtls13";

/// The labels of the secrets that a handshake derives, client's and server's (RFC 8446 §7.1).
pub(in super::super) const HANDSHAKE: [&[u8]; 2] = [b"c hs traffic", b"s hs traffic"];
/// See [`HANDSHAKE`].
pub(in super::super) const APPLICATION: [&[u8]; 2] = [b"c ap traffic", b"s ap traffic"];

/// A traffic secret of one direction and epoch.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Secret(pub(in super::super) [u8; SECRET_BYTES]);

impl Secret {
    /// The keys of its epoch.
    pub(in super::super) fn key(&self) -> Option<Key> {
        let (key, iv, mask) = (self.expand(b"key"), self.expand(b"iv"), self.expand(b"sn"));
        let (key, iv, mask): (&[u8; KEY_BYTES], &[u8; IV_BYTES], &[u8; KEY_BYTES]) =
            (key.first_chunk()?, iv.first_chunk()?, mask.first_chunk()?);
        Key::new(key, *iv, mask)
    }

    /// The secret of the epoch after its own (RFC 8446 §7.2).
    pub(super) fn next(&self) -> Self {
        Self(self.expand(b"traffic upd"))
    }

    /// HKDF-Expand-Label without a context. What is used of the output is asked for by the label; one block of the
    /// hash is always enough.
    fn expand(&self, label: &[u8]) -> [u8; SECRET_BYTES] {
        let bytes = match label {
            b"iv" => IV_BYTES,
            b"key" | b"sn" => KEY_BYTES,
            _ => SECRET_BYTES,
        };
        let mut info = info(label, bytes, &[]);
        info.push(1);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), &info);
        let mut out = [0; SECRET_BYTES];
        out.iter_mut().zip(tag.as_ref()).for_each(|(out, tag)| *out = *tag);
        out
    }
}

/// HkdfLabel (RFC 8446 §7.1): what an output of `bytes` is asked for with.
pub(in super::super) fn info(label: &[u8], bytes: usize, context: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let byte = |length| u8::try_from(length).unwrap_or(u8::MAX);
    let lengths = [byte(PREFIX.len() + label.len()), byte(context.len())];
    [&bytes[..], &lengths[..1], PREFIX, label, &lengths[1..], context].concat()
}

/// Which of `labels` an input of HMAC asks for, if any: HKDF-Expand of one block, over a transcript's hash.
pub(in super::super) fn is_asked_for(label: &[u8], input: &[u8]) -> bool {
    let Some((&1, input)) = input.split_last() else { return false };
    let Some((start, context)) = input.split_last_chunk::<SECRET_BYTES>() else { return false };
    start.len() == 2 + 1 + PREFIX.len() + label.len() + 1 && info(label, SECRET_BYTES, context) == input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_asks_for_a_secret_is_taken_for_it() {
        let mut input = info(APPLICATION[0], 32, &[7; 32]);
        assert_eq!(input[..3], [0, 32, 18]);
        assert_eq!(&input[3..21], b"dtls13c ap traffic");
        input.push(1);
        assert!(is_asked_for(APPLICATION[0], &input));
        assert!(!is_asked_for(APPLICATION[1], &input) && !is_asked_for(HANDSHAKE[0], &input));
        for at in (0..22).chain([input.len() - 1]) {
            let mut other = input.clone();
            other[at] ^= 1;
            assert!(!is_asked_for(APPLICATION[0], &other), "{at}");
        }
        assert!(!is_asked_for(APPLICATION[0], &[]));
    }

    /// HKDF-Expand of `ring`, which knows nothing of labels, says the same.
    #[test]
    fn the_expansion_is_that_of_the_standard() {
        struct Bytes(usize);
        impl ring::hkdf::KeyType for Bytes {
            fn len(&self) -> usize {
                self.0
            }
        }
        let secret = Secret([9; 32]);
        for (label, bytes) in [(&b"key"[..], 16), (b"iv", 12), (b"sn", 16), (b"traffic upd", 32)] {
            let prk = ring::hkdf::Prk::new_less_safe(ring::hkdf::HKDF_SHA256, &[9; 32]);
            let size = u8::try_from(bytes).unwrap();
            let full = u8::try_from(6 + label.len()).unwrap();
            let parts = [&[0, size, full][..], b"dtls13", label, &[0]];
            let mut out = vec![0; bytes];
            prk.expand(&parts, Bytes(bytes)).unwrap().fill(&mut out).unwrap();
            assert_eq!(secret.expand(label)[..bytes], out, "{label:?}");
        }
    }
}
