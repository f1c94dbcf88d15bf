//! The cryptography that the handshake engine `dimpl` asks for, by `ring`; and the one place where the secrets of a
//! handshake come out.
//!
//! The engine keeps its keys to itself, but derives them through an HMAC that we provide. In DTLS 1.2 the one call whose
//! input is "key expansion" and both random numbers has the master secret for its key (RFC 5246 §6.3); in DTLS 1.3 what
//! comes of a call that asks for a traffic secret by its label is that secret (RFC 8446 §7.1). [`take_secrets`] hands
//! over the last of them that were seen on this thread; engines are called from one thread and do not wait in between.

use std::cell::RefCell;

use aes::{
    Aes128,
    cipher::{BlockEncrypt as _, KeyInit as _},
};
use dimpl::{
    CryptoError, CryptoOperation,
    crypto::{
        Aad, ActiveKeyExchange, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite,
        HashAlgorithm, HashContext, HashProvider, HmacProvider, KeyProvider, NamedGroup, Nonce, SecureRandom,
        SignatureAlgorithm, SignatureVerifier, SigningKey, SupportedDtls12CipherSuite,
        SupportedDtls13CipherSuite, SupportedKxGroup, TmpBuf,
    },
};
use ring::{
    aead::{self, AES_128_GCM, LessSafeKey, UnboundKey},
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey},
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
    signature::{self, EcdsaKeyPair},
};

use super::{
    dtls12::keys::{KEY_EXPANSION, RANDOM_BYTES},
    dtls13::keys::{self, SECRET_BYTES, Secret},
    x509,
};

const TAG_BYTES: usize = 16;

/// What the keys of a connection are made of.
#[derive(Default)]
pub(super) struct Secrets {
    /// Of DTLS 1.2.
    pub(super) master: Option<Master>,
    /// Of DTLS 1.3, client's and server's: of the handshake.
    pub(super) handshake: [Option<Secret>; 2],
    /// And of application data.
    pub(super) application: [Option<Secret>; 2],
}

/// What the keys of DTLS 1.2 are made of.
pub(super) struct Master {
    pub(super) secret: Vec<u8>,
    pub(super) server_random: [u8; RANDOM_BYTES],
    pub(super) client_random: [u8; RANDOM_BYTES],
}

impl Secrets {
    /// Takes what has become known later.
    pub(super) fn merge(&mut self, later: Self) {
        self.master = later.master.or(self.master.take());
        let [handshake, application] =
            [(&mut self.handshake, later.handshake), (&mut self.application, later.application)];
        for (old, new) in [handshake, application] {
            for (old, new) in old.iter_mut().zip(new) {
                *old = new.or(old.take());
            }
        }
    }
}

thread_local! {
    static SECRETS: RefCell<Secrets> = RefCell::default();
}

/// The secrets of the handshake that was called last on this thread, those that the call derived.
pub(super) fn take_secrets() -> Secrets {
    SECRETS.take()
}

/// For the one suite of each version and the two groups that every browser offers.
pub(super) fn ring() -> CryptoProvider {
    CryptoProvider {
        kx_groups: &[&Group::X25519, &Group::P256],
        signature_verification: &Ring,
        key_provider: &Ring,
        secure_random: &Ring,
        hash_provider: &Ring,
        hmac_provider: &Ring,
        cipher_suites: &[&Ring],
        dtls13_cipher_suites: &[&Ring],
    }
}

#[derive(Debug)]
struct Ring;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    X25519,
    P256,
}

impl Group {
    fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &agreement::X25519,
            Self::P256 => &agreement::ECDH_P256,
        }
    }
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        match self {
            Self::X25519 => NamedGroup::X25519,
            Self::P256 => NamedGroup::Secp256r1,
        }
    }

    fn start_exchange(&self, _: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let failed = |operation| move |_| CryptoError::OperationFailed(operation);
        let private = EphemeralPrivateKey::generate(self.algorithm(), &SystemRandom::new())
            .map_err(failed(CryptoOperation::GenerateEphemeralKey))?;
        let public = private.compute_public_key().map_err(failed(CryptoOperation::ComputePublicKey))?;
        Ok(Box::new(Exchange { group: *self, private, public: public.as_ref().to_vec() }))
    }
}

