//! Every bound of a viewer, with its reason.

/// Edges a viewer keeps lanes with at most: two in use, and those being handed over.
pub const LANES_MAX: usize = 6;

/// Pieces held that came before their record: pieces overtake records on their own channel by a round trip or two.
pub const EARLY_PIECES_MAX: usize = 48;

/// Records kept per rendition: two minutes of 250 ms parts.
pub const RECORDS_MAX: usize = 512;

/// Media bytes kept over all renditions: half a minute of 12 Mbit/s, and no burden for a phone.
pub const MEDIA_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Player requests waiting at once: hls.js has a handful.
pub const WANTS_MAX: usize = 64;

/// HTTP requests under way at once: what a browser opens to one host over HTTP/1.1.
pub const FETCHES_MAX: usize = 6;

/// Bytes of a `start` or `records` response at most: two segments of records in every rendition.
pub const RECORDS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Pieces that do not verify before an edge is dropped for good: one can be a fault of memory, two are a habit.
pub const BAD_PIECES_MAX: u32 = 2;

/// Milliseconds an edge has from the first attempt to its welcome: 7 round trips of a slow path.
pub const CONNECT_MS: u64 = 5_000;

/// Attempts to reach an edge again before it is tried slowly, until the tracker offers it anew.
pub const ATTEMPTS_MAX: u32 = 5;

/// Milliseconds before the first new attempt; doubles each time.
pub const RETRY_MS: u64 = 500;

/// Milliseconds between later attempts: an edge that is away for long comes back some day, and one question costs
/// nobody anything.
pub const RETRY_SLOW_MS: u64 = 60_000;

/// Milliseconds for which those who are to bring a part may bring nothing at all before others are asked for it: as long
/// as anything comes, the line is full, and whoever else is asked makes it fuller.
pub const FLOW_SILENT_MS: u64 = 400;

/// The longest such time, in milliseconds: a piece comes whole, and takes a while on a slow line.
pub const FLOW_SILENT_MS_MAX: u64 = 1_500;

/// Late parts that two are asked for at once, one of pictures and one of sound: whose own line is full gets nothing
/// sooner by having everything sent twice.
pub const RACES_MAX: usize = 2;

/// Milliseconds in which pieces may still arrive that were taken back: a full line empties no faster.
pub const LANDING_MS: u64 = 5_000;

/// Pieces that an edge may send without having been asked before it is dropped for good: nobody is paid for them, and
/// they take the place of others on the line.
pub const UNASKED_PIECES_MAX: u32 = 32;

/// Bytes that an edge forgives when they are of no use, as copies that lost their race (`docs/protocol/peer.md`).
pub const UNPAID_GRACE: u64 = 1 << 20;

/// One part in so many of what was received that it forgives beyond that: 5 %.
pub const UNPAID_SHARE: u64 = 20;

/// Milliseconds for which pieces are pushed after the player last asked for media: longer than a segment lasts. One
/// that is paused reloads its playlists for ever, and plays nothing.
pub const MEDIA_WANTED_MS: u64 = 6_000;

/// Milliseconds for which a rendition stays wanted after the player last asked for anything of it.
pub const WANTED_MS: u64 = 8_000;

/// Shortest time a part is given, in milliseconds: below it every source is asked at once anyway.
pub const ALLOWANCE_MS_MIN: u64 = 400;

/// Longest time a part is given: a deep buffer is no reason to notice a dead edge late.
pub const ALLOWANCE_MS_MAX: u64 = 4_000;

/// Milliseconds without a record of a wanted rendition before the origin is asked for records.
pub const RECORDS_SILENT_MS: u64 = 1_000;

/// Milliseconds over which viewers spread that question, so that a dead edge is no stampede.
pub const RECORDS_JITTER_MS: u64 = 400;

/// Milliseconds without any frame from a primary whose records come from elsewhere before it is replaced.
pub const PRIMARY_SILENT_MS: u64 = 1_500;

/// Parts in a row that a primary delivered late before it is replaced.
pub const LATE_PARTS_MAX: u32 = 3;

/// Milliseconds for which a primary that brings anything is not replaced for being late. Doubles each time until a part
/// comes in time: on a full line the next one is no faster, and each change costs time.
pub const PRIMARY_TRIAL_MS: u64 = 5_000;

/// Doublings of it at most: more than a minute.
pub const TRIALS_MAX: u32 = 4;

/// Milliseconds a hole in the records may last before the playlist goes on behind it.
pub const HOLE_MS: u64 = 1_500;

/// Milliseconds for which a player that goes over waits for a playlist that lists a whole segment: longer than a segment
/// lasts, so that there is one even at a stream's beginning. One without costs it a second, and another try.
pub const GO_OVER_MS: u64 = 4_000;

/// Milliseconds between vouchers when something was received.
pub const VOUCHER_MS: u64 = 5_000;

/// Milliseconds between bringing a lane's latest voucher to the tracker.
pub const BRING_MS: u64 = 10_000;

/// Milliseconds between asking for the same grant's renewal again.
pub const RENEW_RETRY_MS: u64 = 10_000;

/// Attempts to fetch one thing by HTTP before the player is told that it failed.
pub const FETCH_ATTEMPTS_MAX: u32 = 5;

/// Milliseconds before a failed fetch is tried again; doubles each time.
pub const FETCH_RETRY_MS: u64 = 200;

/// Milliseconds between pings on an otherwise quiet lane.
pub const PING_MS: u64 = 5_000;

/// Milliseconds without a frame after which a lane is opened anew: two pings were not answered. An edge that was
/// restarted answers for its address all the same, so the transport does not tell.
pub const LANE_SILENT_MS: u64 = 11_000;

/// Longest time a part is given that the player waits for and nobody pushes: the player stands at it, and its buffer
/// melts while it waits.
pub const PULL_ALLOWANCE_MS: u64 = 800;

/// Parts that are asked for before the player asks for them: a segment's.
pub const READ_AHEAD_PARTS: u64 = 8;

/// Milliseconds that each of these has more than the one before it: the player takes them in turn.
pub const READ_AHEAD_MS: u64 = 250;
