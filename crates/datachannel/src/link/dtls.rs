//! One peer's DTLS 1.2 as a machine without socket and clock (RFC 6347): datagrams and time go in, datagrams and
//! plaintext come out.
//!
//! ```text
//! handshake (an engine) ── keys, last flight ──▶ records (ours, sealed and opened in place) ──▶ ended
//! ```
//!
//! An engine makes the handshake and is dropped with all its memory when there are keys. From then on records are ours.
//! The only thing that the engine would still have to do, answering a client that repeats its last flight because ours
//! was lost (RFC 6347 §4.2.4), is done here, and only for a repetition that is authentic.

use std::{sync::Arc, time::Instant};

use crate::{Certificate, CertificateError, link::records};
use millstream_model::Fingerprint;

mod budget;
mod handshake;
mod keys;
mod provider;
mod record;
mod window;
mod x509;

use handshake::{Handshake, Outcome, Progress};
pub(crate) use provider::signing_key;
pub use record::SealError;
use record::{Opener, Sealer};
use records::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, VERSION};
pub(crate) use x509::public_key;

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
        Ok(Self { direct, cautious, certificate })
    }

    /// The engine alone, as the server that it is first. For measuring.
    #[doc(hidden)]
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
    is_proven: bool,
    /// Datagrams to send besides those of the engine.
    pending: Vec<Vec<u8>>,
    ended: Option<Ended>,
}

enum Stage {
    Handshake(Box<Handshake>),
    Open(Box<Open>),
    Over,
}

struct Open {
    sealer: Sealer,
    opener: Opener,
    /// Our Finished, and the next sequence number in clear: what a repetition of our last flight is made of.
    last_flight: Option<(Vec<u8>, u64)>,
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
        Self { stage, expected, peer: None, is_proven: false, pending: Vec::new(), ended: None }
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
                Progress::Done => self.open(plaintext),
                Progress::Failed(ended) => {
                    self.end(ended);
                    false
                }
            },
            Stage::Open(_) => records::scan(datagram).is_some() && self.take(datagram, false, plaintext),
            Stage::Over => false,
        }
    }

    /// Appends one record to `out`, encrypted where it stands, with what `write` appends as its plaintext: it grows by
    /// that and 37 bytes, or not at all when `write` appends nothing. Says whether there is a record.
    ///
    /// # Errors
    ///
    /// See [`SealError`]; `out` is then as it was. [`SealError::Exhausted`] is for ever: end the connection.
    pub fn seal(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<bool, SealError> {
        let Stage::Open(open) = &mut self.stage else { return Err(SealError::NotOpen) };
        open.sealer.seal(APPLICATION_DATA, out, write)
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

    /// Sends our last flight again, if it was the end of the handshake: nothing says that the peer has it.
    pub(crate) fn repeat_last_flight(&mut self) {
        if let Stage::Open(open) = &mut self.stage {
            let datagram = open.repeat_last_flight();
            self.pending.extend(datagram);
        }
    }

    /// When [`Dtls::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Handshake(handshake) => handshake.next_timeout(),
            Stage::Open(_) | Stage::Over => None,
        }
    }

    /// Does what is due at `now`: sends a flight again, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Stage::Handshake(handshake) = &mut self.stage
            && let Progress::Failed(ended) = handshake.handle_timeout(now)
        {
            self.end(ended);
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
    fn open(&mut self, plaintext: &mut dyn FnMut(&mut [u8])) -> bool {
        let Stage::Handshake(handshake) = &mut self.stage else { return false };
        let Some(outcome) = handshake.finish() else {
            self.end(Ended::Misbehaviour("no certificate, or no keys"));
            return false;
        };
        let Outcome { peer, sealer, opener, last_flight, unsent, early } = outcome;
        self.pending.extend(unsent);
        self.stage = Stage::Open(Box::new(Open { sealer, opener, last_flight }));
        if self.expected.is_some_and(|expected| expected != peer) {
            self.end(Ended::WrongCertificate);
            return false;
        }
        self.peer = Some(peer);
        self.is_proven = true;
        for mut record in early {
            self.take(&mut record, true, plaintext);
        }
        true
    }

    /// Takes the records of a datagram on an open connection. Those that are `early` came before it was open: the
    /// peer's Finished is among them, which is then no repetition.
    fn take(&mut self, datagram: &mut [u8], is_early: bool, plaintext: &mut dyn FnMut(&mut [u8])) -> bool {
        let mut authentic = false;
        for record in records::each_mut(datagram) {
            let Stage::Open(open) = &mut self.stage else { return authentic };
            let Some((kind, body)) = open.opener.open(record) else { continue };
            authentic = true;
            match (kind, &*body) {
                (APPLICATION_DATA, _) => plaintext(body),
                (ALERT, [level, what]) if *what == CLOSE_NOTIFY || *level == FATAL => {
                    self.end(Ended::Peer);
                }
                (HANDSHAKE, [FINISHED, ..]) if !is_early => {
                    let datagram = open.repeat_last_flight();
                    self.pending.extend(datagram);
                }
                // Nothing renegotiates.
                _ => {}
            }
        }
        authentic
    }

    fn end(&mut self, ended: Ended) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(ended);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Handshake(mut handshake) => match ended {
                Ended::Peer => {}
                Ended::Local => self.pending.extend(handshake.stop([WARNING, CLOSE_NOTIFY])),
                _ => self.pending.extend(handshake.stop([FATAL, HANDSHAKE_FAILURE])),
            },
            Stage::Open(mut open) => {
                let mut alert = Vec::new();
                // Answered in kind when it was the peer's (RFC 5246 §7.2.1).
                if open.sealer.seal(ALERT, &mut alert, |out| out.extend([WARNING, CLOSE_NOTIFY])).is_ok() {
                    self.pending.push(alert);
                }
            }
            Stage::Over => {}
        }
    }
}

impl Open {
    /// ChangeCipherSpec and Finished, as new records: a peer does not take one twice.
    fn repeat_last_flight(&mut self) -> Option<Vec<u8>> {
        let (finished, number) = self.last_flight.as_mut()?;
        let [_, _, n @ ..] = number.to_be_bytes();
        let mut datagram = [&[CHANGE_CIPHER_SPEC][..], &VERSION, &[0, 0], &n, &[0, 1, 1]].concat();
        *number += 1;
        self.sealer.seal(HANDSHAKE, &mut datagram, |out| out.extend_from_slice(finished)).ok()?;
        Some(datagram)
    }
}

#[cfg(test)]
mod tests;
