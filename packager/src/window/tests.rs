//! What stays, what goes, and what is said of it.

use millstream_playlist::check;
use millstream_segmenter::{AUDIO, Media, VIDEO};

use super::*;
use crate::{
    show::{self, NOW, Parts, tracks},
    signer::Signer,
};

struct World {
    window: Window,
    signer: Signer,
    video: Parts,
    audio: Parts,
    now: Instant,
}

impl World {
    fn new(config: Config) -> Self {
        let mut world = Self {
            window: Window::new(config),
            signer: show::signer(),
            video: Parts::video(),
            audio: Parts::audio(),
            now: Instant(0),
        };
        let catalog = world.signer.tracks(&tracks(), NOW).unwrap();
        world.window.catalog(catalog);
        world
    }

    /// A part of each, every 250 ms.
    fn run(&mut self, parts: u32) -> &mut Self {
        for _ in 0..parts {
            for part in [self.video.next(), self.audio.next()] {
                let record = self.signer.part(&part).unwrap();
                self.window.push(record, part.data, self.now);
            }
            self.now = self.now + Duration::from_millis(250);
        }
        self
    }

    fn segments(&self, rendition: RenditionId) -> Vec<u64> {
        let mut segments: Vec<u64> = self.window.parts(rendition).map(Held::segment).collect();
        segments.dedup();
        segments
    }
}

fn config(span_ms: u64, bytes_max: usize) -> Config {
    Config { span_ms, bytes_max }
}

#[test]
fn old_segments_go_as_a_whole() {
    let mut world = World::new(config(10_000, usize::MAX));
    world.run(40);
    assert_eq!(world.segments(VIDEO), [0, 1, 2, 3, 4]);
    world.run(41);
    // The last part came at 20 s; what ended ten seconds before or later is here.
    assert_eq!(world.segments(VIDEO), [5, 6, 7, 8, 9, 10]);
    assert_eq!(world.segments(AUDIO), [5, 6, 7, 8, 9, 10]);
    assert_eq!(world.window.parts(VIDEO).next().unwrap().record.unverified().part, 0);
    let catalogs: usize = world.window.catalogs().iter().map(catalog_cost).sum();
    assert_eq!(world.window.bytes(), 2 * 41 * (1_000 + RECORD_BYTES) + catalogs);
}

#[test]
fn many_bytes_make_it_shorter_but_never_empty() {
    let mut world = World::new(config(60_000, 1_000_000));
    world.video.bytes = 100_000;
    world.run(200);
    assert!(world.window.bytes() <= 1_000_000, "{}", world.window.bytes());
    assert!(world.segments(VIDEO).len() <= 2);
    let mut world = World::new(config(60_000, 10));
    world.run(20);
    assert_eq!(world.segments(VIDEO), [2], "the newest segment stays whatever it takes");
    assert_eq!(world.segments(AUDIO), [2]);
}

#[test]
fn it_says_what_was_what_is_and_what_comes() {
    let mut world = World::new(config(10_000, usize::MAX));
    assert_eq!(world.window.segment(VIDEO, 0), Found::Unknown);
    world.run(85);
    let window = &world.window;
    let part = |number| match window.part(VIDEO, number) {
        Found::Here(held) => Found::Here(held.number()),
        Found::Gone => Found::Gone,
        Found::Next => Found::Next,
        Found::Unknown => Found::Unknown,
    };
    assert_eq!(part(0), Found::Gone);
    assert_eq!(part(39), Found::Gone);
    assert_eq!(part(40), Found::Here(40));
    assert_eq!(part(84), Found::Here(84));
    assert_eq!(part(85), Found::Next);
    assert_eq!(part(86), Found::Unknown);
    assert_eq!(part(u64::MAX), Found::Unknown);
    assert_eq!(window.segment(VIDEO, 4), Found::Gone);
    let Found::Here(parts) = window.segment(VIDEO, 5) else { panic!() };
    assert_eq!(parts.len(), 8);
    assert_eq!(parts[0], Bytes::from(vec![40; 1_000]));
    assert_eq!(window.segment(VIDEO, 10), Found::Next, "it is not whole");
    assert_eq!(window.segment(VIDEO, 11), Found::Next);
    assert_eq!(window.segment(VIDEO, 12), Found::Unknown);
    assert_eq!(window.segment(VIDEO, u64::MAX), Found::Unknown);
    assert_eq!(window.named("video"), Some(VIDEO));
    assert_eq!(window.named("index"), None);
    assert_eq!(window.init("audio", 1, 1), Some(Bytes::from_static(b"audio init")));
    assert_eq!(window.init("audio", 1, 2), None);
}

#[test]
fn after_the_end_nothing_comes_and_the_last_segment_is_whole() {
    let mut world = World::new(Config::default());
    world.run(11);
    assert_eq!(world.window.segment(VIDEO, 1), Found::Next);
    let end = world.signer.end(NOW).unwrap();
    world.window.catalog(end);
    assert!(matches!(world.window.segment(VIDEO, 1), Found::Here(parts) if parts.len() == 3));
    assert!(matches!(world.window.part(VIDEO, 11), Found::Unknown));
    assert_eq!(world.window.segment(VIDEO, 2), Found::Unknown);
    let playlist = world.window.playlist(VIDEO, true).unwrap();
    assert_eq!(check::media(&playlist), []);
    assert!(playlist.contains("#EXT-X-ENDLIST"));
}

