//! What crosses a socket: signed objects, peer frames, tracker messages.
//!
//! The normative text is `docs/protocol/`; this crate and that folder change in one commit. Everything here is
//! bytes in, values out and back: no socket, no clock, no randomness, `no_std + alloc`, so that the browser runs
//! the same code. What never belongs here: a decision.
//!
//! - [`codec`]: the binary alphabet; [`sign`]: the envelope of everything that is signed
//! - [`media`]: delegation, catalog, record; [`chain`]: believing them
//! - [`session`]: certificate, grant, hello, voucher, receipt, token
//! - [`frame`]: what flows over data channels and feeds; [`tracker`]: what flows to and from the tracker
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod chain;
pub mod codec;
pub mod frame;
pub mod media;
pub mod session;
pub mod sign;
pub mod tracker;
