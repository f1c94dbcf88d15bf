//! One peer's DTLS as a machine without socket and clock: datagrams and time go in, datagrams and plaintext come out.
//! DTLS 1.3 (RFC 9147) with whoever speaks it, else 1.2 (RFC 6347).
//!
//! ```text
//! handshake (an engine) ── keys, last flight ──▶ records (ours, sealed and opened in place) ──▶ ended
//! ```
//!
//! An engine makes the handshake and is dropped with all its memory when there are keys. From then on records are ours,
//! and so is what a connection still has to say of its own: `dtls12.rs`, `dtls13.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_model::Fingerprint;
use thiserror::Error;

use crate::{Certificate, CertificateError, link::records};

mod budget;
mod dtls12;
mod dtls13;
mod handshake;
mod provider;
mod window;
mod x509;

use handshake::{Handshake, Outcome, Progress};
pub(crate) use provider::signing_key;
pub(crate) use x509::public_key;

/// Wait for a flight of the handshake before it is sent again; doubled each time. RFC 6347 says 1 s; a viewer waits for
/// its first picture.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// How often a flight is sent again: for 15 s, as long as anybody waits.
const FLIGHT_REPEATS: usize = 4;

/// Bytes of a datagram. What any path carries that carries QUIC.
const DATAGRAM_BYTES: usize = 1_200;

const FINISHED: u8 = 20;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const HANDSHAKE_FAILURE: u8 = 40;

/// What every handshake of one side shares.
#[derive(Clone)]
pub struct Setup {
    /// For servers that answer a ClientHello at once, and for clients.
    direct: Arc<dimpl::Config>,
    /// For servers that ask for a cookie first.
    cautious: Arc<dimpl::Config>,
    certificate: Arc<dimpl::DtlsCertificate>,
    /// DTLS 1.2 alone.
    is_old: bool,
    /// Records that DTLS 1.3 seals with one key before it changes it.
    update_after: u64,
}

/// A version of DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 6347.
    Dtls12,
    /// RFC 9147.
    Dtls13,
}

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// There is no connection yet, or none any more.
    #[error("no connection is open")]
    NotOpen,
    /// All sequence numbers are used: another record would use a nonce twice, which gives the key away.
    #[error("the sequence numbers are used up")]
    Exhausted,
    /// The plaintext is longer than a record may be.
    #[error("the plaintext is longer than a record")]
    TooLong,
}

impl Setup {
    /// For handshakes that show `certificate`.
    ///
    /// # Errors
    ///
    /// When the engine finds its cryptography wanting.
    pub fn new(certificate: &Certificate) -> Result<Self, CertificateError> {
        let (direct, cautious) = (handshake::config(false)?, handshake::config(true)?);
        let (der, key) = (certificate.der().to_vec(), certificate.key().to_vec());
        let certificate = Arc::new(dimpl::DtlsCertificate { certificate: der, private_key: key });
        Ok(Self { direct, cautious, certificate, is_old: false, update_after: dtls13::UPDATE_AFTER })
    }

    /// For a peer that knows DTLS 1.2 alone. For tests and for measuring.
    #[doc(hidden)]
    #[must_use]
    pub const fn old(mut self) -> Self {
        self.is_old = true;
        self
    }

    /// Changes keys after so many records. For tests, which cannot wait for millions.
    #[cfg(test)]
    const fn updating_after(mut self, records: u64) -> Self {
        self.update_after = records;
        self
    }

    fn engine_of(&self, config: &Arc<dimpl::Config>, now: Instant) -> dimpl::Dtls {
        let (config, certificate) = (config.clone(), (*self.certificate).clone());
        if self.is_old {
            dimpl::Dtls::new_12(config, certificate, now)
        } else {
            dimpl::Dtls::new_auto(config, certificate, now)
        }
    }

