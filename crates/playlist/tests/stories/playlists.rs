//! What playlists say, told as stories; each text also passes the rule checker.

use crate::show::{Show, audio, catalog, video};
use millstream_playlist::{DISCONTINUITY_STEP_MAX, Options, Report, check, multivariant, reload::Head};

fn count(text: &str, start: &str) -> usize {
    text.lines().filter(|line| line.starts_with(start)).count()
}

#[track_caller]
fn assert_clean(text: &str) {
    let violations = check::media(text);
    assert!(violations.is_empty(), "{}\n{text}", violations[0]);
}

#[test]
fn the_first_part_makes_a_playlist() {
    let mut show = Show::of_video();
    assert_eq!(show.playlist_with(&Options::default()), None);
    show.part();
    let text = show.playlist();
    assert_clean(&text);
    assert_eq!(count(&text, "#EXT-X-PART:"), 1);
    assert!(text.ends_with("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/p1.m4s\"\n"), "{text}");
    let plain = Options { low_latency: false, ..Options::default() };
    assert_eq!(show.playlist_with(&plain), None, "without low latency there is no segment yet");
}

#[test]
fn every_load_of_a_growing_stream_keeps_the_rules() {
    for mut show in [Show::of_video(), Show::of_audio()] {
        let mut before: Option<String> = None;
        for round in 0..60 {
            for part in 0..8 {
                if part == 7 {
                    show.segments(1);
                } else {
                    show.part();
                }
                let text = show.playlist();
                assert_clean(&text);
                if let Some(before) = &before {
                    let violations = check::succession(before, &text);
                    assert!(violations.is_empty(), "round {round}: {}\n{before}\n{text}", violations[0]);
                }
                before = Some(text);
            }
        }
        let text = before.unwrap();
        let playlist = check::Playlist::parse(&text);
        assert!((28_000_000..30_000_000).contains(&playlist.whole_micros()), "{text}");
        assert_eq!(playlist.media_sequence, 59 - 14, "the last is open");
        assert!(count(&text, "#EXT-X-PART:") <= 7 * 8, "parts of twelve seconds at most\n{text}");
    }
}

#[test]
fn a_hint_names_the_next_part_whether_or_not_it_begins_a_segment() {
    let mut show = Show::of_video();
    show.segments(1);
    let before = show.playlist();
    assert!(before.contains("PRELOAD-HINT:TYPE=PART,URI=\"video/p8.m4s\""), "{before}");
    show.part();
    assert_eq!(check::succession(&before, &show.playlist()), []);
}

#[test]
fn a_comeback_is_one_discontinuity_with_a_map_of_its_own() {
    let mut show = Show::of_video();
    show.segments(3).comeback(1, 5_000, |_| {}).segments(2).part();
    let text = show.playlist();
    assert_clean(&text);
    let tags: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.starts_with("#EXT-X-DISC") || line.starts_with("#EXT-X-MAP") || line.ends_with("/s3.m4s")
        })
        .collect();
    assert_eq!(
        tags,
        [
            "#EXT-X-DISCONTINUITY-SEQUENCE:0",
            "#EXT-X-MAP:URI=\"video/init-1-1.mp4\"",
            "#EXT-X-DISCONTINUITY",
            "#EXT-X-MAP:URI=\"video/init-1-2.mp4\"",
            "video/s3.m4s",
        ]
    );
}

#[test]
fn discontinuity_numbers_stay_when_the_old_segments_leave() {
    let mut show = Show::of_video();
    show.segments(2).comeback(2, 0, |_| {}).segments(10);
    let before = show.playlist();
    show.segments(10);
    let after = show.playlist();
    assert_clean(&after);
    assert!(after.contains("#EXT-X-DISCONTINUITY-SEQUENCE:2\n"), "{after}");
    assert!(after.contains("EXT-X-MAP:URI=\"video/init-1-2.mp4\""), "{after}");
    assert_eq!(check::succession(&before, &after), []);
}

#[test]
fn the_end_is_told_by_the_catalog() {
    let mut show = Show::of_video();
    show.segments(2).part().part();
    let before = show.playlist();
    show.end();
    let text = show.playlist();
    assert_clean(&text);
    assert!(text.ends_with("video/s2.m4s\n#EXT-X-ENDLIST\n"), "the last segment is whole now\n{text}");
    assert_eq!(check::succession(&before, &text), []);
}

#[test]
fn a_missing_part_ends_the_list_until_the_next_segment() {
    let mut show = Show::of_video();
    show.segments(2).part().part().part().part();
    let whole = show.playlist();
    show.records.remove(17);
    let text = show.playlist();
    assert_clean(&text);
    assert!(text.contains("video/p16.m4s") && !text.contains("video/p18.m4s"), "{text}");
    assert!(text.contains("PRELOAD-HINT:TYPE=PART,URI=\"video/p17.m4s\""), "{text}");
    assert_ne!(whole, text);
    show.segments(1).part();
    let text = show.playlist();
    assert_clean(&text);
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:3\n") && !text.contains("video/s1.m4s"), "{text}");
}

