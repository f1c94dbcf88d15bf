//! Where parts and segments begin and end. Every output also keeps all rules (see `kit::rules`).

mod kit;

use kit::{
    World,
    publisher::{Publisher, edit},
    rules,
};
use millstream_model::{MediaTime, WallTime};
use millstream_segmenter::{AUDIO, Complaint, Input, Media, Output, TrackKind, VIDEO};

const SECOND: u64 = 90_000;

fn play(publisher: &Publisher, duration_ms: i64) -> World {
    let mut world = World::new();
    world.handle_all(publisher.play(duration_ms));
    world
}

#[test]
fn an_ordinary_stream_becomes_two_second_segments_of_quarter_second_parts() {
    let mut world = play(&Publisher::default(), 10_100);
    world.handle(Input::End, WallTime(1_700_000_010_100));
    world.check();
    let tracks = world.tracks();
    let [tracks] = &tracks[..] else { panic!("{tracks:?}") };
    let [video, audio] = &tracks[..] else { panic!("{tracks:?}") };
    assert_eq!(video.media, Media::Video { width: 1280, height: 720, frame_rate_milli: 30_000 });
    assert_eq!(
        (video.rendition, video.kind(), video.codec.as_str()),
        (VIDEO, TrackKind::Video, "avc1.64001F")
    );
    assert_eq!((video.timescale, video.part_target_ms), (90_000, 271));
    assert_eq!(audio.media, Media::Audio { channels: 2, sample_rate: 48_000 });
    assert_eq!((audio.timescale, audio.part_target_ms, audio.codec.as_str()), (48_000, 256, "mp4a.40.2"));
    assert_eq!(world.segments(VIDEO)[..5], [2 * SECOND; 5]);
    assert!(world.segments(AUDIO)[..5].iter().all(|&ticks| ticks.abs_diff(96_000) <= 1_024));
    let parts = world.parts(VIDEO);
    assert_eq!(parts[0].media_time, MediaTime(0));
    assert_eq!(parts[0].program_date_time, WallTime(1_700_000_000_000));
    // 8 frames each: 7 × 8 + 4 in a segment of 60.
    let lengths: Vec<usize> = parts.iter().take(8).map(|part| rules::durations(part).len()).collect();
    assert_eq!(lengths, [8, 8, 8, 8, 8, 8, 8, 4]);
    assert!(parts.iter().filter(|part| part.first).all(|part| part.independent));
    assert_eq!(world.complaints(), []);
    assert_eq!(world.outputs.last(), Some(&Output::Ended));
}

#[test]
fn a_part_is_out_one_frame_after_its_last() {
    let mut world = World::new();
    let mut waited = Vec::new();
    for (input, wall) in Publisher::default().play(6_000) {
        let before = world.parts(VIDEO).len();
        world.handle(input, wall);
        for part in &world.parts(VIDEO)[before..] {
            let last = part.program_date_time.0 + u64::from(part.duration) / 90 - 33;
            waited.push(wall.0 - last);
        }
    }
    // The first parts wait for the measurement, which takes no longer than a part.
    assert!(waited[1..].iter().all(|&ms| ms <= 34), "{waited:?}");
    assert!(waited[0] <= 67, "{waited:?}");
}

#[test]
fn segments_follow_the_keyframes_when_these_come_in_time() {
    for (gop, want) in [(30, 2_000), (60, 2_000), (90, 3_000), (45, 3_000), (120, 4_000)] {
        let world = play(&Publisher { gop, jitter_ms: 1, ..Publisher::default() }, 30_000);
        world.check();
        let segments = world.segments(VIDEO);
        let (_, whole) = segments.split_last().unwrap();
        assert!(whole.iter().all(|ticks| (ticks / 90).abs_diff(want) <= 2), "{gop}: {segments:?}");
        assert!(world.parts(VIDEO).iter().all(|part| !part.first || part.independent), "{gop}");
    }
}

