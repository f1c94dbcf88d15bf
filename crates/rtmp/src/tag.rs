//! FLV audio and video tags (Adobe FLV 10.1 §E.4, Enhanced RTMP v2): codec set-ups and frames; everything that is
//! not H.264 or AAC is refused by name.

use bytes::Bytes;

/// The two kinds of track a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// What a decoder must know before the first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// H.264: an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1).
    Avc(Bytes),
    /// AAC: an `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
    Aac(Bytes),
}

/// One coded frame: length-prefixed NAL units, or one raw AAC frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which track it belongs to.
    pub track: Track,
    /// Decode time in milliseconds on the publisher's clock, unwrapped from 32 bits. Where it starts means
    /// nothing.
    pub dts_ms: i64,
    /// Presentation minus decode time, in milliseconds (24-bit range); 0 for audio.
    pub cts_ms: i32,
    /// True where a decoder can start: an IDR picture, every audio frame.
    pub keyframe: bool,
    /// Its bytes.
    pub data: Bytes,
}

/// Why a tag cannot be carried on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A codec or feature that is not taken, by the name people know it by.
    #[error("{track} is {name}; send {wanted}")]
    Codec {
        /// `video` or `audio`.
        track: &'static str,
        /// Its name, or what stands in its place.
        name: String,
        /// What to send instead.
        wanted: &'static str,
    },
    /// A set-up no decoder could use.
    #[error("the {0} is not valid")]
    Setup(&'static str),
}

/// What stands in a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Setup(Setup),
    Frame {
        cts_ms: i32,
        keyframe: bool,
        data: Bytes,
    },
    /// Ends of sequence, commands, empty tags, metadata about colour: nothing to pass on.
    Nothing,
}

/// Reads a video tag's body. `nal_length_bytes` as the last set-up said it.
pub(crate) fn video(body: &Bytes, nal_length_bytes: usize) -> Result<Content, Error> {
    let Some(&first) = body.first() else { return Ok(Content::Nothing) };
    if first & 0x80 != 0 {
        return enhanced_video(body, nal_length_bytes);
    }
    let frame_type = first >> 4;
    match first & 0x0f {
        AVC if frame_type == COMMAND_FRAME => Ok(Content::Nothing),
        AVC => {
            let Some(&[packet, a, b, c]) = body.get(1..5) else { return Ok(Content::Nothing) };
            match packet {
                0 => avc_setup(body.slice(5..)),
                1 => Ok(avc_frame(frame_type, i24([a, b, c]), body.slice(5..), nal_length_bytes)),
                _ => Ok(Content::Nothing),
            }
        }
        2 => Err(wrong_video("Sorenson H.263")),
        3 => Err(wrong_video("screen video")),
        4 | 5 => Err(wrong_video("VP6")),
        6 => Err(wrong_video("screen video 2")),
        12 => Err(wrong_video("HEVC (H.265)")),
        13 => Err(wrong_video("AV1")),
        other => Err(wrong_video(&format!("codec {other}"))),
    }
}

/// Reads an audio tag's body.
pub(crate) fn audio(body: &Bytes) -> Result<Content, Error> {
    let Some(&first) = body.first() else { return Ok(Content::Nothing) };
    match first >> 4 {
        AAC => match body.get(1) {
            Some(0) => aac_setup(body.slice(2..)),
            Some(1) => Ok(aac_frame(body.slice(2..))),
            _ => Ok(Content::Nothing),
        },
        ENHANCED_AUDIO => enhanced_audio(body),
        0 | 3 => Err(wrong_audio("PCM")),
        1 => Err(wrong_audio("ADPCM")),
        2 | 14 => Err(wrong_audio("MP3")),
        4..=6 => Err(wrong_audio("Nellymoser")),
        7 => Err(wrong_audio("G.711 A-law")),
        8 => Err(wrong_audio("G.711 mu-law")),
        11 => Err(wrong_audio("Speex")),
        13 => Err(wrong_audio("Opus")),
        other => Err(wrong_audio(&format!("codec {other}"))),
    }
}

/// Bytes of a NAL unit's length in an `AVCDecoderConfigurationRecord`.
pub(crate) fn nal_length_bytes(avcc: &[u8]) -> usize {
    usize::from(avcc.get(4).copied().unwrap_or(3) & 3) + 1
}

const AVC: u8 = 7;
const AAC: u8 = 10;
const ENHANCED_AUDIO: u8 = 9;
const KEY_FRAME: u8 = 1;
const COMMAND_FRAME: u8 = 5;
const NAL_IDR: u8 = 5;

/// Enhanced RTMP's packet types that video and audio share.
const MULTITRACK_AUDIO: u8 = 5;
const MULTITRACK_VIDEO: u8 = 6;
const MOD_EX: u8 = 7;

