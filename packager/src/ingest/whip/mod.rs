//! WHIP in (RFC 9725): browsers and OBS publish H.264 and Opus over WebRTC.
//!
//! ```text
//! HTTP ─▶ server: key ─▶ reception ─▶ offer ─▶ session's task ─▶ answer
//! UDP ─▶ router (one socket, one task) ─▶ bounded inbox ─▶ session ⇄ str0m ─▶ order ─▶ h264 ─┐
//!                                                                          └─▶ Opus ── clock ─┴─▶ Events
//! ```
//!
//! Nothing of WebRTC is made before the key was found good. Memory is bounded at each arrow: sessions and those without a
//! good key are counted ([`Config`]), datagrams that no session takes are dropped as if lost on the way. Why this WebRTC:
//! `docs/decisions/0012-whip.md`. What never belongs here: SRTP's and ICE's packets, taking pictures apart.

mod answer;
mod clock;
mod config;
mod cryptography;
mod h264;
mod order;
mod peer;
mod router;
mod server;
mod session;

pub use config::Config;
pub use server::{Counts, Server};
