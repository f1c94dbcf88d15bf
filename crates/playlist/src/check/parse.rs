//! Reads a media playlist for the checker, remembering where what stands.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use super::{Findings, Rule};

/// A media playlist as it was read. Durations are in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Playlist {
    /// EXT-X-VERSION.
    pub version: Option<u64>,
    /// EXT-X-TARGETDURATION, in seconds.
    pub target_duration: Option<u64>,
    /// PART-TARGET.
    pub part_target: Option<u64>,
    /// EXT-X-SERVER-CONTROL's attributes.
    pub server_control: BTreeMap<String, String>,
    /// EXT-X-MEDIA-SEQUENCE.
    pub media_sequence: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// EXT-X-SKIP: segments before those that are listed.
    pub skipped: u64,
    /// The segments. The last may be [open](Segment::uri).
    pub segments: Vec<Segment>,
    /// The URI of the preload hint for a part.
    pub hint: Option<String>,
    /// EXT-X-RENDITION-REPORT: URI, LAST-MSN, LAST-PART.
    pub reports: Vec<(String, Option<u64>, Option<u64>)>,
    /// EXT-X-INDEPENDENT-SEGMENTS is there.
    pub independent_segments: bool,
    /// EXT-X-PLAYLIST-TYPE is there.
    pub playlist_type: bool,
    /// EXT-X-ENDLIST is there.
    pub ended: bool,
}

/// A segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its media sequence number.
    pub sequence: u64,
    /// Its discontinuity sequence number.
    pub discontinuity: u64,
    /// EXT-X-DISCONTINUITY stands before it.
    pub after_discontinuity: bool,
    /// Its URI; none when only parts of it are there.
    pub uri: Option<String>,
    /// EXTINF.
    pub duration: u64,
    /// The EXT-X-MAP that applies.
    pub map: Option<String>,
    /// EXT-X-PROGRAM-DATE-TIME in milliseconds since 1970.
    pub date: Option<u64>,
    /// EXT-X-GAP: its media is not there.
    pub gap: bool,
    /// Its parts, as far as they are listed.
    pub parts: Vec<Part>,
}

impl Segment {
    /// How long it lasts as far as it is there.
    #[must_use]
    pub fn micros(&self) -> u64 {
        if self.uri.is_some() { self.duration } else { self.parts.iter().map(|part| part.duration).sum() }
    }
}

/// A part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Its URI.
    pub uri: String,
    /// How long it lasts.
    pub duration: u64,
    /// INDEPENDENT=YES.
    pub independent: bool,
}

impl Playlist {
    /// Reads `text`, passing over what is wrong with it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::read(text, &mut Findings::default())
    }

    /// The newest part's segment and index, or the newest whole segment and `None` when it lists no parts.
    #[must_use]
    pub fn head(&self) -> Option<(u64, Option<u64>)> {
        let last = self.segments.last()?;
        Some((last.sequence, (last.parts.len() as u64).checked_sub(1)))
    }

    /// What an update says to a client that has `before`: with the segments that it leaves out, and what applied to
    /// them (§6.2.5.1). As it is when it is no update, or `before` is too old.
    #[must_use]
    pub fn completed(mut self, before: &Self) -> Self {
        let first = self.media_sequence + self.skipped;
        let left_out =
            before.segments.iter().filter(|old| (self.media_sequence..first).contains(&old.sequence));
        let mut segments: Vec<Segment> = left_out.cloned().collect();
        if self.skipped == 0 || segments.len() as u64 != self.skipped {
            return self;
        }
        let (map, steps) =
            segments.last().map(|last| (last.map.clone(), last.discontinuity)).unwrap_or_default();
        for mut segment in self.segments {
            segment.map = segment.map.or_else(|| map.clone());
            segment.discontinuity += steps - self.discontinuity_sequence;
            segments.push(segment);
        }
        (self.segments, self.skipped) = (segments, 0);
        self
    }

    /// Microseconds of all whole segments.
    #[must_use]
    pub fn whole_micros(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.uri.is_some()).map(|segment| segment.duration).sum()
    }

    pub(super) fn read(text: &str, findings: &mut Findings) -> Self {
        let mut reader = Reader {
            playlist: Self::default(),
            findings,
            seen: Vec::new(),
            open: Segment::default(),
            begun: false,
            extinf: None,
            map: None,
            discontinuity: None,
        };
        if text.lines().next() != Some("#EXTM3U") {
            reader.findings.add(Rule::Header, format!("{:?}", text.lines().next()));
        }
        for line in text.lines().skip(1) {
            reader.line(line);
        }
        reader.end()
    }
}

