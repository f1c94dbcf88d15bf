//! HEVC, AV1 and Opus as ffmpeg 8 sends them by enhanced RTMP: what comes out keeps the rules, and Debian's ffmpeg reads
//! and plays it without a complaint, pictures and sound in step.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use millstream_playlist::check;
use tokio::process::{Child, Command};

use crate::{
    step,
    world::{KEY, World, assert_clean, ffmpeg, follow, within},
};

/// Open GOPs and B-frames, as x265 makes them when nobody says otherwise.
const HEVC: &str = "-c:v libx265 -preset ultrafast -x265-params \
                    log-level=none:keyint=60:min-keyint=60:scenecut=0:open-gop=1:bframes=2:b-adapt=0";
const AV1: &str = "-c:v libsvtav1 -preset 12 -g 60";
const OPUS: &str = "-c:a libopus -b:a 96k";

/// The ffmpeg that `scripts/setup-ffmpeg` fetched.
pub(crate) fn ffmpeg_8() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ffmpeg-8/ffmpeg");
    assert!(path.exists(), "scripts/setup-ffmpeg has not run yet");
    path
}

/// An encoder that pushes `file` over and over, until it is killed.
fn push(file: &Path, url: &str) -> Child {
    Command::new(ffmpeg_8())
        .args(["-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(file)
        .args(["-map", "0", "-c", "copy", "-f", "flv", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What ffprobe says of the streams, each as `codec,width,height,sample rate,channels`.
async fn streams(world: &World) -> Vec<String> {
    let entries = "stream=codec_name,width,height,sample_rate,channels";
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-show_entries", entries, "-of", "csv=p=0", &world.url("index.m3u8")]);
    let probed = within(probe.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&probed.stderr), "");
    let said = String::from_utf8_lossy(&probed.stdout);
    // Programs are listed beside the streams: each once is enough.
    let mut streams: Vec<String> = said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    streams.sort_unstable();
    streams.dedup();
    streams
}

/// Decodes five seconds and counts the pictures.
async fn assert_plays(world: &World) {
    let mut player = ffmpeg(["-i", &world.url("index.m3u8"), "-t", "5", "-f", "null"]);
    player.args(["-progress", "pipe:1", "-"]).stdout(Stdio::piped());
    let played = within(player.output()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&played.stderr), "");
    let out = String::from_utf8_lossy(&played.stdout);
    let frames = out.lines().rev().find_map(|line| line.strip_prefix("frame=")?.trim().parse::<u32>().ok());
    assert!(frames.is_some_and(|frames| frames >= 145), "decoded {frames:?} of 150 frames");
}

/// Pushes 20 s coded so, and looks at all that comes out.
async fn through(name: &str, coding: &str, codecs: &str, probed: &[&str]) {
    let world = World::start(|_| {}).await;
    let file = step::coded(&format!("step-{name}.mkv"), coding).await;
    let _encoder = push(&file, &world.rtmp(KEY));
    world.begun().await;
    let multivariant = world.text("index.m3u8").await;
    assert_clean(&check::multivariant(&multivariant), &multivariant);
    assert!(multivariant.contains(&format!("CODECS=\"{codecs}\"")), "{multivariant}");
    let (video, audio) = tokio::join!(follow(&world, "video", 20), follow(&world, "audio", 20));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    for segment in check::Playlist::parse(&video).segments.iter().filter(|segment| segment.uri.is_some()) {
        // The keyframe of an open GOP is decoded up to two pictures before it is shown.
        assert!((1_930_000..=2_070_000).contains(&segment.duration), "{video}");
        assert!(segment.parts.first().is_none_or(|part| part.independent), "{video}");
    }
    assert_eq!(streams(&world).await, probed);
    assert_plays(&world).await;
    step::assert_in_step(&world, 6).await;
    assert!(world.stop().await.is_empty());
}

#[tokio::test]
async fn hevc_and_opus_play_in_step() {
    let probed = ["hevc,320,180", "opus,48000,1"];
    through("hevc-opus", &format!("{HEVC} {OPUS}"), "hvc1.1.6.L60.90,opus", &probed).await;
}

#[tokio::test]
async fn av1_and_opus_play_in_step() {
    let probed = ["av1,320,180", "opus,48000,1"];
    through("av1-opus", &format!("{AV1} {OPUS}"), "av01.0.00M.08,opus", &probed).await;
}

#[tokio::test]
async fn hevc_and_aac_play_in_step() {
    let probed = ["aac,48000,1", "hevc,320,180"];
    through("hevc-aac", &format!("{HEVC} -c:a aac -b:a 96k"), "hvc1.1.6.L60.90,mp4a.40.2", &probed).await;
}

#[tokio::test]
async fn opus_packets_of_sixty_milliseconds_in_surround_play_in_step() {
    let opus = "-c:a libopus -b:a 192k -frame_duration 60 -af aformat=channel_layouts=5.1 -mapping_family 1";
    let coding = format!("-c:v libx264 -preset veryfast -g 60 -keyint_min 60 -sc_threshold 0 -bf 2 {opus}");
    let probed = ["h264,320,180", "opus,48000,6"];
    through("h264-surround", &coding, "avc1.64000D,opus", &probed).await;
}

#[tokio::test]
async fn of_two_soundtracks_the_first_is_taken() {
    let world = World::start(|_| {}).await;
    let coding = format!("{AV1} -map 0:v -map 1:a -map 1:a -c:a:0 libopus -c:a:1 aac");
    let _encoder = push(&step::coded("step-two-sounds.mkv", &coding).await, &world.rtmp(KEY));
    world.begun().await;
    follow(&world, "audio", 8).await;
    assert_eq!(streams(&world).await, ["av1,320,180", "opus,48000,1"]);
}

#[tokio::test]
async fn an_encoder_that_comes_back_with_another_codec_is_a_discontinuity_under_a_new_catalog() {
    let world = World::start(|_| {}).await;
    let first = push(&step::coded("step-av1-opus.mkv", &format!("{AV1} {OPUS}")).await, &world.rtmp(KEY));
    world.begun().await;
    follow(&world, "video", 12).await;
    drop(first);
    world.state("away").await;
    let _second = push(&step::coded("step-hevc-opus.mkv", &format!("{HEVC} {OPUS}")).await, &world.rtmp(KEY));
    world.state("live").await;
    let video = follow(&world, "video", 24).await;
    assert!(video.contains("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"video/init-1-"), "{video}");
    let multivariant = world.text("index.m3u8").await;
    assert!(multivariant.contains("CODECS=\"hvc1.1.6.L60.90,opus\""), "{multivariant}");
}
