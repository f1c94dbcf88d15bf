//! Tags as encoders write them, and as they are cut off.

use super::*;

const AVCC: [u8; 8] = [1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 0];

/// The beginning of a record with one array of parameter sets.
const HVCC: [u8; 24] =
    [1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 60, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 15, 1, 0x20];

fn bytes(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

#[test]
fn plain_and_enhanced_h264_read_the_same() {
    let idr = [0, 0, 0, 2, 0x65, 0x88];
    let setup = Ok(Content::Setup(Setup::Avc(Bytes::copy_from_slice(&AVCC))));
    assert_eq!(video(&bytes(&[&[0x17, 0, 0, 0, 0], &AVCC]), None), setup);
    assert_eq!(video(&bytes(&[&[0x90], b"avc1", &AVCC]), None), setup);
    let frame = Ok(Content::Frame {
        codec: Codec::Avc,
        cts_ms: -2,
        keyframe: true,
        data: Bytes::copy_from_slice(&idr),
    });
    assert_eq!(video(&bytes(&[&[0x17, 1, 0xff, 0xff, 0xfe], &idr]), None), frame);
    assert_eq!(video(&bytes(&[&[0x91], b"avc1", &[0xff, 0xff, 0xfe], &idr]), None), frame);
    // A ModEx prefix (three bytes of nanoseconds) before the coded frame.
    assert_eq!(video(&bytes(&[&[0x97, 2, 0, 0, 1, 0x01], b"avc1", &[0xff, 0xff, 0xfe], &idr]), None), frame);
    let now = Ok(Content::Frame {
        codec: Codec::Avc,
        cts_ms: 0,
        keyframe: true,
        data: Bytes::copy_from_slice(&idr),
    });
    assert_eq!(video(&bytes(&[&[0x93], b"avc1", &idr]), None), now);
}

#[test]
fn only_an_idr_picture_is_a_keyframe_whatever_the_flag_says() {
    let is_key = |flag: u8, nal: u8, sized: u8| match video(
        &bytes(&[&[flag, 1, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, sized, nal, 0x88]]),
        None,
    ) {
        Ok(Content::Frame { keyframe, .. }) => keyframe,
        other => panic!("{other:?}"),
    };
    assert!(is_key(0x17, 0x65, 2));
    assert!(is_key(0x27, 0x65, 2));
    assert!(!is_key(0x17, 0x41, 2), "a recovery point is no place to start");
    assert!(is_key(0x17, 0x41, 9), "lengths that do not add up leave the flag");
    assert!(!is_key(0x27, 0x41, 9));
}

#[test]
fn aac_reads_plain_and_enhanced() {
    let setup = Ok(Content::Setup(Setup::Aac(Bytes::from_static(&[0x12, 0x10]))));
    assert_eq!(audio(&bytes(&[&[0xaf, 0, 0x12, 0x10]])), setup);
    assert_eq!(audio(&bytes(&[&[0x90], b"mp4a", &[0x12, 0x10]])), setup);
    let frame = Ok(Content::Frame {
        codec: Codec::Aac,
        cts_ms: 0,
        keyframe: true,
        data: Bytes::from_static(&[0x21]),
    });
    assert_eq!(audio(&bytes(&[&[0xaf, 1, 0x21]])), frame);
    assert_eq!(audio(&bytes(&[&[0x91], b"mp4a", &[0x21]])), frame);
}

#[test]
fn other_codecs_are_refused_by_name() {
    let said = |result: Result<Content, Error>| result.unwrap_err().to_string();
    let video = |parts: &[&[u8]]| said(video(&bytes(parts), None));
    assert_eq!(video(&[&[0x90], b"vp09", &[0]]), "video is VP9 (vp09); send H.264, HEVC or AV1");
    assert_eq!(video(&[&[0x91], b"vvc1", &[0]]), "video is VVC (vvc1); send H.264, HEVC or AV1");
    assert_eq!(video(&[&[0x91], b"a\n\0z", &[0]]), "video is a..z; send H.264, HEVC or AV1");
    assert_eq!(video(&[&[0x12, 0, 0]]), "video is Sorenson H.263; send H.264, HEVC or AV1");
    assert!(video(&[&[0x1d, 0, 0]]).starts_with("video is AV1 as codec 13"));
    assert_eq!(said(audio(&bytes(&[&[0x2f, 0xff]]))), "audio is MP3; send AAC or Opus");
    assert_eq!(said(audio(&bytes(&[&[0x90], b"fLaC"]))), "audio is FLAC (fLaC); send AAC or Opus");
    assert!(said(audio(&bytes(&[&[0xdf, 0]]))).starts_with("audio is Opus as codec 13"));
}

#[test]
fn hevc_reads_as_codec_12_and_as_hvc1() {
    let idr = [0, 0, 0, 3, 0x26, 0x01, 0xaf];
    let setup = Ok(Content::Setup(Setup::Hevc(Bytes::copy_from_slice(&HVCC))));
    assert_eq!(video(&bytes(&[&[0x1c, 0, 0, 0, 0], &HVCC]), None), setup);
    assert_eq!(video(&bytes(&[&[0x90], b"hvc1", &HVCC]), None), setup);
    let data = Bytes::copy_from_slice(&idr);
    let frame = Ok(Content::Frame { codec: Codec::Hevc, cts_ms: 40, keyframe: true, data });
    assert_eq!(video(&bytes(&[&[0x1c, 1, 0, 0, 40], &idr]), None), frame);
    assert_eq!(video(&bytes(&[&[0x91], b"hvc1", &[0, 0, 40], &idr]), None), frame);
    assert!(matches!(
        video(&bytes(&[&[0x93], b"hvc1", &idr]), None),
        Ok(Content::Frame { cts_ms: 0, keyframe: true, .. })
    ));
}

#[test]
fn of_hevc_a_decoder_starts_at_random_access_pictures() {
    let is_key = |flag: u8, kind: u8, setup: Option<&Setup>, lengths: &[u8]| {
        let unit = [lengths, &[kind << 1, 1]].concat();
        match video(&bytes(&[&[flag], b"hvc1", &unit]), setup) {
            Ok(Content::Frame { keyframe, .. }) => keyframe,
            other => panic!("{other:?}"),
        }
    };
    for kind in 0..=40 {
        let starts = (16..=21).contains(&kind);
        assert_eq!(is_key(0x93, kind, None, &[0, 0, 0, 2]), starts, "{kind}");
        assert_eq!(is_key(0xa3, kind, None, &[0, 0, 0, 2]), starts, "{kind}");
    }
    assert!(is_key(0x93, 1, None, &[0, 0, 0, 9]), "lengths that do not add up leave the flag");
    let mut short = HVCC;
    short[21] = 0x0c | 1;
    let setup = Setup::Hevc(Bytes::copy_from_slice(&short));
    assert!(is_key(0xa3, 19, Some(&setup), &[0, 2]), "lengths of two bytes");
}

#[test]
fn av1_and_opus_read_enhanced() {
    let record = [0x81, 0, 12, 0, 10, 11];
    let setup = Ok(Content::Setup(Setup::Av1(Bytes::copy_from_slice(&record))));
    assert_eq!(video(&bytes(&[&[0x90], b"av01", &record]), None), setup);
    for (flag, keyframe) in [(0x91, true), (0xa1, false), (0x93, true)] {
        let data = Bytes::from_static(&[0x12, 0, 0x32]);
        let frame = Ok(Content::Frame { codec: Codec::Av1, cts_ms: 0, keyframe, data });
        assert_eq!(video(&bytes(&[&[flag], b"av01", &[0x12, 0, 0x32]]), None), frame);
    }
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    assert_eq!(
        audio(&bytes(&[&[0x90], b"Opus", head])),
        Ok(Content::Setup(Setup::Opus(Bytes::from_static(head))))
    );
    let data = Bytes::from_static(&[0xfc, 0xff, 0xfe]);
    let frame = Ok(Content::Frame { codec: Codec::Opus, cts_ms: 0, keyframe: true, data });
    assert_eq!(audio(&bytes(&[&[0x91], b"Opus", &[0xfc, 0xff, 0xfe]])), frame);
    assert_eq!(audio(&bytes(&[&[0x94], b"Opus", &[1, 1, 0, 0, 0, 4]])), Ok(Content::Nothing), "channels");
}

#[test]
fn colours_and_commands_pass_by() {
    for packet in [4, 5, 2] {
        let tag = bytes(&[&[0x80 | packet], b"hvc1", b"\x02\0\x09colorInfo\x03\0\0\x09"]);
        assert_eq!(video(&tag, None), Ok(Content::Nothing), "{packet}");
    }
    assert_eq!(video(&bytes(&[&[0xd1, 0]]), None), Ok(Content::Nothing), "a seek begins");
}

#[test]
fn of_several_tracks_the_first_is_taken() {
    let idr = [0, 0, 0, 2, 0x65, 0x88];
    let data = Bytes::copy_from_slice(&idr);
    let frame = Ok(Content::Frame { codec: Codec::Avc, cts_ms: 0, keyframe: true, data });
    let one = |id: u8| video(&bytes(&[&[0x96, 0x03], b"avc1", &[id], &idr]), None);
    assert_eq!((one(0), one(1)), (frame.clone(), Ok(Content::OtherTrack)));
    let many =
        bytes(&[&[0x96, 0x13], b"avc1", &[1, 0, 0, 3, 9, 9, 9], &[0, 0, 0, 6], &idr, &[2, 0, 0, 1, 9]]);
    assert_eq!(video(&many, None), frame);
    let codecs = bytes(&[&[0x96, 0x23], b"vp09", &[3, 0, 0, 1, 9], b"avc1", &[0, 0, 0, 6], &idr]);
    assert_eq!(video(&codecs, None), frame);
    let without = bytes(&[&[0x96, 0x23], b"vp09", &[3, 0, 0, 1, 9]]);
    assert_eq!(video(&without, None), Ok(Content::OtherTrack));
    for cut in [&[0x96][..], &[0x96, 0x13, b'a'], &[0x96, 0x33, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(video(&bytes(&[cut]), None), Ok(Content::Nothing), "{cut:?}");
    }
    let long = bytes(&[&[0x96, 0x13], b"avc1", &[0, 0xff, 0xff, 0xff, 1]]);
    assert_eq!(video(&long, None), Ok(Content::Nothing), "longer than it is");
    let sound = |id: u8| audio(&bytes(&[&[0x95, 0x01], b"Opus", &[id, 0xfc]]));
    assert!(matches!(sound(0), Ok(Content::Frame { codec: Codec::Opus, .. })));
    assert_eq!(sound(7), Ok(Content::OtherTrack));
}

#[test]
fn set_ups_no_decoder_could_use_are_refused() {
    for record in [&[0; 8][..], &[1, 0, 0, 0, 0xff, 0xe0, 0], &[1, 0, 0, 0, 0xfe, 0xe1, 0], &[1, 0x64]] {
        assert!(video(&bytes(&[&[0x17, 0, 0, 0, 0], record]), None).is_err(), "{record:?}");
    }
    let mut lengths_of_three = HVCC;
    lengths_of_three[21] = 0x0c | 2;
    let mut without_sets = HVCC;
    without_sets[22] = 0;
    for record in [&[0; 24][..], &HVCC[..20], &lengths_of_three, &without_sets] {
        assert!(video(&bytes(&[&[0x90], b"hvc1", record]), None).is_err(), "{record:?}");
    }
    assert!(video(&bytes(&[&[0x90], b"av01", &[0x80, 0, 0, 0]]), None).is_err());
    assert!(audio(&bytes(&[&[0xaf, 0, 0x12]])).is_err());
    assert!(audio(&bytes(&[&[0x90], b"Opus", b"OpusHead\x01"])).is_err());
}

#[test]
fn empty_and_cut_tags_are_nothing() {
    for tag in [&[][..], &[0x17], &[0x17, 1, 0], &[0x17, 1, 0, 0, 0], &[0x17, 2, 0, 0, 0], &[0x57, 0]] {
        assert_eq!(video(&bytes(&[tag]), None), Ok(Content::Nothing), "{tag:?}");
    }
    for tag in [&[0x90][..], &[0x90, b'a', b'v'], &[0x97, 0xff, 0xff], &[0x97, 0xff, 0xff, 0xff, 1]] {
        assert_eq!(video(&bytes(&[tag]), None), Ok(Content::Nothing), "{tag:?}");
    }
    for tag in [&[][..], &[0xaf], &[0xaf, 1], &[0x91, b'm']] {
        assert_eq!(audio(&bytes(&[tag])), Ok(Content::Nothing), "{tag:?}");
    }
}
