//! Playlists over segments of which only outlines are kept: a DVR window, and a show that is over.

use millstream_playlist::{Delta, Options, Outline, check, media_with};
use millstream_wire::media::Catalog;

use crate::show::{Show, VIDEO};

/// Outlines of all segments before `from`, and a playlist with the rest's records.
fn playlist(show: &Show, from: u64, options: &Options<'_>, lost: &[u64]) -> Option<String> {
    let mut outlines: Vec<Outline> = Vec::new();
    for record in show.records.iter().filter(|record| record.segment < from) {
        if record.first {
            outlines.push(Outline::of(record));
            outlines.last_mut().unwrap().lost = lost.contains(&record.segment);
        } else {
            assert!(outlines.last_mut().unwrap().push(record));
        }
    }
    let catalogs: Vec<&Catalog> = show.catalogs.iter().collect();
    let records = show.records.iter().filter(|record| record.segment >= from);
    media_with(&catalogs, VIDEO, &outlines, records, options)
}

fn clean(text: Option<String>) -> (String, check::Playlist) {
    let text = text.unwrap();
    let violations = check::media(&text);
    assert!(violations.is_empty(), "{}\n{text}", violations[0]);
    let read = check::Playlist::parse(&text);
    (text, read)
}

fn hour() -> Options<'static> {
    Options { listed_ms: 3_600_000, bridged: true, ..Options::default() }
}

#[test]
fn a_segment_is_listed_alike_from_its_outline_and_from_its_records() {
    let mut show = Show::of_video();
    show.segments(20).comeback(2, 5_000, |_| {}).segments(40).part();
    let whole = show.playlist_with(&hour()).unwrap();
    for from in [0, 1, 7, 20, 21, 52] {
        assert_eq!(playlist(&show, from, &hour(), &[]).unwrap(), whole, "from {from}");
    }
    assert_eq!(clean(Some(whole)).1.segments.len(), 61);
}

#[test]
fn every_load_of_a_dvr_window_keeps_the_rules() {
    let mut show = Show::of_video();
    let options = Options { listed_ms: 120_000, ..hour() };
    let mut before: Option<String> = None;
    for round in 0_u64..120 {
        show.segments(1);
        let (text, read) = clean(playlist(&show, round.saturating_sub(30), &options, &[]));
        if let Some(before) = &before {
            assert_eq!(check::succession(before, &text), [], "round {round}\n{before}\n{text}");
        }
        assert!(read.whole_micros() < 122_100_000);
        before = Some(text);
    }
}

#[test]
fn lost_media_is_said_to_be_a_gap() {
    let mut show = Show::of_video();
    show.segments(60).part();
    let (text, read) = clean(playlist(&show, 40, &hour(), &[3, 4]));
    let gaps: Vec<u64> = read.segments.iter().filter(|s| s.gap).map(|s| s.sequence).collect();
    assert_eq!(gaps, [3, 4], "{text}");
}

#[test]
fn over_a_hole_the_newest_keeps_its_number() {
    let mut show = Show::of_video();
    show.segments(3);
    // As after a kill: numbers that may have been used are left out.
    show.comeback(64, 1_200_000, |catalog| catalog.generation += 1);
    show.next().number += 4_000;
    show.next().segment += 500;
    show.segments(3).part();
    for from in [0, 2, 503, 505] {
        let (text, read) = clean(playlist(&show, from, &hour(), &[]));
        let last = read.segments.last().unwrap();
        assert_eq!((last.sequence, last.discontinuity), (506, 64), "{text}");
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
        assert_eq!(read.segments.len(), 7);
        assert_eq!(read.segments[0].uri.as_deref(), Some("video/s0.m4s"));
    }
    let anew = clean(show.playlist_with(&Options::default())).1;
    assert_eq!((anew.media_sequence, anew.segments.len()), (503, 4), "without bridges it begins anew");
}

#[test]
fn a_show_that_is_over_is_listed_whole_and_said_to_be_so() {
    let mut show = Show::of_video();
    show.segments(100);
    let options = Options { low_latency: false, listed_ms: u64::MAX, vod: true, ..hour() };
    let (live, _) = clean(playlist(&show, 100, &options, &[]));
    assert!(!live.contains("VOD"), "it is not over yet\n{live}");
    show.end();
    let (text, read) = clean(playlist(&show, 100, &options, &[]));
    assert!(read.ended && read.playlist_type && text.contains("\n#EXT-X-PLAYLIST-TYPE:VOD\n"), "{text}");
    assert_eq!((read.segments.len(), read.whole_micros()), (100, 200_200_000));
    assert!(!text.contains("EXT-X-PART") && !text.contains("SERVER-CONTROL"), "{text}");
}

#[test]
fn an_update_with_what_it_leaves_out_is_the_whole_playlist() {
    let mut show = Show::of_video();
    let offered = Options { listed_ms: 120_000, delta: Delta::Offered, ..hour() };
    let asked = Options { delta: Delta::Asked, ..offered };
    show.segments(5);
    let (text, short) = clean(playlist(&show, 0, &asked, &[]));
    assert_eq!(Some(text), playlist(&show, 0, &offered, &[]), "there is nothing to leave out");
    assert_eq!(short.server_control.get("CAN-SKIP-UNTIL").map(String::as_str), Some("24.0"));

    show.segments(50).comeback(2, 5_000, |_| {}).segments(3);
    let (_, before) = clean(playlist(&show, 20, &offered, &[]));
    for round in 0..30 {
        show.part();
        if round % 8 == 0 {
            show.segments(1);
        }
        let (whole, expected) = clean(playlist(&show, 20, &offered, &[]));
        let (update, read) = clean(playlist(&show, 20, &asked, &[]));
        assert!(update.len() * 3 < whole.len() * 2, "{update}");
        assert!(read.skipped > 40 && update.contains("#EXT-X-VERSION:9"), "{update}");
        let listed: u64 = read.segments.iter().map(check::Segment::micros).sum();
        assert!((24_000_000..=28_000_000).contains(&listed), "{listed} in {update}");
        let completed = read.completed(&before);
        assert_eq!((&completed.segments, &completed.hint), (&expected.segments, &expected.hint), "{update}");
    }
}
