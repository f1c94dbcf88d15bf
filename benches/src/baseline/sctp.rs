//! SCTP and its two channels for one peer, on the engine `rtc-sctp` (RFC 9260, RFC 8831). No socket, no clock.
//!
//! Pieces wait here, and are handed to the engine one at a time while the congestion window takes them.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppi, ReliabilityType, ServerConfig, StreamEvent, TimerConfig,
    TransportConfig,
};
use rtc_shared::TransportProtocol;

use super::{
    allowance::Allowance,
    link::{LOCAL, PEER},
    screen,
};

const CONTROL: u16 = 0;
const PIECES: u16 = 1;

/// Bytes in one message at most, either way.
const MESSAGE_BYTES_MAX: u32 = 65_600;

/// The receive window. Viewers send little.
const RECEIVE_WINDOW_BYTES: u32 = 256 * 1024;

/// Streams a peer may use: our two, and room for channels a page opens by itself.
const STREAMS_MAX: u16 = 16;

/// Bytes handed to the engine beyond what its congestion window takes.
const FEED_BYTES: usize = 8 * 1024;

/// What came on the control channel.
pub(super) type Control = Bytes;

#[derive(Default)]
pub(super) struct Sctp {
    engine: Option<Engine>,
    greeting: Option<Greeting>,
    is_open: bool,
    is_readable: bool,
    waiting: VecDeque<Bytes>,
    flow: Flow,
    is_over: bool,
}

struct Engine {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
}

/// The answer to an INIT, until the association is open.
struct Greeting {
    tag: u32,
    answer: Vec<Bytes>,
    is_due: bool,
}

/// What has been sent, told from the packets that leave.
#[derive(Default)]
struct Flow {
    last_tsn: Option<u32>,
    /// Bytes with the engine that it has not sent once.
    unsent: usize,
    /// Bytes with the engine that the peer has not acknowledged.
    underway: usize,
    /// Bytes written and not acknowledged.
    unacknowledged: usize,
    /// A TSN whose round trip is being measured.
    probe: Option<Probe>,
    /// How long the round trip took that ended with this packet, and bytes acknowledged before it.
    rounded: Option<(Duration, u64)>,
    acknowledged: u64,
    allowance: Allowance,
}

#[derive(Clone, Copy)]
struct Probe {
    tsn: u32,
    sent: Instant,
    /// Bytes acknowledged by then.
    acknowledged: u64,
}

