//! A push becomes a stream that keeps the rules, that ffmpeg plays, and that verifies to the last byte.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use millstream_playlist::check;
use tokio::process::Command;

use crate::world::{KEY, Receiver, World, assert_clean, feed, follow, media, push, root_of, within};

/// What ffprobe complains of, and how many packets it finds.
async fn probe(file: &Path) -> (String, usize) {
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-show_entries", "packet=pts", "-of", "csv=p=0"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let packets = String::from_utf8_lossy(&output.stdout).lines().count();
    (String::from_utf8_lossy(&output.stderr).into_owned(), packets)
}

/// Each whole segment of a playlist: is its parts, and is read by ffprobe from its init segment on. So is everything
/// together, without complaint.
pub(crate) async fn assert_readable(world: &World, rendition: &str, text: &str) {
    let playlist = check::Playlist::parse(text);
    let (mut read, mut all) = (0, Vec::new());
    for segment in playlist.segments.iter().filter(|segment| segment.uri.is_some()) {
        let whole = world.bytes(segment.uri.as_ref().unwrap()).await;
        if !segment.parts.is_empty() {
            let mut parts = Vec::new();
            for part in &segment.parts {
                parts.extend_from_slice(&world.bytes(&part.uri).await);
            }
            assert_eq!(whole, parts, "segment {}", segment.sequence);
        }
        let init = world.bytes(segment.map.as_ref().unwrap()).await;
        if all.is_empty() {
            all.extend_from_slice(&init);
        }
        all.extend_from_slice(&whole);
        let file = world.folder.path().join(format!("{rendition}-{}.mp4", segment.sequence));
        std::fs::write(&file, [init, whole].concat()).unwrap();
        // One that begins without a keyframe cannot be decoded alone, and ffprobe says so.
        let (_, packets) = probe(&file).await;
        let seconds = segment.duration / 1_000_000;
        let at_least = usize::try_from(seconds).unwrap() * if rendition == "video" { 29 } else { 46 };
        assert!(packets >= at_least, "{packets} packets in {seconds} s of {rendition}");
        read += 1;
    }
    assert!(read >= 2, "{text}");
    let file = world.folder.path().join(format!("{rendition}.mp4"));
    std::fs::write(&file, all).unwrap();
    assert_eq!(probe(&file).await.0, "", "{rendition}");
}

#[tokio::test]
async fn a_push_with_a_keyframe_every_two_seconds_keeps_every_rule() {
    let world = World::start(|_| {}).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    let multivariant = world.text("index.m3u8").await;
    assert_clean(&check::multivariant(&multivariant), &multivariant);
    let (video, audio) = tokio::join!(follow(&world, "video", 40), follow(&world, "audio", 40));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    let playlist = check::Playlist::parse(&video);
    for segment in playlist.segments.iter().filter(|segment| segment.uri.is_some()) {
        assert_eq!(segment.duration, 2_000_000, "{video}");
        assert!(segment.parts.first().is_none_or(|part| part.independent), "{video}");
    }
    assert_readable(&world, "video", &video).await;
    assert_readable(&world, "audio", &audio).await;
    assert!(world.stop().await.is_empty());
}

#[tokio::test]
async fn a_push_with_a_keyframe_every_eight_seconds_keeps_every_rule() {
    let world = World::start(|_| {}).await;
    let _encoder = push(&media(240, 24).await, "2", &world.rtmp(KEY));
    world.begun().await;
    let (video, audio) = tokio::join!(follow(&world, "video", 90), follow(&world, "audio", 90));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    let playlist = check::Playlist::parse(&video);
    let begins: Vec<bool> =
        playlist.segments.iter().filter_map(|segment| Some(segment.parts.first()?.independent)).collect();
    assert!(begins.contains(&true) && begins.contains(&false), "some begin without a keyframe\n{video}");
    assert!(!video.contains("EXT-X-INDEPENDENT-SEGMENTS"));
    assert_readable(&world, "video", &video).await;
    assert_readable(&world, "audio", &audio).await;
}

