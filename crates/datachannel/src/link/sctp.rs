//! SCTP and its two channels for one peer (RFC 9260, RFC 8831). No socket; the clock is the caller's.
//!
//! Both sides have opened streams 0 and 1 by themselves. A page that opens channels by DCEP all the same gets its
//! answers here; what is said on others than ours is taken and left.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use millstream_model as model;
use millstream_sctp::{
    Association, CloseReason as Reason, Config, Entropy, Event, Outgoing, Reliability,
    dcep::{self, Ppi},
};

use super::dtls::Version;
use crate::connection::{Channel, CloseReason, MESSAGE_BYTES_MAX, Message, Stats};

/// Streams a peer may use: our two, and room for channels a page opens by itself, which are acknowledged and ignored.
const STREAMS_MAX: u16 = 16;

/// A UDP payload that every path carries (RFC 8831 §5 wants this or less, without probing).
const DATAGRAM_BYTES_MIN: usize = 1_200;

/// The longest UDP payload on a path of 1,500 bytes, by IPv6.
const DATAGRAM_BYTES_MAX: usize = 1_500 - 40 - 8;

/// DCEP answers given in a connection's life: an honest page opens each stream once, and repeats what was lost below us.
const ANSWERS_MAX: usize = 64;

/// DATA_CHANNEL_ACK (RFC 8832 §5.2).
const ACK: [u8; 1] = [2];

/// The association's clock begins so long before the link, so that nothing is ever before its origin.
const HEADSTART: Duration = Duration::from_secs(60);

/// Of pieces no more waits for its first packet than leaves in this part of a second at the present pace (50 ms: a busy
/// sender is woken by then). What waits longer than it must is in the way of what a viewer wants by now instead: 512 KiB
/// are six seconds on a line of 700 kbit/s.
const WAITING_PER_SECOND: u64 = 20;

/// So much may wait at any pace: a GSO batch has something to begin with.
const WAITING_BYTES_MIN: usize = 16 * 1024;

/// What every link of one listener or dialler shares: how long packets are depends on what DTLS adds to them.
pub(super) struct Configs {
    old: Arc<Config>,
    new: Arc<Config>,
}

impl Configs {
    pub(super) fn new(receive_window_bytes: u32) -> Self {
        let of = |version: Version| {
            Arc::new(Config {
                streams: STREAMS_MAX,
                receive_window_bytes,
                message_bytes_max: MESSAGE_BYTES_MAX,
                // The credit of the handles bounds what is handed over (connection/port.rs).
                send_bytes_max: usize::MAX,
                packet_bytes_min: DATAGRAM_BYTES_MIN - version.overhead_bytes(),
                packet_bytes_max: DATAGRAM_BYTES_MAX - version.overhead_bytes(),
                ..Config::default()
            })
        };
        Self { old: of(Version::Dtls12), new: of(Version::Dtls13) }
    }

    const fn of(&self, version: Version) -> &Arc<Config> {
        match version {
            Version::Dtls12 => &self.old,
            Version::Dtls13 => &self.new,
        }
    }
}

pub(super) struct Sctp {
    association: Association,
    /// What one begins with that is to be made for another version of DTLS.
    entropy: Entropy,
    configs: Arc<Configs>,
    origin: Instant,
    is_open: bool,
    has_heard: bool,
    answers: usize,
    /// What is with the association and was never charged to a sender: DCEP, stand-ins of empty messages.
    uncharged: [Released; 2],
    bytes_received: u64,
    ended: Option<CloseReason>,
}

/// What senders get back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Released {
    /// Messages the peer has wholly acknowledged.
    pub(crate) messages: usize,
    /// Bytes the peer acknowledged.
    pub(crate) bytes: usize,
}

