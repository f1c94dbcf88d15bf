//! One peer's DTLS and SCTP as a machine without socket and clock: datagrams and time go in, datagrams and
//! messages come out.
//!
//! The caller authenticates addresses and moves datagrams; this knows no address at all.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use millstream_model::Fingerprint;
use millstream_sctp::Entropy;

use crate::{
    Certificate, CertificateError,
    connection::{CLOSE_LINGER, Channel, CloseReason, Message, Stats},
    socket::Sink,
};

pub mod dtls;
pub(crate) mod records;
mod sctp;

use dtls::Dtls;
pub(crate) use sctp::Released;
use sctp::Sctp;

/// What every link of one listener or dialler shares.
#[derive(Clone)]
pub(crate) struct Setup {
    dtls: dtls::Setup,
    sctp: Arc<sctp::Configs>,
}

impl Setup {
    pub(crate) fn new(
        certificate: &Certificate,
        receive_window_bytes: u32,
    ) -> Result<Self, CertificateError> {
        Ok(Self {
            dtls: dtls::Setup::new(certificate)?,
            sctp: Arc::new(sctp::Configs::new(receive_window_bytes)),
        })
    }
}

/// One peer.
pub(crate) struct Link {
    dtls: Dtls,
    sctp: Sctp,
    /// Our INIT has been given to DTLS.
    is_connected: bool,
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
    /// Waits for a ClientHello; see [`Dtls::server`].
    pub(crate) fn server(setup: &Setup, has_cookies: bool, entropy: Entropy, now: Instant) -> Self {
        Self::new(Dtls::server(&setup.dtls, has_cookies), setup, entropy, now)
    }

    /// Starts the handshake with a peer that must show `expected`.
    pub(crate) fn client(setup: &Setup, expected: Fingerprint, entropy: Entropy, now: Instant) -> Self {
        Self::new(Dtls::client(&setup.dtls, expected, now), setup, entropy, now)
    }

    fn new(dtls: Dtls, setup: &Setup, entropy: Entropy, now: Instant) -> Self {
        let sctp = Sctp::new(&setup.sctp, entropy, now);
        let mut link = Self { dtls, sctp, is_connected: false, closing: None, ended: None };
        link.settle();
        link
    }

    /// Takes a datagram, which becomes garbage. Says whether it was authentic: made by the peer of this link, and new.
    pub(crate) fn handle(&mut self, datagram: &mut [u8], now: Instant) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let Self { dtls, sctp, .. } = self;
        let authentic = if dtls.peer().is_some() {
            dtls.handle(datagram, now, &mut |packet| sctp.receive(packet, now))
        } else {
            // What has overtaken the end of the handshake waits until it is known how long our own packets may be.
            let mut early = Vec::new();
            let authentic = dtls.handle(datagram, now, &mut |packet| early.push(packet.to_vec()));
            if let Some(version) = dtls.sealing().filter(|_| !self.is_connected) {
                self.is_connected = true;
                sctp.connect(version, now);
            }
            early.iter().for_each(|packet| sctp.receive(packet, now));
            authentic
        };
        self.settle();
        authentic
    }

    pub(crate) fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let linger = self.closing.map(|since| since + CLOSE_LINGER);
        [self.dtls.next_timeout(), self.sctp.next_timeout(now), linger].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        self.dtls.handle_timeout(now);
        if self.dtls.peer().is_some() && !self.sctp.has_heard() {
            // Our INIT is not answered: perhaps the end of the handshake before it was lost, and with it the right to send.
            self.dtls.repeat_last_flight();
        }
        self.sctp.handle_timeout(now);
        self.settle();
    }

    /// The peer is there again, or elsewhere: nothing waits any longer for a timer that has backed off.
    pub(crate) fn nudge(&mut self, now: Instant) {
        if self.ended.is_none() {
            self.sctp.nudge(now);
        }
    }

    /// Both channels are ready, with the holder of this certificate.
    pub(crate) fn open(&self) -> Option<Fingerprint> {
        self.dtls.peer().filter(|_| self.sctp.is_open() && self.ended.is_none())
    }

    /// The peer is where it says.
    pub(crate) const fn is_proven(&self) -> bool {
        self.dtls.is_proven()
    }

    pub(crate) const fn ended(&self) -> Option<Ended> {
        self.ended
    }

    pub(crate) fn write(&mut self, channel: Channel, bytes: Bytes, now: Instant) {
        if self.ended.is_none() && self.closing.is_none() {
            self.sctp.write(channel, bytes, now);
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

    /// See [`Sctp::appetite`].
    pub(crate) fn appetite(&self, channel: Channel) -> usize {
        self.sctp.appetite(channel)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { dtls: self.dtls.version(), ..self.sctp.stats() }
    }

    /// Ends the link when the peer has everything, or after [`CLOSE_LINGER`].
    pub(crate) fn close(&mut self, now: Instant) {
        self.closing.get_or_insert(now);
    }

    /// Ends the link and says so to the peer.
    pub(crate) fn abort(&mut self, reason: CloseReason) {
        self.end(reason);
    }

    /// Writes every datagram that may leave now to `sink`.
    pub(crate) fn transmit(&mut self, now: Instant, sink: &mut dyn Sink) {
        // First what ends the handshake: packets that come before it are of no use to most peers.
        self.transmit_dtls(sink);
        if self.ended.is_none() && self.dtls.sealing().is_some() {
            let Self { dtls, sctp, .. } = self;
            let mut failed = false;
            while !failed
                && sink.datagram(&mut |out| {
                    let sealed = dtls.seal(out, |out| _ = sctp.transmit(now, out));
                    failed = sealed.is_err();
                    sealed.unwrap_or(false)
                })
            {}
            if failed {
                self.end(CloseReason::Misbehaviour("DTLS cannot encrypt"));
            }
            // What the association noticed while it was drained.
            self.settle();
        }
        let lingered = |since| self.sctp.is_drained() || now >= since + CLOSE_LINGER;
        if self.ended.is_none() && self.closing.is_some_and(lingered) {
            self.end(CloseReason::Local);
        }
        if self.ended.is_some() {
            // Queues close_notify for a peer that is still there; does nothing a second time.
            self.dtls.stop();
        }
        self.transmit_dtls(sink);
    }

    fn transmit_dtls(&mut self, sink: &mut dyn Sink) {
        self.dtls.transmit(&mut |datagram| {
            sink.datagram(&mut |out| {
                out.extend_from_slice(datagram);
                true
            });
        });
    }

    fn settle(&mut self) {
        match self.dtls.ended() {
            None => {}
            Some(dtls::Ended::WrongCertificate) => {
                self.ended.get_or_insert(Ended::WrongCertificate);
            }
            Some(dtls::Ended::Misbehaviour(what)) => self.end(CloseReason::Misbehaviour(what)),
            Some(dtls::Ended::Peer) => self.end(CloseReason::Peer),
            Some(dtls::Ended::Local) => self.end(CloseReason::Local),
        }
        self.sctp.settle();
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
