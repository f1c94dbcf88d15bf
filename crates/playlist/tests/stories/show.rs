//! A made-up stream: catalogs and records without media, to write playlists of.

use bytes::Bytes;
use millstream_model::{BitRate, Hash, MediaTime, RenditionId, WallTime};
use millstream_playlist::{Options, media};
use millstream_wire::media::{Catalog, Media, Record, Rendition};

pub(crate) const VIDEO: RenditionId = RenditionId(0);
pub(crate) const AUDIO: RenditionId = RenditionId(1);

/// 2026-11-22T08:17:00Z.
pub(crate) const START: WallTime = WallTime(1_795_335_420_000);

pub(crate) fn video() -> Rendition {
    Rendition {
        id: VIDEO,
        name: "video".into(),
        group: "video".into(),
        media: Media::Video { width: 1280, height: 720, frame_rate_milli: 29_970 },
        codecs: "avc1.64001f".into(),
        bandwidth: BitRate(2_500_000),
        timescale: 90_000,
        target_duration_ms: 4_000,
        part_target_ms: 267,
        init: Bytes::from_static(b"video init"),
    }
}

pub(crate) fn audio() -> Rendition {
    Rendition {
        id: AUDIO,
        name: "audio".into(),
        group: "audio".into(),
        media: Media::Audio { channels: 2, sample_rate: 48_000 },
        codecs: "mp4a.40.2".into(),
        bandwidth: BitRate(128_000),
        timescale: 48_000,
        target_duration_ms: 4_000,
        part_target_ms: 256,
        init: Bytes::from_static(b"audio init"),
    }
}

pub(crate) fn catalog(version: u32, renditions: Vec<Rendition>) -> Catalog {
    Catalog { generation: 1, version, created: START, ended: false, renditions }
}

/// Writes one rendition's records, part after part.
#[derive(Debug, Clone)]
pub(crate) struct Show {
    pub(crate) catalogs: Vec<Catalog>,
    pub(crate) records: Vec<Record>,
    next: Record,
    timescale: u32,
}

impl Show {
    /// Video parts of eight 29.97 fps frames.
    pub(crate) fn of_video() -> Self {
        Self::new(catalog(1, vec![video(), audio()]), VIDEO, 24_024)
    }

    /// Audio parts of twelve AAC frames.
    pub(crate) fn of_audio() -> Self {
        Self::new(catalog(1, vec![video(), audio()]), AUDIO, 12_288)
    }

    pub(crate) fn new(catalog: Catalog, rendition: RenditionId, duration: u32) -> Self {
        let timescale = catalog.rendition(rendition).unwrap().timescale;
        let next = Record {
            generation: 1,
            catalog: 1,
            rendition,
            number: 0,
            segment: 0,
            part: 0,
            media_time: MediaTime(0),
            duration,
            program_date_time: START,
            discontinuity: 0,
            independent: true,
            first: true,
            size: 1_000,
            pieces: vec![Hash([7; 32])],
            previous: Record::NO_PREVIOUS,
        };
        Self { catalogs: vec![catalog], records: Vec::new(), next, timescale }
    }

    /// The next part as it would be.
    pub(crate) fn next(&mut self) -> &mut Record {
        &mut self.next
    }

    /// Adds the next part.
    pub(crate) fn part(&mut self) -> &mut Self {
        let record = self.next.clone();
        self.next.number += 1;
        self.next.part += 1;
        self.next.first = false;
        self.next.independent = record.rendition == AUDIO;
        self.next.media_time.0 += u64::from(record.duration);
        let elapsed = self.next.media_time.0 * 1_000 / u64::from(self.timescale);
        self.next.program_date_time = START.plus_millis(elapsed);
        self.records.push(record);
        self
    }

    /// Adds parts until the segment has `count`, the last of them cut to `last` ticks; the next begins another.
    pub(crate) fn segment(&mut self, count: u16, last: u32) -> &mut Self {
        let duration = self.next.duration;
        while self.next.part < count {
            self.next.duration = if self.next.part + 1 == count { last } else { duration };
            self.part();
        }
        self.next.duration = duration;
        self.cut()
    }

    /// Begins another segment.
    pub(crate) fn cut(&mut self) -> &mut Self {
        self.next.segment += 1;
        self.next.part = 0;
        self.next.first = true;
        self.next.independent = true;
        self
    }

    /// Segments of two seconds.
    pub(crate) fn segments(&mut self, count: u32) -> &mut Self {
        for _ in 0..count {
            match self.next.rendition {
                AUDIO => self.segment(8, 9_984),
                _ => self.segment(8, 12_012),
            };
        }
        self
    }

    /// The publisher comes back: `steps` discontinuities and `gap_ms` later, described by a new catalog.
    pub(crate) fn comeback(
        &mut self,
        steps: u32,
        gap_ms: u64,
        change: impl FnOnce(&mut Catalog),
    ) -> &mut Self {
        let mut catalog = self.catalogs.last().unwrap().clone();
        catalog.version += 1;
        change(&mut catalog);
        self.next.catalog = catalog.version;
        self.next.generation = catalog.generation;
        self.timescale = catalog.rendition(self.next.rendition).unwrap().timescale;
        self.catalogs.push(catalog);
        self.next.discontinuity += steps;
        self.next.media_time.0 += gap_ms * u64::from(self.timescale) / 1_000;
        let elapsed = self.next.media_time.0 * 1_000 / u64::from(self.timescale);
        self.next.program_date_time = START.plus_millis(elapsed);
        self
    }

    /// The stream is over.
    pub(crate) fn end(&mut self) -> &mut Self {
        let mut catalog = self.catalogs.last().unwrap().clone();
        catalog.version += 1;
        catalog.ended = true;
        self.catalogs.push(catalog);
        self
    }

    pub(crate) fn playlist(&self) -> String {
        self.playlist_with(&Options::default()).unwrap()
    }

    pub(crate) fn playlist_with(&self, options: &Options<'_>) -> Option<String> {
        let catalogs: Vec<&Catalog> = self.catalogs.iter().collect();
        media(&catalogs, self.next.rendition, &self.records, options)
    }
}
