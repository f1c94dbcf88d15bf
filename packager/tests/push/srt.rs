//! Real SRT callers (ffmpeg with libsrt): let in and refused, on lines that lose packets, killed and back.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use millstream_packager::Config;
use millstream_playlist::check;
use millstream_service::Secret;
use tokio::{net::UdpSocket, process::Child, task::JoinSet};

use crate::{
    step,
    world::{KEY, PATIENCE, World, assert_clean, ffmpeg, follow, localhost, media, push, within},
};

async fn world(settings: impl FnOnce(&mut Config)) -> World {
    World::start(|config| {
        config.srt.on = true;
        config.srt.listen = localhost();
        // An encoder that was killed says nothing; tests have no time to wait for that.
        config.srt.idle_timeout_ms = 1_500;
        settings(config);
    })
    .await
}

fn address(world: &World) -> SocketAddr {
    world.addresses.srt.unwrap()
}

/// What ffmpeg is told; it takes a stream id as it stands.
fn url(to: SocketAddr, stream_id: &str) -> String {
    format!("srt://{to}?streamid={stream_id}")
}

/// An encoder that sends `file` over and over in real time, until it is killed.
fn call(file: &Path, url: &str) -> Child {
    ffmpeg(["-re", "-stream_loop", "-1", "-i"])
        .arg(file)
        .args(["-c", "copy", "-f", "mpegts", url])
        .spawn()
        .unwrap()
}

