//! The two clocks of the program, read here and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_model::{Instant, WallTime};

/// A monotonic clock that starts with the program, and the wall's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(0) + self.start.elapsed()
    }

    /// The wall's time.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
