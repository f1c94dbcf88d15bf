//! SCTP and its two channels for one peer, on the engine `rtc-sctp` (RFC 9260, RFC 8831). No socket, no clock.
//!
//! The engine is fed so that control goes before media: pieces wait here, and are handed over one at a time while
//! the congestion window takes them.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationError, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig,
    Event, Payload, PayloadProtocolIdentifier as Ppi, ReliabilityType, ServerConfig, StreamEvent,
    TimerConfig, TransportConfig,
};
use rtc_shared::TransportProtocol;

use super::{
    LOCAL, PEER,
    allowance::Allowance,
    screen::{self, Inbound, Outbound, Refusal, STREAMS_MAX},
};
use crate::connection::{Channel, CloseReason, MESSAGE_BYTES_MAX, Message, Stats};

/// Bytes handed to the engine beyond what its congestion window takes. A piece may be more: control, and what a viewer
/// wants more urgently, waits for one piece at most.
const FEED_BYTES: usize = 8 * 1024;

/// INITs answered: a peer whose INITs get lost sends a few, all the same.
const INITS_MAX: usize = 16;

/// RE-CONFIG chunks taken in a connection's life: closing sixteen streams, with retransmissions. The engine keeps
/// each that names a future TSN.
const RECONFIGS_MAX: usize = 64;

/// DATA chunks that the engine may hold for us: one for each so many bytes of window, and some. Bounds the cost of
/// many tiny chunks, which the window does not count.
const WINDOW_BYTES_PER_CHUNK: usize = 64;
const UNREAD_CHUNKS_MIN: usize = 1_024;

/// RFC 8831 §6.6: DATA_CHANNEL_OPEN and the ACK that answers it (RFC 8832 §5).
const DCEP_OPEN: u8 = 3;
const DCEP_ACK: u8 = 2;

/// Weight of a new round trip sample: 1/8 (RFC 6298 §2.3).
const RTT_WEIGHT: u32 = 8;

pub(super) struct Sctp {
    transport: Arc<TransportConfig>,
    engine: Option<Engine>,
    greeting: Option<Greeting>,
    inits: usize,
    open: bool,
    /// Streams that have something to read, one bit each.
    readable: u16,
    waiting: [VecDeque<Bytes>; 2],
    /// Bytes with the engine that were never charged to a sender: DCEP, stand-ins of empty messages.
    uncharged: [usize; 2],
    released: [Released; 2],
    flow: Flow,
    intake: Intake,
    ended: Option<CloseReason>,
}

struct Engine {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
}

/// The server's answer to an INIT, until the association is open.
struct Greeting {
    tag: u32,
    answer: Vec<Bytes>,
    repeat: bool,
}

/// What senders get back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Released {
    /// Messages that left the queue here.
    pub(crate) messages: usize,
    /// Bytes the peer acknowledged.
    pub(crate) bytes: usize,
}

/// What has been sent, told from the packets that leave.
#[derive(Default)]
struct Flow {
    last_tsn: Option<u32>,
    /// Bytes with the engine that it has not sent once.
    unsent: usize,
    /// Bytes with the engine that the peer has not acknowledged.
    underway: usize,
    /// Bytes charged to senders and not released.
    unacknowledged: usize,
    /// A TSN whose round trip is being measured.
    probe: Option<Probe>,
    /// How long the round trip took that ended with this packet, and bytes acknowledged before it.
    rounded: Option<(Duration, u64)>,
    /// Bytes acknowledged, ours included.
    acknowledged: u64,
    allowance: Allowance,
    stats: Stats,
}

#[derive(Clone, Copy)]
struct Probe {
    tsn: u32,
    sent: Instant,
    /// Bytes acknowledged by then.
    acknowledged: u64,
}

/// What the engine holds that we have not read.
#[derive(Default)]
struct Intake {
    chunks: usize,
    /// The window we last announced was zero.
    is_full: bool,
    /// Bytes that arrived while it was, with nothing to read.
    excess: usize,
    reconfigs: usize,
}

impl Sctp {
    pub(super) fn new(receive_window_bytes: u32) -> Self {
        let timers = TimerConfig {
            // Consent, not this, decides that a peer is gone; five silent doublings would kill the association.
            max_t3_rtx_retrans: usize::MAX,
            ..TimerConfig::default()
        };
        let transport = TransportConfig::default()
            .with_max_message_size(u32::try_from(MESSAGE_BYTES_MAX).unwrap_or(u32::MAX))
            .with_max_receive_buffer_size(receive_window_bytes)
            .with_max_num_inbound_streams(STREAMS_MAX)
            .with_max_num_outbound_streams(STREAMS_MAX)
            .with_timer_config(timers);
        Self {
            transport: Arc::new(transport),
            engine: None,
            greeting: None,
            inits: 0,
            open: false,
            readable: 0,
            waiting: Default::default(),
            uncharged: [0; 2],
            released: Default::default(),
            flow: Flow::default(),
            intake: Intake::default(),
            ended: None,
        }
    }

