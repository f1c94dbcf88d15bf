//! The commands a publisher sends (RTMP 1.0 §7.2), and what it is answered.

use bytes::Bytes;

use crate::{
    amf0::{self, Value},
    chunk::{self, Message},
};

/// Message types (§5.4, §7.1).
pub(crate) mod kind {
    pub(crate) const SET_CHUNK_SIZE: u8 = 1;
    pub(crate) const ABORT: u8 = 2;
    pub(crate) const ACKNOWLEDGEMENT: u8 = 3;
    pub(crate) const USER_CONTROL: u8 = 4;
    pub(crate) const WINDOW_SIZE: u8 = 5;
    pub(crate) const PEER_BANDWIDTH: u8 = 6;
    pub(crate) const AUDIO: u8 = 8;
    pub(crate) const VIDEO: u8 = 9;
    pub(crate) const DATA_AMF3: u8 = 15;
    pub(crate) const COMMAND_AMF3: u8 = 17;
    pub(crate) const DATA: u8 = 18;
    pub(crate) const COMMAND: u8 = 20;
    pub(crate) const AGGREGATE: u8 = 22;
}

/// What a publish or connection is told, by the names of §7.2.
pub(crate) mod code {
    pub(crate) const CONNECTED: &str = "NetConnection.Connect.Success";
    pub(crate) const WRONG_APP: &str = "NetConnection.Connect.InvalidApp";
    pub(crate) const STARTED: &str = "NetStream.Publish.Start";
    pub(crate) const REFUSED: &str = "NetStream.Publish.BadName";
    pub(crate) const FAILED: &str = "NetStream.Publish.Failed";
    pub(crate) const ENDED: &str = "NetStream.Unpublish.Success";
    pub(crate) const NO_PLAY: &str = "NetStream.Play.Failed";
}

/// Bytes in a command or metadata message that are read at most; real ones are under 4 KiB.
pub(crate) const AMF_BYTES_MAX: usize = 64 * 1024;

/// Window we announce both ways; what the clients themselves use.
const WINDOW_BYTES: u32 = 2_500_000;

/// Payload bytes in our chunks once a client is connected. Ours are few, but ffmpeg takes the size for its own, and would
/// write a frame in hundreds of pieces else. As SRS has it, which every encoder has met.
const CHUNK_BYTES: u32 = 60_000;

/// Chunk stream of protocol control (§5.4).
const CONTROL_ID: u8 = 2;

/// Chunk stream of our commands.
const COMMAND_ID: u8 = 3;

/// The codecs that are taken, by their FourCC (Enhanced RTMP v2).
const VIDEO_CODECS: [&str; 3] = ["avc1", "hvc1", "av01"];
const AUDIO_CODECS: [&str; 2] = ["mp4a", "Opus"];

/// `FourCcInfoMask`: they are passed on, neither decoded nor encoded.
const CAN_FORWARD: f64 = 4.0;

/// `CapsExMask`: `ModEx` prefixes are read. Nobody is told to reconnect, only one track of a kind is taken, and
/// nanoseconds are of no use.
const CAPABILITIES: f64 = 4.0;

/// What of Enhanced RTMP a client says of itself; it is answered the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Enhanced {
    /// `fourCcList`.
    list: bool,
    /// `videoFourCcInfoMap` or `audioFourCcInfoMap`.
    maps: bool,
    /// `capsEx`.
    capabilities: bool,
}

/// A publisher's command, with what is needed of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Connect {
        transaction: f64,
        app: Option<String>,
        enhanced: Enhanced,
    },
    CreateStream {
        transaction: f64,
    },
    Publish {
        name: Option<String>,
    },
    Play,
    /// `FCUnpublish`, `closeStream`, `deleteStream`.
    Finish,
    /// Courtesies from Flash's time that some encoders wait to see answered.
    Courtesy {
        transaction: f64,
    },
    Other,
}

