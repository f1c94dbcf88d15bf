//! The browser's door to the swarm: bytes in, bytes out.
//!
//! `scripts/wasm build` compiles this for `wasm32-unknown-unknown`; the player loads the result through
//! `player-sdk/src/wasm/instance.ts`, which is the other half of the contract and changes with it. There is no
//! generated glue: JavaScript sees five functions and one linear memory (see [`exports`]), and everything else
//! is encoded bytes. What never belongs here: a decision (that is `swarm`'s) or a format (that is `wire`'s).
#![no_std]

extern crate alloc;

mod door;
pub mod exports;
mod input;
mod json;
#[cfg(target_arch = "wasm32")]
mod machine;
mod message;
mod open;
mod output;
mod told;

pub use door::{Door, INPUT_BYTES_MAX, Op, Refusal};
