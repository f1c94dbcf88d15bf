//! The thread behind a listener: one socket, every link on it, and the decisions who gets one.
//!
//! A turn takes what arrived, what handles asked for and what is due, then lets every link it touched send. The
//! kernel's back-pressure ends a turn early: links are not asked for more than it takes.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Config,
    admission::Admission,
    roster::{PeerKey, Roster, Verdict},
};
use crate::{
    address::random_entropy,
    connection::{CloseReason, Command, Commands, Connection, Limits, LinkId},
    demux::{self, Protocol},
    link::{Link, Setup, records},
    session::Session,
    socket::{Arrival, Intake, Outbox, Outlet, Socket},
    stun::{self, Class, Role},
};

/// Datagrams, or trains of them, taken with one system call.
const INTAKE_SLOTS: usize = 8;

/// System calls for datagrams in one turn, so that a flood does not keep links from sending.
const RECEIVES_PER_TURN: usize = 16;

/// Commands of handles in one turn.
const COMMANDS_PER_TURN: usize = 1_024;

/// Handshakes under way with clients that may not be where they say, above which further ones must return a cookie
/// before they cost a signature: what an edge sees of honest ones at once, at a hundred a second.
const COOKIES_ABOVE: usize = 64;

/// How often strangers are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// A link whose present address is silent so long follows its peer's authentic datagrams elsewhere.
const SILENCE_BEFORE_MOVE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    socket: Arc<Socket>,
    config: Config,
    setup: Setup,
    accept: mpsc::Sender<Connection>,
    commands: mpsc::UnboundedReceiver<(LinkId, Command)>,
    /// Cloned into every handle.
    commander: Commands,
    connections: Arc<AtomicUsize>,
    slots: HashMap<LinkId, Slot>,
    next_id: LinkId,
    roster: Roster,
    admission: Admission,
    /// Links that have not returned a cookie, oldest first; may name some that have or are gone.
    unproven: VecDeque<LinkId>,
    unproven_count: usize,
    handshaking_count: usize,
    timers: BTreeSet<(Instant, LinkId)>,
    /// Links to pump, in order, each once.
    dirty: VecDeque<LinkId>,
    outbox: Outbox,
    housekeeping_at: Instant,
}

struct Slot {
    session: Session,
    key: PeerKey,
    address: SocketAddr,
    /// Our address that the peer speaks to, on a machine with several.
    ours: Option<IpAddr>,
    stage: Stage,
    /// When an authentic datagram came from `address`.
    heard_here: Instant,
    /// When one came from anywhere.
    heard: Instant,
    born: Instant,
    armed: Option<Instant>,
    is_dirty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Anybody could have sent this from anywhere.
    Unproven,
    Handshaking,
    Open,
}

impl Driver {
    pub(super) fn new(
        socket: Socket,
        config: Config,
        setup: Setup,
        accept: mpsc::Sender<Connection>,
        connections: Arc<AtomicUsize>,
    ) -> Self {
        let (commander, commands) = mpsc::unbounded_channel();
        Self {
            socket: Arc::new(socket),
            admission: Admission::new(config.prefix_burst, config.prefix_per_second),
            config,
            setup,
            accept,
            commands,
            commander,
            connections,
            slots: HashMap::new(),
            next_id: 0,
            roster: Roster::default(),
            unproven: VecDeque::new(),
            unproven_count: 0,
            handshaking_count: 0,
            timers: BTreeSet::new(),
            dirty: VecDeque::new(),
            outbox: Outbox::default(),
            housekeeping_at: Instant::now() + HOUSEKEEPING,
        }
    }

