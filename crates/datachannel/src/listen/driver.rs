//! One of the threads behind a listener: its socket, every link on it, and the decisions who gets one.
//!
//! A turn takes what arrived, what handles asked for and what is due, then lets every link it touched send. The
//! kernel's back-pressure ends a turn early: links are not asked for more than it takes.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Config, Counts,
    admission::Admission,
    neighbours::{Neighbours, Stray},
    roster::{PeerKey, Roster, Verdict},
    slots::{Slot, Slots, Stage, index_of},
    traversal::Carrier,
    wheel::Wheel,
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

/// So many datagrams at once say that more follow at once, mostly acknowledgements. Then they are left to gather for a
/// moment: waking for each costs more than reading it does.
const DENSE_DATAGRAMS: usize = 3;

/// How long they gather: nothing beside a part's 250 ms, and some 40 packets of a transfer at 50 MB/s. Twice as long
/// saved nothing and halved the rate to Chromium.
const READ_INTERVAL: Duration = Duration::from_millis(1);

/// Datagrams that other cores passed on, in one turn.
const STRAYS_PER_TURN: usize = 256;

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
    counts: Arc<Counts>,
    slots: Slots,
    neighbours: Neighbours,
    carrier: Carrier,
    roster: Roster,
    admission: Admission,
    /// Links that have not returned a cookie, oldest first; may name some that have or are gone.
    unproven: VecDeque<LinkId>,
    unproven_count: usize,
    handshaking_count: usize,
    timers: Wheel,
    /// Links to pump, in order, each once.
    dirty: VecDeque<LinkId>,
    outbox: Outbox,
    housekeeping_at: Instant,
    /// Much came at once; what comes before then is taken together.
    is_dense: bool,
    read_at: Instant,
}

impl Driver {
    pub(super) fn new(
        socket: Socket,
        config: Config,
        setup: Setup,
        accept: mpsc::Sender<Connection>,
        counts: Arc<Counts>,
        neighbours: Neighbours,
        carrier: Carrier,
    ) -> Self {
        let now = Instant::now();
        let (commander, commands) = mpsc::unbounded_channel();
        Self {
            socket: Arc::new(socket),
            admission: Admission::new(config.prefix_burst, config.prefix_per_second),
            config,
            setup,
            accept,
            commands,
            commander,
            counts,
            slots: Slots::default(),
            neighbours,
            carrier,
            roster: Roster::default(),
            unproven: VecDeque::new(),
            unproven_count: 0,
            handshaking_count: 0,
            timers: Wheel::new(now),
            dirty: VecDeque::new(),
            outbox: Outbox::default(),
            housekeeping_at: now + HOUSEKEEPING,
            is_dense: false,
            read_at: now,
        }
    }

