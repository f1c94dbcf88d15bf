//! A DVR window: live playlists that reach back into the store.

use millstream_playlist::check;

use crate::world::{World, media};

#[tokio::test]
async fn live_playlists_reach_back_as_far_as_they_shall_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |config| {
        config.keep.dvr_ms = 60_000;
        config.window.span_ms = 3_000;
    })
    .await;
    let _encoder = world.push(&media().await, "8");
    // In wall-clock time media is in memory for 3 s, which are 24 s of the show.
    let (mut before, _) =
        world.until_playlist("video", |playlist| playlist.whole_micros() > 50_000_000).await;
    let mut longest = 0;
    for _ in 0..60 {
        let (segment, part) = check::Playlist::parse(&before).head().unwrap();
        let part = part.map_or(0, |part| part + 1);
        let text = world.bytes(&format!("video.m3u8?_HLS_msn={segment}&_HLS_part={part}")).await;
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert_eq!(check::media(&text), [], "{text}");
        assert_eq!(check::succession(&before, &text), [], "{before}\n{text}");
        longest = longest.max(check::Playlist::parse(&text).whole_micros());
        before = text;
    }
    assert!((60_000_000..63_000_000).contains(&longest), "{longest}");
    let (text, video) = world.playlist("video").await;
    let oldest = &video.segments[1];
    let got = world.bytes(oldest.uri.as_ref().unwrap()).await;
    assert!(got.len() > 10_000);
    assert!(world.count("keep_read_bytes_total").await >= got.len() as u64, "it came from the store");
    world.bytes(oldest.map.as_ref().unwrap()).await;
    let (_, audio) = world.playlist("audio").await;
    assert!(audio.whole_micros() > 50_000_000);
    assert!(!text.contains("EXT-X-GAP") && !text.contains("PLAYLIST-TYPE"), "{text}");
    assert!(text.contains("CAN-SKIP-UNTIL=24.0"), "{text}");
    let update = world.bytes("video.m3u8?_HLS_skip=YES").await;
    let update = String::from_utf8(update.to_vec()).unwrap();
    assert_eq!(check::media(&update), [], "{update}");
    let update = check::Playlist::parse(&update);
    assert!(update.skipped > 10, "{update:?}");
    assert_eq!(update.clone().completed(&video).skipped, 0, "{update:?} does not follow {text}");
    // Parts are listed near the end alone, and are there.
    let parts: usize = video.segments.iter().map(|segment| segment.parts.len()).sum();
    assert!(parts < 60, "{text}");
}

#[tokio::test]
async fn after_a_kill_viewers_can_still_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let dvr = |config: &mut millstream_packager::Config| {
        config.keep.dvr_ms = 600_000;
        config.policy.away_ms = 20_000;
    };
    let world = World::start(folder.path(), dvr).await;
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_stored_segments_total", 10).await;
    world.kill();
    encoder.kill().await.unwrap();
    let world = World::start(folder.path(), dvr).await;
    let _encoder = world.push(&media().await, "4");
    let (mut before, video) = world
        .until_playlist("video", |playlist| playlist.segments.iter().any(|s| s.after_discontinuity))
        .await;
    let oldest = video.segments[0].uri.as_ref().unwrap();
    assert_eq!(oldest, "video/s0.m4s");
    world.bytes(oldest).await;
    let newest = video.segments.last().unwrap();
    assert!(newest.sequence > 500, "the newest has its own number, by which players reload");
    for _ in 0..10 {
        let (segment, part) = check::Playlist::parse(&before).head().unwrap();
        let part = part.map_or(0, |part| part + 1);
        let text = world.bytes(&format!("video.m3u8?_HLS_msn={segment}&_HLS_part={part}")).await;
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert_eq!(check::media(&text), [], "{text}");
        assert_eq!(check::succession(&before, &text), [], "{before}\n{text}");
        before = text;
    }
}
