//! A WHIP publisher with real pictures and sound: let in and refused, in step, on a line that loses packets, ended and gone.

use millstream_packager::Config;
use millstream_playlist::check;
use reqwest::{Method, StatusCode, header};

use crate::{
    publisher::{self, Clip, Publisher},
    step,
    world::{KEY, World, assert_clean, follow, localhost, push, within},
};

async fn world(settings: impl FnOnce(&mut Config)) -> World {
    World::start(|config| {
        config.whip.on = true;
        config.whip.listen = localhost();
        config.whip.media = localhost();
        // A publisher that was killed says nothing; tests have no time to wait for that.
        config.whip.idle_timeout_ms = 1_500;
        settings(config);
    })
    .await
}

fn endpoint(world: &World) -> String {
    format!("http://{}/whip", world.addresses.whip.unwrap())
}

/// A publisher that connects and sends `clip` over and over, until it is dropped.
async fn publish(world: &World, clip: &Clip, one_in: u64) -> Publisher {
    within(Publisher::start(&world.client, &endpoint(world), KEY, clip.clone(), one_in)).await
}

async fn post(
    world: &World,
    key: Option<&str>,
    kind: &str,
    offer: impl Into<reqwest::Body>,
) -> (StatusCode, String) {
    let mut request = world.client.post(endpoint(world)).header(header::CONTENT_TYPE, kind).body(offer);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_publisher_keeps_every_rule_and_picture_and_sound_are_in_step() {
    let world = world(|_| {}).await;
    let clip = Clip::load().await;
    let publisher = publish(&world, &clip, 0).await;
    world.begun().await;
    let multivariant = world.text("index.m3u8").await;
    assert_clean(&check::multivariant(&multivariant), &multivariant);
    assert!(multivariant.contains("avc1.42") && multivariant.contains("opus"), "{multivariant}");
    let (video, audio) = tokio::join!(follow(&world, "video", 30), follow(&world, "audio", 30));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    assert!(!video.contains("DISCONTINUITY\n") && !video.contains("EXT-X-GAP"), "{video}");
    assert!(!audio.contains("DISCONTINUITY\n") && !audio.contains("EXT-X-GAP"), "{audio}");
    step::assert_in_step(&world, 6).await;
    let mut probe = tokio::process::Command::new("ffprobe");
    probe.args([
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name",
        "-of",
        "csv=p=0",
        &world.url("index.m3u8"),
    ]);
    let probed = String::from_utf8(within(probe.output()).await.unwrap().stdout).unwrap();
    assert!(probed.contains("h264") && probed.contains("opus"), "{probed}");
    assert!(publisher.keyframes_asked() > 0, "browsers send no keyframes that nobody asked for");
    drop(publisher);
    assert!(world.stop().await.is_empty());
}

#[tokio::test]
async fn whoever_has_no_good_key_or_no_good_offer_is_told_so() {
    let world = world(|_| {}).await;
    let sdp = "application/sdp";
    let offer = publisher::offer();
    assert_eq!(post(&world, None, sdp, offer.clone()).await.0, 401);
    assert_eq!(post(&world, Some("ms_wrong_key_0123456789"), sdp, offer.clone()).await.0, 401);
    assert_eq!(post(&world, Some(KEY), "text/plain", offer.clone()).await.0, 415);
    assert_eq!(post(&world, Some(KEY), sdp, vec![b'x'; 70 * 1024]).await.0, 413);
    let (status, text) = post(&world, Some(KEY), sdp, "v=1 nonsense").await;
    assert_eq!(status, 400, "{text}");
    let (status, text) = post(&world, Some(KEY), sdp, offer.replace("H264/90000", "VP8/90000")).await;
    assert!(status == 422 && text.contains("H.264"), "{status} {text}");
    let endpoint = endpoint(&world);
    for (method, path, status) in [
        (Method::OPTIONS, "", 204),
        (Method::GET, "", 405),
        (Method::PATCH, "/0123", 405),
        (Method::DELETE, "/0123", 404),
        (Method::POST, "x", 404),
    ] {
        let asked = world.client.request(method.clone(), format!("{endpoint}{path}")).send().await.unwrap();
        assert_eq!(asked.status(), status, "{method} {path}");
    }
    // None of these holds the key.
    let _publisher = publish(&world, &Clip::load().await, 0).await;
    world.begun().await;
}

#[tokio::test]
async fn a_key_has_one_publisher_however_they_come_and_delete_frees_it() {
    let world = world(|config| config.whip.idle_timeout_ms = 60_000).await;
    let clip = Clip::load().await;
    let first = publish(&world, &clip, 0).await;
    world.begun().await;
    let (status, text) = post(&world, Some(KEY), "application/sdp", publisher::offer()).await;
    assert!(status == 409 && text.contains("publisher already"), "{status} {text}");
    let mut rtmp = push(&crate::world::media(60, 20).await, "1", &world.rtmp(KEY));
    assert!(!within(rtmp.wait()).await.unwrap().success());
    follow(&world, "video", 4).await;
    assert_eq!(first.delete().await, 200);
    world.state("away").await;
    assert_eq!(first.delete().await, 404);
    let _second = publish(&world, &clip, 0).await;
    world.state("live").await;
}

#[tokio::test]
async fn a_line_that_loses_packets_keeps_every_rule() {
    let world = world(|_| {}).await;
    let publisher = publish(&world, &Clip::load().await, 50).await;
    world.begun().await;
    let video = follow(&world, "video", 30).await;
    assert!(!video.contains("DISCONTINUITY\n") && !video.contains("EXT-X-GAP"), "{video}");
    assert!(publisher.lost() > 10, "only {} datagrams were lost", publisher.lost());
}

#[tokio::test]
async fn nothing_is_left_of_publishers_that_never_connect_or_vanish() {
    let world = world(|config| config.whip.connect_timeout_ms = 500).await;
    let clip = Clip::load().await;
    let (status, _) = post(&world, Some(KEY), "application/sdp", publisher::offer()).await;
    assert_eq!(status, 201);
    world.state("away").await;
    let before = files();
    for _ in 0..3 {
        let publisher = publish(&world, &clip, 0).await;
        world.state("live").await;
        drop(publisher);
        world.state("away").await;
    }
    // Connections of the HTTP client stay open for its next question.
    assert!(files() <= before + 4, "{} files, {before} before", files());
    assert!(world.stop().await.is_empty());
}

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