impl Sctp {
    /// Takes a packet from the peer.
    pub(super) fn receive(&mut self, packet: Bytes, now: Instant) {
        let Some(seen) = screen::inbound(&packet) else { return };
        match seen.init_tag {
            Some(_) if self.is_open => {}
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

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn write(&mut self, piece: Bytes) {
        self.flow.unacknowledged += piece.len();
        self.waiting.push_back(piece);
    }

    pub(super) const fn unacknowledged(&self) -> usize {
        self.flow.unacknowledged
    }

    pub(super) fn read(&mut self, _now: Instant) -> Option<Control> {
        while self.is_readable {
            let engine = self.engine.as_mut()?;
            let Ok(Some(chunks)) = engine.association.stream(CONTROL).and_then(|mut stream| stream.read())
            else {
                self.is_readable = false;
                break;
            };
            let limit = usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX);
            let Ok(payload) = chunks.to_payload(limit) else {
                self.is_over = true;
                break;
            };
            if matches!(chunks.ppi, Ppi::String | Ppi::Binary) {
                return Some(payload.freeze());
            }
        }
        None
    }

    /// Hands every packet that may leave now to `send`.
    pub(super) fn transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        if let Some(greeting) = &mut self.greeting
            && std::mem::take(&mut greeting.is_due)
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
                send(packet);
            }
        }
    }

    /// Answers an INIT. The engine would make a second association of a copy, so a copy gets the same answer.
    fn greet(&mut self, tag: u32, packet: Bytes, now: Instant) {
        if let Some(greeting) = self.greeting.as_mut().filter(|greeting| greeting.tag == tag) {
            greeting.is_due = true;
            return;
        }
        let timers = TimerConfig {
            // Five silent doublings would kill the association.
            max_t3_rtx_retrans: usize::MAX,
            ..TimerConfig::default()
        };
        let transport = TransportConfig::default()
            .with_max_message_size(MESSAGE_BYTES_MAX)
            .with_max_receive_buffer_size(RECEIVE_WINDOW_BYTES)
            .with_max_num_inbound_streams(STREAMS_MAX)
            .with_max_num_outbound_streams(STREAMS_MAX)
            .with_timer_config(timers);
        let server = Some(Arc::new(ServerConfig::new(transport)));
        let mut endpoint =
            Endpoint::new(LOCAL, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), server);
        if let Some((handle, DatagramEvent::NewAssociation(association))) =
            endpoint.handle(now, PEER, None, packet)
        {
            self.engine = Some(Engine { endpoint, handle, association });
            self.greeting = Some(Greeting { tag, answer: Vec::new(), is_due: false });
        }
    }

    fn drain(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let mut is_connected = false;
        while let Some(event) = engine.association.poll() {
            match event {
                Event::Connected => is_connected = true,
                Event::HandshakeFailed { .. } => self.is_over = true,
                Event::AssociationLost { id, .. } if id <= PIECES => self.is_over = true,
                Event::Stream(StreamEvent::Readable { id: CONTROL }) => self.is_readable = true,
                Event::Stream(StreamEvent::BufferedAmountReleased { id: PIECES, n_bytes }) => {
                    self.flow.underway = self.flow.underway.saturating_sub(n_bytes);
                    self.flow.acknowledged += n_bytes as u64;
                    self.flow.unacknowledged = self.flow.unacknowledged.saturating_sub(n_bytes);
                }
                _ => {}
            }
        }
        while engine.association.accept_stream().is_some() {}
        while let Some(event) = engine.association.poll_endpoint_event() {
            engine.endpoint.handle_event(engine.handle, event);
        }
        self.is_over |= self.is_open && engine.association.is_closed();
        if is_connected {
            self.is_open = true;
            self.greeting = None;
            self.is_over |= open_channels(&mut engine.association).is_err();
        }
    }

    fn feed(&mut self, now: Instant) {
        while self.is_open && !self.is_over && self.flow.has_room() {
            let (Some(engine), Some(piece)) = (&mut self.engine, self.waiting.pop_front()) else { return };
            let written = engine
                .association
                .stream(PIECES)
                .and_then(|mut stream| stream.write_chunk_with_ppi(now, &piece, Ppi::Binary));
            match written {
                Ok(bytes) => {
                    self.flow.unsent += bytes;
                    self.flow.underway += bytes;
                }
                Err(_) => self.is_over = true,
            }
        }
    }
}

impl Flow {
    /// The engine may be given more.
    fn has_room(&self) -> bool {
        self.unsent < FEED_BYTES && self.underway < self.allowance.bytes()
    }

    fn sent(&mut self, packet: &[u8], now: Instant) {
        for (tsn, bytes) in screen::outbound(packet) {
            if self.last_tsn.is_none_or(|last| screen::is_after(tsn, last)) {
                self.last_tsn = Some(tsn);
                self.unsent = self.unsent.saturating_sub(bytes);
                let acknowledged = self.acknowledged;
                self.probe.get_or_insert(Probe { tsn, sent: now, acknowledged });
            } else if self.probe.is_some_and(|probe| !screen::is_after(tsn, probe.tsn)) {
                // Karn: an answer to a repeated TSN says nothing about either copy's round trip.
                self.probe = None;
            }
        }
    }

    fn acknowledged(&mut self, tsn: u32, now: Instant) {
        if let Some(probe) = self.probe
            && !screen::is_after(probe.tsn, tsn)
        {
            self.rounded = Some((now.saturating_duration_since(probe.sent), probe.acknowledged));
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

/// Both sides open both streams themselves (RFC 8831 §6.5: negotiated out of band).
fn open_channels(association: &mut Association) -> Result<(), rtc_shared::error::Error> {
    for (stream, is_unordered) in [(CONTROL, false), (PIECES, true)] {
        // Data that came with the last packet of the handshake has made the stream already.
        let _ = association.open_stream(stream, Ppi::Binary);
        association.stream(stream)?.set_reliability_params(is_unordered, ReliabilityType::Reliable, 0)?;
    }
    Ok(())
}
