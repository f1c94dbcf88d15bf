//! A publisher's samples, and the rules for what is made of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use millstream_model::WallTime;
use millstream_segmenter::{Complaint, Config, Input, Output, Sample, Segmenter, TrackConfig, TrackKind};
use mp4_atom::{Decode as _, Ftyp, Moov};

use crate::script::Script;

#[allow(dead_code, reason = "the segmenter's own tests use the rest")]
#[path = "../../crates/segmenter/tests/kit/publisher.rs"]
mod publisher;
#[allow(dead_code, reason = "the segmenter's own tests use the rest")]
#[path = "../../crates/segmenter/tests/kit/rules.rs"]
mod rules;

/// Samples held at most, and their bytes: what waits for a keyframe, an open part, the frame that is held back.
const HELD_SAMPLES_MAX: usize = 4_001;
const HELD_BYTES_MAX: usize = 40 << 20;

/// A segmenter whose every output is judged by the rules of the crate's own tests.
pub(crate) struct Judged {
    segmenter: Segmenter,
    outputs: Vec<Output>,
}

impl Judged {
    pub(crate) fn new() -> Self {
        Self { segmenter: Segmenter::new(Config::default()), outputs: Vec::new() }
    }

    pub(crate) fn handle(&mut self, input: Input, wall: WallTime) {
        self.segmenter.handle(input, wall);
        while let Some(output) = self.segmenter.poll() {
            // The rules ask for no other complaint than these, and a script can make thousands.
            let kept = !matches!(
                output,
                Output::Complaint(
                    Complaint::Late { .. }
                        | Complaint::Size { .. }
                        | Complaint::Composition { .. }
                        | Complaint::Ended
                )
            );
            if kept {
                self.outputs.push(output);
            }
        }
    }

    pub(crate) fn end(mut self, wall: WallTime) {
        self.handle(Input::End, wall);
        rules::check(&self.outputs);
    }
}

/// The first byte says of which track; the rest is its configuration. Then a second of samples.
pub(crate) fn setup(data: &[u8]) {
    let Some((kind, raw)) = data.split_first() else { return };
    let raw = Bytes::copy_from_slice(raw);
    let config = match kind % 8 {
        2 => TrackConfig::Hevc(raw),
        3 => TrackConfig::Opus(raw),
        4 => TrackConfig::Av1(raw),
        even if even % 2 == 0 => TrackConfig::H264(raw),
        _ => TrackConfig::Aac(raw),
    };
    let track = config.track();
    let frame: &[u8] = match config {
        TrackConfig::Av1(_) => b"\x12\0\x32\x01\x10",
        TrackConfig::Hevc(_) => b"\0\0\0\x01\x26",
        _ => b"\0\0\0\x01\x65",
    };
    let mut judged = Judged::new();
    let wall = WallTime(1_700_000_000_000);
    judged.handle(Input::Config(config), wall);
    let usable = judged.outputs.is_empty();
    for n in 0..40 {
        let keyframe = n == 0 || track == TrackKind::Audio;
        let sample = Sample { track, dts_ms: n * 30, cts_ms: 0, keyframe, data: Bytes::from_static(frame) };
        judged.handle(Input::Sample(sample), wall);
    }
    judged.handle(Input::Gone, wall);
    let tracks: Vec<_> = judged
        .outputs
        .iter()
        .filter_map(|output| if let Output::Tracks(tracks) = output { Some(tracks) } else { None })
        .flatten()
        .collect();
    assert_eq!(usable, !tracks.is_empty(), "{:?}", judged.outputs);
    for track in tracks {
        let mut init = track.init.as_ref();
        Ftyp::decode(&mut init).unwrap();
        Moov::decode(&mut init).unwrap();
        assert!(init.is_empty(), "an init segment is these two boxes");
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        assert!(track.codec.len() <= 64 && track.codec.bytes().all(sound), "{}", track.codec);
    }
    judged.end(wall);
}

