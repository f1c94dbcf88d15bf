//! Session keys: ECDSA over P-256 with SHA-256 (FIPS 186-5), made in browsers and checked in programs.
//!
//! Programs check by `ring`, which takes less than a third of the time of `p256`: an edge checks a voucher of every
//! viewer every few seconds. `ring` is C and assembly, so the browser's module, which checks none, keeps to `p256`. What
//! is valid is one thing for both, and the tests hold them against each other: `1 ≤ r, s < n`; a high `s` is as good
//! as a low one, because WebCrypto makes both; the key is a compressed point and nothing else.

use millstream_model::SessionKey;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};

use super::{Error, SIGNATURE_BYTES, Signer, VerifyKey};

/// A [`SessionKey`] whose point is worked out. That is a square root, a fifth of what a check then costs: who checks
/// more than one signature of a session keeps this with it. About 70 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionVerifier(VerifyingKey);

impl SessionVerifier {
    /// Works out the point of `key`.
    ///
    /// # Errors
    /// [`Error::Key`] when it is no compressed point of the curve (SEC 1 §2.3.4).
    pub fn new(key: &SessionKey) -> Result<Self, Error> {
        // `p256` reads "compact" points too (tag 5), which SEC 1 does not know: a second text for the same key.
        let [2 | 3, ..] = key.0 else { return Err(Error::Key) };
        VerifyingKey::from_sec1_bytes(&key.0).map(Self).map_err(|_| Error::Key)
    }
}

impl VerifyKey for SessionVerifier {
    type Public = SessionKey;

    fn check(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Error> {
        #[cfg(not(target_family = "wasm"))]
        let is_good = by_ring(&self.0, message, signature);
        #[cfg(target_family = "wasm")]
        let is_good = by_p256(&self.0, message, signature);
        if is_good { Ok(()) } else { Err(Error::Signature) }
    }
}

impl VerifyKey for SessionKey {
    type Public = Self;

    /// Works out the point each time; see [`SessionVerifier`].
    fn check(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Error> {
        SessionVerifier::new(self)?.check(message, signature)
    }
}

#[cfg(not(target_family = "wasm"))]
fn by_ring(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    let point = key.to_sec1_point(false);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes()).verify(message, signature).is_ok()
}

#[cfg(any(test, target_family = "wasm"))]
fn by_p256(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    use p256::ecdsa::signature::Verifier as _;
    Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// The secret half of a [`SessionKey`], for viewers that are not browsers.
#[derive(Clone)]
pub struct SessionSecret(SigningKey);

impl SessionSecret {
    /// The key with this scalar, or `None` for the (2⁻¹²⁸ rare) bytes that are not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(bytes).ok().map(Self)
    }
}

impl Signer for SessionSecret {
    type Public = SessionKey;

    fn public(&self) -> SessionKey {
        compressed(self.0.verifying_key())
    }

    /// Deterministic by RFC 6979.
    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        use p256::ecdsa::signature::Signer as _;
        let signature: Signature = self.0.sign(message);
        signature.to_bytes().into()
    }
}

fn compressed(key: &VerifyingKey) -> SessionKey {
    let point = key.to_sec1_point(true);
    let mut key = [0; SessionKey::BYTES];
    for (to, from) in key.iter_mut().zip(point.as_bytes()) {
        *to = *from;
    }
    SessionKey(key)
}

#[cfg(test)]
mod tests;
