//! Every bound of a lane, with its reason. `docs/protocol/peer.md` repeats those that a viewer can notice.

/// Milliseconds a connection has to say hello: a signature by a slow phone's WebCrypto, many times over.
pub const HELLO_MS: u64 = 10_000;

/// Milliseconds without any frame from the viewer before the lane closes: three unanswered pings.
pub const SILENCE_MS: u64 = 30_000;

/// Milliseconds of silence before the edge asks for a sign of life.
pub const PING_MS: u64 = 10_000;

/// Milliseconds by which clocks that follow the tracker's may differ.
pub const CLOCK_MS: u64 = 5_000;

/// Milliseconds a grant is honoured past its expiry while the tracker is out of reach.
pub const GRACE_MS: u64 = 15 * 60_000;

/// Milliseconds viewers get to renew once the tracker is back: they return with jitter, not all at once.
pub const RETURN_MS: u64 = 60_000;

/// The first window on bytes sent but not acknowledged: half a second of 4K, and all that a viewer can take unpaid.
pub const WINDOW_MIN: u64 = 2 << 20;

/// The highest window, for those with history: rate × (time to sign + round trip) of a 100 Mbit/s burst.
pub const WINDOW_MAX: u64 = 8 << 20;

/// The window grows by one byte for so many bytes acknowledged: 8 MiB after 24.
pub const WINDOW_GROWTH: u64 = 4;

/// Bytes received and not payable that are nobody's fault: hedges that lost their race at the start.
pub const UNPAID_GRACE: u64 = 1 << 20;

/// One part in so many of what was received may be unpaid beyond that: 5 %.
pub const UNPAID_SHARE: u64 = 20;

/// One part in so many of what was received may be lost with connections that broke, over the lane's life.
pub const LOSS_SHARE: u64 = 16;

/// Milliseconds that a lane may stand at its window or cap with something to send: renewals and vouchers take less.
pub const BLOCKED_MS: u64 = 30_000;

/// Frames that may come at once: a viewer that asks for every piece of two segments.
pub const FRAMES_BURST: u64 = 512;

/// Frames a second after that.
pub const FRAMES_PER_SECOND: u64 = 256;

/// Bytes of records that may go at once: what an edge keeps of several renditions. Nobody pays for records, so a viewer
/// that has them sent again and again must wait.
pub const RECORDS_BURST: u64 = 512 << 10;

/// Bytes of records a second after that: twice what 32 renditions of 250 ms parts come to.
pub const RECORDS_PER_SECOND: u64 = 128 << 10;

/// A voucher counts for so many frames: checking P-256 costs far more than reading.
pub const VOUCHER_FRAMES: u64 = 8;

/// Frames kept that came with the hello, before the lane is open: subscriptions, and the latest voucher.
pub const EARLY_FRAMES_MAX: usize = 40;

/// Requests open at once: two seconds of 250 ms parts with their holes. What is beyond is missing at once.
pub const REQUESTS_MAX: usize = 64;

/// Milliseconds a request waits for a piece that the feed is about to bring: longer, and another source is faster.
pub const REQUEST_MS: u64 = 1_000;

/// Parts of a fresh subscription that may wait to be pushed: 8 s of two renditions, what a viewer starts behind live.
pub const START_PARTS_MAX: usize = 64;

/// Parts that may wait to be pushed once the start is over: 2 s of two renditions. Older ones are of no use.
pub const PUSH_PARTS_MAX: usize = 16;

/// Bytes of parts that may wait to be pushed: 5 s of 12 Mbit/s. One part is always allowed.
pub const PUSH_BYTES_MAX: u64 = 8 << 20;
