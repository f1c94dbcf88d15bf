//! Publishers that vanish, come back, stay away, or are not let in.

use std::process::Stdio;

use millstream_playlist::check;

use crate::world::{KEY, Receiver, World, assert_clean, follow, media, push, root_of, within};

#[tokio::test]
async fn a_publisher_that_comes_back_goes_on_after_one_discontinuity() {
    let world = World::start(|config| config.policy.away_ms = 20_000).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    let before = follow(&world, "video", 12).await;
    let root = root_of(&world);
    let mut receiver = Receiver::new(root);
    receiver.start(&world.bytes("start").await);
    let waiting = check::Playlist::parse(&before).hint.unwrap();
    encoder.kill().await.unwrap();
    world.state("away").await;
    let away = world.text("video.m3u8").await;
    assert_clean(&check::media(&away), &away);
    assert_clean(&check::succession(&before, &away), &format!("{before}\n{away}"));
    assert!(!away.contains("ENDLIST"), "{away}");
    // The timestamps begin anew.
    let _encoder = push(&file, "1", &world.rtmp(KEY));
    world.state("live").await;
    let hinted = check::Playlist::parse(&away).hint.unwrap_or(waiting);
    assert!(!world.bytes(&hinted).await.is_empty(), "the part that was hinted comes");
    let after = follow(&world, "video", 12).await;
    assert_clean(&check::succession(&away, &after), &format!("{away}\n{after}"));
    let audio = world.text("audio.m3u8").await;
    assert_clean(&check::together(&[&after, &audio]), &format!("{after}\n{audio}"));
    for text in [&after, &audio] {
        assert_eq!(text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count(), 1, "{text}");
    }
    assert_eq!(world.status().await["generation"], 1, "the same generation");
    receiver.start(&world.bytes("start").await);
    assert_eq!(receiver.newest("video").discontinuity, 1);
}

#[tokio::test]
async fn a_publisher_that_stays_away_ends_the_stream_and_may_begin_another_generation() {
    let world = World::start(|config| config.policy.away_ms = 500).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    let before = follow(&world, "video", 10).await;
    let root = root_of(&world);
    let mut receiver = Receiver::new(root);
    receiver.start(&world.bytes("start").await);
    encoder.kill().await.unwrap();
    world.state("ended").await;
    let ended = world.text("video.m3u8").await;
    assert_clean(&check::media(&ended), &ended);
    assert_clean(&check::succession(&before, &ended), &format!("{before}\n{ended}"));
    assert!(ended.ends_with("#EXT-X-ENDLIST\n"), "{ended}");
    let last = check::Playlist::parse(&ended).segments.pop().unwrap();
    assert!(!world.bytes(&last.uri.unwrap()).await.is_empty(), "what was published stays for a while");
    receiver.start(&world.bytes("start").await);
    let old = receiver.newest("video").clone();
    assert!(receiver.chain.catalog().unwrap().ended);

    let _encoder = push(&file, "1", &world.rtmp(KEY));
    world.state("live").await;
    let again = world.begun().await;
    assert_clean(&check::media(&again), &again);
    assert!(check::Playlist::parse(&again).media_sequence > last.sequence, "{again}");
    receiver.start(&world.bytes("start").await);
    let new = receiver.newest("video");
    assert!(new.generation > old.generation && new.number > old.number && new.segment > old.segment);
    assert!(new.discontinuity > old.discontinuity && new.media_time.0 >= old.media_time.0);
}

#[tokio::test]
async fn whoever_has_no_key_is_refused_and_a_second_publisher_too() {
    let world = World::start(|_| {}).await;
    let file = media(60, 20).await;
    let mut stranger = push(&file, "1", &world.rtmp("ms_wrong_key_0123456789"));
    assert!(!within(stranger.wait()).await.unwrap().success());
    assert_eq!(world.get("video.m3u8").await.status(), 404);
    let mut first = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    let mut second = push(&file, "1", &world.rtmp(KEY));
    assert!(!within(second.wait()).await.unwrap().success());
    follow(&world, "video", 4).await;
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
}

#[tokio::test]
async fn streams_of_one_kind_of_track_work() {
    for (skip, name) in [("-an", "video"), ("-vn", "audio")] {
        let world = World::start(|_| {}).await;
        let file = media(60, 20).await;
        let mut encoder = crate::world::ffmpeg(["-re", "-stream_loop", "-1", "-i"]);
        encoder.arg(&file).args([skip, "-c", "copy", "-f", "flv", &world.rtmp(KEY)]).stderr(Stdio::null());
        let _encoder = encoder.spawn().unwrap();
        within(async {
            while world.get(&format!("{name}.m3u8")).await.status() != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await; // waits because HTTP answers only when asked
            }
        })
        .await;
        follow(&world, name, 12).await;
        let multivariant = world.text("index.m3u8").await;
        assert_clean(&check::multivariant(&multivariant), &multivariant);
    }
}
