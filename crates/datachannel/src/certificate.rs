//! The self-signed certificate that an edge is known by: made once, kept as PEM, recognised by its SHA-256.

use std::{fmt, sync::Arc};

use millstream_model::Fingerprint;
use rtc_dtls::{crypto, crypto_provider::RTCCryptoProvider};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The label of a PKCS#8 key in PEM (RFC 7468 §10).
const KEY_LABEL: &str = "PRIVATE KEY";

/// The same label as the DTLS engine writes and reads it.
const ENGINE_KEY_LABEL: &str = "PRIVATE_KEY";

/// Name in the certificate. Nobody checks it: the fingerprint is the identity.
const SUBJECT: &str = "millstream";

/// Why a certificate could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CertificateError(String);

impl CertificateError {
    pub(crate) fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A self-signed ECDSA P-256 certificate with its private key.
#[derive(Clone)]
pub struct Certificate {
    inner: crypto::Certificate,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Makes a new key and certificate.
    ///
    /// # Errors
    ///
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        let provider = provider()?;
        crypto::Certificate::generate_self_signed(vec![SUBJECT.to_owned()], provider.crypto())
            .map_err(CertificateError::new)
            .and_then(Self::new)
    }

    /// The private key (PKCS#8) followed by the certificate. A secret: store it readable by the owner only.
    ///
    /// # Errors
    ///
    /// When the key cannot be exported.
    pub fn to_pem(&self) -> Result<String, CertificateError> {
        let pem = self.inner.serialize_pem().map_err(CertificateError::new)?;
        Ok(pem.replace(ENGINE_KEY_LABEL, KEY_LABEL))
    }

    /// Reads what [`Certificate::to_pem`] wrote.
    ///
    /// # Errors
    ///
    /// When the text is not a P-256 key in PKCS#8 followed by its certificate.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let provider = provider()?;
        crypto::Certificate::from_pem(&text.replace(KEY_LABEL, ENGINE_KEY_LABEL), provider.crypto())
            .map_err(CertificateError::new)
            .and_then(Self::new)
    }

    /// SHA-256 of the certificate in DER: `a=fingerprint:sha-256` of an SDP (RFC 8122).
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn engine(&self) -> crypto::Certificate {
        self.inner.clone()
    }

    fn new(inner: crypto::Certificate) -> Result<Self, CertificateError> {
        let der = inner.certificate.first().ok_or_else(|| CertificateError::new("no certificate"))?;
        let key = inner.private_key.signing_key.public_key().bytes;
        if key.is_empty() || !der.windows(key.len()).any(|window| window == key) {
            return Err(CertificateError::new("the certificate is not this key's"));
        }
        let fingerprint = fingerprint_of(der);
        Ok(Self { inner, fingerprint })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

pub(crate) fn fingerprint_of(der: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(der).into())
}

pub(crate) fn provider() -> Result<Arc<dyn RTCCryptoProvider>, CertificateError> {
    rtc_dtls::crypto_provider::default_provider().map_err(CertificateError::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_survives_its_pem() {
        let made = Certificate::generate().unwrap();
        let pem = made.to_pem().unwrap();
        assert!(pem.contains("BEGIN PRIVATE KEY"), "{pem}");
        let read = Certificate::from_pem(&pem).unwrap();
        assert_eq!(read.fingerprint(), made.fingerprint());
        assert_eq!(read.to_pem().unwrap(), pem);
    }

    #[test]
    fn what_is_not_a_certificate_is_refused() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\n", "hello"] {
            assert!(Certificate::from_pem(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let [one, two] = [(); 2].map(|()| Certificate::generate().unwrap().to_pem().unwrap());
        let (key, _) = one.split_once("-----BEGIN CERTIFICATE").unwrap();
        let (_, certificate) = two.split_once("-----BEGIN CERTIFICATE").unwrap();
        let mixed = format!("{key}-----BEGIN CERTIFICATE{certificate}");
        assert!(Certificate::from_pem(&mixed).unwrap_err().to_string().contains("this key"));
    }

    #[test]
    fn no_secret_is_printed() {
        let made = Certificate::generate().unwrap();
        assert!(!format!("{made:?}").contains("BEGIN"));
    }
}
