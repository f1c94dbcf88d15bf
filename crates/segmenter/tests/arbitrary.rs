//! Whatever a publisher sends, in whatever order and at whatever time: no panic, every rule kept, memory bounded.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so and stop")]

mod kit;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use kit::{World, publisher};
use millstream_model::WallTime;
use millstream_segmenter::{AUDIO, Input, Sample, TrackConfig, TrackKind, VIDEO};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

/// Counts what the segmenter holds: a sample's bytes as long as anybody has them.
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

    /// The bounds of `hold` and of an open part, and the frame that is held back.
    fn check(&self) {
        let (samples, bytes) = (self.samples.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        assert!(samples <= 4_001, "{samples} samples are held");
        assert!(bytes <= 40 * 1024 * 1024, "{bytes} bytes are held");
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

#[derive(Debug, Clone)]
enum Step {
    /// Time since the track's sample before; composition offset; keyframe; bytes.
    Video(i64, i32, bool, usize),
    Audio(i64, usize),
    Config(u8),
    Garbage(Vec<u8>),
    Gone,
    /// The wall's clock is set.
    Wall(u64),
    /// A track's clock is set.
    Clock(bool, i64),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let gap = |usual: i64| {
        prop_oneof![
            60 => usual - 1..=usual + 1,
            4 => 0..200_i64,
            2 => -600..0_i64,
            2 => 200..3_200_i64,
        ]
    };
    let cts = prop_oneof![10 => Just(0_i32), 5 => 0..200_i32, 1 => any::<i32>()];
    let size = prop_oneof![40 => 1..400_usize, 1 => Just(0_usize), 1 => 1..9_000_000_usize];
    let small = prop_oneof![40 => 1..100_usize, 1 => Just(0_usize)];
    prop_oneof![
        300 => (gap(33), cts, prop::bool::weighted(0.05), size)
            .prop_map(|(gap, cts, keyframe, size)| Step::Video(gap, cts, keyframe, size)),
        300 => (gap(21), small).prop_map(|(gap, size)| Step::Audio(gap, size)),
        6 => any::<u8>().prop_map(Step::Config),
        2 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Garbage),
        4 => Just(Step::Gone),
        2 => any::<u64>().prop_map(Step::Wall),
        2 => (any::<bool>(), any::<i64>()).prop_map(|(video, at)| Step::Clock(video, at)),
        1 => (any::<bool>(), 0..100_000_i64).prop_map(|(video, at)| Step::Clock(video, at)),
        1 => Just(Step::End),
    ]
}

fn play(steps: Vec<Step>) -> World {
    let mut world = World::new();
    let live = Live::default();
    let (mut video_ms, mut audio_ms, mut wall_ms) = (0_i64, 0_i64, 1_700_000_000_000_u64);
    for config in [publisher::avc(), publisher::aac()] {
        world.handle(Input::Config(config), WallTime(wall_ms));
    }
    for step in steps {
        let input = match step {
            Step::Video(gap, cts_ms, keyframe, size) => {
                video_ms = video_ms.saturating_add(gap);
                wall_ms = wall_ms.saturating_add(gap.max(0).unsigned_abs());
                let data = live.data(keyframe, size);
                Input::Sample(Sample { track: TrackKind::Video, dts_ms: video_ms, cts_ms, keyframe, data })
            }
            Step::Audio(gap, size) => {
                audio_ms = audio_ms.saturating_add(gap);
                let data = live.data(true, size);
                Input::Sample(Sample {
                    track: TrackKind::Audio,
                    dts_ms: audio_ms,
                    cts_ms: 0,
                    keyframe: true,
                    data,
                })
            }
            Step::Config(n) => Input::Config(match n % 16 {
                0 => publisher::other_avc(),
                1 => publisher::other_aac(),
                2..=5 => publisher::avc(),
                6..=9 => publisher::aac(),
                _ => publisher::some_codec(n / 16),
            }),
            Step::Garbage(bytes) => Input::Config(match bytes.len() % 5 {
                0 => TrackConfig::H264(bytes.into()),
                1 => TrackConfig::Hevc(bytes.into()),
                2 => TrackConfig::Av1(bytes.into()),
                3 => TrackConfig::Aac(bytes.into()),
                _ => TrackConfig::Opus(bytes.into()),
            }),
            Step::Gone => Input::Gone,
            Step::Wall(ms) => {
                wall_ms = ms;
                continue;
            }
            Step::Clock(true, at) => {
                video_ms = at;
                continue;
            }
            Step::Clock(false, at) => {
                audio_ms = at;
                continue;
            }
            Step::End => Input::End,
        };
        world.handle(input, WallTime(wall_ms));
        live.check();
    }
    world.handle(Input::End, WallTime(wall_ms));
    assert_eq!(live.samples.load(Ordering::Relaxed), 0, "samples are held after the end");
    world
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_keeps_the_rules(steps in prop::collection::vec(step(), 0..1_500)) {
        play(steps).check();
    }

    /// Frames go in at any pace: what comes out is all of them, and as long as they last.
    #[test]
    fn any_pace_loses_nothing(gaps in prop::collection::vec(1..400_i64, 2..400), gop in 1..90_usize) {
        let steps = gaps.iter().enumerate().map(|(n, &gap)| Step::Video(gap, 0, n % gop == 0, 100)).collect();
        let world = play(steps);
        world.check();
        let parts = world.parts(VIDEO);
        let frames: usize = parts.iter().map(|part| kit::rules::durations(part).len()).sum();
        if world.parts(AUDIO).is_empty() && !parts.is_empty() {
            prop_assert_eq!(frames, gaps.len());
            let last = parts.last().unwrap();
            let spanned = i64::try_from(last.media_time.0).unwrap() / 90;
            prop_assert!(spanned <= gaps[1..].iter().sum());
        }
    }
}

/// Sends `count` of one sample, each `gap_ms` after the other, and gives the most that was held.
fn flood(
    configs: &[TrackConfig],
    track: TrackKind,
    keyframe: bool,
    gap_ms: i64,
    size: usize,
    count: i64,
) -> Live {
    let mut world = World::new();
    let live = Live::default();
    for config in configs {
        world.handle(Input::Config(config.clone()), WallTime(0));
    }
    for n in 0..count {
        let data = live.data(keyframe, size);
        let sample = Sample { track, dts_ms: n * gap_ms, cts_ms: 0, keyframe: keyframe && n == 0, data };
        world.handle(Input::Sample(sample), WallTime(0));
        world.outputs.retain(|output| !matches!(output, millstream_segmenter::Output::Complaint(_)));
        live.check();
    }
    world.check();
    live
}

#[test]
fn a_flood_of_samples_is_held_within_bounds() {
    let both = [publisher::avc(), publisher::aac()];
    for gap_ms in [0, 1, 2] {
        flood(&both, TrackKind::Video, true, gap_ms, 100, 20_000);
        flood(&both, TrackKind::Audio, true, gap_ms, 100, 20_000);
        flood(&both[..1], TrackKind::Video, true, gap_ms, 300_000, 1_000);
        flood(&both[..1], TrackKind::Video, true, gap_ms, 8 * 1024 * 1024, 30);
    }
}