#[derive(Debug)]
struct Exchange {
    group: Group,
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        let peer = UnparsedPublicKey::new(self.group.algorithm(), peer);
        // A share that yields nothing secret is refused in there (RFC 7748 §6.1).
        agreement::agree_ephemeral(self.private, &peer, |secret| {
            out.clear();
            out.extend_from_slice(secret);
        })
        .map_err(|_| CryptoError::InvalidPublicKey(self.group.name()))
    }

    fn group(&self) -> NamedGroup {
        self.group.name()
    }
}

impl SignatureVerifier for Ring {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        if algorithm != SignatureAlgorithm::ECDSA {
            return Err(CryptoError::UnsupportedSignatureAlgorithm(algorithm));
        }
        let key = x509::public_key(certificate).ok_or(CryptoError::CertificateParseFailed)?;
        let (group, scheme): (_, &signature::EcdsaVerificationAlgorithm) = match (key.curve, hash) {
            (x509::Curve::P256, HashAlgorithm::SHA256) => {
                (NamedGroup::Secp256r1, &signature::ECDSA_P256_SHA256_ASN1)
            }
            (x509::Curve::P256, HashAlgorithm::SHA384) => {
                (NamedGroup::Secp256r1, &signature::ECDSA_P256_SHA384_ASN1)
            }
            (x509::Curve::P384, HashAlgorithm::SHA256) => {
                (NamedGroup::Secp384r1, &signature::ECDSA_P384_SHA256_ASN1)
            }
            (x509::Curve::P384, HashAlgorithm::SHA384) => {
                (NamedGroup::Secp384r1, &signature::ECDSA_P384_SHA384_ASN1)
            }
            _ => return Err(CryptoError::UnsupportedSignatureAlgorithm(algorithm)),
        };
        signature::UnparsedPublicKey::new(scheme, key.point)
            .verify(data, signature)
            .map_err(|_| CryptoError::SignatureVerificationFailed { signature: algorithm, hash, group })
    }
}

/// Reads a P-256 key in PKCS#8.
pub(crate) fn signing_key(pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new()).ok()
}

impl KeyProvider for Ring {
    fn load_private_key(&self, pkcs8: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = signing_key(pkcs8).ok_or(CryptoError::InvalidPrivateKey)?;
        Ok(Box::new(Signer(key)))
    }
}

#[derive(Debug)]
struct Signer(EcdsaKeyPair);

impl SigningKey for Signer {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::SigningKeyHashMismatch {
                key_hash: HashAlgorithm::SHA256,
                requested: hash,
            });
        }
        let signature = self
            .0
            .sign(&SystemRandom::new(), data)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

impl SecureRandom for Ring {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new().fill(bytes).map_err(|_| CryptoError::OperationFailed(CryptoOperation::FillRandom))
    }
}

impl HashProvider for Ring {
    fn create_hash(&self, hash: HashAlgorithm) -> Box<dyn HashContext> {
        let is_long = hash == HashAlgorithm::SHA384;
        Box::new(Hash(digest::Context::new(if is_long { &digest::SHA384 } else { &digest::SHA256 })))
    }
}

struct Hash(digest::Context);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        out.clear();
        out.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

impl HmacProvider for Ring {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::UnsupportedHmacHash(hash));
        }
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
        let tag = tag.as_ref();
        note(key, data, tag);
        out.get_mut(..tag.len())
            .ok_or(CryptoError::OperationFailed(CryptoOperation::ComputeHmac))?
            .copy_from_slice(tag);
        Ok(tag.len())
    }
}

