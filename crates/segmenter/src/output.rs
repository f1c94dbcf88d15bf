//! What the segmenter puts out: tracks, parts, and complaints about the publisher.

use bytes::Bytes;
use millstream_model::{MediaTime, RenditionId, WallTime};
use thiserror::Error;

use crate::{gop::GOP_MS_WANTED, sample::TrackKind};

/// The rendition the video track becomes.
pub const VIDEO: RenditionId = RenditionId(0);

/// The rendition the audio track becomes.
pub const AUDIO: RenditionId = RenditionId(1);

/// Target duration of every rendition (`EXT-X-TARGETDURATION`), in milliseconds. It never changes: a longer GOP is
/// cut between keyframes.
pub const TARGET_DURATION_MS: u32 = 4_000;

/// What [`crate::Segmenter::poll`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The renditions from here on; all of them, video first. A rendition that is not listed has ended until it is
    /// listed again. Always before the parts it describes, which then begin a new discontinuity (but the first
    /// time).
    Tracks(Vec<Track>),
    /// A finished part. Each rendition's parts come in order.
    Part(Part),
    /// The stream is over; nothing follows.
    Ended,
    /// The publisher did something the stream had to be bent around.
    Complaint(Complaint),
    /// A coded picture of [`VIDEO`] as it goes into a part; for encoders of further renditions, and only from a
    /// [`crate::Segmenter::with_pictures`]. Each comes before the part that holds it.
    Picture(Picture),
}

/// A coded picture of the publisher's on the stream's timeline, in decode order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The discontinuity sequence number of its part. Where it changes, decoders begin anew.
    pub discontinuity: u32,
    /// When it is shown, in ticks of [`VIDEO`].
    pub shown: MediaTime,
    /// No picture after it, of this discontinuity, is shown before (in ticks).
    pub settled: MediaTime,
    /// A decoder can start here.
    pub keyframe: bool,
    /// A segment begins with it, at this decode time (in ticks).
    pub first: Option<MediaTime>,
    /// Its bytes, as in [`crate::Sample::data`].
    pub data: Bytes,
}

/// A rendition, as a catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// [`VIDEO`] or [`AUDIO`].
    pub rendition: RenditionId,
    /// What it carries.
    pub media: Media,
    /// The codec, as in an RFC 6381 `codecs` parameter: `avc1.PPCCLL`, `hvc1.…`, `av01.…`, `mp4a.40.N`, `opus`.
    pub codec: String,
    /// Ticks a second of its media times and durations: 90,000, or the audio sample rate.
    pub timescale: u32,
    /// [`TARGET_DURATION_MS`].
    pub target_duration_ms: u32,
    /// What a part's duration does not pass (`PART-TARGET`), in milliseconds; every part but a segment's last is
    /// at least 85 % of it. Chosen from the measured frame duration and kept as long as the frames allow; parts
    /// whose frames do not are told by [`Complaint::LongFrame`].
    pub part_target_ms: u32,
    /// The init segment (`ftyp`, `moov`).
    pub init: Bytes,
}

impl Track {
    /// Which of the publisher's tracks it is made of.
    #[must_use]
    pub const fn kind(&self) -> TrackKind {
        match self.media {
            Media::Video { .. } => TrackKind::Video,
            Media::Audio { .. } => TrackKind::Audio,
        }
    }
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Pictures.
    Video {
        /// Width in pixels, after cropping.
        width: u16,
        /// Height in pixels, after cropping.
        height: u16,
        /// Frames per 1,000 seconds (29,970 for 29.97); 0 when not known.
        frame_rate_milli: u32,
    },
    /// Sound.
    Audio {
        /// Channels.
        channels: u8,
        /// Samples a second of the coded signal (half of what HE-AAC plays); the timescale too.
        sample_rate: u32,
    },
}

/// A part: one `moof` and its `mdat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The rendition.
    pub rendition: RenditionId,
    /// The media sequence number of its segment. Rises by one a segment, for ever.
    pub segment: u64,
    /// Its index in the segment.
    pub part: u16,
    /// A segment begins here (and the one before it ended).
    pub first: bool,
    /// It begins with a keyframe: a decoder can start here.
    pub independent: bool,
    /// The absolute discontinuity sequence number, counted for all renditions together. A rendition may skip
    /// numbers: it had no part in that continuity.
    pub discontinuity: u32,
    /// Decode time of its first sample on the stream's timeline. Within a discontinuity it is where the part
    /// before it ended.
    pub media_time: MediaTime,
    /// Decode duration, in ticks; the sum of its samples' durations.
    pub duration: u32,
    /// Wall-clock time of its first sample: that of the discontinuity's anchor plus the media time since.
    pub program_date_time: WallTime,
    /// The bytes, at most [`millstream_model::PART_BYTES_MAX`].
    pub data: Bytes,
}

