//! The checker finds each thing it is there to find: for every rule a playlist that breaks it.

use std::collections::BTreeSet;

use crate::show::{Show, audio, catalog, video};
use millstream_playlist::{
    check::{self, Rule, Violation},
    multivariant,
    reload::Reload,
};

/// Four segments, a discontinuity, a segment, three parts.
fn sound() -> String {
    let mut show = Show::of_video();
    show.segments(4).comeback(1, 1_000, |_| {}).segments(1).part().part().part();
    show.playlist()
}

fn rules(violations: &[Violation]) -> BTreeSet<Rule> {
    violations.iter().map(|violation| violation.rule).collect()
}

/// Breaks a sound playlist by replacing a text once; the checker must find `expected` (and may find what follows
/// from it).
#[track_caller]
fn broken(text: &str, from: &str, to: &str, expected: &[Rule]) -> Vec<Rule> {
    assert!(text.contains(from), "{from} is not in\n{text}");
    let text = text.replacen(from, to, 1);
    let found = rules(&check::media(&text));
    assert!(expected.iter().all(|rule| found.contains(rule)), "{from} -> {to}: {found:?}\n{text}");
    expected.to_vec()
}

#[test]
fn every_rule_is_seen_when_it_is_broken() {
    let mut seen = BTreeSet::new();
    seen.extend(one_media_playlist());
    seen.extend(two_loads());
    seen.extend(several());
    seen.extend(one_multivariant_playlist());
    let unseen: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !seen.contains(*rule)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

fn one_media_playlist() -> Vec<Rule> {
    let text = sound();
    assert_eq!(check::media(&text), [], "{text}");
    let date = "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T08:17:00.000Z\n";
    let control = "PART-HOLD-BACK=0.801,HOLD-BACK=12.0";
    [
        broken(&text, "#EXTM3U\n", "#EXT-M3U\n", &[Rule::Header]),
        broken(&text, "VERSION:6", "VERSION:9", &[Rule::Version]),
        broken(&text, "#EXTINF", "#EXT-X-SURPRISE\n#EXTINF", &[Rule::Lines]),
        broken(&text, "TARGET=0.267", "TARGET=0.267,PART-TARGET=0.3", &[Rule::Lines, Rule::PartTarget]),
        broken(&text, "#EXTINF", "#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXTINF", &[Rule::NotBothKinds]),
        broken(&text, "#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n", &[Rule::Once]),
        broken(&text, "#EXT-X-TARGETDURATION:4\n", "", &[Rule::TargetDuration, Rule::OldParts]),
        broken(&text, "TARGETDURATION:4", "TARGETDURATION:1", &[Rule::TargetDuration, Rule::OldParts]),
        broken(&text, date, &format!("{date}#EXT-X-MEDIA-SEQUENCE:0\n"), &[Rule::MediaSequence, Rule::Once]),
        broken(
            &text,
            date,
            &format!("{date}#EXT-X-DISCONTINUITY-SEQUENCE:0\n"),
            &[Rule::DiscontinuitySequence, Rule::Once],
        ),
        broken(&text, "#EXT-X-PART-INF:PART-TARGET=0.267\n", "", &[Rule::PartTarget, Rule::Hint]),
        broken(&text, "D-BACK=12.0", "D-BACK=11.9", &[Rule::HoldBack]),
        broken(&text, "D-BACK=12.0", "D-BACK=12.0,CAN-SKIP-UNTIL=23.9", &[Rule::Skip]),
        broken(&text, date, &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n{date}"), &[Rule::Skip, Rule::Version]),
        broken(&text, control, "HOLD-BACK=12.0", &[Rule::PartHoldBack]),
        broken(&text, control, "PART-HOLD-BACK=0.8,HOLD-BACK=12.0", &[Rule::PartHoldBack]),
        broken(&text, "#EXTINF:2.002,\n", "", &[Rule::Duration, Rule::ParentIsItsParts, Rule::DatesFollow]),
        broken(&text, "#EXTINF:2.002,\n", "#EXTINF:2,\n", &[Rule::Duration, Rule::ParentIsItsParts]),
        broken(&text, "#EXTINF:2.002,\n", "#EXTINF:2.001,\n", &[Rule::ParentIsItsParts]),
        broken(&text, "#EXT-X-MAP:URI=\"video/init-1-1.mp4\"\n", "", &[Rule::Map]),
        broken(&text, "08:17:00.000Z", "08:17:00Z", &[Rule::Date]),
        broken(&text, "08:17:00.000Z", "08:17:00.000+00:00", &[Rule::Date]),
        broken(&text, "2026-11-22T08:17:00", "2026-11-31T08:17:00", &[Rule::Date]),
        broken(&text, "08:17:00.000Z", "08:17:00.500Z", &[Rule::DatesFollow]),
        broken(&text, "#EXTINF", &format!("{date}#EXTINF"), &[Rule::TagsBeforeParts]),
        broken(&text, "TARGET=0.267", "TARGET=0.2669", &[Rule::PartMaximum]),
        broken(
            &text,
            "DURATION=0.266933,URI=\"video/p1.",
            "DURATION=0.2,URI=\"video/p1.",
            &[Rule::PartMinimum, Rule::ParentIsItsParts],
        ),
        broken(&text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/p43.m4s\"\n", "", &[Rule::Hint]),
        broken(&text, "TYPE=PART", "TYPE=MAP", &[Rule::Hint]),
        broken(&text, "#EXTM3U\n", "#EXTM3U\n#EXT-X-ENDLIST\n", &[Rule::Hint]),
        broken(&text, "HINT:TYPE=PART,URI=\"video/p43", "HINT:TYPE=PART,URI=\"video/p42", &[Rule::HintOnce]),
        broken(
            &text,
            "#EXT-X-PRELOAD-HINT",
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"a\"\n#EXT-X-PRELOAD-HINT",
            &[Rule::HintOnce],
        ),
        broken(
            &text,
            "#EXT-X-PRELOAD",
            "#EXT-X-RENDITION-REPORT:URI=\"/audio.m3u8\",LAST-MSN=1,LAST-PART=1\n#EXT-X-PRELOAD",
            &[Rule::RenditionReport],
        ),
        broken(
            &text,
            "#EXT-X-PRELOAD",
            "#EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=1\n#EXT-X-PRELOAD",
            &[Rule::RenditionReport],
        ),
        broken(&text, "#EXTM3U\n", "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n", &[Rule::NoPlaylistType]),
        discontinuity_without_date(&text),
        dependent_segments(),
        old_parts(),
    ]
    .concat()
}

fn discontinuity_without_date(text: &str) -> Vec<Rule> {
    let (head, tail) = text.split_once("#EXT-X-DISCONTINUITY\n").unwrap();
    let start = tail.find("#EXT-X-PROGRAM").unwrap();
    let end = start + tail[start..].find('\n').unwrap() + 1;
    let text = format!("{head}#EXT-X-DISCONTINUITY\n{}{}", &tail[..start], &tail[end..]);
    // The segment after it seems to follow the one before the discontinuity by a second too much.
    let found = rules(&check::media(&text));
    assert_eq!(found, [Rule::DateAtDiscontinuity, Rule::DatesFollow].into());
    vec![Rule::DateAtDiscontinuity]
}

fn dependent_segments() -> Vec<Rule> {
    let mut show = Show::of_video();
    show.segments(1);
    show.next().independent = false;
    show.segments(1);
    let text = show.playlist();
    assert_eq!(check::media(&text), []);
    broken(&text, "#EXTM3U\n", "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n", &[Rule::IndependentSegments])
}

fn old_parts() -> Vec<Rule> {
    let mut show = Show::of_video();
    show.segments(8);
    let text = show.playlist();
    assert_eq!(check::media(&text), []);
    let part = "#EXT-X-PART:DURATION=2.002,URI=\"x\",INDEPENDENT=YES\n#EXTINF";
    broken(
        &text.replace("0.267", "2.1").replace("0.801", "6.3"),
        "#EXTINF",
        part,
        &[Rule::OldParts, Rule::PartMinimum],
    );
    vec![Rule::OldParts]
}

fn two_loads() -> Vec<Rule> {
    let before = sound();
    let found = |before: &str, after: &str| rules(&check::succession(before, after));
    assert_eq!(found(&before, &before), [].into());
    let change = |from: &str, to: &str| {
        assert!(before.contains(from), "{from}\n{before}");
        before.replacen(from, to, 1)
    };
    let cases = [
        (change("TARGETDURATION:4", "TARGETDURATION:5"), Rule::TargetStays),
        (change("video/s3.m4s", "video/other.m4s"), Rule::SegmentsStay),
        (change("#EXTINF:2.002", "#EXTINF:2.003"), Rule::SegmentsStay),
        (change("init-1-2", "init-1-3"), Rule::SegmentsStay),
        (change("08:17:00.000Z", "08:17:00.001Z"), Rule::SegmentsStay),
        (change("\"video/p41.m4s\"", "\"video/p99.m4s\""), Rule::SegmentsStay),
        (change("#EXT-X-DISCONTINUITY\n", ""), Rule::DiscontinuityStays),
    ];
    let mut seen = Vec::new();
    for (after, rule) in cases {
        assert!(found(&before, &after).contains(&rule), "{rule:?}\n{after}");
        seen.push(rule);
    }
    let mut show = Show::of_video();
    show.segments(20);
    let late = show.playlist();
    assert!(found(&late, &sound()).contains(&Rule::SequenceRises));
    let mut one = Show::of_video();
    one.segments(2).comeback(1, 0, |_| {}).segments(20);
    let later = one.playlist();
    assert!(
        found(&later, &later.replace("DISCONTINUITY-SEQUENCE:1", "DISCONTINUITY-SEQUENCE:0"))
            .contains(&Rule::DiscontinuityStays)
    );
    let ended = format!("{before}#EXT-X-ENDLIST\n");
    assert_eq!(found(&ended, &before), [Rule::EndStays].into());
    // Three segments taken away from five.
    let cut = check_cut(&before);
    assert_eq!(found(&before, &cut), [Rule::LongEnough].into(), "{cut}");
    let mut show = Show::of_video();
    show.segments(1);
    let before = show.playlist();
    show.part();
    let after = show.playlist().replace("video/p8.m4s", "video/s1p0.m4s");
    assert_eq!(found(&before, &after), [Rule::HintComesTrue].into());
    seen.extend([Rule::SequenceRises, Rule::EndStays, Rule::LongEnough, Rule::HintComesTrue]);
    seen
}

fn check_cut(text: &str) -> String {
    let (head, rest) = text.split_once("#EXT-X-MAP").unwrap();
    let (_, tail) = rest.split_once("video/s2.m4s\n").unwrap();
    let head = head.replace("MEDIA-SEQUENCE:0", "MEDIA-SEQUENCE:3");
    format!("{head}#EXT-X-MAP:URI=\"video/init-1-1.mp4\"\n{tail}")
}

fn several() -> Vec<Rule> {
    let text = sound();
    let ask = |segment, part| check::answer(&text, Reload { segment, part });
    for (segment, part) in [(5, Some(2)), (4, Some(99)), (4, None), (0, None)] {
        assert_eq!(ask(segment, part), [], "{segment} {part:?}");
    }
    for (segment, part) in [(5, Some(3)), (5, None), (6, Some(0))] {
        assert_eq!(rules(&ask(segment, part)), [Rule::Blocked].into(), "{segment} {part:?}");
    }
    let mut show = Show::of_audio();
    show.segments(4).comeback(1, 1_000, |_| {}).segments(2);
    let audio = show.playlist();
    assert_eq!(check::together(&[&text, &audio]), []);
    let found = |audio: String| rules(&check::together(&[&text, &audio]));
    assert_eq!(found(audio.replace("TARGETDURATION:4", "TARGETDURATION:3")), [Rule::SameTarget].into());
    assert_eq!(found(audio.replace("=12.0", "=13.0")), [Rule::SameControl].into());
    assert_eq!(found(audio.replace("#EXT-X-DISCONTINUITY\n", "")), [Rule::SameDiscontinuity].into());
    let undated: String =
        audio.lines().filter(|line| !line.contains("DATE")).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(found(undated), [Rule::DatesInAll].into());
    vec![Rule::Blocked, Rule::SameTarget, Rule::SameControl, Rule::SameDiscontinuity, Rule::DatesInAll]
}

fn one_multivariant_playlist() -> Vec<Rule> {
    let mut french = audio();
    french.id.0 = 2;
    french.name = "french".into();
    french.group = "french".into();
    let text = multivariant(&catalog(1, vec![video(), audio(), french]));
    assert_eq!(check::multivariant(&text), []);
    let cases = [
        ("#EXTM3U", "#EXTM3", Rule::Header),
        ("VERSION:6", "VERSION:7", Rule::Version),
        ("#EXT-X-VERSION", "#EXT-X-TARGETDURATION:4\n#EXT-X-VERSION", Rule::NotBothKinds),
        ("DEFAULT=YES", "DEFAULT=NO", Rule::GroupMember),
        ("NAME=\"french\"", "NAME=\"audio\"", Rule::GroupMember),
        ("GROUP-ID=\"audio\"", "GROUP-ID=\"other\"", Rule::GroupsAlike),
        ("BANDWIDTH=", "AVERAGE=", Rule::Variant),
        ("CODECS=", "CODEC=", Rule::Variant),
        ("\nvideo.m3u8", "\n", Rule::Variant),
        ("RESOLUTION=", "SIZE=", Rule::Resolution),
        ("29.970", "29.97", Rule::Resolution),
        ("AUDIO=\"audio\"", "AUDIO=\"none\"", Rule::GroupExists),
        ("BANDWIDTH=", "=", Rule::Lines),
    ];
    for (from, to, rule) in cases {
        assert!(text.contains(from), "{from}\n{text}");
        let found = rules(&check::multivariant(&text.replacen(from, to, 1)));
        assert!(found.contains(&rule), "{from} -> {to}: {found:?}");
    }
    cases.map(|(_, _, rule)| rule).to_vec()
}