fn enhanced_video(body: &Bytes, nal_length_bytes: usize) -> Result<Content, Error> {
    let frame_type = body.first().map_or(0, |first| first >> 4 & 7);
    let Some((packet, at)) = packet_type(body) else { return Ok(Content::Nothing) };
    if packet == MULTITRACK_VIDEO {
        return Err(wrong_video("multitrack"));
    }
    let Some(&fourcc) = body.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Ok(Content::Nothing);
    };
    match &fourcc {
        b"avc1" => {}
        b"hvc1" => return Err(wrong_video("HEVC (hvc1)")),
        b"av01" => return Err(wrong_video("AV1 (av01)")),
        b"vp08" => return Err(wrong_video("VP8 (vp08)")),
        b"vp09" => return Err(wrong_video("VP9 (vp09)")),
        b"vvc1" => return Err(wrong_video("VVC (vvc1)")),
        other => return Err(wrong_video(&printable(*other))),
    }
    let rest = body.slice(at + 4..);
    match packet {
        0 => avc_setup(rest),
        1 => match rest.get(..3) {
            Some(&[a, b, c]) => Ok(avc_frame(frame_type, i24([a, b, c]), rest.slice(3..), nal_length_bytes)),
            _ => Ok(Content::Nothing),
        },
        3 => Ok(avc_frame(frame_type, 0, rest, nal_length_bytes)),
        _ => Ok(Content::Nothing),
    }
}

fn enhanced_audio(body: &Bytes) -> Result<Content, Error> {
    let Some((packet, at)) = packet_type(body) else { return Ok(Content::Nothing) };
    if packet == MULTITRACK_AUDIO {
        return Err(wrong_audio("multitrack"));
    }
    let Some(&fourcc) = body.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Ok(Content::Nothing);
    };
    match &fourcc {
        b"mp4a" => {}
        b"Opus" => return Err(wrong_audio("Opus")),
        b"fLaC" => return Err(wrong_audio("FLAC (fLaC)")),
        b"ac-3" => return Err(wrong_audio("AC-3 (ac-3)")),
        b"ec-3" => return Err(wrong_audio("E-AC-3 (ec-3)")),
        b".mp3" => return Err(wrong_audio("MP3 (.mp3)")),
        other => return Err(wrong_audio(&printable(*other))),
    }
    let rest = body.slice(at + 4..);
    match packet {
        0 => aac_setup(rest),
        1 => Ok(aac_frame(rest)),
        _ => Ok(Content::Nothing),
    }
}

/// The packet type of an enhanced tag and where its FourCC begins, past any ModEx prefixes. `None` when cut off.
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
    Some((packet, at))
}

fn avc_setup(record: Bytes) -> Result<Content, Error> {
    match record.get(..7) {
        // Version 1, at least one sequence parameter set, and lengths of 1, 2 or 4 bytes.
        Some(&[1, _, _, _, lengths, sets, _]) if sets & 0x1f > 0 && lengths & 3 != 2 => {
            Ok(Content::Setup(Setup::Avc(record)))
        }
        _ => Err(Error::Setup("AVCDecoderConfigurationRecord")),
    }
}

fn avc_frame(frame_type: u8, cts_ms: i32, data: Bytes, nal_length_bytes: usize) -> Content {
    if data.is_empty() {
        return Content::Nothing;
    }
    // Encoders also flag pictures one can almost start at (recovery points); only an IDR picture is safe. Where
    // the NAL units cannot be walked, the flag is all there is.
    let keyframe = has_idr(&data, nal_length_bytes).unwrap_or(frame_type == KEY_FRAME);
    Content::Frame { cts_ms, keyframe, data }
}

fn aac_setup(config: Bytes) -> Result<Content, Error> {
    if config.len() < 2 {
        return Err(Error::Setup("AudioSpecificConfig"));
    }
    Ok(Content::Setup(Setup::Aac(config)))
}

fn aac_frame(data: Bytes) -> Content {
    if data.is_empty() {
        return Content::Nothing;
    }
    Content::Frame { cts_ms: 0, keyframe: true, data }
}

/// Whether an IDR slice is among length-prefixed NAL units; `None` when the lengths do not add up.
fn has_idr(mut data: &[u8], length_bytes: usize) -> Option<bool> {
    while !data.is_empty() {
        let (length, rest) = data.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        if unit.first().is_some_and(|header| header & 0x1f == NAL_IDR) {
            return Some(true);
        }
        data = rest;
    }
    Some(false)
}