/// Keeps the secrets, if these are they.
fn note(key: &[u8], data: &[u8], tag: &[u8]) {
    let randoms = data.strip_prefix(KEY_EXPANSION).and_then(|rest| rest.split_first_chunk());
    if let Some((server_random, rest)) = randoms
        && let Ok(client_random) = rest.try_into()
    {
        let master = Master { secret: key.to_vec(), server_random: *server_random, client_random };
        SECRETS.with_borrow_mut(|secrets| secrets.master = Some(master));
        return;
    }
    let Some(secret) = tag.first_chunk::<SECRET_BYTES>() else { return };
    SECRETS.with_borrow_mut(|Secrets { handshake, application, .. }| {
        for (labels, secrets) in [(keys::HANDSHAKE, handshake), (keys::APPLICATION, application)] {
            for (label, place) in labels.into_iter().zip(secrets) {
                if keys::is_asked_for(label, data) {
                    *place = Some(Secret(*secret));
                }
            }
        }
    });
}

impl SupportedDtls12CipherSuite for Ring {
    fn suite(&self) -> Dtls12CipherSuite {
        Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, 16, 4)
    }

    fn explicit_nonce_len(&self) -> usize {
        8
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Aead::create(&AES_128_GCM, key)
    }
}

impl SupportedDtls13CipherSuite for Ring {
    fn suite(&self) -> Dtls13CipherSuite {
        Dtls13CipherSuite::AES_128_GCM_SHA256
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_len(&self) -> usize {
        16
    }

    fn iv_len(&self) -> usize {
        12
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Aead::create(&AES_128_GCM, key)
    }

    fn encrypt_sn(&self, key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let mut block = (*sample).into();
        if let Ok(cipher) = Aes128::new_from_slice(key) {
            cipher.encrypt_block(&mut block);
        }
        block.into()
    }
}

#[derive(Debug)]
struct Aead(LessSafeKey);

impl Aead {
    fn create(algorithm: &'static aead::Algorithm, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let key = UnboundKey::new(algorithm, key)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Self(LessSafeKey::new(key))))
    }
}

impl Cipher for Aead {
    fn encrypt(&mut self, text: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        self.0
            .seal_in_place_append_tag(nonce, aead::Aad::from(&aad.0), text)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Encrypt))
    }

    fn decrypt(&mut self, text: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let length = self
            .0
            .open_in_place(nonce, aead::Aad::from(&aad.0), text.as_mut())
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::Decrypt))?
            .len();
        text.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_are_seen_once_and_nothing_else_is_taken_for_them() {
        let is_empty = |secrets: Secrets| {
            let traffic = secrets.handshake.into_iter().chain(secrets.application);
            secrets.master.is_none() && traffic.flatten().count() == 0
        };
        let mut out = [0; 32];
        let randoms = [[1; RANDOM_BYTES], [2; RANDOM_BYTES]].concat();
        for other in [&[][..], b"key expansion", &[b"master secret", &randoms[..]].concat(), &[7; 77]] {
            Ring.hmac(HashAlgorithm::SHA256, b"m", other, &mut out).unwrap();
            assert!(is_empty(take_secrets()), "{other:?}");
        }
        let seed = [KEY_EXPANSION, &randoms].concat();
        Ring.hmac(HashAlgorithm::SHA256, b"master", &seed, &mut out).unwrap();
        let secrets = take_secrets().master.unwrap();
        assert_eq!(secrets.secret, b"master");
        assert_eq!((secrets.server_random, secrets.client_random), ([1; 32], [2; 32]));
        assert!(is_empty(take_secrets()));

        let mut asked = keys::info(keys::APPLICATION[1], SECRET_BYTES, &[3; 32]);
        asked.push(1);
        Ring.hmac(HashAlgorithm::SHA256, b"derived", &asked, &mut out).unwrap();
        let secrets = take_secrets();
        assert!(secrets.application[1] == Some(Secret(out)) && secrets.application[0].is_none());
        let mut merged = Secrets::default();
        merged.merge(secrets);
        merged.merge(take_secrets());
        assert!(merged.application[1].is_some(), "what is known is not forgotten");
    }
}
