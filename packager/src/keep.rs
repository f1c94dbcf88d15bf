//! Keeping: what a stream's window lets go stays in a store, as a recording and for a DVR window.
//!
//! ```text
//!  stream ──parts──▶ recording (pure) ──▶ recorder ──▶ store ◀── library ◀── origin: what left the window,
//!                    what waits, what is    tries       folder                        and shows that are over
//!                    given up, the journal  again       or S3
//! ```
//!
//! A store that is slow, full or away never delays the live stream: parts are put into a [`recording::Recording`] and
//! nobody waits for what becomes of them. What never belongs here: what is live, and who may watch.

pub mod index;
pub mod journal;
mod library;
mod metrics;
mod recorder;
pub mod recording;
mod show;
pub mod store;
pub mod verify;

use std::path::Path;

use millstream_model::StreamId;
use serde::{Deserialize, Serialize};

pub use self::recorder::Keeper;
pub(crate) use self::{
    library::Recorded,
    metrics::{Metrics, gauges},
    recorder::Means,
    show::{Found, Show},
};

millstream_service::settings! {
    /// Recordings and the DVR window.
    pub struct Config {
        /// Streams that are recorded, by name; `["*"]` records all.
        pub record: Vec<Pick> = Vec::new(),
        /// Where recordings lie: a folder, `file:///…`, or `s3://bucket/prefix`. Empty: `recordings` in the data folder.
        /// A packager reads only what it wrote: give each its own prefix.
        pub store: String = String::new(),
        /// Milliseconds of a recorded stream that its live playlists list, so that viewers can go back: 0 lists what is in
        /// memory alone, 7200000 are two hours.
        pub dvr_ms: u64 = 0,
        /// Bytes that one stream may have waiting for the store. At the bound the oldest whole segments are given up, which
        /// the recording and playlists list as gaps; the live stream goes on as ever.
        pub backlog_bytes_max: usize = 256 * 1024 * 1024,
        /// Bytes that stay free on the disk of a folder; below, it counts as full.
        pub free_bytes_min: u64 = 512 * 1024 * 1024,
        /// Milliseconds between tries at most while the store does not take anything. The first come sooner.
        pub retry_ms_max: u64 = 5_000,
        /// Segments read from the store at a time at most; more requests are answered with 503.
        pub reads_max: usize = 64,
        /// Where `store` is a bucket.
        pub s3: store::S3 = Default::default(),
    }
}

/// Which streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pick {
    /// All.
    All,
    /// One.
    One(StreamId),
}

impl TryFrom<String> for Pick {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "*" => Ok(Self::All),
            name => StreamId::new(name)
                .map(Self::One)
                .map_err(|error| format!("`{name}`: {error}; a stream's name, or `*`")),
        }
    }
}

impl From<Pick> for String {
    fn from(pick: Pick) -> Self {
        match pick {
            Pick::All => Self::from("*"),
            Pick::One(stream) => stream.to_string(),
        }
    }
}

impl Config {
    /// Whether any stream is recorded.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.record.is_empty()
    }

    /// Whether `stream` is recorded.
    #[must_use]
    pub fn records(&self, stream: &StreamId) -> bool {
        self.record.iter().any(|pick| match pick {
            Pick::All => true,
            Pick::One(one) => one == stream,
        })
    }

    /// Where recordings lie, for a packager with this data folder.
    #[must_use]
    pub fn url(&self, data: &Path) -> String {
        if self.store.is_empty() {
            return data.join("recordings").to_string_lossy().into_owned();
        }
        self.store.clone()
    }
}
