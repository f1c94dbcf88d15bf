//! Puts the chunks of messages together (RFC 9260 §6.9, RFC 8260 §2.2.3), in the order of their stream where it has one.
//!
//! DATA names the place of a chunk by its TSN, I-DATA by message and number; here both are a *place*: (message,
//! position), and the next chunk of a message has the next position. A message grows from its first chunk on; what comes
//! before its predecessor waits apart. Each byte is copied once, or twice when it was early.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::{
    Message,
    wire::{Data, Sequence},
};

/// Charged for each chunk or message held, on top of its bytes: what keeping it costs, so that tiny ones are bounded too.
const CHARGE: usize = 64;

/// Messages that grow at once. A sender has one a stream at most; the rest is gaps.
const GROWING_MAX: usize = 512;

/// So many get room for a whole message at once; more grow step by step, so that memory stays near what is charged.
const ROOMY: usize = 4;

/// What a peer did that nobody honest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) &'static str);

/// (message, position): DATA is (0, TSN), I-DATA is (stream, order and MID together, FSN).
type Place = (u64, u64);

#[derive(Debug)]
pub(crate) struct Assembly {
    message_bytes_max: usize,
    /// Grows now: what comes next most often belongs to it.
    current: Option<(Place, Growing)>,
    /// Others that grow, by the place they wait for.
    others: BTreeMap<Place, Growing>,
    /// Came before their predecessors.
    apart: BTreeMap<Place, Apart>,
    streams: BTreeMap<u16, Stream>,
    ready: VecDeque<Message>,
    ready_bytes: usize,
    held: usize,
    /// How long the last long message was: the next one will be alike.
    typical: usize,
}

#[derive(Debug)]
struct Growing {
    of: Of,
    ppi: u32,
    bytes: BytesMut,
}

/// What the chunks of one message have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Of {
    stream: u16,
    is_unordered: bool,
    /// SSN or MID.
    sequence: u32,
    is_interleaved: bool,
}

#[derive(Debug)]
struct Apart {
    of: Of,
    begins: bool,
    ends: bool,
    bytes: Bytes,
}

/// Ordered delivery of one stream.
#[derive(Debug, Default)]
struct Stream {
    next: u32,
    /// Whole, and before their turn, by how far ahead.
    early: BTreeMap<u32, Message>,
}

