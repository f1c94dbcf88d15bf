//! Codecs other than H.264 and AAC: what becomes of their samples. Every story's output also keeps all rules.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so and stop")]

mod kit;

use bytes::Bytes;
use kit::{
    World,
    publisher::{self, Publisher, edit},
    rules,
};
use millstream_model::WallTime;
use millstream_segmenter::{AUDIO, Complaint, Input, Media, TrackConfig, TrackKind, VIDEO};
use mp4_atom::{Codec, Decode as _, Ftyp, Moov};

fn play(publisher: &Publisher, duration_ms: i64) -> World {
    let mut world = World::new();
    world.handle_all(publisher.play(duration_ms));
    world.check();
    world
}

/// The sample entry of a track's init segment.
fn entry(world: &World, at: usize) -> Codec {
    let tracks = world.tracks();
    let mut init = tracks.last().unwrap()[at].init.as_ref();
    Ftyp::decode(&mut init).unwrap();
    Moov::decode(&mut init).unwrap().trak[0].mdia.minf.stbl.stsd.codecs[0].clone()
}

/// Opus packets with this beginning, one each `step_ms`; video as usual.
fn opus(beginning: &'static [u8], step_ms: i64, duration_ms: i64) -> Vec<(Input, WallTime)> {
    let publisher = Publisher { audio: false, ..Publisher::default() };
    let mut inputs = publisher.play(duration_ms);
    inputs.insert(0, (Input::Config(publisher::opus()), WallTime(publisher.wall_ms)));
    for n in 0..duration_ms / step_ms {
        let dts_ms = n * step_ms;
        let data = Bytes::from([beginning, &[7; 40]].concat());
        let (track, wall) = (TrackKind::Audio, WallTime(publisher.wall_ms + dts_ms.unsigned_abs()));
        let sample = millstream_segmenter::Sample { track, dts_ms, cts_ms: 0, keyframe: true, data };
        inputs.push((Input::Sample(sample), wall));
    }
    inputs.sort_by_key(|(_, wall)| *wall);
    inputs
}

#[test]
fn opus_lasts_as_long_as_its_packets_say() {
    // The first byte, the second, milliseconds, the part target that suits them.
    for (beginning, ms, target) in [
        (&[0xf8, 0][..], 20, 260),
        (&[0xe8, 0], 5, 275),
        (&[0xf0, 0], 10, 270),
        (&[0xf9, 0], 40, 240),
        (&[0x18, 0], 60, 240),
        (&[0xfb, 6], 120, 240),
    ] {
        let mut world = World::new();
        world.handle_all(opus(beginning, ms, 9_000));
        world.check();
        assert_eq!(world.complaints(), []);
        let track = &world.tracks()[0][1];
        assert_eq!((track.codec.as_str(), track.timescale, track.part_target_ms), ("opus", 48_000, target));
        assert_eq!(track.media, Media::Audio { channels: 2, sample_rate: 48_000 });
        let parts = world.parts(AUDIO);
        let ticks = u32::try_from(ms * 48).unwrap();
        assert!(parts.iter().all(|part| rules::durations(part).iter().all(|&duration| duration == ticks)));
        let last = parts.last().unwrap();
        let end_ms = (last.media_time.0 + u64::from(last.duration)) / 48;
        assert!(end_ms.abs_diff(9_000) <= 300, "{end_ms}");
    }
}

#[test]
fn opus_packets_may_change_their_length_under_way() {
    let mut inputs = opus(&[0xf8, 0], 20, 8_000);
    inputs.truncate(inputs.len() / 2);
    let later = opus(&[0x18, 0], 60, 8_000)
        .into_iter()
        .filter(|(input, wall)| *wall > inputs.last().unwrap().1 && matches!(input, Input::Sample(_)));
    let mut world = World::new();
    world.handle_all(inputs.clone().into_iter().chain(later));
    world.check();
    assert_eq!(world.complaints(), []);
    assert_eq!(world.tracks().len(), 1);
    assert_eq!(world.parts(AUDIO).last().unwrap().discontinuity, 0);
}

