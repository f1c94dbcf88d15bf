//! One rendition: who wants it, whether its feed is open, and its parts.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_model::Instant;
use millstream_wire::{chain::piece_fits, frame::Frame, media::Record, sign::Signed};

/// Records beyond the newest one that a viewer may ask for in advance: it hears of a part from a faster edge, and
/// the feed brings it a moment later.
const AHEAD: u64 = 2;

/// A verified piece as one message of the peer protocol, made once and shared by all viewers.
#[derive(Debug, Clone)]
pub struct Piece {
    message: Bytes,
    bytes: u32,
}

impl Piece {
    /// The encoded [`Frame::Piece`].
    #[must_use]
    pub const fn message(&self) -> &Bytes {
        &self.message
    }

    /// The media bytes alone.
    #[must_use]
    pub fn data(&self) -> Bytes {
        let fields = self.message.len().saturating_sub(self.bytes as usize);
        self.message.slice(fields..)
    }

    /// How many media bytes.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }
}

/// What a look at the shelf finds.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Here it is.
    Here(Piece),
    /// The open feed is about to bring it.
    Coming,
    /// It is not here and nothing brings it.
    Absent,
}

/// A part: its record, and the pieces that have arrived.
#[derive(Debug)]
pub struct Part {
    record: Signed<Record>,
    message: Bytes,
    pieces: Vec<Option<Piece>>,
    missing: usize,
    pub(crate) order: u64,
    pub(crate) cost: u64,
}

impl Part {
    pub(crate) fn new(record: Signed<Record>, order: u64) -> Self {
        // The bytes came in a receive buffer that is much larger than they are, and would keep all of it alive.
        let record = Signed::decode(Bytes::copy_from_slice(record.bytes())).unwrap_or(record);
        let message = Frame::Record(record.clone()).encode();
        let pieces = vec![None; record.unverified().pieces.len()];
        let missing = pieces.len();
        let cost = message.len() as u64 + record.bytes().len() as u64;
        Self { record, message, pieces, missing, order, cost }
    }

    /// The record, as it was accepted.
    #[must_use]
    pub const fn record(&self) -> &Record {
        self.record.unverified()
    }

    /// The encoded [`Frame::Record`].
    #[must_use]
    pub const fn message(&self) -> &Bytes {
        &self.message
    }

    /// Whether all its pieces are here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing == 0
    }

    fn piece(&self, index: u32) -> Option<&Piece> {
        self.pieces.get(usize::try_from(index).ok()?)?.as_ref()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    Closed,
    Open,
    /// Open although nobody wants it, until then.
    Lingering(Instant),
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    New(u64),
    Known,
    Stray,
    Bad,
}

#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) parts: BTreeMap<u64, Part>,
    pub(crate) viewers: u32,
    pub(crate) feed: Feed,
    /// The highest number of which a piece has arrived: a feed goes in order, so what is missing below stays so.
    tail: u64,
}

impl Shelf {
    pub(crate) const fn new() -> Self {
        Self { parts: BTreeMap::new(), viewers: 0, feed: Feed::Closed, tail: 0 }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.feed != Feed::Closed
    }

    /// The first part at or after `from`; without a number, the first of the newest segment.
    pub(crate) fn record(&self, from: Option<u64>) -> Option<&Part> {
        match from {
            Some(from) => self.parts.range(from..).next().map(|(_, part)| part),
            None => {
                let first = self.parts.values().rev().find(|part| part.record().first);
                first.or_else(|| self.parts.values().next())
            }
        }
    }

    pub(crate) fn piece(&self, number: u64, index: u32) -> Lookup {
        let coming = self.is_open() && number >= self.tail;
        match self.parts.get(&number) {
            Some(part) => match part.piece(index) {
                Some(piece) => Lookup::Here(piece.clone()),
                None if coming && index < u32::try_from(part.pieces.len()).unwrap_or(0) => Lookup::Coming,
                None => Lookup::Absent,
            },
            None => {
                let head = self.parts.last_key_value().map(|(head, _)| *head);
                match head {
                    Some(head) if coming && number > head && number - head <= AHEAD => Lookup::Coming,
                    _ => Lookup::Absent,
                }
            }
        }
    }

    /// Where a feed that broke goes on: the first part that could still be completed, or the one after the newest.
    /// Without any part, nowhere in particular: at the newest segment.
    pub(crate) fn resume(&self) -> Option<u64> {
        let head = *self.parts.last_key_value()?.0;
        let open = self.parts.range(self.tail..).find(|(_, part)| !part.is_whole());
        Some(open.map_or_else(|| head.saturating_add(1), |(number, _)| *number))
    }

    /// Puts a verified-to-be piece into its part. Nothing that does not fit the record gets in.
    pub(crate) fn fill(&mut self, frame: &Frame) -> Filled {
        let Frame::Piece { number, index, data, .. } = frame else { return Filled::Stray };
        let Some(part) = self.parts.get_mut(number) else { return Filled::Stray };
        let Some(slot) = usize::try_from(*index).ok().and_then(|index| part.pieces.get_mut(index)) else {
            return Filled::Bad;
        };
        if slot.is_some() {
            return Filled::Known;
        }
        if !piece_fits(part.record.unverified(), *index, data) {
            return Filled::Bad;
        }
        let Ok(bytes) = u32::try_from(data.len()) else { return Filled::Bad };
        // Encoding makes our own copy: the receive buffer goes free, and every viewer is sent these very bytes.
        let message = frame.encode();
        let cost = message.len() as u64;
        *slot = Some(Piece { message, bytes });
        part.missing = part.missing.saturating_sub(1);
        part.cost = part.cost.saturating_add(cost);
        self.tail = self.tail.max(*number);
        Filled::New(cost)
    }

    /// Forgets all parts; gives their places in the order of arrival and what they cost.
    pub(crate) fn clear(&mut self) -> Vec<(u64, u64)> {
        self.tail = 0;
        std::mem::take(&mut self.parts).into_values().map(|part| (part.order, part.cost)).collect()
    }
}