/// Reads the body of a command message.
pub(crate) fn parse(body: &[u8]) -> Result<Command, amf0::Error> {
    let values = amf0::read_all(body)?;
    let transaction = values.get(1).and_then(Value::as_number).unwrap_or(0.0);
    let text = |at: usize| values.get(at).and_then(Value::as_str).map(str::to_owned);
    Ok(match values.first().and_then(Value::as_str) {
        Some("connect") => Command::Connect {
            transaction,
            app: values
                .get(2)
                .and_then(|object| object.get("app"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            enhanced: values.get(2).map_or(Enhanced::default(), enhanced),
        },
        Some("createStream") => Command::CreateStream { transaction },
        Some("publish") => Command::Publish { name: text(3) },
        Some("play" | "play2") => Command::Play,
        Some("FCUnpublish" | "closeStream" | "deleteStream") => Command::Finish,
        Some("releaseStream" | "FCPublish" | "_checkbw") => Command::Courtesy { transaction },
        _ => Command::Other,
    })
}

fn enhanced(object: &Value) -> Enhanced {
    let has = |name: &str| object.get(name).is_some();
    Enhanced {
        list: has("fourCcList"),
        maps: has("videoFourCcInfoMap") || has("audioFourCcInfoMap"),
        capabilities: has("capsEx"),
    }
}

/// Answers a good `connect`, with our chunk size and windows before it.
pub(crate) fn write_connected(transaction: f64, enhanced: Enhanced, out: &mut Vec<u8>) {
    write_control(kind::SET_CHUNK_SIZE, &CHUNK_BYTES.to_be_bytes(), out);
    write_control(kind::WINDOW_SIZE, &WINDOW_BYTES.to_be_bytes(), out);
    // 2: dynamic, a hint that the client may overrule.
    write_control(kind::PEER_BANDWIDTH, &[WINDOW_BYTES.to_be_bytes().as_slice(), &[2]].concat(), out);
    let server = object([("fmsVer", "FMS/3,0,1,123".into()), ("capabilities", Value::Number(31.0))]);
    let mut status = status("status", code::CONNECTED, "connected");
    if let Value::Object(properties) = &mut status {
        properties.push(("objectEncoding".to_owned(), Value::Number(0.0)));
        if enhanced.list {
            let codecs = VIDEO_CODECS.iter().chain(&AUDIO_CODECS).map(|codec| Value::from(*codec)).collect();
            properties.push(("fourCcList".to_owned(), Value::Array(codecs)));
        }
        if enhanced.maps {
            properties.push(("videoFourCcInfoMap".to_owned(), object(VIDEO_CODECS.map(forwarded))));
            properties.push(("audioFourCcInfoMap".to_owned(), object(AUDIO_CODECS.map(forwarded))));
        }
        if enhanced.capabilities {
            properties.push(("capsEx".to_owned(), Value::Number(CAPABILITIES)));
        }
    }
    write_command(0, &["_result".into(), Value::Number(transaction), server, status], out);
}

/// Answers a `connect` to an application that is not ours, before our chunk size was told.
pub(crate) fn write_wrong_app(transaction: f64, description: &str, out: &mut Vec<u8>) {
    let status = status("error", code::WRONG_APP, description);
    let values = ["_error".into(), Value::Number(transaction), Value::Null, status];
    write_command_in(chunk::CHUNK_BYTES_INITIAL, 0, &values, out);
}

/// Answers `createStream` with the message stream to use.
pub(crate) fn write_created(transaction: f64, stream: u32, out: &mut Vec<u8>) {
    let values =
        ["_result".into(), Value::Number(transaction), Value::Null, Value::Number(f64::from(stream))];
    write_command(0, &values, out);
}

/// Answers a courtesy with an empty result.
pub(crate) fn write_courtesy(transaction: f64, out: &mut Vec<u8>) {
    write_command(0, &["_result".into(), Value::Number(transaction), Value::Null, Value::Undefined], out);
}

/// Says that a publish began: Stream Begin (§7.1.7), then its status.
pub(crate) fn write_started(stream: u32, out: &mut Vec<u8>) {
    write_control(kind::USER_CONTROL, &[[0, 0].as_slice(), &stream.to_be_bytes()].concat(), out);
    write_status(stream, "status", code::STARTED, "publishing", out);
}

/// Sends `onStatus`; `level` is `status` or `error`.
pub(crate) fn write_status(stream: u32, level: &str, code: &str, description: &str, out: &mut Vec<u8>) {
    let status = status(level, code, description);
    write_command(stream, &["onStatus".into(), Value::Number(0.0), Value::Null, status], out);
}

/// Acknowledges `received` bytes in all (§5.4.3).
pub(crate) fn write_acknowledgement(received: u32, out: &mut Vec<u8>) {
    write_control(kind::ACKNOWLEDGEMENT, &received.to_be_bytes(), out);
}

/// Answers a ping (§7.1.7).
pub(crate) fn write_pong(time: [u8; 4], out: &mut Vec<u8>) {
    write_control(kind::USER_CONTROL, &[[0, 7].as_slice(), &time].concat(), out);
}

fn write_control(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    let message = Message { kind, timestamp: 0, stream: 0, body: Bytes::copy_from_slice(body) };
    chunk::write(&message, CONTROL_ID, chunk::CHUNK_BYTES_INITIAL, out);
}

/// Writes a command behind [`write_connected`].
fn write_command(stream: u32, values: &[Value], out: &mut Vec<u8>) {
    write_command_in(usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX), stream, values, out);
}

fn write_command_in(chunk_bytes: usize, stream: u32, values: &[Value], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    for value in values {
        amf0::write(value, &mut body);
    }
    let message = Message { kind: kind::COMMAND, timestamp: 0, stream, body: Bytes::from(body) };
    chunk::write(&message, COMMAND_ID, chunk_bytes, out);
}

fn status(level: &str, code: &str, description: &str) -> Value {
    object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
}

fn forwarded(codec: &str) -> (&str, Value) {
    (codec, Value::Number(CAN_FORWARD))
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(values: &[Value]) -> Vec<u8> {
        let mut out = Vec::new();
        values.iter().for_each(|value| amf0::write(value, &mut out));
        out
    }

    #[test]
    fn commands_are_told_apart() {
        let connect = object([("app", "live".into()), ("fourCcList", Value::Array(vec!["hvc1".into()]))]);
        assert_eq!(
            parse(&body(&["connect".into(), Value::Number(1.0), connect])),
            Ok(Command::Connect {
                transaction: 1.0,
                app: Some("live".into()),
                enhanced: Enhanced { list: true, ..Enhanced::default() }
            })
        );
        let publish = ["publish".into(), Value::Number(5.0), Value::Null, "key".into(), "live".into()];
        assert_eq!(parse(&body(&publish)), Ok(Command::Publish { name: Some("key".into()) }));
        assert_eq!(parse(&body(&["publish".into()])), Ok(Command::Publish { name: None }));
        assert_eq!(parse(&body(&["@whatever".into()])), Ok(Command::Other));
        assert_eq!(parse(&[]), Ok(Command::Other));
        assert_eq!(parse(&[2, 0]), Err(amf0::Error::Truncated));
    }

    #[test]
    fn answers_read_in_the_chunk_size_that_holds_for_each() {
        let mut out = Vec::new();
        write_wrong_app(1.0, &"why ".repeat(100), &mut out);
        write_connected(1.0, Enhanced { list: true, maps: true, capabilities: true }, &mut out);
        write_status(1, "error", code::REFUSED, &"why ".repeat(100), &mut out);
        let mut reader = chunk::Reader::new(crate::Limits::UNADMITTED);
        let mut input = Bytes::from(out);
        let mut kinds = Vec::new();
        while let Some(message) = reader.step(&mut input).unwrap() {
            if let (kind::SET_CHUNK_SIZE, Some(size)) = (message.kind, message.body.first_chunk()) {
                reader.set_chunk_bytes(u32::from_be_bytes(*size)).unwrap();
            }
            kinds.push(message.kind);
        }
        let connected = [kind::SET_CHUNK_SIZE, kind::WINDOW_SIZE, kind::PEER_BANDWIDTH, kind::COMMAND];
        assert_eq!(kinds, [&[kind::COMMAND], connected.as_slice(), &[kind::COMMAND]].concat());
        assert!(input.is_empty());
    }

    #[test]
    fn a_client_is_told_the_codecs_in_the_words_it_used() {
        let answer = |enhanced: Enhanced| {
            let mut out = Vec::new();
            write_connected(1.0, enhanced, &mut out);
            let mut reader = chunk::Reader::new(crate::Limits::UNADMITTED);
            let mut input = Bytes::from(out);
            let mut last = None;
            while let Some(message) = reader.step(&mut input).unwrap() {
                if let (kind::SET_CHUNK_SIZE, Some(size)) = (message.kind, message.body.first_chunk()) {
                    reader.set_chunk_bytes(u32::from_be_bytes(*size)).unwrap();
                }
                last = Some(message.body);
            }
            amf0::read_all(&last.unwrap()).unwrap().remove(3)
        };
        let plain = answer(Enhanced::default());
        assert!(["fourCcList", "videoFourCcInfoMap", "capsEx"].iter().all(|name| plain.get(name).is_none()));
        let listed = answer(Enhanced { list: true, ..Enhanced::default() });
        let codecs = ["avc1", "hvc1", "av01", "mp4a", "Opus"].map(Value::from).into();
        assert_eq!(listed.get("fourCcList"), Some(&Value::Array(codecs)));
        let full = answer(Enhanced { list: true, maps: true, capabilities: true });
        let map = full.get("videoFourCcInfoMap").unwrap();
        assert_eq!(map.get("hvc1").and_then(Value::as_number), Some(4.0));
        assert_eq!(full.get("audioFourCcInfoMap").unwrap().get("Opus").and_then(Value::as_number), Some(4.0));
        assert_eq!(full.get("capsEx").and_then(Value::as_number), Some(4.0));
    }
}
