//! A publisher's bytes.

use bytes::Bytes;
use millstream_model::{Instant, WallTime};
use millstream_rtmp::{
    Config, Connection, HANDSHAKE_BYTES, Input, Limits, Output, Setup, Track,
    amf0::{self, DEPTH_MAX, VALUES_MAX, Value},
    chunk::{self, CHUNK_BYTES_INITIAL, Message, Reader},
};
use millstream_segmenter::{Input as SegmenterInput, Sample, TrackConfig, TrackKind};

use crate::{
    script::{Script, cuts},
    segmenter::Judged,
};

/// Bytes that a program hands in at once.
const RECEIVED_MAX: usize = 16 * 1024;

/// Bytes of AMF0 that are looked at: texts that are no UTF-8 grow threefold, and a name must stay below 64 KiB.
const VALUES_BYTES_MAX: usize = 16 * 1024;

/// The first byte says what was said before, the second how the rest is cut.
pub(crate) fn connection(data: &[u8]) {
    let mut script = Script::new(data);
    let mut bytes = match script.byte() % 3 {
        0 => Vec::new(),
        1 => handshake(),
        _ => published(),
    };
    let seed = script.byte();
    bytes.extend_from_slice(script.rest());
    let whole = converse(bytes.chunks(RECEIVED_MAX));
    let in_cuts = converse(cuts(&bytes, seed, RECEIVED_MAX).into_iter());
    assert_eq!(whole, in_cuts, "cuts make no difference");
}

/// What a connection said happened, as text: metadata may hold numbers that are not equal to themselves.
fn converse<'a>(received: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let config = Config::default();
    let admitted_max = config.admitted_bytes_max(RECEIVED_MAX);
    let mut bound = config.unadmitted_bytes_max(RECEIVED_MAX);
    let mut connection = Connection::new(config, 0, Instant(0));
    let mut happened = Vec::new();
    let mut closed = false;
    for bytes in received {
        connection.handle(Input::Received(Bytes::copy_from_slice(bytes)), Instant(0));
        loop {
            let held = connection.held_bytes();
            assert!(held <= bound, "{held} bytes held, {bound} allowed");
            let Some(output) = connection.poll() else { break };
            assert!(!closed, "after the end: {output:?}");
            match &output {
                // Acknowledgements go by what was received together.
                Output::Send(_) => continue,
                Output::Publish { .. } => {
                    bound = admitted_max;
                    connection.handle(Input::Admitted, Instant(0));
                }
                Output::Frame(frame) => {
                    assert!((-0x80_0000..0x80_0000).contains(&frame.cts_ms) && !frame.data.is_empty());
                }
                Output::Close { .. } => closed = true,
                Output::Config(_) | Output::OtherTrack(_) | Output::Metadata(_) => {}
            }
            happened.push(format!("{output:?}"));
        }
    }
    happened
}

/// The first byte says how the rest is cut, the second how long the writer's pieces are.
pub(crate) fn messages(data: &[u8]) {
    let mut script = Script::new(data);
    let (seed, written) = (script.byte(), usize::from(script.half()));
    let bytes = script.rest();
    let whole = read_messages([bytes].into_iter());
    let in_cuts = read_messages(cuts(bytes, seed, usize::MAX).into_iter());
    assert_eq!(whole, in_cuts, "cuts make no difference");
    let chunk_bytes = written.max(1);
    let mut reader = Reader::new(Limits::ADMITTED);
    reader.set_chunk_bytes(u32::try_from(chunk_bytes).unwrap()).unwrap();
    for message in &whole.0 {
        let mut out = Vec::new();
        chunk::write(message, 2 + seed % 62, chunk_bytes, &mut out);
        let mut input = Bytes::from(out);
        assert_eq!(reader.step(&mut input).as_ref(), Ok(&Some(message.clone())), "written and read");
        assert!(input.is_empty());
    }
}

