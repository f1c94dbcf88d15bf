//! Signs what the segmenter cuts: tracks become catalogs, parts become records, each naming the one before it.
//!
//! Pure: numbers, time and keys are arguments. Record numbers, segment numbers and part indexes are counted here
//! and not taken from the segmenter, so that the chain has no hole whatever is lost on the way to it.

use std::collections::BTreeMap;

use millstream_model::{BitRate, Hash, PART_BYTES_MAX, RenditionId, StreamId, WallTime};
use millstream_segmenter as segmenter;
use millstream_wire::{
    media::{Catalog, Media, Record, Rendition, hash_pieces},
    sign::{Context, SecretKey, Signed},
};
use thiserror::Error;

use crate::{renditions::rung_name, sequence::Numbers};

/// What a declared rate has above the measured peak, in percent: room to grow before it must be declared anew.
const HEADROOM_PERCENT: u64 = 125;

/// Segments measured before a declared rate is found to be far too high.
const MEASURED_SEGMENTS_MIN: u32 = 5;

/// Bits that an encoder spends on a pixel, per thousand, where nobody says what rate to expect.
const MILLIBITS_PER_PIXEL: u64 = 100;

/// Frames in 1,000 seconds, where the track does not say.
const FRAME_RATE_MILLI: u32 = 30_000;

/// Rate of sound where nobody says what to expect.
const AUDIO_RATE: BitRate = BitRate(160_000);

/// Why a part cannot be signed. The stream goes on with the next that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsigned {
    /// No catalog describes its rendition.
    #[error("its rendition is in no catalog")]
    Undescribed,
    /// It is in the middle of a segment whose beginning was not signed.
    #[error("its segment's beginning is missing")]
    Headless,
    /// It has no bytes or no duration, or more than a record can say.
    #[error("{bytes} bytes and {duration} ticks do not fit a record")]
    Size {
        /// Its bytes.
        bytes: usize,
        /// Its duration.
        duration: u32,
    },
}

/// What a publisher says about its rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of the pictures.
    pub video: Option<BitRate>,
    /// Of the sound.
    pub audio: Option<BitRate>,
}

/// Signs one stream.
pub struct Signer {
    key: SecretKey,
    stream: StreamId,
    generation: u32,
    catalog: Option<Signed<Catalog>>,
    lanes: BTreeMap<RenditionId, Lane>,
    /// What a rendition that was never signed starts with.
    start: Numbers,
    rates: Rates,
    made_for: BTreeMap<RenditionId, BitRate>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Signer")
            .field("stream", &self.stream)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// One rendition's end of the chain.
#[derive(Debug, Clone)]
struct Lane {
    next_number: u64,
    next_segment: u64,
    /// Index of the next part in the open segment; 0 while none is open.
    next_part: u16,
    previous: Hash,
    /// The catalog version that the open segment names.
    catalog: u32,
    /// The catalog before this one did not have it: its next segment has the number of those beside it.
    joins: bool,
    meter: Meter,
}

impl Signer {
    /// Signs `stream` from `start` on, as `key`, which is delegated to in `generation`.
    #[must_use]
    pub fn new(stream: StreamId, key: SecretKey, generation: u32, start: Numbers) -> Self {
        let lanes = BTreeMap::new();
        Self {
            key,
            stream,
            generation,
            catalog: None,
            lanes,
            start,
            rates: Rates::default(),
            made_for: BTreeMap::new(),
        }
    }

    /// The generation.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The first numbers that were not used, as far as they are counted here.
    #[must_use]
    pub fn next(&self) -> Numbers {
        let highest = |next: fn(&Lane) -> u64| self.lanes.values().map(next).max().unwrap_or(0);
        Numbers {
            number: highest(|lane| lane.next_number),
            // The open one is taken.
            segment: highest(|lane| lane.next_segment + u64::from(lane.next_part > 0)),
            ..Numbers::default()
        }
        .max(Numbers {
            number: self.start.number,
            segment: self.start.segment,
            ..Numbers::default()
        })
    }

    /// Ticks a second of a rendition's media times; 0 when it is not known.
    #[must_use]
    pub fn timescale(&self, rendition: RenditionId) -> u32 {
        let catalog = self.catalog.as_ref().map(Signed::unverified);
        catalog.and_then(|catalog| catalog.rendition(rendition)).map_or(0, |rendition| rendition.timescale)
    }

