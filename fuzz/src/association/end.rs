//! One end: its association, what it has sent, and what holds for it at any time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use millstream_model::Instant;
use millstream_sctp::{
    Association, CloseReason, Config, Entropy, Event, Message, Outgoing, Released, Reliability, SendError,
    wire::{Chunk, Packet},
};

/// Packets that may leave at one time: what a whole window holds, and answers.
const BURST_MAX: usize = 4_096;

/// Events that are kept for an owner who does not ask, beside those of what the owner did: resets of the peer's.
const EVENTS_MAX: usize = 256;

pub(super) struct Sent {
    message: Outgoing,
    has_arrived: bool,
}

pub(super) struct End {
    pub(super) association: Association,
    pub(super) config: Arc<Config>,
    pub(super) sent: Vec<Sent>,
    pub(super) sent_bytes: usize,
    /// That something was sent on.
    streams: BTreeSet<u16>,
    /// The newest ordered message of each stream that arrived.
    newest: BTreeMap<u16, u32>,
    /// Messages sent before each stream's reset was asked for.
    resets: BTreeMap<u16, usize>,
    /// How often one was asked for; of those that are not done yet, once more is as good as once.
    resets_asked: usize,
    released: Released,
    pub(super) is_reading: bool,
    pub(super) inbox: Vec<Message>,
    pub(super) events: Vec<Event>,
    has_opened: bool,
    pub(super) closed: Option<CloseReason>,
    pub(super) was_shut: bool,
    was_aborted: bool,
}

impl End {
    /// `wraps`: its TSNs soon go round.
    pub(super) fn new(config: Arc<Config>, salt: u8, wraps: bool, now: Instant) -> Self {
        let mut entropy = [salt; 32];
        if wraps {
            entropy[4..8].copy_from_slice(&0xffff_fff8_u32.to_be_bytes());
        }
        Self {
            association: Association::new(Arc::clone(&config), Entropy(entropy), now),
            config,
            sent: Vec::new(),
            sent_bytes: 0,
            streams: BTreeSet::new(),
            newest: BTreeMap::new(),
            resets: BTreeMap::new(),
            resets_asked: 0,
            released: Released::default(),
            is_reading: true,
            inbox: Vec::new(),
            events: Vec::new(),
            has_opened: false,
            closed: None,
            was_shut: false,
            was_aborted: false,
        }
    }

    pub(super) fn send(&mut self, message: Outgoing, now: Instant) {
        let (room, bytes) = (self.association.room(), message.bytes.len());
        match self.association.send(message.clone(), now) {
            Ok(()) => {
                assert!(bytes > 0 && bytes + Association::CHARGE <= room);
                assert_eq!(self.association.room(), room - bytes - Association::CHARGE);
                self.sent_bytes += bytes;
                self.streams.insert(message.stream);
                self.sent.push(Sent { message, has_arrived: false });
            }
            Err(SendError::Full) => assert!(bytes + Association::CHARGE > room),
            Err(SendError::Empty) => assert_eq!(bytes, 0),
            Err(SendError::Stream(stream)) => assert_eq!(stream, message.stream),
            Err(SendError::Closed) => {}
        }
    }

    pub(super) fn reset(&mut self, stream: u16) {
        if self.association.reset(stream).is_ok() {
            self.resets_asked += 1;
            self.resets.entry(stream).or_insert(self.sent.len());
        }
    }

    pub(super) fn is_reset(&self, stream: u16) -> bool {
        self.resets.contains_key(&stream)
    }

    pub(super) fn shutdown(&mut self, now: Instant) {
        // There is nothing to shut down before it is open.
        self.was_aborted |= !self.association.is_open() && self.closed.is_none();
        self.was_shut = true;
        self.association.shutdown(now);
    }

    pub(super) fn abort(&mut self) {
        self.was_aborted = true;
        self.association.abort();
    }

    /// It goes on, or has come to an end at which nothing may be missing.
    pub(super) fn is_in_order(&self) -> bool {
        !self.was_aborted && matches!(self.closed, None | Some(CloseReason::Local | CloseReason::Peer))
    }

