//! WebSocket conversations, one task each: viewers and edges.

mod edge;
mod viewer;

use std::time::Duration;

pub(crate) use edge::serve as serve_edge;
pub(crate) use viewer::serve as serve_viewer;

/// A connection that has said nothing, not even a pong, for two of these is over; NATs forget UDP sooner and TCP
/// later.
const PING_EVERY: Duration = Duration::from_secs(20);

/// A connection whose peer has not said who it is after this time is closed: it costs memory.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// Messages a second over any ten seconds at most; above it the peer is broken or hostile. A viewer with two lanes
/// sends less than one.
const MESSAGES_PER_SECOND: u32 = 20;

/// A budget of messages that refills with time.
struct Budget {
    left: u32,
    since: tokio::time::Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: MESSAGES_PER_SECOND * 10, since: tokio::time::Instant::now() }
    }

    /// False when the peer talks too much.
    fn take(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(10) {
            *self = Self::new();
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// When a peer should come back after a restart: spread over this many milliseconds.
fn spread_ms() -> u32 {
    let mut bytes = [0; 2];
    let _ = getrandom::fill(&mut bytes);
    500 + u32::from(u16::from_be_bytes(bytes)) % 4_500
}
