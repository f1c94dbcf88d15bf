//! The rules over media playlists.

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use super::{Findings, Rule, Violation, parse::Playlist, parse::Segment};
use crate::reload::Reload;

/// Microseconds by which sums of rounded durations may differ: half of one for each part of a long segment.
const ROUNDING: u64 = 64;

/// Milliseconds by which a date may differ from the one before and the duration between: dates have whole
/// milliseconds.
const DATE_ROUNDING_MS: u64 = 2;

/// Looks at one media playlist.
#[must_use]
pub fn media(text: &str) -> Vec<Violation> {
    let mut findings = Findings::default();
    let playlist = Playlist::read(text, &mut findings);
    header(&playlist, &mut findings);
    segments(&playlist, &mut findings);
    parts(&playlist, &mut findings);
    dates(&playlist, &mut findings);
    live(text, &playlist, &mut findings);
    findings.0
}

fn header(playlist: &Playlist, findings: &mut Findings) {
    let version = playlist.version;
    let wanted = if playlist.skipped > 0 { 9 } else { 6 };
    findings.unless(version == Some(wanted), Rule::Version, || format!("{version:?}"));
    findings.unless(playlist.target_duration.is_some(), Rule::TargetDuration, || String::from("none"));
    let target = playlist.target_duration.unwrap_or(0) * 1_000_000;
    let control = |name: &str| playlist.server_control.get(name).and_then(|text| super::parse::micros(text));
    if playlist.server_control.contains_key("HOLD-BACK") {
        let hold_back = control("HOLD-BACK");
        findings.unless(hold_back >= Some(3 * target), Rule::HoldBack, || format!("{hold_back:?} µs"));
    }
    let boundary = control("CAN-SKIP-UNTIL");
    let far = boundary.is_none_or(|boundary| boundary >= 6 * target);
    findings.unless(far, Rule::Skip, || format!("{boundary:?} µs for a target of {target} µs"));
    if playlist.skipped > 0 {
        let listed: u64 = playlist.segments.iter().map(Segment::micros).sum();
        findings.unless(boundary.is_some_and(|boundary| listed >= boundary), Rule::Skip, || {
            format!("{listed} µs are listed, {boundary:?} µs must be")
        });
    }
    if let Some(part_target) = playlist.part_target {
        let hold_back = control("PART-HOLD-BACK");
        let kept = hold_back >= Some(3 * part_target);
        findings.unless(kept, Rule::PartHoldBack, || format!("{hold_back:?} µs for {part_target} µs"));
    }
}

fn segments(playlist: &Playlist, findings: &mut Findings) {
    let target = playlist.target_duration.unwrap_or(0);
    for segment in &playlist.segments {
        let rounded = (segment.micros() + 500_000) / 1_000_000;
        findings.unless(rounded <= target, Rule::TargetDuration, || {
            format!("segment {} lasts {} µs", segment.sequence, segment.micros())
        });
        if playlist.independent_segments && segment.parts.first().is_some_and(|part| !part.independent) {
            findings.add(Rule::IndependentSegments, format!("segment {}", segment.sequence));
        }
    }
}

fn parts(playlist: &Playlist, findings: &mut Findings) {
    let any = playlist.segments.iter().any(|segment| !segment.parts.is_empty());
    let Some(target) = playlist.part_target else {
        return findings.unless(!any, Rule::PartTarget, || String::from("none"));
    };
    for segment in &playlist.segments {
        let sum: u64 = segment.parts.iter().map(|part| part.duration).sum();
        let alike = sum.abs_diff(segment.duration) <= ROUNDING;
        if segment.uri.is_some() && !segment.parts.is_empty() {
            findings.unless(alike, Rule::ParentIsItsParts, || {
                format!("segment {} lasts {} µs, its parts {sum} µs", segment.sequence, segment.duration)
            });
        }
        for (index, part) in segment.parts.iter().enumerate() {
            let place = || format!("part {index} of segment {} lasts {} µs", segment.sequence, part.duration);
            findings.unless(part.duration <= target, Rule::PartMaximum, place);
            // The last part of an open segment may turn out to be its last: that is allowed for, too.
            let last = index + 1 == segment.parts.len();
            let long_enough = part.duration * 100 >= target * 85;
            findings.unless(long_enough || last || part.independent, Rule::PartMinimum, place);
        }
    }
    let mut distance: u64 = 0;
    for segment in playlist.segments.iter().rev() {
        distance += segment.micros();
        let limit = playlist.target_duration.unwrap_or(0) * 3_000_000;
        let young = segment.parts.is_empty() || segment.uri.is_none() || distance <= limit;
        findings.unless(young, Rule::OldParts, || format!("of segment {}", segment.sequence));
    }
}

