//! The house's rules as functions from what is there to what is wrong with it; `tests/house.rs` holds the house.
//!
//! For everybody who adds a crate, a file or a word. Each complaint says what to do. What never belongs here:
//! matters that clippy, rustfmt or the compiler can hold.
#![forbid(unsafe_code)]

pub mod floors;
pub mod links;
pub mod sources;
