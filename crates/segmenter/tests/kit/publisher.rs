//! A publisher of made-up frames with true configurations.

use bytes::Bytes;
use millstream_model::WallTime;
use millstream_segmenter::{Input, Sample, TrackConfig, TrackKind};

/// x264, 1280×720, 30 frames a second.
const RECORD: [u8; 43] = [
    1, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0, 28, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01,
    0x6a, 0x02, 0x02, 0x02, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07, 0x8c, 0x18, 0xcb, 1,
    0, 4, 0x68, 0xeb, 0xe3, 0xcb,
];

pub(crate) fn avc() -> TrackConfig {
    TrackConfig::H264(Bytes::from_static(&RECORD))
}

/// The same picture at another level.
pub(crate) fn other_avc() -> TrackConfig {
    let mut record = RECORD;
    record[3] = 0x28;
    record[11] = 0x28;
    TrackConfig::H264(Bytes::copy_from_slice(&record))
}

/// 48 kHz stereo.
pub(crate) fn aac() -> TrackConfig {
    TrackConfig::Aac(Bytes::from_static(&[0x11, 0x90]))
}

/// 44.1 kHz mono.
pub(crate) fn other_aac() -> TrackConfig {
    TrackConfig::Aac(Bytes::from_static(&[0x12, 0x08]))
}

/// x265, 320×180, 30 frames a second.
const HEVC_RECORD: [u8; 111] = [
    0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3c, 0xf0, 0x00, 0xfc, 0xfd,
    0xf8, 0xf8, 0x00, 0x00, 0x0f, 0x03, 0x20, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff,
    0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x95, 0x94,
    0x09, 0x21, 0x00, 0x01, 0x00, 0x2b, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00,
    0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0, 0x0a, 0x08, 0x0c, 0x1f, 0x3e, 0x59, 0x59, 0x52, 0x93,
    0x0b, 0xc0, 0x5a, 0x02, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10, 0x22, 0x00,
    0x01, 0x00, 0x06, 0x44, 0x01, 0xc0, 0x73, 0xc1, 0x89,
];

pub(crate) fn hevc() -> TrackConfig {
    TrackConfig::Hevc(Bytes::from_static(&HEVC_RECORD))
}

/// SVT-AV1, 320×180.
pub(crate) fn av1() -> TrackConfig {
    TrackConfig::Av1(Bytes::from_static(&[
        0x81, 0, 12, 0, 10, 11, 0, 0, 0, 4, 0x3c, 0xfe, 0xcc, 2, 0xf8, 0, 0x40,
    ]))
}

/// Stereo.
pub(crate) fn opus() -> TrackConfig {
    TrackConfig::Opus(Bytes::from_static(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"))
}

/// Any of the codecs.
pub(crate) fn some_codec(n: u8) -> TrackConfig {
    match n % 5 {
        0 => avc(),
        1 => hevc(),
        2 => av1(),
        3 => aac(),
        _ => opus(),
    }
}

/// A frame of so many bytes that is one in any codec: AV1's frame OBU without a size, 40 ms of Opus.
pub(crate) fn frame(keyframe: bool, len: usize) -> Vec<u8> {
    let mut data = vec![0x30, if keyframe { 0x10 } else { 0x30 }];
    data.resize(len, 7);
    data
}

/// What a publisher sends, and when.
#[derive(Clone)]
pub(crate) struct Publisher {
    /// Frames per 1,000 seconds; 0: no video.
    pub(crate) rate_milli: i64,
    /// Frames from keyframe to keyframe.
    pub(crate) gop: i64,
    /// Composition offset of keyframes, in frames (as with this many B-frames).
    pub(crate) reorder: i64,
    pub(crate) audio: bool,
    pub(crate) audio_rate: i64,
    /// Where its clock starts.
    pub(crate) clock_ms: i64,
    /// When it starts.
    pub(crate) wall_ms: u64,
    /// How late each track starts.
    pub(crate) video_late_ms: i64,
    pub(crate) audio_late_ms: i64,
    /// Takes up to this from and adds up to this to every decode time.
    pub(crate) jitter_ms: i64,
    pub(crate) avc: TrackConfig,
    pub(crate) aac: TrackConfig,
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            rate_milli: 30_000,
            gop: 60,
            reorder: 0,
            audio: true,
            audio_rate: 48_000,
            clock_ms: 0,
            wall_ms: 1_700_000_000_000,
            video_late_ms: 0,
            audio_late_ms: 0,
            jitter_ms: 0,
            avc: avc(),
            aac: aac(),
        }
    }
}

