//! Fetching a ticket: the broadcaster's permission to watch, bound to one session's key.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use millstream_model::{SessionKey, StreamId};

/// A ticket has 2 KiB at most (`docs/protocol/tracker.md`).
const TICKET_BYTES_MAX: usize = 4_096;

/// A viewer does not wait longer for one: who gives tickets looks something up, and that is all.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks for a ticket of this stream for this key.
pub(crate) async fn fetch(
    http: &reqwest::Client,
    url: &reqwest::Url,
    stream: &StreamId,
    key: SessionKey,
) -> anyhow::Result<String> {
    let query = [("stream", stream.to_string()), ("key", key.to_string())];
    let mut url = url.clone();
    url.query_pairs_mut().extend_pairs(query);
    let asked = http.get(url.clone()).timeout(PATIENCE).send();
    let mut answer = asked.await.with_context(|| format!("asking {} for a ticket", url.authority()))?;
    let status = answer.status();
    ensure!(status.is_success(), "{} gives no ticket: {status}", url.authority());
    let mut text = Vec::new();
    while let Some(more) = answer.chunk().await? {
        text.extend_from_slice(&more);
        ensure!(text.len() <= TICKET_BYTES_MAX, "{} answers with more than a ticket", url.authority());
    }
    let text = String::from_utf8(text).context("a ticket is plain text")?;
    Ok(text.trim().to_owned())
}