#[test]
fn a_new_generation_with_skipped_numbers_begins_the_playlist_anew() {
    let mut show = Show::of_video();
    show.segments(3).comeback(1, 0, |catalog| {
        catalog.generation = 2;
        catalog.version = 1;
    });
    show.next().number = 4_096;
    show.next().segment = 512;
    show.segments(1);
    let text = show.playlist();
    assert_clean(&text);
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:512\n"), "{text}");
    assert!(text.contains("video/init-2-1.mp4"), "{text}");
}

#[test]
fn records_that_make_no_sense_are_bounded() {
    let mut show = Show::of_video();
    show.segments(1).comeback(DISCONTINUITY_STEP_MAX + 1, 0, |_| {});
    show.next().program_date_time.0 = u64::MAX;
    show.next().number = 8;
    show.next().duration = u32::MAX;
    show.part();
    show.next().number = u64::MAX;
    show.next().segment = u64::MAX - 1;
    show.cut();
    let last = show.next().clone();
    show.records.push(last);
    let text = show.playlist();
    assert_eq!(count(&text, "#EXT-X-DISCONTINUITY\n"), 0, "{text}");
    assert!(text.len() < 2_000, "{text}");
}

#[test]
fn a_record_without_its_catalog_is_left_out() {
    let mut show = Show::of_video();
    show.segments(2).comeback(1, 0, |_| {}).segments(1);
    let old = show.catalogs.remove(0);
    let text = show.playlist();
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:2\n"), "{text}");
    show.catalogs = vec![old];
    let text = show.playlist();
    assert!(text.contains("video/p15.m4s") && !text.contains("video/p16.m4s\",IND"), "{text}");
}

#[test]
fn parts_from_before_a_new_part_target_are_not_listed() {
    let mut show = Show::of_video();
    show.segments(2).comeback(1, 0, |catalog| catalog.renditions[0].part_target_ms = 500).segments(1);
    let text = show.playlist();
    assert!(text.contains("video/p16.m4s") && !text.contains("video/p15.m4s"), "{text}");
    assert!(text.contains("video/s1.m4s"), "{text}");
}

#[test]
fn all_playlists_of_a_stream_go_together() {
    let (mut one, mut two) = (Show::of_video(), Show::of_audio());
    for show in [&mut one, &mut two] {
        show.segments(4).comeback(1, 3_000, |_| {}).segments(4).part();
    }
    assert_eq!(check::together(&[&one.playlist(), &two.playlist()]), []);
    assert!(one.playlist().contains("PART-HOLD-BACK=0.801"), "{}", one.playlist());
    assert!(two.playlist().contains("PART-HOLD-BACK=0.801"), "{}", two.playlist());
}

#[test]
fn other_renditions_are_reported() {
    let mut show = Show::of_video();
    show.segments(1);
    let reports = [Report { rendition: "audio", head: Head { segment: 1, part: 3 } }];
    let text = show.playlist_with(&Options { reports: &reports, ..Options::default() }).unwrap();
    assert_clean(&text);
    assert!(text.ends_with("#EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=1,LAST-PART=3\n"), "{text}");
}

#[test]
fn without_low_latency_only_whole_segments_are_listed() {
    let mut show = Show::of_video();
    show.segments(4).part();
    let text = show.playlist_with(&Options { low_latency: false, ..Options::default() }).unwrap();
    assert_clean(&text);
    assert_eq!(count(&text, "#EXT-X-PART"), 0);
    assert!(!text.contains("HINT"), "{text}");
    assert!(text.ends_with("video/s2.m4s\n") || text.ends_with("video/s3.m4s\n"), "{text}");
}

#[test]
fn a_ladder_comes_with_every_quality_of_every_soundtrack() {
    let mut renditions = vec![video(), audio()];
    let mut more = |id: u8, name: &str, group: &str, kbits: u64| {
        let mut rendition = if group == "video" { video() } else { audio() };
        rendition.id.0 = id;
        rendition.name = name.into();
        rendition.group = group.into();
        rendition.bandwidth.0 = kbits * 1_000;
        renditions.push(rendition);
    };
    more(2, "low", "video", 500);
    more(3, "audio-low", "audio", 64);
    more(4, "french", "french", 96);
    let text = multivariant(&catalog(1, renditions));
    assert_eq!(check::multivariant(&text), []);
    assert_eq!(count(&text, "#EXT-X-STREAM-INF"), 4);
    let media: Vec<&str> = text.lines().filter(|line| line.starts_with("#EXT-X-MEDIA")).collect();
    assert_eq!(media.len(), 4);
    assert!(media[0].contains("audio-0\"") && media[0].contains("audio-low.m3u8"), "{text}");
    assert!(media[2].contains("audio-1\"") && media[2].contains("\"audio.m3u8"), "{text}");
    assert!(text.contains("BANDWIDTH=2628000,CODECS=\"avc1.64001f,mp4a.40.2\""), "{text}");
}

#[test]
fn a_stream_of_one_kind_needs_no_groups() {
    for rendition in [video(), audio()] {
        let name = rendition.name.clone();
        let text = multivariant(&catalog(1, vec![rendition]));
        assert_eq!(check::multivariant(&text), []);
        assert_eq!(count(&text, "#EXT-X-MEDIA"), 0);
        assert!(text.ends_with(&format!("\n{name}.m3u8\n")), "{text}");
    }
}
