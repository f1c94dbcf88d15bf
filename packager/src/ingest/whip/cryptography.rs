//! The cryptography that `str0m` asks for: ring's AES-GCM and RustCrypto's AES-CM for media, the handshakes' engine and
//! cryptography of `millstream-datachannel`. Its own providers would build a C library for minutes.
//!
//! What never belongs here: protocols; what is sealed.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use aes::{
    Aes128, Aes256,
    cipher::{BlockEncrypt as _, KeyInit as _, generic_array::GenericArray},
};
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use millstream_datachannel::{Certificate, CertificateError, dtls};
use ring::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider,
    Sha1HmacProvider, Sha1Provider, Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
    dtls::{DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion},
};

/// Bytes of a tag of AES-GCM.
const TAG_BYTES: usize = 16;

/// What every publisher is shown: made once, for the answer names its fingerprint anyway.
struct Identity {
    certificate: Certificate,
    setup: dtls::Setup,
}

static IDENTITY: OnceLock<Identity> = OnceLock::new();

/// What `str0m` is given, and the certificate that goes with it.
///
/// # Errors
/// When the system gives no randomness, or the handshakes' engine finds its cryptography wanting.
pub(super) fn provider() -> Result<(Arc<CryptoProvider>, DtlsCert), CertificateError> {
    let identity = match IDENTITY.get() {
        Some(identity) => identity,
        None => {
            let certificate = Certificate::generate()?;
            let setup = dtls::Setup::new(&certificate)?;
            IDENTITY.get_or_init(|| Identity { certificate, setup })
        }
    };
    let provider = CryptoProvider {
        srtp_provider: &Ours,
        sha1_hmac_provider: &Ours,
        sha1_provider: &Ours,
        sha256_provider: &Ours,
        dtls_provider: &Ours,
    };
    // The key stays with the engine's set-up: nothing else signs.
    let shown = DtlsCert { certificate: identity.certificate.der().to_vec(), private_key: Vec::new() };
    Ok((Arc::new(provider), shown))
}

#[derive(Debug)]
struct Ours;

impl Sha1HmacProvider for Ours {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
        for payload in payloads {
            context.update(payload);
        }
        let mut tag = [0; 20];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl Sha1Provider for Ours {
    fn sha1(&self, data: &[u8]) -> [u8; 20] {
        Sha1::digest(data).into()
    }
}

impl Sha256Provider for Ours {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }
}

impl DtlsProvider for Ours {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        provider().ok().map(|(_, certificate)| certificate)
    }

    fn new_dtls(
        &self,
        _: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        _: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let identity = IDENTITY.get().ok_or_else(|| failed("no certificate"))?;
        Ok(Box::new(Engine(identity.setup.engine(now))))
    }
}

struct Engine(dimpl::Dtls);

impl fmt::Debug for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Engine")
    }
}

impl DtlsInstance for Engine {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buf)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

impl SrtpProvider for Ours {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Ours
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Ours
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Ours
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        if let Ok(cipher) = Aes128::new_from_slice(key) {
            blocks(input, output, |block| cipher.encrypt_block(block));
        }
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        if let Ok(cipher) = Aes256::new_from_slice(key) {
            blocks(input, output, |block| cipher.encrypt_block(block));
        }
    }
}

/// Encrypts what whole blocks there are, each by itself.
fn blocks(input: &[u8], output: &mut [u8], encrypt: impl Fn(&mut aes::Block)) {
    for (from, to) in input.chunks_exact(16).zip(output.chunks_exact_mut(16)) {
        let mut block = *GenericArray::from_slice(from);
        encrypt(&mut block);
        to.copy_from_slice(&block);
    }
}

impl SupportedAes128CmSha1_80 for Ours {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(Counter { key })
    }
}

/// AES in counter mode (RFC 3711 §4.1.1).
struct Counter {
    key: [u8; 16],
}

impl fmt::Debug for Counter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Counter")
    }
}

impl Aes128CmSha1_80Cipher for Counter {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let output = output.get_mut(..input.len()).ok_or_else(|| failed("no room"))?;
        let mut cipher = ctr::Ctr128BE::<Aes128>::new(&self.key.into(), iv.into());
        cipher.apply_keystream_b2b(input, output).map_err(|_| failed("too long"))
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

impl SupportedAeadAes128Gcm for Ours {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Gcm::new(&AES_128_GCM, &key))
    }
}

impl SupportedAeadAes256Gcm for Ours {
    fn create_cipher(&self, key: [u8; 32], _: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Gcm::new(&AES_256_GCM, &key))
    }
}

/// AES-GCM (RFC 7714).
struct Gcm(Option<LessSafeKey>);

impl fmt::Debug for Gcm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Gcm")
    }
}

impl Gcm {
    fn new(algorithm: &'static Algorithm, key: &[u8]) -> Self {
        Self(UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new))
    }

    fn key(&self) -> Result<&LessSafeKey, CryptoError> {
        self.0.as_ref().ok_or_else(|| failed("no key"))
    }

    fn seal(&self, iv: [u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let (text, rest) = output.split_at_mut_checked(input.len()).ok_or_else(|| failed("no room"))?;
        let place = rest.get_mut(..TAG_BYTES).ok_or_else(|| failed("no room"))?;
        text.copy_from_slice(input);
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self.key()?.seal_in_place_separate_tag(nonce, Aad::from(aad), text);
        place.copy_from_slice(tag.map_err(|_| failed("not sealed"))?.as_ref());
        Ok(())
    }

    fn open(
        &self,
        iv: [u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let mut text = input.to_vec();
        let nonce = Nonce::assume_unique_for_key(iv);
        let opened = self.key()?.open_in_place(nonce, Aad::from(aads.concat()), &mut text);
        let opened = opened.map_err(|_| failed("not authentic"))?;
        output.get_mut(..opened.len()).ok_or_else(|| failed("no room"))?.copy_from_slice(opened);
        Ok(opened.len())
    }
}

impl AeadAes128GcmCipher for Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(*iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(*iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(*iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(*iv, aads, input, output)
    }
}

fn failed(what: &str) -> CryptoError {
    CryptoError::Other(what.to_owned())
}
