//! The tracker as the packager sees it: two HTTP calls.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    sync::{Arc, OnceLock},
    time::Duration,
};

use millstream_model::{PublicKey, WallTime};
use millstream_service::{Secret, Trust, trust};
use millstream_wire::tracker::{Admit, Admitted, Fault, PackagerReport, Reported};
use reqwest::StatusCode;
use serde::Serialize;

use super::{No, Permission};
use crate::{clock::Clock, ingest::Refusal, sequence::Generations};

/// A tracker that takes longer is out of reach; publishers are told to try again.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Bytes of an answer at most: an `Admitted` has one kilobyte.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

millstream_service::settings! {
    /// The tracker that knows streams and their keys.
    pub struct Config {
        /// Its base URL, e.g. `http://127.0.0.1:8080`. Empty: this packager is on its own (see `local`).
        pub url: String = String::new(),
        /// What shows the tracker that this is one of its packagers.
        pub token: Secret<String> = Secret::new(String::new()),
    }
}

/// A tracker.
#[derive(Debug)]
pub struct Tracker {
    config: Config,
    client: reqwest::Client,
    generations: Arc<Generations>,
    /// Known once the origin listens.
    origin: OnceLock<String>,
    /// What the tracker's clock shows beyond ours, in milliseconds.
    ahead_ms: AtomicI64,
}

impl Tracker {
    /// A tracker that is asked with `config`, if `trust` believes it.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(config: Config, trust: &Trust, generations: Arc<Generations>) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(trust.http())
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("millstream-packager/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { config, client, generations, origin: OnceLock::new(), ahead_ms: AtomicI64::new(0) })
    }

    /// Says where the origin is reached; the first time counts.
    pub fn origin_is(&self, url: String) {
        let _ = self.origin.set(url);
    }

    /// Where the origin is reached.
    #[must_use]
    pub fn origin(&self) -> String {
        self.origin.get().cloned().unwrap_or_default()
    }

    /// The tracker's clock when ours shows `wall`.
    #[must_use]
    pub fn time(&self, wall: WallTime) -> WallTime {
        WallTime(wall.0.saturating_add_signed(self.ahead_ms.load(Relaxed)))
    }

    /// Brings a report.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn report(&self, report: &PackagerReport) -> Result<Reported, Unreported> {
        let (status, body) = self.post("report", report).await.map_err(Unreported::Unreachable)?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&body).unwrap_or_default());
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(Unreported::TooLong);
        }
        let error = fault(status, &body);
        let is_away = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if is_away { Unreported::Unreachable(error) } else { Unreported::Refused(error) })
    }

    pub(super) async fn admit(
        &self,
        key: &Secret<String>,
        packager: &PublicKey,
        clock: Clock,
    ) -> Result<Permission, No> {
        let admit = Admit {
            stream_key: key.expose().clone(),
            packager: *packager,
            origin: self.origin(),
            generation: self.generations.highest(),
        };
        let unreachable = |error: String| {
            tracing::warn!(tracker = self.config.url, error, "the tracker is out of reach");
            No::Unreachable(Refusal::new(
                "the tracker is out of reach, so the stream key cannot be checked; try again",
            ))
        };
        let (status, body) = self.post("admit", &admit).await.map_err(unreachable)?;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(unreachable(fault(status, &body)));
        }
        if !status.is_success() {
            return Err(No::Refused(Refusal::key(fault(status, &body))));
        }
        let admitted: Admitted =
            serde_json::from_slice(&body).map_err(|error| unreachable(error.to_string()))?;
        let ahead = i128::from(admitted.time.0) - i128::from(clock.wall().0);
        self.ahead_ms.store(i64::try_from(ahead).unwrap_or(0), Relaxed);
        Ok(Permission {
            stream: admitted.stream,
            delegation: admitted.delegation,
            root: admitted.root,
            tracker: Some(admitted.tracker),
            public: admitted.public,
            above: admit.generation,
        })
    }

    async fn post(&self, call: &str, body: &impl Serialize) -> Result<(StatusCode, Vec<u8>), String> {
        // The error's chain says what happened; its URL is ours and holds no secret.
        let text = |error: reqwest::Error| trust::explain(&error);
        let url = format!("{}/v1/packager/{call}", self.config.url.trim_end_matches('/'));
        let request = self.client.post(url).bearer_auth(self.config.token.expose()).json(body);
        let mut response = request.send().await.map_err(text)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(next) = response.chunk().await.map_err(text)? {
            bytes.extend_from_slice(&next);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        Ok((status, bytes))
    }
}

/// Why a report was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreported {
    /// It has more bytes than the tracker takes.
    TooLong,
    /// The tracker does not take this one, for this reason.
    Refused(String),
    /// The tracker takes none at the moment, for this reason.
    Unreachable(String),
}

/// What the tracker says of a refusal, for people.
fn fault(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => fault.message.chars().filter(|c| !c.is_control()).take(200).collect(),
        Err(_) => format!("the tracker answered {status}"),
    }
}