/// Waits for an encoder that was refused; what it said of that.
async fn refused(file: &Path, url: &str) -> String {
    let output = within(call(file, url).wait_with_output()).await.unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_caller_with_b_frames_keeps_every_rule_and_picture_and_sound_in_step() {
    let world = world(|_| {}).await;
    let file = step::media().await;
    let _encoder = call(&file, &url(address(&world), &format!("publish:{KEY}")));
    world.begun().await;
    let multivariant = world.text("index.m3u8").await;
    assert_clean(&check::multivariant(&multivariant), &multivariant);
    let (video, audio) = tokio::join!(follow(&world, "video", 30), follow(&world, "audio", 30));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    assert!(!video.contains("DISCONTINUITY\n") && !video.contains("EXT-X-GAP"), "{video}");
    step::assert_in_step(&world, 6).await;
    assert!(world.stop().await.is_empty());
}

#[tokio::test]
async fn the_access_control_syntax_is_understood() {
    let world = world(|_| {}).await;
    let file = media(60, 20).await;
    let _encoder = call(&file, &url(address(&world), &format!("#!::r={KEY},m=publish")));
    world.begun().await;
}

#[tokio::test]
async fn a_caller_without_a_good_key_is_refused_and_sees_it() {
    let world = world(|_| {}).await;
    let file = media(60, 20).await;
    for stream_id in ["publish:ms_wrong_key_0123456789", "", "read:demo", &format!("#!::r={KEY}")] {
        let said = refused(&file, &url(address(&world), stream_id)).await;
        assert!(said.contains("rejected") || said.contains("Input/output error"), "{stream_id}: {said}");
    }
    assert_eq!(world.get("video.m3u8").await.status(), 404);
}

#[tokio::test]
async fn a_key_has_one_publisher_however_they_come() {
    let world = world(|_| {}).await;
    let file = media(60, 20).await;
    let srt = url(address(&world), KEY);
    let mut first = call(&file, &srt);
    world.begun().await;
    refused(&file, &srt).await;
    let mut second = push(&file, "1", &world.rtmp(KEY));
    assert!(!within(second.wait()).await.unwrap().success());
    follow(&world, "video", 4).await;
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
}

#[tokio::test]
async fn a_caller_that_is_killed_and_comes_back_makes_one_discontinuity() {
    let world = world(|config| config.policy.away_ms = 20_000).await;
    let file = media(60, 20).await;
    let srt = url(address(&world), KEY);
    let mut encoder = call(&file, &srt);
    world.begun().await;
    let before = follow(&world, "video", 12).await;
    encoder.kill().await.unwrap();
    world.state("away").await;
    let _encoder = call(&file, &srt);
    world.state("live").await;
    let after = follow(&world, "video", 16).await;
    assert_clean(&check::succession(&before, &after), &format!("{before}\n{after}"));
    let audio = world.text("audio.m3u8").await;
    assert_clean(&check::together(&[&after, &audio]), &format!("{after}\n{audio}"));
    for text in [&after, &audio] {
        assert_eq!(text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_caller_that_says_goodbye_frees_its_key_at_once() {
    let world = world(|config| config.srt.idle_timeout_ms = 60_000).await;
    let file = media(60, 20).await;
    let srt = url(address(&world), KEY);
    let mut once = ffmpeg(["-readrate", "4", "-i"])
        .arg(&file)
        .args(["-t", "4", "-c", "copy", "-f", "mpegts", &srt])
        .spawn()
        .unwrap();
    world.begun().await;
    assert!(within(once.wait()).await.unwrap().success());
    world.state("away").await;
    let _encoder = call(&file, &srt);
    world.state("live").await;
}

#[tokio::test]
async fn a_line_that_loses_packets_loses_no_picture() {
    let world = world(|_| {}).await;
    let file = step::media().await;
    let (relay, lost) = lossy(address(&world), 20).await;
    // ffmpeg takes microseconds.
    let _encoder = call(&file, &format!("{}&latency=500000", url(relay, KEY)));
    world.begun().await;
    let video = follow(&world, "video", 30).await;
    assert!(!video.contains("DISCONTINUITY\n") && !video.contains("EXT-X-GAP"), "{video}");
    step::assert_in_step(&world, 6).await;
    let lost = lost.load(std::sync::atomic::Ordering::Relaxed);
    assert!(lost > 30, "only {lost} datagrams were lost");
}

#[tokio::test]
async fn a_passphrase_is_asked_for() {
    let passphrase = "a-long-passphrase";
    let world = world(|config| config.srt.passphrase = Secret::new(passphrase.to_owned())).await;
    let file = media(60, 20).await;
    let srt = url(address(&world), KEY);
    refused(&file, &srt).await;
    refused(&file, &format!("{srt}&passphrase=another-passphrase")).await;
    let _encoder = call(&file, &format!("{srt}&passphrase={passphrase}"));
    world.begun().await;
    follow(&world, "video", 8).await;
}

#[tokio::test]
async fn garbage_harms_nobody_and_what_is_no_media_is_cut_off() {
    let world = world(|config| config.srt.media_timeout_ms = 1_000).await;
    let file = media(60, 20).await;
    let mut encoder = call(&file, &url(address(&world), KEY));
    world.begun().await;
    let mut attacks = JoinSet::new();
    for seed in 1..=8 {
        attacks.spawn(garbage(address(&world), seed));
    }
    let video = follow(&world, "video", 16).await;
    within(attacks.join_all()).await;
    assert!(!video.contains("DISCONTINUITY\n"), "{video}");
    assert!(encoder.try_wait().unwrap().is_none());
    encoder.kill().await.unwrap();
    world.state("away").await;
    // The right key, and bytes that are no transport stream.
    let letter = world.folder.path().join("letter");
    std::fs::write(&letter, vec![b'x'; 1316 * 2_000]).unwrap();
    let mut liar = ffmpeg(["-readrate", "1", "-f", "data", "-i"])
        .arg(&letter)
        .args(["-map", "0", "-c", "copy", "-f", "data", &url(address(&world), KEY)])
        .spawn()
        .unwrap();
    within(liar.wait()).await.unwrap();
    let _encoder = call(&file, &url(address(&world), KEY));
    world.state("live").await;
}

#[tokio::test]
async fn nothing_is_left_of_callers_that_are_gone() {
    let world = world(|_| {}).await;
    let file = media(60, 20).await;
    let srt = url(address(&world), KEY);
    let mut encoder = call(&file, &srt);
    world.begun().await;
    encoder.kill().await.unwrap();
    world.state("away").await;
    let before = held();
    for _ in 0..4 {
        let mut encoder = call(&file, &srt);
        world.state("live").await;
        encoder.kill().await.unwrap();
        world.state("away").await;
    }
    // GLib keeps idle threads for a quarter of a minute.
    let all = async {
        while held().0 > before.0 || held().1 > before.1 {
            tokio::time::sleep(Duration::from_millis(100)).await; // waits because a thread's end has no event
        }
    };
    let back = tokio::time::timeout(PATIENCE, all).await;
    assert!(back.is_ok(), "threads and files: {:?}, {before:?} before", held());
}

/// Threads and open files of this process.
fn held() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Datagrams of noise, and real beginnings with noise behind them.
async fn garbage(to: SocketAddr, seed: u64) {
    let socket = UdpSocket::bind(localhost()).await.unwrap();
    let mut noise = seed;
    for round in 0..400 {
        let mut bytes = vec![0; usize::try_from(random(&mut noise) % 1_600).unwrap()];
        bytes.iter_mut().for_each(|byte| *byte = random(&mut noise).to_le_bytes()[0]);
        if round % 2 == 0 && bytes.len() >= 64 {
            // An induction's first bytes: control packet, handshake, version 4, type 1.
            bytes[..16].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            bytes[16..20].copy_from_slice(&[0, 0, 0, 4]);
            bytes[36..40].copy_from_slice(&[0, 0, 0, 1]);
        }
        socket.send_to(&bytes, to).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await; // waits because attackers take their time as well
    }
}

/// A relay to `to` that loses one datagram of `one_in`, in each direction.
async fn lossy(to: SocketAddr, one_in: u64) -> (SocketAddr, Arc<std::sync::atomic::AtomicU64>) {
    let front = UdpSocket::bind(localhost()).await.unwrap();
    let back = UdpSocket::bind(localhost()).await.unwrap();
    back.connect(to).await.unwrap();
    let address = front.local_addr().unwrap();
    let lost = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&lost);
    tokio::spawn(async move {
        let (mut here, mut there) = (vec![0; 2048], vec![0; 2048]);
        let (mut caller, mut seed) = (None, 7);
        loop {
            let passes = |seed: &mut u64| {
                let passes = !random(seed).is_multiple_of(one_in);
                count.fetch_add(u64::from(!passes), std::sync::atomic::Ordering::Relaxed);
                passes
            };
            tokio::select! {
                received = front.recv_from(&mut here) => {
                    let (length, from) = received.unwrap();
                    caller = Some(from);
                    if passes(&mut seed) {
                        let _ = back.send(&here[..length]).await;
                    }
                }
                received = back.recv(&mut there) => {
                    let Ok(length) = received else { return };
                    if let Some(caller) = caller.filter(|_| passes(&mut seed)) {
                        let _ = front.send_to(&there[..length], caller).await;
                    }
                }
            }
        }
    });
    (address, lost)
}

/// Xorshift: the same noise each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