/// Tags that stand at most once in a media playlist.
const ONCE: [&str; 11] = [
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-PART-INF",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-ENDLIST",
    "EXT-X-SKIP",
];

struct Reader<'a> {
    playlist: Playlist,
    findings: &'a mut Findings,
    /// Names of the tags so far.
    seen: Vec<String>,
    open: Segment,
    /// A tag of the open segment was read.
    begun: bool,
    extinf: Option<String>,
    map: Option<String>,
    /// Of the last segment that began.
    discontinuity: Option<u64>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        let Some(tag) = line.strip_prefix("#EXT") else {
            if !line.is_empty() && !line.starts_with('#') {
                self.segment(line);
            }
            return;
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        let name = format!("EXT{name}");
        if ONCE.contains(&name.as_str()) && self.seen.contains(&name) {
            self.findings.add(Rule::Once, name.as_str());
        }
        match name.as_str() {
            "EXT-X-VERSION" => self.playlist.version = self.number(line, value),
            "EXT-X-TARGETDURATION" => self.playlist.target_duration = self.number(line, value),
            "EXT-X-MEDIA-SEQUENCE" => {
                let early = !self.begun && self.playlist.segments.is_empty();
                self.findings.unless(early, Rule::MediaSequence, || line.to_string());
                self.playlist.media_sequence = self.number(line, value).unwrap_or(0);
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                let early = !self.begun && self.playlist.segments.is_empty();
                self.findings.unless(early, Rule::DiscontinuitySequence, || line.to_string());
                self.playlist.discontinuity_sequence = self.number(line, value).unwrap_or(0);
            }
            "EXT-X-PART-INF" => {
                let target = self.attributes(line, value).get("PART-TARGET").and_then(|t| micros(t));
                self.findings.unless(target.is_some(), Rule::PartTarget, || line.to_string());
                self.playlist.part_target = target;
            }
            "EXT-X-SERVER-CONTROL" => self.playlist.server_control = self.attributes(line, value),
            "EXT-X-INDEPENDENT-SEGMENTS" => self.playlist.independent_segments = true,
            "EXT-X-PLAYLIST-TYPE" => self.playlist.playlist_type = true,
            "EXT-X-ENDLIST" => self.playlist.ended = true,
            "EXT-X-DISCONTINUITY" => {
                self.before_parts(line);
                self.open.after_discontinuity = true;
                let next = self.now() + 1;
                self.discontinuity = Some(next);
            }
            "EXT-X-MAP" => {
                self.before_parts(line);
                self.map = self.attributes(line, value).remove("URI");
                self.findings.unless(self.map.is_some(), Rule::Map, || line.to_string());
            }
            "EXT-X-PROGRAM-DATE-TIME" => {
                self.before_parts(line);
                self.open.date = date(value);
                self.findings.unless(self.open.date.is_some(), Rule::Date, || line.to_string());
            }
            "EXT-X-SKIP" => {
                let count = self.attributes(line, value).get("SKIPPED-SEGMENTS").and_then(|n| n.parse().ok());
                let early = !self.begun && self.playlist.segments.is_empty() && count > Some(0);
                self.findings.unless(early, Rule::Skip, || line.to_string());
                self.playlist.skipped = count.unwrap_or(0);
            }
            "EXT-X-GAP" => {
                self.before_parts(line);
                self.open.gap = true;
            }
            "EXTINF" => {
                self.begun = true;
                self.extinf = Some(value.to_string());
            }
            "EXT-X-PART" => self.part(line, value),
            "EXT-X-PRELOAD-HINT" => self.hint(line, value),
            "EXT-X-RENDITION-REPORT" => {
                let attributes = self.attributes(line, value);
                let uri = attributes.get("URI").cloned().unwrap_or_default();
                let number = |name: &str| attributes.get(name).and_then(|value| value.parse().ok());
                self.playlist.reports.push((uri, number("LAST-MSN"), number("LAST-PART")));
            }
            "EXT-X-MEDIA" | "EXT-X-STREAM-INF" => self.findings.add(Rule::NotBothKinds, line),
            _ => self.findings.add(Rule::Lines, line),
        }
        self.seen.push(name);
    }

    /// The discontinuity sequence number at this place.
    fn now(&self) -> u64 {
        self.discontinuity.unwrap_or(self.playlist.discontinuity_sequence)
    }

    fn before_parts(&mut self, line: &str) {
        self.begun = true;
        self.findings.unless(self.open.parts.is_empty(), Rule::TagsBeforeParts, || line.to_string());
    }

    fn part(&mut self, line: &str, value: &str) {
        self.begun = true;
        let attributes = self.attributes(line, value);
        let (Some(uri), Some(duration)) =
            (attributes.get("URI"), attributes.get("DURATION").and_then(|text| micros(text)))
        else {
            return self.findings.add(Rule::Lines, line);
        };
        let independent = attributes.get("INDEPENDENT").is_some_and(|value| value == "YES");
        self.open.parts.push(Part { uri: uri.clone(), duration, independent });
    }

    fn hint(&mut self, line: &str, value: &str) {
        let attributes = self.attributes(line, value);
        match (attributes.get("TYPE").map(String::as_str), attributes.get("URI").cloned()) {
            (Some("PART"), Some(uri)) => {
                let again = self.playlist.hint.replace(uri).is_some();
                self.findings.unless(!again, Rule::HintOnce, || line.to_string());
            }
            _ => self.findings.add(Rule::Hint, line),
        }
    }

    fn segment(&mut self, uri: &str) {
        match self.extinf.take() {
            Some(extinf) => {
                let (duration, _title) = extinf.split_once(',').unwrap_or((&extinf, ""));
                let sound = duration.contains('.') && extinf.contains(',');
                self.open.duration = micros(duration).unwrap_or(0);
                let kept = sound && self.open.duration > 0;
                self.findings.unless(kept, Rule::Duration, || extinf.clone());
            }
            None => self.findings.add(Rule::Duration, uri),
        }
        self.open.uri = Some(uri.to_string());
        self.close();
    }

    fn close(&mut self) {
        let mut segment = core::mem::take(&mut self.open);
        let before = self.playlist.skipped + self.playlist.segments.len() as u64;
        segment.sequence = self.playlist.media_sequence + before;
        segment.discontinuity = self.now();
        segment.map.clone_from(&self.map);
        // The one that applies may have been left out.
        let mapped = segment.map.is_some() || self.playlist.skipped > 0;
        self.findings.unless(mapped, Rule::Map, || format!("segment {} has none", segment.sequence));
        self.playlist.segments.push(segment);
        self.begun = false;
    }

    fn end(mut self) -> Playlist {
        if !self.open.parts.is_empty() {
            self.close();
        } else if self.begun {
            self.findings.add(Rule::Lines, "tags of a segment that does not follow");
        }
        self.playlist
    }

    fn number(&mut self, line: &str, value: &str) -> Option<u64> {
        let number = value.parse().ok();
        self.findings.unless(number.is_some(), Rule::Lines, || line.to_string());
        number
    }

    fn attributes(&mut self, line: &str, value: &str) -> BTreeMap<String, String> {
        attributes(value).unwrap_or_else(|| {
            self.findings.add(Rule::Lines, line);
            BTreeMap::new()
        })
    }
}

/// An attribute list (§4.2); quotes are taken off. `None` when it is malformed or has a name twice.
pub(super) fn attributes(list: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut rest = list;
    loop {
        let (name, after) = rest.split_once('=')?;
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if found.insert(name.to_string(), value.to_string()).is_some() {
            return None;
        }
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return after.is_empty().then_some(found),
        }
    }
}

/// Decimal seconds as microseconds.
pub(super) fn micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)
}

/// `YYYY-MM-DDThh:mm:ss.sssZ` in milliseconds since 1970, by counting days one year and month at a time.
fn date(text: &str) -> Option<u64> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = split::<3>(day, '-')?;
    let (clock, millis) = time.split_once('.')?;
    let [hour, minute, second] = split::<3>(clock, ':')?;
    if millis.len() != 3 || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = |month: u64| match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day < 1 || day > length(month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>()
        + (1..month).map(length).sum::<u64>()
        + day
        - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis.parse::<u64>().ok()?)
}

fn split<const N: usize>(text: &str, at: char) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split(at).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}
