//! The handshake of one peer, by the engine `dimpl`, until it is through and its secrets are ours. Nothing outside this
//! file and `provider.rs` knows the engine.
//!
//! What a stranger could abuse is bounded around it: the bytes that it takes, and, until a server knows that its client
//! is where it says, the bytes that it sends. It is dropped as soon as there are keys.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use dimpl::{Config, Output, ProtocolVersion};
use millstream_model::Fingerprint;

use super::{
    DATAGRAM_BYTES, Ended, FLIGHT_INTERVAL, FLIGHT_REPEATS, Open, SealError, Setup,
    budget::Budget,
    dtls12::{self, keys::Keys},
    dtls13::{
        self, APPLICATION_EPOCH, Flight, HANDSHAKE_EPOCH, Repetitions, Rest, Start, messages,
        record::{Opened, Place},
    },
    provider::{self, Secrets},
};
use crate::{
    CertificateError,
    certificate::fingerprint_of,
    link::records::{self, ALERT, APPLICATION_DATA, HANDSHAKE, HEADER_BYTES, VERSION},
};

/// Bytes of handshake records taken from a peer. A browser's handshake is about 4 KB, its ClientHello 1.5 KB each
/// time; this leaves room for repetitions.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Bytes of encrypted records kept until there are keys for them, when the peer's last flight is overtaken: its
/// first packets. More is dropped, and comes again.
const EARLY_BYTES_MAX: usize = 8 * 1024;

/// Between two calls of the engine's timer at least, whatever it asks for.
const TICK: Duration = Duration::from_millis(1);

/// Datagrams that wait until they may be sent to an address that is not proved: one flight.
const HELD_DATAGRAMS_MAX: usize = 4;

/// Bytes of a client's datagram with a ClientHello, at least: enough for the flight of a server whose certificate has
/// less than 560 bytes.
const HELLO_DATAGRAM_BYTES: usize = 300;

/// Bytes of a server's first flight besides its certificate, at most: up to six messages in records of their own, with
/// an X25519 or P-256 share and a signature.
pub(super) const FLIGHT_BYTES: usize = 470;

/// Of our own sealed records in a handshake the newest are kept: more than a flight has, with its parts and our ACKs.
const SEALED_MAX: usize = 16;

/// Makes what the engine needs to know.
pub(super) fn config(has_cookies: bool) -> Result<Arc<Config>, CertificateError> {
    Config::builder()
        .with_crypto_provider(provider::ring())
        .use_server_cookie(has_cookies)
        .flight_start_rto(FLIGHT_INTERVAL)
        .flight_retries(FLIGHT_REPEATS)
        .mtu(DATAGRAM_BYTES)
        .build()
        .map(Arc::new)
        .map_err(CertificateError::new)
}

/// A handshake under way.
pub(super) struct Handshake {
    /// None until a server has seen how long its client's first message is.
    engine: Option<dimpl::Dtls>,
    setup: Setup,
    is_server: bool,
    /// The server asks for a cookie before it does anything else.
    has_cookies: bool,
    budget: Budget,
    held: VecDeque<Vec<u8>>,
    handshake_bytes: usize,
    early: Vec<Vec<u8>>,
    early_bytes: usize,
    /// What has overtaken the server's first words, which tell the client's engine the version.
    ahead: VecDeque<Vec<u8>>,
    sent: Sent,
    peer: Option<Fingerprint>,
    secrets: Secrets,
    /// The server's of DTLS 1.3, which may speak as soon as its flight is made: half a round trip before it knows to whom
    /// (RFC 8446 §4.4.4).
    sealer: Option<dtls13::record::Sealer>,
    wake: Option<Instant>,
    is_connected: bool,
}

/// What the engine has sent, as far as whoever goes on after it must know.
#[derive(Default)]
struct Sent {
    /// The first sequence numbers of both epochs that it has not used.
    next: [u64; 2],
    /// The explicit nonces that it has used.
    nonces: Vec<u64>,
    /// Its newest encrypted handshake record of DTLS 1.2: our Finished.
    finished: Option<Vec<u8>>,
    /// Its newest records of the handshake's epoch of DTLS 1.3.
    sealed: VecDeque<Vec<u8>>,
    /// What it sealed in the first epoch of application data: a server's ACK, which does not leave.
    application: Option<Vec<u8>>,
}

/// What a datagram or a timer has made of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    /// The peer holds a certificate and we its keys: call [`Handshake::finish`].
    Done,
    Failed(Ended),
}

/// What is left of a handshake that is through.
pub(super) struct Outcome {
    pub(super) peer: Fingerprint,
    pub(super) open: Open,
    /// Datagrams that are still to be sent.
    pub(super) unsent: VecDeque<Vec<u8>>,
    /// Encrypted records that came before the keys, those of a handshake of DTLS 1.2 too.
    pub(super) early: Vec<Vec<u8>>,
}