#[test]
fn missing_opus_becomes_silence_and_what_is_no_packet_is_told() {
    let mut odd = 0;
    let inputs = edit(opus(&[0xf8, 0], 20, 10_000), |sample| {
        if sample.track == TrackKind::Audio && sample.dts_ms == 8_000 {
            odd += 1;
            sample.data = Bytes::from_static(&[0xfb, 0]);
        }
        sample.track == TrackKind::Video || !(4_000..5_000).contains(&sample.dts_ms)
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    assert_eq!(odd, 1);
    assert_eq!(
        world.complaints(),
        [Complaint::AudioGap { frames: 50 }, Complaint::Unreadable { track: TrackKind::Audio }]
    );
    let bytes: Vec<u8> = world.parts(AUDIO).iter().flat_map(|part| part.data.to_vec()).collect();
    assert!(bytes.windows(9).any(|window| window == [0xfc, 0xff, 0xfe].repeat(3)), "silence");
}

#[test]
fn hevc_and_av1_have_their_sample_entries() {
    let world = play(&Publisher { avc: publisher::hevc(), ..Publisher::default() }, 6_000);
    let track = &world.tracks()[0][0];
    assert_eq!(track.codec, "hvc1.1.6.L60.90");
    assert_eq!(track.media, Media::Video { width: 320, height: 180, frame_rate_milli: 30_000 });
    let Codec::Hvc1(entry) = self::entry(&world, 0) else { panic!("hvc1") };
    assert!(entry.hvcc.arrays.iter().all(|array| array.completeness));

    let publisher = Publisher { avc: publisher::av1(), ..Publisher::default() };
    let mut world = World::new();
    world.handle_all(edit(publisher.play(6_000), |sample| {
        if sample.track == TrackKind::Video {
            let frame = publisher::frame(sample.keyframe, 200);
            sample.data = Bytes::from([&[0x12, 0][..], &frame].concat());
            sample.keyframe = !sample.keyframe;
        }
        true
    }));
    world.check();
    assert_eq!(world.complaints(), []);
    assert_eq!(world.tracks()[0][0].codec, "av01.0.00M.08");
    assert!(matches!(self::entry(&world, 0), Codec::Av01(_)));
    assert_eq!(world.segments(VIDEO)[..2], [180_000; 2], "at key frames, which the frames tell themselves");
    let first = &world.parts(VIDEO)[0].data;
    // A sequence header and the frame, no temporal delimiter.
    assert!(first.windows(4).any(|window| window == [0xf8, 0, 0x40, 0x30]));
    assert!(!first.windows(3).any(|window| window == [0x12, 0, 0x30]));
}

#[test]
fn another_codec_under_way_is_new_tracks_and_a_discontinuity() {
    let first = Publisher::default();
    let mut inputs = first.play(10_000);
    let second = Publisher { avc: publisher::hevc(), ..first.clone() };
    let third = Publisher { avc: publisher::av1(), ..first.clone() };
    for (n, next) in [second, third, first.clone()].into_iter().enumerate() {
        let from = 10_000 * u32::try_from(n + 1).unwrap();
        let next = Publisher { clock_ms: from.into(), wall_ms: first.wall_ms + u64::from(from), ..next };
        inputs.extend(edit(next.play(10_000), |sample| {
            let len = sample.data.len();
            sample.data = publisher::frame(sample.keyframe, len).into();
            true
        }));
    }
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let codecs: Vec<_> = world.tracks().iter().map(|tracks| tracks[0].codec.as_str()).collect();
    assert_eq!(codecs, ["avc1.64001F", "hvc1.1.6.L60.90", "av01.0.00M.08", "avc1.64001F"]);
    for rendition in [VIDEO, AUDIO] {
        assert_eq!(world.parts(rendition).last().unwrap().discontinuity, 3);
    }
}

#[test]
fn another_sound_under_way_waits_for_the_next_keyframe() {
    let first = Publisher::default();
    let mut inputs = first.play(20_000);
    let at = inputs.iter().position(|(_, wall)| wall.0 >= first.wall_ms + 9_000).unwrap();
    inputs.insert(at, (Input::Config(publisher::opus()), WallTime(first.wall_ms + 9_000)));
    let inputs = edit(inputs, |sample| {
        if sample.track == TrackKind::Audio && sample.dts_ms >= 9_000 {
            sample.data = Bytes::from_static(&[0xf8, 1, 2]);
        }
        true
    });
    let mut world = World::new();
    world.handle_all(inputs);
    world.check();
    let tracks = world.tracks();
    assert_eq!((tracks.len(), tracks[1][1].codec.as_str()), (2, "opus"));
    let turn = world.parts(VIDEO).into_iter().find(|part| part.discontinuity == 1).unwrap();
    assert_eq!(turn.program_date_time, WallTime(first.wall_ms + 10_000));
}

/// As x265 sends open GOPs: a CRA picture, then what is shown before it and leans on the GOP before.
fn open_gops(publisher: &Publisher, duration_ms: i64) -> Vec<(Input, WallTime)> {
    let mut n = 0;
    edit(publisher.play(duration_ms), |sample| {
        if sample.track == TrackKind::Video {
            let kind = match n % publisher.gop {
                0 => 21,
                1 | 2 => 9,
                _ => 1,
            };
            if (1..3).contains(&(n % publisher.gop)) {
                sample.cts_ms = 0;
            } else {
                sample.cts_ms = 67;
            }
            sample.data = Bytes::from([&[0, 0, 0, 60, kind << 1, 1][..], &[7; 58]].concat());
            n += 1;
        }
        true
    })
}

#[test]
fn what_nobody_can_decode_who_starts_at_an_open_gop_is_left_out_there_and_nowhere_else() {
    let first = Publisher { avc: publisher::hevc(), ..Publisher::default() };
    let mut world = World::new();
    world.handle_all(open_gops(&first, 10_000));
    world.handle(Input::Gone, WallTime(first.wall_ms + 10_000));
    let back = Publisher { wall_ms: first.wall_ms + 12_000, ..first };
    world.handle_all(open_gops(&back, 10_000));
    world.check();
    let skipped = |discontinuity: u32| {
        let parts = world.parts(VIDEO);
        let of_it = parts.iter().filter(|part| part.discontinuity == discontinuity);
        let bytes: Vec<u8> = of_it.flat_map(|part| part.data.to_vec()).collect();
        bytes.windows(6).filter(|unit| unit[..] == [0, 0, 0, 60, 18, 1]).count()
    };
    // Five GOPs each, of which the first lacks its two; the end of the second is still open.
    assert_eq!((skipped(0), skipped(1)), (8, 8));
    let track = &world.tracks()[0][0];
    for discontinuity in [0, 1] {
        let part = world.parts(VIDEO).into_iter().find(|part| part.discontinuity == discontinuity).unwrap();
        let shown = rules::presentations(part, track);
        let start = i64::try_from(part.media_time.0).unwrap();
        assert!(shown.iter().all(|&at| at >= start), "{shown:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_says_why() {
    for (config, why) in [
        (
            TrackConfig::Av1(Bytes::from_static(&[0x81, 0, 12, 0])),
            "a sequence header in configOBUs is missing",
        ),
        (TrackConfig::Hevc(Bytes::from_static(&[2; 23])), "configurationVersion is 2"),
        (TrackConfig::Opus(Bytes::from_static(b"OpusHead\x01\x02\0\0\0\0\0\0\0\0\xff")), "family is 255"),
    ] {
        let mut world = World::new();
        world.handle(Input::Config(config), WallTime(0));
        let [complaint] = &world.complaints()[..] else { panic!("{:?}", world.complaints()) };
        assert!(complaint.to_string().contains(why), "{complaint}");
    }
}
