//! What a media playlist says of a whole segment: all that is kept of one whose media lies in a store.

use millstream_model::WallTime;
use millstream_wire::media::Record;

/// A segment without the pieces' hashes of its parts: some 60 bytes, where eight records have some 10 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// The generation of its records.
    pub generation: u32,
    /// The catalog version that describes it.
    pub catalog: u32,
    /// Its media sequence number.
    pub segment: u64,
    /// The number of its first record.
    pub number: u64,
    /// How many parts it has.
    pub parts: u16,
    /// How many discontinuities lie before it since the stream began.
    pub discontinuity: u32,
    /// Wall-clock time of its first sample.
    pub program_date_time: WallTime,
    /// How long it lasts, in ticks of its rendition.
    pub duration: u64,
    /// Its media is nowhere any more: playlists say EXT-X-GAP (RFC 8216bis §4.4.4.7).
    pub lost: bool,
}

impl Outline {
    /// Of a segment that begins with `record`.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            generation: record.generation,
            catalog: record.catalog,
            segment: record.segment,
            number: record.number,
            parts: 1,
            discontinuity: record.discontinuity,
            program_date_time: record.program_date_time,
            duration: u64::from(record.duration),
            lost: false,
        }
    }

    /// Takes the next part; false, and nothing is taken, when `record` is not it.
    pub fn push(&mut self, record: &Record) -> bool {
        let next = self.next_number() == Some(record.number)
            && self.segment == record.segment
            && self.parts == record.part
            && self.discontinuity == record.discontinuity
            && (self.generation, self.catalog) == (record.generation, record.catalog);
        let Some(parts) = self.parts.checked_add(1).filter(|_| next) else { return false };
        self.parts = parts;
        self.duration = self.duration.saturating_add(u64::from(record.duration));
        true
    }

    /// The number of the record after its last.
    #[must_use]
    pub const fn next_number(&self) -> Option<u64> {
        self.number.checked_add(self.parts as u64)
    }

    /// Whether `next` is the segment after this one: without a hole between, and within `steps` discontinuities.
    pub(crate) fn is_before(&self, next: &Self, steps: u32) -> bool {
        let step = next.discontinuity.checked_sub(self.discontinuity);
        self.next_number() == Some(next.number)
            && self.segment.checked_add(1) == Some(next.segment)
            && step.is_some_and(|step| step <= steps)
    }

    /// Whether `next` comes later, whatever lies between.
    pub(crate) const fn is_long_before(&self, next: &Self) -> bool {
        self.number < next.number && self.segment < next.segment && self.discontinuity <= next.discontinuity
    }
}
