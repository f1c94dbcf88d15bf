//! What is known of a recording: its catalogs, and an outline of each segment. Hours of a show in a few megabytes.
//!
//! Pure. The live side adds to it as a show goes on; the journal's pages are read back into it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_model::RenditionId;
use millstream_playlist::Outline;
use millstream_wire::{
    frame::Frame,
    media::{Catalog, Delegation, Record},
    sign::Signed,
};

/// Segments of a rendition that are remembered: 36 hours of two seconds each, in some 5 MiB. Older ones stay in the store
/// and are not listed any more.
pub const SEGMENTS_MAX: usize = 65_536;

/// Catalogs that are remembered: a day's changes of an encoder that somebody plays with, in some 4 MiB.
pub const CATALOGS_MAX: usize = 1_024;

/// Where a segment's media is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// In memory, on its way to the store.
    Waiting,
    /// In the store.
    Stored,
    /// Nowhere: it was given up, or is damaged.
    Lost,
}

/// A whole segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What playlists say of it.
    pub outline: Outline,
    /// Its bytes.
    pub bytes: u64,
    /// Where its media is.
    pub media: Media,
}

impl Span {
    /// Of a segment that begins with `record`.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self { outline: Outline::of(record), bytes: u64::from(record.size), media: Media::Waiting }
    }

    /// Takes the next part; false when `record` is not it.
    pub fn push(&mut self, record: &Record) -> bool {
        let pushed = self.outline.push(record);
        if pushed {
            self.bytes += u64::from(record.size);
        }
        pushed
    }

    fn lose(&mut self) {
        self.media = Media::Lost;
        self.outline.lost = true;
    }
}

/// What a recording holds.
#[derive(Debug, Clone, Default)]
pub struct Index {
    delegation: Option<Signed<Delegation>>,
    catalogs: VecDeque<Signed<Catalog>>,
    lanes: BTreeMap<RenditionId, VecDeque<Span>>,
}

impl Index {
    /// Takes the newest delegation.
    pub fn delegation(&mut self, delegation: Signed<Delegation>) {
        self.delegation = Some(delegation);
    }

    /// Takes a catalog; one that is known changes nothing.
    pub fn catalog(&mut self, catalog: Signed<Catalog>) {
        let place = place(&catalog);
        if self.catalogs.back().is_some_and(|newest| self::place(newest) >= place) {
            return;
        }
        self.catalogs.push_back(catalog);
        if self.catalogs.len() > CATALOGS_MAX {
            self.catalogs.pop_front();
        }
    }

    /// Takes the newest segment of a rendition.
    pub fn push(&mut self, rendition: RenditionId, span: Span) {
        let lane = self.lanes.entry(rendition).or_default();
        if lane.back().is_some_and(|last| last.outline.segment >= span.outline.segment) {
            return;
        }
        lane.push_back(span);
        if lane.len() > SEGMENTS_MAX {
            lane.pop_front();
        }
    }

    /// Reads a frame of a journal. Records are taken for stored until a gap says that they are not.
    pub fn read(&mut self, frame: Frame) {
        match frame {
            Frame::Delegation(delegation) => self.delegation(delegation),
            Frame::Catalog(catalog) => self.catalog(catalog),
            Frame::Record(record) => {
                let record = record.unverified();
                if record.first {
                    self.push(record.rendition, Span { media: Media::Stored, ..Span::of(record) });
                } else if let Some(last) =
                    self.lanes.get_mut(&record.rendition).and_then(|lane| lane.back_mut())
                {
                    last.push(record);
                }
            }
            Frame::Gap { rendition, from, next } => {
                let lane = self.lanes.entry(rendition).or_default();
                let inside = |span: &&mut Span| (from..next).contains(&span.outline.number);
                lane.iter_mut()
                    .rev()
                    .take_while(|span| span.outline.number >= from)
                    .filter(inside)
                    .for_each(Span::lose);
            }
            _ => {}
        }
    }

    /// Says where a segment's media is now.
    pub fn mark(&mut self, rendition: RenditionId, segment: u64, media: Media) {
        if let Some(span) = self.find_mut(rendition, segment) {
            if media == Media::Lost {
                span.lose();
            } else {
                span.media = media;
            }
        }
    }

    /// Puts what was recorded before in front of what is here.
    pub fn goes_on_from(&mut self, before: Self) {
        let now = std::mem::replace(self, before);
        if now.delegation.is_some() {
            self.delegation = now.delegation;
        }
        now.catalogs.into_iter().for_each(|catalog| self.catalog(catalog));
        for (rendition, lane) in now.lanes {
            lane.into_iter().for_each(|span| self.push(rendition, span));
        }
    }

    /// The newest delegation.
    #[must_use]
    pub const fn newest_delegation(&self) -> Option<&Signed<Delegation>> {
        self.delegation.as_ref()
    }

    /// All catalogs, oldest first.
    pub fn catalogs(&self) -> impl DoubleEndedIterator<Item = &Signed<Catalog>> {
        self.catalogs.iter()
    }

    /// The newest catalog.
    #[must_use]
    pub fn newest_catalog(&self) -> Option<&Signed<Catalog>> {
        self.catalogs.back()
    }

    /// Nothing follows any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.newest_catalog().is_some_and(|catalog| catalog.unverified().ended)
    }

    /// The rendition with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<RenditionId> {
        self.catalogs.iter().rev().find_map(|catalog| Some(catalog.unverified().named(name)?.id))
    }

    /// The name of a rendition.
    #[must_use]
    pub fn name(&self, rendition: RenditionId) -> Option<&str> {
        let mut catalogs = self.catalogs.iter().rev();
        catalogs.find_map(|catalog| Some(catalog.unverified().rendition(rendition)?.name.as_str()))
    }

    /// The init segment of a rendition in a catalog version.
    #[must_use]
    pub fn init(&self, name: &str, generation: u32, version: u32) -> Option<Bytes> {
        let at = self.catalogs.partition_point(|catalog| place(catalog) < (generation, version));
        let catalog = self.catalogs.get(at).filter(|catalog| place(catalog) == (generation, version))?;
        Some(catalog.unverified().named(name)?.init.clone())
    }

    /// The segments of a rendition, oldest first.
    pub fn spans(&self, rendition: RenditionId) -> impl DoubleEndedIterator<Item = &Span> {
        self.lanes.get(&rendition).into_iter().flatten()
    }

    /// The renditions.
    #[must_use]
    pub fn renditions(&self) -> Vec<RenditionId> {
        self.lanes.keys().copied().collect()
    }

    /// All segments, by rendition.
    pub fn all(&self) -> impl Iterator<Item = (RenditionId, &Span)> {
        self.lanes.iter().flat_map(|(rendition, lane)| lane.iter().map(|span| (*rendition, span)))
    }

    /// One segment.
    #[must_use]
    pub fn find(&self, rendition: RenditionId, segment: u64) -> Option<&Span> {
        let lane = self.lanes.get(&rendition)?;
        let at = lane.partition_point(|span| span.outline.segment < segment);
        lane.get(at).filter(|span| span.outline.segment == segment)
    }

    fn find_mut(&mut self, rendition: RenditionId, segment: u64) -> Option<&mut Span> {
        let lane = self.lanes.get_mut(&rendition)?;
        let at = lane.partition_point(|span| span.outline.segment < segment);
        lane.get_mut(at).filter(|span| span.outline.segment == segment)
    }
}

/// Generation and version.
pub(super) const fn place(catalog: &Signed<Catalog>) -> (u32, u32) {
    let catalog = catalog.unverified();
    (catalog.generation, catalog.version)
}