    /// What the publisher says of its rates; the next catalog declares them.
    pub const fn expect(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// The rate that a rendition is held to which is made here; the next catalog declares it.
    pub fn made_for(&mut self, rendition: RenditionId, rate: BitRate) {
        self.made_for.insert(rendition, rate);
    }

    /// Goes on under another delegation: catalogs and chains begin anew, numbers go on. Every rendition's next part
    /// must begin a segment. Gives the catalog in force once more, for the new generation.
    pub fn delegate(&mut self, generation: u32, now: WallTime) -> Option<Signed<Catalog>> {
        self.generation = generation;
        for lane in self.lanes.values_mut() {
            if lane.next_part > 0 {
                lane.next_segment += 1;
            }
            lane.previous = Record::NO_PREVIOUS;
            lane.next_part = 0;
        }
        let renditions = self.catalog.take()?.unverified().renditions.clone();
        Some(self.sign_catalog(renditions, false, now))
    }

    /// Signs the catalog of `tracks`; `None` when the one in force says the same.
    pub fn tracks(&mut self, tracks: &[segmenter::Track], now: WallTime) -> Option<Signed<Catalog>> {
        let renditions: Vec<Rendition> = tracks.iter().map(|track| self.describe(track)).collect();
        for rendition in &renditions {
            let start = &self.start;
            let lane = self.lanes.entry(rendition.id).or_insert_with(|| Lane {
                next_number: start.number,
                next_segment: start.segment,
                next_part: 0,
                previous: Record::NO_PREVIOUS,
                catalog: 0,
                joins: true,
                meter: Meter::default(),
            });
            let before = self.catalog.as_ref().map(Signed::unverified);
            lane.joins |= before.is_none_or(|before| before.rendition(rendition.id).is_none());
            lane.meter = Meter::default();
        }
        let same = self.catalog.as_ref().map(Signed::unverified);
        if same.is_some_and(|catalog| !catalog.ended && catalog.renditions == renditions) {
            return None;
        }
        Some(self.sign_catalog(renditions, false, now))
    }

    /// Signs that nothing follows; `None` when nothing ever came.
    pub fn end(&mut self, now: WallTime) -> Option<Signed<Catalog>> {
        let renditions = self.catalog.as_ref()?.unverified().renditions.clone();
        Some(self.sign_catalog(renditions, true, now))
    }

    /// Signs a part.
    ///
    /// # Errors
    /// [`Unsigned`] says why it cannot be.
    pub fn part(&mut self, part: &segmenter::Part) -> Result<Signed<Record>, Unsigned> {
        let catalog = self.catalog.as_ref().ok_or(Unsigned::Undescribed)?.unverified();
        let rendition = catalog.rendition(part.rendition).ok_or(Unsigned::Undescribed)?;
        let lane = self.lanes.get_mut(&part.rendition).ok_or(Unsigned::Undescribed)?;
        let bytes = part.data.len();
        let size = u32::try_from(bytes)
            .ok()
            .filter(|size| (1..=PART_BYTES_MAX).contains(size) && part.duration > 0)
            .ok_or(Unsigned::Size { bytes, duration: part.duration })?;
        if part.first {
            if lane.next_part > 0 {
                lane.next_segment += 1;
            }
            if std::mem::take(&mut lane.joins) {
                lane.next_segment = lane.next_segment.max(part.segment);
            }
            lane.next_part = 0;
            lane.catalog = catalog.version;
            lane.meter.cut(rendition.timescale);
        } else if lane.next_part == 0 {
            return Err(Unsigned::Headless);
        }
        let record = Record {
            generation: self.generation,
            catalog: lane.catalog,
            rendition: part.rendition,
            number: lane.next_number,
            segment: lane.next_segment,
            part: lane.next_part,
            media_time: part.media_time,
            duration: part.duration,
            program_date_time: part.program_date_time,
            discontinuity: part.discontinuity,
            independent: part.independent,
            first: part.first,
            size,
            pieces: hash_pieces(&part.data),
            previous: lane.previous,
        };
        let signed = Signed::new(record, Context::Stream(&self.stream), &self.key);
        lane.next_number += 1;
        lane.next_part = lane.next_part.saturating_add(1);
        lane.previous = signed.digest();
        lane.meter.add(size, part.duration);
        Ok(signed)
    }

    /// A catalog with better rates, when those in force turned out to be wrong: below the peak, or far above it.
    /// Segments that begin from now on name it.
    pub fn correct(&mut self, now: WallTime) -> Option<Signed<Catalog>> {
        let mut renditions = self.catalog.as_ref()?.unverified().renditions.clone();
        let mut wrong = false;
        for rendition in &mut renditions {
            let Some(meter) = self.lanes.get(&rendition.id).map(|lane| &lane.meter) else { continue };
            if meter.contradicts(rendition.bandwidth) {
                rendition.bandwidth = with_headroom(meter.peak);
                wrong = true;
            }
        }
        wrong.then(|| self.sign_catalog(renditions, false, now))
    }

    fn sign_catalog(&mut self, renditions: Vec<Rendition>, ended: bool, now: WallTime) -> Signed<Catalog> {
        let version = self.catalog.as_ref().map_or(0, |before| before.unverified().version).saturating_add(1);
        let catalog = Catalog { generation: self.generation, version, created: now, ended, renditions };
        let signed = Signed::new(catalog, Context::Stream(&self.stream), &self.key);
        self.catalog = Some(signed.clone());
        signed
    }

    fn describe(&self, track: &segmenter::Track) -> Rendition {
        let (group, media, expected) = match track.media {
            segmenter::Media::Video { width, height, frame_rate_milli } => {
                let frames = if frame_rate_milli == 0 { FRAME_RATE_MILLI } else { frame_rate_milli };
                let pixels = u64::from(width) * u64::from(height);
                let guess = pixels * u64::from(frames) / 1_000 * MILLIBITS_PER_PIXEL / 1_000;
                let media = Media::Video { width, height, frame_rate_milli };
                // What a publisher says of its rates is about what it sends, and not about what is made of it here.
                let told = match track.rendition {
                    segmenter::VIDEO => self.rates.video,
                    other => self.made_for.get(&other).copied(),
                };
                ("video", media, told.map_or(BitRate(guess), with_headroom))
            }
            segmenter::Media::Audio { channels, sample_rate } => {
                let media = Media::Audio { channels, sample_rate };
                let told = self.rates.audio.filter(|_| track.rendition == segmenter::AUDIO);
                ("audio", media, told.map_or(AUDIO_RATE, with_headroom))
            }
        };
        let name = match track.rendition {
            segmenter::VIDEO | segmenter::AUDIO => group.to_owned(),
            other => rung_name(other, &media).unwrap_or_else(|| format!("{group}-{other}")),
        };
        // A rate that was measured or declared before says more than any guess.
        let known = self.catalog.as_ref().and_then(|c| c.unverified().rendition(track.rendition));
        Rendition {
            id: track.rendition,
            name,
            group: group.to_owned(),
            media,
            codecs: track.codec.clone(),
            bandwidth: known.map_or(expected, |known| known.bandwidth.max(expected)).max(BitRate(1)),
            timescale: track.timescale,
            target_duration_ms: track.target_duration_ms,
            part_target_ms: track.part_target_ms,
            init: track.init.clone(),
        }
    }
}

fn with_headroom(rate: BitRate) -> BitRate {
    BitRate(rate.0.saturating_mul(HEADROOM_PERCENT) / 100)
}

/// Measures a rendition's rate, segment by segment (RFC 8216bis §4.4.6.2: the peak of any segment counts).
#[derive(Debug, Clone, Default)]
struct Meter {
    bytes: u64,
    ticks: u64,
    segments: u32,
    peak: BitRate,
}

impl Meter {
    fn add(&mut self, bytes: u32, ticks: u32) {
        self.bytes += u64::from(bytes);
        self.ticks += u64::from(ticks);
    }

    fn cut(&mut self, timescale: u32) {
        let (bytes, ticks) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.ticks));
        if let Some(rate) = (bytes * 8).saturating_mul(u64::from(timescale)).checked_div(ticks) {
            self.peak = self.peak.max(BitRate(rate));
            self.segments = self.segments.saturating_add(1);
        }
    }

    fn contradicts(&self, declared: BitRate) -> bool {
        let measured = self.segments >= MEASURED_SEGMENTS_MIN;
        self.peak > declared || (measured && declared.0 > self.peak.0.saturating_mul(3))
    }
}

#[cfg(test)]
mod tests;
