//! Tells the tracker every second which streams are here and how much of each was published.

mod pending;

use std::{sync::Arc, time::Duration};

use millstream_model::{PublicKey, StreamId};
use millstream_service::{
    data::{self, Folder},
    tasks::Drain,
};
use millstream_wire::tracker::{PackagerReport, Published, State};
use tokio::time::Instant;

use self::pending::{Left, Pending, Seen};
use crate::{
    gate::{Gate, Tracker, Unreported},
    metrics::Metrics,
    stream::Stream,
    streams::Streams,
};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// How often the disk is told of counts that no tracker takes: a crash then costs edges that much of an outage.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// After the drain began, publishers' last parts are signed for about so long; then comes the last report.
const LAST_AFTER: Duration = Duration::from_millis(300);

/// Where counts wait for a tracker that takes them.
const FILE: &str = "published.json";

/// Bytes of that file at most: half a thousand streams with as many counters as there can be.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reports until the program drains.
pub(crate) async fn run(
    gate: Arc<Gate>,
    streams: Arc<Streams>,
    packager: PublicKey,
    folder: Arc<Folder>,
    metrics: Arc<Metrics>,
    drain: Drain,
) {
    let Some(tracker) = gate.tracker() else { return };
    let mut kept = Kept::open(folder).await;
    let mut reporter =
        Reporter { tracker, packager, pending: Pending::new(kept.left.clone()), metrics, was_taken: true };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = drain.begun() => true,
        };
        if last {
            tokio::time::sleep(LAST_AFTER).await;
        }
        let here = streams.all();
        let gone = reporter.round(here.iter().map(|stream| see(stream)).collect()).await;
        dismiss(&here, &gone);
        kept.keep(reporter.pending.left(), last).await;
        if last {
            return;
        }
    }
}

fn see(stream: &Stream) -> Seen {
    stream.look(|inner| Seen {
        stream: stream.id().clone(),
        generation: inner.given,
        state: inner.state,
        catalog: inner.window.newest_catalog().cloned(),
        published: Published { run: inner.run, bytes: inner.published_bytes },
    })
}

/// Sends the publishers of removed streams away: nobody can watch them.
fn dismiss(streams: &[Arc<Stream>], gone: &[StreamId]) {
    for stream in streams.iter().filter(|stream| gone.contains(stream.id())) {
        if stream.look(|inner| !inner.gone && inner.state != State::Ended) {
            tracing::warn!(stream = %stream.id(), "the stream was removed at the tracker; its publisher is sent away");
            stream.change(|inner| inner.gone = true);
        }
    }
}

struct Reporter<'a> {
    tracker: &'a Tracker,
    packager: PublicKey,
    pending: Pending,
    metrics: Arc<Metrics>,
    was_taken: bool,
}

impl Reporter<'_> {
    /// Tells all there is to tell, in as many reports as it takes. Gives the streams that the tracker says are no more.
    async fn round(&mut self, seen: Vec<Seen>) -> Vec<StreamId> {
        self.pending.see(seen);
        let mut gone = Vec::new();
        let mut lines = self.pending.next();
        // Nothing to say is said, too: it shows that the packager lives.
        loop {
            let report =
                PackagerReport { packager: self.packager, origin: self.tracker.origin(), streams: lines };
            match self.tracker.report(&report).await {
                Ok(reported) => {
                    self.pending.taken(&report.streams, &reported);
                    gone.extend(reported.gone);
                    if !std::mem::replace(&mut self.was_taken, true) {
                        tracing::info!("the tracker takes reports again");
                    }
                }
                Err(Unreported::TooLong) => {
                    tracing::warn!(streams = report.streams.len(), "a report is too long for the tracker");
                    self.metrics.reports_failed.inc();
                    self.pending.too_long(&report.streams);
                }
                Err(Unreported::Refused(error)) => self.failed(&error),
                Err(Unreported::Unreachable(error)) => {
                    self.failed(&error);
                    return gone;
                }
            }
            lines = self.pending.next();
            if lines.is_empty() {
                return gone;
            }
        }
    }

    fn failed(&mut self, error: &str) {
        self.metrics.reports_failed.inc();
        if std::mem::replace(&mut self.was_taken, false) {
            tracing::warn!(error, "the tracker does not take reports; what was published is kept for it");
        }
    }
}

/// The counts on disk.
struct Kept {
    folder: Arc<Folder>,
    /// What the disk has.
    left: Left,
    at: Instant,
}

impl Kept {
    async fn open(folder: Arc<Folder>) -> Self {
        let reading = Arc::clone(&folder);
        let read = tokio::task::spawn_blocking(move || read(&reading)).await;
        let left = read.unwrap_or_else(|_| Ok(Left::default())).unwrap_or_else(|error| {
            // Edges lose what was published in an outage; the show must not.
            tracing::error!(%error, "what no tracker was told yet cannot be read");
            Left::default()
        });
        Self { folder, left, at: Instant::now() }
    }

    /// Sees to it that the disk has `left`: now and then while it only grows, and at once when all is taken or it is
    /// the last chance.
    async fn keep(&mut self, left: Left, last: bool) {
        let due = last || left.is_empty() || self.at.elapsed() >= KEEP_EVERY;
        if left == self.left || !due {
            return;
        }
        let (folder, writing) = (Arc::clone(&self.folder), left.clone());
        let written = tokio::task::spawn_blocking(move || write(&folder, &writing)).await;
        self.at = Instant::now();
        match written {
            Ok(Ok(())) => self.left = left,
            Ok(Err(error)) => tracing::warn!(%error, "what no tracker was told yet is not kept on disk"),
            Err(error) => tracing::warn!(%error, "what no tracker was told yet is not kept on disk"),
        }
    }
}

fn read(folder: &Folder) -> Result<Left, data::Error> {
    let Some(bytes) = folder.read(FILE, FILE_BYTES_MAX)? else { return Ok(Left::default()) };
    let damaged = |error: serde_json::Error| data::Error::Damaged {
        path: folder.path().join(FILE),
        reason: error.to_string(),
    };
    serde_json::from_slice(&bytes).map_err(damaged)
}

fn write(folder: &Folder, left: &Left) -> Result<(), data::Error> {
    let damaged = |error: serde_json::Error| data::Error::Damaged {
        path: folder.path().join(FILE),
        reason: error.to_string(),
    };
    let mut bytes = serde_json::to_vec(left).map_err(damaged)?;
    bytes.push(b'\n');
    folder.write(FILE, &bytes)
}
