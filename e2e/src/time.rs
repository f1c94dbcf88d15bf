//! Letting time pass: only where what is tested is that nothing happens meanwhile, or how much of it a second brings.

use std::{
    thread::park_timeout,
    time::{Duration, Instant},
};

/// Lets the show go on for a while.
pub fn go_on(time: Duration) {
    until(Instant::now() + time);
}

/// Lets the show go on until then.
pub fn until(end: Instant) {
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        park_timeout(left);
    }
}
