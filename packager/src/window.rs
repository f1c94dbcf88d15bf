//! The live window: the newest minute of a stream in memory.
//!
//! Pure: the shell gives the time. It keeps whole segments, because a playlist lists nothing less, and lets the
//! oldest go when they are too old or too many bytes. What it hands out shares the bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use bytes::Bytes;
use millstream_model::{Instant, RenditionId};
use millstream_playlist::{self as playlist, Options, Report, reload::Head};
use millstream_wire::{
    chain::CATALOGS_MAX,
    media::{Catalog, Record},
    sign::Signed,
};

/// What a record costs beside its part's bytes: its own, twice, and the places that point to it.
const RECORD_BYTES: usize = 1_024;

millstream_service::settings! {
    /// The live window of each stream, in memory.
    pub struct Config {
        /// Milliseconds that media stays available. Playlists list about half of it, because a segment must stay
        /// for as long again after it left the list.
        pub span_ms: u64 = 60_000,
        /// Bytes of one stream's window at most, whatever its span; the newest segment always stays.
        pub bytes_max: usize = 192 * 1024 * 1024,
    }
}

/// A part with its record.
#[derive(Debug, Clone)]
pub struct Held {
    /// The record.
    pub record: Signed<Record>,
    /// The part's bytes.
    pub data: Bytes,
    at: Instant,
}

impl Held {
    fn number(&self) -> u64 {
        self.record.unverified().number
    }

    fn segment(&self) -> u64 {
        self.record.unverified().segment
    }

    fn cost(&self) -> usize {
        self.data.len() + RECORD_BYTES
    }
}

/// What became of something asked for by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// It is here.
    Here(T),
    /// It was here, or is older than all that is.
    Gone,
    /// It comes next.
    Next,
    /// Nobody could know of it.
    Unknown,
}

