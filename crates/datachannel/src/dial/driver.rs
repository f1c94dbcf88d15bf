//! The task behind a dialled connection: a controlling ICE agent with one candidate, and its link. All addresses of the edge
//! are checked, and the first that answers is where it is. An edge behind NAT may show another than those it is known by:
//! where its own authentic checks come from.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use millstream_sctp::Entropy;
use tokio::sync::{mpsc, oneshot};

use super::{
    Config, Error,
    checklist::{Checklist, PATHS_MAX},
};
use crate::{
    Address,
    address::{is_same, random_entropy},
    connection::{CloseReason, Command, Commands, Connection, Limits, LinkId},
    demux::{self, Protocol},
    link::{Ended, Link, Setup},
    session::Session,
    socket::{Arrival, Intake, Outbox, Outlet, Socket},
    stun::{self, Check, Class, Role, TransactionId},
};

/// Between checks of an open connection. Browsers use 2.5 s; NAT bindings live 30 s and more.
pub(super) const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);

/// After the network has refused a datagram, the next check, to be sure.
const REFUSAL_INTERVAL: Duration = Duration::from_millis(300);

/// Refusals count when nothing authentic came for so long: ICMP can be forged.
const REFUSAL_SILENCE: Duration = Duration::from_secs(1);

/// A sign of life after so long a silence means that the path is there again, or another one.
const SILENCE_BEFORE_NUDGE: Duration = Duration::from_secs(1);

/// Checks whose answer is still taken.
const CHECKS_MAX: usize = 8 * PATHS_MAX;

/// Datagrams, or trains of them, taken with one system call, and system calls a turn.
const INTAKE_SLOTS: usize = 1;
const RECEIVES_PER_TURN: usize = 64;

/// There is one link.
const ID: LinkId = 0;

/// What the edge must know to check us.
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

/// What a STUN message of the edge says.
enum Heard {
    /// It answers a check of ours.
    Answer,
    /// It checks us.
    Check(TransactionId),
}

pub(super) struct Driver {
    socket: Socket,
    address: Address,
    config: Config,
    setup: Setup,
    own: Credentials,
    /// Where the edge may be; until one of them answers, all are checked.
    paths: Checklist,
    /// Where it is.
    remote: SocketAddr,
    tie_breaker: u64,
    entropy: Entropy,
    session: Option<Session>,
    commands: mpsc::UnboundedReceiver<(LinkId, Command)>,
    commander: Commands,
    outbox: Outbox,
    checks: VecDeque<TransactionId>,
    /// When it is checked next, once it is found.
    check_at: Instant,
    /// When something authentic came.
    heard: Instant,
    is_refused: bool,
}

impl Driver {
    pub(super) fn new(
        socket: Socket,
        address: Address,
        others: &[SocketAddr],
        own: Credentials,
        config: Config,
        setup: Setup,
    ) -> Result<Self, Error> {
        let now = Instant::now();
        let (commander, commands) = mpsc::unbounded_channel();
        Ok(Self {
            socket,
            paths: Checklist::new(&[&[address.socket], others].concat(), now),
            remote: address.socket,
            address,
            own,
            config,
            setup,
            tie_breaker: getrandom::u64().map_err(io::Error::other)?,
            entropy: random_entropy().map_err(io::Error::other)?,
            session: None,
            commands,
            commander,
            outbox: Outbox::default(),
            checks: VecDeque::new(),
            check_at: now,
            heard: now,
            is_refused: false,
        })
    }