#[test]
fn what_a_playlist_ever_listed_stays_for_as_long_again() {
    let mut world = World::new(Config::default());
    let mut listed: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut before: Option<String> = None;
    for _ in 0..600 {
        world.run(1);
        let text = world.window.playlist(VIDEO, true).unwrap();
        assert_eq!(check::media(&text), [], "{text}");
        if let Some(before) = before.replace(text.clone()) {
            assert_eq!(check::succession(&before, &text), [], "{before}\n{text}");
        }
        let playlist = check::Playlist::parse(&text);
        for segment in playlist.segments.iter().filter(|segment| segment.uri.is_some()) {
            let first = *listed.entry(segment.sequence).or_insert(world.now);
            // §6.2.2: from its first appearance, its own duration and that of the longest playlist.
            let until = first + Duration::from_millis(2_000 + 30_000);
            assert!(until.0 > 0);
        }
        for (segment, first) in &listed {
            let available = *first + Duration::from_millis(2_000 + 30_000);
            if world.now < available {
                let found = world.window.segment(VIDEO, *segment);
                assert!(matches!(found, Found::Here(_)), "segment {segment} at {:?}: {found:?}", world.now);
            }
        }
    }
}

#[test]
fn the_newest_records_come_newest_first_and_from_one_generation() {
    let mut world = World::new(Config::default());
    world.run(20);
    let newest = |world: &World| -> Vec<(u8, u64)> {
        let records = world.window.newest_records(None, 2..=2);
        records.iter().map(|r| (r.unverified().rendition.0, r.unverified().number)).collect()
    };
    let both: Vec<(u8, u64)> = (0..2).flat_map(|id| (8..20).rev().map(move |number| (id, number))).collect();
    assert_eq!(newest(&world), both);
    let catalog = world.signer.delegate(2, NOW).unwrap();
    world.window.catalog(catalog);
    assert_eq!(newest(&world), []);
    world.video.cut();
    world.audio.cut();
    world.run(1);
    assert_eq!(newest(&world), [(0, 20), (1, 20)]);
}

#[test]
fn the_newest_records_go_back_to_where_a_decoder_can_start() {
    let mut world = World::new(Config::default());
    // Eight parts a segment; a keyframe begins each fourth segment, as an encoder's that was told nothing.
    for segment in 0..7 {
        world.video.begins_with_keyframe(segment % 4 == 0);
        world.run(8);
    }
    let oldest = |segments| {
        let records = world.window.newest_records(None, segments);
        let of = |id| records.iter().map(|r| r.unverified()).filter(move |r| r.rendition == id);
        [VIDEO, AUDIO].map(|id| of(id).map(|record| record.number).min().unwrap())
    };
    assert_eq!(oldest(2..=8), [32, 40], "back to the keyframe; audio starts anywhere");
    assert_eq!(oldest(2..=2), [40, 40], "a bound is a bound");
    assert_eq!(oldest(4..=8), [0, 24], "as many as are asked for, and on to the next keyframe");
}

#[test]
fn a_publisher_that_changes_all_the_time_takes_no_more_than_its_share() {
    let mut world = World::new(config(60_000, usize::MAX));
    let mut held = 0;
    for change in 0..500_u16 {
        let mut tracks = tracks();
        let Media::Video { width, .. } = &mut tracks[0].media else { panic!() };
        *width = 320 + change % 2 * 16;
        if let Some(catalog) = world.signer.tracks(&tracks, NOW) {
            world.window.catalog(catalog);
        }
        world.video.cut();
        world.audio.cut();
        world.run(1);
        held = held.max(world.window.bytes());
        let catalogs = world.window.catalogs();
        assert!(catalogs.len() <= CATALOGS_MAX);
        let oldest = catalogs[0].unverified().version;
        for rendition in [VIDEO, AUDIO] {
            assert!(world.window.parts(rendition).all(|held| held.record.unverified().catalog >= oldest));
            assert!(world.window.newest(rendition).is_some());
        }
    }
    // Two parts of a kilobyte each for every catalog, and these: counted, and no more of them than receivers know.
    let catalogs: usize = world.window.catalogs().iter().map(catalog_cost).sum();
    let parts: usize = [VIDEO, AUDIO].iter().flat_map(|id| world.window.parts(*id)).map(Held::cost).sum();
    assert_eq!(world.window.bytes(), catalogs + parts);
    assert!(held < 64 * 1024, "{held}");
}

#[test]
fn catalogs_go_when_no_record_names_them() {
    let mut world = World::new(config(10_000, usize::MAX));
    for version in 0..100_u8 {
        let mut tracks = tracks();
        tracks[0].init = Bytes::from(vec![version]);
        let catalog = world.signer.tracks(&tracks, NOW).unwrap();
        world.window.catalog(catalog);
    }
    world.run(1);
    assert_eq!(world.window.catalogs().len(), 1);
    let catalog = world.signer.tracks(&tracks(), NOW).unwrap();
    world.window.catalog(catalog);
    assert_eq!(world.window.catalogs().len(), 2, "one is named, one is new");
    world.run(80);
    assert_eq!(world.window.catalogs().len(), 1);
}
