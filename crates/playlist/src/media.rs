//! Media playlists: one rendition's segments and parts (RFC 8216bis §4.4.2 to §4.4.5).

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::fmt::Write as _;

use millstream_model::RenditionId;
use millstream_wire::media::{Catalog, Record, Rendition};

use crate::{
    path::Path,
    reload::Head,
    text::{Date, Seconds},
};

/// Milliseconds of whole segments that a playlist lists at least, when there are as many. Something over half of
/// the 60 s live window, because a segment must stay available for as long again after it left the playlist
/// (§6.2.2).
pub const LISTED_MS: u64 = 28_000;

/// Discontinuities between neighbouring segments at most; each costs a line. A rendition skips those in which it
/// had no part: more than a few are a new beginning.
pub const DISCONTINUITY_STEP_MAX: u32 = 16;

/// Target durations from the playlist's end within which parts are listed (§6.2.2).
const PARTS_TARGETS: u64 = 3;

/// Part target durations that a client stays behind the playlist's end at least: what §4.4.3.8 recommends.
const PART_HOLD_BACK_TARGETS: u64 = 3;

/// Target durations that a client without low latency stays behind at least: what §4.4.3.8 demands.
const HOLD_BACK_TARGETS: u64 = 3;

/// What a playlist is made for.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Lists parts, for clients that play them.
    pub low_latency: bool,
    /// Milliseconds of whole segments to list at least: [`LISTED_MS`] unless there is a reason. Never fewer than
    /// three target durations.
    pub listed_ms: u64,
    /// How far the other renditions are.
    pub reports: &'a [Report<'a>],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { low_latency: true, listed_ms: LISTED_MS, reports: &[] }
    }
}

/// How far another rendition is (§4.4.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// The rendition's name.
    pub rendition: &'a str,
    /// Its newest part.
    pub head: Head,
}

/// The media playlist of `rendition`; `None` when there is nothing to list yet, or no such rendition.
///
/// `catalogs` are the newest and those that the records name; a record whose catalog is not among them is left
/// out. `records` come in the order of their numbers; those of other renditions are ignored. Where one is missing, the
/// playlist begins anew with the next segment, once there is one. It ends when the newest catalog says so.
#[must_use]
pub fn media<'a>(
    catalogs: &[&Catalog],
    rendition: RenditionId,
    records: impl IntoIterator<Item = &'a Record>,
    options: &Options<'_>,
) -> Option<String> {
    let newest = catalogs.iter().max_by_key(|catalog| (catalog.generation, catalog.version))?;
    let current = newest.rendition(rendition)?;
    let mut segments = Segments::default();
    for record in records {
        if record.rendition == rendition {
            segments.push(record, described(catalogs, record));
        }
    }
    let mut segments = segments.list;
    if !newest.ended {
        if let Some(open) = segments.back_mut() {
            open.whole = false;
        }
        if !options.low_latency {
            segments.retain(|segment| segment.whole);
        }
    }
    let listed_ms = options.listed_ms.max(u64::from(current.target_duration_ms).saturating_mul(3));
    drop_oldest(&mut segments, listed_ms.saturating_mul(1_000));
    let first = segments.front()?;

    let mut text = Text { out: String::with_capacity(8 * 1024), name: &current.name };
    text.head(newest, current, first, options.low_latency);
    let with_parts = if options.low_latency { parts_from(&segments, current) } else { segments.len() };
    let mut before = None;
    for (index, segment) in segments.iter().enumerate() {
        text.segment(before, segment, index >= with_parts);
        before = Some(segment);
    }
    if newest.ended {
        text.line(format_args!("#EXT-X-ENDLIST"));
    } else if options.low_latency {
        let next = segments.back().and_then(|open| open.parts.last()?.number.checked_add(1));
        if let Some(number) = next {
            let uri = Path::Part { rendition: &current.name, number };
            text.line(format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\""));
        }
        for report in options.reports {
            let (uri, head) = (Path::Media { rendition: report.rendition }, report.head);
            text.line(format_args!(
                "#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={},LAST-PART={}",
                head.segment, head.part
            ));
        }
    }
    Some(text.out)
}

fn described<'a>(catalogs: &[&'a Catalog], record: &Record) -> Option<&'a Rendition> {
    catalogs
        .iter()
        .find(|catalog| catalog.generation == record.generation && catalog.version == record.catalog)?
        .rendition(record.rendition)
}

/// A segment as far as it is there.
#[derive(Debug)]
struct Segment<'a> {
    number: u64,
    rendition: &'a Rendition,
    parts: Vec<&'a Record>,
    /// No part follows any more.
    whole: bool,
}

impl Segment<'_> {
    fn first(&self) -> &Record {
        self.parts[0]
    }

    fn duration(&self) -> Seconds {
        let ticks = self.parts.iter().map(|part| u64::from(part.duration)).sum();
        Seconds::of_ticks(ticks, self.rendition.timescale)
    }

    fn micros(&self) -> u64 {
        self.duration().micros()
    }
}

/// Records gathered into segments that follow each other without a hole.
#[derive(Debug, Default)]
struct Segments<'a> {
    list: VecDeque<Segment<'a>>,
}

