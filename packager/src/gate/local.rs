//! Streams and keys from the configuration: a packager on its own, without tracker and money.
//!
//! It makes a root key of its own in the data folder and signs its delegations itself. All streams are public, and
//! feeds want no token, because nobody could give one.

use std::sync::Arc;

use millstream_model::{PublicKey, StreamId, WallTime};
use millstream_service::Secret;
use millstream_wire::{
    media::Delegation,
    sign::{Context, SecretKey, Signed, Signer as _},
};
use serde::{Deserialize, Serialize};

use super::Permission;
use crate::{ingest::Refusal, sequence::Generations};

/// How long a delegation by the own root lasts.
const DELEGATED_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// Receivers' clocks may be behind by this much.
const BACKDATED_MS: u64 = 3_600 * 1_000;

/// A stream of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalStream {
    /// Its name.
    pub stream: StreamId,
    /// The key its publisher shows.
    pub key: Secret<String>,
}

/// Decides by a list.
pub struct Local {
    streams: Vec<LocalStream>,
    root: SecretKey,
    generations: Arc<Generations>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Local").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Local {
    /// Takes the list and the own root key.
    #[must_use]
    pub const fn new(streams: Vec<LocalStream>, root: SecretKey, generations: Arc<Generations>) -> Self {
        Self { streams, root, generations }
    }

    pub(super) async fn admit(
        &self,
        key: &Secret<String>,
        packager: &PublicKey,
        now: WallTime,
    ) -> Result<Permission, Refusal> {
        let given = key.expose().as_bytes();
        // All are compared, so that the time tells nothing.
        let mut found = None;
        for stream in &self.streams {
            if stream.key.matches(given) {
                found = Some(stream.stream.clone());
            }
        }
        let stream =
            found.ok_or_else(|| Refusal::key("the stream key is not in this packager's configuration"))?;
        let generation = self.generations.next().await.map_err(|error| {
            tracing::error!(%error, "no generation can be noted");
            Refusal::new("this packager cannot write to its data folder")
        })?;
        let delegation = Delegation {
            stream: stream.clone(),
            generation,
            packager: *packager,
            not_before: WallTime(now.0.saturating_sub(BACKDATED_MS)),
            expires: now.plus_millis(DELEGATED_MS),
        };
        Ok(Permission {
            stream,
            delegation: Signed::new(delegation, Context::None, &self.root),
            root: self.root.public(),
            tracker: None,
            public: true,
            above: generation.saturating_sub(1),
        })
    }
}
