//! What an ingest hands to the segmenter: coded frames on the publisher's clock.

use bytes::Bytes;

/// The two kinds of track a publisher sends. One of each at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// How a track is coded: what a decoder must know before its first sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackConfig {
    /// H.264: an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1), as in an RTMP sequence header.
    H264(Bytes),
    /// HEVC: an `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3.1).
    Hevc(Bytes),
    /// AV1: an `AV1CodecConfigurationRecord` (AV1 in ISOBMFF §2.3), a sequence header in its `configOBUs`.
    Av1(Bytes),
    /// AAC: an `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1), as in an RTMP sequence header.
    Aac(Bytes),
    /// Opus: an identification header, `OpusHead` (RFC 7845 §5.1).
    Opus(Bytes),
}

impl TrackConfig {
    /// Which track it is for.
    #[must_use]
    pub const fn track(&self) -> TrackKind {
        match self {
            Self::H264(_) | Self::Hevc(_) | Self::Av1(_) => TrackKind::Video,
            Self::Aac(_) | Self::Opus(_) => TrackKind::Audio,
        }
    }

    /// The configuration itself.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        match self {
            Self::H264(bytes)
            | Self::Hevc(bytes)
            | Self::Av1(bytes)
            | Self::Aac(bytes)
            | Self::Opus(bytes) => bytes,
        }
    }
}

/// One coded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which track it belongs to.
    pub track: TrackKind,
    /// Decode time in milliseconds on the publisher's clock, already unwrapped from 32 (or 24) bits. Where it
    /// starts means nothing.
    pub dts_ms: i64,
    /// Presentation minus decode time, in milliseconds; 0 for audio and AV1.
    pub cts_ms: i32,
    /// True where a decoder can start: an IDR picture of H.264; an IDR, BLA or CRA picture of HEVC (what leans on
    /// pictures before it is left out where a continuity starts); every audio frame. Not asked for AV1, whose key
    /// frames are looked for in `data`.
    pub keyframe: bool,
    /// The frame's bytes. H.264 and HEVC: an access unit in NAL units, each behind its length in as many bytes as the
    /// configuration says. AV1: a temporal unit of OBUs in the low-overhead format; temporal delimiters are taken out,
    /// and a sequence header is put before a key frame that has none. AAC: a raw frame. Opus: a packet of 2.5 to
    /// 120 ms.
    pub data: Bytes,
}