    /// Its timers, its messages, its events; gives its packets.
    pub(super) fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.association.next_timeout(now).is_some_and(|due| due <= now) {
            self.association.handle_timeout(now);
        }
        if self.is_reading {
            self.read_all();
        }
        self.hear_events();
        let mut packets = Vec::new();
        // Behind others in one buffer, as the owner of many peers has it.
        let mut out = vec![0xff; 3];
        let mut start = out.len();
        while self.association.poll_transmit(now, &mut out) {
            assert!(out.len() > start, "a packet of nothing");
            packets.push(out[start..].to_vec());
            start = out.len();
            assert!(packets.len() <= BURST_MAX, "it never ends");
        }
        assert_eq!(out.len(), start, "bytes without a packet");
        packets.iter().for_each(|packet| self.is_well_formed(packet));
        self.hear_events();
        let due = self.association.next_timeout(now);
        assert!(due.is_none_or(|due| due > now), "a timer is due after all was done: {due:?} at {now:?}");
        self.counts_what_it_holds();
        packets
    }

    pub(super) fn read_all(&mut self) {
        let mut held = 0;
        while self.association.is_readable() {
            let message = self.association.recv().expect("it said that there is one");
            held += self.take(message);
        }
        assert!(self.association.recv().is_none(), "it said that there is none");
        let most = self.config.receive_window_bytes as usize + self.config.message_bytes_max;
        assert!(held <= most, "{held} bytes were held where {most} are allowed");
    }

    /// Gives what keeping it cost.
    fn take(&mut self, message: Message) -> usize {
        let bytes = message.bytes.len();
        assert!((1..=self.config.message_bytes_max).contains(&bytes), "a message of {bytes} bytes");
        assert!(message.stream < self.config.streams, "a message on stream {}", message.stream);
        self.inbox.push(message);
        bytes + Association::CHARGE
    }

    fn hear_events(&mut self) {
        let mut count = 0;
        while let Some(event) = self.association.poll_event() {
            assert!(self.closed.is_none(), "{event:?} after the end");
            count += 1;
            match event {
                Event::Open => assert!(!std::mem::replace(&mut self.has_opened, true), "it opened twice"),
                Event::PeerReset { stream } => assert!(stream < self.config.streams),
                Event::Reset { stream, .. } => {
                    assert!(self.resets_asked > 0, "a reset nobody asked for");
                    self.resets.remove(&stream);
                }
                Event::Closed(reason) => self.closed = Some(reason),
            }
            self.events.push(event);
        }
        // A peer may reset every stream there is at once.
        let most = EVENTS_MAX.max(usize::from(self.config.streams)) + self.resets_asked + 2;
        assert!(count <= most, "{count} events at once");
    }

    fn is_well_formed(&self, packet: &[u8]) {
        let longest = self.config.packet_bytes_max.max(self.config.packet_bytes_min);
        assert!(packet.len() <= longest, "a packet of {} bytes where {longest} go", packet.len());
        assert!(packet.len().is_multiple_of(4));
        let read = Packet::parse(packet, true).expect("a right checksum");
        assert_eq!((read.source_port, read.destination_port), (self.config.port, self.config.port));
        let chunks: Vec<Chunk<'_>> = read.chunks().map(|chunk| chunk.expect("a whole chunk")).collect();
        assert!(!chunks.is_empty(), "a packet of no chunks");
        for chunk in &chunks {
            match chunk {
                // They go alone (RFC 9260 §6.10), and only INIT without tag (§8.5.1).
                Chunk::Init(_) => assert!(chunks.len() == 1 && read.tag == 0),
                Chunk::InitAck(_) | Chunk::ShutdownComplete { .. } => assert_eq!(chunks.len(), 1),
                Chunk::Sack(sack) => assert!(sack.window <= self.config.receive_window_bytes),
                Chunk::Unknown(_) => panic!("nobody knows {chunk:?}"),
                _ => {}
            }
        }
    }

    fn counts_what_it_holds(&mut self) {
        let (stats, most) = (self.association.stats(), self.config.send_bytes_max);
        let held = most.checked_sub(self.association.room()).expect("more room than there is");
        assert!(self.association.waiting() <= held, "more waits than is held");
        assert!(stats.bytes_acknowledged <= stats.bytes_sent, "{stats:?}");
        assert!(stats.bytes_sent <= self.sent_bytes as u64, "{stats:?}");
        // Every byte costs, and the header of a chunk costs no more than its message does.
        assert!(stats.in_flight <= 2 * most as u64 + 64 * 1024, "{stats:?}");
        for stream in &self.streams {
            let released = self.association.take_released(*stream);
            self.released.bytes += released.bytes;
            self.released.messages += released.messages;
        }
        let charges = (self.sent.len() - self.released.messages) * Association::CHARGE;
        assert_eq!(self.sent_bytes - self.released.bytes + charges, held, "bytes are counted wrong");
        if self.association.is_drained() {
            assert_eq!((held, self.association.waiting(), stats.in_flight), (0, 0, 0), "{stats:?}");
        }
    }

    /// The other end has a message of this one's: as it was sent, for the first time, and in its turn.
    pub(super) fn has_arrived(&mut self, message: &Message) {
        let number = usize::try_from(message.ppi).unwrap();
        let sent = self.sent.get_mut(number).expect("what comes was sent");
        assert_eq!(sent.message.stream, message.stream, "message {number} came on another stream");
        assert_eq!(sent.message.bytes, message.bytes, "message {number} is not what was sent");
        assert!(!std::mem::replace(&mut sent.has_arrived, true), "message {number} came twice");
        if !sent.message.is_unordered {
            let before = self.newest.insert(message.stream, message.ppi);
            assert!(
                before.is_none_or(|before| before < message.ppi),
                "message {number} came after {before:?} on stream {}",
                message.stream
            );
        }
    }

    /// The other end was told that this one has reset a stream.
    pub(super) fn was_reset(&self, stream: u16) {
        let before = *self.resets.get(&stream).expect("a reset nobody asked for");
        let missing = self.missing().find(|number| *number < before && self.is_on(*number, stream));
        assert!(missing.is_none(), "stream {stream} was reset before message {missing:?} came");
    }

    fn is_on(&self, number: usize, stream: u16) -> bool {
        self.sent[number].message.stream == stream
    }

    fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        let is_missing = |sent: &Sent| !sent.has_arrived && sent.message.reliability == Reliability::Reliable;
        self.sent.iter().enumerate().filter(move |(_, sent)| is_missing(sent)).map(|(number, _)| number)
    }

    pub(super) fn has_delivered_all(&self) {
        let missing: Vec<usize> = self.missing().take(5).collect();
        assert!(
            missing.is_empty(),
            "messages {missing:?} of {} never came: {:?}, {:?}",
            self.sent.len(),
            self.closed,
            self.association.stats()
        );
    }

    /// Everything was acknowledged or given up.
    pub(super) fn has_all_back(&mut self) {
        assert!(self.association.is_drained(), "something is held for ever: {:?}", self.association.stats());
        assert!(self.resets.is_empty(), "a reset is not answered: {:?}", self.resets);
    }
}
