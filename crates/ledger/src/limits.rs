//! Every bound and every span of time of the book, with its reason.

/// How long a grant lasts. Short, so that a hard stop or a removed edge takes effect soon; long enough that a
/// tracker's restart passes unnoticed.
pub const GRANT_MS: u64 = 120_000;

/// A grant older than this is renewed when asked: half its life, so that one lost renewal does no harm.
pub const RENEW_AFTER_MS: u64 = GRANT_MS / 2;

/// How long edges honour an expired grant while they cannot reach the tracker.
pub const HONOUR_MS: u64 = 15 * 60_000;

/// How long after its grant's expiry a lane's voucher is still booked: the honoured time, and as much again to
/// bring it. The lane's reserve lives as long.
pub const VOUCHER_LATE_MS: u64 = 30 * 60_000;

/// What a grant's cap covers at the stream's full rate: its life and the time it is honoured beyond, so that a
/// tracker that is away stops nobody.
pub const COVER_MS: u64 = GRANT_MS + HONOUR_MS;

/// A lane gets at least this or no grant: an edge's largest credit window (8 MiB), below which it could not send.
pub const GRANT_BYTES_MIN: u64 = 8 << 20;

/// No grant takes more than this part of the money left (unless [`GRANT_BYTES_MIN`] needs it), so that the first
/// viewers of a small budget do not lock all others out.
pub const RESERVE_SHARE: i64 = 16;

/// What the grants of a session that has vouched for nothing cover: an outage of the tracker of five minutes, which
/// not even who joined a moment before it may notice.
pub const FIRST_COVER_MS: u64 = 5 * 60_000;

/// No such grant takes more than this part of the money left (unless [`FIRST_COVER_MIN_MS`] needs it): joining costs
/// nothing, so what it locks up must be little. 400 of them leave nine tenths.
pub const FIRST_SHARE: i64 = 4_096;

/// Every grant covers at least this at the stream's full rate, if [`RESERVE_SHARE`] leaves so much: vouchers are
/// brought every ten seconds, and one that is lost must stop nobody before the renewal.
pub const FIRST_COVER_MIN_MS: u64 = 30_000;

/// What a session has vouched for, so many times over, is what its next grants may cover: the full [`COVER_MS`] after
/// one minute.
pub const COVER_GROWTH: u64 = 16;

/// How long after its close a session's honest bound still grows: packagers report every second, and what was
/// published while the viewer watched must be in it.
pub const FREEZE_AFTER_MS: u64 = 10_000;

/// How much longer the bound waits for a packager of which nothing was heard since the close.
pub const FREEZE_WAIT_MS: u64 = 5 * 60_000;

/// Slack on what could honestly be watched live, in percent: containers, repeats after a seek, clocks.
pub const LIVE_SLACK_PERCENT: u64 = 5;

/// Slack on a recording's rate, in percent: a player may fetch faster than it plays.
pub const RECORDED_SLACK_PERCENT: u64 = 20;

/// A player of a recording may be this far ahead of the wall clock: its buffer.
pub const RECORDED_AHEAD_MS: u64 = 60_000;

/// The longest live window (what a joining viewer may fetch from before it joined): bounds the history kept per
/// stream.
pub const WINDOW_MS_MAX: u64 = 10 * 60_000;

/// Published totals closer together than this are one point of the history, so that a stream's history has at most
/// [`WINDOW_MS_MAX`] ÷ this points.
pub const PUBLISHED_STEP_MS: u64 = 1_000;

/// A stream's published total is stored at least this often while it grows. Between, the packager's next report
/// repeats it: it is cumulative.
pub const PUBLISHED_STORE_MS: u64 = 10_000;

/// Length of an epoch.
pub const EPOCH_MS: u64 = 60 * 60_000;

/// How long after its end an epoch still takes earnings. Above [`VOUCHER_LATE_MS`], so that each voucher that is
/// still booked finds the epoch of its grant open.
pub const GRACE_MS: u64 = 45 * 60_000;

/// How long a sealed epoch is held before it can be paid out: time for people to object.
pub const HOLD_MS: u64 = 48 * 60 * 60_000;

/// Length of a day of budget; days begin at midnight UTC.
pub const DAY_MS: u64 = 24 * 60 * 60_000;

/// Streams of one tracker at most: about 10 MB of memory here, and as much in the tracker.
pub const STREAMS_MAX: usize = 20_000;

/// Accounts at most (two per stream, and each edge its own operator in the worst case).
pub const ACCOUNTS_MAX: usize = 200_000;

/// Sessions at most: what one tracker process serves, twice over. About 50 MB.
pub const SESSIONS_MAX: usize = 200_000;

/// Lanes at most, all sessions together. About 300 MB in the worst case.
pub const LANES_MAX: usize = 500_000;

/// Lanes of one session at most: two edges, replaced fifteen times. A lane cannot be forgotten while its session
/// lives, or its vouchers could be booked again.
pub const LANES_PER_SESSION_MAX: usize = 32;

/// Refusals remembered per lane, newest first: enough to see a pattern.
pub const REFUSALS_PER_LANE_MAX: usize = 8;

/// Refusals of one lane that are stored for good: a forger must not fill the disk.
pub const REFUSALS_STORED_PER_LANE_MAX: u32 = 32;

/// Refusals remembered that fit no lane.
pub const STRAYS_MAX: usize = 256;

/// Funding ids remembered in memory; the store's unique key knows the older ones.
pub const FUNDINGS_REMEMBERED_MAX: usize = 65_536;

/// Length of a name at most: a base64url key has 43 characters.
pub const NAME_BYTES_MAX: usize = 64;

/// Length of a funding's id at most: a payment provider's ids are shorter.
pub const FUNDING_ID_BYTES_MAX: usize = 128;
