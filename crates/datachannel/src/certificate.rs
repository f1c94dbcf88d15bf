//! The self-signed certificate that an edge is known by: made once, kept as PEM, recognised by its SHA-256.

use std::{fmt, sync::Arc};

use millstream_model::Fingerprint;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::signature::KeyPair as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::link::dtls;

/// The label of a PKCS#8 key in PEM (RFC 7468 §10).
const KEY_LABEL: &str = "PRIVATE KEY";

/// The label of a certificate in PEM (RFC 7468 §5).
const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// Name in the certificate. Nobody checks it: the fingerprint is the identity.
const SUBJECT: &str = "millstream";

/// Bytes of a certificate at most, so that a handshake's flight fits two datagrams. Ours have about 320.
const DER_BYTES_MAX: usize = 1_500;

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
    der: Arc<[u8]>,
    /// PKCS#8.
    key: Arc<[u8]>,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Makes a new key and certificate.
    ///
    /// # Errors
    ///
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CertificateError::new)?;
        // The least that a certificate may say: every byte of it is in the first flight of each handshake.
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, SUBJECT);
        let certificate = parameters.self_signed(&key).map_err(CertificateError::new)?;
        Self::new(certificate.der(), &key.serialize_der())
    }

    /// The private key (PKCS#8) followed by the certificate. A secret: store it readable by the owner only.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn to_pem(&self) -> Result<String, CertificateError> {
        let [key, der] = [(KEY_LABEL, &self.key), (CERTIFICATE_LABEL, &self.der)]
            .map(|(label, bytes)| pem::encode(&pem::Pem::new(label, bytes.to_vec())));
        Ok(key + &der)
    }

    /// Reads what [`Certificate::to_pem`] wrote.
    ///
    /// # Errors
    ///
    /// When the text is not a P-256 key in PKCS#8 followed by its certificate.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let blocks = pem::parse_many(text).map_err(CertificateError::new)?;
        match &blocks[..] {
            [key, der] if key.tag() == KEY_LABEL && der.tag() == CERTIFICATE_LABEL => {
                Self::new(der.contents(), key.contents())
            }
            _ => Err(CertificateError::new("not a private key followed by its certificate")),
        }
    }

    /// SHA-256 of the certificate in DER: `a=fingerprint:sha-256` of an SDP (RFC 8122).
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// In DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// In PKCS#8.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    fn new(der: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let pair =
            dtls::signing_key(key).ok_or_else(|| CertificateError::new("not a P-256 key in PKCS#8"))?;
        if dtls::public_key(der).map(|key| key.point) != Some(pair.public_key().as_ref()) {
            return Err(CertificateError::new("the certificate is not this key's"));
        }
        if der.len() > DER_BYTES_MAX {
            return Err(CertificateError::new("the certificate is too long"));
        }
        Ok(Self { der: der.into(), key: key.into(), fingerprint: fingerprint_of(der) })
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