/// A stream's window.
#[derive(Debug)]
pub struct Window {
    config: Config,
    catalogs: Vec<Signed<Catalog>>,
    lanes: BTreeMap<RenditionId, VecDeque<Held>>,
    bytes: usize,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, catalogs: Vec::new(), lanes: BTreeMap::new(), bytes: 0 }
    }

    /// Takes the newest catalog. Receivers remember as many as stay here; media that older ones describe is of no use to
    /// them any more and goes.
    pub fn catalog(&mut self, catalog: Signed<Catalog>) {
        self.bytes += catalog_cost(&catalog);
        self.catalogs.push(catalog);
        while self.catalogs.len() > CATALOGS_MAX {
            self.bytes -= catalog_cost(&self.catalogs.remove(0));
        }
        self.let_undescribed_go();
        self.forget_catalogs();
    }

    /// Takes the newest part of its rendition.
    pub fn push(&mut self, record: Signed<Record>, data: Bytes, now: Instant) {
        if self.oldest_described().is_some_and(|oldest| described_by(&record) < oldest) {
            return;
        }
        let held = Held { record, data, at: now };
        self.bytes += held.cost();
        self.lanes.entry(held.record.unverified().rendition).or_default().push_back(held);
        while self.let_one_go(now) {}
        self.forget_catalogs();
    }

    /// Forgets everything: the stream begins anew.
    pub fn clear(&mut self) {
        self.catalogs.clear();
        self.lanes.clear();
        self.bytes = 0;
    }

    /// Whether there is no part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.values().all(VecDeque::is_empty)
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest catalog.
    #[must_use]
    pub fn newest_catalog(&self) -> Option<&Signed<Catalog>> {
        self.catalogs.last()
    }

    /// The newest catalog and those that records here name, oldest first.
    #[must_use]
    pub fn catalogs(&self) -> &[Signed<Catalog>] {
        &self.catalogs
    }

    /// The stream is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.newest_catalog().is_some_and(|catalog| catalog.unverified().ended)
    }

    /// The rendition with this name, in the newest catalog that has one.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<RenditionId> {
        self.catalogs.iter().rev().find_map(|catalog| Some(catalog.unverified().named(name)?.id))
    }

    /// The init segment of a rendition in a catalog version.
    #[must_use]
    pub fn init(&self, name: &str, generation: u32, version: u32) -> Option<Bytes> {
        let catalogs = self.catalogs.iter().map(Signed::unverified);
        let mut matching =
            catalogs.filter(|catalog| (catalog.generation, catalog.version) == (generation, version));
        Some(matching.next()?.named(name)?.init.clone())
    }

    /// The newest part's place.
    #[must_use]
    pub fn head(&self, rendition: RenditionId) -> Option<Head> {
        Some(Head::of(self.lanes.get(&rendition)?.back()?.record.unverified()))
    }

    /// The number of the newest record.
    #[must_use]
    pub fn newest(&self, rendition: RenditionId) -> Option<u64> {
        Some(self.lanes.get(&rendition)?.back()?.number())
    }

    /// All parts of a rendition, oldest first.
    pub fn parts(&self, rendition: RenditionId) -> impl DoubleEndedIterator<Item = &Held> {
        self.lanes.get(&rendition).into_iter().flatten()
    }

    /// The parts of a rendition from `number` on.
    pub fn parts_from(&self, rendition: RenditionId, number: u64) -> impl DoubleEndedIterator<Item = &Held> {
        self.lanes.get(&rendition).into_iter().flat_map(move |lane| {
            let from = lane.partition_point(|held| held.number() < number);
            lane.range(from..)
        })
    }

    /// The part with this number.
    #[must_use]
    pub fn part(&self, rendition: RenditionId, number: u64) -> Found<&Held> {
        let Some((first, last)) = self.ends(rendition) else { return Found::Unknown };
        match self.parts_from(rendition, number).next() {
            Some(held) if held.number() == number => Found::Here(held),
            Some(_) => Found::Gone,
            None if last.number().checked_add(1) == Some(number) && !self.has_ended() => Found::Next,
            None if number < first.number() => Found::Gone,
            None => Found::Unknown,
        }
    }

    /// The parts of a whole segment. One that is not whole yet is [`Found::Next`].
    #[must_use]
    pub fn segment(&self, rendition: RenditionId, segment: u64) -> Found<Vec<Bytes>> {
        let Some((first, last)) = self.ends(rendition) else { return Found::Unknown };
        if segment < first.segment() {
            return Found::Gone;
        }
        let open = last.segment() == segment && !self.has_ended();
        if open || (last.segment().checked_add(1) == Some(segment) && !self.has_ended()) {
            return Found::Next;
        }
        let Some(lane) = self.lanes.get(&rendition) else { return Found::Unknown };
        let from = lane.partition_point(|held| held.segment() < segment);
        let parts: Vec<Bytes> = lane
            .range(from..)
            .take_while(|held| held.segment() == segment)
            .map(|held| held.data.clone())
            .collect();
        match (parts.is_empty(), segment < last.segment()) {
            (false, _) => Found::Here(parts),
            // Numbers are left out over a restart.
            (true, true) => Found::Gone,
            (true, false) => Found::Unknown,
        }
    }

    /// The records of the newest segments of a rendition, or of each, in the newest catalog's generation, newest first: a
    /// receiver checks one signature a rendition and follows the chain back. As few as `segments` allows
    /// with which a decoder can start at the oldest; where it can at none, the fewest.
    #[must_use]
    pub fn newest_records(
        &self,
        of: Option<RenditionId>,
        segments: RangeInclusive<u64>,
    ) -> Vec<&Signed<Record>> {
        let generation = self.newest_catalog().map(|catalog| catalog.unverified().generation);
        let mut records = Vec::new();
        for (_, lane) in self.lanes.iter().filter(|(id, _)| of.is_none_or(|of| **id == of)) {
            let newest = lane.back().map_or(0, Held::segment);
            let behind = |held: &Held| newest - held.segment();
            let of_generation = |held: &&Held| Some(held.record.unverified().generation) == generation;
            let start = lane
                .iter()
                .rev()
                .filter(of_generation)
                .map(|held| (behind(held) + 1, held.record.unverified()))
                .find(|(count, record)| segments.contains(count) && record.first && record.independent)
                .map_or(*segments.start(), |(count, _)| count);
            records.extend(
                lane.iter()
                    .rev()
                    .take_while(|held| behind(held) < start)
                    .filter(of_generation)
                    .map(|held| &held.record),
            );
        }
        records
    }

    /// The records of a rendition from number `from` on, newest first; those of an older generation than the newest
    /// catalog's are left out.
    #[must_use]
    pub fn records_from(&self, rendition: RenditionId, from: u64) -> Vec<&Signed<Record>> {
        let generation = self.newest_catalog().map(|catalog| catalog.unverified().generation);
        let lane = self.lanes.get(&rendition).into_iter().flatten();
        lane.rev()
            .map(|held| &held.record)
            .take_while(|record| record.unverified().number >= from)
            .filter(|record| Some(record.unverified().generation) == generation)
            .collect()
    }

    /// The media playlist of a rendition; `None` when there is nothing to list yet.
    #[must_use]
    pub fn playlist(&self, rendition: RenditionId, low_latency: bool) -> Option<String> {
        let catalogs: Vec<&Catalog> = self.catalogs.iter().map(Signed::unverified).collect();
        let reports = self.reports(rendition);
        let options =
            Options { low_latency, listed_ms: self.listed_ms(), reports: &reports, ..Options::default() };
        let records = self.parts(rendition).map(|held| held.record.unverified());
        playlist::media(&catalogs, rendition, records, &options)
    }

    /// How far all renditions but one are.
    #[must_use]
    pub fn reports(&self, but: RenditionId) -> Vec<Report<'_>> {
        let renditions = self.newest_catalog().into_iter().flat_map(|newest| &newest.unverified().renditions);
        renditions
            .filter(|other| other.id != but)
            .filter_map(|other| Some(Report { rendition: &other.name, head: self.head(other.id)? }))
            .collect()
    }

    /// Milliseconds that playlists of the window alone list.
    #[must_use]
    pub fn listed_ms(&self) -> u64 {
        self.config.span_ms.min(60_000) * playlist::LISTED_MS / 60_000
    }

    fn ends(&self, rendition: RenditionId) -> Option<(&Held, &Held)> {
        let lane = self.lanes.get(&rendition)?;
        Some((lane.front()?, lane.back()?))
    }

    /// Lets the oldest segment of a rendition go, if it is too old or takes too much; never the newest.
    fn let_one_go(&mut self, now: Instant) -> bool {
        let span = Duration::from_millis(self.config.span_ms);
        let oldest = self
            .lanes
            .values_mut()
            .filter(|lane| lane.front().map(Held::segment) != lane.back().map(Held::segment))
            .min_by_key(|lane| lane.front().map(|held| held.at));
        let Some(lane) = oldest else { return false };
        let Some(segment) = lane.front().map(Held::segment) else { return false };
        // A segment is as old as its last part.
        let parts = lane.iter().take_while(|held| held.segment() == segment);
        let age = parts.last().map_or(Duration::ZERO, |last| now.since(last.at));
        if age <= span && self.bytes <= self.config.bytes_max {
            return false;
        }
        while lane.front().is_some_and(|held| held.segment() == segment) {
            if let Some(held) = lane.pop_front() {
                self.bytes -= held.cost();
            }
        }
        true
    }

    /// Generation and version of the oldest catalog.
    fn oldest_described(&self) -> Option<(u32, u32)> {
        let oldest = self.catalogs.first()?.unverified();
        Some((oldest.generation, oldest.version))
    }

    /// Lets parts go that no catalog here describes. A segment's parts name one catalog, so whole segments go.
    fn let_undescribed_go(&mut self) {
        let Some(oldest) = self.oldest_described() else { return };
        for lane in self.lanes.values_mut() {
            while lane.front().is_some_and(|held| described_by(&held.record) < oldest) {
                if let Some(held) = lane.pop_front() {
                    self.bytes -= held.cost();
                }
            }
        }
    }

    /// Keeps the catalogs that records here name, and the newest.
    fn forget_catalogs(&mut self) {
        let oldest =
            self.lanes.values().filter_map(|lane| lane.front()).map(|held| described_by(&held.record)).min();
        let (mut left, mut bytes) = (self.catalogs.len(), 0);
        self.catalogs.retain(|signed| {
            let catalog = signed.unverified();
            let needed = oldest.is_some_and(|oldest| (catalog.generation, catalog.version) >= oldest);
            left -= 1;
            let stays = needed || left == 0;
            bytes += if stays { 0 } else { catalog_cost(signed) };
            stays
        });
        self.bytes -= bytes;
    }
}

/// Generation and version of the catalog that a record names.
const fn described_by(record: &Signed<Record>) -> (u32, u32) {
    let record = record.unverified();
    (record.generation, record.catalog)
}

/// What a catalog costs: its bytes, what was read of them, and as much as a record beside.
fn catalog_cost(catalog: &Signed<Catalog>) -> usize {
    2 * catalog.bytes().len() + RECORD_BYTES
}

#[cfg(test)]
mod tests;
