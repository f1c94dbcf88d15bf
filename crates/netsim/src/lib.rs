//! A network in virtual time, for tests: what a path does to packets, and who else is on it.
//!
//! - [`Path`] carries packets one way through a bottleneck with a drop-tail queue, and loses, delays, reorders,
//!   duplicates and corrupts them by a seed. It carries anything that is a [`Payload`]: bytes, or tokens.
//! - [`Dumbbell`] lets several [`Sender`]s share one bottleneck and counts what each of them got.
//! - [`Tcp`] is such a sender: CUBIC (RFC 9438) or Reno (RFC 5681), to be fair to.
//!
//! Nothing here reads a clock or rolls dice: time is an argument, chance is a seed, and a run can be repeated. It is no
//! part of what is shipped.
#![forbid(unsafe_code)]

mod chance;
mod dumbbell;
mod path;
mod tcp;

pub use chance::Chance;
pub use dumbbell::{Acknowledging, Dumbbell, Outcome, Packet, Seat, Sender};
pub use path::{Burst, Counts, Path, Payload, Reorder, Traits};
pub use tcp::{Growth, Tcp};

/// The sample below which `percent` of `samples` lie; zero when there are none.
#[must_use]
pub fn percentile(samples: &[u32], percent: usize) -> u32 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0)
}