impl Publisher {
    /// The two configurations.
    pub(crate) fn configs(&self) -> Vec<(Input, WallTime)> {
        let wall = WallTime(self.wall_ms);
        let video = (self.rate_milli > 0).then(|| (Input::Config(self.avc.clone()), wall));
        let audio = self.audio.then(|| (Input::Config(self.aac.clone()), wall));
        video.into_iter().chain(audio).collect()
    }

    /// `duration_ms` of samples in the order of their time, without configurations.
    pub(crate) fn samples(&self, duration_ms: i64) -> Vec<(Input, WallTime)> {
        let mut samples = Vec::new();
        if self.rate_milli > 0 {
            for n in 0.. {
                let time = n * 1_000_000 / self.rate_milli;
                if self.video_late_ms + time >= duration_ms {
                    break;
                }
                // As an encoder with B-frames has them: I P B B P B B …
                let pictures = if self.reorder > 0 && n % self.gop != 0 {
                    [2, -1, -1][usize::try_from((n % self.gop - 1) % 3).unwrap()]
                } else {
                    0
                };
                let cts = (self.reorder + pictures).max(0) * 1_000_000 / self.rate_milli;
                samples.push(Sample {
                    track: TrackKind::Video,
                    dts_ms: self.video_late_ms + time,
                    cts_ms: i32::try_from(cts).unwrap(),
                    keyframe: n % self.gop == 0,
                    data: Bytes::from(vec![u8::try_from(n % 251).unwrap(); 200]),
                });
            }
        }
        if self.audio {
            for n in 0.. {
                let time = n * 1_024_000 / self.audio_rate;
                if self.audio_late_ms + time >= duration_ms {
                    break;
                }
                samples.push(Sample {
                    track: TrackKind::Audio,
                    dts_ms: self.audio_late_ms + time,
                    cts_ms: 0,
                    keyframe: true,
                    data: Bytes::from(vec![u8::try_from(n % 251).unwrap(); 50]),
                });
            }
        }
        samples.sort_by_key(|sample| sample.dts_ms);
        let mut noise = 0x9e37_79b9_u64;
        samples
            .into_iter()
            .map(|mut sample| {
                let wall = WallTime(self.wall_ms + u64::try_from(sample.dts_ms).unwrap());
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let spread = 2 * self.jitter_ms + 1;
                sample.dts_ms +=
                    self.clock_ms + i64::try_from(noise >> 40).unwrap() % spread - self.jitter_ms;
                (Input::Sample(sample), wall)
            })
            .collect()
    }

    /// Configurations and `duration_ms` of samples.
    pub(crate) fn play(&self, duration_ms: i64) -> Vec<(Input, WallTime)> {
        let mut inputs = self.configs();
        inputs.extend(self.samples(duration_ms));
        inputs
    }
}

/// Changes a sample, or drops it.
pub(crate) fn edit(
    inputs: Vec<(Input, WallTime)>,
    mut edit: impl FnMut(&mut Sample) -> bool,
) -> Vec<(Input, WallTime)> {
    inputs
        .into_iter()
        .filter_map(|(mut input, wall)| match &mut input {
            Input::Sample(sample) => edit(sample).then_some((input, wall)),
            _ => Some((input, wall)),
        })
        .collect()
}
