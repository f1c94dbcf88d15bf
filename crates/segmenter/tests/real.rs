//! Real H.264 and AAC, made by ffmpeg at test time, through the segmenter and back into ffmpeg's hands.
//!
//! What comes out must be what went in: every frame, in order, at its time, in step with the audio, decoding to the
//! same pictures without a word of complaint.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so and stop")]

mod kit;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use kit::{World, flv};
use millstream_model::{RenditionId, WallTime};
use millstream_segmenter::{AUDIO, Complaint, Input, Output, Sample, TrackKind, VIDEO};

/// What ffmpeg is to make.
struct Source {
    name: &'static str,
    rate: &'static str,
    gop: u32,
    b_frames: u32,
    seconds: u32,
    video: bool,
    audio: Option<u32>,
    layout: &'static str,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            name: "",
            rate: "30",
            gop: 60,
            b_frames: 0,
            seconds: 9,
            video: true,
            audio: Some(48_000),
            layout: "mono",
        }
    }
}

impl Source {
    fn flv(&self) -> Vec<u8> {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin"]);
        let seconds = self.seconds.to_string();
        if self.video {
            let picture = format!("testsrc2=size=320x180:rate={}", self.rate);
            command.args(["-f", "lavfi", "-t", &seconds, "-i", &picture]);
        }
        if let Some(rate) = self.audio {
            let layout = format!("aformat=channel_layouts={}", self.layout);
            let tone = format!("sine=frequency=440:sample_rate={rate}");
            command.args(["-f", "lavfi", "-t", &seconds, "-i", &tone]);
            command.args(["-c:a", "aac", "-b:a", "64k", "-af", &layout]);
        }
        if self.video {
            let gop = self.gop.to_string();
            let b_frames = self.b_frames.to_string();
            command.args(["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1"]);
            command.args(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"]);
            command.args(["-bf", &b_frames, "-b_strategy", "0"]);
        }
        run(command.args(["-f", "flv", "pipe:1"]))
    }
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("ffmpeg and ffprobe are installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{command:?}: {errors}");
    output.stdout
}

/// One packet as ffprobe sees it.
#[derive(Debug)]
struct Packet {
    pts: i64,
    size: usize,
    keyframe: bool,
}

/// Writes a rendition's init segment and `parts` to a file.
fn file(world: &World, rendition: RenditionId, name: &str, keep: impl Fn(u64) -> bool) -> PathBuf {
    let tracks = world.tracks();
    let track = tracks[0].iter().find(|track| track.rendition == rendition).unwrap();
    let mut bytes = track.init.to_vec();
    for part in world.parts(rendition).into_iter().filter(|part| keep(part.segment)) {
        bytes.extend_from_slice(&part.data);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("segmenter-{name}-{rendition}.mp4"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn packets(path: &Path) -> Vec<Packet> {
    let entries = "packet=pts,size,flags";
    let listed = run(Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", entries, "-of", "csv=p=0"])
        .arg(path));
    let listed = String::from_utf8(listed).unwrap();
    let packet = |line: &str| {
        let fields: Vec<&str> = line.trim().split(',').collect();
        let [pts, size, flags, ..] = fields[..] else { panic!("{line}") };
        Packet { pts: pts.parse().unwrap(), size: size.parse().unwrap(), keyframe: flags.starts_with('K') }
    };
    listed.lines().filter(|line| !line.trim().is_empty()).map(packet).collect()
}

/// A hash of every decoded picture.
fn pictures(path: &Path) -> Vec<String> {
    let hashes = run(Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-i"]).arg(path).args([
        "-map",
        "0:v",
        "-fps_mode",
        "passthrough",
        "-f",
        "framemd5",
        "pipe:1",
    ]));
    let hashes = String::from_utf8(hashes).unwrap();
    hashes
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

fn decodes(path: &Path) {
    run(Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-xerror", "-i"])
        .arg(path)
        .args(["-f", "null", "pipe:1"]));
}

fn samples(inputs: &[(Input, WallTime)], track: TrackKind) -> Vec<Sample> {
    let sample = |(input, _): &(Input, WallTime)| match input {
        Input::Sample(sample) if sample.track == track => Some(sample.clone()),
        _ => None,
    };
    inputs.iter().filter_map(sample).collect()
}

/// Sends a source through and compares both ends.
fn through(source: &Source) -> World {
    let flv = source.flv();
    let inputs = flv::read(&flv);
    let mut world = World::new();
    world.handle_all(inputs.clone());
    world.handle(Input::End, WallTime(flv::WALL_MS + 60_000));
    world.check();
    let complaints = world.complaints();
    assert!(complaints.iter().all(|told| matches!(told, Complaint::LongGop { .. })), "{complaints:?}");
    assert_eq!(world.outputs.last(), Some(&Output::Ended));

    let sent = samples(&inputs, TrackKind::Video);
    // The publisher's time of media time zero.
    let mut zero_ms = samples(&inputs, TrackKind::Audio).first().map_or(0, |sample| sample.dts_ms);
    if let Some(first) = sent.first() {
        zero_ms = first.dts_ms + i64::from(first.cts_ms);
        let path = file(&world, VIDEO, source.name, |_| true);
        decodes(&path);
        let got = packets(&path);
        assert_eq!(got.len(), sent.len(), "frames");
        for (packet, sample) in got.iter().zip(&sent) {
            let pts_ms = sample.dts_ms + i64::from(sample.cts_ms) - zero_ms;
            assert_eq!((packet.pts, packet.size), (pts_ms * 90, sample.data.len()));
            assert_eq!(packet.keyframe, sample.keyframe);
        }
        let mut shown: Vec<i64> = got.iter().map(|packet| packet.pts).collect();
        shown.sort_unstable();
        assert!(shown[0] == 0 && shown.windows(2).all(|pair| pair[0] < pair[1]), "presentation times");
        let original = path.with_extension("flv");
        std::fs::write(&original, &flv).unwrap();
        assert!(pictures(&path) == pictures(&original), "the pictures differ");
        std::fs::remove_file(original).unwrap();
        // Every segment that says so can be the first of a viewer.
        for part in
            world.parts(VIDEO).into_iter().filter(|part| part.first && part.independent).skip(1).take(2)
        {
            decodes(&file(&world, VIDEO, &format!("{}-one", source.name), |segment| segment == part.segment));
        }
    }
    let sent: Vec<Sample> =
        samples(&inputs, TrackKind::Audio).into_iter().filter(|sample| sample.dts_ms >= zero_ms).collect();
    if let Some(rate) = source.audio {
        let path = file(&world, AUDIO, source.name, |_| true);
        decodes(&path);
        let got = packets(&path);
        // Silence may fill up to a frame's room before the first sound.
        assert_eq!(got.len(), sent.len(), "audio frames");
        for (packet, sample) in got.iter().zip(&sent) {
            let pts_ms = packet.pts * 1_000 / i64::from(rate);
            assert!(pts_ms.abs_diff(sample.dts_ms - zero_ms) <= 2, "{packet:?} {}", sample.dts_ms - zero_ms);
            assert_eq!(packet.size, sample.data.len());
        }
        assert!(got.windows(2).all(|pair| pair[1].pts - pair[0].pts == 1_024));
    }
    world
}

fn segments_ms(world: &World) -> Vec<u64> {
    world.segments(VIDEO).iter().map(|ticks| ticks / 90).collect()
}

#[test]
fn no_b_frames() {
    let world = through(&Source { name: "plain", ..Source::default() });
    assert_eq!(segments_ms(&world), [2_000, 2_000, 2_000, 2_000, 1_000]);
}

#[test]
fn two_b_frames() {
    let world = through(&Source { name: "b-frames", b_frames: 2, ..Source::default() });
    assert!(segments_ms(&world)[..4].iter().all(|ms| ms.abs_diff(2_000) <= 1));
}

#[test]
fn a_gop_of_eight_seconds() {
    let world = through(&Source { name: "gop-8", gop: 240, b_frames: 2, seconds: 25, ..Source::default() });
    let segments = segments_ms(&world);
    assert!(segments.iter().all(|&ms| ms <= 4_100), "{segments:?}");
    assert!(segments[2..6].iter().all(|ms| ms.abs_diff(4_000) <= 2), "{segments:?}");
}

#[test]
fn a_gop_of_250_frames() {
    for rate in ["30", "60"] {
        through(&Source { name: "gop-250", rate, gop: 250, seconds: 20, ..Source::default() });
    }
}

#[test]
fn audio_only() {
    for rate in [44_100, 48_000] {
        through(&Source { name: "audio", video: false, audio: Some(rate), ..Source::default() });
    }
}

#[test]
fn silence_in_place_of_missing_audio_decodes() {
    for layout in ["mono", "stereo", "3.0", "4.0", "5.0", "5.1"] {
        let source = Source { name: "silence", video: false, layout, ..Source::default() };
        let inputs = flv::read(&source.flv());
        let mut world = World::new();
        world.handle_all(inputs.into_iter().filter(|(input, _)| match input {
            Input::Sample(sample) => !(4_000..6_000).contains(&sample.dts_ms),
            _ => true,
        }));
        world.check();
        let complaints = world.complaints();
        assert!(
            matches!(complaints[..], [Complaint::AudioGap { frames: 93..=95 }]),
            "{layout}: {complaints:?}"
        );
        decodes(&file(&world, AUDIO, &format!("silence-{layout}"), |_| true));
    }
}

#[test]
fn video_only() {
    through(&Source { name: "video", audio: None, b_frames: 2, ..Source::default() });
}

#[test]
fn every_usual_frame_rate() {
    for (rate, gop, milli) in [
        ("24", 48, 24_000),
        ("24000/1001", 48, 23_976),
        ("25", 50, 25_000),
        ("30000/1001", 60, 29_970),
        ("60", 120, 60_000),
        ("15", 30, 15_000),
        ("10", 20, 10_000),
    ] {
        let source =
            Source { name: "rates", rate, gop, b_frames: 2, audio: Some(44_100), ..Source::default() };
        let world = through(&source);
        let millstream_segmenter::Media::Video { frame_rate_milli, width, height } =
            world.tracks()[0][0].media
        else {
            panic!("video comes first")
        };
        assert_eq!((frame_rate_milli, width, height), (milli, 320, 180));
        assert!(
            segments_ms(&world)[..4].iter().all(|ms| ms.abs_diff(2_002) <= 3),
            "{:?}",
            segments_ms(&world)
        );
    }
}
