//! The stage for end-to-end tests: starts real programs, publishers and browsers, and ends them again.
//!
//! Everything binds port 0 on loopback and is waited for by event (a line on standard output, an answer over
//! HTTP), and everything ends with the value that holds it.
#![forbid(unsafe_code)]

pub mod api;
pub mod book;
pub mod browser;
pub mod flv;
pub mod ladder;
pub mod line;
pub mod media;
pub mod namespace;
pub mod noise;
pub mod origin;
pub mod pressure;
pub mod process;
pub mod program;
pub mod publisher;
pub mod stack;
pub mod tickets;
pub mod time;
pub mod viewers;
