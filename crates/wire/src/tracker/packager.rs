//! Packager and tracker: HTTP bodies.

use alloc::{string::String, vec::Vec};

use millstream_model::{PublicKey, StreamId, TrackerId, WallTime};
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
    /// The highest generation this packager has used for any stream; the delegation's is above it.
    pub generation: u32,
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

/// What the packager carries: `POST /v1/packager/report`, about once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackagerReport {
    /// Who reports.
    pub packager: PublicKey,
    /// Its origin's base URL, as in [`Admit`]: a tracker that was restarted knows it from here.
    pub origin: String,
    /// One entry per stream.
    pub streams: Vec<StreamReport>,
}

/// One stream on a packager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The stream.
    pub stream: StreamId,
    /// Whether somebody publishes.
    pub state: State,
    /// The newest catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Signed<Catalog>>,
    /// What was published since the report before, oldest first.
    pub published: Vec<Published>,
}

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

/// Bytes of the stream up to a point in time: what a viewer could honestly have watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// When the parts were signed.
    pub at: WallTime,
    /// Bytes since the stream began, counting per group and position the largest rendition only.
    pub bytes: u64,
}
