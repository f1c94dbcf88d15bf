//! Real H.264 through a real ladder: every rung has the publisher's pictures at their times, keyframes where its
//! segments begin and nowhere else, and decodes without a word of complaint.
#![cfg(test)]

#[allow(dead_code, reason = "the segmenter's own tests use the rest")]
#[path = "../../segmenter/tests/kit/flv.rs"]
mod flv;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use millstream_model::{RenditionId, WallTime};
use millstream_pipeline::ladder::{Error, Event, Ladder, Preset, Rung, Source};
use millstream_segmenter::{
    Coded, Config, Follow, Follower, Input, Output, Part, Picture, Sample, Segmenter, Track, TrackConfig,
    TrackKind, VIDEO, describe,
};
use mp4_atom::{Atom as _, Decode as _, Header, Moof};

/// Longer than any machine takes for what is done here.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("ffmpeg and ffprobe are installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{command:?}: {errors}");
    output.stdout
}

/// Six seconds of 640×360 at 30 frames a second.
fn encode(options: &str) -> Vec<u8> {
    let picture = "-v error -nostdin -f lavfi -t 6 -i testsrc2=size=640x360:rate=30";
    let codec = "-c:v libx264 -preset veryfast -threads 1 -sc_threshold 0 -pix_fmt yuv420p";
    let arguments = [picture, codec, options, "-f flv pipe:1"].join(" ");
    run(Command::new("ffmpeg").args(arguments.split_whitespace()))
}

/// What the segmenter makes of it.
struct Stream {
    config: TrackConfig,
    track: Track,
    pictures: Vec<Picture>,
    parts: Vec<Part>,
}

fn cut(flv: &[u8]) -> Stream {
    cut_inputs(flv::read(flv))
}

fn cut_inputs(mut inputs: Vec<(Input, WallTime)>) -> Stream {
    let mut segmenter = Segmenter::new(Config::default()).with_pictures();
    let (mut track, mut pictures, mut parts) = (None, Vec::new(), Vec::new());
    inputs.push((Input::Gone, inputs.last().unwrap().1));
    for (input, wall) in inputs {
        segmenter.handle(input, wall);
        while let Some(output) = segmenter.poll() {
            match output {
                Output::Tracks(mut tracks) => track = Some(tracks.remove(0)),
                Output::Picture(picture) => pictures.push(picture),
                Output::Part(part) if part.rendition == VIDEO => parts.push(part),
                _ => {}
            }
        }
    }
    Stream { config: segmenter.video_config().unwrap(), track: track.unwrap(), pictures, parts }
}

fn rungs() -> [Rung; 2] {
    [(480, 270, 500), (320, 180, 300)].map(|(width, height, bitrate_kbps)| Rung {
        width,
        height,
        bitrate_kbps,
        preset: Preset::Veryfast,
    })
}

/// Everything that comes of a ladder until all rungs are finished or it has failed.
fn climb(stream: &Stream, rungs: &[Rung]) -> (Vec<Event>, u64) {
    let (wake, woken) = mpsc::channel();
    let source = Source { config: stream.config.clone(), frame_rate_milli: 30_000 };
    let mut ladder = Ladder::start(&source, rungs, move || wake.send(()).unwrap_or_default()).unwrap();
    let mut events = Vec::new();
    let mut pictures = stream.pictures.iter();
    // As a publisher does, who never sends seconds at once.
    for part in stream.pictures.chunks(10) {
        pictures.by_ref().take(part.len()).for_each(|picture| ladder.push(picture));
        let sent = part.iter().map(|picture| picture.shown.0).min().unwrap();
        let come = |events: &[Event]| {
            let all = (0..rungs.len())
                .all(|rung| coded(events, rung).last().is_some_and(|coded| coded.shown.0 >= sent));
            all || events.iter().any(|event| matches!(event, Event::Failed { .. }))
        };
        while !come(&events) {
            woken.recv_timeout(PATIENCE).expect("something comes of it");
            events.extend(std::iter::from_fn(|| ladder.poll()));
        }
    }
    ladder.finish();
    let over = |events: &[Event]| {
        let finished = events.iter().filter(|event| matches!(event, Event::Finished { .. })).count();
        finished == rungs.len() || events.iter().any(|event| matches!(event, Event::Failed { .. }))
    };
    while !over(&events) {
        woken.recv_timeout(PATIENCE).expect("something comes of it");
        events.extend(std::iter::from_fn(|| ladder.poll()));
    }
    let dropped = ladder.dropped();
    (events, dropped)
}

