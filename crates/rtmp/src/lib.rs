//! The server side of RTMP for publishers: bytes in; keys, codec configurations and frames out.
//!
//! For the packager's ingest, and for anything that must talk to OBS, ffmpeg or GStreamer. It is a pure state
//! machine over one connection: no socket, no clock, no task. Hand it what arrived with
//! [`Connection::handle`], then call [`Connection::poll`] until it says `None`:
//!
//! ```text
//! client                         server (Connection)            the program around it
//! C0 C1                  ─────▶
//!                        ◀─────  S0 S1 S2                       Output::Send
//! C2, connect(live)      ─────▶
//!                        ◀─────  _result                        Output::Send
//! publish(<stream key>)  ─────▶                                 Output::Publish { key }
//!                        ◀─────  onStatus(Publish.Start)        Input::Admitted  (or Input::Refused)
//! video, audio, metadata ─────▶                                 Output::Config, Frame, Metadata
//! deleteStream           ─────▶                                 Output::Close { reason }
//! ```
//!
//! Bytes are parsed as outputs are polled, one message at a time, so that whoever stops polling stops the
//! connection and nothing piles up inside it. What one connection may hold is bounded before and after its key
//! is checked ([`Limits`]); [`Connection::held_bytes`] says what it holds now. That is why this crate exists:
//! neither server library on crates.io bounds its unfinished messages, and one of them mixes up messages that
//! are interleaved on two chunk streams.
//!
//! What never belongs here: sockets, who may publish, muxing, and playing (a player is refused).
#![forbid(unsafe_code)]

pub mod amf0;
pub mod chunk;
mod command;
mod connection;
mod handshake;
mod key;
mod limits;
mod publish;
pub mod tag;

pub use connection::{Config, Connection, Input, Output, Reason};
pub use handshake::HANDSHAKE_BYTES;
pub use key::{KEY_BYTES_MAX, KeyError, StreamKey};
pub use limits::Limits;
pub use publish::Metadata;
pub use tag::{Frame, Setup, Track};
