//! Clocks that wrap, drift and stand still, and keyframes that come as they like. Every story's output also keeps all
//! rules (see `kit::rules`).

#![cfg(test)]

mod kit;

use kit::{
    World,
    publisher::{Publisher, edit},
    rules,
};
use millstream_segmenter::{AUDIO, Complaint, TrackKind, VIDEO};

fn play(publisher: &Publisher, duration_ms: i64) -> World {
    let mut world = World::new();
    world.handle_all(publisher.play(duration_ms));
    world
}

/// Where a rendition ends, in milliseconds of media time.
fn end_ms(world: &World, rendition: millstream_model::RenditionId, timescale: u64) -> u64 {
    let last = world.parts(rendition).last().copied().cloned().unwrap();
    (last.media_time.0 + u64::from(last.duration)) * 1_000 / timescale
}

#[test]
fn a_clock_that_passes_32_bits_goes_on_as_if_nothing_was() {
    // As the ingest unwraps it: 2^32 ms are 49.7 days.
    let early = play(&Publisher { clock_ms: 1_000, ..Publisher::default() }, 20_000);
    for clock_ms in [(1_i64 << 32) - 9_700, (1 << 31) - 9_700, (1 << 24) - 9_700] {
        let late = play(&Publisher { clock_ms, ..Publisher::default() }, 20_000);
        late.check();
        assert!(late.outputs == early.outputs, "{clock_ms}");
    }
}

#[test]
fn tracks_that_drift_apart_are_kept_in_step_for_hours() {
    // A sound card's clock is off by up to 500 parts in a million, one way or the other: sound says when it was made,
    // and its samples do not fill that time, or more than fill it.
    for (ppm, duration_ms) in [(500, 1_800_000), (-500, 1_800_000), (50, 3_600_000)] {
        let inputs = edit(Publisher::default().play(duration_ms), |sample| {
            if sample.track == TrackKind::Audio {
                sample.dts_ms += sample.dts_ms * ppm / 1_000_000;
            }
            true
        });
        let mut world = World::new();
        world.handle_all(inputs);
        world.check();
        assert_eq!(world.parts(VIDEO).last().unwrap().discontinuity, 0, "{ppm}: nobody sees a cut");
        // Frame by frame, never in a lump that is heard, and no more often than the drift asks for.
        let complaints = world.complaints();
        let all_small = complaints.iter().all(|complaint| match complaint {
            Complaint::AudioGap { frames } => ppm > 0 && *frames <= 4,
            Complaint::AudioAhead { by_ms } => ppm < 0 && *by_ms <= 90,
            _ => false,
        });
        assert!(all_small, "{ppm}: {complaints:?}");
        let most = (duration_ms * ppm.abs() / 1_000_000 / 21 + 1).unsigned_abs();
        assert!(complaints.len() as u64 <= most && !complaints.is_empty(), "{ppm}: {}", complaints.len());
        // A part at the end is not whole yet, on either side.
        let sound_ms = end_ms(&world, AUDIO, 48_000);
        let at_ms = u64::try_from(duration_ms + duration_ms * ppm / 1_000_000).unwrap();
        assert!(sound_ms.abs_diff(at_ms) <= 256 + 82, "{ppm}: {sound_ms} of {at_ms}");
    }
}

