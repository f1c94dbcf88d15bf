//! What publishers do, and what becomes of it. Every story's output also keeps all rules (see `kit::rules`).

mod kit;

use kit::{
    World,
    publisher::{self, Publisher, edit},
    rules,
};
use millstream_model::{MediaTime, WallTime};
use millstream_segmenter::{
    AUDIO, Complaint, Config, Input, NextSegment, Output, TrackConfig, TrackKind, VIDEO,
};

const SECOND: u64 = 90_000;

fn play(publisher: &Publisher, duration_ms: i64) -> World {
    let mut world = World::new();
    world.handle_all(publisher.play(duration_ms));
    world
}

#[test]
fn b_frames_are_presented_in_step_with_the_audio() {
    let world = play(&Publisher { reorder: 2, ..Publisher::default() }, 10_000);
    world.check();
    // The first picture is shown at the start of media time, although it was decoded 67 ms before it was due.
    assert_eq!(world.parts(VIDEO)[0].media_time, MediaTime(0));
    let track = &world.tracks()[0][0];
    let mut shown: Vec<i64> =
        world.parts(VIDEO).iter().flat_map(|part| rules::presentations(part, track)).collect();
    assert_eq!(shown[0], 0);
    shown.sort_unstable();
    assert!(shown[0] >= 0);
    // Audio of the publisher's time 66 ms (its fourth frame at 64 is before it; the fifth, at 85, is 19 ms after).
    let audio = world.parts(AUDIO);
    assert_eq!(audio[0].media_time, MediaTime(48 * 19));
    // A segment's first picture is shown at the segment's time.
    for part in world.parts(VIDEO).iter().filter(|part| part.first) {
        assert_eq!(rules::presentations(part, track)[0], i64::try_from(part.media_time.0).unwrap());
    }
}

#[test]
fn audio_counts_samples_and_does_not_follow_the_jitter_of_the_clock() {
    let world = play(&Publisher { jitter_ms: 8, ..Publisher::default() }, 20_000);
    let parts = world.parts(AUDIO);
    let durations: Vec<u32> = parts.iter().flat_map(|part| rules::durations(part)).collect();
    assert!(durations.iter().all(|&ticks| ticks == 1_024));
    assert!(
        !world
            .complaints()
            .iter()
            .any(|c| matches!(c, Complaint::AudioGap { .. } | Complaint::AudioAhead { .. }))
    );
}

