//! Signing and checking: one envelope for everything that is signed.
//!
//! A signature covers a tag that names the kind of object, a context that is not transmitted (the stream, where
//! an object belongs to one), and the object's bytes. So a signature never means anything in another place than
//! the one it was made for. `docs/protocol/signing.md` is the normative text.

use alloc::vec::Vec;

use bytes::Bytes;
use millstream_model::{Hash, PublicKey, StreamId, base64url, from_base64url};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::codec::{self, Reader, Writer};

mod session;

pub use session::{SessionSecret, SessionVerifier};

/// Bytes of a signature, of either kind.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes of a signed object at most, signature included: the longest catalog, and what a frame has room for.
pub const OBJECT_BYTES_MAX: usize = 64 * 1024;

/// Why a signed object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The bytes are no such object.
    #[error("malformed: {0}")]
    Malformed(#[from] codec::Error),
    /// The key is not a point of its curve.
    #[error("the key is not a valid public key")]
    Key,
    /// The signature was not made by this key over these bytes in this context.
    #[error("the signature does not fit the key, the object or the stream")]
    Signature,
}

/// A key that checks signatures.
pub trait VerifyKey {
    /// The public key as it is sent: what names the kind of key in [`Body::Key`].
    type Public;

    /// True when `signature` over `message` was made by this key's secret half.
    ///
    /// # Errors
    /// [`Error::Key`] or [`Error::Signature`].
    fn check(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Error>;
}

impl VerifyKey for PublicKey {
    type Public = Self;

    /// Ed25519, strict: small-order keys and non-canonical encodings are refused, so that all implementations
    /// agree (RFC 8032 §8, "Taming the many EdDSAs").
    fn check(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Error> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| Error::Key)?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(message, &signature).map_err(|_| Error::Signature)
    }
}

/// A key that makes signatures for objects whose [`Body::Key`] is its public half.
pub trait Signer {
    /// The public half.
    type Public: VerifyKey;

    /// The public half.
    fn public(&self) -> Self::Public;

    /// Signs `message`. Deterministic: no randomness is taken.
    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES];
}

/// The secret half of a [`PublicKey`] (Ed25519).
#[derive(Clone)]
pub struct SecretKey(ed25519_dalek::SigningKey);

impl SecretKey {
    /// The key that grows from 32 secret random bytes (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The bytes it grew from: what is stored, and exported for a root key.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl Signer for SecretKey {
    type Public = PublicKey;

    fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        use ed25519_dalek::Signer as _;
        self.0.sign(message).to_bytes()
    }
}

/// An object that is signed: its tag, its bytes and the kind of key that signs it.
pub trait Body: Sized {
    /// Names the kind of object in what is signed, for ever.
    const TAG: &'static str;

    /// The kind of key that signs it.
    type Key: VerifyKey;

    /// Writes the object.
    fn write(&self, writer: &mut Writer);

    /// Reads what [`Body::write`] wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn read(reader: &mut Reader) -> Result<Self, codec::Error>;
}

/// What a signature is about besides the object itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context<'a> {
    /// Nothing more: the object names everything it belongs to.
    None,
    /// The stream the object belongs to, which it does not name.
    Stream(&'a StreamId),
}

/// An object with its signature, kept as the very bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    bytes: Bytes,
    object: T,
}

impl<T: Body> Signed<T> {
    /// Signs `object`.
    pub fn new<S: Signer<Public = T::Key>>(object: T, context: Context<'_>, signer: &S) -> Self {
        let message = signing_input(&object, context);
        let signature = signer.sign(&message);
        Self::assemble(object, &signature)
    }

    /// Joins `object` with a signature that was made elsewhere over [`signing_input`] (a browser's WebCrypto).
    #[must_use]
    pub fn assemble(object: T, signature: &[u8; SIGNATURE_BYTES]) -> Self {
        let mut writer = Writer::default();
        object.write(&mut writer);
        writer.raw(signature);
        Self { bytes: writer.finish(), object }
    }

    /// Reads an object and its signature, without checking the signature.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: Bytes) -> Result<Self, codec::Error> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(too_long(bytes.len(), OBJECT_BYTES_MAX));
        }
        let body = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(codec::Error::Short("signature"))?;
        let mut reader = Reader::new(bytes.slice(..body));
        let object = T::read(&mut reader)?;
        reader.end()?;
        Ok(Self { bytes, object })
    }

    /// The encoded form: the object's bytes, then 64 bytes of signature.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The object, for choosing the key that [`Signed::verify`] needs. Nothing else may believe it yet.
    #[must_use]
    pub const fn unverified(&self) -> &T {
        &self.object
    }

    /// The object, once `key` is shown to have signed it in `context`. `key` is a [`Body::Key`], or what was made of one
    /// to check many signatures.
    ///
    /// # Errors
    /// [`Error::Key`] or [`Error::Signature`].
    pub fn verify<K: VerifyKey<Public = T::Key>>(&self, key: &K, context: Context<'_>) -> Result<&T, Error> {
        let (body, signature) = self.bytes.split_at(self.bytes.len() - SIGNATURE_BYTES);
        let signature = signature.try_into().map_err(|_| Error::Signature)?;
        key.check(&message(T::TAG, context, body), signature)?;
        Ok(&self.object)
    }

    /// SHA-256 of the object's bytes, signature left out: what the next link of a chain names.
    #[must_use]
    pub fn digest(&self) -> Hash {
        sha256(&self.bytes[..self.bytes.len() - SIGNATURE_BYTES])
    }
}

/// The bytes that a signature of `object` is made over.
pub fn signing_input<T: Body>(object: &T, context: Context<'_>) -> Vec<u8> {
    let mut writer = Writer::default();
    object.write(&mut writer);
    message(T::TAG, context, &writer.finish())
}

fn message(tag: &str, context: Context<'_>, body: &[u8]) -> Vec<u8> {
    let context = match context {
        Context::None => &[],
        Context::Stream(stream) => stream.as_str().as_bytes(),
    };
    let mut writer = Writer::with_capacity(tag.len() + context.len() + body.len() + 16);
    writer.bytes(tag.as_bytes());
    writer.bytes(context);
    writer.raw(body);
    writer.into_vec()
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// Text form of a signed object, for JSON and HTTP headers: base64url without padding.
impl<T> core::fmt::Display for Signed<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&base64url(&self.bytes))
    }
}

/// The longest text form read: base64url makes four characters of three bytes.
const TEXT_BYTES_MAX: usize = (OBJECT_BYTES_MAX * 4).div_ceil(3);

const fn too_long(got: usize, max: usize) -> codec::Error {
    codec::Error::Over { what: "signed object", got: got as u64, max: max as u64 }
}

impl<T: Body> core::str::FromStr for Signed<T> {
    type Err = codec::Error;

    fn from_str(text: &str) -> Result<Self, codec::Error> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_long(text.len(), TEXT_BYTES_MAX));
        }
        let bytes = from_base64url(text).map_err(|_| codec::Error::Text("signed object"))?;
        Self::decode(Bytes::from(bytes))
    }
}

impl<T> serde::Serialize for Signed<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Body> serde::Deserialize<'de> for Signed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <alloc::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
