//! A publisher's bytes, written as encoders write them: enough to tell a connection's whole story.

use bytes::Bytes;
use millstream_rtmp::{
    HANDSHAKE_BYTES,
    amf0::{self, Value},
    chunk::{self, CHUNK_BYTES_INITIAL, Message},
};

pub(crate) const AVC_SETUP: &[u8] = &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 0];
pub(crate) const AAC_SETUP: &[u8] = &[0xaf, 0, 0x12, 0x10];
pub(crate) const VIDEO: u8 = 9;
pub(crate) const AUDIO: u8 = 8;
pub(crate) const SET_CHUNK_SIZE: u8 = 1;

/// C0, C1 and C2.
pub(crate) fn handshake() -> Vec<u8> {
    [&[3], [7; 2 * HANDSHAKE_BYTES].as_slice()].concat()
}

/// From the first byte up to a publish request for `key`.
pub(crate) fn publish(app: &str, key: &str) -> Vec<u8> {
    let mut out = handshake();
    let app = Value::Object(vec![("app".into(), text(app)), ("type".into(), text("nonprivate"))]);
    command(&[text("connect"), Value::Number(1.0), app], &mut out);
    command(&[text("releaseStream"), Value::Number(2.0), Value::Null, text(key)], &mut out);
    command(&[text("FCPublish"), Value::Number(3.0), Value::Null, text(key)], &mut out);
    command(&[text("createStream"), Value::Number(4.0), Value::Null], &mut out);
    command(&[text("publish"), Value::Number(5.0), Value::Null, text(key), text("live")], &mut out);
    out
}

/// One message in chunks of the initial size.
pub(crate) fn message(kind: u8, id: u8, timestamp: u32, body: &[u8], out: &mut Vec<u8>) {
    let message = Message { kind, timestamp, stream: 1, body: Bytes::copy_from_slice(body) };
    chunk::write(&message, id, CHUNK_BYTES_INITIAL, out);
}

/// One command.
pub(crate) fn command(values: &[Value], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    values.iter().for_each(|value| amf0::write(value, &mut body));
    message(20, 3, 0, &body, out);
}

/// An H.264 frame of `len` bytes that looks like an IDR picture when `key`.
pub(crate) fn picture(key: bool, len: usize) -> Vec<u8> {
    let unit = u32::try_from(len).unwrap().to_be_bytes();
    let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    body.extend(unit);
    body.push(if key { 0x65 } else { 0x41 });
    body.resize(9 + len, 0x55);
    body
}

/// A string value.
pub(crate) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}
