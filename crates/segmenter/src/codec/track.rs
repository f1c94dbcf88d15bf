//! A track's configuration, of any codec: what of it the rest of the crate goes by.

use bytes::Bytes;

use super::{Described, Error, Shape, aac::Aac, av1, avc, hevc, opus};
use crate::{
    cmaf,
    sample::{Sample, TrackConfig},
};

/// A video track's codec.
#[derive(Debug, Clone)]
pub(crate) struct VideoCodec {
    /// As it came.
    pub(crate) config: TrackConfig,
    /// The RFC 6381 text.
    pub(crate) codec: String,
    pub(crate) shape: Shape,
    /// The init segment of a track whose composition offsets are true.
    pub(crate) plain_init: Bytes,
    entry: mp4_atom::Codec,
    form: Form,
}

/// What becomes of a codec's samples.
#[derive(Debug, Clone)]
enum Form {
    /// They are what they were.
    Plain,
    /// The same, but some of them nobody can decode who has just started, which their NAL units tell.
    Nal { length_bytes: usize },
    /// OBUs are taken out and put in.
    Obu(av1::Units),
}

impl VideoCodec {
    /// Reads the configuration of a video track.
    pub(crate) fn parse(config: TrackConfig) -> Result<Self, Error> {
        let raw = config.bytes();
        let (described, form) = match &config {
            TrackConfig::Hevc(_) => {
                let (described, length_bytes) = hevc::parse(raw)?;
                (described, Form::Nal { length_bytes })
            }
            TrackConfig::Av1(_) => {
                let (described, units) = av1::parse(raw)?;
                (described, Form::Obu(units))
            }
            _ => (avc::parse(raw)?, Form::Plain),
        };
        let Described { codec, shape, entry } = described;
        let plain_init = cmaf::video_init(&entry, &shape, 0).map_err(|_| Error::Boxes)?;
        Ok(Self { config, codec, shape, plain_init, entry, form })
    }

    /// The init segment of a track whose composition offsets are `shift` ticks too long.
    pub(crate) fn init(&self, shift: u32) -> Result<Bytes, Error> {
        cmaf::video_init(&self.entry, &self.shape, shift).map_err(|_| Error::Boxes)
    }

    /// A sample as a file holds it; `None` when it cannot be read.
    pub(crate) fn sample(&self, sample: Sample) -> Option<Sample> {
        let Form::Obu(units) = &self.form else { return Some(sample) };
        let (data, keyframe) = units.sample(&sample.data)?;
        Some(Sample { data, keyframe, cts_ms: 0, ..sample })
    }

    /// Bytes of a NAL unit's length, where frames have to be looked at when a decoder starts.
    pub(crate) fn leading(&self) -> Option<usize> {
        match self.form {
            Form::Nal { length_bytes } => Some(length_bytes),
            Form::Plain | Form::Obu(_) => None,
        }
    }
}

/// An audio track's codec.
#[derive(Debug, Clone)]
pub(crate) struct AudioCodec {
    /// As it came.
    pub(crate) config: TrackConfig,
    /// The RFC 6381 text.
    pub(crate) codec: String,
    /// Channels of the coded signal.
    pub(crate) channels: u8,
    /// Samples a second of the coded signal.
    pub(crate) sample_rate: u32,
    /// A frame of silence.
    pub(crate) silence: Bytes,
    /// Samples in it.
    pub(crate) silence_samples: u32,
    /// The init segment.
    pub(crate) init: Bytes,
    /// Samples in a frame, where all have as many.
    frame_samples: Option<u32>,
}

impl AudioCodec {
    /// Reads the configuration of an audio track.
    pub(crate) fn parse(config: TrackConfig) -> Result<Self, Error> {
        if matches!(config, TrackConfig::Opus(_)) { Self::opus(config) } else { Self::aac(config) }
    }

    fn opus(config: TrackConfig) -> Result<Self, Error> {
        let head = opus::Head::parse(config.bytes())?;
        Ok(Self {
            config,
            codec: String::from("opus"),
            channels: head.channels,
            sample_rate: opus::SAMPLE_RATE,
            silence: head.silence,
            silence_samples: opus::PACKET_SAMPLES_USUAL,
            init: cmaf::audio_init(head.entry, opus::SAMPLE_RATE).map_err(|_| Error::Boxes)?,
            frame_samples: None,
        })
    }

    fn aac(config: TrackConfig) -> Result<Self, Error> {
        let aac = Aac::parse(config.bytes())?;
        let entry = aac.entry(config.bytes());
        Ok(Self {
            config,
            init: cmaf::audio_init(entry, aac.sample_rate).map_err(|_| Error::Boxes)?,
            codec: aac.codec,
            channels: aac.channels,
            sample_rate: aac.sample_rate,
            silence: aac.silence,
            silence_samples: aac.frame_samples,
            frame_samples: Some(aac.frame_samples),
        })
    }

    /// Samples in a frame; `None` when it is none.
    pub(crate) fn samples(&self, frame: &[u8]) -> Option<u32> {
        self.frame_samples.or_else(|| opus::packet_samples(frame))
    }
}
