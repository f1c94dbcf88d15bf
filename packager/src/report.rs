//! Tells the tracker every second which streams are here and how much of each was published.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use millstream_model::{PublicKey, StreamId};
use millstream_service::tasks::Drain;
use millstream_wire::{
    media::Catalog,
    sign::Signed,
    tracker::{PackagerReport, Published, StreamReport},
};

use crate::{gate::Gate, metrics::Metrics, stream::Stream, streams::Streams};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// The catalog is told again after so many reports, for a tracker that lost its memory.
const CATALOG_EVERY: u32 = 10;

/// Counts kept of one stream while the tracker does not take reports: ten minutes of them. When there are more,
/// every other goes: each counts from the beginning, so the sum stays right and only the times get coarser.
const PENDING_MAX: usize = 600;

/// Reports until the program drains.
pub(crate) async fn run(
    gate: Arc<Gate>,
    streams: Arc<Streams>,
    packager: PublicKey,
    metrics: Arc<Metrics>,
    drain: Drain,
) {
    let Some(tracker) = gate.tracker() else { return };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pending = Pending::default();
    let mut was_taken = true;
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = drain.begun() => true,
        };
        let report =
            PackagerReport { packager, origin: tracker.origin(), streams: pending.report(&streams.all()) };
        // Nothing to say is said, too: it shows that the packager lives.
        match tracker.report(&report).await {
            Ok(()) => {
                pending.taken(&report);
                if !std::mem::replace(&mut was_taken, true) {
                    tracing::info!("the tracker takes reports again");
                }
            }
            Err(error) => {
                metrics.reports_failed.inc();
                if std::mem::replace(&mut was_taken, false) {
                    tracing::warn!(error, "the tracker does not take reports; they are kept");
                }
            }
        }
        if last {
            return;
        }
    }
}

/// What the tracker does not know yet.
#[derive(Debug, Default)]
struct Pending {
    streams: HashMap<StreamId, Told>,
}

#[derive(Debug, Default)]
struct Told {
    published: VecDeque<Published>,
    bytes: u64,
    catalog: Option<(u32, u32)>,
    /// Reports since the catalog was told.
    age: u32,
}

impl Pending {
    fn report(&mut self, streams: &[Arc<Stream>]) -> Vec<StreamReport> {
        self.streams.retain(|id, _| streams.iter().any(|stream| stream.id() == id));
        streams.iter().map(|stream| self.stream(stream)).collect()
    }

    fn stream(&mut self, stream: &Stream) -> StreamReport {
        let told = self.streams.entry(stream.id().clone()).or_default();
        let (state, catalog, now) = stream.look(|inner| {
            let now = Published { at: inner.published_at, bytes: inner.published_bytes };
            (inner.state, inner.window.newest_catalog().cloned(), now)
        });
        told.count(now);
        let fresh = catalog.as_ref().map(place) != told.catalog || told.age >= CATALOG_EVERY;
        StreamReport {
            stream: stream.id().clone(),
            state,
            catalog: catalog.filter(|_| fresh),
            published: told.published.iter().copied().collect(),
        }
    }

    /// The tracker has `report`.
    fn taken(&mut self, report: &PackagerReport) {
        for stream in &report.streams {
            let Some(told) = self.streams.get_mut(&stream.stream) else { continue };
            told.published.clear();
            told.age = told.age.saturating_add(1);
            if let Some(catalog) = &stream.catalog {
                told.catalog = Some(place(catalog));
                told.age = 0;
            }
        }
    }
}

impl Told {
    fn count(&mut self, now: Published) {
        if now.bytes == self.bytes {
            return;
        }
        self.bytes = now.bytes;
        self.published.push_back(now);
        if self.published.len() > PENDING_MAX {
            let mut index = 0;
            let newest = self.published.len();
            self.published.retain(|_| {
                index += 1;
                index % 2 == 0 || index == newest
            });
        }
    }
}

fn place(catalog: &Signed<Catalog>) -> (u32, u32) {
    let catalog = catalog.unverified();
    (catalog.generation, catalog.version)
}

#[cfg(test)]
mod tests {
    use millstream_model::WallTime;

    use super::*;

    #[test]
    fn counts_get_coarser_and_never_wrong_while_nobody_takes_them() {
        let mut told = Told::default();
        for second in 1..=10_000 {
            told.count(Published { at: WallTime(second * 1_000), bytes: second * 500 });
            told.count(Published { at: WallTime(second * 1_000 + 1), bytes: second * 500 });
            assert!(told.published.len() <= PENDING_MAX);
            assert_eq!(told.published.back().unwrap().bytes, second * 500);
        }
        assert!(told.published.iter().all(|count| count.bytes * 2 == count.at.0));
        assert!(told.published.iter().is_sorted_by_key(|count| count.at));
        assert!(told.published.len() >= PENDING_MAX / 2);
    }
}
