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
    /// AAC: an `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1), as in an RTMP sequence header.
    Aac(Bytes),
}

/// One coded frame: an access unit of video in length-prefixed NAL units, or one raw AAC frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which track it belongs to.
    pub track: TrackKind,
    /// Decode time in milliseconds on the publisher's clock, already unwrapped from 32 (or 24) bits. Where it
    /// starts means nothing.
    pub dts_ms: i64,
    /// Presentation minus decode time, in milliseconds; 0 for audio.
    pub cts_ms: i32,
    /// True where a decoder can start (an IDR picture; every audio frame).
    pub keyframe: bool,
    /// The frame's bytes.
    pub data: Bytes,
}