fn dates(playlist: &Playlist, findings: &mut Findings) {
    let any = playlist.segments.iter().any(|segment| segment.date.is_some());
    let mut expected: Option<u64> = None;
    for segment in &playlist.segments {
        if any && segment.after_discontinuity {
            let place = || format!("segment {}", segment.sequence);
            findings.unless(segment.date.is_some(), Rule::DateAtDiscontinuity, place);
        }
        let start = segment.date.map(|date| date * 1_000);
        if let (Some(start), Some(expected), false) = (start, expected, segment.after_discontinuity) {
            let kept = start.abs_diff(expected) <= DATE_ROUNDING_MS * 1_000;
            findings.unless(kept, Rule::DatesFollow, || {
                format!("segment {} begins at {start} µs, expected {expected}", segment.sequence)
            });
        }
        // Each is compared with the one before, so that roundings do not add up.
        expected = start.or(expected).map(|start| start + segment.micros());
    }
}

fn live(text: &str, playlist: &Playlist, findings: &mut Findings) {
    findings.unless(!playlist.playlist_type || playlist.ended, Rule::NoPlaylistType, || {
        String::from("it has one")
    });
    let goes_on = !playlist.ended && playlist.part_target.is_some();
    findings.unless(playlist.hint.is_some() == goes_on, Rule::Hint, || format!("{:?}", playlist.hint));
    if let Some(hint) = &playlist.hint {
        let listed =
            playlist.segments.iter().flat_map(|segment| &segment.parts).any(|part| part.uri == *hint);
        findings.unless(!listed, Rule::HintOnce, || hint.clone());
    }
    for (uri, segment, part) in &playlist.reports {
        let relative = !uri.is_empty() && !uri.contains("://") && !uri.starts_with('/');
        let complete = segment.is_some() && part.is_some();
        findings.unless(relative && complete, Rule::RenditionReport, || {
            text.lines().find(|line| line.contains("RENDITION-REPORT")).unwrap_or_default().to_string()
        });
    }
}

/// Looks at two loads of the same media playlist, the earlier one first.
#[must_use]
pub fn succession(before: &str, after: &str) -> Vec<Violation> {
    let mut findings = Findings::default();
    let (one, two) = (Playlist::parse(before), Playlist::parse(after));
    findings.unless(one.target_duration == two.target_duration, Rule::TargetStays, || {
        format!("{:?}, then {:?}", one.target_duration, two.target_duration)
    });
    findings.unless(!one.ended || before == after, Rule::EndStays, || String::from("it changed"));
    let forward =
        two.media_sequence >= one.media_sequence && two.head() >= one.head().map(|(s, _)| (s, None));
    findings.unless(forward, Rule::SequenceRises, || {
        format!("{} to {:?}, then {} to {:?}", one.media_sequence, one.head(), two.media_sequence, two.head())
    });
    let rises = two.discontinuity_sequence >= one.discontinuity_sequence;
    findings.unless(rises, Rule::DiscontinuityStays, || {
        format!("{}, then {}", one.discontinuity_sequence, two.discontinuity_sequence)
    });
    for old in &one.segments {
        if let Some(new) = two.segments.iter().find(|new| new.sequence == old.sequence) {
            segment_stays(old, new, &mut findings);
        }
    }
    let removed = two.media_sequence > one.media_sequence;
    let limit = two.target_duration.unwrap_or(0) * 3_000_000;
    // When nothing of the earlier playlist is left, the stream made a new beginning.
    let goes_on = one.head().is_some_and(|(last, _)| last >= two.media_sequence);
    let long_enough = !removed || !goes_on || two.ended || two.whole_micros() >= limit;
    findings.unless(long_enough, Rule::LongEnough, || format!("{} µs", two.whole_micros()));
    hint_comes_true(&one, &two, &mut findings);
    findings.0
}

