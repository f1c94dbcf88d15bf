//! A publish under way: media messages in; set-ups when they change, frames and metadata out.

use bytes::{Buf, Bytes};

use crate::{
    Frame, Output, Setup, Track,
    amf0::{self, Value},
    chunk::Message,
    command::{AMF_BYTES_MAX, kind},
    tag::{self, Content},
};

/// Bytes in a codec set-up at most: parameter sets are hundreds of bytes, and two set-ups are kept to tell
/// repetitions.
pub(crate) const SETUP_BYTES_MAX: usize = 16 * 1024;

/// Characters kept of an encoder's name.
const ENCODER_CHARS_MAX: usize = 128;

/// Bytes of a tag's header and of its trailing size inside an aggregate message (§7.1.6, FLV 10.1 §E.3).
const SUB_HEADER_BYTES: usize = 11;
const SUB_TRAILER_BYTES: usize = 4;

/// What an encoder says of itself (`onMetaData`). Nothing depends on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Its name, without control characters.
    pub encoder: Option<String>,
    /// Width in pixels.
    pub width: Option<f64>,
    /// Height in pixels.
    pub height: Option<f64>,
    /// Frames a second.
    pub frame_rate: Option<f64>,
    /// Video rate in kbit/s.
    pub video_kbps: Option<f64>,
    /// Audio rate in kbit/s.
    pub audio_kbps: Option<f64>,
}

/// What is kept of a publish between messages.
#[derive(Debug, Default)]
pub(crate) struct Publish {
    clock: Clock,
    video: Option<Setup>,
    audio: Option<Setup>,
    /// Other tracks of a kind were told of.
    others: Others,
    aggregate: Option<Aggregate>,
}

#[derive(Debug, Default)]
struct Others {
    video: bool,
    audio: bool,
}

