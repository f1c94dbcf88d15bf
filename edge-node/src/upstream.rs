//! Fetching from the origin: a stream's description, and one feed per rendition wanted.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use millstream_model::{RenditionId, StreamId};
use millstream_playlist::{Path, query};
use millstream_service::trust;
use millstream_wire::frame::{Deframer, Frame};
use tokio::time::timeout;

use crate::store::Store;

/// An origin that does not begin to answer in this time is tried again. It may hold a request for three target
/// durations, while a stream begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A description of a stream: catalog with init segments, and the records of two segments in every rendition.
const DESCRIPTION_BYTES_MAX: u64 = 4 << 20;

/// The first wait before another attempt; doubles up to the last one. Viewers watch, so it is short.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A feed that is alive says something every two seconds, if only a ping. After three of them it is opened anew.
const SILENCE: Duration = Duration::from_secs(6);

/// Fetches delegation and catalog until they are there.
pub(crate) async fn describe(store: Arc<Store>, stream: StreamId) {
    let mut wait = RETRY.0;
    let mut is_told = false;
    loop {
        match fetch_description(&store, &stream).await {
            Ok(()) => return,
            Err(error) => {
                store.metrics.feed_failures.with_label_values(&["description"]).inc();
                if is_told {
                    tracing::debug!(%stream, "description: {error:#}");
                } else {
                    is_told = true;
                    tracing::info!(%stream, "no description of the stream yet: {error:#}");
                }
            }
        }
        pause(&mut wait).await;
    }
}

async fn fetch_description(store: &Arc<Store>, stream: &StreamId) -> anyhow::Result<()> {
    let mut response = get(store, stream, Path::Start, String::new()).await?;
    let mut frames = Deframer::default();
    let mut bytes = 0;
    while let Some(data) = timeout(ANSWER_TIMEOUT, response.chunk()).await.context("it stalls")?? {
        bytes += data.len() as u64;
        if bytes > DESCRIPTION_BYTES_MAX {
            bail!("longer than {DESCRIPTION_BYTES_MAX} bytes");
        }
        frames.push(&data);
        while let Some(frame) = frames.next_frame()? {
            store.frame(stream, None, frame)?;
        }
    }
    if store.cache().described(stream).is_none() { bail!("it holds no catalog") } else { Ok(()) }
}

/// Takes a rendition's feed until nobody wants it: goes on after every break where it stopped.
pub(crate) async fn feed(store: Arc<Store>, stream: StreamId, rendition: RenditionId, name: String) {
    let mut wait = RETRY.0;
    loop {
        let mut records = 0;
        let ended = take(&store, &stream, rendition, &name, &mut records).await;
        let (cause, error) = match ended {
            Ok(()) => ("ended", None),
            Err(error) => (cause(&error), Some(error)),
        };
        store.metrics.feed_failures.with_label_values(&[cause]).inc();
        match &error {
            Some(error) if cause == "bad" => {
                tracing::warn!(%stream, rendition = name, "the origin's feed is not believed: {error:#}");
            }
            Some(error) => tracing::debug!(%stream, rendition = name, "feed: {error:#}"),
            None => tracing::debug!(%stream, rendition = name, "feed ended"),
        }
        if records > 0 && cause != "bad" {
            wait = RETRY.0;
        }
        pause(&mut wait).await;
    }
}

/// Why a feed ended.
#[derive(Debug)]
enum Ended {
    /// What it said is not true.
    Bad(millstream_cache::Bad),
    /// Nothing came for too long.
    Silent,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bad(why) => why.fmt(f),
            Self::Silent => f.write_str("nothing was heard for 6 s"),
        }
    }
}

impl std::error::Error for Ended {}

fn cause(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(Ended::Bad(_)) => "bad",
        Some(Ended::Silent) => "silent",
        None => "failed",
    }
}

async fn take(
    store: &Arc<Store>,
    stream: &StreamId,
    rendition: RenditionId,
    name: &str,
    records: &mut u64,
) -> anyhow::Result<()> {
    let from = store.cache().resume(stream, rendition).unwrap_or(0);
    store.metrics.feed_requests.inc();
    let mut response = get(store, stream, Path::Feed, query::feed(name, from)).await?;
    tracing::debug!(%stream, rendition = name, from, "feed open");
    let mut frames = Deframer::default();
    loop {
        let Ok(data) = timeout(SILENCE, response.chunk()).await else { bail!(Ended::Silent) };
        let Some(data) = data? else { return Ok(()) };
        store.metrics.feed_bytes.inc_by(data.len() as u64);
        frames.push(&data);
        while let Some(frame) = frames.next_frame()? {
            *records += u64::from(matches!(frame, Frame::Record(_)));
            store.frame(stream, Some(rendition), frame).map_err(Ended::Bad)?;
        }
    }
}

async fn get(
    store: &Arc<Store>,
    stream: &StreamId,
    path: Path<'_>,
    query: String,
) -> anyhow::Result<reqwest::Response> {
    let source = store.source(stream).await.map_err(|error| anyhow::anyhow!("no origin: {error:?}"))?;
    let mut url = format!("{}{}", source.origin, path.url(stream));
    if !query.is_empty() {
        url.push('?');
        url.push_str(&query);
    }
    let request = store.http.get(&url).bearer_auth(&source.token);
    let answer = timeout(ANSWER_TIMEOUT, request.send()).await.context("the origin does not answer")?;
    let response = answer.map_err(|error| anyhow::anyhow!(trust::explain(&error)))?;
    let status = response.status();
    if matches!(status.as_u16(), 401 | 403) {
        // The token may be older than we believe.
        let _ = store.look_up(stream).await;
    }
    if status.is_success() { Ok(response) } else { bail!("{path}: the origin says {status}") }
}

/// Waits, longer each time, and never as long as the next edge.
async fn pause(wait: &mut Duration) {
    tokio::time::sleep(crate::spread(*wait)).await;
    *wait = (*wait * 2).min(RETRY.1);
}