impl Handshake {
    /// Waits for a ClientHello, and asks for a cookie if `has_cookies`, or if the server's flight would be more than
    /// three times what the client has sent.
    pub(super) fn server(setup: &Setup, has_cookies: bool) -> Self {
        Self::new(setup, true, has_cookies, Budget::default())
    }

    pub(super) fn client(setup: &Setup, now: Instant) -> Self {
        let mut handshake = Self::new(setup, false, false, Budget::unbounded());
        let mut engine = setup.engine_of(&setup.direct, now);
        engine.set_active(true);
        handshake.engine = Some(engine);
        // The ClientHello; should it fail, the timer says so.
        handshake.drive(now, |engine| engine.handle_timeout(now));
        handshake
    }

    fn new(setup: &Setup, is_server: bool, has_cookies: bool, budget: Budget) -> Self {
        Self {
            engine: None,
            setup: setup.clone(),
            is_server,
            has_cookies,
            budget,
            held: VecDeque::new(),
            handshake_bytes: 0,
            early: Vec::new(),
            early_bytes: 0,
            ahead: VecDeque::new(),
            sent: Sent::default(),
            peer: None,
            secrets: Secrets::default(),
            sealer: None,
            wake: None,
            is_connected: false,
        }
    }

    pub(super) fn handle(&mut self, datagram: &[u8], now: Instant) -> Progress {
        let Some(seen) = records::scan(datagram) else { return Progress::Waiting };
        self.budget.received(datagram.len());
        self.handshake_bytes += seen.handshake_bytes;
        if self.handshake_bytes > HANDSHAKE_BYTES_MAX {
            return Progress::Failed(Ended::Misbehaviour("a handshake that is too long"));
        }
        let ours = self.sift(datagram);
        if ours.is_empty() {
            return Progress::Waiting;
        }
        if self.engine.is_none() {
            let Some(hello_bytes) = records::client_hello_bytes(datagram) else { return Progress::Waiting };
            let flight = FLIGHT_BYTES + self.setup.certificate.certificate.len();
            self.has_cookies |= !Budget::allows(hello_bytes.max(datagram.len()), flight);
            let config = if self.has_cookies { &self.setup.cautious } else { &self.setup.direct };
            self.engine = Some(self.setup.engine_of(config, now));
        }
        if !self.is_server && self.version().is_none() && !records::is_first_answer(&ours) {
            // The engine would take it for no answer at all, and give up.
            if self.ahead.len() < HELD_DATAGRAMS_MAX {
                self.ahead.push_back(ours);
            }
            return Progress::Waiting;
        }
        let mut progress = self.give(&ours, now);
        while progress == Progress::Waiting
            && self.version().is_some()
            && let Some(ahead) = self.ahead.pop_front()
        {
            progress = self.give(&ahead, now);
        }
        progress
    }

    fn give(&mut self, datagram: &[u8], now: Instant) -> Progress {
        self.drive(now, |engine| {
            // Its clock.
            engine.handle_timeout(now)?;
            engine.handle_packet(datagram)
        })
    }

    fn version(&self) -> Option<ProtocolVersion> {
        self.engine.as_ref()?.protocol_version()
    }

