//! One peer's association: who it is with, what state it is in, and what is due when. What a kind of chunk does stands
//! in a room of its own below.

use std::{collections::VecDeque, sync::Arc};

use millstream_model::Instant;

use crate::{
    CloseReason, Config, Congestion, Entropy, Event, Message, Outgoing, Released, SendError, Stats,
    congestion::{Bbr, Controller, NewReno},
    receive::{arrived::Arrived, assembly::Assembly},
    send::{
        flight::Flight,
        pacer::Pacer,
        queue::{MESSAGE_CHARGE, Queue},
        rtt::RoundTrip,
    },
    wire::{COMMON_HEADER_BYTES, DATA_HEADER_BYTES, I_DATA_HEADER_BYTES, Writer, cause},
};

mod acknowledging;
mod cookie;
mod dispatch;
mod mtu;
mod receiving;
mod reset;
mod sending;
mod setup;
mod teardown;

use acknowledging::Pending;
use cookie::Key;
use mtu::Search;
use reset::Resets;

/// Times that a packet of the set-up or the shutdown is sent before the peer counts as gone.
const ATTEMPTS_MAX: u32 = 9;

/// HEARTBEAT ACKs, ERRORs and the like that wait to leave; what a flood asks for beyond is not answered.
const REPLIES_MAX: usize = 16;

/// Bytes of a peer's HEARTBEAT that are sent back; ours and everybody's are shorter. A probe for a path's MTU is padded
/// beside it (RFC 4820), not in it.
const HEARTBEAT_BYTES_MAX: usize = 1_024;

/// Events that wait to be heard. Only stream resets can be more, and nobody honest resets so many in one turn.
const EVENTS_MAX: usize = 256;

/// Numbers are kept in 64 bits and begin here, so that nothing before the first is below zero.
const EPOCH: u64 = 1 << 32;

/// SCTP with one peer. See the [crate] for how to drive it.
#[derive(Debug)]
pub struct Association {
    config: Arc<Config>,
    state: State,
    local: Local,
    peer: Option<Peer>,
    round_trip: RoundTrip,
    pacer: Pacer,
    controller: Box<dyn Controller>,
    queue: Queue,
    flight: Flight,
    arrived: Arrived,
    assembly: Assembly,
    resets: Resets,
    search: Search,
    timers: Timers,
    /// The newest acknowledgement, until all that came with it is in.
    pending: Option<Pending>,
    /// What SACK bytes are kept in; its memory goes round.
    gaps: Vec<u8>,
    /// Bytes that the peer's window has room for, what flies included.
    peer_window: u64,
    /// One chunk may leave though the peer's window is closed; how many have, in a row.
    probes_window: bool,
    window_probes: u32,
    /// A probe of the tail (RFC 8985 §7) wants to leave; one has left and is not answered.
    probe: Probe,
    /// Something was given up, and the peer must hear of it.
    forward: Forward,
    replies: VecDeque<Reply>,
    events: VecDeque<Event>,
    /// The window that we told last.
    told_window: u32,
    /// Packets that may still be answered now that it is over, and whether it ended in order.
    farewells: u32,
    is_orderly: bool,
    stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    CookieWait,
    CookieEchoed,
    Open,
    ShutdownPending,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
    Over,
}

/// Our side.
#[derive(Debug)]
struct Local {
    tag: u32,
    first_tsn: u32,
    key: Key,
    /// Tags made for peers that began anew.
    restarts: u32,
    /// What the INIT ACK brought, to be sent back.
    cookie: Vec<u8>,
}

/// What the peer said of itself.
#[derive(Debug, Clone, Copy)]
struct Peer {
    tag: u32,
    streams: u16,
    interleaves: bool,
    resets: bool,
    forwards: bool,
    zero_checksum: bool,
}

/// When things are due; none is not.
#[derive(Debug, Default)]
struct Timers {
    /// The set-up or the shutdown goes unanswered (T1, T2), and how often it did.
    attempt: Option<Instant>,
    attempts: u32,
    /// When the first packet of it left.
    attempted: Instant,
    /// Nothing is acknowledged (T3).
    timeout: Option<Instant>,
    /// The tail is to be probed.
    probe: Option<Instant>,
    /// Something late becomes lost.
    reorder: Option<Instant>,
    /// The pacer lets the next packet out.
    pace: Option<Instant>,
    heartbeat: Option<Instant>,
    /// A closed window is to be asked.
    window: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Idle,
    Wanted,
    Sent,
}

#[derive(Debug, Clone, Copy, Default)]
struct Forward {
    /// Something in the ring is given up.
    any: bool,
    /// To be said with the next packet.
    is_due: bool,
    /// The TSN said last.
    told: u64,
}

/// A packet, or a chunk of one, that answers the peer.
#[derive(Debug, Clone)]
enum Reply {
    /// As it is.
    Packet(Vec<u8>),
    Init,
    CookieEcho,
    CookieAck,
    HeartbeatAck(Vec<u8>),
    Heartbeat,
    Unrecognised(Vec<u8>),
    Shutdown,
    ShutdownAck,
}