impl Assembly {
    pub(crate) const fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            current: None,
            others: BTreeMap::new(),
            apart: BTreeMap::new(),
            streams: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            held: 0,
            typical: 0,
        }
    }

    /// Bytes and charges of whole messages that wait to be read.
    pub(crate) const fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Bytes and charges held.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// What taking this chunk would add.
    pub(crate) const fn cost(payload: &[u8]) -> usize {
        payload.len() + CHARGE
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// The next whole message.
    pub(crate) fn take(&mut self) -> Option<Message> {
        let message = self.ready.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(message.bytes.len() + CHARGE);
        self.held = self.held.saturating_sub(message.bytes.len() + CHARGE);
        Some(message)
    }

    /// Takes a chunk that is new, with its TSN unwrapped.
    pub(crate) fn insert(&mut self, tsn: u64, data: &Data<'_>) -> Result<(), Violation> {
        let (of, place) = identify(tsn, data);
        let growing = match self.current.take() {
            Some((at, growing)) if at == place => Some(growing),
            current => {
                if let Some((at, growing)) = current {
                    self.others.insert(at, growing);
                }
                self.others.remove(&place)
            }
        };
        let grown = match growing {
            Some(growing) => {
                if data.begins || growing.of != of {
                    return Err(Violation("a message that begins within another"));
                }
                growing
            }
            None if data.begins => {
                if self.others.len() >= GROWING_MAX {
                    return Err(Violation("too many messages begun"));
                }
                self.begin(of, data)
            }
            None => {
                let bytes = Bytes::copy_from_slice(data.payload);
                self.held += Self::cost(data.payload);
                let apart = Apart { of, begins: data.begins, ends: data.ends, bytes };
                self.apart.insert(place, apart);
                return Ok(());
            }
        };
        self.grow(place, grown, data.payload, data.ends)
    }

    /// The sender has given up DATA up to this TSN (RFC 3758 §3.6): what waits for one of them never comes.
    pub(crate) fn skip_to(&mut self, tsn: u64) {
        let is_gone = |place: &Place| place.0 == 0 && place.1 <= tsn;
        self.drop_where(&|place, _| is_gone(place));
    }

    /// The sender has given up a stream's messages up to this number (RFC 3758 §3.2, RFC 8260 §2.3.1).
    pub(crate) fn skip_message(
        &mut self,
        stream: u16,
        is_unordered: bool,
        sequence: u32,
        is_interleaved: bool,
    ) {
        if is_interleaved {
            self.drop_where(&|_, of| {
                of.is_interleaved
                    && of.stream == stream
                    && of.is_unordered == is_unordered
                    && ahead(of.sequence, sequence.wrapping_add(1), true) > u32::MAX / 2
            });
        }
        if is_unordered {
            return;
        }
        let entry = self.streams.entry(stream).or_default();
        let next = wrap(sequence.wrapping_add(1), is_interleaved);
        let skipped = ahead(next, entry.next, is_interleaved);
        if skipped > half(is_interleaved) {
            return;
        }
        let distance = |sequence: u32| ahead(sequence, entry.next, is_interleaved);
        let mut passed: Vec<u32> =
            entry.early.keys().copied().filter(|&sequence| distance(sequence) < skipped).collect();
        passed.sort_unstable_by_key(|&sequence| distance(sequence));
        let passed: Vec<Message> =
            passed.iter().filter_map(|sequence| entry.early.remove(sequence)).collect();
        entry.next = next;
        passed.into_iter().for_each(|message| self.deliver(message));
        self.release(stream, is_interleaved);
    }

    /// The peer's stream begins anew (RFC 6525 §5.2.2).
    pub(crate) fn reset(&mut self, stream: u16) {
        if let Some(reset) = self.streams.remove(&stream) {
            for message in reset.early.into_values() {
                self.deliver(message);
            }
        }
    }

    fn begin(&mut self, of: Of, data: &Data<'_>) -> Growing {
        let is_long = !data.ends && self.others.len() < ROOMY;
        let room = if is_long { data.payload.len().max(self.typical) } else { data.payload.len() };
        self.held += CHARGE;
        Growing { of, ppi: data.ppi, bytes: BytesMut::with_capacity(room) }
    }

    fn grow(
        &mut self,
        place: Place,
        mut growing: Growing,
        payload: &[u8],
        ends: bool,
    ) -> Result<(), Violation> {
        self.held += payload.len();
        let mut next = (place.0, place.1 + 1);
        let mut has_ended = ends;
        self.append(&mut growing, payload)?;
        while !has_ended && !self.apart.is_empty() {
            let Some(apart) = self.apart.remove(&next) else { break };
            if apart.begins || apart.of != growing.of {
                return Err(Violation("a message that begins within another"));
            }
            self.append(&mut growing, &apart.bytes)?;
            // Its bytes were counted when it came.
            self.held -= CHARGE;
            next.1 += 1;
            has_ended = apart.ends;
        }
        if has_ended {
            return self.complete(growing);
        }
        if let Some((at, other)) = self.current.replace((next, growing)) {
            self.others.insert(at, other);
        }
        Ok(())
    }

    fn append(&self, growing: &mut Growing, payload: &[u8]) -> Result<(), Violation> {
        if growing.bytes.len() + payload.len() > self.message_bytes_max {
            return Err(Violation("a message that is too long"));
        }
        growing.bytes.extend_from_slice(payload);
        Ok(())
    }

    fn complete(&mut self, growing: Growing) -> Result<(), Violation> {
        let Growing { of, ppi, bytes } = growing;
        self.typical = bytes.len();
        let message = Message { stream: of.stream, ppi, bytes: bytes.freeze() };
        if of.is_unordered {
            self.deliver(message);
            return Ok(());
        }
        let stream = self.streams.entry(of.stream).or_default();
        if of.sequence == stream.next {
            stream.next = wrap(stream.next.wrapping_add(1), of.is_interleaved);
            self.deliver(message);
            self.release(of.stream, of.is_interleaved);
        } else if ahead(of.sequence, stream.next, of.is_interleaved) > half(of.is_interleaved)
            || stream.early.insert(of.sequence, message).is_some()
        {
            return Err(Violation("a message number used twice"));
        }
        Ok(())
    }

    /// Delivers what waited for its turn.
    fn release(&mut self, stream: u16, is_interleaved: bool) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        while let Some(message) = stream.early.remove(&stream.next) {
            stream.next = wrap(stream.next.wrapping_add(1), is_interleaved);
            self.ready_bytes += message.bytes.len() + CHARGE;
            self.ready.push_back(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        self.ready_bytes += message.bytes.len() + CHARGE;
        self.ready.push_back(message);
    }

    fn drop_where(&mut self, is_gone: &dyn Fn(&Place, &Of) -> bool) {
        let mut freed = 0;
        if let Some((_, growing)) = self.current.take_if(|(place, growing)| is_gone(place, &growing.of)) {
            freed += growing.bytes.len() + CHARGE;
        }
        self.others.retain(|place, growing| {
            let gone = is_gone(place, &growing.of);
            freed += if gone { growing.bytes.len() + CHARGE } else { 0 };
            !gone
        });
        self.apart.retain(|place, apart| {
            let gone = is_gone(place, &apart.of);
            freed += if gone { apart.bytes.len() + CHARGE } else { 0 };
            !gone
        });
        self.held = self.held.saturating_sub(freed);
    }
}

fn identify(tsn: u64, data: &Data<'_>) -> (Of, Place) {
    let (stream, is_unordered) = (data.stream, data.is_unordered);
    match data.sequence {
        Sequence::Ssn(ssn) => {
            let sequence = if is_unordered { 0 } else { u32::from(ssn) };
            (Of { stream, is_unordered, sequence, is_interleaved: false }, (0, tsn))
        }
        Sequence::Mid { mid, fsn } => {
            let message = 1 << 63 | u64::from(stream) << 33 | u64::from(is_unordered) << 32 | u64::from(mid);
            (Of { stream, is_unordered, sequence: mid, is_interleaved: true }, (message, u64::from(fsn)))
        }
    }
}

/// SSNs have 16 bits, MIDs 32.
const fn wrap(sequence: u32, is_interleaved: bool) -> u32 {
    if is_interleaved { sequence } else { sequence & 0xFFFF }
}

/// How far `a` is ahead of `b`.
const fn ahead(a: u32, b: u32, is_interleaved: bool) -> u32 {
    wrap(a.wrapping_sub(b), is_interleaved)
}

const fn half(is_interleaved: bool) -> u32 {
    if is_interleaved { u32::MAX / 2 } else { u16::MAX as u32 / 2 }
}