    pub(super) const fn next_timeout(&self) -> Option<Instant> {
        self.wake
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Progress {
        if self.wake.is_none_or(|at| at > now) {
            return Progress::Waiting;
        }
        match self.drive(now, |engine| engine.handle_timeout(now)) {
            Progress::Failed(Ended::Misbehaviour(_)) => {
                Progress::Failed(Ended::Misbehaviour("the DTLS handshake was not answered"))
            }
            progress => progress,
        }
    }

    /// The peer has shown that it receives what we send: a server's client has returned a cookie or is through.
    pub(super) const fn is_proven(&self) -> bool {
        self.budget.is_proven()
    }

    pub(super) fn transmit(&mut self, send: &mut dyn FnMut(&[u8])) {
        while let Some(datagram) = self.held.pop_front_if(|datagram| self.budget.take(datagram.len())) {
            send(&datagram);
        }
    }

    /// Whether [`Handshake::seal`] has keys.
    pub(super) const fn may_seal(&self) -> bool {
        self.sealer.is_some()
    }

    /// Seals what the server says before the client's Finished, if the client's address may be sent so much: else it is
    /// as if lost. See [`Dtls::seal`](super::Dtls::seal).
    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<bool, SealError> {
        let Self { sealer: Some(sealer), budget, held, .. } = self else { return Err(SealError::NotOpen) };
        // Nothing goes before the flight, without which it would be of no use.
        if !held.is_empty() {
            return Ok(false);
        }
        let start = out.len();
        let may_leave =
            sealer.seal(APPLICATION_DATA, Place::Last, out, write)? && budget.take(out.len() - start);
        if !may_leave {
            out.truncate(start);
        }
        Ok(may_leave)
    }

    /// Makes a datagram with a ClientHello so long that the server may answer it at once (RFC 9000 §8.1 pads for the
    /// same reason): with a record of an epoch that never comes, which every server drops.
    fn pad(datagram: &mut Vec<u8>) {
        let room = HELLO_DATAGRAM_BYTES.saturating_sub(datagram.len() + HEADER_BYTES);
        if let Ok(length @ 1..) = u16::try_from(room)
            && records::client_hello_bytes(datagram).is_some()
        {
            let [major, minor] = VERSION;
            datagram.extend_from_slice(&[APPLICATION_DATA, major, minor, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0]);
            datagram.extend_from_slice(&length.to_be_bytes());
            datagram.resize(datagram.len() + room, 0);
        }
    }

    /// Gives up. Says so to the peer, if it may be told: `what` is an alert.
    pub(super) fn stop(&mut self, what: [u8; 2]) -> Option<Vec<u8>> {
        let [_, _, n @ ..] = self.sent.next[0].to_be_bytes();
        let alert = [&[ALERT][..], &VERSION, &[0, 0], &n, &[0, 2], &what].concat();
        self.budget.take(alert.len()).then_some(alert)
    }

    /// Takes what the open connection needs out of the engine. None when that is not what it should be, which no peer
    /// can bring about.
    pub(super) fn finish(&mut self, now: Instant) -> Option<Outcome> {
        let mut unsent = std::mem::take(&mut self.held);
        let open = if self.version() == Some(ProtocolVersion::DTLS1_3) {
            Open::Dtls13(Box::new(self.finish_13(now, &mut unsent)?))
        } else {
            Open::Dtls12(Box::new(self.finish_12()?))
        };
        Some(Outcome { peer: self.peer?, open, unsent, early: std::mem::take(&mut self.early) })
    }

    fn finish_12(&mut self) -> Option<dtls12::Open> {
        let provider::Master { secret, client_random, server_random } = self.secrets.master.take()?;
        let keys = Keys::expand(&secret, &client_random, &server_random)?;
        let (ours, theirs) =
            if self.is_server { (keys.server, keys.client) } else { (keys.client, keys.server) };
        let Sent { next: [next_in_clear, next], nonces, finished, .. } = std::mem::take(&mut self.sent);
        let mut finished = finished?;
        // This shows that the keys are the engine's.
        let (_, _, message) = ours.open(&mut finished)?;
        // Only the server's last flight may be asked for again: whoever has it has answered all of the client's.
        let last_flight = self.is_server.then(|| (message.to_vec(), next_in_clear));
        let (sealer, opener) =
            (dtls12::record::Sealer::new(ours, next, nonces), dtls12::record::Opener::new(theirs));
        Some(dtls12::Open { sealer, opener, last_flight })
    }

    fn finish_13(&mut self, now: Instant, unsent: &mut VecDeque<Vec<u8>>) -> Option<dtls13::Open> {
        let Secrets { handshake, application, .. } = std::mem::take(&mut self.secrets);
        let ([Some(client), Some(server)], [Some(theirs), Some(ours)]) = (handshake, application) else {
            return None;
        };
        let (ours, theirs) = if self.is_server { (ours, theirs) } else { (theirs, ours) };
        // That our own records open shows that the secrets are the engine's.
        let of_handshake = if self.is_server { &server } else { &client };
        let mut opener = dtls13::record::Opener::new(of_handshake.key()?, HANDSHAKE_EPOCH);
        let (mut parts, mut next) = (Vec::new(), 0);
        for mut record in std::mem::take(&mut self.sent.sealed) {
            let Opened { number, kind, body } = opener.open(&mut record)?;
            next = number + 1;
            if kind == HANDSHAKE {
                parts.push((number, body.to_vec()));
            }
        }
        let message = messages::message_number(&parts.last()?.1)?.checked_add(1)?;
        let mut sealer = match self.sealer.take() {
            Some(sealer) => sealer,
            None => dtls13::record::Sealer::new(ours.key()?, APPLICATION_EPOCH, 0),
        };
        let rest = if self.is_server {
            // The engine's ACK goes out as a record of ours: what it sealed has a number that is ours to use.
            let mut opener = dtls13::record::Opener::new(ours.key()?, APPLICATION_EPOCH);
            let mut ack = self.sent.application.take()?;
            let Opened { kind, body, .. } = opener.open(&mut ack)?;
            let mut datagram = Vec::new();
            sealer.seal(kind, Place::Last, &mut datagram, |out| out.extend_from_slice(body)).ok()?;
            unsent.push_back(datagram);
            Rest::Repetitions(Box::new(Repetitions::new(client, body, now)))
        } else {
            Rest::Flight(Box::new(Flight::new(client, parts, next, now)))
        };
        let (is_server, update_after) = (self.is_server, self.setup.update_after);
        dtls13::Open::new(Start { sealer, secrets: [ours, theirs], rest, message, is_server, update_after })
    }

    /// Calls the engine, and takes what comes out of it.
    fn drive(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut dimpl::Dtls) -> Result<(), dimpl::Error>,
    ) -> Progress {
        let Some(engine) = &mut self.engine else { return Progress::Waiting };
        provider::take_secrets();
        let outcome = act(engine);
        self.secrets.merge(provider::take_secrets());
        if let [_, Some(ours)] = &self.secrets.application
            && self.is_server
            && self.sealer.is_none()
        {
            self.sealer = ours.key().map(|key| dtls13::record::Sealer::new(key, APPLICATION_EPOCH, 0));
        }
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let length = buffer.len();
            match engine.poll_output(&mut buffer) {
                Output::Packet(datagram) => {
                    let mut datagram = self.sent.note(datagram);
                    // Past the cookie: whoever returned it receives what we send.
                    if self.has_cookies
                        && records::scan(&datagram).is_some_and(|records| !records.is_cookie_request)
                    {
                        self.budget.prove();
                    }
                    // What is too much is a repetition of what waits.
                    if self.held.len() < HELD_DATAGRAMS_MAX && !datagram.is_empty() {
                        Self::pad(&mut datagram);
                        self.held.push_back(datagram);
                    }
                }
                Output::BufferTooSmall { needed } if needed > length => buffer.resize(needed, 0),
                Output::PeerCert(der) => self.peer = Some(fingerprint_of(der)),
                Output::Connected => self.is_connected = true,
                Output::CloseNotify => return Progress::Failed(Ended::Peer),
                Output::Timeout(at) => {
                    self.wake = Some(at.max(now + TICK));
                    break;
                }
                _ => {}
            }
        }
        if outcome.is_err() {
            return Progress::Failed(Ended::Misbehaviour("the DTLS handshake failed"));
        }
        if !self.is_connected {
            return Progress::Waiting;
        }
        self.budget.prove();
        Progress::Done
    }

    /// Keeps the encrypted records of a datagram. Gives what is the engine's: all but application data and alerts,
    /// which belong to the connection that is not open yet.
    fn sift(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut ours = Vec::with_capacity(datagram.len());
        let is_old = self.version() == Some(ProtocolVersion::DTLS1_2);
        for record in records::each(datagram) {
            let (is_ours, is_early) = if record.is_sealed() {
                let epoch = u64::from(record.epoch);
                (epoch == HANDSHAKE_EPOCH && !is_old, epoch == APPLICATION_EPOCH && !is_old)
            } else {
                let is_handshake = record.kind < ALERT || record.kind == HANDSHAKE;
                (record.epoch == 0 || is_handshake, record.epoch == 1 && record.kind >= ALERT)
            };
            if is_ours {
                ours.extend_from_slice(record.bytes);
            }
            if is_early && self.early_bytes + record.bytes.len() <= EARLY_BYTES_MAX {
                self.early_bytes += record.bytes.len();
                self.early.push(record.bytes.to_vec());
            }
        }
        ours
    }
}

impl Sent {
    /// Takes note of what the engine has sent. Gives what may leave of it.
    fn note(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut leaves = Vec::with_capacity(datagram.len());
        for record in records::each(datagram) {
            if record.is_sealed() {
                if u64::from(record.epoch) == APPLICATION_EPOCH {
                    self.application = Some(record.bytes.to_vec());
                    continue;
                }
                if self.sealed.len() >= SEALED_MAX {
                    self.sealed.pop_front();
                }
                self.sealed.push_back(record.bytes.to_vec());
            } else if let Some(next) = self.next.get_mut(usize::from(record.epoch)) {
                *next = (*next).max(record.number + 1);
                if record.epoch == 1 {
                    self.nonces.extend(explicit_nonce(record.bytes));
                    if record.kind == HANDSHAKE {
                        self.finished = Some(record.bytes.to_vec());
                    }
                }
            }
            leaves.extend_from_slice(record.bytes);
        }
        leaves
    }
}

fn explicit_nonce(record: &[u8]) -> Option<u64> {
    record.get(HEADER_BYTES..)?.first_chunk().copied().map(u64::from_be_bytes)
}
