//! Media playlists: one rendition's segments and parts (RFC 8216bis §4.4.2 to §4.4.5).

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::fmt::Write as _;

use millstream_model::RenditionId;
use millstream_wire::media::{Catalog, Record, Rendition};

use crate::{
    outline::Outline,
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

/// Target durations from the playlist's end within which no segment is left out of an update: what §4.4.3.8 demands at
/// least.
const SKIP_TARGETS: u64 = 6;

/// Whether a client that has an earlier playlist may leave its older segments out (§6.2.5.1). Worth its words where
/// playlists are long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Delta {
    /// All is listed, and nothing is said of updates.
    #[default]
    None,
    /// All is listed, and the playlist says that updates are to be had.
    Offered,
    /// The client asked for an update: what lies far behind the end is left out.
    Asked,
}

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
    /// Lists what lies before a hole, too, with a discontinuity in its place: for who keeps more than a live window.
    pub bridged: bool,
    /// The stream is over and this is all of it: the playlist says `EXT-X-PLAYLIST-TYPE:VOD`.
    pub vod: bool,
    /// Whether older segments may be, or are, left out.
    pub delta: Delta,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            low_latency: true,
            listed_ms: LISTED_MS,
            reports: &[],
            bridged: false,
            vod: false,
            delta: Delta::None,
        }
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
    media_with(catalogs, rendition, &[], records, options)
}

/// [`media`], with the outlines of whole segments of `rendition` that lie before the records. Their parts are not
/// listed.
#[must_use]
pub fn media_with<'a>(
    catalogs: &[&Catalog],
    rendition: RenditionId,
    outlines: impl IntoIterator<Item = &'a Outline>,
    records: impl IntoIterator<Item = &'a Record>,
    options: &Options<'_>,
) -> Option<String> {
    let newest = catalogs.iter().max_by_key(|catalog| (catalog.generation, catalog.version))?;
    let current = newest.rendition(rendition)?;
    let mut segments = Segments { list: VecDeque::new(), bridged: options.bridged };
    let mut described = Described { catalogs, last: None };
    for outline in outlines {
        segments.begin(*outline, described.by(outline.generation, outline.catalog, rendition), None);
    }
    for record in records {
        if record.rendition == rendition {
            segments.push(record, described.by(record.generation, record.catalog, rendition));
        }
    }
    let mut segments = segments.list;
    if !newest.ended {
        if let Some(open) = segments.back_mut().filter(|last| !last.parts.is_empty()) {
            open.whole = false;
        }
        if !options.low_latency {
            segments.retain(|segment| segment.whole);
        }
    }
    let listed_ms = options.listed_ms.max(u64::from(current.target_duration_ms).saturating_mul(3));
    drop_oldest(&mut segments, listed_ms.saturating_mul(1_000));
    segments.front()?;

    let mut text = Text { out: String::with_capacity(8 * 1024), name: &current.name };
    let skipped = match options.delta {
        Delta::Asked if !newest.ended => behind_skip_boundary(&segments, current),
        _ => 0,
    };
    text.head(newest, current, &segments, options, skipped);
    if skipped > 0 {
        text.line(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
    }
    let with_parts = if options.low_latency { parts_from(&segments, current) } else { segments.len() };
    let mut before = None;
    for (index, segment) in segments.iter().enumerate() {
        if index >= skipped {
            text.segment(before, segment, index >= with_parts);
        }
        before = Some(segment);
    }
    if newest.ended {
        text.line(format_args!("#EXT-X-ENDLIST"));
    } else if options.low_latency {
        let next = segments.back().and_then(|last| last.outline.next_number());
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

/// Finds what describes a segment. Neighbours mostly have the same catalog, so that it is looked for seldom.
struct Described<'a, 'b> {
    catalogs: &'b [&'a Catalog],
    last: Option<(u32, u32, &'a Rendition)>,
}

impl<'a> Described<'a, '_> {
    fn by(&mut self, generation: u32, version: u32, rendition: RenditionId) -> Option<&'a Rendition> {
        if let Some((of, at, found)) = self.last
            && (of, at) == (generation, version)
        {
            return Some(found);
        }
        let mut catalogs = self.catalogs.iter();
        let catalog = catalogs.find(|c| c.generation == generation && c.version == version)?;
        let found = catalog.rendition(rendition)?;
        self.last = Some((generation, version, found));
        Some(found)
    }
}

/// A segment as far as it is there.
#[derive(Debug)]
struct Segment<'a> {
    outline: Outline,
    rendition: &'a Rendition,
    /// As far as their records are at hand.
    parts: Vec<&'a Record>,
    /// Discontinuities between it and the one before.
    steps: u32,
    /// No part follows any more.
    whole: bool,
}

impl Segment<'_> {
    fn duration(&self) -> Seconds {
        Seconds::of_ticks(self.outline.duration, self.rendition.timescale)
    }

    fn micros(&self) -> u64 {
        self.duration().micros()
    }
}

/// Segments that follow each other without a hole, or over bridged ones.
#[derive(Debug)]
struct Segments<'a> {
    list: VecDeque<Segment<'a>>,
    bridged: bool,
}