pub(crate) fn segmenter(data: &[u8]) {
    let mut script = Script::new(data);
    let mut judged = Judged::new();
    let live = Live::default();
    let (mut video_ms, mut audio_ms, mut wall) = (0_i64, 0_i64, WallTime(1_700_000_000_000));
    for config in [publisher::avc(), publisher::aac()] {
        judged.handle(Input::Config(config), wall);
    }
    while script.goes_on() {
        let input = match script.byte() {
            what @ 0..=100 => {
                let gap = gap(&mut script, what, 33);
                video_ms = video_ms.saturating_add(gap);
                wall = wall.plus_millis(gap.max(0).unsigned_abs());
                let cts_ms = if what % 3 == 0 { i32::from(script.half().cast_signed()) } else { 0 };
                let keyframe = what % 20 == 0;
                let data = live.data(keyframe, size(&mut script, what));
                Input::Sample(Sample { track: TrackKind::Video, dts_ms: video_ms, cts_ms, keyframe, data })
            }
            what @ 101..=200 => {
                audio_ms = audio_ms.saturating_add(gap(&mut script, what - 101, 21));
                let data = live.data(true, usize::from(what % 50));
                Input::Sample(Sample {
                    track: TrackKind::Audio,
                    dts_ms: audio_ms,
                    cts_ms: 0,
                    keyframe: true,
                    data,
                })
            }
            // Frames at an even pace: a script of a few bytes reaches a segment's end.
            what @ 201..=225 => {
                for n in 0..=u32::from(what - 201) * 2 {
                    video_ms = video_ms.saturating_add(33);
                    wall = wall.plus_millis(33);
                    let (keyframe, data) = (n == 0, live.data(n == 0, 100));
                    let sample =
                        Sample { track: TrackKind::Video, dts_ms: video_ms, cts_ms: 0, keyframe, data };
                    judged.handle(Input::Sample(sample), wall);
                    while audio_ms < video_ms && video_ms - audio_ms < 1_000 {
                        audio_ms += 21;
                        let (dts_ms, data) = (audio_ms, live.data(true, 20));
                        let sample =
                            Sample { track: TrackKind::Audio, dts_ms, cts_ms: 0, keyframe: true, data };
                        judged.handle(Input::Sample(sample), wall);
                    }
                }
                continue;
            }
            226..=229 => Input::Config(publisher::avc()),
            230..=233 => Input::Config(publisher::aac()),
            234 | 235 => Input::Config(publisher::other_avc()),
            236 | 237 => Input::Config(publisher::other_aac()),
            238 | 239 => Input::Config(TrackConfig::H264(Bytes::copy_from_slice(script.bytes()))),
            240 => Input::Config(TrackConfig::Aac(Bytes::copy_from_slice(script.bytes()))),
            // From here on frames are looked into.
            241 => Input::Config(publisher::some_codec(script.byte())),
            242..=245 => Input::Gone,
            246 | 247 => {
                // The clock is ours: set wrongly by a person, not to the end of time.
                wall = WallTime(script.long() >> 12);
                continue;
            }
            248..=250 => {
                video_ms = script.long().cast_signed();
                continue;
            }
            251..=253 => {
                audio_ms = script.long().cast_signed();
                continue;
            }
            254 => Input::End,
            255 => {
                (video_ms, audio_ms) = (0, 0);
                continue;
            }
        };
        judged.handle(input, wall);
        live.check();
    }
    judged.end(wall);
    assert_eq!(live.samples.load(Ordering::Relaxed), 0, "samples are held after the end");
}

/// Milliseconds since the sample before: mostly a frame's, sometimes any.
fn gap(script: &mut Script<'_>, what: u8, usual: i64) -> i64 {
    match what % 10 {
        0..=7 => usual,
        8 => i64::from(script.byte()),
        _ => i64::from(script.half()) - 1_000,
    }
}

fn size(script: &mut Script<'_>, what: u8) -> usize {
    match what % 32 {
        31 => usize::from(script.half()) << 8,
        30 => 0,
        _ => usize::from(what) + 1,
    }
}

/// Counts what is held: a sample's bytes as long as anybody has them.
#[derive(Clone, Default)]
struct Live {
    samples: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

struct Counted {
    data: Vec<u8>,
    live: Live,
}

impl Live {
    fn data(&self, keyframe: bool, len: usize) -> Bytes {
        self.samples.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        Bytes::from_owner(Counted { data: publisher::frame(keyframe, len), live: self.clone() })
    }

    fn check(&self) {
        let (samples, bytes) = (self.samples.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        assert!(
            samples <= HELD_SAMPLES_MAX && bytes <= HELD_BYTES_MAX,
            "{samples} samples, {bytes} bytes are held"
        );
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.samples.fetch_sub(1, Ordering::Relaxed);
        self.live.bytes.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}
