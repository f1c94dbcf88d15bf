//! Cameras that are fetched from: found late, unplugged and back, with a password.

use std::{net::SocketAddr, time::Duration};

use millstream_packager::{Config, ingest::pull::Pull};
use millstream_playlist::check;
use millstream_service::Secret;

use crate::{
    camera::Camera,
    step,
    world::{KEY, PATIENCE, World, assert_clean, follow, localhost, push, stream, within},
};

const PASSWORD: &str = "s3cret";

async fn world(camera: SocketAddr, password: &str, settings: impl FnOnce(&mut Config)) -> World {
    World::start(|config| {
        let url = Secret::new(format!("rtsp://viewer:{password}@{camera}/live"));
        config.pull = vec![Pull { stream: stream(), url, key: None }];
        settings(config);
    })
    .await
}

/// An address where nobody listens now.
fn free() -> SocketAddr {
    std::net::TcpListener::bind(localhost()).unwrap().local_addr().unwrap()
}

/// Waits until the camera's state is `state`; all that the status says of it.
async fn pulled(world: &World, state: &str) -> serde_json::Value {
    within(async {
        loop {
            let text = world.ops("v1/status").await;
            assert!(!text.contains(PASSWORD), "{text}");
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            if status["pulls"][0]["state"] == state {
                return status["pulls"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // waits because HTTP answers only when asked
        }
    })
    .await
}

#[tokio::test]
async fn a_cameras_picture_and_sound_are_in_step_and_every_rule_is_kept() {
    let camera = Camera::on(&step::ordered().await, localhost()).await;
    let world = world(camera.address, PASSWORD, |_| {}).await;
    world.begun().await;
    assert_eq!(pulled(&world, "live").await["url"], format!("rtsp://…@{}/live", camera.address));
    let (video, audio) = tokio::join!(follow(&world, "video", 50), follow(&world, "audio", 50));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    assert!(!video.contains("DISCONTINUITY\n") && !video.contains("EXT-X-GAP"), "{video}");
    step::assert_in_step(&world, 6).await;
    assert!(world.stop().await.is_empty());
}

#[tokio::test]
async fn a_camera_that_comes_late_is_found_and_one_that_was_unplugged_goes_on_after_one_discontinuity() {
    let (file, address) = (step::ordered().await, free());
    let world = world(address, PASSWORD, |config| config.policy.away_ms = 20_000).await;
    let waiting = pulled(&world, "waiting").await;
    assert!(waiting["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{waiting}");
    let camera = Camera::on(&file, address).await;
    world.begun().await;
    let before = follow(&world, "video", 12).await;
    camera.off().await;
    world.state("away").await;
    pulled(&world, "waiting").await;
    let _camera = Camera::on(&file, address).await;
    world.state("live").await;
    let after = follow(&world, "video", 16).await;
    assert_clean(&check::succession(&before, &after), &format!("{before}\n{after}"));
    let audio = world.text("audio.m3u8").await;
    for text in [&after, &audio] {
        assert_eq!(text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_shown_nowhere() {
    let camera = Camera::on(&step::ordered().await, localhost()).await;
    let world = world(camera.address, "s3cret-no-more", |_| {}).await;
    let waiting = pulled(&world, "waiting").await;
    assert!(waiting["reason"].as_str().unwrap().contains("Unauthorized"), "{waiting}");
}

#[tokio::test]
async fn somebody_who_pushes_keeps_the_stream_and_the_camera_waits() {
    let (file, address) = (step::ordered().await, free());
    let world = world(address, PASSWORD, |_| {}).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    world.begun().await;
    let _camera = Camera::on(&file, address).await;
    let taken = within(async {
        loop {
            let waiting = pulled(&world, "waiting").await;
            if waiting["reason"].as_str().unwrap().contains("has a publisher already") {
                return waiting;
            }
        }
    });
    taken.await;
    assert!(encoder.try_wait().unwrap().is_none());
    encoder.kill().await.unwrap();
    pulled(&world, "live").await;
}

#[tokio::test]
async fn nothing_is_left_of_cameras_that_were_unplugged() {
    let (file, address) = (step::ordered().await, free());
    let world = world(address, PASSWORD, |config| config.policy.away_ms = 60_000).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let camera = Camera::on(&file, address).await;
        pulled(&world, "live").await;
        camera.off().await;
        pulled(&world, "waiting").await;
        held.push(std::fs::read_dir("/proc/self/fd").unwrap().count());
    }
    // GLib keeps idle threads for a quarter of a minute.
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let back = async {
        while threads() > 12 || files() > held[0] {
            tokio::time::sleep(Duration::from_millis(100)).await; // waits because a thread's end has no event
        }
    };
    let back = tokio::time::timeout(PATIENCE, back).await;
    assert!(back.is_ok(), "{} threads, {} files; files after each: {held:?}", threads(), files());
}