#[test]
fn a_gap_in_both_tracks_is_bridged_without_a_cut() {
    // The line was gone for two and a half seconds and the encoder threw away what it could not send.
    let inputs = edit(Publisher { gop: 30, ..Publisher::default() }.play(20_000), |sample| {
        !(5_010..7_500).contains(&sample.dts_ms)
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    for rendition in [VIDEO, AUDIO] {
        assert_eq!(world.parts(rendition).last().unwrap().discontinuity, 0);
    }
    let complaints = world.complaints();
    assert!(
        matches!(complaints[..], [Complaint::LongFrame { .. }, Complaint::AudioGap { .. }])
            || matches!(complaints[..], [Complaint::AudioGap { .. }, Complaint::LongFrame { .. }]),
        "{complaints:?}"
    );
    assert!(end_ms(&world, VIDEO, 90_000).abs_diff(end_ms(&world, AUDIO, 48_000)) <= 300);
}

#[test]
fn sound_that_comes_out_of_line_stays_in_step() {
    // Two neighbours change places now and then, as relays do that carry tracks apart.
    let mut inputs = Publisher::default().play(20_000);
    let sound: Vec<usize> = (0..inputs.len())
        .filter(|at| matches!(&inputs[*at].0, millstream_segmenter::Input::Sample(s) if s.track == TrackKind::Audio))
        .collect();
    for pair in sound.chunks_exact(37) {
        inputs.swap(pair[0], pair[1]);
    }
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert_eq!(world.complaints(), []);
    assert!(end_ms(&world, AUDIO, 48_000).abs_diff(20_000) <= 277);
}

#[test]
fn keyframes_at_scene_cuts_keep_all_rules_and_begin_segments_where_they_can() {
    // As x264 does with -g 250 and scene cuts: keyframes anywhere, two frames or ten seconds apart.
    let mut noise = 11_u64;
    let mut next_ms = 0;
    let mut distances = Vec::new();
    let inputs = edit(Publisher { reorder: 2, ..Publisher::default() }.play(300_000), |sample| {
        if sample.track == TrackKind::Video {
            sample.keyframe = sample.dts_ms >= next_ms;
            if sample.keyframe {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let frames = [2, 9, 40, 61, 119, 125, 200, 250][usize::try_from(noise >> 61).unwrap()];
                distances.push(frames * 1_000 / 30);
                next_ms = sample.dts_ms + frames * 1_000 / 30;
            }
        }
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let parts = world.parts(VIDEO);
    // A segment that begins between keyframes has waited as long as a segment may.
    let segments = world.segments(VIDEO);
    let firsts: Vec<_> = parts.iter().filter(|part| part.first).collect();
    let unaligned = firsts.iter().filter(|part| !part.independent).count();
    let long = distances.iter().filter(|ms| **ms > 4_000).count();
    assert!(unaligned <= 3 * long, "{unaligned} of {}", segments.len());
    for (at, first) in firsts.iter().enumerate().skip(1) {
        let before_ms = segments[at - 1] / 90;
        assert!(first.independent || before_ms >= 1_900, "{at}: cut after {before_ms} ms for nothing");
    }
    let told: Vec<_> = world.complaints();
    assert!(told.iter().all(|told| matches!(told, Complaint::LongGop { .. })) && told.len() <= 3, "{told:?}");
    let track = &world.tracks()[0][0];
    for part in firsts.iter().filter(|part| part.independent) {
        let shown = rules::presentations(part, track)[0];
        assert!(shown.abs_diff(i64::try_from(part.media_time.0).unwrap()) <= 90 * 70, "{shown}");
    }
}

#[test]
fn a_gop_that_is_too_long_is_told_once_with_what_to_set() {
    for (rate_milli, gop, gop_ms, frames) in [
        (30_000, 250, 8_333, 60),
        (25_000, 250, 10_000, 50),
        (59_940, 500, 8_341, 120),
        (24_000, 120, 5_000, 48),
    ] {
        let world = play(&Publisher { rate_milli, gop, jitter_ms: 1, ..Publisher::default() }, 60_000);
        world.check();
        let complaints = world.complaints();
        let [ref told @ Complaint::LongGop { gop_ms: said, .. }] = complaints[..] else {
            panic!("{complaints:?}")
        };
        assert!(said.abs_diff(gop_ms) <= 3, "{said}");
        let advice = told.advice().unwrap();
        assert!(
            advice.contains(&format!("-g {frames};")) && advice.contains("Keyframe Interval 2 s"),
            "{advice}"
        );
    }
    // Every second, every four: as it should be.
    for gop in [30, 60, 120] {
        assert_eq!(play(&Publisher { gop, jitter_ms: 1, ..Publisher::default() }, 60_000).complaints(), []);
    }
}

#[test]
fn a_video_that_has_one_keyframe_is_told_while_it_goes_on() {
    let world = play(&Publisher { gop: 1_000_000, ..Publisher::default() }, 60_000);
    world.check();
    assert!(matches!(world.complaints()[..], [Complaint::LongGop { gop_ms: 12_000..=12_040, .. }]));
}

#[test]
fn the_next_publisher_is_told_anew_and_its_absence_is_no_gop() {
    let first = Publisher::default();
    let mut world = play(&first, 10_000);
    let gone = millstream_model::WallTime(first.wall_ms + 10_000);
    world.handle(millstream_segmenter::Input::Gone, gone);
    let back = Publisher { clock_ms: 30_000, wall_ms: first.wall_ms + 30_000, ..Publisher::default() };
    world.handle_all(back.play(10_000));
    assert_eq!(world.complaints(), []);
    for n in 2..4 {
        world.handle(millstream_segmenter::Input::Gone, gone);
        let long = Publisher { gop: 250, wall_ms: first.wall_ms + n * 60_000, ..Publisher::default() };
        world.handle_all(long.play(30_000));
    }
    world.check();
    assert_eq!(world.complaints().len(), 2, "{:?}", world.complaints());
}