fn read_messages<'a>(received: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Result<(), chunk::Error>) {
    let limits = Limits::ADMITTED;
    let mut reader = Reader::new(limits);
    let mut input = Bytes::new();
    let mut messages = Vec::new();
    for bytes in received {
        input = [&input[..], bytes].concat().into();
        loop {
            let step = reader.step(&mut input);
            let held = reader.held_bytes();
            assert!(held <= limits.unfinished_bytes_max + 64 * (limits.chunk_streams_max + 4) * 2, "{held}");
            match step {
                Ok(Some(message)) => {
                    assert!(message.body.len() <= limits.message_bytes_max);
                    if message.kind == 1 && message.body.len() >= 4 {
                        let bytes = u32::from_be_bytes(*message.body.first_chunk().unwrap());
                        let _ = reader.set_chunk_bytes(bytes);
                    }
                    messages.push(message);
                }
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    (messages, Ok(()))
}

pub(crate) fn values(data: &[u8]) {
    let Ok(values) = amf0::read_all(&data[..data.len().min(VALUES_BYTES_MAX)]) else { return };
    let count: usize = values.iter().map(|value| count(value, 0)).sum();
    assert!(count <= VALUES_MAX, "{count} values");
    let write = |values: &[Value]| {
        let mut out = Vec::new();
        values.iter().for_each(|value| amf0::write(value, &mut out));
        out
    };
    let written = write(&values);
    assert!(written.len() <= 3 * data.len() + 3 * count, "{} bytes of {}", written.len(), data.len());
    let again = amf0::read_all(&written).unwrap();
    // As text: a number may be none, and then is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{values:?}"));
    assert_eq!(write(&again), written);
}

fn count(value: &Value, depth: usize) -> usize {
    assert!(depth <= DEPTH_MAX);
    1 + match value {
        Value::Object(members) => members.iter().map(|(_, value)| count(value, depth + 1)).sum(),
        Value::Array(values) => values.iter().map(|value| count(value, depth + 1)).sum(),
        _ => 0,
    }
}

/// Tags behind kind, time and length: what an admitted publisher sends goes to the segmenter as the packager hands
/// it on.
pub(crate) fn media(data: &[u8]) {
    let mut connection = Connection::new(Config::default(), 0, Instant(0));
    connection.handle(Input::Received(published().into()), Instant(0));
    while let Some(output) = connection.poll() {
        if matches!(output, Output::Publish { .. }) {
            connection.handle(Input::Admitted, Instant(0));
        }
    }
    let mut judged = Judged::new();
    let mut script = Script::new(data);
    let (mut time, mut wall) = (0_u32, WallTime(1_700_000_000_000));
    while script.goes_on() {
        let kind = [8, 9, 9, 8, 18, 22, 9, 8][script.index(8)];
        let step = script.byte();
        // Mostly a frame further; now and then the clock is set.
        time = if step == 255 { script.word() } else { time.wrapping_add(u32::from(step & 63)) };
        wall = wall.plus_millis(u64::from(step & 63));
        let len = if kind == 22 { usize::from(script.half()) } else { usize::from(script.byte()) };
        let body = Bytes::copy_from_slice(script.take(len));
        let mut bytes = Vec::new();
        chunk::write(&Message { kind, timestamp: time, stream: 1, body }, 6, CHUNK_BYTES_INITIAL, &mut bytes);
        connection.handle(Input::Received(bytes.into()), Instant(0));
        while let Some(output) = connection.poll() {
            match output {
                Output::Config(setup) => {
                    let config = match setup {
                        Setup::Avc(raw) => TrackConfig::H264(raw),
                        Setup::Hevc(raw) => TrackConfig::Hevc(raw),
                        Setup::Av1(raw) => TrackConfig::Av1(raw),
                        Setup::Aac(raw) => TrackConfig::Aac(raw),
                        Setup::Opus(raw) => TrackConfig::Opus(raw),
                    };
                    judged.handle(SegmenterInput::Config(config), wall);
                }
                Output::Frame(frame) => {
                    let track = match frame.track {
                        Track::Video => TrackKind::Video,
                        Track::Audio => TrackKind::Audio,
                    };
                    let sample = Sample {
                        track,
                        dts_ms: frame.dts_ms,
                        cts_ms: frame.cts_ms,
                        keyframe: frame.keyframe,
                        data: frame.data,
                    };
                    judged.handle(SegmenterInput::Sample(sample), wall);
                }
                Output::Close { .. } => return judged.end(wall),
                Output::Send(_) | Output::Publish { .. } | Output::OtherTrack(_) | Output::Metadata(_) => {}
            }
        }
    }
    judged.end(wall);
}

/// C0, C1 and C2.
fn handshake() -> Vec<u8> {
    [&[3], [7; 2 * HANDSHAKE_BYTES].as_slice()].concat()
}

/// From the first byte up to the question whether the stream key is good.
fn published() -> Vec<u8> {
    let text = |text: &str| Value::String(text.to_owned());
    let mut out = handshake();
    let app = Value::Object(vec![("app".into(), text("live"))]);
    for values in [
        vec![text("connect"), Value::Number(1.0), app],
        vec![text("createStream"), Value::Number(2.0), Value::Null],
        vec![text("publish"), Value::Number(3.0), Value::Null, text("good-key-0123456789"), text("live")],
    ] {
        let mut body = Vec::new();
        values.iter().for_each(|value| amf0::write(value, &mut body));
        let message = Message { kind: 20, timestamp: 0, stream: 1, body: body.into() };
        chunk::write(&message, 3, CHUNK_BYTES_INITIAL, &mut out);
    }
    out
}