#[test]
fn a_long_gop_is_cut_between_keyframes_and_finds_back_to_them() {
    for (gop, jitter_ms) in [(240, 0), (240, 1), (250, 1), (130, 1), (600, 1), (1_000, 0)] {
        let world = play(&Publisher { gop, jitter_ms, ..Publisher::default() }, 120_000);
        world.check();
        let parts = world.parts(VIDEO);
        assert!(parts.iter().any(|part| part.first && !part.independent), "{gop}: no cut between keyframes");
        let keyframes = parts.iter().filter(|part| part.first && part.independent).count();
        assert_eq!(keyframes, 3_600_usize.div_ceil(usize::try_from(gop).unwrap()), "{gop}");
        // Once the GOP's length is known its segments are alike.
        let segments = world.segments(VIDEO);
        let (_, whole) = segments.split_last().unwrap();
        let from = segments.len() / 2;
        let (least, most) = (whole[from..].iter().min().unwrap(), whole[from..].iter().max().unwrap());
        assert!(least * 100 >= most * 90, "{gop}: {segments:?}");
    }
}

#[test]
fn every_usual_frame_rate_keeps_the_part_rules_under_jitter() {
    for rate_milli in [
        5_000, 10_000, 12_000, 12_500, 15_000, 20_000, 23_976, 24_000, 25_000, 29_970, 30_000, 48_000,
        50_000, 59_940, 60_000, 120_000,
    ] {
        for jitter_ms in [0, 1] {
            let gop = (rate_milli * 2 / 1_000).max(1);
            let world = play(&Publisher { rate_milli, gop, jitter_ms, ..Publisher::default() }, 20_000);
            world.check();
            assert_eq!(world.complaints(), [], "{rate_milli}");
            let segments = world.segments(VIDEO);
            assert!(segments.len() <= 11, "{rate_milli}: {segments:?}");
            let target = world.tracks()[0][0].part_target_ms;
            assert!((200..=280).contains(&target), "{rate_milli}: {target}");
        }
    }
}

#[test]
fn very_slow_video_gets_a_part_a_frame() {
    let world = play(&Publisher { rate_milli: 1_000, gop: 2, ..Publisher::default() }, 20_000);
    world.check();
    assert_eq!(world.tracks()[0][0].part_target_ms, 1_004);
    assert!(world.parts(VIDEO).iter().all(|part| rules::durations(part).len() == 1));
    assert_eq!(world.complaints(), []);
}

#[test]
fn dropped_frames_keep_the_part_rules() {
    // Every 17th frame but keyframes is missing: the gap of two frames does not always fit.
    for rate_milli in [24_000, 25_000, 30_000, 60_000] {
        let mut n = 0;
        let inputs = edit(
            Publisher { rate_milli, gop: rate_milli / 500, ..Publisher::default() }.play(30_000),
            |sample| {
                n += i32::from(sample.track == TrackKind::Video);
                sample.track == TrackKind::Audio || sample.keyframe || n % 17 != 0
            },
        );
        let mut world = World::new();
        world.handle_all(inputs);
        world.check();
        assert_eq!(world.complaints(), [], "{rate_milli}");
    }
}

#[test]
fn a_frame_longer_than_the_part_target_is_told_and_stands_alone() {
    let inputs = edit(Publisher::default().play(20_000), |sample| {
        sample.track == TrackKind::Audio || !(5_100..6_000).contains(&sample.dts_ms)
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let complaints = world.complaints();
    let [Complaint::LongFrame { rendition, duration_ms, part_target_ms }] = complaints[..] else {
        panic!("{complaints:?}")
    };
    assert_eq!((rendition, part_target_ms), (VIDEO, 271));
    assert!((900..=940).contains(&duration_ms), "{duration_ms}");
    assert_eq!(world.parts(VIDEO).last().unwrap().discontinuity, 0);
}

#[test]
fn a_variable_frame_rate_keeps_the_rules_wherever_it_can() {
    let mut noise = 7_u64;
    let mut clock = 0;
    let inputs = edit(Publisher { audio: false, ..Publisher::default() }.play(60_000), |sample| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        clock += i64::try_from(noise >> 33).unwrap() % 180 + 5;
        sample.dts_ms = clock;
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
}
