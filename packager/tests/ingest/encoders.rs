//! Real encoders push, and every sample arrives as it left them.

use std::{path::PathBuf, process::Stdio};

use millstream_packager::ingest::{Event, Gone};
use millstream_segmenter::{Sample, TrackConfig, TrackKind};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::world::{
    config, media, next_publish, next_sample, push_for_ever, push_once, samples, server, url, whole, within,
};

/// A packet as ffprobe sees it in a file.
#[derive(Debug, PartialEq)]
struct Packet {
    dts_ms: i64,
    cts_ms: i64,
    keyframe: bool,
    sha256: String,
}

async fn probe(file: &PathBuf, track: TrackKind) -> Vec<Packet> {
    let (letter, name) = match track {
        TrackKind::Video => ("v", "video"),
        TrackKind::Audio => ("a", "audio"),
    };
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", letter, "-show_data_hash", "sha256"])
        .args(["-show_entries", "packet=pts,dts,flags,data_hash", "-of", "compact=p=0"])
        .arg(file)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let packets: Vec<_> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let field = |name: &str| {
                line.split('|').find_map(|field| field.strip_prefix(&format!("{name}="))).unwrap()
            };
            let dts_ms: i64 = field("dts").parse().unwrap();
            Packet {
                dts_ms,
                cts_ms: field("pts").parse::<i64>().unwrap() - dts_ms,
                keyframe: field("flags").contains('K'),
                sha256: field("data_hash").strip_prefix("SHA256:").unwrap().to_owned(),
            }
        })
        .collect();
    assert!(!packets.is_empty(), "no {name} in {file:?}");
    packets
}

