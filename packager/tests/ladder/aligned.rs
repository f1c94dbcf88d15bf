//! What comes out of the origin: parts of all renditions side by side.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use millstream_packager::{Config, renditions::StreamRenditions};
use millstream_playlist::check;
use millstream_wire::media::Record;
use mp4_atom::{Decode as _, Moof};

use crate::world::{KEY, World, assert_clean, feed, follow, media, push, root_of, stream, within};

/// The publisher's own and two rungs.
const ALL: [&str; 3] = ["video", "240p", "144p"];

fn ladder(config: &mut Config) {
    config.renditions.default = "240p,144p@150k".parse().unwrap();
    config.renditions.cpu_cores_max = 16.0;
    config.policy.away_ms = 20_000;
}

/// Waits until the multivariant playlist lists so many variants.
async fn variants(world: &World, count: usize) -> String {
    within(async {
        loop {
            let response = world.get("index.m3u8").await;
            if response.status() == 200 {
                let text = response.text().await.unwrap();
                if text.matches("#EXT-X-STREAM-INF").count() == count {
                    return text;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // waits because HTTP answers only when asked
        }
    })
    .await
}

async fn playlist(world: &World, name: &str) -> String {
    world.text(&format!("{name}.m3u8")).await
}

/// Parts of all renditions by segment and part, as many as `count` of each.
async fn parts(world: &World, names: &[&str], count: usize) -> Vec<BTreeMap<(u64, u16), (Record, Bytes)>> {
    let root = root_of(world);
    let feeds = names.iter().map(|name| feed(world, name, root, count));
    let all = join_all(feeds).await;
    let by_place = |parts: Vec<(Record, Bytes)>| {
        parts.into_iter().map(|part| ((part.0.segment, part.0.part), part)).collect()
    };
    all.into_iter().map(by_place).collect()
}

/// Which samples of a part a decoder can start at.
fn keyframes(part: &Bytes) -> Vec<bool> {
    let moof = Moof::decode(&mut part.as_ref()).unwrap();
    let [traf] = &moof.traf[..] else { panic!("one track") };
    traf.trun[0].samples.iter().map(|sample| sample.flags.unwrap() & 0x0001_0000 == 0).collect()
}

/// Holds rungs to their leader; gives how many parts were there in both.
fn assert_aligned(
    leader: &BTreeMap<(u64, u16), (Record, Bytes)>,
    rung: &BTreeMap<(u64, u16), (Record, Bytes)>,
) -> usize {
    let mut both = 0;
    for (place, (record, data)) in rung {
        let Some((own, _)) = leader.get(place) else { continue };
        both += 1;
        let of = |record: &Record| {
            (record.media_time, record.duration, record.first, record.independent, record.discontinuity)
        };
        assert_eq!(of(record), of(own), "{place:?}");
        assert_eq!(record.program_date_time, own.program_date_time, "{place:?}");
        let keyframes = keyframes(data);
        assert_eq!(keyframes[0], record.first, "a keyframe where a segment begins: {place:?}");
        assert!(!keyframes[1..].contains(&true), "and nowhere else: {place:?}");
    }
    both
}

#[tokio::test]
async fn every_rung_has_the_publishers_parts_at_the_same_times() {
    let world = World::start(ladder).await;
    let file = media(60, 20).await;
    let _encoder = push(&file, "1", &world.rtmp(KEY));
    let index = variants(&world, 3).await;
    assert_clean(&check::multivariant(&index), &index);
    for line in
        ["RESOLUTION=640x360,FRAME-RATE=30.000", "RESOLUTION=426x240,FRAME-RATE=30.000", "RESOLUTION=256x144"]
    {
        assert!(index.contains(line), "{line}: {index}");
    }
    // What was set, and a quarter more, beside the sound's.
    let low = index.lines().find(|line| line.contains("256x144")).unwrap();
    let rate: u64 = low.split("BANDWIDTH=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!((187_500..450_000).contains(&rate), "{low}");
    let all = parts(&world, &ALL, 26).await;
    for rung in &all[1..] {
        let both = assert_aligned(&all[0], rung);
        assert!(both >= 16, "{both} parts were there in both");
    }
    let texts = join_all(ALL.iter().map(|name| follow(&world, name, 4))).await;
    let together: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_clean(&check::together(&together), &texts.join("\n"));
    // ffprobe reads each at its resolution, and ffmpeg decodes it without a word.
    for (name, size) in [("240p", "426,240"), ("144p", "256,144")] {
        let text = world.text(&format!("{name}.m3u8")).await;
        let map = text.split("EXT-X-MAP:URI=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut bytes = world.bytes(map).await.to_vec();
        let segments: Vec<String> =
            check::Playlist::parse(&text).segments.into_iter().filter_map(|segment| segment.uri).collect();
        assert!(!segments.is_empty());
        for uri in &segments {
            bytes.extend_from_slice(&world.bytes(uri).await);
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ladder-{name}.mp4"));
        std::fs::write(&path, bytes).unwrap();
        let mut probe = Command::new("ffprobe");
        probe.args(["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"]).arg(&path);
        let probed = probe.output().unwrap();
        assert!(String::from_utf8(probed.stdout).unwrap().starts_with(size), "{name}");
        let mut decode = Command::new("ffmpeg");
        let decoded = decode
            .args(["-v", "error", "-nostdin", "-i"])
            .arg(&path)
            .args(["-f", "null", "-"])
            .output()
            .unwrap();
        assert!(decoded.status.success() && decoded.stderr.is_empty(), "{name}: {decoded:?}");
    }
    let metrics = world.ops("metrics").await;
    assert!(metrics.contains("millstream_packager_ladder_rungs 2"), "{metrics}");
    assert!(world.stop().await.is_empty());
}

#[tokio::test]
async fn a_publisher_that_comes_back_breaks_all_rungs_at_once() {
    let world = World::start(ladder).await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    variants(&world, 3).await;
    parts(&world, &ALL, 12).await;
    encoder.kill().await.unwrap();
    world.state("away").await;
    // Everything of the first stay is there before the second begins.
    let heads = join_all(ALL.map(|name| playlist(&world, name))).await;
    let head = |text: &String| check::Playlist::parse(text).head().unwrap();
    assert!(heads.iter().all(|text| head(text) == head(&heads[0])), "{}", heads.join("\n"));
    let _encoder = push(&file, "1", &world.rtmp(KEY));
    world.state("live").await;
    let texts = join_all(ALL.iter().map(|name| follow(&world, name, 14))).await;
    for text in &texts {
        assert_eq!(text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count(), 1, "{text}");
    }
    let together: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_clean(&check::together(&together), &texts.join("\n"));
    let all = parts(&world, &ALL, 12).await;
    for rung in &all[1..] {
        assert!(assert_aligned(&all[0], rung) >= 4);
    }
    assert_eq!(world.status().await["generation"], 1, "the same generation");
}

#[tokio::test]
async fn a_stream_that_passes_through_starts_no_thread_of_gstreamers() {
    let world = World::start(|config| {
        ladder(config);
        config.renditions.streams =
            vec![StreamRenditions { stream: stream(), renditions: "passthrough".parse().unwrap() }];
    })
    .await;
    let file = media(60, 20).await;
    let _encoder = push(&file, "1", &world.rtmp(KEY));
    variants(&world, 1).await;
    follow(&world, "video", 4).await;
    assert_eq!(threads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_ladder_that_ends_leaves_no_thread() {
    let world = World::start(|config| {
        ladder(config);
        config.policy.away_ms = 200;
    })
    .await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    variants(&world, 3).await;
    assert!(threads().len() >= 3, "a source and two encoders: {:?}", threads());
    encoder.kill().await.unwrap();
    world.state("ended").await;
    within(async {
        while !threads().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await; // waits because threads end without telling anybody
        }
    })
    .await;
    let metrics = world.ops("metrics").await;
    for line in ["millstream_packager_ladder_rungs 0", "millstream_packager_ladder_milli_cores 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_publisher_whose_ladder_the_machine_cannot_carry_is_sent_away_where_that_is_set() {
    let world = World::start(|config| {
        ladder(config);
        config.renditions.cpu_cores_max = 0.01;
        config.renditions.excess = millstream_packager::renditions::Excess::Refuse;
    })
    .await;
    let file = media(60, 20).await;
    let mut encoder = push(&file, "1", &world.rtmp(KEY));
    assert!(!within(encoder.wait()).await.unwrap().success());
    let metrics = world.ops("metrics").await;
    assert!(metrics.contains("millstream_packager_ladder_refused_total 1"), "{metrics}");
}

/// Names of threads in which GStreamer works.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok().map(|name| name.trim().to_owned())
    };
    let ours = |name: &String| ["appsrc", "queue", "ladder-end"].iter().any(|part| name.starts_with(part));
    tasks.filter_map(name).filter(ours).collect()
}
