//! One peer's DTLS and SCTP as a machine without socket and clock: datagrams and time go in, datagrams and messages
//! come out. The engines key their state by address, so each link has its own under a fixed pseudo-address.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use millstream_model::Fingerprint;
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto,
    crypto_provider::default_provider,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;
use sha2::{Digest as _, Sha256};

use super::{
    records,
    sctp::{Control, Sctp},
};

/// Our side and the peer in the engines' eyes, whatever the real addresses are.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
pub(super) const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

/// Wait for a flight of the handshake before it is sent again. RFC 6347 says 1 s; a viewer waits for its first picture.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// What all links share.
pub(super) struct Setup {
    handshake: Arc<HandshakeConfig>,
    /// SHA-256 of the certificate.
    pub(super) fingerprint: Fingerprint,
}

impl Setup {
    pub(super) fn new() -> anyhow::Result<Self> {
        let provider = default_provider()?;
        let certificate =
            crypto::Certificate::generate_self_signed(vec!["baseline".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().context("a certificate")?;
        let fingerprint = Fingerprint(Sha256::digest(der).into());
        let handshake = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            // No media will come; but browsers offer SRTP and fail when nothing of it is chosen.
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(FLIGHT_INTERVAL)
            .build(false, Some(PEER))?;
        Ok(Self { handshake: Arc::new(handshake), fingerprint })
    }
}

/// One peer.
pub(super) struct Link {
    dtls: Endpoint,
    sctp: Sctp,
    is_open: bool,
    /// The peer has returned a cookie: our flights have retransmission timers from here on.
    is_proven: bool,
    /// The newest handshake message of the peer seen, and the newest that we have answered.
    newest: Option<u16>,
    answered: Option<u16>,
    is_over: bool,
}

impl Link {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            dtls: Endpoint::new(LOCAL, TransportProtocol::UDP, Some(setup.handshake.clone())),
            sctp: Sctp::default(),
            is_open: false,
            is_proven: false,
            newest: None,
            answered: None,
            is_over: false,
        }
    }

    pub(super) fn handle(&mut self, datagram: &[u8], now: Instant) {
        if self.is_over || !self.admit(datagram) {
            return;
        }
        match self.dtls.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(events) => {
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => self.is_open = true,
                        EndpointEvent::ApplicationData(packet) if self.is_open => {
                            self.sctp.receive(packet.freeze(), now);
                        }
                        EndpointEvent::PeerClosed => self.is_over = true,
                        _ => {}
                    }
                }
            }
            // In an open link an error says only that this datagram was nothing.
            Err(_) => self.is_over |= !self.is_open,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.dtls.poll_timeout(&PEER), self.sctp.next_timeout()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.dtls.poll_timeout(&PEER).is_some_and(|at| at <= now) {
            self.is_over |= self.dtls.handle_timeout(PEER, now).is_err();
        }
        self.sctp.handle_timeout(now);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over || self.sctp.is_over()
    }

    pub(super) fn write(&mut self, piece: Bytes) {
        self.sctp.write(piece);
    }

    /// Bytes of pieces that the peer has not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.sctp.unacknowledged()
    }

    /// The next message on the control channel.
    pub(super) fn read(&mut self, now: Instant) -> Option<Control> {
        self.sctp.read(now)
    }

    /// Hands every datagram that may leave now to `send`.
    pub(super) fn transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if self.is_open && !self.is_over {
            let Self { dtls, sctp, is_over, .. } = self;
            sctp.transmit(now, &mut |packet| *is_over |= dtls.write(now, PEER, packet).is_err());
        }
        while let Some(transmit) = self.dtls.poll_transmit() {
            self.answered = self.newest;
            self.is_proven |=
                records::scan(&transmit.message).is_some_and(|records| !records.is_cookie_request);
            send(&transmit.message);
        }
    }

    /// The engine forgets its retransmission timer when a flight comes again that it has answered; when the answer was
    /// lost, both sides would wait for ever. Without the copy its timer sends the answer again. Not so before the
    /// cookie: that answer has no timer, and a copy calls for it.
    fn admit(&mut self, datagram: &[u8]) -> bool {
        let Some(records) = records::scan(datagram) else { return false };
        if let (false, Some(newest)) = (self.is_open, records.newest_message) {
            let is_copy = records.is_all_in_clear && self.answered.is_some_and(|last| newest <= last);
            if is_copy && self.is_proven {
                return false;
            }
            self.newest = self.newest.max(Some(newest));
        }
        true
    }
}