fn packet(sample: &Sample, first_dts_ms: i64) -> Packet {
    Packet {
        dts_ms: sample.dts_ms - first_dts_ms,
        cts_ms: i64::from(sample.cts_ms),
        keyframe: sample.keyframe,
        sha256: Sha256::digest(&sample.data).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Every sample of `events` is the file's, in bytes, order and time; both tracks on one clock.
async fn assert_same_media(events: &[Event], file: &PathBuf) {
    let (video, audio) = (probe(file, TrackKind::Video).await, probe(file, TrackKind::Audio).await);
    // Muxers move both tracks together so that none is before 0.
    let moved = samples(events, TrackKind::Video)[0].dts_ms - video[0].dts_ms;
    for (track, sent) in [(TrackKind::Video, video), (TrackKind::Audio, audio)] {
        let got: Vec<_> = samples(events, track).into_iter().map(|sample| packet(sample, moved)).collect();
        assert_eq!(got.len(), sent.len(), "{track:?}");
        for (at, (got, sent)) in got.iter().zip(&sent).enumerate() {
            assert_eq!(got, sent, "{track:?} {at}");
        }
    }
}

fn configs(events: &[Event]) -> Vec<&TrackConfig> {
    events.iter().filter_map(|e| if let Event::Config(config) = e { Some(config) } else { None }).collect()
}

async fn ffmpeg_pushes(b_frames: u32) -> Vec<Event> {
    let file = media(b_frames, 4).await;
    let mut server = server(config()).await;
    let encoder = push_once(&file, &url(&server, "demo"));
    let mut publish = next_publish(&mut server).await;
    assert_eq!(publish.stream.as_str(), "demo");
    let (events, gone) = whole(&mut publish.events).await;
    assert_eq!(gone, Gone::Ended);
    let ended = within(encoder.wait_with_output()).await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_same_media(&events, &file).await;
    assert!(matches!(
        configs(&events)[..],
        [TrackConfig::H264(_), TrackConfig::Aac(_)] | [TrackConfig::Aac(_), TrackConfig::H264(_)]
    ));
    let encoder =
        events.iter().find_map(|e| if let Event::Metadata(m) = e { m.encoder.clone() } else { None });
    assert!(encoder.is_some_and(|name| name.starts_with("Lavf")));
    events
}

#[tokio::test]
async fn ffmpeg_pushes_h264_and_aac_and_every_sample_arrives() {
    let events = ffmpeg_pushes(0).await;
    let video = samples(&events, TrackKind::Video);
    assert!(video.iter().all(|sample| sample.cts_ms == 0));
    assert_eq!(video.iter().filter(|sample| sample.keyframe).count(), 4);
}

#[tokio::test]
async fn ffmpeg_pushes_b_frames_with_their_composition_times() {
    let events = ffmpeg_pushes(2).await;
    assert!(samples(&events, TrackKind::Video).iter().any(|sample| sample.cts_ms > 33));
}

#[tokio::test]
async fn ffmpeg_pushes_past_24_bits_of_milliseconds() {
    // 2^24 ms are 4 h 39 min 37 s: the push begins one second before, so that headers grow under way.
    let file = media(2, 4).await;
    let mut server = server(config()).await;
    let url = url(&server, "long");
    let encoder = crate::world::ffmpeg(["-i"])
        .arg(&file)
        .args(["-c", "copy", "-output_ts_offset", "16776.2", "-f", "flv", &url])
        .spawn()
        .unwrap();
    let mut publish = next_publish(&mut server).await;
    let (events, gone) = whole(&mut publish.events).await;
    assert_eq!(gone, Gone::Ended);
    assert!(within(encoder.wait_with_output()).await.unwrap().status.success());
    let times: Vec<_> = samples(&events, TrackKind::Video).iter().map(|sample| sample.dts_ms).collect();
    assert!(times[0] < 1 << 24 && *times.last().unwrap() > 1 << 24, "{times:?}");
    assert!(times.windows(2).all(|pair| (30..=37).contains(&(pair[1] - pair[0]))), "{times:?}");
    assert_same_media(&events, &file).await;
}

#[tokio::test]
async fn gstreamer_pushes_by_rtmp2sink() {
    let mut server = server(config()).await;
    let pipeline = format!(
        "videotestsrc num-buffers=90 ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! x264enc key-int-max=30 bframes=0 speed-preset=ultrafast ! h264parse ! flvmux name=mux streamable=true \
         ! rtmp2sink location={} \
         audiotestsrc num-buffers=130 samplesperbuffer=1024 ! audio/x-raw,rate=44100,channels=2 ! avenc_aac \
         ! aacparse ! mux.",
        url(&server, "gst")
    );
    let encoder = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(pipeline.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut publish = next_publish(&mut server).await;
    let (events, gone) = whole(&mut publish.events).await;
    assert!(matches!(gone, Gone::Ended | Gone::Lost), "{gone}");
    let ended = within(encoder.wait_with_output()).await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let (video, audio) = (samples(&events, TrackKind::Video), samples(&events, TrackKind::Audio));
    assert_eq!(video.len(), 90);
    assert!(audio.len() >= 129, "{}", audio.len());
    assert_eq!(video.iter().filter(|sample| sample.keyframe).count(), 3);
    assert!(video.windows(2).all(|pair| (32..=35).contains(&(pair[1].dts_ms - pair[0].dts_ms))));
    assert_eq!(configs(&events).len(), 2);
}

#[tokio::test]
async fn a_publisher_that_was_killed_comes_back_at_once() {
    let file = media(0, 4).await;
    let mut server = server(config()).await;
    let url = url(&server, "demo");
    let mut first = push_for_ever(&file, &url);
    let mut publish = next_publish(&mut server).await;
    next_sample(&mut publish.events, TrackKind::Video).await;
    first.kill().await.unwrap();
    let killed = std::time::Instant::now();
    let second = push_for_ever(&file, &url);
    let mut again = next_publish(&mut server).await;
    next_sample(&mut again.events, TrackKind::Video).await;
    assert!(killed.elapsed().as_secs() < 5, "{:?}", killed.elapsed());
    assert_eq!(server.counts().refused, 0);
    let (_, gone) = whole(&mut publish.events).await;
    assert_eq!(gone, Gone::Lost);
    drop(second);
}