impl Sctp {
    pub(super) fn new(configs: &Arc<Configs>, entropy: Entropy, now: Instant) -> Self {
        Self {
            association: begin(configs.of(Version::Dtls12), entropy),
            entropy,
            configs: configs.clone(),
            origin: now,
            is_open: false,
            has_heard: false,
            answers: 0,
            uncharged: Default::default(),
            bytes_received: 0,
            ended: None,
        }
    }

    /// Begins the association over DTLS of this version, before anything is written or received. Both sides do: the
    /// server's INIT leaves with the end of its handshake, which saves the client a round trip (RFC 9260 §5.2.1 makes
    /// one association of both).
    pub(super) fn connect(&mut self, version: Version, now: Instant) {
        if version != Version::Dtls12 {
            self.association = begin(self.configs.of(version), self.entropy);
        }
        self.association.connect(self.at(now));
    }

    pub(super) fn receive(&mut self, packet: &[u8], now: Instant) {
        self.has_heard = true;
        self.association.handle(packet, self.at(now));
    }

    /// Whether anything came from the peer.
    pub(super) const fn has_heard(&self) -> bool {
        self.has_heard
    }

    pub(super) fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.association.next_timeout(self.at(now))?;
        Some(self.origin + Duration::from_micros(at.0).saturating_sub(HEADSTART))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(self.at(now));
    }

    /// See [`Association::nudge`].
    pub(super) fn nudge(&mut self, now: Instant) {
        let at = self.at(now);
        self.association.nudge(at);
    }

    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) const fn ended(&self) -> Option<CloseReason> {
        self.ended
    }

    pub(super) fn write(&mut self, channel: Channel, bytes: Bytes, now: Instant) {
        let stream = stream_of(channel);
        // SCTP carries no empty message: one byte stands in (RFC 8831 §6.6).
        let (bytes, ppi) = if bytes.is_empty() {
            self.uncharged[usize::from(stream)].bytes += 1;
            (Bytes::from_static(&[0]), Ppi::BinaryEmpty)
        } else {
            (bytes, Ppi::Binary)
        };
        self.put(stream, ppi, bytes, channel == Channel::Pieces, now);
    }

    /// Whether the peer has acknowledged everything.
    pub(super) fn is_drained(&self) -> bool {
        self.association.is_drained()
    }

    pub(super) fn take_released(&mut self, channel: Channel) -> Released {
        let stream = stream_of(channel);
        let released = self.association.take_released(stream);
        let uncharged = &mut self.uncharged[usize::from(stream)];
        let free = Released {
            messages: uncharged.messages.min(released.messages),
            bytes: uncharged.bytes.min(released.bytes),
        };
        uncharged.messages -= free.messages;
        uncharged.bytes -= free.bytes;
        Released { messages: released.messages - free.messages, bytes: released.bytes - free.bytes }
    }

    /// How much of a channel SCTP wants to hold, in bytes and charges: what is in flight, and what leaves before its
    /// sender could bring more.
    pub(super) fn appetite(&self, channel: Channel) -> usize {
        match channel {
            Channel::Control => usize::MAX,
            Channel::Pieces => {
                let pace = self.association.stats().pace.unwrap_or(0);
                let soon = usize::try_from(pace / WAITING_PER_SECOND).unwrap_or(usize::MAX);
                let flying = self.association.held().saturating_sub(self.association.waiting());
                flying.saturating_add(soon.max(WAITING_BYTES_MIN))
            }
        }
    }

    /// All but what DTLS knows.
    pub(super) fn stats(&self) -> Stats {
        let stats = self.association.stats();
        Stats {
            bytes_sent: stats.bytes_sent,
            bytes_acknowledged: stats.bytes_acknowledged,
            bytes_received: self.bytes_received,
            retransmits: stats.retransmits,
            rtt: stats.round_trip,
            dtls: None,
        }
    }

    /// The next whole message of our channels. Others' are answered and emptied on the way.
    pub(super) fn read(&mut self, now: Instant) -> Option<Message> {
        while let Some(message) = self.association.recv() {
            match Ppi::from_wire(message.ppi) {
                Some(Ppi::Dcep) => self.answer(message.stream, &message.bytes, now),
                Some(ppi) => {
                    if let Some(message) = ours(message, ppi) {
                        self.bytes_received += message.bytes.len() as u64;
                        return Some(message);
                    }
                }
                None => {}
            }
        }
        None
    }

    /// Appends the next packet that may leave now to `out`. Says whether there was one.
    pub(super) fn transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        self.association.poll_transmit(self.at(now), out)
    }

    /// The association and its time, to speak as a page would that is not ours.
    #[cfg(test)]
    pub(super) fn on_association<T>(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Association, model::Instant) -> T,
    ) -> T {
        let at = self.at(now);
        act(&mut self.association, at)
    }

    /// Takes note of what has happened.
    pub(super) fn settle(&mut self) {
        while let Some(event) = self.association.poll_event() {
            match event {
                Event::Open => self.is_open = true,
                Event::PeerReset { stream } if stream < 2 => self.end(CloseReason::Peer),
                // The peer's channel is closed when both directions are (RFC 8831 §6.7).
                Event::PeerReset { stream } => {
                    let _ = self.association.reset(stream);
                }
                Event::Reset { .. } => {}
                Event::Closed(reason) => self.end(reason_of(reason)),
            }
        }
    }

    /// A page that opens its channels by DCEP gets its answer; ours exist without it.
    fn answer(&mut self, stream: u16, payload: &[u8], now: Instant) {
        if self.answers < ANSWERS_MAX && matches!(dcep::Message::parse(payload), Ok(dcep::Message::Open(_))) {
            self.answers += 1;
            if let Some(uncharged) = self.uncharged.get_mut(usize::from(stream)) {
                uncharged.bytes += ACK.len();
                uncharged.messages += 1;
            }
            self.put(stream, Ppi::Dcep, Bytes::from_static(&ACK), false, now);
        }
    }

    fn put(&mut self, stream: u16, ppi: Ppi, bytes: Bytes, is_unordered: bool, now: Instant) {
        let ppi = ppi.to_wire();
        let reliability = Reliability::Reliable;
        let message = Outgoing { stream, ppi, bytes, is_unordered, reliability };
        if self.association.send(message, self.at(now)).is_err() {
            // The stream or the association is closing under us.
            self.end(CloseReason::Peer);
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.ended.get_or_insert(reason);
    }

    /// The association's clock.
    fn at(&self, now: Instant) -> model::Instant {
        model::Instant(0) + HEADSTART + now.saturating_duration_since(self.origin)
    }
}

