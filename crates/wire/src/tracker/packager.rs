//! Packager and tracker: HTTP bodies.

use alloc::{string::String, vec::Vec};

use millstream_model::{PublicKey, SessionId, StreamId, TrackerId, WallTime};
use serde::{Deserialize, Serialize};

use crate::{
    media::{Catalog, Delegation},
    sign::Signed,
};

/// Asks whether a publisher may publish: `POST /v1/packager/admit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admit {
    /// The stream key from the publisher's URL.
    pub stream_key: String,
    /// The packager's own key, to be delegated to.
    pub packager: PublicKey,
    /// Its origin's base URL as viewers and edges reach it, without a slash at its end.
    pub origin: String,
    /// The highest generation this packager has used for any stream; the delegation's is [`next_generation`].
    pub generation: u32,
}

/// How far a packager's own count may take a stream's ahead: more generations than a tracker that was set back to an
/// older copy of its data can have missed, and few enough that nobody uses all of them up.
pub const GENERATION_STEP_MAX: u32 = 1_000;

/// The generation of a stream's next delegation, when `given` is the highest that was given so far and the packager
/// has used `above` for some stream. `None` when there is none left: then the stream has to be made anew.
#[must_use]
pub fn next_generation(given: u32, above: u32) -> Option<u32> {
    given.max(above.min(given.saturating_add(GENERATION_STEP_MAX))).checked_add(1)
}

/// The publisher may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The stream that the key belongs to.
    pub stream: StreamId,
    /// The root's word for this packager.
    pub delegation: Signed<Delegation>,
    /// The stream's root key.
    pub root: PublicKey,
    /// Whose tokens the origin takes.
    pub tracker: TrackerId,
    /// Anybody may watch: the origin asks for no token.
    pub public: bool,
    /// The tracker's clock.
    pub time: WallTime,
}

/// What the packager carries: `POST /v1/packager/report`, about once a second. What does not fit into
/// [`REPORT_BYTES_MAX`] goes into more than one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackagerReport {
    /// Who reports.
    pub packager: PublicKey,
    /// Its origin's base URL, as in [`Admit`]: a tracker that was restarted knows it from here.
    pub origin: String,
    /// One entry per stream.
    pub streams: Vec<StreamReport>,
}

/// Bytes of a report at most: three of the longest catalogs, or the counts of several hundred streams.
pub const REPORT_BYTES_MAX: usize = 256 * 1024;

/// The tracker has a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The tracker's clock.
    #[serde(default)]
    pub time: WallTime,
    /// Streams of the report whose catalog the tracker does not have.
    #[serde(default)]
    pub wanted: Vec<StreamId>,
    /// Streams of the report that are no more.
    #[serde(default)]
    pub gone: Vec<StreamId>,
}

/// One stream on a packager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The stream.
    pub stream: StreamId,
    /// Of the newest delegation that this packager was given for the stream.
    pub generation: u32,
    /// Whether somebody publishes.
    pub state: State,
    /// The newest catalog, when the tracker may not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Signed<Catalog>>,
    /// Where the stream's counters here stand, the newest last; those that are over until a report was taken. At most
    /// [`RUNS_MAX`].
    pub published: Vec<Published>,
}

/// Counters of one stream at most in a report, and remembered one by one by a tracker: each means a packager that began
/// anew, and only those count that a tracker has not been told of.
pub const RUNS_MAX: usize = 8;

/// Names a counter: 16 random bytes, made when it begins at zero.
pub type RunId = SessionId;

/// Whether a stream's publisher is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Publishing.
    Live,
    /// Gone for the moment; the stream waits for it.
    Away,
    /// Over.
    Ended,
}

/// Where a counter of a stream's bytes stands. The sum over its counters bounds what can honestly have been watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Which counter.
    pub run: RunId,
    /// Bytes since it began, counting per group and position the largest rendition only. Never falls.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_above_all_before_and_nobody_can_use_them_up() {
        assert_eq!(next_generation(0, 0), Some(1));
        assert_eq!(next_generation(5, 3), Some(6));
        assert_eq!(next_generation(5, 900), Some(901));
        assert_eq!(next_generation(5, u32::MAX), Some(5 + GENERATION_STEP_MAX + 1));
        assert_eq!(next_generation(u32::MAX - 1, 0), Some(u32::MAX));
        assert_eq!(next_generation(u32::MAX, 0), None);
    }
}
