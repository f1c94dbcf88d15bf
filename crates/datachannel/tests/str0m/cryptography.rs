//! The cryptography that `str0m` asks for, by what this crate has anyway: its own providers build a C library for
//! minutes. The DTLS engine is the one that is inside `str0m` and under our handshakes both; what it seals here are its
//! own records, not ours. Media is never encrypted, because there is none.

use std::{sync::OnceLock, time::Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use millstream_datachannel::{Certificate, dtls};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use str0m::crypto::{
    AeadAes256GcmCipher, CryptoError, CryptoProvider, Sha1HmacProvider, Sha1Provider, Sha256Provider,
    SrtpProvider, SupportedAeadAes128Gcm, SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
    dtls::{DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion},
};

pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        srtp_provider: &Ours,
        sha1_hmac_provider: &Ours,
        sha1_provider: &Ours,
        sha256_provider: &Ours,
        dtls_provider: &Ours,
    }
}

/// What every page shows.
fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::generate().unwrap())
}

#[derive(Debug)]
struct Ours;

impl Sha1HmacProvider for Ours {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let mut hmac = Hmac::<Sha1>::new_from_slice(key).unwrap();
        for payload in payloads {
            hmac.update(payload);
        }
        hmac.finalize().into_bytes().into()
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
        let pem = pem::parse_many(certificate().to_pem().unwrap()).unwrap();
        let of = |tag: &str| pem.iter().find(|block| block.tag() == tag).unwrap().contents().to_vec();
        Some(DtlsCert { certificate: of("CERTIFICATE"), private_key: of("PRIVATE KEY") })
    }

    fn new_dtls(
        &self,
        _: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        _: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        Ok(Box::new(Engine(dtls::Setup::new(certificate()).unwrap().engine(now))))
    }
}

struct Engine(dimpl::Dtls);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
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
        unreachable!("no media")
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        unreachable!("no media")
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Ours
    }

    fn srtp_aes_128_ecb_round(&self, _: &[u8], _: &[u8], _: &mut [u8]) {
        unreachable!("no media")
    }

    // Keys for media are derived whether there is any or not: nothing is ever sealed with them.
    fn srtp_aes_256_ecb_round(&self, _: &[u8], _: &[u8], _: &mut [u8]) {}
}

impl SupportedAeadAes256Gcm for Ours {
    fn create_cipher(&self, _: [u8; 32], _: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Ours)
    }
}

impl AeadAes256GcmCipher for Ours {
    fn encrypt(&mut self, _: &[u8; 12], _: &[u8], _: &[u8], _: &mut [u8]) -> Result<(), CryptoError> {
        unreachable!("no media")
    }

    fn decrypt(&mut self, _: &[u8; 12], _: &[&[u8]], _: &[u8], _: &mut [u8]) -> Result<usize, CryptoError> {
        unreachable!("no media")
    }
}