fn begin(config: &Arc<Config>, entropy: Entropy) -> Association {
    let mut association = Association::new(config.clone(), entropy, model::Instant(0) + HEADSTART);
    association.set_priority(stream_of(Channel::Control), 0);
    association
}

fn ours(message: millstream_sctp::Message, ppi: Ppi) -> Option<Message> {
    let channel = match message.stream {
        0 => Channel::Control,
        1 => Channel::Pieces,
        _ => return None,
    };
    let bytes = match ppi {
        Ppi::String | Ppi::Binary => message.bytes,
        Ppi::StringEmpty | Ppi::BinaryEmpty => Bytes::new(),
        Ppi::Dcep => return None,
    };
    Some(Message { channel, bytes })
}

const fn reason_of(reason: Reason) -> CloseReason {
    match reason {
        Reason::Local => CloseReason::Local,
        Reason::Peer | Reason::Aborted | Reason::Restarted => CloseReason::Peer,
        Reason::Unanswered => CloseReason::Misbehaviour("SCTP was not answered"),
        Reason::Narrowed => CloseReason::Unreachable,
        Reason::Violation(what) => CloseReason::Misbehaviour(what),
        _ => CloseReason::Misbehaviour("SCTP error"),
    }
}

const fn stream_of(channel: Channel) -> u16 {
    match channel {
        Channel::Control => 0,
        Channel::Pieces => 1,
    }
}
