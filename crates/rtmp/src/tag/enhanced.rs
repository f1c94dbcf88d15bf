//! Tags as Enhanced RTMP v2 extends them: a FourCC for the codec, prefixes, and several tracks.
//!
//! Of several tracks of a kind the first, track 0, is taken, which is also what goes out as if there were no other.

use bytes::Bytes;

use super::{
    COMMAND_FRAME, Codec, Content, Error, Setup, audio_frame, audio_setup, i24, video_frame, video_setup,
    wrong_audio, wrong_video,
};

/// Packet types that video and audio share.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const MOD_EX: u8 = 7;

/// Video: frames whose composition offset is 0.
const CODED_FRAMES_X: u8 = 3;
/// Video: what is told of colours, dynamic range among it.
const METADATA: u8 = 4;

const MULTITRACK_AUDIO: u8 = 5;
const MULTITRACK_VIDEO: u8 = 6;

/// `AvMultitrackType`: one track; (1) several of one codec, each with its size; several, each with its codec as well.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

pub(super) fn video(body: &Bytes, setup: Option<&Setup>) -> Result<Content, Error> {
    let frame_type = body.first().map_or(0, |first| first >> 4 & 7);
    let Some((packet, at)) = packet_type(body) else { return Ok(Content::Nothing) };
    if frame_type == COMMAND_FRAME && packet != METADATA {
        return Ok(Content::Nothing);
    }
    let (packet, fourcc, rest) = match tracks(packet, packet == MULTITRACK_VIDEO, &body.slice(at..)) {
        Tracks::First(packet, fourcc, rest) => (packet, fourcc, rest),
        Tracks::Others => return Ok(Content::OtherTrack),
        Tracks::Cut => return Ok(Content::Nothing),
    };
    let codec = match &fourcc {
        b"avc1" => Codec::Avc,
        b"hvc1" => Codec::Hevc,
        b"av01" => Codec::Av1,
        b"vp08" => return Err(wrong_video("VP8 (vp08)")),
        b"vp09" => return Err(wrong_video("VP9 (vp09)")),
        b"vvc1" => return Err(wrong_video("VVC (vvc1)")),
        other => return Err(wrong_video(&printable(*other))),
    };
    match packet {
        SEQUENCE_START => video_setup(codec, rest),
        // AV1 has no decode order of its own, and so no offset.
        CODED_FRAMES if codec == Codec::Av1 => Ok(video_frame(codec, frame_type, 0, rest, setup)),
        CODED_FRAMES => match rest.get(..3) {
            Some(&[a, b, c]) => Ok(video_frame(codec, frame_type, i24([a, b, c]), rest.slice(3..), setup)),
            _ => Ok(Content::Nothing),
        },
        CODED_FRAMES_X => Ok(video_frame(codec, frame_type, 0, rest, setup)),
        _ => Ok(Content::Nothing),
    }
}

pub(super) fn audio(body: &Bytes) -> Result<Content, Error> {
    let Some((packet, at)) = packet_type(body) else { return Ok(Content::Nothing) };
    let (packet, fourcc, rest) = match tracks(packet, packet == MULTITRACK_AUDIO, &body.slice(at..)) {
        Tracks::First(packet, fourcc, rest) => (packet, fourcc, rest),
        Tracks::Others => return Ok(Content::OtherTrack),
        Tracks::Cut => return Ok(Content::Nothing),
    };
    let codec = match &fourcc {
        b"mp4a" => Codec::Aac,
        b"Opus" => Codec::Opus,
        b"fLaC" => return Err(wrong_audio("FLAC (fLaC)")),
        b"ac-3" => return Err(wrong_audio("AC-3 (ac-3)")),
        b"ec-3" => return Err(wrong_audio("E-AC-3 (ec-3)")),
        b".mp3" => return Err(wrong_audio("MP3 (.mp3)")),
        other => return Err(wrong_audio(&printable(*other))),
    };
    match packet {
        SEQUENCE_START => audio_setup(codec, rest),
        CODED_FRAMES => Ok(audio_frame(codec, rest)),
        _ => Ok(Content::Nothing),
    }
}

/// The packet type of an enhanced tag and where what follows begins, past any `ModEx` prefixes. `None` when cut off.
fn packet_type(body: &[u8]) -> Option<(u8, usize)> {
    let mut packet = body.first()? & 0x0f;
    let mut at = 1;
    while packet == MOD_EX {
        let mut bytes = usize::from(*body.get(at)?) + 1;
        at += 1;
        if bytes == 256 {
            bytes = usize::from(u16::from_be_bytes(*body.get(at..)?.first_chunk()?)) + 1;
            at += 2;
        }
        at += bytes;
        packet = body.get(at)? & 0x0f;
        at += 1;
    }
    (at <= body.len()).then_some((packet, at))
}

enum Tracks {
    /// The first track's packet type, codec and body.
    First(u8, [u8; 4], Bytes),
    /// There are others only.
    Others,
    /// It ends too early.
    Cut,
}

/// What is for the first track.
fn tracks(packet: u8, several: bool, rest: &Bytes) -> Tracks {
    if !several {
        return match rest.first_chunk() {
            Some(&fourcc) => Tracks::First(packet, fourcc, rest.slice(4..)),
            None => Tracks::Cut,
        };
    }
    first_of_several(rest).unwrap_or(Tracks::Cut)
}

fn first_of_several(body: &Bytes) -> Option<Tracks> {
    let kinds = *body.first()?;
    let (kind, packet) = (kinds >> 4, kinds & 0x0f);
    let mut at = 1;
    let mut fourcc = [0; 4];
    if kind > MANY_TRACKS_MANY_CODECS {
        return None;
    }
    if kind != MANY_TRACKS_MANY_CODECS {
        fourcc = *body.get(at..)?.first_chunk()?;
        at += 4;
    }
    while at < body.len() {
        if kind == MANY_TRACKS_MANY_CODECS {
            fourcc = *body.get(at..)?.first_chunk()?;
            at += 4;
        }
        let id = *body.get(at)?;
        at += 1;
        let mut bytes = body.len() - at;
        if kind != ONE_TRACK {
            let &[a, b, c] = body.get(at..)?.first_chunk()?;
            at += 3;
            bytes = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        }
        let end = at.checked_add(bytes).filter(|&end| end <= body.len())?;
        if id == 0 {
            return Some(Tracks::First(packet, fourcc, body.slice(at..end)));
        }
        at = end;
    }
    Some(Tracks::Others)
}

fn printable(fourcc: [u8; 4]) -> String {
    fourcc.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect()
}