impl Association {
    /// An association that waits for its peer. [`Association::connect`] begins it.
    #[must_use]
    pub fn new(config: Arc<Config>, entropy: Entropy, now: Instant) -> Self {
        let [t0, t1, t2, t3, n0, n1, n2, n3, s0, s1, s2, s3, s4, s5, s6, s7, key @ ..] = entropy.0;
        let first_tsn = u32::from_be_bytes([n0, n1, n2, n3]);
        let room = packet_room(config.packet_bytes_min);
        let seed = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        Self {
            state: State::Closed,
            local: Local {
                // Zero is INIT's own (RFC 9260 §8.5.1).
                tag: u32::from_be_bytes([t0, t1, t2, t3]).max(1),
                first_tsn,
                key: Key::new(key),
                restarts: 0,
                cookie: Vec::new(),
            },
            peer: None,
            round_trip: RoundTrip::new(config.round_trip_hint, now),
            pacer: Pacer::default(),
            controller: match config.congestion {
                Congestion::Bbr => Box::new(Bbr::new(room, seed)),
                Congestion::NewReno => Box::new(NewReno::new(room)),
            },
            queue: Queue::new(),
            flight: Flight::new(EPOCH + u64::from(first_tsn), now),
            arrived: Arrived::new(EPOCH),
            assembly: Assembly::new(config.message_bytes_max),
            resets: Resets::new(first_tsn),
            search: Search::new(config.packet_bytes_min, config.packet_bytes_max),
            timers: Timers::default(),
            pending: None,
            gaps: Vec::new(),
            peer_window: 0,
            probes_window: false,
            window_probes: 0,
            probe: Probe::Idle,
            forward: Forward::default(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            told_window: config.receive_window_bytes,
            farewells: 0,
            is_orderly: false,
            stats: Stats::default(),
            config,
        }
    }

    /// Sends INIT. Both sides may; when both do, one association comes of it (RFC 9260 §5.2.1).
    pub fn connect(&mut self, now: Instant) {
        if self.state == State::Closed {
            self.state = State::CookieWait;
            self.attempt(Reply::Init, now);
        }
    }

    /// Takes a message for sending.
    ///
    /// # Errors
    ///
    /// When it is empty, its stream is not there, too much waits already, or the association is over. Before it is
    /// open messages wait.
    pub fn send(&mut self, message: Outgoing, now: Instant) -> Result<(), SendError> {
        if !matches!(self.state, State::Closed | State::CookieWait | State::CookieEchoed | State::Open) {
            return Err(SendError::Closed);
        }
        if message.bytes.is_empty() {
            return Err(SendError::Empty);
        }
        let streams = self.peer.map_or(self.config.streams, |peer| peer.streams);
        if message.stream >= streams || self.resets.is_resetting(message.stream) {
            return Err(SendError::Stream(message.stream));
        }
        if self.queue.held() + message.bytes.len() + MESSAGE_CHARGE > self.config.send_bytes_max {
            return Err(SendError::Full);
        }
        self.queue.push(message, now);
        Ok(())
    }

    /// Messages of a stream with a lower priority go first; 128 is everybody's until it is set. With DATA a message that
    /// has begun still goes to its end, with I-DATA it is interrupted.
    pub fn set_priority(&mut self, stream: u16, priority: u8) {
        self.queue.set_priority(stream, priority);
    }

    /// The next whole message. Leave it for later and the peer's window closes.
    pub fn recv(&mut self) -> Option<Message> {
        let message = self.assembly.take()?;
        self.update_window();
        Some(message)
    }

    /// Whether [`Association::recv`] has something.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.assembly.is_empty()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What of the stream's messages the peer has acknowledged, or we have given up, since the last call.
    pub fn take_released(&mut self, stream: u16) -> Released {
        self.queue.take_released(stream)
    }

    /// Bytes handed over by [`Association::send`] that the peer has not acknowledged, the charges for their messages
    /// ([`Association::CHARGE`]) included.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.queue.held()
    }

    /// Bytes that [`Association::send`] would still take, the charge for a message ([`Association::CHARGE`]) included.
    #[must_use]
    pub fn room(&self) -> usize {
        self.config.send_bytes_max.saturating_sub(self.held())
    }

    /// What each message counts in [`Association::room`] on top of its bytes.
    pub const CHARGE: usize = MESSAGE_CHARGE;

