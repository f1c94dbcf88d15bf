//! The edge's clocks: a monotonic one for the cores, and the wall's as the tracker has it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use millstream_model::{Instant, WallTime};

/// Where the cores' times come from.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
    /// Milliseconds by which the tracker's clock is ahead of ours.
    ahead_ms: AtomicI64,
    began: WallTime,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: tokio::time::Instant::now(), ahead_ms: AtomicI64::new(0), began: system() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The runtime's time for a core's.
    pub(crate) fn at(&self, at: Instant) -> tokio::time::Instant {
        self.origin + std::time::Duration::from_micros(at.0)
    }

    /// The tracker's time.
    pub(crate) fn wall(&self) -> WallTime {
        self.shifted(system())
    }

    /// When this process began, on the tracker's clock.
    pub(crate) fn began(&self) -> WallTime {
        self.shifted(self.began)
    }

    pub(crate) fn set(&self, tracker: WallTime) {
        let ahead = i128::from(tracker.0) - i128::from(system().0);
        self.ahead_ms.store(i64::try_from(ahead).unwrap_or(0), Ordering::Relaxed);
    }

    fn shifted(&self, at: WallTime) -> WallTime {
        WallTime(at.0.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)))
    }
}

fn system() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