impl Publish {
    /// Takes in a message. An aggregate is kept and read by [`Publish::next`].
    pub(crate) fn message(&mut self, message: &Message) -> Result<Option<Output>, tag::Error> {
        match message.kind {
            kind::VIDEO => self.media(Track::Video, message.timestamp, &message.body),
            kind::AUDIO => self.media(Track::Audio, message.timestamp, &message.body),
            kind::DATA => Ok(metadata(&message.body)),
            kind::DATA_AMF3 => Ok(metadata(message.body.get(1..).unwrap_or_default())),
            kind::AGGREGATE => {
                self.aggregate =
                    Some(Aggregate { rest: message.body.clone(), timestamp: message.timestamp, first: None });
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The next output of an aggregate that is being read.
    pub(crate) fn next(&mut self) -> Result<Option<Output>, tag::Error> {
        while let Some(message) = self.aggregate.as_mut().and_then(Aggregate::next) {
            if let Some(output) = self.message(&message)? {
                return Ok(Some(output));
            }
        }
        self.aggregate = None;
        Ok(None)
    }

    /// Bytes it keeps.
    pub(crate) fn held_bytes(&self) -> usize {
        let setups =
            [&self.video, &self.audio].into_iter().flatten().map(|setup| setup.bytes().len()).sum::<usize>();
        setups + self.aggregate.as_ref().map_or(0, |aggregate| aggregate.rest.len())
    }

    fn media(&mut self, track: Track, timestamp: u32, body: &Bytes) -> Result<Option<Output>, tag::Error> {
        let (content, setup, others) = match track {
            Track::Video => (tag::video(body, self.video.as_ref())?, &mut self.video, &mut self.others.video),
            Track::Audio => (tag::audio(body)?, &mut self.audio, &mut self.others.audio),
        };
        match content {
            Content::Nothing => Ok(None),
            Content::OtherTrack => {
                Ok((!std::mem::replace(others, true)).then_some(Output::OtherTrack(track)))
            }
            Content::Setup(new) => {
                if new.bytes().len() > SETUP_BYTES_MAX {
                    return Err(tag::Error::Setup("codec set-up"));
                }
                // Encoders repeat their set-up with every keyframe; only a change is news.
                if setup.as_ref() == Some(&new) {
                    return Ok(None);
                }
                *setup = Some(new.detached());
                Ok(Some(Output::Config(new)))
            }
            // What comes before the set-up of its codec cannot be decoded by anybody.
            Content::Frame { codec, .. } if setup.as_ref().is_none_or(|setup| setup.codec() != codec) => {
                Ok(None)
            }
            Content::Frame { cts_ms, keyframe, data, .. } => {
                let dts_ms = self.clock.unwrap(timestamp);
                Ok(Some(Output::Frame(Frame { track, dts_ms, cts_ms, keyframe, data })))
            }
        }
    }
}

/// Turns 32-bit milliseconds, which wrap every 49.7 days, into ones that do not. Both tracks share it, so that
/// they wrap together.
#[derive(Debug, Default)]
struct Clock {
    last: Option<i64>,
}

impl Clock {
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = self.last.map_or(i64::from(timestamp), |last| {
            let low = u32::try_from(last.rem_euclid(1 << 32)).unwrap_or(0);
            last + i64::from(timestamp.wrapping_sub(low).cast_signed())
        });
        self.last = Some(unwrapped);
        unwrapped
    }
}

/// An aggregate message (§7.1.6), read tag by tag.
#[derive(Debug)]
struct Aggregate {
    rest: Bytes,
    timestamp: u32,
    first: Option<u32>,
}

impl Aggregate {
    fn next(&mut self) -> Option<Message> {
        let header = self.rest.first_chunk::<SUB_HEADER_BYTES>()?;
        let [kind, l0, l1, l2, t0, t1, t2, t3, ..] = *header;
        let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        let time = u32::from_be_bytes([t3, t0, t1, t2]);
        let first = *self.first.get_or_insert(time);
        let timestamp = self.timestamp.wrapping_add(time.wrapping_sub(first));
        self.rest.advance(SUB_HEADER_BYTES);
        if length > self.rest.len() {
            return None;
        }
        let body = self.rest.split_to(length);
        self.rest.advance(SUB_TRAILER_BYTES.min(self.rest.len()));
        // An aggregate in an aggregate is nobody's; reading it would let bytes be read again and again.
        let kind = if kind == kind::AGGREGATE { 0 } else { kind };
        Some(Message { kind, timestamp, stream: 0, body })
    }
}

fn metadata(body: &[u8]) -> Option<Output> {
    if body.len() > AMF_BYTES_MAX {
        return None;
    }
    let values = amf0::read_all(body).ok()?;
    let name = values.iter().position(|value| value.as_str() == Some("onMetaData"))?;
    let properties = values.get(name + 1)?;
    let number = |name: &str| properties.get(name).and_then(Value::as_number).filter(|n| n.is_finite());
    let encoder = properties
        .get("encoder")
        .and_then(Value::as_str)
        .map(|name| name.chars().filter(|c| !c.is_control()).take(ENCODER_CHARS_MAX).collect::<String>())
        .filter(|name| !name.is_empty());
    Some(Output::Metadata(Metadata {
        encoder,
        width: number("width"),
        height: number("height"),
        frame_rate: number("framerate"),
        video_kbps: number("videodatarate"),
        audio_kbps: number("audiodatarate"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVC_SETUP: &[u8] = &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 0];
    const AVC_FRAME: &[u8] = &[0x17, 1, 0, 0, 40, 0, 0, 0, 2, 0x65, 0x88];
    const AAC_SETUP: &[u8] = &[0xaf, 0, 0x12, 0x10];
    const AAC_FRAME: &[u8] = &[0xaf, 1, 0x21];

    fn message(kind: u8, timestamp: u32, body: &[u8]) -> Message {
        Message { kind, timestamp, stream: 1, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn a_set_up_that_repeats_is_no_news_and_frames_before_it_are_dropped() {
        let mut publish = Publish::default();
        let mut video = |body: &[u8]| publish.message(&message(kind::VIDEO, 0, body)).unwrap();
        assert_eq!(video(AVC_FRAME), None);
        assert!(matches!(video(AVC_SETUP), Some(Output::Config(Setup::Avc(_)))));
        assert_eq!(video(AVC_SETUP), None);
        let changed = [AVC_SETUP, &[0]].concat();
        assert!(matches!(video(&changed), Some(Output::Config(Setup::Avc(_)))));
        assert!(matches!(video(AVC_FRAME), Some(Output::Frame(Frame { keyframe: true, cts_ms: 40, .. }))));
    }

    #[test]
    fn frames_of_another_codec_than_the_set_ups_are_dropped() {
        let mut publish = Publish::default();
        let mut video = |body: &[u8]| publish.message(&message(kind::VIDEO, 0, body)).unwrap();
        let hevc = [&[0x90][..], b"hvc1", &[1; 21], &[3, 1, 0x20]].concat();
        assert!(matches!(video(&hevc), Some(Output::Config(Setup::Hevc(_)))));
        assert_eq!(video(AVC_FRAME), None);
        let frame = [&[0x93][..], b"hvc1", &[0, 0, 0, 2, 0x26, 1]].concat();
        assert!(matches!(video(&frame), Some(Output::Frame(Frame { keyframe: true, .. }))));
        // The encoder was set to another codec, under way.
        assert!(matches!(video(AVC_SETUP), Some(Output::Config(Setup::Avc(_)))));
        assert_eq!(video(&frame), None);
        assert!(matches!(video(AVC_FRAME), Some(Output::Frame(_))));
    }

    #[test]
    fn other_tracks_are_told_of_once() {
        let mut publish = Publish::default();
        let mut audio = |body: &[u8]| publish.message(&message(kind::AUDIO, 0, body)).unwrap();
        let second = [&[0x95, 0][..], b"mp4a", &[1, 0x12, 0x10]].concat();
        assert_eq!(audio(&second), Some(Output::OtherTrack(Track::Audio)));
        assert_eq!(audio(&second), None);
        let first = [&[0x95, 0][..], b"mp4a", &[0, 0x12, 0x10]].concat();
        assert!(matches!(audio(&first), Some(Output::Config(Setup::Aac(_)))));
    }

    #[test]
    fn a_set_up_is_bounded() {
        let big = [AVC_SETUP, &[0; SETUP_BYTES_MAX]].concat();
        assert!(Publish::default().message(&message(kind::VIDEO, 0, &big)).is_err());
    }

    #[test]
    fn both_tracks_wrap_together_and_may_step_back() {
        let mut clock = Clock::default();
        let unwrapped =
            [0xffff_fff0, 0x10, 0xffff_fffe, 0x20, 0x8000_0000].map(|timestamp| clock.unwrap(timestamp));
        let base = 1_i64 << 32;
        assert_eq!(unwrapped, [base - 16, base + 16, base - 2, base + 32, base + 0x8000_0000]);
        // Before the publisher's own zero.
        let mut clock = Clock::default();
        assert_eq!([5, 0xffff_ffff].map(|timestamp| clock.unwrap(timestamp)), [5, -1]);
        assert_eq!(clock.unwrap(3), 3);
    }

    #[test]
    fn an_aggregate_reads_as_its_tags() {
        let sub = |kind: u8, time: u8, body: &[u8]| {
            let length = u8::try_from(body.len()).unwrap();
            [&[kind, 0, 0, length, 0, 0, time, 0, 0, 0, 0], body, &[0, 0, 0, 11 + length]].concat()
        };
        let body = [
            sub(kind::AUDIO, 10, AAC_SETUP),
            sub(kind::AUDIO, 10, AAC_FRAME),
            sub(kind::AGGREGATE, 10, &sub(kind::AUDIO, 10, AAC_FRAME)),
            sub(kind::AUDIO, 33, AAC_FRAME),
            vec![kind::AUDIO, 0, 0, 200, 0, 0, 40, 0, 0, 0, 0, 1],
        ]
        .concat();
        let mut publish = Publish::default();
        assert_eq!(publish.message(&message(kind::AGGREGATE, 1000, &body)), Ok(None));
        let mut times = Vec::new();
        while let Some(output) = publish.next().unwrap() {
            if let Output::Frame(frame) = output {
                times.push(frame.dts_ms);
            }
        }
        assert_eq!(times, [1000, 1023]);
        assert_eq!(publish.held_bytes(), 2, "only the set-up is kept");
    }

    #[test]
    fn metadata_reads_bounded_and_clean() {
        let mut body = Vec::new();
        let properties = Value::Object(vec![
            ("width".into(), Value::Number(1280.0)),
            ("framerate".into(), Value::Number(f64::NAN)),
            ("encoder".into(), Value::String(format!("Lavf\u{1b}[2J\n{}", "x".repeat(200)))),
        ]);
        for value in ["@setDataFrame".into(), "onMetaData".into(), properties] {
            amf0::write(&value, &mut body);
        }
        let Some(Output::Metadata(metadata)) = metadata(&body) else { panic!("metadata") };
        assert_eq!((metadata.width, metadata.frame_rate), (Some(1280.0), None));
        let encoder = metadata.encoder.unwrap();
        assert!(encoder.starts_with("Lavf[2Jxxx") && encoder.chars().count() == ENCODER_CHARS_MAX);
    }
}