fn i24(bytes: [u8; 3]) -> i32 {
    let [a, b, c] = bytes;
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn wrong_video(name: &str) -> Error {
    Error::Codec { track: "video", name: name.to_owned(), wanted: "H.264" }
}

fn wrong_audio(name: &str) -> Error {
    Error::Codec { track: "audio", name: name.to_owned(), wanted: "AAC" }
}

fn printable(fourcc: [u8; 4]) -> String {
    fourcc.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: [u8; 8] = [1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 0];

    fn bytes(parts: &[&[u8]]) -> Bytes {
        Bytes::from(parts.concat())
    }

    #[test]
    fn plain_and_enhanced_h264_read_the_same() {
        let idr = [0, 0, 0, 2, 0x65, 0x88];
        let setup = Ok(Content::Setup(Setup::Avc(Bytes::copy_from_slice(&AVCC))));
        assert_eq!(video(&bytes(&[&[0x17, 0, 0, 0, 0], &AVCC]), 4), setup);
        assert_eq!(video(&bytes(&[&[0x90], b"avc1", &AVCC]), 4), setup);
        let frame = Ok(Content::Frame { cts_ms: -2, keyframe: true, data: Bytes::copy_from_slice(&idr) });
        assert_eq!(video(&bytes(&[&[0x17, 1, 0xff, 0xff, 0xfe], &idr]), 4), frame);
        assert_eq!(video(&bytes(&[&[0x91], b"avc1", &[0xff, 0xff, 0xfe], &idr]), 4), frame);
        // A ModEx prefix (three bytes of nanoseconds) before the coded frame.
        assert_eq!(video(&bytes(&[&[0x97, 2, 0, 0, 1, 0x01], b"avc1", &[0xff, 0xff, 0xfe], &idr]), 4), frame);
        let now = Ok(Content::Frame { cts_ms: 0, keyframe: true, data: Bytes::copy_from_slice(&idr) });
        assert_eq!(video(&bytes(&[&[0x93], b"avc1", &idr]), 4), now);
    }

    #[test]
    fn only_an_idr_picture_is_a_keyframe_whatever_the_flag_says() {
        let is_key = |flag: u8, nal: u8, sized: u8| match video(
            &bytes(&[&[flag, 1, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, sized, nal, 0x88]]),
            4,
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
        let frame = Ok(Content::Frame { cts_ms: 0, keyframe: true, data: Bytes::from_static(&[0x21]) });
        assert_eq!(audio(&bytes(&[&[0xaf, 1, 0x21]])), frame);
        assert_eq!(audio(&bytes(&[&[0x91], b"mp4a", &[0x21]])), frame);
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        let said = |result: Result<Content, Error>| result.unwrap_err().to_string();
        assert_eq!(said(video(&bytes(&[&[0x90], b"hvc1", &[0]]), 4)), "video is HEVC (hvc1); send H.264");
        assert_eq!(said(video(&bytes(&[&[0x91], b"av01", &[0]]), 4)), "video is AV1 (av01); send H.264");
        assert_eq!(said(video(&bytes(&[&[0x91], b"a\n\0z", &[0]]), 4)), "video is a..z; send H.264");
        assert_eq!(said(video(&bytes(&[&[0x12, 0, 0]]), 4)), "video is Sorenson H.263; send H.264");
        assert_eq!(said(video(&bytes(&[&[0x1c, 0, 0]]), 4)), "video is HEVC (H.265); send H.264");
        assert_eq!(said(audio(&bytes(&[&[0x2f, 0xff]]))), "audio is MP3; send AAC");
        assert_eq!(said(audio(&bytes(&[&[0x90], b"Opus"]))), "audio is Opus; send AAC");
        assert_eq!(said(audio(&bytes(&[&[0x95, 0], b"mp4a"]))), "audio is multitrack; send AAC");
    }

    #[test]
    fn set_ups_no_decoder_could_use_are_refused() {
        for record in [&[0; 8][..], &[1, 0, 0, 0, 0xff, 0xe0, 0], &[1, 0, 0, 0, 0xfe, 0xe1, 0], &[1, 0x64]] {
            assert!(video(&bytes(&[&[0x17, 0, 0, 0, 0], record]), 4).is_err(), "{record:?}");
        }
        assert!(audio(&bytes(&[&[0xaf, 0, 0x12]])).is_err());
    }

    #[test]
    fn empty_and_cut_tags_are_nothing() {
        for tag in [&[][..], &[0x17], &[0x17, 1, 0], &[0x17, 1, 0, 0, 0], &[0x17, 2, 0, 0, 0], &[0x57, 0]] {
            assert_eq!(video(&bytes(&[tag]), 4), Ok(Content::Nothing), "{tag:?}");
        }
        for tag in [&[0x90][..], &[0x90, b'a', b'v'], &[0x97, 0xff, 0xff], &[0x97, 0xff, 0xff, 0xff, 1]] {
            assert_eq!(video(&bytes(&[tag]), 4), Ok(Content::Nothing), "{tag:?}");
        }
        for tag in [&[][..], &[0xaf], &[0xaf, 1], &[0x91, b'm']] {
            assert_eq!(audio(&bytes(&[tag])), Ok(Content::Nothing), "{tag:?}");
        }
    }
}
