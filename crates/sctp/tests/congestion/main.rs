//! What our congestion controllers do on paths in virtual time: alone, beside others, and when the path changes.
#![cfg(test)]

mod alone;
mod changes;
mod scene;
mod sender;
mod sharing;
