//! A tiny FLV reader: what an RTMP ingest would hand over.

use bytes::Bytes;
use millstream_model::WallTime;
use millstream_segmenter::{Input, Sample, TrackConfig, TrackKind};

const AUDIO_TAG: u8 = 8;
const VIDEO_TAG: u8 = 9;

/// When the publisher starts.
pub(crate) const WALL_MS: u64 = 1_700_000_000_000;

pub(crate) fn read(flv: &[u8]) -> Vec<(Input, WallTime)> {
    assert_eq!(&flv[..3], b"FLV");
    let mut inputs = Vec::new();
    let mut rest = &flv[13..]; // header, and the size of no tag before the first
    while rest.len() > 11 {
        let size = number(&rest[1..4]);
        let time = number(&rest[4..7]) | usize::from(rest[7]) << 24;
        let body = &rest[11..11 + size];
        let wall = WallTime(WALL_MS + u64::try_from(time).unwrap());
        let dts_ms = i64::try_from(time).unwrap();
        match rest[0] {
            VIDEO_TAG => inputs.extend(video(body, dts_ms).map(|input| (input, wall))),
            AUDIO_TAG => inputs.extend(audio(body, dts_ms).map(|input| (input, wall))),
            _ => {}
        }
        rest = &rest[11 + size + 4..];
    }
    inputs
}

fn video(body: &[u8], dts_ms: i64) -> Option<Input> {
    assert_eq!(body[0] & 0x0f, 7, "H.264");
    // 24 bits, signed.
    let cts_ms = i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8;
    let data = Bytes::copy_from_slice(&body[5..]);
    match body[1] {
        0 => Some(Input::Config(TrackConfig::H264(data))),
        1 => {
            let keyframe = body[0] >> 4 == 1;
            Some(Input::Sample(Sample { track: TrackKind::Video, dts_ms, cts_ms, keyframe, data }))
        }
        _ => None,
    }
}

fn audio(body: &[u8], dts_ms: i64) -> Option<Input> {
    assert_eq!(body[0] >> 4, 10, "AAC");
    let data = Bytes::copy_from_slice(&body[2..]);
    match body[1] {
        0 => Some(Input::Config(TrackConfig::Aac(data))),
        _ if data.is_empty() => None,
        _ => Some(Input::Sample(Sample { track: TrackKind::Audio, dts_ms, cts_ms: 0, keyframe: true, data })),
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}
