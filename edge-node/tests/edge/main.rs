//! An edge on real sockets: an origin that signs and feeds over HTTP, a tracker's WebSocket, viewers that dial.
#![expect(clippy::cast_possible_truncation, reason = "made-up media of known size")]

#[path = "../../../crates/cache/tests/cache/broadcast.rs"]
mod broadcast;
mod cost;
mod keeping;
mod letting_in;
mod nat;
mod origin;
mod serving;
mod tracker;
mod viewer;
mod world;
