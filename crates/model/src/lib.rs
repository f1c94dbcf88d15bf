//! The words everybody shares: ids, keys, sizes, money and time.
//!
//! This is the ground floor: it depends on nothing of ours, knows no socket and no clock, and runs in
//! `no_std + alloc` so that the browser uses the very same types. What never belongs here: behaviour of one
//! program, formats of one protocol (`wire`), anything that decides.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod binary;
mod id;
mod key;
mod map;
mod money;
mod size;
mod time;

pub use binary::{TextError, base64url, from_base64url};
pub use id::{RenditionId, SLUG_BYTES_MAX, SessionId, SlugError, StreamId};
pub use key::{EdgeId, Fingerprint, Hash, PublicKey, SessionKey, SessionSignature, Signature, TrackerId};
pub use map::{Map, Set};
pub use money::{GIB, Micros, Price};
pub use size::{BitRate, PART_BYTES_MAX, PIECE_BYTES, PIECES_PER_PART_MAX, piece_count, piece_len};
pub use time::{Instant, MediaTime, WallTime};
