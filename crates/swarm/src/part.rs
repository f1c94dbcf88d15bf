//! One part on its way: its record, its pieces, and who has been asked for them.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use millstream_model::{EdgeId, Instant, piece_count};
use millstream_wire::media::Record;

/// A part whose record is believed.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) record: Record,
    pieces: Vec<Option<Bytes>>,
    /// Pieces that an edge was paid for: each is paid once, however often it comes.
    paid: Vec<bool>,
    missing: u32,
    /// When its clock started: its record's arrival, or the player's request for it.
    pub(crate) since: Instant,
    /// When the playhead gets there.
    pub(crate) deadline: Instant,
    /// The primary pushes it without being asked.
    pub(crate) pushed: bool,
    /// The player waits for it, or will next.
    pub(crate) wanted: bool,
    /// Edges that were asked for it, the primary included once it was asked.
    pub(crate) asked: Vec<EdgeId>,
    /// When one was asked last; before, since when it is expected.
    pub(crate) asked_at: Instant,
    /// Edges that ever were: what they bring of it was asked for, even if that was taken back on its way.
    pub(crate) invited: Vec<EdgeId>,
    /// Edges that said they do not have it, or proved bad.
    pub(crate) without: Vec<EdgeId>,
    /// The origin was asked for it.
    pub(crate) fetching: bool,
    /// Another source than the primary was asked.
    pub(crate) hedged: bool,
    /// Half of its time was over before the primary had brought it.
    pub(crate) late: bool,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is kept; the part still misses some.
    Kept,
    /// It was the last one missing.
    Whole,
    /// It was there already.
    Spare,
    /// It does not match its hash.
    Bad,
}

impl Part {
    pub(crate) fn new(record: Record, now: Instant) -> Self {
        let missing = piece_count(record.size);
        let pieces: Vec<_> = (0..missing).map(|_| None).collect();
        let paid = pieces.iter().map(|_| false).collect();
        Self {
            record,
            pieces,
            paid,
            missing,
            since: now,
            deadline: now,
            pushed: false,
            wanted: false,
            asked: Vec::new(),
            asked_at: now,
            invited: Vec::new(),
            without: Vec::new(),
            fetching: false,
            hedged: false,
            late: false,
        }
    }

    pub(crate) fn whole(&self) -> bool {
        self.missing == 0
    }

    /// Bytes of media held.
    pub(crate) fn held(&self) -> usize {
        self.pieces.iter().flatten().map(Bytes::len).sum()
    }

    pub(crate) fn has(&self, index: u32) -> bool {
        self.slot(index).is_some_and(Option::is_some)
    }

    fn slot(&self, index: u32) -> Option<&Option<Bytes>> {
        usize::try_from(index).ok().and_then(|index| self.pieces.get(index))
    }

    /// Takes a piece, if it is true.
    pub(crate) fn place(&mut self, index: u32, data: &Bytes) -> Placed {
        if self.has(index) {
            return Placed::Spare;
        }
        if !millstream_wire::chain::piece_fits(&self.record, index, data) {
            return Placed::Bad;
        }
        let slot = usize::try_from(index).ok().and_then(|index| self.pieces.get_mut(index));
        if let Some(slot) = slot {
            *slot = Some(data.clone());
            self.missing -= 1;
        }
        if self.whole() { Placed::Whole } else { Placed::Kept }
    }

    /// An edge is asked for it.
    pub(crate) fn ask(&mut self, edge: EdgeId, now: Instant) {
        self.asked_at = now;
        self.asked.push(edge);
        if !self.invited.contains(&edge) {
            self.invited.push(edge);
        }
    }

    /// An edge brought this piece: true the first time, which is the one that is paid.
    pub(crate) fn pay(&mut self, index: u32) -> bool {
        let paid = usize::try_from(index).ok().and_then(|index| self.paid.get_mut(index));
        paid.is_some_and(|paid| !core::mem::replace(paid, true))
    }

    /// A piece that is missing was paid before: no edge would be paid for bringing it again.
    pub(crate) fn was_paid(&self) -> bool {
        self.pieces.iter().zip(&self.paid).any(|(piece, paid)| piece.is_none() && *paid)
    }

    /// An edge brought some of it.
    pub(crate) fn was_brought(&self) -> bool {
        self.paid.contains(&true)
    }

    /// Bytes that are missing.
    pub(crate) fn missing_bytes(&self) -> u64 {
        u64::from(self.record.size).saturating_sub(self.held() as u64)
    }

    /// How many pieces of this run are missing.
    pub(crate) fn missing_in(&self, first: u32, count: u32) -> u32 {
        (first..first.saturating_add(count)).map(|index| u32::from(!self.has(index))).sum()
    }

    /// Runs of missing pieces: first index and count of each.
    pub(crate) fn holes(&self) -> Vec<(u32, u32)> {
        let mut holes: Vec<(u32, u32)> = Vec::new();
        for (index, _) in (0u32..).zip(&self.pieces).filter(|(_, piece)| piece.is_none()) {
            match holes.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                _ => holes.push((index, 1)),
            }
        }
        holes
    }

    /// The part's bytes, once whole.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        if !self.whole() {
            return None;
        }
        if let [Some(only)] = self.pieces.as_slice() {
            return Some(only.clone());
        }
        let mut bytes = BytesMut::with_capacity(self.held());
        for piece in self.pieces.iter().flatten() {
            bytes.extend_from_slice(piece);
        }
        Some(bytes.freeze())
    }

    /// Lets go of the media; the record stays.
    pub(crate) fn forget(&mut self) -> usize {
        let freed = self.held();
        self.missing = piece_count(self.record.size);
        self.pieces.iter_mut().for_each(|piece| *piece = None);
        self.asked.clear();
        self.without.clear();
        (self.pushed, self.fetching, self.hedged, self.late) = (false, false, false, false);
        freed
    }
}