impl<'a> Segments<'a> {
    fn push(&mut self, record: &'a Record, rendition: Option<&'a Rendition>) {
        let Some(rendition) = rendition else { return };
        if record.first {
            if !self.list.back().is_some_and(|before| follows(before, record)) {
                // What came before the hole cannot stand in one playlist with what comes after it.
                self.list.clear();
            }
            let parts = alloc::vec![record];
            self.list.push_back(Segment { number: record.segment, rendition, parts, whole: true });
        } else if let Some(open) = self.list.back_mut()
            && open.parts.last().is_some_and(|before| continues(before, record))
        {
            open.parts.push(record);
        }
    }
}

/// `record` begins the segment after `before`.
fn follows(before: &Segment<'_>, record: &Record) -> bool {
    before.parts.last().is_some_and(|last| {
        let step = record.discontinuity.checked_sub(last.discontinuity);
        last.number.checked_add(1) == Some(record.number)
            && last.segment.checked_add(1) == Some(record.segment)
            && step.is_some_and(|step| step <= DISCONTINUITY_STEP_MAX)
    })
}

/// `record` is the part after `before` in the same segment.
fn continues(before: &Record, record: &Record) -> bool {
    before.number.checked_add(1) == Some(record.number)
        && before.segment == record.segment
        && before.part.checked_add(1) == Some(record.part)
        && before.discontinuity == record.discontinuity
        && (before.generation, before.catalog) == (record.generation, record.catalog)
}

/// Keeps as few whole segments as last `listed_micros`. Each new segment can only move the first one forward.
fn drop_oldest(segments: &mut VecDeque<Segment<'_>>, listed_micros: u64) {
    let mut total: u64 = segments.iter().filter(|segment| segment.whole).map(Segment::micros).sum();
    while let Some(first) = segments.front()
        && first.whole
        && total.saturating_sub(first.micros()) >= listed_micros
    {
        total = total.saturating_sub(first.micros());
        segments.pop_front();
    }
}

/// The first segment whose parts are listed: those wholly within three target durations of the end, and none from
/// before a change of the part target, which all listed parts have to keep.
fn parts_from(segments: &VecDeque<Segment<'_>>, current: &Rendition) -> usize {
    let reach = u64::from(current.target_duration_ms).saturating_mul(PARTS_TARGETS * 1_000);
    let mut distance: u64 = 0;
    let mut from = segments.len();
    for (index, segment) in segments.iter().enumerate().rev() {
        distance = distance.saturating_add(segment.micros());
        let near = distance <= reach || !segment.whole;
        if !near || segment.rendition.part_target_ms != current.part_target_ms {
            break;
        }
        from = index;
    }
    from
}

struct Text<'a> {
    out: String,
    name: &'a str,
}

impl Text<'_> {
    fn line(&mut self, line: core::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{line}");
    }

    fn head(&mut self, catalog: &Catalog, current: &Rendition, first: &Segment<'_>, low_latency: bool) {
        self.line(format_args!("#EXTM3U"));
        // EXT-X-MAP wants 6; tags of later versions that are used are ones that older clients pass over.
        self.line(format_args!("#EXT-X-VERSION:6"));
        let target_ms = u64::from(current.target_duration_ms);
        self.line(format_args!("#EXT-X-TARGETDURATION:{}", target_ms.div_ceil(1_000)));
        let hold_back = Seconds::of_millis(target_ms.saturating_mul(HOLD_BACK_TARGETS));
        if low_latency {
            // All of a stream's playlists must say the same here (§6.2.4): so the longest part target counts.
            let longest = catalog.renditions.iter().map(|rendition| rendition.part_target_ms).max();
            let part_ms = u64::from(longest.unwrap_or(current.part_target_ms));
            let part_hold_back = Seconds::of_millis(part_ms.saturating_mul(PART_HOLD_BACK_TARGETS));
            self.line(format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={part_hold_back},HOLD-BACK={hold_back}"
            ));
            let part_target = Seconds::of_millis(u64::from(current.part_target_ms));
            self.line(format_args!("#EXT-X-PART-INF:PART-TARGET={part_target}"));
        } else {
            self.line(format_args!("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK={hold_back}"));
        }
        self.line(format_args!("#EXT-X-MEDIA-SEQUENCE:{}", first.number));
        self.line(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", first.first().discontinuity));
    }

    fn segment(&mut self, before: Option<&Segment<'_>>, segment: &Segment<'_>, with_parts: bool) {
        let first = segment.first();
        let steps = before.map_or(0, |before| first.discontinuity - before.first().discontinuity);
        for _ in 0..steps {
            self.line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        let described = |record: &Record| (record.generation, record.catalog);
        if before.is_none_or(|before| described(before.first()) != described(first)) {
            let (generation, version) = described(first);
            let uri = Path::Init { rendition: self.name, generation, version };
            self.line(format_args!("#EXT-X-MAP:URI=\"{uri}\""));
        }
        self.line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", Date(first.program_date_time)));
        if with_parts {
            for part in &segment.parts {
                let duration = Seconds::of_ticks(u64::from(part.duration), segment.rendition.timescale);
                let uri = Path::Part { rendition: self.name, number: part.number };
                let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
                self.line(format_args!("#EXT-X-PART:DURATION={duration},URI=\"{uri}\"{independent}"));
            }
        }
        if segment.whole {
            self.line(format_args!("#EXTINF:{},", segment.duration()));
            let uri = Path::Segment { rendition: self.name, segment: segment.number };
            self.line(format_args!("{uri}"));
        }
    }
}