    /// Sends INIT: the client's side.
    pub(super) fn connect(&mut self, now: Instant) {
        let config = ClientConfig { transport: self.transport.clone() };
        let mut endpoint =
            Endpoint::new(LOCAL, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        match endpoint.connect(now, config, PEER) {
            Ok((handle, association)) => self.engine = Some(Engine { endpoint, handle, association }),
            Err(_) => self.ended = Some(CloseReason::Misbehaviour("SCTP did not start")),
        }
    }

    /// Takes a packet from the peer. Only a server takes an INIT.
    pub(super) fn receive(&mut self, packet: Bytes, is_server: bool, now: Instant) {
        let seen = match screen::inbound(&packet) {
            Ok(seen) => seen,
            Err(Refusal::Malformed) => return,
            Err(Refusal::Hostile(why)) => return self.end(CloseReason::Misbehaviour(why)),
        };
        if !self.admit(&seen) {
            return;
        }
        match seen.init_tag {
            // An INIT in an open association would make the engine close it; a copy that was late is harmless.
            Some(_) if !is_server || self.open => {}
            Some(tag) => self.greet(tag, packet, now),
            None => {
                if let Some(tsn) = seen.acknowledged {
                    self.flow.acknowledged(tsn, now);
                }
                let Some(engine) = &mut self.engine else { return };
                if let Some((_, DatagramEvent::AssociationEvent(event))) =
                    engine.endpoint.handle(now, PEER, None, packet)
                {
                    engine.association.handle_event(event);
                }
                self.drain();
                self.flow.round(now);
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.engine.as_ref().and_then(|engine| engine.association.poll_timeout())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(engine) = &mut self.engine
            && engine.association.poll_timeout().is_some_and(|at| at <= now)
        {
            engine.association.handle_timeout(now);
            self.drain();
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    pub(super) const fn ended(&self) -> Option<CloseReason> {
        self.ended
    }

    pub(super) fn write(&mut self, channel: Channel, bytes: Bytes) {
        self.flow.unacknowledged += bytes.len();
        self.waiting[index(channel)].push_back(bytes);
    }

    /// Whether the peer has acknowledged everything.
    pub(super) fn is_drained(&self) -> bool {
        self.flow.unacknowledged == 0 && self.waiting.iter().all(VecDeque::is_empty)
    }

    pub(super) fn take_released(&mut self, channel: Channel) -> Released {
        std::mem::take(&mut self.released[index(channel)])
    }

    pub(super) const fn stats(&self) -> Stats {
        self.flow.stats
    }

    /// The next whole message, control first. Others' channels are answered and emptied on the way.
    pub(super) fn read(&mut self, now: Instant) -> Option<Message> {
        while self.readable != 0 && self.ended.is_none() {
            let stream = u16::try_from(self.readable.trailing_zeros()).unwrap_or(0);
            let engine = self.engine.as_mut()?;
            let Ok(Some(chunks)) = engine.association.stream(stream).and_then(|mut stream| stream.read())
            else {
                self.readable &= !(1 << stream);
                // A reset that waited for us to read takes effect now.
                self.drain();
                continue;
            };
            self.intake.chunks = self.intake.chunks.saturating_sub(chunks.chunks.len());
            let Ok(payload) = chunks.to_payload(MESSAGE_BYTES_MAX) else {
                self.end(CloseReason::Misbehaviour("a message that is too long"));
                return None;
            };
            match chunks.ppi {
                Ppi::Dcep => self.answer_open(stream, &payload, now),
                ppi => {
                    if let Some(message) = message(stream, ppi, payload.freeze()) {
                        self.flow.stats.bytes_received += count(message.bytes.len());
                        return Some(message);
                    }
                }
            }
        }
        None
    }

    /// Hands every packet that may leave now to `send`.
    pub(super) fn transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if let Some(greeting) = &mut self.greeting
            && std::mem::take(&mut greeting.repeat)
        {
            greeting.answer.iter().for_each(|packet| send(packet));
        }
        loop {
            self.feed(now);
            let Some(engine) = &mut self.engine else { return };
            let Some(transmit) = engine.association.poll_transmit(now) else { return };
            let Payload::RawEncode(packets) = transmit.message else { continue };
            if let Some(greeting) = self.greeting.as_mut().filter(|greeting| greeting.answer.is_empty()) {
                greeting.answer.clone_from(&packets);
            }
            for packet in &packets {
                self.flow.sent(packet, now);
                for window in screen::outbound(packet) {
                    if let Outbound::Window(bytes) = window {
                        self.intake.announced(bytes, self.transport.max_receive_buffer_size());
                    }
                }
                send(packet);
            }
        }
    }

    /// Counts what a packet brings against the bounds.
    fn admit(&mut self, seen: &Inbound) -> bool {
        self.intake.chunks += seen.data_chunks;
        self.intake.reconfigs += seen.reconfigs;
        if self.intake.is_full && self.readable == 0 {
            self.intake.excess += seen.data_bytes;
        }
        let window = usize::try_from(self.transport.max_receive_buffer_size()).unwrap_or(usize::MAX);
        let refusal = if self.intake.chunks > window / WINDOW_BYTES_PER_CHUNK + UNREAD_CHUNKS_MIN {
            "too many tiny chunks"
        } else if self.intake.excess > window {
            "a message without end"
        } else if self.intake.reconfigs > RECONFIGS_MAX {
            "too many stream resets"
        } else {
            return true;
        };
        self.end(CloseReason::Misbehaviour(refusal));
        false
    }

    /// Answers an INIT. The engine would make a second association of a copy, so a copy gets the same answer.
    fn greet(&mut self, tag: u32, packet: Bytes, now: Instant) {
        self.inits += 1;
        if self.inits > INITS_MAX {
            return self.end(CloseReason::Misbehaviour("too many INITs"));
        }
        if let Some(greeting) = self.greeting.as_mut().filter(|greeting| greeting.tag == tag) {
            greeting.repeat = true;
            return;
        }
        let server = ServerConfig::new(self.transport.as_ref().clone());
        let mut endpoint = Endpoint::new(
            LOCAL,
            TransportProtocol::UDP,
            Arc::new(EndpointConfig::new()),
            Some(Arc::new(server)),
        );
        if let Some((handle, DatagramEvent::NewAssociation(association))) =
            endpoint.handle(now, PEER, None, packet)
        {
            self.engine = Some(Engine { endpoint, handle, association });
            self.greeting = Some(Greeting { tag, answer: Vec::new(), repeat: false });
        }
    }

    fn drain(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let mut connected = false;
        let mut ended = None;
        while let Some(event) = engine.association.poll() {
            match event {
                Event::Connected => connected = true,
                Event::HandshakeFailed { .. } => {
                    ended = Some(CloseReason::Misbehaviour("SCTP was not answered"));
                }
                Event::AssociationLost { reason, id } if id < 2 => ended = Some(reason_of(&reason)),
                Event::Stream(StreamEvent::Readable { id }) if id < STREAMS_MAX => self.readable |= 1 << id,
                Event::Stream(StreamEvent::BufferedAmountReleased { id, n_bytes }) if id < 2 => {
                    let id = usize::from(id);
                    let uncharged = self.uncharged[id].min(n_bytes);
                    self.uncharged[id] -= uncharged;
                    self.flow.underway = self.flow.underway.saturating_sub(n_bytes);
                    self.flow.acknowledged += count(n_bytes);
                    let bytes = n_bytes - uncharged;
                    self.released[id].bytes += bytes;
                    self.flow.unacknowledged = self.flow.unacknowledged.saturating_sub(bytes);
                    self.flow.stats.bytes_acknowledged += count(bytes);
                }
                _ => {}
            }
        }
        while engine.association.accept_stream().is_some() {}
        while let Some(event) = engine.association.poll_endpoint_event() {
            engine.endpoint.handle_event(engine.handle, event);
        }
        if self.open && engine.association.is_closed() {
            ended = ended.or(Some(CloseReason::Peer));
        }
        if connected {
            self.open = true;
            self.greeting = None;
            if open_channels(&mut engine.association).is_err() {
                ended = Some(CloseReason::Misbehaviour("the channels did not open"));
            }
        }
        if let Some(reason) = ended {
            self.end(reason);
        }
    }

    fn feed(&mut self, now: Instant) {
        while self.open && self.ended.is_none() && self.flow.has_room() {
            let Some((channel, bytes)) = [Channel::Control, Channel::Pieces]
                .into_iter()
                .find_map(|channel| Some((channel, self.waiting[index(channel)].pop_front()?)))
            else {
                return;
            };
            self.released[index(channel)].messages += 1;
            // SCTP carries no empty message: one byte stands in (RFC 8831 §6.6).
            let (bytes, ppi) = if bytes.is_empty() {
                self.uncharged[index(channel)] += 1;
                (Bytes::from_static(&[0]), Ppi::BinaryEmpty)
            } else {
                (bytes, Ppi::Binary)
            };
            self.put(stream_of(channel), &bytes, ppi, now);
        }
    }

    fn put(&mut self, stream: u16, bytes: &Bytes, ppi: Ppi, now: Instant) {
        let Some(engine) = &mut self.engine else { return };
        let written = engine
            .association
            .stream(stream)
            .and_then(|mut stream| stream.write_chunk_with_ppi(now, bytes, ppi));
        match written {
            Ok(bytes) => {
                self.flow.unsent += bytes;
                self.flow.underway += bytes;
            }
            // The stream or the association is closing under us.
            Err(_) => self.end(CloseReason::Peer),
        }
    }

    /// A page that opens its channels by DCEP gets its answer; ours exist without it.
    fn answer_open(&mut self, stream: u16, payload: &[u8], now: Instant) {
        if payload.first() == Some(&DCEP_OPEN) {
            if let Some(uncharged) = self.uncharged.get_mut(usize::from(stream)) {
                *uncharged += 1;
            }
            self.put(stream, &Bytes::from_static(&[DCEP_ACK]), Ppi::Dcep, now);
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.ended.get_or_insert(reason);
    }
}

impl Flow {
    /// The engine may be given more.
    fn has_room(&self) -> bool {
        self.unsent < FEED_BYTES && self.underway < self.allowance.bytes()
    }

    fn sent(&mut self, packet: &[u8], now: Instant) {
        for chunk in screen::outbound(packet) {
            let Outbound::Data { tsn, bytes } = chunk else { continue };
            if self.last_tsn.is_none_or(|last| screen::is_after(tsn, last)) {
                self.last_tsn = Some(tsn);
                self.unsent = self.unsent.saturating_sub(bytes);
                self.stats.bytes_sent += count(bytes);
                let acknowledged = self.acknowledged;
                self.probe.get_or_insert(Probe { tsn, sent: now, acknowledged });
            } else {
                self.stats.retransmits += 1;
                // Karn: an answer to a repeated TSN says nothing about either copy's round trip.
                if self.probe.is_some_and(|probe| !screen::is_after(tsn, probe.tsn)) {
                    self.probe = None;
                }
            }
        }
    }

    fn acknowledged(&mut self, tsn: u32, now: Instant) {
        if let Some(probe) = self.probe
            && !screen::is_after(probe.tsn, tsn)
        {
            let sample = now.saturating_duration_since(probe.sent);
            let rtt = match self.stats.rtt {
                Some(rtt) => (rtt * (RTT_WEIGHT - 1) + sample) / RTT_WEIGHT,
                None => sample,
            };
            self.stats.rtt = Some(rtt.max(Duration::from_micros(1)));
            self.rounded = Some((sample, probe.acknowledged));
            self.probe = None;
        }
    }

    /// Measures the round trip that has just ended, once what its last packet acknowledges is counted.
    fn round(&mut self, now: Instant) {
        if let Some((round_trip, before)) = self.rounded.take() {
            let bytes = usize::try_from(self.acknowledged - before).unwrap_or(usize::MAX);
            self.allowance.measure(bytes, round_trip, now);
        }
    }
}

impl Intake {
    fn announced(&mut self, window: u32, window_max: u32) {
        self.is_full = window == 0;
        if !self.is_full {
            self.excess = 0;
        }
        if window == window_max {
            // Nothing is held: whatever was counted twice (a chunk that came twice) is forgotten.
            self.chunks = 0;
        }
    }
}

/// Both sides open both streams themselves (RFC 8831 §6.5: negotiated out of band).
fn open_channels(association: &mut Association) -> Result<(), rtc_shared::error::Error> {
    for channel in [Channel::Control, Channel::Pieces] {
        let stream = stream_of(channel);
        // Data that came with the last packet of the handshake has made the stream already.
        let _ = association.open_stream(stream, Ppi::Binary);
        let is_unordered = channel == Channel::Pieces;
        association.stream(stream)?.set_reliability_params(is_unordered, ReliabilityType::Reliable, 0)?;
    }
    Ok(())
}

fn message(stream: u16, ppi: Ppi, payload: Bytes) -> Option<Message> {
    let channel = match stream {
        0 => Channel::Control,
        1 => Channel::Pieces,
        _ => return None,
    };
    let bytes = match ppi {
        Ppi::String | Ppi::Binary => payload,
        Ppi::StringEmpty | Ppi::BinaryEmpty => Bytes::new(),
        _ => return None,
    };
    Some(Message { channel, bytes })
}

fn reason_of(error: &AssociationError) -> CloseReason {
    match error {
        AssociationError::Reset
        | AssociationError::AssociationClosed
        | AssociationError::ApplicationClosed
        | AssociationError::LocallyClosed => CloseReason::Peer,
        _ => CloseReason::Misbehaviour("SCTP error"),
    }
}

const fn stream_of(channel: Channel) -> u16 {
    match channel {
        Channel::Control => 0,
        Channel::Pieces => 1,
    }
}

const fn index(channel: Channel) -> usize {
    match channel {
        Channel::Control => 0,
        Channel::Pieces => 1,
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