    /// Drives until `stopped` resolves, then tells every peer.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let socket = self.socket.clone();
        let mut intake = Intake::new(INTAKE_SLOTS);
        loop {
            let due =
                self.timers.first().map_or(self.housekeeping_at, |(at, _)| self.housekeeping_at.min(*at));
            let mut asked = None;
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                command = self.commands.recv() => asked = command,
                _ = socket.readable() => {}
                _ = socket.writable(), if !self.outbox.is_empty() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let now = Instant::now();
            if let Some((id, command)) = asked {
                self.command(id, command, now);
            }
            self.take_commands(now);
            self.receive(&mut intake, now);
            self.take_due(now);
            self.pump(now);
        }
        self.shut_down();
    }

    fn take_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok((id, command)) = self.commands.try_recv() else { return };
            self.command(id, command, now);
        }
    }

    fn command(&mut self, id: LinkId, command: Command, now: Instant) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.session.command(command, now);
            self.touch(id);
        }
    }

    fn receive(&mut self, intake: &mut Intake, now: Instant) {
        let socket = self.socket.clone();
        for _ in 0..RECEIVES_PER_TURN {
            match socket.receive(intake, &mut |arrival| self.arrive(arrival, now)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => tracing::debug!(%error, "receive"),
            }
        }
    }

    fn take_due(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.armed = None;
            slot.session.handle_timeout(now);
            if slot.deadline(&self.config) <= now {
                slot.session.abort(CloseReason::Silence);
            }
            self.touch(id);
        }
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.roster.expire(now);
            let slots = &self.slots;
            self.unproven.retain(|id| slots.get(id).is_some_and(|slot| slot.stage == Stage::Unproven));
        }
    }

    fn arrive(&mut self, mut arrival: Arrival<'_>, now: Instant) {
        match demux::protocol(arrival.bytes) {
            Some(Protocol::Stun) => self.check(&arrival, now),
            Some(Protocol::Dtls) => self.deliver(&mut arrival, now),
            None => {}
        }
    }

    /// The ICE-lite agent: answers a check that knows the password, and notes who is where.
    fn check(&mut self, arrival: &Arrival<'_>, now: Instant) {
        let Ok(message) = stun::Message::parse(arrival.bytes) else { return };
        if message.class != Class::Request || !message.is_authentic(&self.config.password) {
            return;
        }
        let names = message.username.and_then(|name| name.split_once(':'));
        let Some((_, theirs)) = names.filter(|(ours, _)| *ours == self.config.ufrag) else { return };
        let answer = match message.role {
            Some(Role::Controlling(tie_breaker)) => {
                let key = PeerKey { ufrag: theirs.into(), tie_breaker };
                if !self.note(&key, arrival, message.use_candidate, now) {
                    return;
                }
                stun::success(message.transaction, arrival.from, &self.config.password)
            }
            Some(Role::Controlled(_)) => stun::role_conflict(message.transaction, &self.config.password),
            None => return,
        };
        self.outbox_push(arrival.from, arrival.to, &answer);
    }

    /// Notes a check in the roster. Says whether to answer it.
    fn note(&mut self, key: &PeerKey, arrival: &Arrival<'_>, is_nominated: bool, now: Instant) -> bool {
        let slots = &self.slots;
        let verdict =
            self.roster.check(key, arrival.from, is_nominated, now, self.config.handshake_timeout, |id| {
                slots.get(&id).map(|slot| (slot.address, slot.heard_here))
            });
        match verdict {
            Verdict::Ignore => return false,
            Verdict::Answer => {}
            Verdict::Alive(id) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.hear(arrival.from, now);
                }
            }
            Verdict::Move(id) => self.move_to(id, arrival, now),
        }
        true
    }

    fn deliver(&mut self, arrival: &mut Arrival<'_>, now: Instant) {
        let Some(records) = records::scan(arrival.bytes) else { return };
        let id = match self.roster.link_at(arrival.from) {
            Some(id) => id,
            None if records.is_client_hello => match self.admit(arrival, now) {
                Some(id) => id,
                None => return,
            },
            None => {
                if records.is_application_data {
                    self.roster.forget_stale(arrival.from);
                }
                return;
            }
        };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.session.handle(arrival.bytes, now) {
            slot.hear(arrival.from, now);
            if slot.address != arrival.from
                && now.saturating_duration_since(slot.heard_here) >= SILENCE_BEFORE_MOVE
            {
                self.move_to(id, arrival, now);
            }
        }
        self.touch(id);
    }

    /// Makes a link for the stranger that sent a ClientHello, within the bounds.
    fn admit(&mut self, arrival: &Arrival<'_>, now: Instant) -> Option<LinkId> {
        let key = self.roster.stranger_at(arrival.from)?;
        // Those that nobody may really stand behind have a bound of their own: they must not keep others out.
        if self.proven_count() >= self.config.connections_max {
            tracing::debug!(from = %arrival.from, "refused: connections_max");
            return None;
        }
        if !self.admission.admit(arrival.from.ip(), now) {
            tracing::debug!(from = %arrival.from, "refused: too many handshakes from this prefix");
            return None;
        }
        while self.unproven_count >= self.config.unproven_max.max(1) {
            let oldest = self.unproven.pop_front()?;
            if self.slots.get(&oldest).is_some_and(|slot| slot.stage == Stage::Unproven) {
                self.remove(oldest, false, now);
            }
        }
        let entropy = random_entropy().ok()?;
        self.next_id += 1;
        let id = self.next_id;
        self.roster.link(&key, id);
        let has_cookies = self.unproven_count >= COOKIES_ABOVE;
        let slot = Slot {
            session: Session::new(Link::server(&self.setup, has_cookies, entropy, now)),
            key,
            address: arrival.from,
            ours: arrival.to,
            stage: Stage::Unproven,
            heard_here: now,
            heard: now,
            born: now,
            armed: None,
            is_dirty: false,
        };
        self.slots.insert(id, slot);
        self.unproven.push_back(id);
        self.unproven_count += 1;
        self.connections.store(self.slots.len(), Ordering::Relaxed);
        Some(id)
    }

    fn proven_count(&self) -> usize {
        self.slots.len().saturating_sub(self.unproven_count)
    }

    fn move_to(&mut self, id: LinkId, arrival: &Arrival<'_>, now: Instant) {
        if let Some(slot) = self.slots.get_mut(&id) {
            tracing::debug!(from = %slot.address, to = %arrival.from, "the peer's address changed");
            slot.address = arrival.from;
            slot.ours = arrival.to;
            slot.hear(arrival.from, now);
            self.touch(id);
        }
    }

    fn touch(&mut self, id: LinkId) {
        if let Some(slot) = self.slots.get_mut(&id)
            && !std::mem::replace(&mut slot.is_dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    fn pump(&mut self, now: Instant) {
        self.outbox.flush(&self.socket);
        while self.outbox.is_empty()
            && let Some(id) = self.dirty.pop_front()
        {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.is_dirty = false;
                let (to, from) = (slot.address, slot.ours);
                let (socket, outbox) = (&self.socket, &mut self.outbox);
                slot.session.pump(to, now, &mut Outlet { outbox, socket, to, from });
            }
            self.advance(id, now);
            self.outbox.flush(&self.socket);
        }
    }

    /// Takes note of what a link has become.
    fn advance(&mut self, id: LinkId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(ended) = slot.session.ended() {
            tracing::debug!(peer = %slot.address, ?ended, "connection ended");
            return self.remove(id, true, now);
        }
        if slot.stage == Stage::Unproven && slot.session.is_proven() {
            slot.stage = Stage::Handshaking;
            self.unproven_count -= 1;
            self.handshaking_count += 1;
            let peer = slot.address;
            // Several may have been admitted while there was room for one.
            let is_full = self.proven_count() > self.config.connections_max;
            if is_full || self.handshaking_count > self.config.handshakes_max {
                tracing::debug!(%peer, "refused: {}", if is_full { "connections_max" } else { "handshakes_max" });
                return self.remove(id, false, now);
            }
        }
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let limits = Limits {
            send_bytes_max: self.config.send_bytes_max,
            inbox_bytes_max: self.config.inbox_bytes_max,
        };
        if let Some(port) = slot.session.take_opened(limits, slot.address) {
            slot.heard = now;
            slot.heard_here = now;
            if slot.stage == Stage::Handshaking {
                self.handshaking_count -= 1;
            }
            slot.stage = Stage::Open;
            tracing::debug!(peer = %slot.address, after = ?now.saturating_duration_since(slot.born), "open");
            let connection = Connection::new(id, port, self.commander.clone());
            if self.accept.try_send(connection).is_err() {
                // Dropping the handle has asked for the close already.
                tracing::warn!("a connection was closed: nobody accepts, the queue is full");
            }
            // What came with the last packet of the handshake waits for its inbox.
            self.touch(id);
        }
        self.arm(id, now);
    }

    fn arm(&mut self, id: LinkId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let own = slot.deadline(&self.config);
        let at = slot.session.next_timeout(now).map_or(own, |at| at.min(own));
        // A timer that is too early costs one look; moving it with every packet would cost more.
        if slot.armed.is_none_or(|armed| at < armed) {
            if let Some(armed) = slot.armed.replace(at) {
                self.timers.remove(&(armed, id));
            }
            self.timers.insert((at, id));
        }
    }

    fn remove(&mut self, id: LinkId, is_over: bool, now: Instant) {
        let Some(slot) = self.slots.remove(&id) else { return };
        match slot.stage {
            Stage::Unproven => self.unproven_count -= 1,
            Stage::Handshaking => self.handshaking_count -= 1,
            Stage::Open => {}
        }
        if let Some(armed) = slot.armed {
            self.timers.remove(&(armed, id));
        }
        self.roster.unlink(&slot.key, is_over, now);
        self.connections.store(self.slots.len(), Ordering::Relaxed);
    }

    fn outbox_push(&mut self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) {
        // Answers are the first to go when the kernel takes no more: peers ask again.
        if self.outbox.is_empty() {
            self.outbox.push(&self.socket, to, from, datagram);
            self.outbox.flush(&self.socket);
        }
    }

    fn shut_down(mut self) {
        let now = Instant::now();
        for slot in self.slots.values_mut() {
            slot.session.abort(CloseReason::Shutdown);
            let (to, from) = (slot.address, slot.ours);
            let (socket, outbox) = (&self.socket, &mut self.outbox);
            slot.session.pump(to, now, &mut Outlet { outbox, socket, to, from });
            self.outbox.flush(&self.socket);
        }
        self.connections.store(0, Ordering::Relaxed);
    }
}

impl Slot {
    /// When the peer's silence ends the link.
    fn deadline(&self, config: &Config) -> Instant {
        match self.stage {
            Stage::Open => self.heard + config.consent_timeout,
            Stage::Unproven | Stage::Handshaking => self.born + config.handshake_timeout,
        }
    }

    fn hear(&mut self, from: SocketAddr, now: Instant) {
        self.heard = now;
        if from == self.address {
            self.heard_here = now;
        }
    }
}
