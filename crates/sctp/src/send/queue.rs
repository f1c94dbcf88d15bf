//! Messages that wait to be cut into chunks, and those whose chunks are in flight: each message is kept once, whole,
//! shared with whoever else sends the same bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_model::Instant;
use slab::Slab;

use crate::{Outgoing, Reliability};

/// Names a message until it is released.
pub(crate) type Key = u32;

/// Charged for each message on top of its bytes, so that tiny ones are bounded too.
pub(crate) const MESSAGE_CHARGE: usize = 64;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: Bytes,
    pub(crate) stream: u16,
    pub(crate) ppi: u32,
    pub(crate) is_unordered: bool,
    /// SSN (its low half) or MID; set when the first chunk is cut.
    pub(crate) sequence: u32,
    pub(crate) limit: Limit,
    pub(crate) is_abandoned: bool,
    /// TSNs of its first and its last chunk so far.
    pub(crate) span: (u64, u64),
    /// Chunks cut so far.
    pub(crate) chunks: u32,
    /// Bytes cut into chunks so far.
    cut: usize,
    /// Bytes whose chunks are released.
    released: usize,
}

/// When a message is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Never,
    Transmissions(u32),
    At(Instant),
}

/// What comes next of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) key: Key,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) begins: bool,
    pub(crate) ends: bool,
}

/// What a stream's sender gets back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Released {
    /// Messages that the peer has wholly acknowledged, or that were given up.
    pub messages: usize,
    /// Their bytes, chunk by chunk.
    pub bytes: usize,
}

#[derive(Debug)]
struct Stream {
    id: u16,
    priority: u8,
    waiting: VecDeque<Key>,
    next_ssn: u16,
    next_ordered: u32,
    next_unordered: u32,
    released: Released,
}

