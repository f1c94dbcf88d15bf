//! Many viewers at once, and what became of them together.

use std::{ops::Range, path::PathBuf, time::Duration};

use anyhow::Context as _;
use millstream_datachannel::Certificate;
use millstream_model::{PublicKey, StreamId};
use millstream_service::{Trust, trust};
use tokio::task::JoinSet;

use crate::{Report, net::Means, viewer};

/// What to watch, by how many, for how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// The tracker's URL.
    pub tracker: String,
    /// The stream.
    pub stream: StreamId,
    /// How many viewers.
    pub viewers: u32,
    /// How long each watches.
    pub duration: Duration,
    /// The time over which they join.
    pub spread: Duration,
    /// The pinned root key.
    pub root: Option<PublicKey>,
    /// Where tickets are had for streams that are not open; they are bound to a viewer's session key.
    pub ticket_url: Option<reqwest::Url>,
    /// Whom to believe when connecting by TLS.
    pub trust: trust::Config,
    /// False: everything by HTTP.
    pub data_channels: bool,
    /// Milliseconds behind live.
    pub latency_ms: u32,
    /// Where the first viewer's media is written.
    pub dump: Option<PathBuf>,
}

/// What a viewer does not count at its beginning: it takes what was published before it came.
const SETTLE: Duration = Duration::from_secs(5);

impl Config {
    /// When all viewers watch, in the time of the one that begins after `delay`.
    fn together(&self, delay: Duration) -> Range<Duration> {
        let all = self.spread.saturating_sub(delay);
        all + SETTLE..self.duration.saturating_sub(delay)
    }
}

/// Watches, and reports how it went.
///
/// # Errors
/// When the configuration cannot work (a malformed URL, a file that cannot be written). That a stream cannot be
/// watched is no error: the report shows it.
pub async fn run(config: Config) -> anyhow::Result<Report> {
    // One certificate for all: making one costs more than everything else a viewer does in its first second, and
    // what tells viewers apart is the session key.
    let certificate = Certificate::generate().context("making a DTLS certificate")?;
    let trust = Trust::load(&config.trust)?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(trust.http())
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
        .context("making an HTTP client")?;
    let mut viewers = JoinSet::new();
    for index in 0..config.viewers {
        let config = config.clone();
        let means = Means { http: http.clone(), trust: trust.clone(), certificate: certificate.clone() };
        let delay = config.spread * index / config.viewers;
        viewers.spawn(async move {
            tokio::time::sleep(delay).await;
            viewer::watch(&config, means, config.together(delay), index == 0).await
        });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = viewers.join_next().await {
        outcomes.push(outcome.context("a viewer broke")??);
    }
    Ok(Report::of(&outcomes, config.duration))
}