#[tokio::test]
async fn ffmpeg_plays_it_from_the_multivariant_playlist() {
    let world = World::start(|_| {}).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    follow(&world, "video", 20).await;
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-i", &world.url("index.m3u8")])
        .args(["-t", "5", "-f", "null", "-progress", "pipe:1", "-"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let played = within(command.output()).await.unwrap();
    let (out, complaints) =
        (String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&played.stderr));
    assert!(played.status.success(), "{complaints}");
    assert_eq!(complaints, "");
    let frames = out.lines().rev().find_map(|line| line.strip_prefix("frame=")?.trim().parse::<u32>().ok());
    assert!(frames.is_some_and(|frames| frames >= 145), "decoded {frames:?} of 150 frames");
}

#[tokio::test]
async fn everything_verifies_for_whoever_knows_the_root() {
    let world = World::start(|_| {}).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    let root = root_of(&world);
    let (video, audio) = tokio::join!(feed(&world, "video", root, 24), feed(&world, "audio", root, 24));
    let mut receiver = Receiver::new(root);
    receiver.start(&world.bytes("start").await);
    for (name, parts) in [("video", &video), ("audio", &audio)] {
        for (record, data) in parts {
            assert_eq!(world.bytes(&format!("{name}/p{}.m4s", record.number)).await, *data);
        }
        let numbers: Vec<u64> = parts.iter().map(|(record, _)| record.number).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        let by_number: BTreeMap<u64, _> = parts.iter().map(|(record, _)| (record.number, record)).collect();
        let newest = receiver.newest(name);
        assert!(newest.number >= numbers[23]);
        for record in receiver.records.iter().filter(|record| record.rendition == newest.rendition) {
            assert!(by_number.get(&record.number).is_none_or(|known| *known == record));
        }
    }
    let wrong = millstream_model::PublicKey([1; 32]);
    let deceived = tokio::spawn(async move {
        let body = world.bytes("start").await;
        Receiver::new(wrong).start(&body);
    });
    assert!(deceived.await.unwrap_err().is_panic(), "another root is not believed");
}

#[tokio::test]
async fn a_part_is_at_an_edge_soon_after_its_last_frame() {
    let world = World::start(|_| {}).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    let root = root_of(&world);
    // What is in the open segment already came late.
    let parts = feed(&world, "video", root, 10).await;
    assert!(parts.len() == 10);
    let mut late: Vec<u64> = Vec::new();
    let mut response = world.get("feed?rendition=audio").await;
    let (mut deframer, mut receiver) = (millstream_wire::frame::Deframer::default(), Receiver::new(root));
    while late.len() < 24 {
        while let Some(frame) = deframer.next_frame().unwrap() {
            if let millstream_wire::frame::Frame::Piece { .. } = frame {
                let record = receiver.records.last().unwrap();
                let scale = receiver.chain.catalog().unwrap().rendition(record.rendition).unwrap().timescale;
                let ends = record.program_date_time.0 + u64::from(record.duration) * 1_000 / u64::from(scale);
                late.push(crate::world::now().0.saturating_sub(ends));
            } else {
                receiver.take(&frame);
            }
        }
        deframer.push(&within(response.chunk()).await.unwrap().expect("the feed goes on"));
    }
    let mut recent = late.split_off(8);
    recent.sort_unstable();
    // Encoder pacing, RTMP and the segmenter's look-ahead included; the median, for the machine may be busy.
    assert!(recent[8] < 400, "milliseconds from the last sound to its part at the edge: {recent:?}");
}

#[tokio::test]
async fn operators_see_what_goes_on() {
    let world = World::start(|_| {}).await;
    let _encoder = push(&media(60, 20).await, "1", &world.rtmp(KEY));
    world.begun().await;
    feed(&world, "video", root_of(&world), 4).await;
    world.bytes("video/p0.m4s?session=AAAAAAAAAAAAAAAAAAAAAA").await;
    let status = world.status().await;
    assert_eq!(status["state"], "live");
    assert_eq!(status["generation"], 1);
    assert!(status["published_bytes"].as_u64().unwrap() > 50_000, "{status}");
    assert!(status["feed_bytes"].as_u64().unwrap() > 10_000, "{status}");
    assert!(world.ops("v1/status").await.contains("\"session\":\"AAAAAAAAAAAAAAAAAAAAAA\""));
    let metrics = world.ops("metrics").await;
    for name in [
        "millstream_packager_streams_live 1",
        "millstream_packager_http_sent_bytes_total{resource=\"feed\"}",
        "millstream_packager_http_answers_total{resource=\"part\",status=\"200\"} 1",
        "millstream_packager_parts_total",
        "millstream_packager_window_bytes",
    ] {
        assert!(metrics.contains(name), "{name}\n{metrics}");
    }
    assert!(!metrics.contains(KEY) && !world.ops("v1/status").await.contains(KEY));
    assert_eq!(world.ops("readyz").await, "ready\n");
    tokio::time::timeout(Duration::from_secs(10), world.stop()).await.unwrap();
}