/// What a publisher did wrong, and what it cost. Data for logs and the broadcaster's page; nothing has to be done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Complaint {
    /// A track's configuration cannot be used; the one before it, if any, stays in force.
    #[error("{track:?}: unusable configuration: {reason}")]
    Config {
        /// The track.
        track: TrackKind,
        /// What is wrong with it.
        reason: crate::codec::Error,
    },
    /// A sample came before its track's configuration and was dropped. Told once a start.
    #[error("{track:?}: samples before their configuration")]
    NoConfig {
        /// The track.
        track: TrackKind,
    },
    /// Video does not start with a keyframe; what comes before the first is dropped. Told once a start.
    #[error("video does not start with a keyframe")]
    NoKeyframe,
    /// A sample without bytes, or with more than [`crate::SAMPLE_BYTES_MAX`], was dropped.
    #[error("{track:?}: a sample of {bytes} bytes")]
    Size {
        /// The track.
        track: TrackKind,
        /// Its size.
        bytes: usize,
    },
    /// A sample that is none of its codec was dropped.
    #[error("{track:?}: a sample that cannot be read")]
    Unreadable {
        /// The track.
        track: TrackKind,
    },
    /// A video sample's decode time does not increase; it was dropped.
    #[error("video: a sample {by_ms} ms late")]
    Late {
        /// How far behind the earliest acceptable time it is.
        by_ms: u64,
    },
    /// A composition offset is out of bounds; it was brought within them.
    #[error("video: a composition offset of {cts_ms} ms")]
    Composition {
        /// What the publisher said.
        cts_ms: i32,
    },
    /// A track's clock jumped: a discontinuity of the whole stream.
    #[error("{track:?}: the clock jumped by {by_ms} ms")]
    Jump {
        /// The track.
        track: TrackKind,
        /// From the track's sample before it.
        by_ms: i64,
    },
    /// Audio is missing; frames of silence took its place.
    #[error("audio is missing: {frames} frames of silence")]
    AudioGap {
        /// How many.
        frames: u64,
    },
    /// Audio runs ahead of the publisher's clock: there are more frames than time for them; one was dropped.
    #[error("audio runs {by_ms} ms ahead of its clock")]
    AudioAhead {
        /// How far.
        by_ms: u64,
    },
    /// One frame lasts longer than the part target, so the part that holds it, and nothing else, does too.
    #[error(
        "rendition {rendition}: a frame of {duration_ms} ms breaks the part target of {part_target_ms} ms"
    )]
    LongFrame {
        /// The rendition.
        rendition: RenditionId,
        /// The frame's duration.
        duration_ms: u64,
        /// The rendition's part target.
        part_target_ms: u32,
    },
    /// Keyframes are further apart than the target duration, so segments begin between them. Told once for a
    /// publisher, and again when it gets worse.
    #[error("keyframes are {}.{} s apart", .gop_ms / 1_000, .gop_ms % 1_000 / 100)]
    LongGop {
        /// From one to the next; so far, when the next did not come for 12 s.
        gop_ms: u64,
        /// Frames per 1,000 seconds.
        frame_rate_milli: u32,
    },
    /// The box writer refused a part; it is lost.
    #[error("rendition {rendition}: segment {segment} part {part} could not be written")]
    Unwritten {
        /// The rendition.
        rendition: RenditionId,
        /// Its segment.
        segment: u64,
        /// Its index in the segment.
        part: u16,
    },
    /// Input after [`crate::Input::End`] was dropped.
    #[error("input after the end")]
    Ended,
}

impl Complaint {
    /// Its kind, as programs are told it; never changes once people count it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Config { .. } => "config",
            Self::NoConfig { .. } => "no_config",
            Self::NoKeyframe => "no_keyframe",
            Self::Size { .. } => "size",
            Self::Unreadable { .. } => "unreadable",
            Self::Late { .. } => "late",
            Self::Composition { .. } => "composition",
            Self::Jump { .. } => "jump",
            Self::AudioGap { .. } => "audio_gap",
            Self::AudioAhead { .. } => "audio_ahead",
            Self::LongFrame { .. } => "long_frame",
            Self::LongGop { .. } => "long_gop",
            Self::Unwritten { .. } => "unwritten",
            Self::Ended => "ended",
        }
    }

    /// What the publisher's owner can do about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let Self::LongGop { frame_rate_milli, .. } = self else { return None };
        let frames = ((u64::from(*frame_rate_milli) * GOP_MS_WANTED + 500_000) / 1_000_000).max(1);
        let seconds = GOP_MS_WANTED / 1_000;
        Some(format!(
            "send a keyframe every {seconds} s. OBS: Settings > Output > Keyframe Interval {seconds} s (0 is not {seconds}); \
             ffmpeg: -g {frames}; GStreamer: x264enc key-int-max={frames}"
        ))
    }
}
