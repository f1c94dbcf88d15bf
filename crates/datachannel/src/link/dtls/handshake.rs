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

use dimpl::{Config, Output};
use millstream_model::Fingerprint;

use super::{
    Ended, Setup,
    budget::Budget,
    keys::Keys,
    provider::{self, Secrets},
    record::{Opener, Sealer},
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

/// Wait for a flight of the handshake before it is sent again; doubled each time. RFC 6347 says 1 s; a viewer waits for
/// its first picture.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// Between two calls of the engine's timer at least, whatever it asks for.
const TICK: Duration = Duration::from_millis(1);

/// How often a flight is sent again: for 15 s, as long as anybody waits.
const FLIGHT_REPEATS: usize = 4;

/// Bytes of a datagram. What any path carries that carries QUIC.
const DATAGRAM_BYTES: usize = 1_200;

/// Datagrams that wait until they may be sent to an address that is not proved: one flight.
const HELD_DATAGRAMS_MAX: usize = 4;

/// Bytes of a client's datagram with a ClientHello, at least: enough for the flight of a server whose certificate has
/// less than 560 bytes.
const HELLO_DATAGRAM_BYTES: usize = 300;

/// Bytes of a server's first flight besides its certificate, at most: five messages in records of their own, with an
/// X25519 or P-256 share and a signature.
pub(super) const FLIGHT_BYTES: usize = 340;

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
    sent: Sent,
    peer: Option<Fingerprint>,
    secrets: Option<Secrets>,
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
    /// Its newest encrypted handshake record: our Finished.
    finished: Option<Vec<u8>>,
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
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    /// Our Finished in clear, if the peer may ask for it again, and the next sequence number of epoch 0.
    pub(super) last_flight: Option<(Vec<u8>, u64)>,
    /// Datagrams that are still to be sent.
    pub(super) unsent: VecDeque<Vec<u8>>,
    /// Encrypted records that came before the keys, those of the handshake too.
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
        let mut engine = dimpl::Dtls::new_12(setup.direct.clone(), (*setup.certificate).clone(), now);
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
            sent: Sent::default(),
            peer: None,
            secrets: None,
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
            self.engine = Some(dimpl::Dtls::new_12(config.clone(), (*self.setup.certificate).clone(), now));
        }
        self.drive(now, |engine| {
            // Its clock.
            engine.handle_timeout(now)?;
            engine.handle_packet(&ours)
        })
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
    pub(super) fn finish(&mut self) -> Option<Outcome> {
        let Secrets { master, client_random, server_random } = self.secrets.take()?;
        let keys = Keys::expand(&master, &client_random, &server_random)?;
        let (ours, theirs) =
            if self.is_server { (keys.server, keys.client) } else { (keys.client, keys.server) };
        let Sent { next: [next_in_clear, next], nonces, finished } = std::mem::take(&mut self.sent);
        let mut finished = finished?;
        // This shows that the keys are the engine's.
        let (_, _, message) = ours.open(&mut finished)?;
        // Only the server's last flight may be asked for again: whoever has it has answered all of the client's.
        let last_flight = self.is_server.then(|| (message.to_vec(), next_in_clear));
        Some(Outcome {
            peer: self.peer?,
            sealer: Sealer::new(ours, next, nonces),
            opener: Opener::new(theirs),
            last_flight,
            unsent: std::mem::take(&mut self.held),
            early: std::mem::take(&mut self.early),
        })
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
        self.secrets = provider::take_secrets().or(self.secrets.take());
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let length = buffer.len();
            match engine.poll_output(&mut buffer) {
                Output::Packet(datagram) => {
                    self.sent.note(datagram);
                    // Past the cookie: whoever returned it receives what we send.
                    if self.has_cookies
                        && records::scan(datagram).is_some_and(|records| !records.is_cookie_request)
                    {
                        self.budget.prove();
                    }
                    // What is too much is a repetition of what waits.
                    if self.held.len() < HELD_DATAGRAMS_MAX {
                        let mut datagram = datagram.to_vec();
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
        for record in records::each(datagram) {
            if record.epoch == 0 || record.kind < ALERT || record.kind == HANDSHAKE {
                ours.extend_from_slice(record.bytes);
            }
            if record.epoch == 1
                && record.kind >= ALERT
                && self.early_bytes + record.bytes.len() <= EARLY_BYTES_MAX
            {
                self.early_bytes += record.bytes.len();
                self.early.push(record.bytes.to_vec());
            }
        }
        ours
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
