//! Finds edges for viewers, and keeps the book.
//!
//! ```text
//! viewers, edges ── WebSocket ── link ─┐
//! packagers, operators ── HTTP ── api ─┼─ hub (who is here; owns placement)
//!                                      └─ money (owns the ledger) ── store (SQLite)
//! ```
#![forbid(unsafe_code)]

mod admission;
mod api;
mod assets;
pub mod config;
mod hub;
mod link;
pub mod money;
pub mod program;
mod proxies;
mod socket;
pub mod store;
mod streams;
mod ticket;
mod tracker;

pub use config::Config;
pub use tracker::{Addresses, Tracker};
