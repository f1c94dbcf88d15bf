//! One rendition as this viewer knows it: its records in order, its parts, and what of them a playlist may list.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use bytes::{Bytes, BytesMut};
use millstream_model::{EdgeId, Instant, Map, Set};
use millstream_wire::media::Record;

use crate::{
    limits::{GO_OVER_MS, HOLE_MS, MEDIA_WANTED_MS, RECORDS_MAX, RECORDS_SILENT_MS, WANTED_MS},
    part::Part,
    port::{FetchId, Resource},
    switch::Onward,
};

/// Milliseconds of media that a playlist lists at most: less than what an origin keeps, so that what is listed can
/// be had.
const LISTED_MS: u64 = 50_000;

/// The player comes to a rendition, and what is known of it is old, or nothing.
#[derive(Debug, Clone, Copy)]
struct Coming {
    /// The longest wait.
    until: Instant,
    /// Where the player goes on.
    onward: Onward,
    /// Not a newer record alone but a whole segment is waited for: a player that comes from another rendition takes a
    /// playlist without one for broken (hls.js: `levelEmptyError`), and goes back.
    segment: bool,
    /// The origin was asked for the newest segments: edges begin with the one that is not whole.
    asked: bool,
}

/// The state of one rendition.
#[derive(Debug)]
pub(crate) struct Rendition {
    pub(crate) name: String,
    parts: Map<u64, Part>,
    /// Parts that are needed and not whole: what the schedule looks at.
    pub(crate) open: Set<u64>,
    /// The first record that playlists list. Never goes back once a playlist was handed out.
    floor: Option<u64>,
    hole_since: Option<Instant>,
    /// What its playlist waits for, once the player comes to it.
    coming: Option<Coming>,
    wanted_until: Option<Instant>,
    /// The number of the part that the player was given last.
    pub(crate) played: Option<u64>,
    /// Until when its pieces are pushed: the player asks for media.
    media_until: Instant,
    /// The edge that pushes its pieces.
    pub(crate) primary: Option<EdgeId>,
    /// Since when it does.
    pub(crate) primary_since: Instant,
    /// How often it was replaced since a part came in time.
    pub(crate) trials: u32,
    /// Parts in a row that the primary brought late.
    pub(crate) late: u32,
    /// When anybody last brought a new record.
    pub(crate) record_at: Instant,
    /// When the primary last brought anything of this rendition.
    pub(crate) primary_at: Instant,
    /// The records request under way.
    pub(crate) records_fetch: Option<FetchId>,
}

impl Rendition {
    pub(crate) fn new(name: String, now: Instant) -> Self {
        Self {
            name,
            parts: Map::new(),
            open: Set::new(),
            floor: None,
            hole_since: None,
            coming: None,
            wanted_until: None,
            played: None,
            media_until: now,
            primary: None,
            primary_since: now,
            trials: 0,
            late: 0,
            record_at: now,
            primary_at: now,
            records_fetch: None,
        }
    }

    /// The player showed interest; `over`: it plays another rendition of the group until now, and will go on there.
    pub(crate) fn touch(&mut self, over: Option<Onward>, now: Instant) {
        if !self.is_wanted(now) {
            let old = self.head().is_some() && now.millis_since(self.record_at) >= RECORDS_SILENT_MS;
            if old || over.is_some() && !self.lists_a_segment() {
                // Its playlist goes on at the live end: what lies between would have to be brought first.
                let segment = over.is_some();
                let wait = Duration::from_millis(if segment { GO_OVER_MS } else { HOLE_MS });
                let onward = over.unwrap_or_default();
                self.coming = Some(Coming { until: now + wait, onward, segment, asked: false });
                (self.floor, self.hole_since) = (None, None);
            }
            self.record_at = now;
            // Whoever asks for a playlist begins to play.
            self.touch_media(now);
        }
        self.wanted_until = Some(now + Duration::from_millis(WANTED_MS));
    }

    /// The player asked for media.
    pub(crate) fn touch_media(&mut self, now: Instant) {
        self.media_until = now + Duration::from_millis(MEDIA_WANTED_MS);
    }

    /// The player plays, or fills its buffer: it does not stand with a full one.
    pub(crate) fn wants_media(&self, now: Instant) -> bool {
        self.is_wanted(now) && now < self.media_until
    }

    pub(crate) fn media_until(&self) -> Instant {
        self.media_until
    }