/// All streams' messages.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: Slab<Entry>,
    /// Sorted by priority; those alike take turns.
    streams: Vec<Stream>,
    /// A message that has begun goes on before another begins (RFC 9260 §6.9); with I-DATA a short urgent one may
    /// interrupt it.
    begun: Option<Key>,
    interrupted: Option<Key>,
    interleaves: bool,
    /// Bytes and charges of all messages held.
    held: usize,
    waiting: usize,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            entries: Slab::new(),
            streams: Vec::new(),
            begun: None,
            interrupted: None,
            interleaves: false,
            held: 0,
            waiting: 0,
        }
    }

    pub(crate) const fn set_interleaving(&mut self, interleaves: bool) {
        self.interleaves = interleaves;
    }

    /// Bytes held, charges included.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// Bytes that are in no chunk yet.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn set_priority(&mut self, stream: u16, priority: u8) {
        self.stream(stream).priority = priority;
        self.streams.sort_by_key(|stream| stream.priority);
    }

    pub(crate) fn push(&mut self, message: Outgoing, now: Instant) {
        let limit = match message.reliability {
            Reliability::Reliable => Limit::Never,
            Reliability::Retransmissions(count) => Limit::Transmissions(count.saturating_add(1)),
            Reliability::Lifetime(time) => Limit::At(now + time),
        };
        self.held += message.bytes.len() + MESSAGE_CHARGE;
        self.waiting += message.bytes.len();
        let entry = Entry {
            bytes: message.bytes,
            stream: message.stream,
            ppi: message.ppi,
            is_unordered: message.is_unordered,
            sequence: 0,
            limit,
            is_abandoned: false,
            span: (u64::MAX, 0),
            chunks: 0,
            cut: 0,
            released: 0,
        };
        let stream = entry.stream;
        let key = u32::try_from(self.entries.insert(entry)).unwrap_or(u32::MAX);
        self.stream(stream).waiting.push_back(key);
    }

    pub(crate) fn entry(&self, key: Key) -> Option<&Entry> {
        self.entries.get(key as usize)
    }

    pub(crate) fn entry_mut(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key as usize)
    }

    /// Length of the chunk that [`Queue::cut`] would give; none when nothing waits.
    pub(crate) fn peek(&self, room: usize) -> Option<usize> {
        let key = self.choose()?;
        let entry = self.entry(key)?;
        Some((entry.bytes.len() - entry.cut).min(room))
    }

    /// Cuts the next chunk of at most `room` bytes of payload.
    pub(crate) fn cut(&mut self, room: usize) -> Option<Cut> {
        let key = self.choose()?;
        let interleaves = self.interleaves;
        let position = self.entry(key).map(|entry| entry.stream)?;
        let at = self.streams.iter().position(|stream| stream.id == position)?;
        let (stream, entry) = (self.streams.get_mut(at)?, self.entries.get_mut(key as usize)?);
        let begins = entry.cut == 0;
        if begins {
            entry.sequence = stream.sequence(entry.is_unordered, interleaves);
        }
        let length = (entry.bytes.len() - entry.cut).min(room).min(usize::from(u16::MAX));
        let offset = entry.cut;
        entry.cut += length;
        self.waiting -= length;
        let ends = entry.cut == entry.bytes.len();
        if let Some(before) = self.begun.filter(|begun| *begun != key) {
            self.interrupted = Some(before);
        }
        self.begun = if ends { self.interrupted.take() } else { Some(key) };
        if ends {
            stream.waiting.pop_front();
            // Not in the middle of a message, though I-DATA would let us: parts of many could fill the peer's window, and
            // none come to its end. Only what is more urgent interrupts.
            self.take_turns(at);
        }
        Some(Cut {
            key,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            length: u32::try_from(length).unwrap_or(u32::MAX),
            begins,
            ends,
        })
    }

    /// A chunk of so many bytes is with the peer, or given up.
    pub(crate) fn release(&mut self, key: Key, bytes: usize) {
        let Some(entry) = self.entries.get_mut(key as usize) else { return };
        entry.released += bytes;
        self.held = self.held.saturating_sub(bytes);
        let (stream, is_done) = (entry.stream, entry.released >= entry.bytes.len());
        if is_done {
            self.entries.remove(key as usize);
            self.held = self.held.saturating_sub(MESSAGE_CHARGE);
        }
        let released = &mut self.stream(stream).released;
        released.bytes += bytes;
        released.messages += usize::from(is_done);
    }

    /// Gives a message up: what is not cut never will be. When it has begun, the rest comes back as one piece: the
    /// peer must hear of an end, so it needs a number.
    pub(crate) fn abandon(&mut self, key: Key) -> Option<Cut> {
        let entry = self.entries.get_mut(key as usize).filter(|entry| !entry.is_abandoned)?;
        entry.is_abandoned = true;
        let (offset, rest, stream) = (entry.cut, entry.bytes.len() - entry.cut, entry.stream);
        entry.cut = entry.bytes.len();
        if rest == 0 {
            return None;
        }
        self.waiting -= rest;
        if self.interrupted == Some(key) {
            self.interrupted = None;
        }
        if self.begun == Some(key) {
            self.begun = self.interrupted.take();
        }
        self.stream(stream).waiting.retain(|waiting| *waiting != key);
        if offset == 0 {
            self.release(key, rest);
            return None;
        }
        let [offset, length] = [offset, rest].map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        Some(Cut { key, offset, length, begins: false, ends: true })
    }

    /// The message that is next, when its time has passed.
    pub(crate) fn expired(&self, now: Instant) -> Option<Key> {
        let key = self.choose()?;
        matches!(self.entry(key)?.limit, Limit::At(at) if at <= now).then_some(key)
    }

    /// Whether any chunk of it was cut.
    pub(crate) fn has_begun(&self, key: Key) -> bool {
        self.entry(key).is_some_and(|entry| entry.cut > 0)
    }

    /// Nothing is held: lets go of memory that a burst took.
    pub(crate) fn rest(&mut self) {
        self.entries.shrink_to_fit();
        for stream in &mut self.streams {
            stream.waiting.shrink_to(IDLE_MESSAGES);
        }
    }

    /// What the stream's sender gets back since the last call.
    pub(crate) fn take_released(&mut self, stream: u16) -> Released {
        let found = self.streams.iter_mut().find(|candidate| candidate.id == stream);
        found.map(|stream| std::mem::take(&mut stream.released)).unwrap_or_default()
    }

    /// Whether nothing of the stream waits to be cut.
    pub(crate) fn is_idle(&self, stream: u16) -> bool {
        self.streams.iter().all(|candidate| candidate.id != stream || candidate.waiting.is_empty())
    }

    /// The stream was reset: its sequence numbers begin anew.
    pub(crate) fn restart(&mut self, stream: u16) {
        let stream = self.stream(stream);
        (stream.next_ssn, stream.next_ordered, stream.next_unordered) = (0, 0, 0);
    }

    /// The message whose chunk is next.
    fn choose(&self) -> Option<Key> {
        let first = || {
            let ready = self.streams.iter().find(|stream| stream.is_ready())?;
            ready.waiting.front().copied()
        };
        let Some(begun) = self.begun else { return first() };
        let interrupts = |key: &Key| {
            self.interrupted.is_none()
                && self.entry(*key).is_some_and(|entry| entry.bytes.len() <= INTERRUPTING_BYTES_MAX)
        };
        first().filter(|key| self.interleaves && interrupts(key)).or(Some(begun))
    }

    /// The stream goes behind the others of its priority.
    fn take_turns(&mut self, at: usize) {
        let Some(priority) = self.streams.get(at).map(|stream| stream.priority) else { return };
        let last = self.streams.iter().rposition(|stream| stream.priority == priority).unwrap_or(at);
        if let Some(alike) = self.streams.get_mut(at..=last) {
            alike.rotate_left(1);
        }
    }

    fn stream(&mut self, id: u16) -> &mut Stream {
        if let Some(at) = self.streams.iter().position(|stream| stream.id == id) {
            return &mut self.streams[at];
        }
        let stream = Stream {
            id,
            priority: PRIORITY_DEFAULT,
            waiting: VecDeque::new(),
            next_ssn: 0,
            next_ordered: 0,
            next_unordered: 0,
            released: Released::default(),
        };
        let at = self.streams.partition_point(|other| other.priority <= PRIORITY_DEFAULT);
        self.streams.insert(at, stream);
        &mut self.streams[at]
    }
}

/// Bytes of a message that may interrupt another. What is longer waits for its end: parts of both could fill the peer's
/// window, and none come to its end.
const INTERRUPTING_BYTES_MAX: usize = 16 * 1024;

/// Places for messages that an idle stream keeps.
const IDLE_MESSAGES: usize = 4;

/// Streams that nobody has ranked. Lower goes first.
pub(crate) const PRIORITY_DEFAULT: u8 = 128;

impl Stream {
    fn is_ready(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The number of the next message (RFC 9260 §6.5, RFC 8260 §2.1).
    const fn sequence(&mut self, is_unordered: bool, interleaves: bool) -> u32 {
        if interleaves {
            let next = if is_unordered { &mut self.next_unordered } else { &mut self.next_ordered };
            let sequence = *next;
            *next = next.wrapping_add(1);
            sequence
        } else if is_unordered {
            0
        } else {
            let sequence = self.next_ssn;
            self.next_ssn = sequence.wrapping_add(1);
            sequence as u32
        }
    }
}
