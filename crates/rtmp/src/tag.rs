//! FLV audio and video tags (Adobe FLV 10.1 §E.4, Enhanced RTMP v2): codec set-ups and frames; what is not taken is
//! refused by name.

mod enhanced;
mod nal;
#[cfg(test)]
mod tests;

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
    /// HEVC: an `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1).
    Hevc(Bytes),
    /// AV1: an `AV1CodecConfigurationRecord` (AV1 in ISOBMFF §2.3).
    Av1(Bytes),
    /// AAC: an `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
    Aac(Bytes),
    /// Opus: an identification header, `OpusHead` (RFC 7845 §5.1).
    Opus(Bytes),
}

impl Setup {
    /// Which track it is for.
    #[must_use]
    pub const fn track(&self) -> Track {
        match self.codec() {
            Codec::Avc | Codec::Hevc | Codec::Av1 => Track::Video,
            Codec::Aac | Codec::Opus => Track::Audio,
        }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        match self {
            Self::Avc(bytes)
            | Self::Hevc(bytes)
            | Self::Av1(bytes)
            | Self::Aac(bytes)
            | Self::Opus(bytes) => bytes,
        }
    }

    pub(crate) const fn codec(&self) -> Codec {
        match self {
            Self::Avc(_) => Codec::Avc,
            Self::Hevc(_) => Codec::Hevc,
            Self::Av1(_) => Codec::Av1,
            Self::Aac(_) => Codec::Aac,
            Self::Opus(_) => Codec::Opus,
        }
    }

    /// The same with bytes of its own: what came is a slice of a whole message.
    pub(crate) fn detached(&self) -> Self {
        let own = Bytes::copy_from_slice(self.bytes());
        match self {
            Self::Avc(_) => Self::Avc(own),
            Self::Hevc(_) => Self::Hevc(own),
            Self::Av1(_) => Self::Av1(own),
            Self::Aac(_) => Self::Aac(own),
            Self::Opus(_) => Self::Opus(own),
        }
    }
}

/// The codecs that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Avc,
    Hevc,
    Av1,
    Aac,
    Opus,
}

/// One coded frame: length-prefixed NAL units (H.264, HEVC), a temporal unit of OBUs (AV1), one raw AAC frame or one
/// Opus packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which track it belongs to.
    pub track: Track,
    /// Decode time in milliseconds on the publisher's clock, unwrapped from 32 bits. Where it starts means
    /// nothing.
    pub dts_ms: i64,
    /// Presentation minus decode time, in milliseconds (24-bit range); 0 for audio and AV1.
    pub cts_ms: i32,
    /// True where a decoder can start: an IDR picture of H.264; an IDR, CRA or BLA picture of HEVC; every audio frame.
    /// For AV1 it is what the publisher says.
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
        codec: Codec,
        cts_ms: i32,
        keyframe: bool,
        data: Bytes,
    },
    /// A frame or set-up of another track than the first of its kind.
    OtherTrack,
    /// Ends of sequence, commands, empty tags, metadata about colour: nothing to pass on.
    Nothing,
}

/// Reads a video tag's body. `setup` is the track's last one.
pub(crate) fn video(body: &Bytes, setup: Option<&Setup>) -> Result<Content, Error> {
    let Some(&first) = body.first() else { return Ok(Content::Nothing) };
    if first & 0x80 != 0 {
        return enhanced::video(body, setup);
    }
    let frame_type = first >> 4;
    let codec = match first & 0x0f {
        AVC => Codec::Avc,
        HEVC => Codec::Hevc,
        2 => return Err(wrong_video("Sorenson H.263")),
        3 => return Err(wrong_video("screen video")),
        4 | 5 => return Err(wrong_video("VP6")),
        6 => return Err(wrong_video("screen video 2")),
        13 => return Err(wrong_video("AV1 as codec 13, not as enhanced RTMP has it")),
        other => return Err(wrong_video(&format!("codec {other}"))),
    };
    if frame_type == COMMAND_FRAME {
        return Ok(Content::Nothing);
    }
    let Some(&[packet, a, b, c]) = body.get(1..5) else { return Ok(Content::Nothing) };
    match packet {
        0 => video_setup(codec, body.slice(5..)),
        1 => Ok(video_frame(codec, frame_type, i24([a, b, c]), body.slice(5..), setup)),
        _ => Ok(Content::Nothing),
    }
}

