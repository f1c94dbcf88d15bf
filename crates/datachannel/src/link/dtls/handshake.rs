//! The handshake of one peer, by the engine `rtc-dtls`, until it is through and its secrets are ours. Nothing outside
//! this file knows the engine.
//!
//! What the engine does not do, or does in a way that a stranger could abuse, is done around it: handshakes are bounded
//! in bytes, records that belong to the open connection do not reach it, and it is dropped as soon as there are keys.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use millstream_model::Fingerprint;
use rtc_dtls::{
    cipher_suite::CipherSuiteId,
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
    state::State,
};
use rtc_shared::{TransportProtocol, error::Error as EngineError};

use super::{
    Ended,
    keys::{Keys, RANDOM_BYTES},
    record::{Opener, Sealer},
};
use crate::{
    Certificate, CertificateError,
    certificate::{fingerprint_of, provider},
    link::records::{self, APPLICATION_DATA, HANDSHAKE, HEADER_BYTES},
};

/// Our side and the peer in the engine's eyes, whatever the real addresses are.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

/// Bytes of handshake records taken from a peer. A browser's handshake is about 4 KB, its ClientHello 1.5 KB each
/// time; this leaves room for repetitions. The engine buffers two megabytes of pieces of handshake messages, and
/// walks them by recursion.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Bytes of encrypted records kept until there are keys for them, when the peer's last flight is overtaken: its
/// first packets. More is dropped, and comes again.
const EARLY_BYTES_MAX: usize = 8 * 1024;

/// Wait for a flight of the handshake before it is sent again. RFC 6347 says 1 s; a viewer waits for its first picture.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// What the engine needs to know, for any number of handshakes.
pub(super) fn config(
    certificate: &Certificate,
    is_client: bool,
) -> Result<Arc<HandshakeConfig>, CertificateError> {
    ConfigBuilder::default()
        .with_crypto_provider(provider()?)
        .with_certificates(vec![certificate.engine()])
        // WebRTC's mandatory suite (RFC 8827 §6.5) and the cheapest: the one that our records know.
        .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
        // No media will come; but browsers offer SRTP and fail when nothing of it is chosen.
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ])
        // Self-signed on both sides: proof of possession is checked, fingerprints are compared above us.
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .with_flight_interval(FLIGHT_INTERVAL)
        .build(is_client, Some(PEER))
        .map(Arc::new)
        .map_err(CertificateError::new)
}

/// A handshake under way.
pub(super) struct Handshake {
    engine: Endpoint,
    is_server: bool,
    handshake_bytes: usize,
    is_proven: bool,
    /// The newest handshake message of the peer seen, and the newest that we have answered.
    newest: Option<u16>,
    answered: Option<u16>,
    early: Vec<Vec<u8>>,
    early_bytes: usize,
    sent: Sent,
}

/// What the engine has sent, as far as whoever goes on after it must know.
#[derive(Default)]
struct Sent {
    /// The first sequence numbers of both epochs that it has not used.
    next: [u64; 2],
    /// The explicit nonces that it has used.
    nonces: Vec<u64>,
    /// Its newest encrypted handshake record: our Finished.
    finished: Option<Vec<u8>>,
}

/// What a datagram or a timer has made of a handshake.
pub(super) enum Progress {
    Waiting,
    /// The peer holds a certificate and we its keys: call [`Handshake::finish`].
    Done,
    Failed(Ended),
}

/// What is left of a handshake that is through.
pub(super) struct Outcome {
    pub(super) peer: Fingerprint,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    /// Our Finished in clear, if the peer may ask for it again, and the next sequence number of epoch 0.
    pub(super) last_flight: Option<(Vec<u8>, u64)>,
    /// Datagrams that the engine still wanted to send.
    pub(super) unsent: Vec<Vec<u8>>,
    /// Encrypted records that came before the keys, those of the handshake too.
    pub(super) early: Vec<Vec<u8>>,
}

impl Handshake {
    pub(super) fn server(config: &Arc<HandshakeConfig>) -> Self {
        Self::new(Endpoint::new(LOCAL, TransportProtocol::UDP, Some(config.clone())), true)
    }

    /// None when the system has no randomness.
    pub(super) fn client(config: &Arc<HandshakeConfig>, now: Instant) -> Option<Self> {
        let mut engine = Endpoint::new(LOCAL, TransportProtocol::UDP, None);
        engine.connect(now, PEER, config.clone(), None).ok()?;
        Some(Self::new(engine, false))
    }

    fn new(engine: Endpoint, is_server: bool) -> Self {
        Self {
            engine,
            is_server,
            handshake_bytes: 0,
            is_proven: false,
            newest: None,
            answered: None,
            early: Vec::new(),
            early_bytes: 0,
            sent: Sent::default(),
        }
    }

