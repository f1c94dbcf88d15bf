//! Recordings in a folder: a show that is over, a packager that is killed, a folder that is damaged.

use std::path::{Path, PathBuf};

use millstream_playlist::check::Playlist;

use crate::world::{World, media, play};

/// Segments that must be stored before the story goes on: some 20 s of both renditions.
const SEGMENTS: u64 = 20;

/// Fetches all that a playlist lists; gives the bytes.
async fn fetch(world: &World, playlist: &Playlist) -> u64 {
    let mut bytes = 0;
    for segment in &playlist.segments {
        if segment.gap {
            continue;
        }
        assert!(!world.bytes(segment.map.as_ref().unwrap()).await.is_empty());
        bytes += world.bytes(segment.uri.as_ref().unwrap()).await.len() as u64;
    }
    bytes
}

#[track_caller]
fn near(one: f64, other: f64) {
    assert!((one - other).abs() < 0.3, "{one} and {other}");
}

fn seconds(playlist: &Playlist) -> f64 {
    std::time::Duration::from_micros(playlist.whole_micros()).as_secs_f64()
}

#[tokio::test]
async fn a_show_that_is_over_is_played_whole_at_the_same_url() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |_| {}).await;
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", SEGMENTS).await;
    encoder.kill().await.unwrap();
    let (text, video) = world.until_vod("video").await;
    assert_eq!(world.count("keep_recordings_ready_total").await, 1);
    let (_, audio) = world.playlist("audio").await;
    assert!(text.contains("#EXT-X-PLAYLIST-TYPE:VOD\n") && !text.contains("EXT-X-PART"), "{text}");
    assert!(seconds(&video) > 18.0, "{text}");

    let bytes = fetch(&world, &video).await + fetch(&world, &audio).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.problems, [""; 0]);
    assert!(verdict.ended && verdict.lost == 0 && verdict.holes == 0, "{verdict:?}");
    assert_eq!(verdict.segments, (video.segments.len() + audio.segments.len()) as u64);
    assert_eq!(verdict.bytes, bytes, "what is served is what was checked");
    near(play(&world.url("index.m3u8")).await, seconds(&video));

    let first = video.segments[0].uri.as_ref().unwrap();
    let whole = world.bytes(first).await;
    let range = world.ranged(first, "bytes=100-199").await;
    assert_eq!(range.status(), 206);
    assert_eq!(range.bytes().await.unwrap(), whole.slice(100..200));
    assert_eq!(world.get("video/s99999.m4s").await.status(), 404);
    assert_eq!(world.get("start").await.status(), 404);

    // And without its publisher, after the packager was stopped and started.
    assert_eq!(world.stop().await, [""; 0]);
    let world = World::start(folder.path(), |_| {}).await;
    assert_eq!(world.until_vod("video").await.0, text);
    assert_eq!(world.count("keep_recordings_ready_total").await, 0);
    fetch(&world, &video).await;
    // Another show at the same URL is live, and a recording of its own.
    let mut encoder = world.push(&media().await, "4");
    let live = world.until_playlist("video", |playlist| !playlist.ended).await.1;
    assert!(live.media_sequence > video.segments.last().unwrap().sequence);
    world.until_count("keep_stored_segments_total", SEGMENTS).await;
    encoder.kill().await.unwrap();
    world.until_count("events_total{kind=\"recording_ready\"}", 1).await;
    let verdicts = world.verdicts().await;
    assert_eq!(verdicts.len(), 2);
    assert!(verdicts.iter().all(|verdict| verdict.ended && verdict.problems.is_empty()), "{verdicts:?}");
}

#[tokio::test]
async fn a_packager_that_was_killed_goes_on_with_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let mut stored = 0;
    for round in 0..3 {
        let world = World::start(folder.path(), |config| config.policy.away_ms = 20_000).await;
        let mut encoder = world.push(&media().await, "4");
        world.until_count("keep_stored_segments_total", SEGMENTS).await;
        stored += world.count("keep_stored_segments_total").await;
        // SIGKILL: nothing is said, nothing is written.
        world.kill();
        encoder.kill().await.unwrap();
        assert!(round < 3);
    }
    let world = World::start(folder.path(), |_| {}).await;
    let (text, video) = world.until_vod("video").await;
    let (_, audio) = world.playlist("audio").await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.problems, [""; 0]);
    assert!(verdict.segments >= stored, "{stored} were counted: {verdict:?}");
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 2, "{text}");
    let bytes = fetch(&world, &video).await + fetch(&world, &audio).await;
    assert_eq!(verdict.bytes, bytes);
    assert_eq!(verdict.segments, (video.segments.len() + audio.segments.len()) as u64);
    near(play(&world.url("index.m3u8")).await, seconds(&video));
}

#[tokio::test]
async fn a_stop_keeps_what_was_there_and_the_recording_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |_| {}).await;
    let encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", 6).await;
    assert_eq!(world.stop().await, [""; 0], "nothing had to be cut off");
    drop(encoder);
    let world = World::start(folder.path(), |config| config.policy.away_ms = 20_000).await;
    let before = world.verdict().await;
    assert!(!before.ended && before.problems.is_empty(), "{before:?}");
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", 6).await;
    encoder.kill().await.unwrap();
    let after = world.verdict().await;
    assert!(after.segments >= before.segments + 6 && after.problems.is_empty(), "{after:?}");
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_found_and_the_rest_plays() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |_| {}).await;
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", SEGMENTS).await;
    encoder.kill().await.unwrap();
    let (_, whole) = world.until_vod("video").await;
    world.stop().await;

    let object = |index: usize| {
        let recording = only(&folder.path().join("recordings/demo"));
        recording.join(whole.segments[index].uri.as_ref().unwrap())
    };
    std::fs::remove_file(object(1)).unwrap();
    let cut = std::fs::File::options().write(true).open(object(3)).unwrap();
    cut.set_len(1_000).unwrap();
    let mut turned = std::fs::read(object(5)).unwrap();
    turned[5_000] ^= 1;
    std::fs::write(object(5), turned).unwrap();

    let world = World::start(folder.path(), |_| {}).await;
    let (text, video) = world.until_vod("video").await;
    let gaps: Vec<usize> = (0..video.segments.len()).filter(|index| video.segments[*index].gap).collect();
    assert_eq!(gaps, [1, 3], "{text}");
    assert_eq!(world.count("keep_lost_segments_total").await, 2);
    fetch(&world, &video).await;
    assert_eq!(world.get(whole.segments[1].uri.as_ref().unwrap()).await.status(), 410);
    let verdict = world.verdict().await;
    assert_eq!(verdict.problems.len(), 3, "a bit that turned is found by who looks at hashes: {verdict:?}");
    // Something that vanishes later is found when it is asked for.
    std::fs::remove_file(object(7)).unwrap();
    assert_eq!(world.get(whole.segments[7].uri.as_ref().unwrap()).await.status(), 410);
    assert_eq!(world.count("keep_lost_segments_total").await, 3);
    world.stop().await;
    // Where nobody can say whose a recording is, the next show begins another.
    std::fs::write(only(&folder.path().join("recordings/demo")).join("recording.json"), "{").unwrap();
    let world = World::start(folder.path(), |_| {}).await;
    assert_eq!(world.get("index.m3u8").await.status(), 404);
    let _encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", 2).await;
    assert_eq!(world.verdicts().await.len(), 2);
}

/// The one entry of a folder.
fn only(folder: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap();
    entries.next().unwrap().unwrap().path()
}