    /// Whether the peer has acknowledged everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes handed over by [`Association::send`] that are in no packet yet.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Whether both sides are set up.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(
            self.state,
            State::Open | State::ShutdownPending | State::ShutdownReceived | State::ShutdownSent
        )
    }

    /// Counters and estimates.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            round_trip: self.round_trip.smoothed(),
            round_trip_min: self.round_trip.lowest(),
            window: self.controller.window(),
            in_flight: self.flight.flying(),
            pace: self.controller.pace(),
            packet_bytes: self.search.current(),
            ..self.stats
        }
    }

    /// The path is there again, or another one: what waits for a timer that has backed off leaves at once. For owners who
    /// know, by ICE, that the peer's address has changed or that it answers again.
    pub fn nudge(&mut self, now: Instant) {
        self.settle(now);
        if self.round_trip.backoff() > 0 {
            self.round_trip.recover();
            if self.timers.timeout.is_some() {
                self.timers.timeout = Some(now);
            }
            if self.timers.attempt.is_some() {
                self.timers.attempt = Some(now);
            }
        }
    }

    /// When [`Association::handle_timeout`] is to be called next. Call it after everything else of a turn.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.settle(now);
        if self.state == State::Over {
            return None;
        }
        let Timers { attempt, timeout, probe, reorder, pace, heartbeat, window, .. } = self.timers;
        let sack = self.arrived.next_timeout();
        [
            attempt,
            timeout,
            probe,
            reorder,
            pace,
            heartbeat,
            window,
            sack,
            self.resets.next_timeout(),
            self.search.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.timers.attempt) {
            self.attempt_again(now);
        }
        if is_due(self.timers.reorder) {
            self.timers.reorder = None;
            self.detect_losses(now);
        }
        if is_due(self.timers.timeout) {
            self.time_out(now);
        } else if is_due(self.timers.probe) {
            self.timers.probe = None;
            self.probe = Probe::Wanted;
        }
        if is_due(self.timers.pace) {
            self.timers.pace = None;
        }
        if is_due(self.timers.window) {
            self.timers.window = None;
            self.probes_window = true;
        }
        if is_due(self.timers.heartbeat) {
            self.timers.heartbeat = self.config.heartbeat_interval.map(|interval| now + interval);
            self.reply(Reply::Heartbeat);
        }
        if is_due(self.resets.next_timeout()) {
            self.resets.repeat();
        }
        if is_due(self.search.next_timeout()) {
            self.search.handle_timeout(now);
            self.adopt_packet_bytes();
        }
    }

    /// A packet of its own, under the tag that its receiver goes by.
    fn reply_packet(&mut self, tag: u32, write: impl FnOnce(&mut Writer<'_>)) {
        let mut packet = Vec::new();
        let mut writer = Writer::begin(&mut packet, self.config.port, self.config.port, tag);
        write(&mut writer);
        writer.finish(true);
        self.reply(Reply::Packet(packet));
    }

    fn reply(&mut self, reply: Reply) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back(reply);
        }
    }

    /// Sends a packet of the set-up or the shutdown, and again until it is answered.
    fn attempt(&mut self, reply: Reply, now: Instant) {
        self.timers.attempts = 1;
        self.timers.attempted = now;
        self.timers.attempt = Some(now + self.round_trip.timeout());
        self.reply(reply);
    }

    fn attempt_again(&mut self, now: Instant) {
        let reply = match self.state {
            State::CookieWait => Reply::Init,
            State::CookieEchoed => Reply::CookieEcho,
            State::ShutdownSent => Reply::Shutdown,
            State::ShutdownAckSent => Reply::ShutdownAck,
            _ => {
                self.timers.attempt = None;
                return;
            }
        };
        if self.timers.attempts >= ATTEMPTS_MAX {
            return self.over(CloseReason::Unanswered);
        }
        self.timers.attempts += 1;
        self.round_trip.back_off();
        self.timers.attempt = Some(now + self.round_trip.timeout());
        self.reply(reply);
    }

    /// Ends it, and says so to nobody but our owner.
    fn over(&mut self, reason: CloseReason) {
        if self.state != State::Over {
            self.state = State::Over;
            self.timers = Timers::default();
            self.resets.clear();
            self.search.stop();
            self.events.push_back(Event::Closed(reason));
        }
    }

    /// Ends it for what the peer did, and tells the peer.
    fn violated(&mut self, what: &'static str) {
        self.abort_for(what, cause::PROTOCOL_VIOLATION, what.as_bytes());
    }

    fn abort_for(&mut self, what: &'static str, cause: u16, value: &[u8]) {
        self.over(CloseReason::Violation(what));
        self.replies.clear();
        self.abort_peer(cause, value);
    }

    fn interleaves(&self) -> bool {
        self.peer.is_some_and(|peer| peer.interleaves)
    }

    fn data_header_bytes(&self) -> usize {
        if self.interleaves() { I_DATA_HEADER_BYTES } else { DATA_HEADER_BYTES }
    }

    /// The path carries longer or shorter packets than before.
    fn adopt_packet_bytes(&mut self) {
        self.controller.set_packet_bytes(packet_room(self.search.current()));
    }
}

/// Bytes of DATA chunks in a packet.
fn packet_room(packet_bytes: usize) -> u64 {
    packet_bytes.saturating_sub(COMMON_HEADER_BYTES) as u64
}