    /// The engine alone, of DTLS 1.2 and as the server that it is first: for media, whose keys it agrees on (RFC 5764), and
    /// for measuring.
    #[must_use]
    pub fn engine(&self, now: Instant) -> dimpl::Dtls {
        dimpl::Dtls::new_12(self.direct.clone(), (*self.certificate).clone(), now)
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By [`Dtls::stop`].
    Local,
    /// By the peer's close_notify or fatal alert.
    Peer,
    /// The peer's certificate is not the expected one.
    WrongCertificate,
    /// The peer, or somebody before the handshake was through, broke the protocol or a limit.
    Misbehaviour(&'static str),
}

/// DTLS with one peer. The caller knows its address; this does not.
pub struct Dtls {
    stage: Stage,
    /// The client's: the only certificate it takes.
    expected: Option<Fingerprint>,
    peer: Option<Fingerprint>,
    version: Option<Version>,
    is_proven: bool,
    /// Datagrams to send besides those of the engine.
    pending: Vec<Vec<u8>>,
    ended: Option<Ended>,
}

enum Stage {
    Handshake(Box<Handshake>),
    Open(Open),
    Over,
}

/// An open connection, of the version that was agreed on.
enum Open {
    Dtls12(Box<dtls12::Open>),
    Dtls13(Box<dtls13::Open>),
}

/// What the records of a datagram were.
#[derive(Debug, Default)]
struct Arrived {
    is_authentic: bool,
    ended: Option<Ended>,
}

impl Dtls {
    /// Waits for a ClientHello. Asks for a cookie before it does any work or keeps anything, if `has_cookies`; else
    /// only for one so short that the answer would be more than three times as long.
    #[must_use]
    pub fn server(setup: &Setup, has_cookies: bool) -> Self {
        Self::new(Stage::Handshake(Box::new(Handshake::server(setup, has_cookies))), None)
    }

    /// Starts a handshake with a peer that must show `expected`.
    #[must_use]
    pub fn client(setup: &Setup, expected: Fingerprint, now: Instant) -> Self {
        Self::new(Stage::Handshake(Box::new(Handshake::client(setup, now))), Some(expected))
    }

    const fn new(stage: Stage, expected: Option<Fingerprint>) -> Self {
        Self {
            stage,
            expected,
            peer: None,
            version: None,
            is_proven: false,
            pending: Vec::new(),
            ended: None,
        }
    }

    /// Takes a datagram, which becomes garbage, and hands the plaintext of each record of application data in it to
    /// `plaintext`. Says whether something in it was authentic: made by the peer, and new. A handshake that is not
    /// through proves nothing.
    pub fn handle(
        &mut self,
        datagram: &mut [u8],
        now: Instant,
        plaintext: &mut dyn FnMut(&mut [u8]),
    ) -> bool {
        match &mut self.stage {
            Stage::Handshake(handshake) => match handshake.handle(datagram, now) {
                Progress::Waiting => false,
                Progress::Done => self.open(now, plaintext),
                Progress::Failed(ended) => {
                    self.end(ended);
                    false
                }
            },
            Stage::Open(_) => records::scan(datagram).is_some() && self.take(datagram, false, now, plaintext),
            Stage::Over => false,
        }
    }

    /// Appends one record to `out`, encrypted where it stands, with what `write` appends as its plaintext: it grows by
    /// that and [`Version::overhead_bytes`], or not at all when `write` appends nothing. Says whether there is a record,
    /// which must end its datagram: one of DTLS 1.3 does not say how long it is.
    ///
    /// # Errors
    ///
    /// See [`SealError`]; `out` is then as it was. [`SealError::Exhausted`] is for ever: end the connection.
    pub fn seal(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<bool, SealError> {
        match &mut self.stage {
            Stage::Open(Open::Dtls12(open)) => open.seal(out, write),
            Stage::Open(Open::Dtls13(open)) => open.seal(out, write),
            Stage::Handshake(handshake) => handshake.seal(out, write),
            Stage::Over => Err(SealError::NotOpen),
        }
    }

    /// The version in which [`Dtls::seal`] seals now. A server of DTLS 1.3 does so from its first flight on: what it says
    /// before it knows its peer must be nobody's secret, and may be lost.
    #[must_use]
    pub const fn sealing(&self) -> Option<Version> {
        match &self.stage {
            Stage::Handshake(handshake) if handshake.may_seal() => Some(Version::Dtls13),
            Stage::Open(_) => self.version,
            Stage::Handshake(_) | Stage::Over => None,
        }
    }

    /// The version of a connection that is, or was, open.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Hands every datagram to `send` that is not application data: flights of the handshake, alerts.
    pub fn transmit(&mut self, send: &mut dyn FnMut(&[u8])) {
        if let Stage::Handshake(handshake) = &mut self.stage {
            handshake.transmit(send);
            self.is_proven |= handshake.is_proven();
        }
        for datagram in std::mem::take(&mut self.pending) {
            send(&datagram);
        }
    }

    /// Sends our last flight again, if it was the end of a handshake of DTLS 1.2: nothing says that the peer has it.
    pub(crate) fn repeat_last_flight(&mut self) {
        if let Stage::Open(Open::Dtls12(open)) = &mut self.stage {
            let datagram = open.repeat_last_flight();
            self.pending.extend(datagram);
        }
    }

    /// When [`Dtls::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Handshake(handshake) => handshake.next_timeout(),
            Stage::Open(Open::Dtls13(open)) => open.next_timeout(),
            Stage::Open(Open::Dtls12(_)) | Stage::Over => None,
        }
    }

    /// Does what is due at `now`: sends again what is not answered, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Handshake(handshake) => {
                if let Progress::Failed(ended) = handshake.handle_timeout(now) {
                    self.end(ended);
                }
            }
            Stage::Open(Open::Dtls13(open)) => open.handle_timeout(now, &mut self.pending),
            Stage::Open(Open::Dtls12(_)) | Stage::Over => {}
        }
    }

    /// The peer's certificate, once it has proved to hold its key: the connection is, or was, open.
    #[must_use]
    pub const fn peer(&self) -> Option<Fingerprint> {
        self.peer
    }

    /// The peer has shown that it receives what is sent to it.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// How it ended, if it has.
    #[must_use]
    pub const fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Ends it and says so to the peer: call [`Dtls::transmit`] once more. Does nothing a second time.
    pub fn stop(&mut self) {
        self.end(Ended::Local);
    }

    /// The handshake is through.
    fn open(&mut self, now: Instant, plaintext: &mut dyn FnMut(&mut [u8])) -> bool {
        let Stage::Handshake(handshake) = &mut self.stage else { return false };
        let Some(Outcome { peer, open, unsent, early }) = handshake.finish(now) else {
            self.end(Ended::Misbehaviour("no certificate, or no keys"));
            return false;
        };
        self.pending.extend(unsent);
        self.version = Some(match &open {
            Open::Dtls12(_) => Version::Dtls12,
            Open::Dtls13(_) => Version::Dtls13,
        });
        self.stage = Stage::Open(open);
        if self.expected.is_some_and(|expected| expected != peer) {
            self.end(Ended::WrongCertificate);
            return false;
        }
        self.peer = Some(peer);
        self.is_proven = true;
        for mut record in early {
            self.take(&mut record, true, now, plaintext);
        }
        true
    }

    /// Takes the records of a datagram on an open connection. Those that are `early` came before it was open.
    fn take(
        &mut self,
        datagram: &mut [u8],
        is_early: bool,
        now: Instant,
        plaintext: &mut dyn FnMut(&mut [u8]),
    ) -> bool {
        let pending = &mut self.pending;
        let arrived = match &mut self.stage {
            Stage::Open(Open::Dtls12(open)) => open.take(datagram, is_early, plaintext, pending),
            Stage::Open(Open::Dtls13(open)) => open.take(datagram, now, plaintext, pending),
            Stage::Handshake(_) | Stage::Over => return false,
        };
        if let Some(ended) = arrived.ended {
            self.end(ended);
        }
        arrived.is_authentic
    }

    fn end(&mut self, ended: Ended) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(ended);
        let farewell = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Handshake(mut handshake) => match ended {
                Ended::Peer => None,
                Ended::Local => handshake.stop([WARNING, CLOSE_NOTIFY]),
                _ => handshake.stop([FATAL, HANDSHAKE_FAILURE]),
            },
            Stage::Open(Open::Dtls12(mut open)) => open.farewell(),
            Stage::Open(Open::Dtls13(mut open)) => open.farewell(),
            Stage::Over => None,
        };
        self.pending.extend(farewell);
    }
}

impl Version {
    /// Bytes that a record adds to its plaintext.
    #[must_use]
    pub const fn overhead_bytes(self) -> usize {
        match self {
            Self::Dtls12 => dtls12::record::OVERHEAD_BYTES,
            Self::Dtls13 => dtls13::record::OVERHEAD_BYTES,
        }
    }
}

#[cfg(test)]
mod tests;