fn segment_stays(old: &Segment, new: &Segment, findings: &mut Findings) {
    let number = new.sequence;
    findings.unless(old.discontinuity == new.discontinuity, Rule::DiscontinuityStays, || {
        format!("segment {number}: {}, then {}", old.discontinuity, new.discontinuity)
    });
    let whole = old.uri.is_none() || (&old.uri, old.duration) == (&new.uri, new.duration);
    let applied = (&old.map, old.date) == (&new.map, new.date);
    // Parts may be taken off the list, all at once; else they only become more.
    let parts = new.parts.starts_with(&old.parts) || (new.parts.is_empty() && new.uri.is_some());
    findings.unless(whole && applied && parts, Rule::SegmentsStay, || format!("{old:?}, then {new:?}"));
}

fn hint_comes_true(one: &Playlist, two: &Playlist, findings: &mut Findings) {
    let (Some(hint), Some(last)) = (&one.hint, one.segments.last()) else { return };
    let after = |segment: &Segment| {
        let from = if segment.sequence == last.sequence { last.parts.len() } else { 0 };
        segment.parts.get(from).map(|part| part.uri.clone())
    };
    let next = two.segments.iter().filter(|segment| segment.sequence >= last.sequence).find_map(after);
    // Later loads may have dropped it from the list already, or have begun anew.
    let near =
        two.segments.iter().any(|segment| segment.sequence == last.sequence && !segment.parts.is_empty());
    if let (Some(next), true) = (next, near) {
        findings.unless(next == *hint, Rule::HintComesTrue, || format!("{hint} was hinted, {next} came"));
    }
}

/// Looks at what a blocking reload brought.
#[must_use]
pub fn answer(text: &str, asked: Reload) -> Vec<Violation> {
    let mut findings = Findings::default();
    let playlist = Playlist::parse(text);
    let there = playlist.segments.iter().any(|segment| {
        let part_there = asked.part.is_some_and(|part| part < segment.parts.len() as u64);
        let whole = segment.uri.is_some();
        let this = segment.sequence == asked.segment && (part_there || (whole && asked.part.is_none()));
        this || (segment.sequence > asked.segment && (whole || asked.part.is_some()))
    });
    findings.unless(there || playlist.ended, Rule::Blocked, || {
        format!("{asked:?}, and it ends at {:?}", playlist.head())
    });
    findings.0
}

/// Looks at all media playlists of a stream, loaded at about the same time.
#[must_use]
pub fn together(playlists: &[&str]) -> Vec<Violation> {
    let mut findings = Findings::default();
    let read: Vec<Playlist> = playlists.iter().map(|text| Playlist::parse(text)).collect();
    for pair in read.windows(2) {
        let [one, two] = pair else { continue };
        let targets = (one.target_duration, two.target_duration);
        findings.unless(targets.0 == targets.1, Rule::SameTarget, || format!("{targets:?}"));
        findings.unless(one.server_control == two.server_control, Rule::SameControl, || {
            format!("{:?} and {:?}", one.server_control, two.server_control)
        });
        let dated = |playlist: &Playlist| playlist.segments.iter().any(|segment| segment.date.is_some());
        findings.unless(dated(one) == dated(two), Rule::DatesInAll, || String::from("not all"));
        for segment in &one.segments {
            same_discontinuity(segment, two, &mut findings);
        }
    }
    findings.0
}

/// Compares what is played in the middle of `segment`.
fn same_discontinuity(segment: &Segment, other: &Playlist, findings: &mut Findings) {
    let Some(date) = segment.date else { return };
    let middle = date * 1_000 + segment.micros() / 2;
    let matching = other.segments.iter().find(|other| {
        let begins = other.date.map(|date| date * 1_000);
        begins.is_some_and(|begins| (begins..begins + other.micros()).contains(&middle))
    });
    if let Some(matching) = matching {
        findings.unless(matching.discontinuity == segment.discontinuity, Rule::SameDiscontinuity, || {
            format!("{} and {} at {middle} µs", segment.discontinuity, matching.discontinuity)
        });
    }
}
