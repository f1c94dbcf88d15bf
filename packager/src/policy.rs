//! What a stream's publishers may do: take over, stay away, send much, and for how long.
//!
//! Settings and decisions; pure. Who holds a seat is known in `ingest`, who is cut off in `stream::life`.

mod limits;
mod picture;

use std::{collections::HashMap, time::Duration};

use millstream_model::StreamId;
use serde::{Deserialize, Serialize};

pub(crate) use self::limits::{Breach, Limits};
pub use self::picture::Picture;

/// The longest that a stream may wait for its publisher, in milliseconds: longer, and viewers are gone anyway.
const AWAY_MS_MAX: u64 = 120_000;

millstream_service::settings! {
    /// What publishers may do, where `streams` does not say otherwise. 0 and an empty text: no bound.
    pub struct Config {
        /// When somebody publishes with the good key of a stream that has a publisher. `refuse`: is refused, unless
        /// nothing comes from the older one for two seconds, for then it is dead or about to be. `replace`: takes
        /// over at once, and the older one is cut off; the stream goes on after one discontinuity.
        pub takeover: Takeover = Takeover::Refuse,
        /// Milliseconds that a stream waits for a publisher that went away, then it ends; up to 120000.
        pub away_ms: u64 = 30_000,
        /// Most that a publisher may send, all tracks together, in kbit/s. Believed when the encoder says more, and
        /// measured: over for some seconds is allowed.
        pub bitrate_kbps_max: u64 = 0,
        /// Largest picture, e.g. `1920x1080`, which allows 1080x1920 as well.
        pub picture_max: Picture = Picture::ANY,
        /// Seconds that a show may last, absences of its publisher included; then it ends.
        pub duration_s_max: u64 = 0,
        /// What is different for single streams, e.g. `[{ stream = "demo", takeover = "replace", away_ms = 5000 }]`.
        pub streams: Vec<StreamPolicy> = Vec::new(),
    }
}

/// Who wins when two publish one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Takeover {
    /// The older, as long as it sends.
    Refuse,
    /// The newer.
    Replace,
}

/// What is different for one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPolicy {
    /// Its name.
    pub stream: StreamId,
    /// As [`Config::takeover`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takeover: Option<Takeover>,
    /// As [`Config::away_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_ms: Option<u64>,
    /// As [`Config::bitrate_kbps_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_kbps_max: Option<u64>,
    /// As [`Config::picture_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_max: Option<Picture>,
    /// As [`Config::duration_s_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s_max: Option<u64>,
}

impl StreamPolicy {
    /// One that says nothing yet.
    #[must_use]
    pub const fn of(stream: StreamId) -> Self {
        Self {
            stream,
            takeover: None,
            away_ms: None,
            bitrate_kbps_max: None,
            picture_max: None,
            duration_s_max: None,
        }
    }
}

/// What one stream's publishers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Who wins when two publish it.
    pub takeover: Takeover,
    /// How long it waits for a publisher.
    pub away: Duration,
    /// Most that a publisher may send, in kbit/s.
    pub bitrate_kbps_max: Option<u64>,
    /// Largest picture.
    pub picture_max: Option<Picture>,
    /// Longest show.
    pub duration_max: Option<Duration>,
}

/// Every stream's policy.
#[derive(Debug)]
pub struct Policies {
    usual: Policy,
    streams: HashMap<StreamId, Policy>,
}

impl Policies {
    /// Checks the settings.
    ///
    /// # Errors
    /// Says which setting cannot be used, and what would be right.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let usual = policy("policy", config)?;
        let mut streams = HashMap::new();
        for own in &config.streams {
            let place = format!("policy.streams ({})", own.stream);
            let config = Config {
                takeover: own.takeover.unwrap_or(config.takeover),
                away_ms: own.away_ms.unwrap_or(config.away_ms),
                bitrate_kbps_max: own.bitrate_kbps_max.unwrap_or(config.bitrate_kbps_max),
                picture_max: own.picture_max.unwrap_or(config.picture_max),
                duration_s_max: own.duration_s_max.unwrap_or(config.duration_s_max),
                streams: Vec::new(),
            };
            let twice = streams.insert(own.stream.clone(), policy(&place, &config)?);
            anyhow::ensure!(twice.is_none(), "{place}: stands there twice; keep one");
        }
        Ok(Self { usual, streams })
    }

    /// One stream's.
    #[must_use]
    pub fn of(&self, stream: &StreamId) -> Policy {
        self.streams.get(stream).copied().unwrap_or(self.usual)
    }
}

fn policy(place: &str, config: &Config) -> anyhow::Result<Policy> {
    anyhow::ensure!(
        config.away_ms <= AWAY_MS_MAX,
        "{place}: away_ms is {}, and a stream waits for its publisher {AWAY_MS_MAX} ms at most",
        config.away_ms
    );
    Ok(Policy {
        takeover: config.takeover,
        away: Duration::from_millis(config.away_ms),
        bitrate_kbps_max: (config.bitrate_kbps_max > 0).then_some(config.bitrate_kbps_max),
        picture_max: (config.picture_max != Picture::ANY).then_some(config.picture_max),
        duration_max: (config.duration_s_max > 0).then(|| Duration::from_secs(config.duration_s_max)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> StreamId {
        StreamId::new(name).unwrap()
    }

    fn own(name: &str) -> StreamPolicy {
        StreamPolicy::of(id(name))
    }

    #[test]
    fn a_stream_has_its_own_policy_where_it_says_so_and_the_usual_one_elsewhere() {
        let mut config = Config { bitrate_kbps_max: 6_000, ..Config::default() };
        let picture_max = Some(Picture::ANY);
        let demo =
            StreamPolicy { takeover: Some(Takeover::Replace), away_ms: Some(0), picture_max, ..own("demo") };
        config.picture_max = "1280x720".parse().unwrap();
        config.streams = vec![demo, own("same")];
        let policies = Policies::new(&config).unwrap();
        let (usual, demo) = (policies.of(&id("other")), policies.of(&id("demo")));
        assert_eq!((usual.takeover, usual.away), (Takeover::Refuse, Duration::from_secs(30)));
        assert_eq!((demo.takeover, demo.away), (Takeover::Replace, Duration::ZERO));
        assert_eq!(
            (demo.bitrate_kbps_max, demo.picture_max),
            (Some(6_000), None),
            "an override may lift a bound"
        );
        assert_eq!(policies.of(&id("same")), usual);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |config: &Config| Policies::new(config).unwrap_err().to_string();
        let long = refused(&Config { away_ms: 120_001, ..Config::default() });
        assert!(long.contains("120000 ms at most"), "{long}");
        let streams = vec![StreamPolicy { away_ms: Some(200_000), ..own("demo") }];
        let long = refused(&Config { streams, ..Config::default() });
        assert!(long.contains("policy.streams (demo)"), "{long}");
        let streams = vec![own("demo"), own("demo")];
        assert!(refused(&Config { streams, ..Config::default() }).contains("twice"));
    }
}
