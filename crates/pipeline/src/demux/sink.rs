//! Where a track ends: buffers of GStreamer become set-ups and samples.

use std::sync::Arc;

use bytes::Bytes;
use gst::prelude::*;
use millstream_segmenter::{Sample, TrackConfig, TrackKind};

use super::{End, Error, Output};

/// Kinds of NAL units that belong into the set-up, or mean nothing between access units (ISO/IEC 14496-10 table 7-1):
/// SPS, PPS, delimiter.
const NOT_IN_SAMPLES: [u8; 3] = [7, 8, 9];

/// Bytes before each NAL unit in what h264parse gives out.
const LENGTH_BYTES: usize = 4;

/// How long a frame lasts of which nothing is known: long enough to be another time in milliseconds.
const UNKNOWN_NS: i64 = 1_000_000;

/// Sounds in a frame of AAC.
const AAC_SAMPLES: i64 = 1024;

/// An element that gives all it gets, in the form `form`, to `end` as samples of `kind`.
pub(super) fn new(kind: TrackKind, form: &str, end: Arc<End>) -> gst::Element {
    let mut track =
        Track { kind, end, config: None, caps: None, last_ns: None, next_ns: None, lasts_ns: UNKNOWN_NS };
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            track.take(&sample)
        })
        .build();
    let caps = form.parse::<gst::Caps>().unwrap_or_else(|_| gst::Caps::new_any());
    gst_app::AppSink::builder()
        .caps(&caps)
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .max_buffers(1)
        .callbacks(callbacks)
        .build()
        .upcast()
}

struct Track {
    kind: TrackKind,
    end: Arc<End>,
    config: Option<Bytes>,
    caps: Option<gst::Caps>,
    /// When the last sample was decoded, and when it was over.
    last_ns: Option<i64>,
    next_ns: Option<i64>,
    /// How long a frame lasts that does not say so.
    lasts_ns: i64,
}

impl Track {
    fn take(&mut self, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        if let Some(config) = self.new_config(sample) {
            let config = match self.kind {
                TrackKind::Video => TrackConfig::H264(config),
                TrackKind::Audio => TrackConfig::Aac(config),
            };
            self.put(Output::Config(config))?;
        }
        if self.config.is_none() {
            return Ok(gst::FlowSuccess::Ok);
        }
        if let Some(sample) = self.sample(sample) {
            self.put(Output::Sample(sample))?;
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn put(&self, output: Output) -> Result<(), gst::FlowError> {
        if self.end.put(output) { Ok(()) } else { Err(gst::FlowError::Eos) }
    }

    /// The set-up, when it is not the one from before.
    fn new_config(&mut self, sample: &gst::Sample) -> Option<Bytes> {
        let caps = sample.caps_owned()?;
        if self.caps.as_ref() == Some(&caps) {
            return None;
        }
        let form = caps.structure(0)?;
        if let (TrackKind::Audio, Ok(rate @ 1..)) = (self.kind, form.get::<i32>("rate")) {
            self.lasts_ns = AAC_SAMPLES * 1_000_000_000 / i64::from(rate);
        }
        let config = form.get::<gst::Buffer>("codec_data").ok()?;
        let config = Bytes::copy_from_slice(&config.map_readable().ok()?);
        self.caps = Some(caps);
        if self.config.as_ref() == Some(&config) {
            return None;
        }
        self.config = Some(config.clone());
        Some(config)
    }

    fn sample(&mut self, sample: &gst::Sample) -> Option<Sample> {
        let buffer = sample.buffer()?;
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
        let at =
            |time: Option<gst::ClockTime>| time.and_then(|time| nanos(segment.to_running_time_full(time)));
        let (pts, dts) = (at(buffer.pts()), at(buffer.dts()));
        // A frame without any time begins where the one before it ends.
        let decoded = dts.or(pts).or(self.next_ns)?;
        let is_known = dts.is_some() || self.kind == TrackKind::Audio;
        if !is_known && self.last_ns.is_some_and(|last| last > decoded) {
            self.end.set(Err(Error::Reordered));
            return None;
        }
        self.last_ns = Some(decoded);
        let lasts = buffer.duration().and_then(|lasts| i64::try_from(lasts.nseconds()).ok());
        self.next_ns = Some(decoded.saturating_add(lasts.unwrap_or(self.lasts_ns)));
        let shown = pts.unwrap_or(decoded);
        let bytes = buffer.map_readable().ok()?;
        let data = match self.kind {
            TrackKind::Video => slices(&bytes),
            TrackKind::Audio => bytes.to_vec(),
        };
        if data.is_empty() {
            return None;
        }
        let dts_ms = millis(decoded);
        Some(Sample {
            track: self.kind,
            dts_ms,
            cts_ms: i32::try_from(millis(shown) - dts_ms).unwrap_or_default(),
            keyframe: self.kind == TrackKind::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            data: data.into(),
        })
    }
}

/// An access unit without what belongs into its set-up.
fn slices(unit: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(unit.len());
    let mut left = unit;
    while let Some((length, rest)) = left.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((nal, rest)) = rest.split_at_checked(length) else { break };
        if nal.first().is_some_and(|head| !NOT_IN_SAMPLES.contains(&(head & 0x1f))) {
            kept.extend_from_slice(left.get(..LENGTH_BYTES + length).unwrap_or_default());
        }
        left = rest;
    }
    kept
}

/// To the nearest millisecond, those before zero as well.
fn millis(nanos: i64) -> i64 {
    nanos.saturating_add(500_000).div_euclid(1_000_000)
}

fn nanos(time: Option<gst::Signed<gst::ClockTime>>) -> Option<i64> {
    match time? {
        gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok(),
        gst::Signed::Negative(time) => i64::try_from(time.nseconds()).ok().map(|nanos| -nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_zero_are_rounded_like_others() {
        assert_eq!([-1_600_000, -1_400_000, 1_400_000, 1_600_000].map(millis), [-2, -1, 1, 2]);
    }

    #[test]
    fn parameter_sets_and_delimiters_are_left_out_of_samples() {
        let nal = |kind: u8| [&[0, 0, 0, 2, kind, 9][..]].concat();
        let unit = [nal(9), nal(0x67), nal(0x68), nal(6), nal(0x65)].concat();
        assert_eq!(slices(&unit), [nal(6), nal(0x65)].concat());
        assert_eq!(slices(&[0, 0, 0, 9, 0x65]), []);
    }
}