    /// The parts that are being brought and that the player does not wait for.
    pub(crate) fn resting(&self) -> Vec<u64> {
        let rests = |number: &u64| self.parts.get(number).is_some_and(|part| !part.wanted);
        self.open.iter().copied().filter(rests).collect()
    }

    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.wanted_until.is_some_and(|until| now < until)
    }

    /// Nothing of it is wanted any more.
    pub(crate) fn forsake(&mut self) {
        self.wanted_until = None;
        self.parts.values_mut().for_each(|part| part.wanted = false);
    }

    /// Where edges are to begin: after the newest record, or where the player will go on where that is old.
    pub(crate) fn next(&self) -> u64 {
        self.coming.map_or_else(|| self.after_head(), |coming| coming.onward.media)
    }

    /// Where records are wanted from: the same, or as far back as its playlist has to list.
    pub(crate) fn next_record(&self) -> u64 {
        self.coming.map_or_else(|| self.after_head(), |coming| coming.onward.records)
    }

    fn after_head(&self) -> u64 {
        self.head().map_or(0, |head| head + 1)
    }

    /// Where a player would begin another rendition.
    pub(crate) fn goes_on_at(&self) -> Option<Onward> {
        let played = self.played?;
        let next = self.parts.get(&(played + 1)).or_else(|| self.parts.get(&played))?;
        let media = *self.numbers(next.record.segment).first()?;
        let before =
            next.record.segment.checked_sub(1).and_then(|segment| self.numbers(segment).first().copied());
        Some(Onward { media, records: before.unwrap_or(media) })
    }

    /// A newer record, or a whole segment, is waited for before a playlist is handed out.
    pub(crate) fn is_coming(&self, now: Instant) -> bool {
        self.coming.is_some_and(|coming| now < coming.until)
    }

    /// Until when [`Rendition::is_coming`] may hold.
    pub(crate) fn coming_until(&self) -> Option<Instant> {
        self.coming.map(|coming| coming.until)
    }

    /// The origin is to be asked for the newest segments' records.
    pub(crate) fn wants_segment(&self) -> bool {
        self.coming.is_some_and(|coming| coming.segment && !coming.asked)
    }

    /// It was.
    pub(crate) fn asked_for_segment(&mut self) {
        if let Some(coming) = &mut self.coming {
            coming.asked = true;
        }
    }

    pub(crate) fn wanted_until(&self) -> Option<Instant> {
        self.wanted_until
    }

    /// The number of the newest record.
    pub(crate) fn head(&self) -> Option<u64> {
        self.parts.last_key_value().map(|(number, _)| *number)
    }

    pub(crate) fn part(&self, number: u64) -> Option<&Part> {
        self.parts.get(&number)
    }

    pub(crate) fn part_mut(&mut self, number: u64) -> Option<&mut Part> {
        self.parts.get_mut(&number)
    }

    /// A part that was expected later than this one has come: this one is lost, or was left out.
    pub(crate) fn is_overtaken(&self, number: u64, part: &Part) -> bool {
        self.parts.range(number + 1..).any(|(_, later)| later.asked_at > part.asked_at && later.was_brought())
    }

    /// Adds a believed record. Returns what fell off the far end, in bytes.
    pub(crate) fn insert(&mut self, record: Record, now: Instant) -> usize {
        let number = record.number;
        let newer = self.head().is_none_or(|head| number > head);
        self.parts.or_insert_with(number, || Part::new(record, now));
        let suffices = |coming: &Coming| if coming.segment { self.lists_a_segment() } else { newer };
        self.coming = self.coming.filter(|coming| now < coming.until && !suffices(coming));
        self.record_at = now;
        self.settle(now);
        self.trim()
    }

    /// Moves the playlist past holes that will not be filled.
    pub(crate) fn settle(&mut self, now: Instant) {
        let Some(end) = self.run_end() else { return };
        let Some((&next, part)) = self.parts.range(end + 1..).next() else {
            self.hole_since = None;
            return;
        };
        let since = *self.hole_since.get_or_insert(now);
        let restarted =
            self.parts.get(&end).is_some_and(|last| last.record.generation < part.record.generation);
        if restarted || now.millis_since(since) >= HOLE_MS {
            self.floor = self.parts.range(next..).find(|(_, part)| part.record.first).map(|(n, _)| *n);
            self.hole_since = None;
        }
    }

    /// Milliseconds without a new record before the origin is asked for some: edges bring them, where there are any.
    pub(crate) fn patience(&self, jitter_ms: u64) -> u64 {
        let brought = self.primary.is_some() || self.head().is_none();
        if brought { RECORDS_SILENT_MS + jitter_ms } else { jitter_ms / 4 }
    }

    /// The first number of a hole in the records that the playlist waits for.
    pub(crate) fn hole(&self) -> Option<u64> {
        self.hole_since?;
        self.run_end().map(|end| end + 1)
    }

    fn run_start(&self) -> Option<u64> {
        if let Some(floor) = self.floor {
            return Some(floor);
        }
        // Nothing was handed out yet: the longest run that ends at the head.
        let mut start = None;
        let mut expected = self.head()?;
        for (number, part) in self.parts.iter().rev() {
            if *number != expected {
                break;
            }
            if part.record.first {
                start = Some(*number);
            }
            expected = expected.wrapping_sub(1);
        }
        start
    }

    fn run_end(&self) -> Option<u64> {
        let mut end = self.run_start()?;
        let generation = self.parts.get(&end)?.record.generation;
        for (number, part) in self.parts.range(end..) {
            if *number > end + 1 || part.record.generation != generation {
                break;
            }
            end = *number;
        }
        Some(end)
    }

    fn lists_a_segment(&self) -> bool {
        let segment = |number: u64| self.parts.get(&number).map(|part| part.record.segment);
        let ends = self.run_start().and_then(segment).zip(self.run_end().and_then(segment));
        ends.is_some_and(|(first, last)| first < last)
    }

    /// The records that a playlist lists, oldest first.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Record> {
        let range = self.run_start().zip(self.run_end()).filter(|(start, end)| start <= end);
        range
            .map(|(start, end)| self.parts.range(start..=end))
            .into_iter()
            .flatten()
            .map(|(_, part)| &part.record)
    }

    /// A playlist was handed out: its start stays.
    pub(crate) fn pin(&mut self) {
        self.floor = self.run_start();
    }

    /// The numbers of the parts that the player waits for with this.
    pub(crate) fn parts_of(&self, resource: &Resource) -> Vec<u64> {
        match resource {
            Resource::Part { number, .. } => Vec::from([*number]),
            Resource::Segment { segment, .. } => self.numbers(*segment),
            _ => Vec::new(),
        }
    }

    /// The numbers of a segment's parts that are known.
    pub(crate) fn numbers(&self, segment: u64) -> Vec<u64> {
        let of = self.parts.iter().filter(|(_, part)| part.record.segment == segment);
        of.map(|(number, _)| *number).collect()
    }

    /// The numbers of a segment's parts when all of them are known.
    pub(crate) fn segment(&self, segment: u64, ended: bool) -> Option<Vec<u64>> {
        let numbers = self.numbers(segment);
        let (first, last) = (*numbers.first()?, *numbers.last()?);
        let runs = numbers.iter().zip(first..).all(|(number, expected)| *number == expected);
        let ends = match self.parts.range(last + 1..).next() {
            // A packager that was restarted leaves out numbers; a hole does not end a segment.
            Some((next, part)) => {
                *next == last + 1 || part.record.generation > self.parts[&last].record.generation
            }
            None => ended,
        };
        (self.parts[&first].record.first && runs && ends).then_some(numbers)
    }

    /// A segment lies behind what is known, wholly or in part, or behind a hole that will not be filled.
    pub(crate) fn is_gone(&self, segment: u64) -> bool {
        let behind = |part: &Part| part.record.segment > segment;
        let cut = |part: &Part| part.record.segment == segment && !part.record.first;
        let known = self.parts.first_key_value().is_some_and(|(_, oldest)| behind(oldest) || cut(oldest));
        known || self.floor.and_then(|floor| self.parts.get(&floor)).is_some_and(behind)
    }

    /// A part lies behind what is known, and not in a hole that may be filled.
    pub(crate) fn is_lost(&self, number: u64) -> bool {
        let behind = self.head().is_some_and(|head| number < head) && !self.parts.contains_key(&number);
        behind && self.hole().is_none_or(|hole| number < hole)
    }

    /// When [`Rendition::settle`] gives a hole up.
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.hole_since.map(|since| since + Duration::from_millis(HOLE_MS))
    }

    /// The bytes of these parts, joined, when all are whole.
    pub(crate) fn join(&self, numbers: &[u64]) -> Option<Bytes> {
        if let [only] = numbers {
            return self.part(*only)?.bytes();
        }
        let mut joined = BytesMut::new();
        for number in numbers {
            joined.extend_from_slice(&self.part(*number)?.bytes()?);
        }
        Some(joined.freeze())
    }

    /// Lets go of the oldest media held. Returns the bytes freed; 0 when none is held.
    pub(crate) fn forget_oldest(&mut self) -> usize {
        self.parts.values_mut().find(|part| part.held() > 0 && !part.wanted).map_or(0, Part::forget)
    }

    /// The program date time of the oldest media held.
    pub(crate) fn oldest_held(&self) -> Option<u64> {
        self.parts.values().find(|part| part.held() > 0).map(|part| part.record.program_date_time.0)
    }

    fn trim(&mut self) -> usize {
        let Some(newest) = self.parts.last_key_value().map(|(_, part)| part.record.program_date_time.0)
        else {
            return 0;
        };
        let mut freed = 0;
        while let Some((number, part)) = self.parts.first_key_value() {
            let old = part.record.program_date_time.0.saturating_add(LISTED_MS) < newest;
            if !old && self.parts.len() <= RECORDS_MAX {
                break;
            }
            let number = *number;
            self.open.remove(&number);
            freed += self.parts.remove(&number).map_or(0, |part| part.held());
        }
        if self.floor.is_some_and(|floor| !self.parts.contains_key(&floor)) {
            let floor = self.floor.unwrap_or(0);
            self.floor = self.parts.range(floor..).find(|(_, part)| part.record.first).map(|(n, _)| *n);
        }
        freed
    }
}