    /// Drives until `stopped` resolves, then tells every peer.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let socket = self.socket.clone();
        let mut intake = Intake::new(INTAKE_SLOTS);
        loop {
            let due = self
                .timers
                .next()
                .into_iter()
                .chain(self.carrier.due())
                .fold(self.housekeeping_at, Instant::min);
            let pause = due.min(self.read_at).saturating_duration_since(Instant::now());
            if !pause.is_zero() && self.is_dense {
                // The thread itself, which is ours alone: the runtime would wake for every datagram.
                std::thread::park_timeout(pause);
            }
            let (mut asked, mut stray) = (None, None);
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                command = self.commands.recv() => asked = command,
                datagram = self.neighbours.recv() => stray = datagram,
                () = self.carrier.woken() => {}
                _ = socket.readable() => {}
                _ = socket.writable(), if !self.outbox.is_empty() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let now = Instant::now();
            if let Some((id, command)) = asked {
                self.command(id, command, now);
            }
            self.take_commands(now);
            self.take_strays(stray, now);
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

    fn take_strays(&mut self, mut first: Option<Stray>, now: Instant) {
        for _ in 0..STRAYS_PER_TURN {
            let Some(mut stray) = first.take().or_else(|| self.neighbours.try_recv()) else { return };
            let (from, to) = (stray.from, stray.to);
            self.arrive(Arrival { from, to, bytes: &mut stray.bytes }, now);
        }
    }

    fn command(&mut self, id: LinkId, command: Command, now: Instant) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.session.command(command, now);
            self.touch(id);
        }
    }

    fn receive(&mut self, intake: &mut Intake, now: Instant) {
        let socket = self.socket.clone();
        let (mut count, mut is_drained) = (0, false);
        for _ in 0..RECEIVES_PER_TURN {
            let received = socket.receive(intake, &mut |arrival| {
                count += 1;
                self.arrive(arrival, now);
            });
            match received {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_drained = true;
                    break;
                }
                Err(error) => tracing::debug!(%error, "receive"),
            }
        }
        // What is left in the socket is not waited for: its buffer would run over.
        self.is_dense = is_drained && count >= DENSE_DATAGRAMS;
        self.read_at = now + READ_INTERVAL;
    }

    fn take_due(&mut self, now: Instant) {
        while let Some(index) = self.timers.pop(now) {
            let Some(id) = self.slots.at(index) else { continue };
            let Some(slot) = self.slots.get_mut(id) else { continue };
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
            self.unproven.retain(|id| slots.get(*id).is_some_and(|slot| slot.stage == Stage::Unproven));
        }
        let Self { carrier, socket, outbox, .. } = self;
        carrier.take_due(now, |to, request| answer(outbox, socket, to, None, request));
    }

    fn arrive(&mut self, mut arrival: Arrival<'_>, now: Instant) {
        match demux::protocol(arrival.bytes) {
            Some(Protocol::Stun) => self.hear(&arrival, now),
            Some(Protocol::Dtls) => self.deliver(&mut arrival, now),
            None => {}
        }
    }

    fn hear(&mut self, arrival: &Arrival<'_>, now: Instant) {
        let Ok(message) = stun::Message::parse(arrival.bytes) else { return };
        match message.class {
            // Anybody may ask where it is seen: edges behind NAT and their viewers do.
            Class::Request if message.is_plain() => {
                let told = stun::binding_success(message.transaction, arrival.from);
                self.answer(arrival, &told);
            }
            Class::Request if message.is_authentic(&self.config.password) => {
                self.check(&message, arrival, now);
            }
            Class::Success => self.carrier.answered(&message, arrival.from),
            _ => {}
        }
    }

    /// The ICE agent, which is always controlled: answers a check that knows the password, and notes who is where.
    fn check(&mut self, message: &stun::Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        let names = message.username.and_then(|name| name.split_once(':'));
        let Some((_, theirs)) = names.filter(|(ours, _)| *ours == self.config.ufrag) else { return };
        let answer = match message.role {
            Some(Role::Controlling(tie_breaker)) => {
                self.carrier.heard(theirs);
                let key = PeerKey { ufrag: theirs.into(), tie_breaker };
                if !self.roster.has_link(&key)
                    && self.neighbours.pass_check(&key, arrival.from, arrival.to, arrival.bytes)
                {
                    return;
                }
                if !self.note(&key, arrival, message.use_candidate, now) {
                    return;
                }
                stun::success(message.transaction, arrival.from, &self.config.password)
            }
            Some(Role::Controlled(_)) => stun::role_conflict(message.transaction, &self.config.password),
            None => return,
        };
        self.answer(arrival, &answer);
    }

    /// Notes a check in the roster. Says whether to answer it.
    fn note(&mut self, key: &PeerKey, arrival: &Arrival<'_>, is_nominated: bool, now: Instant) -> bool {
        let slots = &self.slots;
        let verdict =
            self.roster.check(key, arrival.from, is_nominated, now, self.config.handshake_timeout, |id| {
                slots.get(id).map(|slot| (slot.address, slot.heard_here))
            });
        match verdict {
            Verdict::Ignore => return false,
            Verdict::Answer => {}
            Verdict::Alive(id) => {
                if let Some(slot) = self.slots.get_mut(id) {
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
            None if records.is_client_hello && self.roster.stranger_at(arrival.from).is_some() => {
                match self.admit(arrival, now) {
                    Some(id) => id,
                    None => return,
                }
            }
            None if self.neighbours.pass(arrival.from, arrival.to, arrival.bytes) => return,
            None => {
                if records.is_application_data {
                    self.roster.forget_stale(arrival.from);
                }
                return;
            }
        };
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.session.handle(arrival.bytes, now) {
            if now.saturating_duration_since(slot.heard) >= SILENCE_BEFORE_MOVE {
                slot.session.nudge(now);
            }
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
            if self.slots.get(oldest).is_some_and(|slot| slot.stage == Stage::Unproven) {
                self.remove(oldest, false, now);
            }
        }
        let entropy = random_entropy().ok()?;
        let has_cookies = self.unproven_count >= COOKIES_ABOVE;
        let slot = Slot {
            session: Session::new(Link::server(&self.setup, has_cookies, entropy, now)),
            key: key.clone(),
            address: arrival.from,
            ours: arrival.to,
            stage: Stage::Unproven,
            heard_here: now,
            heard: now,
            born: now,
            is_dirty: false,
        };
        let id = self.slots.insert(slot);
        self.roster.link(&key, id);
        self.neighbours.settle(&key);
        self.unproven.push_back(id);
        self.unproven_count += 1;
        self.counts.all.fetch_add(1, Ordering::Relaxed);
        Some(id)
    }

    fn proven_count(&self) -> usize {
        self.counts.proven.load(Ordering::Relaxed)
    }

    fn move_to(&mut self, id: LinkId, arrival: &Arrival<'_>, now: Instant) {
        if let Some(slot) = self.slots.get_mut(id) {
            tracing::debug!(from = %slot.address, to = %arrival.from, "the peer's address changed");
            slot.address = arrival.from;
            slot.ours = arrival.to;
            slot.hear(arrival.from, now);
            slot.session.nudge(now);
            self.touch(id);
        }
    }

    fn touch(&mut self, id: LinkId) {
        if let Some(slot) = self.slots.get_mut(id)
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
            if let Some(slot) = self.slots.get_mut(id) {
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
        let Some(slot) = self.slots.get_mut(id) else { return };
        if let Some(ended) = slot.session.ended() {
            tracing::debug!(peer = %slot.address, ?ended, "connection ended");
            return self.remove(id, true, now);
        }
        if slot.stage == Stage::Unproven && slot.session.is_proven() {
            slot.stage = Stage::Handshaking;
            self.unproven_count -= 1;
            self.counts.proven.fetch_add(1, Ordering::Relaxed);
            self.handshaking_count += 1;
            let peer = slot.address;
            // Several may have been admitted while there was room for one.
            let is_full = self.proven_count() > self.config.connections_max;
            if is_full || self.handshaking_count > self.config.handshakes_max {
                tracing::debug!(%peer, "refused: {}", if is_full { "connections_max" } else { "handshakes_max" });
                return self.remove(id, false, now);
            }
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
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
        let Some(slot) = self.slots.get_mut(id) else { return };
        let own = slot.deadline(&self.config);
        let at = slot.session.next_timeout(now).map_or(own, |at| at.min(own));
        self.timers.set(index_of(id), at);
    }

    fn remove(&mut self, id: LinkId, is_over: bool, now: Instant) {
        let Some(slot) = self.slots.remove(id) else { return };
        if slot.stage != Stage::Unproven {
            self.counts.proven.fetch_sub(1, Ordering::Relaxed);
        }
        match slot.stage {
            Stage::Unproven => self.unproven_count -= 1,
            Stage::Handshaking => self.handshaking_count -= 1,
            Stage::Open => {}
        }
        self.timers.unset(index_of(id));
        self.neighbours.leave(&slot.key);
        self.roster.unlink(&slot.key, is_over, now);
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
    }

    fn answer(&mut self, arrival: &Arrival<'_>, datagram: &[u8]) {
        answer(&mut self.outbox, &self.socket, arrival.from, arrival.to, datagram);
    }

    fn shut_down(mut self) {
        let now = Instant::now();
        for slot in self.slots.iter_mut() {
            slot.session.abort(CloseReason::Shutdown);
            let (to, from) = (slot.address, slot.ours);
            let (socket, outbox) = (&self.socket, &mut self.outbox);
            slot.session.pump(to, now, &mut Outlet { outbox, socket, to, from });
            self.outbox.flush(&self.socket);
        }
        self.counts.all.fetch_sub(self.slots.len(), Ordering::Relaxed);
        self.counts.proven.fetch_sub(self.slots.len() - self.unproven_count, Ordering::Relaxed);
    }
}

/// Sends what is the first to go when the kernel takes no more: peers ask again.
fn answer(outbox: &mut Outbox, socket: &Socket, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) {
    if outbox.is_empty() {
        outbox.push(socket, to, from, datagram);
        outbox.flush(socket);
    }
}
