//! Recordings in a bucket: a server that is gone for a while, a line to it that is slow, a key that is wrong.

use std::time::{Duration, Instant};

use millstream_playlist::check;
use millstream_service::Secret;

use crate::{
    seaweed::{Line, SECRET, Seaweed},
    world::{World, media, play},
};

#[tokio::test]
async fn a_bucket_that_is_gone_for_a_while_loses_nothing_and_live_goes_on() {
    let mut seaweed = Seaweed::start().await;
    let address = seaweed.address();
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |config| Seaweed::settings(address, config)).await;
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", 6).await;

    seaweed.kill().await;
    world.until_count("keep_errors_total{call=\"put\"}", 3).await;
    let (stored, head) =
        (world.count("keep_stored_segments_total").await, world.playlist("video").await.1.head().unwrap().0);
    // Half a minute of the show.
    world.until_playlist("video", |playlist| playlist.head().unwrap().0 > head + 15).await;
    assert_eq!(world.count("keep_stored_segments_total").await, stored, "it is gone");
    assert!(world.count("keep_backlog_bytes").await > 2_000_000);

    seaweed.start_again().await;
    world.until_count("keep_stored_segments_total", stored + 30).await;
    // A packager that is killed goes on with what is in the bucket.
    world.kill();
    encoder.kill().await.unwrap();
    let world = World::start(folder.path(), |config| {
        Seaweed::settings(address, config);
        config.policy.away_ms = 20_000;
    })
    .await;
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", 6).await;
    world.kill();
    encoder.kill().await.unwrap();

    let world = World::start(folder.path(), |config| Seaweed::settings(address, config)).await;
    let (text, video) = world.until_vod("video").await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.problems, [""; 0]);
    assert_eq!((verdict.lost, verdict.holes, verdict.ended), (0, 0, true), "{verdict:?}");
    assert!(!text.contains("EXT-X-GAP") && text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    let seconds = Duration::from_micros(video.whole_micros()).as_secs_f64();
    let played = play(&world.url("index.m3u8")).await;
    assert!((played - seconds).abs() < 0.3, "{played} of {seconds}");
}

#[tokio::test]
async fn a_slow_bucket_delays_no_part_and_what_is_too_much_is_said() {
    let seaweed = Seaweed::start().await;
    let line = Line::to(seaweed.address(), 10_000).await;
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |config| {
        Seaweed::settings(line.address, config);
        config.keep.backlog_bytes_max = 2_000_000;
    })
    .await;
    let mut encoder = world.push(&media().await, "4");
    let (mut before, _) = world.until_playlist("video", |playlist| playlist.segments.len() > 2).await;
    // A part each 63 ms, four times as fast as they are watched.
    let (mut pauses, mut last) = (Vec::new(), Instant::now());
    while world.count("keep_lost_segments_total").await < 4 {
        let (segment, part) = check::Playlist::parse(&before).head().unwrap();
        let query = format!("video.m3u8?_HLS_msn={segment}&_HLS_part={}", part.map_or(0, |part| part + 1));
        before = String::from_utf8(world.bytes(&query).await.to_vec()).unwrap();
        pauses.push(last.elapsed());
        last = Instant::now();
    }
    pauses.sort_unstable();
    assert!(pauses.len() > 100, "{}", pauses.len());
    assert!(pauses[pauses.len() / 2] < Duration::from_millis(150), "{:?}", pauses[pauses.len() / 2]);
    assert!(pauses[pauses.len() - 1] < Duration::from_millis(1_500), "{:?}", pauses[pauses.len() - 1]);
    assert!(world.count("keep_backlog_bytes").await <= 2_100_000);

    line.at(100_000_000);
    encoder.kill().await.unwrap();
    let (text, video) = world.until_vod("video").await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.problems, [""; 0]);
    assert_eq!(verdict.lost, world.count("keep_lost_segments_total").await, "{verdict:?}");
    assert!(video.segments.iter().any(|segment| segment.gap), "{text}");
}

#[tokio::test]
async fn a_wrong_key_is_said_and_the_right_one_is_not() {
    let seaweed = Seaweed::start().await;
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |config| {
        Seaweed::settings(seaweed.address(), config);
        let printed = millstream_service::config::print(config).unwrap();
        assert!(printed.contains("secret_access_key") && !printed.contains(SECRET), "{printed}");
        config.keep.s3.secret_access_key = Secret::new(String::from("wrong"));
    })
    .await;
    let _encoder = world.push(&media().await, "4");
    world.until_count("keep_errors_total{call=\"open\"}", 2).await;
    world.until_playlist("video", |playlist| playlist.segments.len() > 3).await;
    assert_eq!(world.count("keep_stored_segments_total").await, 0);
}