    pub(super) fn handle(&mut self, datagram: &[u8], now: Instant) -> Progress {
        let Some(seen) = records::scan(datagram) else { return Progress::Waiting };
        self.handshake_bytes += seen.handshake_bytes;
        if self.handshake_bytes > HANDSHAKE_BYTES_MAX {
            return Progress::Failed(Ended::Misbehaviour("a handshake that is too long"));
        }
        if let Some(newest) = seen.newest_message {
            // The engine forgets its retransmission timer when a flight comes again that it has answered; when the
            // answer was lost, both sides would wait for ever. Without the copy its timer sends the answer again.
            // Not so before the cookie: that answer has no timer, and a copy calls for it.
            if seen.is_all_in_clear
                && self.is_past_cookie()
                && self.answered.is_some_and(|last| newest <= last)
            {
                return Progress::Waiting;
            }
            self.newest = self.newest.max(Some(newest));
        }
        let ours = self.sift(datagram);
        if ours.is_empty() {
            return Progress::Waiting;
        }
        match self.engine.read(now, PEER, None, ours) {
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) => {
                Progress::Done
            }
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) => {
                Progress::Failed(Ended::Peer)
            }
            Ok(_) => Progress::Waiting,
            Err(EngineError::ErrAlertFatalOrClose) => Progress::Failed(Ended::Peer),
            Err(_) => Progress::Failed(Ended::Misbehaviour("the DTLS handshake failed")),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout(&PEER)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Progress {
        let is_due = self.next_timeout().is_some_and(|at| at <= now);
        if is_due && self.engine.handle_timeout(PEER, now).is_err() {
            return Progress::Failed(Ended::Misbehaviour("the DTLS handshake was not answered"));
        }
        Progress::Waiting
    }

    /// The peer has returned a cookie: it is where it says.
    pub(super) const fn is_proven(&self) -> bool {
        self.is_proven
    }

    pub(super) fn transmit(&mut self, send: &mut dyn FnMut(&[u8])) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.answered = self.newest;
            self.is_proven |=
                records::scan(&transmit.message).is_some_and(|records| !records.is_cookie_request);
            self.sent.note(&transmit.message);
            send(&transmit.message);
        }
    }

    /// Gives up, and lets the engine say so to the peer. Nothing else may be called after it.
    pub(super) fn stop(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.engine.stop(now, PEER);
        self.drain()
    }

    /// Takes what the open connection needs out of the engine. None when that is not what it should be, which no peer
    /// can bring about.
    pub(super) fn finish(&mut self) -> Option<Outcome> {
        let unsent = self.drain();
        let state = self.engine.get_connection_state(PEER)?;
        let peer = fingerprint_of(state.peer_certificates.first()?);
        let keys = keys(state)?;
        let (ours, theirs) =
            if self.is_server { (keys.server, keys.client) } else { (keys.client, keys.server) };
        let Sent { next: [next_in_clear, next], nonces, finished } = std::mem::take(&mut self.sent);
        let mut finished = finished?;
        // Only the server's last flight may be asked for again: whoever has it has answered all of the client's.
        let last_flight = if self.is_server {
            let (_, _, message) = ours.open(&mut finished)?;
            Some((message.to_vec(), next_in_clear))
        } else {
            None
        };
        Some(Outcome {
            peer,
            sealer: Sealer::new(ours, next, nonces),
            opener: Opener::new(theirs),
            last_flight,
            unsent,
            early: std::mem::take(&mut self.early),
        })
    }

    /// Our flights have retransmission timers from here on.
    const fn is_past_cookie(&self) -> bool {
        self.is_proven || !self.is_server
    }

    /// Keeps the encrypted records of a datagram. Gives what is the engine's: all but application data and alerts,
    /// which belong to the connection that is not open yet.
    fn sift(&mut self, datagram: &[u8]) -> BytesMut {
        let mut ours = BytesMut::with_capacity(datagram.len());
        for record in records::each(datagram) {
            if record.epoch == 0 || record.kind < records::ALERT || record.kind == HANDSHAKE {
                ours.extend_from_slice(record.bytes);
            }
            if record.epoch != 0
                && matches!(record.kind, records::ALERT..=APPLICATION_DATA)
                && self.early_bytes + record.bytes.len() <= EARLY_BYTES_MAX
            {
                self.early_bytes += record.bytes.len();
                self.early.push(record.bytes.to_vec());
            }
        }
        ours
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        self.transmit(&mut |datagram| datagrams.push(datagram.to_vec()));
        datagrams
    }
}

impl Sent {
    fn note(&mut self, datagram: &[u8]) {
        for record in records::each(datagram) {
            let Some(next) = self.next.get_mut(usize::from(record.epoch)) else { continue };
            *next = (*next).max(record.number + 1);
            if record.epoch == 1 {
                self.nonces.extend(explicit_nonce(record.bytes));
                if record.kind == HANDSHAKE {
                    self.finished = Some(record.bytes.to_vec());
                }
            }
        }
    }
}

fn explicit_nonce(record: &[u8]) -> Option<u64> {
    record.get(HEADER_BYTES..)?.first_chunk().copied().map(u64::from_be_bytes)
}

/// What the engine exports of an association, in its order: the only way to its secrets.
#[derive(rkyv::Archive, rkyv::Deserialize)]
struct Exported {
    _local_epoch: u16,
    _remote_epoch: u16,
    local_random: [u8; RANDOM_BYTES],
    remote_random: [u8; RANDOM_BYTES],
    cipher_suite: u16,
    master_secret: Vec<u8>,
    _sequence_number: u64,
    _srtp_protection_profile: u16,
    _peer_certificates: Vec<Vec<u8>>,
    _identity_hint: Vec<u8>,
    is_client: bool,
}

fn keys(state: &State) -> Option<Keys> {
    let bytes = state.marshal_binary().ok()?;
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(&bytes);
    let exported = rkyv::from_bytes::<Exported, rkyv::rancor::Error>(&aligned).ok()?;
    if exported.cipher_suite != CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256 as u16 {
        return None;
    }
    let (client, server) = if exported.is_client {
        (&exported.local_random, &exported.remote_random)
    } else {
        (&exported.remote_random, &exported.local_random)
    };
    Keys::expand(&exported.master_secret, client, server)
}
