//! The settings of events.

use millstream_service::Secret;
use serde::{Deserialize, Serialize};

use super::event::Kind;

millstream_service::settings! {
    /// Events: what happens to streams is logged, and told to webhooks.
    pub struct Config {
        /// Who is told by HTTP, e.g. `[{ url = "https://example.com/hook", secret = "whsec_…", events = ["ready"] }]`.
        /// `events` may be left out: then all are sent. A secret is `whsec_` and 24 to 64 random bytes in base64:
        /// `echo whsec_$(openssl rand -base64 32)`.
        pub webhooks: Vec<Webhook> = Vec::new(),
        /// Whether webhooks may be reached by `http://`, unencrypted. Even then at addresses of this machine or of a
        /// private network alone.
        pub plain_http: bool = false,
        /// Events that wait for one webhook at most. When one more comes, the oldest is dropped; the next that is
        /// delivered says how many are missing.
        pub waiting_max: usize = 256,
        /// Milliseconds that an event waits for a webhook that does not take it; then it is dropped likewise.
        pub keep_ms: u64 = 3_600_000,
        /// Milliseconds that a webhook has to answer.
        pub timeout_ms: u64 = 10_000,
    }
}

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where events are posted.
    pub url: String,
    /// What they are signed with.
    pub secret: Secret<String>,
    /// Which; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Kind>,
}