#[test]
fn missing_audio_becomes_silence_and_stays_in_step() {
    let inputs = edit(Publisher::default().play(20_000), |sample| {
        sample.track == TrackKind::Video || !(5_000..6_500).contains(&sample.dts_ms)
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let complaints = world.complaints();
    let [Complaint::AudioGap { frames }] = complaints[..] else { panic!("{complaints:?}") };
    assert!((70..=71).contains(&frames), "{frames}");
    let last = world.parts(AUDIO).last().copied().cloned().unwrap();
    let end = last.media_time.0 + u64::from(last.duration);
    assert!(end.abs_diff(20 * 48_000) < 13 * 1_024, "{end}");
}

#[test]
fn too_much_audio_is_thinned_out() {
    // 1 % more frames than time for them.
    let inputs = edit(Publisher::default().play(60_000), |sample| {
        if sample.track == TrackKind::Audio {
            sample.dts_ms = sample.dts_ms * 99 / 100;
        }
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let dropped = world.complaints().len();
    assert!(world.complaints().iter().all(|c| matches!(c, Complaint::AudioAhead { by_ms: 60..=90 })));
    assert!((22..=30).contains(&dropped), "{dropped}");
}

#[test]
fn video_alone_starts_after_a_bounded_wait() {
    let world = play(&Publisher { audio: false, ..Publisher::default() }, 10_000);
    world.check();
    assert_eq!(world.tracks()[0].len(), 1);
    assert_eq!(world.segments(VIDEO)[..4], [2 * SECOND; 4]);
    let mut world = World::new();
    for (input, wall) in (Publisher { audio: false, ..Publisher::default() }).play(2_034) {
        world.handle(input, wall);
    }
    assert!(!world.parts(VIDEO).is_empty(), "it waits for longer than two seconds");
}

#[test]
fn audio_alone_starts_after_a_bounded_wait() {
    let world = play(&Publisher { rate_milli: 0, ..Publisher::default() }, 10_000);
    world.check();
    let tracks = world.tracks();
    assert_eq!((tracks.len(), tracks[0].len(), tracks[0][0].rendition), (1, 1, AUDIO));
    assert!(world.parts(AUDIO).iter().all(|part| part.independent));
    assert!(world.segments(AUDIO).len() >= 4);
}

#[test]
fn tracks_that_start_apart_begin_together() {
    for (video_late_ms, audio_late_ms) in [(1_900, 0), (0, 1_900), (700, 20)] {
        let world = play(&Publisher { video_late_ms, audio_late_ms, ..Publisher::default() }, 10_000);
        world.check();
        let tracks = world.tracks();
        assert_eq!((tracks.len(), tracks[0].len()), (1, 2));
        let (video, audio) = (world.parts(VIDEO)[0], world.parts(AUDIO)[0]);
        assert_eq!(video.media_time, MediaTime(0));
        assert!(audio.media_time.0 < 1_024, "{:?}", audio.media_time);
        // In step at the end, too.
        let last = world.parts(AUDIO).last().copied().cloned().unwrap();
        let end_ms = (last.media_time.0 + u64::from(last.duration)) / 48;
        let sent_ms = u64::try_from(10_000 - video_late_ms).unwrap();
        assert!(end_ms.abs_diff(sent_ms) <= 277, "{end_ms} of {sent_ms}");
    }
}

#[test]
fn what_comes_before_the_first_keyframe_is_dropped() {
    let inputs = edit(Publisher::default().play(10_000), |sample| {
        if sample.track == TrackKind::Video && sample.dts_ms < 1_000 {
            sample.keyframe = false;
        }
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert_eq!(world.complaints(), [Complaint::NoKeyframe]);
    assert_eq!(world.parts(VIDEO)[0].program_date_time, WallTime(1_700_000_002_000));
    assert!(world.parts(AUDIO)[0].media_time.0 < 1_024);
}

#[test]
fn samples_before_their_configuration_are_dropped_and_told_once() {
    let publisher = Publisher::default();
    let mut inputs = publisher.samples(10_000);
    inputs.splice(100..100, publisher.configs());
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let told = world.complaints().iter().filter(|c| matches!(c, Complaint::NoConfig { .. })).count();
    assert_eq!(told, 2);
    assert!(world.segments(VIDEO).len() >= 3);
}

#[test]
fn repeated_sequence_headers_change_nothing() {
    let publisher = Publisher::default();
    let mut plain = World::new();
    plain.handle_all(publisher.play(20_000));
    let mut repeated = World::new();
    for (n, input) in publisher.play(20_000).into_iter().enumerate() {
        if n % 20 == 0 {
            repeated.handle_all(publisher.configs());
        }
        repeated.handle(input.0, input.1);
    }
    assert_eq!(plain.outputs, repeated.outputs);
}

#[test]
fn a_publisher_that_comes_back_goes_on_after_one_discontinuity() {
    let first = Publisher { clock_ms: 4_000_000, ..Publisher::default() };
    let mut world = play(&first, 10_000);
    world.handle(Input::Gone, WallTime(first.wall_ms + 10_000));
    world.check();
    let whole: u64 = world.segments(VIDEO).iter().sum();
    assert!(whole.abs_diff(10 * SECOND) <= 90, "everything that is whole is out: {whole}");
    let before = world.outputs.len();
    let back = Publisher { clock_ms: 0, wall_ms: first.wall_ms + 15_000, ..Publisher::default() };
    world.handle_all(back.play(10_000));
    world.check();
    assert_eq!(world.tracks().len(), 1, "the tracks are the same");
    assert_eq!(world.complaints(), [], "another publisher's clock is no jump");
    for rendition in [VIDEO, AUDIO] {
        let part = world.parts(rendition).into_iter().find(|part| part.discontinuity == 1).unwrap();
        assert!(part.first && part.independent);
        assert_eq!(part.program_date_time, WallTime(first.wall_ms + 15_000));
        assert_eq!(part.media_time.micros(if rendition == VIDEO { 90_000 } else { 48_000 }), 15_000_000);
        assert_eq!(world.parts(rendition).last().unwrap().discontinuity, 1);
    }
    // Plays within a third of a second of coming back.
    let wall = first.wall_ms + 15_000 + 320;
    let mut replay = World::new();
    replay.handle_all(first.play(10_000));
    replay.handle(Input::Gone, WallTime(first.wall_ms + 10_000));
    replay.handle_all(back.play(10_000).into_iter().filter(|(_, at)| at.0 <= wall));
    assert!(replay.outputs.len() > before);
}

#[test]
fn a_publisher_whose_b_frames_change_stays_in_step() {
    // Rounding to milliseconds, and fewer B-frames, need no new init segment; more B-frames do.
    for (more_ms, listed) in [(0, 1), (1, 1), (-1, 1), (-67, 1), (50, 2)] {
        let first = Publisher { reorder: 2, ..Publisher::default() };
        let mut world = play(&first, 10_000);
        world.handle(Input::Gone, WallTime(first.wall_ms + 10_000));
        let back = Publisher { wall_ms: first.wall_ms + 12_000, ..first };
        world.handle_all(edit(back.play(10_000), |sample| {
            sample.cts_ms += if sample.track == TrackKind::Video { more_ms } else { 0 };
            true
        }));
        world.check();
        let tracks = world.tracks();
        assert_eq!(tracks.len(), listed, "{more_ms}");
        for part in world.parts(VIDEO).iter().filter(|part| part.first && part.discontinuity == 1) {
            let shown = rules::presentations(part, &tracks[listed - 1][0])[0];
            assert!(shown.abs_diff(i64::try_from(part.media_time.0).unwrap()) <= 90, "{more_ms}");
        }
    }
}

#[test]
fn a_clock_that_jumps_within_a_long_gop_waits_for_its_end() {
    let inputs = edit(Publisher { gop: 240, ..Publisher::default() }.play(40_000), |sample| {
        sample.dts_ms += if sample.dts_ms >= 9_000 { 100_000 } else { 0 };
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert_eq!(world.tracks().len(), 1, "no viewer is told that the picture is gone");
    for rendition in [VIDEO, AUDIO] {
        let part = world.parts(rendition).into_iter().find(|part| part.discontinuity == 1).unwrap();
        assert_eq!(part.program_date_time, WallTime(1_700_000_016_000));
    }
}

#[test]
fn a_publisher_that_comes_back_without_sound_is_listed_without_it() {
    let first = Publisher::default();
    let mut world = play(&first, 10_000);
    world.handle(Input::Gone, WallTime(first.wall_ms + 10_000));
    world.handle_all(
        Publisher { audio: false, wall_ms: first.wall_ms + 12_000, ..Publisher::default() }.play(10_000),
    );
    world.handle(Input::Gone, WallTime(first.wall_ms + 22_000));
    world.handle_all(Publisher { wall_ms: first.wall_ms + 25_000, ..Publisher::default() }.play(10_000));
    world.check();
    let listed: Vec<usize> = world.tracks().iter().map(|tracks| tracks.len()).collect();
    assert_eq!(listed, [2, 1, 2]);
    assert_eq!(world.parts(AUDIO).last().unwrap().discontinuity, 2);
}

#[test]
fn a_moment_of_a_publisher_between_two_others_is_harmless() {
    let first = Publisher::default();
    let mut world = play(&first, 10_000);
    for n in 1..20 {
        world.handle(Input::Gone, WallTime(first.wall_ms + 10_000 + n * 100));
        let blip = Publisher { wall_ms: first.wall_ms + 10_000 + n * 100, ..Publisher::default() };
        world.handle_all(blip.play(i64::try_from(n).unwrap() * 7));
    }
    world.handle(Input::Gone, WallTime(first.wall_ms + 13_000));
    world.handle_all(Publisher { wall_ms: first.wall_ms + 14_000, ..Publisher::default() }.play(10_000));
    world.check();
    assert_eq!(world.tracks().len(), 1);
}

#[test]
fn a_clock_that_jumps_is_one_discontinuity_for_all() {
    for jump_ms in [-5_000, -600, 3_500, 3_600_000, -2_000_000_000] {
        let publisher = Publisher { clock_ms: 10_000, gop: 30, ..Publisher::default() };
        let inputs = edit(publisher.play(20_000), |sample| {
            if sample.dts_ms >= 18_000 {
                sample.dts_ms += jump_ms;
            }
            true
        });
        let mut world = World::new();
        world.handle_all(inputs);
        world.check();
        let jumps = world.complaints().iter().filter(|c| matches!(c, Complaint::Jump { .. })).count();
        assert_eq!(jumps, 2, "each track jumps once: {:?}", world.complaints());
        for rendition in [VIDEO, AUDIO] {
            assert_eq!(world.parts(rendition).last().unwrap().discontinuity, 1, "{jump_ms}");
        }
        // Still in step: both end with the publisher.
        let end = |rendition, scale: u64| {
            let last = world.parts(rendition).last().copied().cloned().unwrap();
            (last.media_time.0 + u64::from(last.duration)) * 1_000 / scale
        };
        assert!(end(VIDEO, 90_000).abs_diff(end(AUDIO, 48_000)) <= 280, "{jump_ms}");
    }
}

#[test]
fn one_track_whose_clock_resets_goes_on_beside_the_other() {
    let inputs = edit(Publisher { clock_ms: 100_000, ..Publisher::default() }.play(30_000), |sample| {
        if sample.track == TrackKind::Audio && sample.dts_ms >= 110_500 {
            sample.dts_ms -= 110_500;
        }
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert_eq!(world.tracks().len(), 1);
    for rendition in [VIDEO, AUDIO] {
        assert_eq!(world.parts(rendition).last().unwrap().discontinuity, 1);
    }
    let starts: Vec<u64> = [(VIDEO, 90_000), (AUDIO, 48_000)]
        .map(|(rendition, scale)| {
            let part = world.parts(rendition).into_iter().find(|part| part.discontinuity == 1).unwrap();
            part.media_time.micros(scale) / 1_000
        })
        .into();
    assert!(starts[0].abs_diff(starts[1]) <= 40, "{starts:?}");
}

#[test]
fn late_video_is_nudged_or_dropped() {
    let mut n = 0;
    let inputs = edit(Publisher { audio: false, ..Publisher::default() }.play(20_000), |sample| {
        n += 1;
        match n {
            100 => sample.dts_ms -= 40,
            200 => sample.dts_ms -= 300,
            300 => sample.dts_ms -= 34,
            _ => {}
        }
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert_eq!(world.complaints(), [Complaint::Late { by_ms: 268 }]);
    let frames: usize = world.parts(VIDEO).iter().map(|part| rules::durations(part).len()).sum();
    assert!(frames >= 590, "{frames}");
}

#[test]
fn a_new_resolution_is_new_tracks_and_a_discontinuity() {
    let first = Publisher::default();
    let mut inputs = first.play(10_000);
    let second = Publisher {
        clock_ms: 10_000,
        wall_ms: first.wall_ms + 10_000,
        avc: publisher::other_avc(),
        ..Publisher::default()
    };
    inputs.extend(second.play(10_000));
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let tracks = world.tracks();
    assert_eq!(tracks.len(), 2);
    assert_eq!(tracks[1][0].codec, "avc1.640028");
    assert_eq!(tracks[0][0].part_target_ms, tracks[1][0].part_target_ms);
    assert_eq!(tracks[0][1], tracks[1][1]);
    assert_eq!(world.parts(AUDIO).last().unwrap().discontinuity, 1);
}

#[test]
fn new_sound_waits_for_the_next_keyframe() {
    let first = Publisher::default();
    let mut inputs = first.play(20_000);
    let at = inputs.iter().position(|(_, wall)| wall.0 >= first.wall_ms + 9_000).unwrap();
    inputs.insert(at, (Input::Config(publisher::other_aac()), WallTime(first.wall_ms + 9_000)));
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let tracks = world.tracks();
    assert_eq!((tracks.len(), tracks[1][1].timescale), (2, 44_100));
    let turn = world.parts(VIDEO).into_iter().find(|part| part.discontinuity == 1).unwrap();
    assert_eq!(turn.program_date_time, WallTime(first.wall_ms + 10_000));
}

#[test]
fn sound_that_comes_late_joins_at_a_keyframe() {
    let first = Publisher { audio_late_ms: 6_500, ..Publisher::default() };
    let mut world = World::new();
    world.handle_all(first.play(20_000));
    world.check();
    let listed: Vec<usize> = world.tracks().iter().map(|tracks| tracks.len()).collect();
    assert_eq!(listed, [1, 2]);
    assert_eq!(world.parts(AUDIO)[0].discontinuity, 1);
    assert_eq!(world.parts(AUDIO)[0].program_date_time.0 / 100, (first.wall_ms + 8_000) / 100);
}

#[test]
fn pictures_that_come_late_join_too() {
    let world = play(&Publisher { video_late_ms: 15_000, ..Publisher::default() }, 30_000);
    world.check();
    let listed: Vec<usize> = world.tracks().iter().map(|tracks| tracks.len()).collect();
    assert_eq!(listed, [1, 2]);
}

#[test]
fn a_bad_configuration_is_told_and_the_old_one_stays() {
    let publisher = Publisher::default();
    let mut inputs = publisher.play(10_000);
    let bad = TrackConfig::H264(bytes::Bytes::from_static(&[1, 2, 3]));
    inputs.insert(200, (Input::Config(bad), WallTime(publisher.wall_ms)));
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert!(matches!(world.complaints()[..], [Complaint::Config { track: TrackKind::Video, .. }]));
    assert_eq!(world.parts(VIDEO).last().unwrap().discontinuity, 0);
}

#[test]
fn numbers_go_on_where_the_packager_says() {
    let config = Config {
        next_segment: NextSegment { video: 1_000, audio: 990 },
        next_discontinuity: 7,
        media_start_ms: 3_600_500,
    };
    let mut world = World::with(config);
    world.handle_all(Publisher::default().play(5_000));
    world.check();
    let (video, audio) = (world.parts(VIDEO)[0], world.parts(AUDIO)[0]);
    assert_eq!((video.segment, audio.segment), (1_000, 990));
    assert_eq!((video.discontinuity, audio.discontinuity), (7, 7));
    assert_eq!(video.media_time, MediaTime(3_600_500 * 90));
    assert_eq!(audio.media_time, MediaTime(3_600_500 * 48));
}

#[test]
fn after_the_end_nothing_follows() {
    let mut world = play(&Publisher::default(), 3_000);
    world.handle(Input::End, WallTime(0));
    let count = world.outputs.len();
    world.handle(Input::Gone, WallTime(0));
    assert_eq!(world.outputs.len(), count);
    world.handle_all(Publisher::default().play(100).into_iter().take(1));
    assert_eq!(world.outputs[count..], [Output::Complaint(Complaint::Ended)]);
}

#[test]
fn samples_of_impossible_size_are_dropped() {
    let mut world = play(&Publisher::default(), 3_000);
    let sample = |bytes: usize| {
        let inputs = edit(Publisher { clock_ms: 3_000, ..Publisher::default() }.samples(1), |sample| {
            sample.data = vec![0; bytes].into();
            sample.track == TrackKind::Video
        });
        inputs.into_iter().next().unwrap()
    };
    world.handle_all([sample(0), sample(8 * 1024 * 1024 + 1)]);
    assert_eq!(world.complaints().len(), 2);
    world.handle_all((0..40).map(|_| sample(8 * 1024 * 1024)));
    world.check();
}