fn coded(events: &[Event], wanted: usize) -> Vec<Coded> {
    let of = |event: &Event| match event {
        Event::Coded { rung, coded } if *rung == wanted => Some(coded.clone()),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn record(events: &[Event], wanted: usize) -> Bytes {
    let of = |event: &Event| match event {
        Event::Described { rung, record } if *rung == wanted => Some(record.clone()),
        _ => None,
    };
    let records: Vec<Bytes> = events.iter().filter_map(of).collect();
    assert_eq!(records.len(), 1, "described once");
    records[0].clone()
}

/// A rung's init segment and parts in a file.
fn file(stream: &Stream, events: &[Event], rung: usize, name: &str) -> PathBuf {
    let rendition = RenditionId(u8::try_from(2 + rung).unwrap());
    let track = describe(rendition, record(events, rung), &stream.track).unwrap();
    let mut follower = Follower::new(rendition);
    stream.pictures.iter().for_each(|picture| follower.handle(Follow::Picture(picture)));
    stream.parts.iter().for_each(|part| follower.handle(Follow::Part(part)));
    coded(events, rung).into_iter().for_each(|coded| follower.handle(Follow::Coded(coded)));
    follower.handle(Follow::Finish);
    let mut bytes = track.init.to_vec();
    let mut parts = 0;
    while let Some(output) = follower.poll() {
        let Output::Part(part) = output else { panic!("{output:?}") };
        bytes.extend_from_slice(&part.data);
        parts += 1;
    }
    assert_eq!(parts, stream.parts.len());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ladder-{name}-{rung}.mp4"));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_rung_has_the_pictures_at_their_times_and_keyframes_where_segments_begin() {
    // Closed GOPs, two B-frames, and a GOP too long for a segment.
    for (name, options) in
        [("plain", "-g 60 -bf 0"), ("bframes", "-g 60 -bf 2 -b_strategy 0"), ("long", "-g 300 -bf 0")]
    {
        let stream = cut(&encode(options));
        let (events, dropped) = climb(&stream, &rungs());
        assert_eq!(dropped, 0, "{name}: this machine is far too slow for tests");
        let mut expected: Vec<u64> = stream.pictures.iter().map(|picture| picture.shown.0).collect();
        expected.sort_unstable();
        let starts: Vec<u64> =
            stream.parts.iter().filter(|part| part.first).map(|part| part.media_time.0).collect();
        assert!(starts.len() >= 2, "{name}");
        for (rung, size) in [(0, "480,270"), (1, "320,180")] {
            let frames = coded(&events, rung);
            let shown: Vec<u64> = frames.iter().map(|frame| frame.shown.0).collect();
            assert_eq!(shown, expected, "{name}: each picture, in order, at its time");
            let keyframes: Vec<u64> =
                frames.iter().filter(|frame| frame.keyframe).map(|frame| frame.shown.0).collect();
            assert_eq!(keyframes, starts, "{name}: keyframes");
            let path = file(&stream, &events, rung, name);
            let probed = run(Command::new("ffprobe")
                .args(["-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"])
                .arg(&path));
            assert!(String::from_utf8(probed).unwrap().starts_with(size), "{name}");
            // Decodes without a word.
            run(Command::new("ffmpeg")
                .args(["-v", "error", "-nostdin", "-i"])
                .arg(&path)
                .args(["-f", "null", "-"]));
        }
    }
}

/// Makes a configuration of a record.
type Configure = fn(Bytes) -> TrackConfig;

/// A whole MP4 with a fragment for each frame, as an ingest hands it over. A keyframe each `gop` frames.
fn read_mp4(mp4: &[u8], config: Configure, name: [u8; 4], gop: usize) -> Vec<(Input, WallTime)> {
    let at = mp4.windows(4).position(|window| window == name).unwrap();
    let size = u32::from_be_bytes(mp4[at - 4..at].try_into().unwrap());
    let record = Bytes::copy_from_slice(&mp4[at + 4..at - 4 + usize::try_from(size).unwrap()]);
    let mut inputs = vec![(Input::Config(config(record)), WallTime(0))];
    let (mut rest, mut time, mut frames) = (mp4, (0, 0), 0);
    while let Ok(header) = Header::decode(&mut rest) {
        let (body, after) = rest.split_at(header.size.unwrap());
        if header.kind == b"moof".into() {
            let moof = Moof::decode_body(&mut &body[..]).unwrap();
            let traf = &moof.traf[0];
            let cts = traf.trun[0].samples.get(0).and_then(|sample| sample.cts).unwrap_or(0);
            time = (traf.tfdt.as_ref().unwrap().base_media_decode_time, cts);
        } else if header.kind == b"mdat".into() {
            // Thirty thousand ticks a second.
            let (dts_ms, cts_ms) = (i64::try_from(time.0 / 30).unwrap(), i32::try_from(time.1 / 30).unwrap());
            let (data, keyframe) = (Bytes::copy_from_slice(body), frames % gop == 0);
            let track = TrackKind::Video;
            let sample = Sample { track, dts_ms, cts_ms, keyframe, data };
            inputs.push((Input::Sample(sample), WallTime(dts_ms.unsigned_abs())));
            frames += 1;
        }
        rest = after;
    }
    inputs
}

#[test]
fn ladders_of_hevc_and_av1_are_as_those_of_h264() {
    let hevc = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params \
                keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=2:log-level=none";
    let av1 = "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 60 -keyint_min 60 -lag-in-frames 0 -b:v 500k";
    let codecs: [(&str, Configure, [u8; 4]); 2] =
        [(hevc, TrackConfig::Hevc, *b"hvcC"), (av1, TrackConfig::Av1, *b"av1C")];
    for (options, config, name) in codecs {
        let picture = "-v error -nostdin -f lavfi -t 5 -i testsrc2=size=480x270:rate=30 -pix_fmt yuv420p";
        let output = "-video_track_timescale 30000 -movflags delay_moov+frag_every_frame+default_base_moof -f mp4 pipe:1";
        let arguments = [picture, options, output].join(" ");
        let mp4 = run(Command::new("ffmpeg").args(arguments.split_whitespace()));
        let stream = cut_inputs(read_mp4(&mp4, config, name, 60));
        assert_eq!(stream.pictures.len(), 150, "{options}");
        let rungs = [Rung { width: 320, height: 180, bitrate_kbps: 300, preset: Preset::Veryfast }];
        let (events, dropped) = climb(&stream, &rungs);
        assert_eq!(dropped, 0, "this machine is far too slow for tests");
        let frames = coded(&events, 0);
        let mut expected: Vec<u64> = stream.pictures.iter().map(|picture| picture.shown.0).collect();
        expected.sort_unstable();
        assert_eq!(frames.iter().map(|frame| frame.shown.0).collect::<Vec<_>>(), expected, "{options}");
        let starts = stream.parts.iter().filter(|part| part.first).map(|part| part.media_time.0);
        let keyframes = frames.iter().filter(|frame| frame.keyframe).map(|frame| frame.shown.0);
        assert_eq!(keyframes.collect::<Vec<_>>(), starts.collect::<Vec<_>>(), "{options}");
    }
}

#[test]
fn what_is_no_video_makes_a_ladder_fail_and_nothing_else() {
    let mut stream = cut(&encode("-g 60 -bf 0"));
    for (n, picture) in stream.pictures.iter_mut().enumerate() {
        picture.data = Bytes::from(vec![u8::try_from(n % 256).unwrap(); 900]);
    }
    let (wake, woken) = mpsc::channel();
    let source = Source { config: stream.config.clone(), frame_rate_milli: 30_000 };
    let mut ladder = Ladder::start(&source, &rungs(), move || wake.send(()).unwrap_or_default()).unwrap();
    stream.pictures.iter().for_each(|picture| ladder.push(picture));
    ladder.finish();
    let mut last = BTreeMap::new();
    while last.len() < rungs().len() {
        woken.recv_timeout(PATIENCE).expect("it says that nothing comes");
        while let Some(event) = ladder.poll() {
            match event {
                Event::Finished { rung } => drop(last.insert(rung, ())),
                Event::Failed { .. } => return,
                Event::Coded { .. } | Event::Described { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn sound_has_no_decoder_here() {
    let source = Source { config: TrackConfig::Aac(Bytes::from_static(&[0x11, 0x90])), frame_rate_milli: 0 };
    let error = Ladder::start(&source, &rungs(), || {}).unwrap_err();
    assert_eq!(error, Error::Codec);
}

/// Threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_ladder_that_is_dropped_leaves_no_thread() {
    let stream = cut(&encode("-g 60 -bf 0"));
    // GStreamer keeps a pool.
    drop(climb(&stream, &rungs()));
    #[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
    let settle = |most: usize| {
        for _ in 0..600 {
            if threads() <= most {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100)); // waits because threads end without telling anybody
        }
        false
    };
    assert!(settle(4), "{} threads", threads());
    let before = threads();
    for _ in 0..5 {
        let source = Source { config: stream.config.clone(), frame_rate_milli: 30_000 };
        let mut ladder = Ladder::start(&source, &rungs(), || {}).unwrap();
        stream.pictures.iter().take(90).for_each(|picture| ladder.push(picture));
        // In the middle of everything.
        drop(ladder);
    }
    assert!(settle(before), "{} threads after {before}", threads());
}