impl<'a> Segments<'a> {
    fn push(&mut self, record: &'a Record, rendition: Option<&'a Rendition>) {
        if record.first {
            self.begin(Outline::of(record), rendition, Some(record));
        } else if rendition.is_some()
            && let Some(open) = self.list.back_mut()
            && !open.parts.is_empty()
            && open.outline.push(record)
        {
            open.parts.push(record);
        }
    }

    fn begin(&mut self, outline: Outline, rendition: Option<&'a Rendition>, first: Option<&'a Record>) {
        let Some(rendition) = rendition else { return };
        let steps = match self.list.back().map(|before| &before.outline) {
            Some(before) if before.is_before(&outline, DISCONTINUITY_STEP_MAX) => {
                outline.discontinuity - before.discontinuity
            }
            Some(before) if self.bridged && before.is_long_before(&outline) => 1,
            // What came before the hole cannot stand in one playlist with what comes after it.
            _ => {
                self.list.clear();
                0
            }
        };
        let parts = first.into_iter().collect();
        self.list.push_back(Segment { outline, rendition, parts, steps, whole: true });
    }
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

/// How many of the oldest segments lie behind the skip boundary.
fn behind_skip_boundary(segments: &VecDeque<Segment<'_>>, current: &Rendition) -> usize {
    let boundary = skip_boundary_ms(current).saturating_mul(1_000);
    let mut distance: u64 = 0;
    let within = segments.iter().rev().take_while(|segment| {
        let is_within = distance < boundary;
        distance = distance.saturating_add(segment.micros());
        is_within
    });
    segments.len() - within.count()
}

fn skip_boundary_ms(current: &Rendition) -> u64 {
    u64::from(current.target_duration_ms).saturating_mul(SKIP_TARGETS)
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

    fn head(
        &mut self,
        catalog: &Catalog,
        current: &Rendition,
        segments: &VecDeque<Segment<'_>>,
        options: &Options<'_>,
        skipped: usize,
    ) {
        self.line(format_args!("#EXTM3U"));
        // EXT-X-MAP wants 6, EXT-X-SKIP wants 9; other tags of later versions that are used are ones that older clients
        // pass over.
        self.line(format_args!("#EXT-X-VERSION:{}", if skipped > 0 { 9 } else { 6 }));
        let vod = options.vod && catalog.ended;
        let longest = segments.iter().map(|segment| segment.rendition.target_duration_ms).max();
        let longest = longest.filter(|_| vod).unwrap_or(0);
        let target_ms = u64::from(current.target_duration_ms.max(longest));
        self.line(format_args!("#EXT-X-TARGETDURATION:{}", target_ms.div_ceil(1_000)));
        let hold_back = Seconds::of_millis(target_ms.saturating_mul(HOLD_BACK_TARGETS));
        let skip = match options.delta {
            Delta::None => String::new(),
            Delta::Offered | Delta::Asked => {
                alloc::format!(",CAN-SKIP-UNTIL={}", Seconds::of_millis(skip_boundary_ms(current)))
            }
        };
        if vod {
            self.line(format_args!("#EXT-X-PLAYLIST-TYPE:VOD"));
        } else if options.low_latency {
            // All of a stream's playlists must say the same here (§6.2.4): so the longest part target counts.
            let longest = catalog.renditions.iter().map(|rendition| rendition.part_target_ms).max();
            let part_ms = u64::from(longest.unwrap_or(current.part_target_ms));
            let part_hold_back = Seconds::of_millis(part_ms.saturating_mul(PART_HOLD_BACK_TARGETS));
            self.line(format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={part_hold_back},HOLD-BACK={hold_back}{skip}"
            ));
            let part_target = Seconds::of_millis(u64::from(current.part_target_ms));
            self.line(format_args!("#EXT-X-PART-INF:PART-TARGET={part_target}"));
        } else {
            self.line(format_args!("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK={hold_back}{skip}"));
        }
        // Counted from the newest back, which is the same as the first's own number where no hole lies between: who
        // reloads asks by the newest's.
        if let Some(last) = segments.back().map(|last| &last.outline) {
            let before = u64::try_from(segments.len()).unwrap_or(u64::MAX).saturating_sub(1);
            self.line(format_args!("#EXT-X-MEDIA-SEQUENCE:{}", last.segment.saturating_sub(before)));
            let steps: u32 = segments.iter().skip(1).map(|segment| segment.steps).sum();
            let first = last.discontinuity.saturating_sub(steps);
            self.line(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{first}"));
        }
    }

    fn segment(&mut self, before: Option<&Segment<'_>>, segment: &Segment<'_>, with_parts: bool) {
        let outline = &segment.outline;
        for _ in 0..before.map_or(0, |_| segment.steps) {
            self.line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        let described = |outline: &Outline| (outline.generation, outline.catalog);
        if before.is_none_or(|before| described(&before.outline) != described(outline)) {
            let (generation, version) = described(outline);
            let uri = Path::Init { rendition: self.name, generation, version };
            self.line(format_args!("#EXT-X-MAP:URI=\"{uri}\""));
        }
        self.line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", Date(outline.program_date_time)));
        if outline.lost {
            self.line(format_args!("#EXT-X-GAP"));
        }
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
            let uri = Path::Segment { rendition: self.name, segment: outline.segment };
            self.line(format_args!("{uri}"));
        }
    }
}