    /// Drives until the link has ended; `opened` hears once how opening went. Gives up when nobody waits for it.
    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<Connection, Error>>) {
        let mut opened = Some(opened);
        let mut intake = Intake::new(INTAKE_SLOTS);
        loop {
            let mut asked = None;
            let due = self.due();
            tokio::select! {
                biased;
                command = self.commands.recv() => asked = command,
                _ = self.socket.readable() => {}
                _ = self.socket.writable(), if !self.outbox.is_empty() => {}
                () = tokio::time::sleep_until(due.into()) => {}
                () = abandoned(&mut opened) => {
                    if let Some(session) = &mut self.session {
                        session.abort(CloseReason::Local);
                    }
                    self.pump(Instant::now());
                    return;
                }
            }
            let now = Instant::now();
            if let (Some((_, command)), Some(session)) = (asked, &mut self.session) {
                session.command(command, now);
            }
            while let (Ok((_, command)), Some(session)) = (self.commands.try_recv(), &mut self.session) {
                session.command(command, now);
            }
            self.receive(&mut intake, now);
            self.take_due(now);
            self.pump(now);
            if let Some(outcome) = self.outcome(opened.is_some()) {
                let is_over = outcome.is_err();
                if let Some(opened) = opened.take() {
                    // When nobody waits any more the handle is dropped, and closes.
                    let _ = opened.send(outcome);
                }
                if is_over {
                    return;
                }
                self.pump(now);
            }
        }
    }

    fn due(&mut self) -> Instant {
        let link = self.session.as_mut().and_then(|session| session.next_timeout(Instant::now()));
        let consent = self.session.as_ref().map(|_| self.heard + self.config.consent_timeout);
        let check = if self.session.is_some() { Some(self.check_at) } else { self.paths.next() };
        [link, consent, check].into_iter().flatten().min().unwrap_or(self.check_at)
    }

    fn receive(&mut self, intake: &mut Intake, now: Instant) {
        let silence = now.saturating_duration_since(self.heard);
        let Self { socket, address, own, paths, remote, session, checks, heard, outbox, .. } = self;
        let (mut is_answered, mut is_refused) = (false, false);
        for _ in 0..RECEIVES_PER_TURN {
            let mut arrive = |arrival: Arrival<'_>| match demux::protocol(arrival.bytes) {
                Some(Protocol::Stun) => match listen(arrival.bytes, address, own, checks) {
                    Some(Heard::Answer) if paths.holds(arrival.from) => {
                        if session.is_none() && !is_answered {
                            *remote = arrival.from;
                        }
                        *heard = now;
                        is_answered = true;
                    }
                    Some(Heard::Check(transaction)) if session.is_none() => {
                        paths.shown(arrival.from, now);
                        let answer = stun::success(transaction, arrival.from, &own.password);
                        outbox.push(socket, arrival.from, None, &answer);
                    }
                    _ => {}
                },
                Some(Protocol::Dtls)
                    if is_same(arrival.from, *remote)
                        && session.as_mut().is_some_and(|session| session.handle(arrival.bytes, now)) =>
                {
                    *heard = now;
                }
                _ => {}
            };
            match socket.receive(intake, &mut arrive) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "receive");
                    is_refused |= error.kind() == io::ErrorKind::ConnectionRefused;
                    break;
                }
            }
        }
        if self.heard == now
            && silence >= SILENCE_BEFORE_NUDGE
            && let Some(session) = &mut self.session
        {
            session.nudge(now);
        }
        if is_refused || self.outbox.take_refused() {
            self.is_refused = true;
            self.check_at = self.check_at.min(now + REFUSAL_INTERVAL);
        }
        if is_answered {
            self.is_refused = false;
            self.check_at = now + CONSENT_INTERVAL;
            if self.session.is_none() {
                let link = Link::client(&self.setup, self.address.fingerprint, self.entropy, now);
                self.session = Some(Session::new(link));
                // To nominate it.
                self.check_at = now;
            }
        }
    }

    fn take_due(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.heard);
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
            if silence >= self.config.consent_timeout {
                session.abort(CloseReason::Silence);
            } else if self.is_refused && silence >= REFUSAL_SILENCE {
                session.abort(CloseReason::Unreachable);
            }
        }
        if self.session.is_some() {
            if self.check_at <= now {
                self.check(self.remote);
                self.check_at = now + if self.is_refused { REFUSAL_INTERVAL } else { CONSENT_INTERVAL };
            }
        } else {
            while let Some(path) = self.paths.poll(now) {
                self.check(path);
            }
        }
    }

    fn check(&mut self, path: SocketAddr) {
        let mut transaction = TransactionId::default();
        if getrandom::fill(&mut transaction).is_err() {
            return;
        }
        let check = Check {
            transaction,
            their_ufrag: &self.address.ufrag,
            our_ufrag: &self.own.ufrag,
            // A host candidate's (RFC 8445 §5.1.2.1); with one candidate it orders nothing.
            priority: 0x7E00_01FF,
            tie_breaker: self.tie_breaker,
            // Not before one has answered (RFC 8445 §8.1.1): the edge goes where it is nominated to, also by a check that comes
            // late by another way.
            use_candidate: self.session.is_some(),
        };
        let request = stun::request(&check, &self.address.password);
        self.outbox.push(&self.socket, path, None, &request);
        self.checks.push_back(transaction);
        if self.checks.len() > CHECKS_MAX {
            self.checks.pop_front();
        }
    }

    fn pump(&mut self, now: Instant) {
        self.outbox.flush(&self.socket);
        let Self { socket, outbox, session, remote, .. } = self;
        if let Some(session) = session.as_mut().filter(|_| outbox.is_empty()) {
            let to = *remote;
            session.pump(to, now, &mut Outlet { outbox, socket, to, from: None });
            outbox.flush(socket);
        }
    }

    /// What there is to tell: the connection once it is open, the error when it will not or no longer be.
    fn outcome(&mut self, is_opening: bool) -> Option<Result<Connection, Error>> {
        let Some(session) = &mut self.session else {
            return (is_opening && self.is_refused).then_some(Err(Error::Refused));
        };
        if let Some(ended) = session.ended() {
            return Some(Err(match ended {
                Ended::WrongCertificate => Error::Fingerprint,
                Ended::Closed(CloseReason::Unreachable) => Error::Refused,
                Ended::Closed(CloseReason::Silence) => Error::Timeout,
                Ended::Closed(reason) => Error::Handshake(reason.to_string()),
            }));
        }
        let limits = Limits {
            send_bytes_max: self.config.send_bytes_max,
            inbox_bytes_max: self.config.inbox_bytes_max,
        };
        let port = session.take_opened(limits, self.remote)?;
        Some(Ok(Connection::new(ID, port, self.commander.clone())))
    }
}

/// What an authentic message of the edge says.
fn listen(
    datagram: &[u8],
    address: &Address,
    own: &Credentials,
    checks: &VecDeque<TransactionId>,
) -> Option<Heard> {
    let message = stun::Message::parse(datagram).ok()?;
    match message.class {
        Class::Success if checks.contains(&message.transaction) => {
            message.is_authentic(&address.password).then_some(Heard::Answer)
        }
        Class::Request if matches!(message.role, Some(Role::Controlled(_))) => {
            let (ours, theirs) = message.username?.split_once(':')?;
            let is_edges =
                ours == own.ufrag && theirs == address.ufrag && message.is_authentic(&own.password);
            is_edges.then_some(Heard::Check(message.transaction))
        }
        _ => None,
    }
}

/// Resolves when nobody waits for the connection to open any more; never once it is open.
async fn abandoned(opened: &mut Option<oneshot::Sender<Result<Connection, Error>>>) {
    match opened {
        Some(opened) => opened.closed().await,
        None => std::future::pending().await,
    }
}
