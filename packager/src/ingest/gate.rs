//! Who may publish: the question that this ingest asks and others answer.

use std::future::Future;

use millstream_model::StreamId;
use millstream_rtmp::StreamKey;

use crate::policy::Takeover;

/// Decides about stream keys. The real one asks the tracker.
pub trait Gate: Send + Sync + 'static {
    /// Whether whoever holds `key` may publish, and what. Is dropped when it takes longer than
    /// `admit_timeout_ms`.
    fn admit(&self, key: &StreamKey) -> impl Future<Output = Result<Admitted, Refusal>> + Send;

    /// Who wins when somebody publishes `stream`, which has a publisher.
    fn takeover(&self, stream: &StreamId) -> Takeover {
        let _ = stream;
        Takeover::Refuse
    }

    /// A publisher of `stream` whose key was good is refused all the same.
    fn refused(&self, stream: &StreamId, refusal: &Refusal) {
        let _ = (stream, refusal);
    }
}

/// A key was good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The stream it publishes.
    pub stream: StreamId,
}

/// A key was not good, or could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What the publisher is told and the log says. Never holds the key.
    pub reason: String,
    /// It is the key that is not good: coming again with it is in vain.
    pub is_key: bool,
}

impl Refusal {
    /// A refusal with this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_key: false }
    }

    /// A refusal of the key, with this reason.
    #[must_use]
    pub fn key(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_key: true }
    }
}