/// Reads an audio tag's body.
pub(crate) fn audio(body: &Bytes) -> Result<Content, Error> {
    let Some(&first) = body.first() else { return Ok(Content::Nothing) };
    match first >> 4 {
        AAC => match body.get(1) {
            Some(0) => audio_setup(Codec::Aac, body.slice(2..)),
            Some(1) => Ok(audio_frame(Codec::Aac, body.slice(2..))),
            _ => Ok(Content::Nothing),
        },
        ENHANCED_AUDIO => enhanced::audio(body),
        0 | 3 => Err(wrong_audio("PCM")),
        1 => Err(wrong_audio("ADPCM")),
        2 | 14 => Err(wrong_audio("MP3")),
        4..=6 => Err(wrong_audio("Nellymoser")),
        7 => Err(wrong_audio("G.711 A-law")),
        8 => Err(wrong_audio("G.711 mu-law")),
        11 => Err(wrong_audio("Speex")),
        13 => Err(wrong_audio("Opus as codec 13, not as enhanced RTMP has it")),
        other => Err(wrong_audio(&format!("codec {other}"))),
    }
}

const AVC: u8 = 7;
/// Nobody's standard, but what encoders used before enhanced RTMP gave HEVC a FourCC.
const HEVC: u8 = 12;
const AAC: u8 = 10;
const ENHANCED_AUDIO: u8 = 9;
const KEY_FRAME: u8 = 1;
const COMMAND_FRAME: u8 = 5;

/// A record's first bytes are looked at here, so that the publisher is told at once; the rest is for who uses it.
fn video_setup(codec: Codec, record: Bytes) -> Result<Content, Error> {
    match (codec, &record[..]) {
        // Version 1, at least one sequence parameter set, and lengths of 1, 2 or 4 bytes.
        (Codec::Avc, &[1, _, _, _, lengths, sets, _, ..]) if sets & 0x1f > 0 && lengths & 3 != 2 => {
            Ok(Content::Setup(Setup::Avc(record)))
        }
        (Codec::Hevc, bytes) if nal::is_hevc_record(bytes) => Ok(Content::Setup(Setup::Hevc(record))),
        // Marker and version.
        (Codec::Av1, &[0x81, _, _, _, ..]) => Ok(Content::Setup(Setup::Av1(record))),
        (Codec::Hevc, _) => Err(Error::Setup("HEVCDecoderConfigurationRecord")),
        (Codec::Av1, _) => Err(Error::Setup("AV1CodecConfigurationRecord")),
        _ => Err(Error::Setup("AVCDecoderConfigurationRecord")),
    }
}

fn video_frame(codec: Codec, frame_type: u8, cts_ms: i32, data: Bytes, setup: Option<&Setup>) -> Content {
    if data.is_empty() {
        return Content::Nothing;
    }
    // Encoders also flag pictures one can almost start at (recovery points). Where the NAL units cannot be walked, the
    // flag is all there is.
    let starts = match codec {
        Codec::Avc => nal::has_idr(&data, nal::avc_length_bytes(setup)),
        Codec::Hevc => nal::has_random_access(&data, nal::hevc_length_bytes(setup)),
        _ => None,
    };
    Content::Frame { codec, cts_ms, keyframe: starts.unwrap_or(frame_type == KEY_FRAME), data }
}

fn audio_setup(codec: Codec, config: Bytes) -> Result<Content, Error> {
    match codec {
        Codec::Opus if config.starts_with(b"OpusHead") && config.len() >= 19 => {
            Ok(Content::Setup(Setup::Opus(config)))
        }
        Codec::Opus => Err(Error::Setup("OpusHead")),
        _ if config.len() < 2 => Err(Error::Setup("AudioSpecificConfig")),
        _ => Ok(Content::Setup(Setup::Aac(config))),
    }
}

fn audio_frame(codec: Codec, data: Bytes) -> Content {
    if data.is_empty() {
        return Content::Nothing;
    }
    Content::Frame { codec, cts_ms: 0, keyframe: true, data }
}

fn i24(bytes: [u8; 3]) -> i32 {
    let [a, b, c] = bytes;
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn wrong_video(name: &str) -> Error {
    Error::Codec { track: "video", name: name.to_owned(), wanted: "H.264, HEVC or AV1" }
}

fn wrong_audio(name: &str) -> Error {
    Error::Codec { track: "audio", name: name.to_owned(), wanted: "AAC or Opus" }
}
