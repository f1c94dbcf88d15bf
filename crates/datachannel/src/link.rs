//! One peer's DTLS and SCTP as a machine without socket and clock: datagrams and time go in, datagrams and
//! messages come out. Built on the engines `rtc-dtls` and `rtc-sctp`; nothing outside this folder knows them.
//!
//! The caller authenticates addresses and moves datagrams; this knows no address at all. Each link has DTLS and SCTP
//! endpoints of its own under a fixed pseudo-address, because the engines key their state by address.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use millstream_model::Fingerprint;
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::{TransportProtocol, error::Error as EngineError};

use crate::{
    Certificate, CertificateError,
    certificate::{fingerprint_of, provider},
    connection::{CLOSE_LINGER, Channel, CloseReason, Message, Stats},
};

mod allowance;
pub(crate) mod records;
mod screen;
mod sctp;

pub(crate) use sctp::Released;
use sctp::Sctp;

/// Our side and the peer in the engines' eyes, whatever the real addresses are.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

/// Bytes of handshake records taken from a peer in a link's life. A browser's handshake is about 4 KB, its ClientHello
/// 1.5 KB each time; this leaves room for repetitions. The engine buffers two megabytes of pieces of handshake
/// messages, and walks them by recursion.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Datagrams with application data kept by the engine before the handshake is through, when the peer's last flight
/// is overtaken.
const EARLY_DATAGRAMS_MAX: usize = 16;

/// Wait for a flight of the handshake before it is sent again. RFC 6347 says 1 s; a viewer waits for its first picture.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// What every link of one listener or dialler shares.
#[derive(Clone)]
pub(crate) struct Setup {
    handshake: Arc<HandshakeConfig>,
    receive_window_bytes: u32,
}

impl Setup {
    pub(crate) fn server(
        certificate: &Certificate,
        receive_window_bytes: u32,
    ) -> Result<Self, CertificateError> {
        Self::new(certificate, receive_window_bytes, false)
    }

    pub(crate) fn client(
        certificate: &Certificate,
        receive_window_bytes: u32,
    ) -> Result<Self, CertificateError> {
        Self::new(certificate, receive_window_bytes, true)
    }

    fn new(
        certificate: &Certificate,
        receive_window_bytes: u32,
        is_client: bool,
    ) -> Result<Self, CertificateError> {
        let handshake = ConfigBuilder::default()
            .with_crypto_provider(provider()?)
            .with_certificates(vec![certificate.engine()])
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
            .map_err(CertificateError::new)?;
        Ok(Self { handshake: Arc::new(handshake), receive_window_bytes })
    }
}

/// One peer.
pub(crate) struct Link {
    dtls: Endpoint,
    sctp: Sctp,
    is_server: bool,
    /// The client's: the only certificate it takes.
    expected: Option<Fingerprint>,
    /// The peer's certificate, once it has proved to hold its key.
    fingerprint: Option<Fingerprint>,
    handshake_bytes: usize,
    early_datagrams: usize,
    is_proven: bool,
    /// The newest handshake message of the peer seen, and the newest that we have answered.
    newest: Option<u16>,
    answered: Option<u16>,
    /// We are closing: since then, what is buffered may still be acknowledged.
    closing: Option<Instant>,
    ended: Option<Ended>,
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// For the reason that handles are told.
    Closed(CloseReason),
    /// The peer's certificate is not the expected one.
    WrongCertificate,
}

impl Link {
    pub(crate) fn server(setup: &Setup) -> Self {
        let dtls = Endpoint::new(LOCAL, TransportProtocol::UDP, Some(setup.handshake.clone()));
        Self::new(dtls, setup, None)
    }

    /// Starts the handshake with a peer that must show `expected`.
    pub(crate) fn client(setup: &Setup, expected: Fingerprint, now: Instant) -> Self {
        let dtls = Endpoint::new(LOCAL, TransportProtocol::UDP, None);
        let mut link = Self::new(dtls, setup, Some(expected));
        if link.dtls.connect(now, PEER, setup.handshake.clone(), None).is_err() {
            link.end(CloseReason::Misbehaviour("DTLS did not start"));
        }
        link
    }

    fn new(dtls: Endpoint, setup: &Setup, expected: Option<Fingerprint>) -> Self {
        Self {
            dtls,
            sctp: Sctp::new(setup.receive_window_bytes),
            is_server: expected.is_none(),
            expected,
            fingerprint: None,
            handshake_bytes: 0,
            early_datagrams: 0,
            is_proven: false,
            newest: None,
            answered: None,
            closing: None,
            ended: None,
        }
    }

    /// Takes a datagram. Says whether it was authentic: made by the peer of this link, and new.
    pub(crate) fn handle(&mut self, datagram: &[u8], now: Instant) -> bool {
        if self.ended.is_some() || !self.admit(datagram) {
            return false;
        }
        let mut authentic = false;
        match self.dtls.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(events) => {
                for event in events {
                    authentic = true;
                    match event {
                        EndpointEvent::HandshakeComplete => self.shake_hands(now),
                        EndpointEvent::ApplicationData(packet) if self.fingerprint.is_some() => {
                            self.sctp.receive(packet.freeze(), self.is_server, now);
                        }
                        EndpointEvent::PeerClosed => self.end(CloseReason::Peer),
                        _ => {}
                    }
                }
            }
            Err(EngineError::ErrAlertFatalOrClose) => self.end(CloseReason::Peer),
            // In an open link an error says only that this datagram was nothing; anybody can send such.
            Err(_) if self.fingerprint.is_some() => {}
            Err(_) => self.end(CloseReason::Misbehaviour("the DTLS handshake failed")),
        }
        self.settle();
        authentic
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let linger = self.closing.map(|since| since + CLOSE_LINGER);
        [self.dtls.poll_timeout(&PEER), self.sctp.next_timeout(), linger].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        if self.dtls.poll_timeout(&PEER).is_some_and(|at| at <= now)
            && self.dtls.handle_timeout(PEER, now).is_err()
        {
            self.end(CloseReason::Misbehaviour("the DTLS handshake was not answered"));
        }
        self.sctp.handle_timeout(now);
        self.settle();
    }

    /// Both channels are ready, with the holder of this certificate.
    pub(crate) fn open(&self) -> Option<Fingerprint> {
        self.fingerprint.filter(|_| self.sctp.is_open() && self.ended.is_none())
    }

    /// The peer has returned a cookie: it is where it says.
    pub(crate) const fn is_proven(&self) -> bool {
        self.is_proven
    }

    pub(crate) const fn ended(&self) -> Option<Ended> {
        self.ended
    }

    pub(crate) fn write(&mut self, channel: Channel, bytes: Bytes) {
        if self.ended.is_none() && self.closing.is_none() {
            self.sctp.write(channel, bytes);
        }
    }

    /// The next whole message; leave it for later and the peer's window closes.
    pub(crate) fn read(&mut self, now: Instant) -> Option<Message> {
        let message = self.sctp.read(now);
        self.settle();
        message
    }

    pub(crate) fn take_released(&mut self, channel: Channel) -> Released {
        self.sctp.take_released(channel)
    }

    pub(crate) const fn stats(&self) -> Stats {
        self.sctp.stats()
    }

    /// Ends the link when the peer has everything, or after [`CLOSE_LINGER`].
    pub(crate) fn close(&mut self, now: Instant) {
        self.closing.get_or_insert(now);
    }

    /// Ends the link and says so to the peer.
    pub(crate) fn abort(&mut self, reason: CloseReason) {
        self.end(reason);
    }

    /// Hands every datagram that may leave now to `send`.
    pub(crate) fn transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if self.ended.is_none() && self.fingerprint.is_some() {
            let Self { dtls, sctp, .. } = self;
            let mut failed = false;
            sctp.transmit(now, &mut |packet| failed |= dtls.write(now, PEER, packet).is_err());
            if failed {
                self.end(CloseReason::Misbehaviour("DTLS cannot encrypt"));
            }
        }
        let lingered = |since| self.sctp.is_drained() || now >= since + CLOSE_LINGER;
        if self.ended.is_none() && self.closing.is_some_and(lingered) {
            self.end(CloseReason::Local);
        }
        if self.ended.is_some() {
            // Queues close_notify for a peer that is still there; does nothing a second time.
            self.dtls.stop(now, PEER);
        }
        while let Some(transmit) = self.dtls.poll_transmit() {
            self.answered = self.newest;
            self.is_proven |=
                records::scan(&transmit.message).is_some_and(|records| !records.is_cookie_request);
            send(&transmit.message);
        }
    }

    /// Our flights have retransmission timers from here on.
    const fn is_past_cookie(&self) -> bool {
        self.is_proven || !self.is_server
    }

    /// Counts a datagram against the bounds before the engine sees it.
    fn admit(&mut self, datagram: &[u8]) -> bool {
        let Some(records) = records::scan(datagram) else { return false };
        self.handshake_bytes += records.handshake_bytes;
        if self.fingerprint.is_none()
            && let Some(newest) = records.newest_message
        {
            // The engine forgets its retransmission timer when a flight comes again that it has answered; when the
            // answer was lost, both sides would wait for ever. Without the copy its timer sends the answer again.
            // Not so before the cookie: that answer has no timer, and a copy calls for it.
            if records.is_all_in_clear
                && self.is_past_cookie()
                && self.answered.is_some_and(|last| newest <= last)
            {
                return false;
            }
            self.newest = self.newest.max(Some(newest));
        }
        if self.fingerprint.is_none() && records.is_application_data {
            self.early_datagrams += 1;
        }
        if self.handshake_bytes > HANDSHAKE_BYTES_MAX || self.early_datagrams > EARLY_DATAGRAMS_MAX {
            if self.fingerprint.is_none() {
                self.end(CloseReason::Misbehaviour("a handshake that is too long"));
            }
            // An open link drops the datagram only if it is of the handshake, which anybody can send.
            return self.fingerprint.is_some() && records.handshake_bytes == 0;
        }
        true
    }

    fn shake_hands(&mut self, now: Instant) {
        let shown = self
            .dtls
            .get_connection_state(PEER)
            .and_then(|state| state.peer_certificates.first())
            .map(|der| fingerprint_of(der));
        match (shown, self.expected) {
            (None, _) => self.end(CloseReason::Misbehaviour("no certificate")),
            (Some(shown), Some(expected)) if shown != expected => {
                self.ended.get_or_insert(Ended::WrongCertificate);
            }
            (Some(shown), _) => {
                self.fingerprint = Some(shown);
                self.is_proven = true;
                if !self.is_server {
                    self.sctp.connect(now);
                }
            }
        }
    }

    fn settle(&mut self) {
        if let Some(reason) = self.sctp.ended() {
            self.end(reason);
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.ended.get_or_insert(Ended::Closed(reason));
    }
}

#[cfg(test)]
mod tests;
