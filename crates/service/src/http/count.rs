//! What a listener counts: for its own bound, for a program's metrics and for tests.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use prometheus::{
    IntCounter, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Connections of one listener, now and so far.
#[derive(Debug, Default)]
pub struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    /// Connections open now, upgraded ones included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections closed at once so far, because there were `connections_max` already.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Adds `millstream_http_connections` and its totals to `registry`, labelled with the `listener`'s name.
    ///
    /// # Errors
    /// When that listener is registered already.
    pub fn register(self: &Arc<Self>, registry: &Registry, listener: &str) -> prometheus::Result<()> {
        let opts = |name: &str, help: &str| {
            Opts::new(name, help)
                .const_labels(HashMap::from([(String::from("listener"), listener.to_owned())]))
        };
        registry.register(Box::new(Metrics {
            counts: Arc::clone(self),
            open: IntGauge::with_opts(opts("millstream_http_connections", "connections open now"))?,
            accepted: IntCounter::with_opts(opts(
                "millstream_http_connections_accepted_total",
                "connections accepted",
            ))?,
            refused: IntCounter::with_opts(opts(
                "millstream_http_connections_refused_total",
                "connections closed at once because the listener was full",
            ))?,
            collecting: Mutex::new(()),
        }))
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// One of the `connections_max` places; given back when dropped.
pub(super) struct Seat(Arc<Counts>);

impl Seat {
    pub(super) fn take(counts: &Arc<Counts>) -> Self {
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the counts when somebody asks.
struct Metrics {
    counts: Arc<Counts>,
    open: IntGauge,
    accepted: IntCounter,
    refused: IntCounter,
    collecting: Mutex<()>,
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        [self.open.desc(), self.accepted.desc(), self.refused.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Two scrapers at a time must not both add what is new.
        let _one = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.set(i64::try_from(self.counts.open()).unwrap_or(i64::MAX));
        self.accepted.inc_by(self.counts.accepted().saturating_sub(self.accepted.get()));
        self.refused.inc_by(self.counts.refused().saturating_sub(self.refused.get()));
        [self.open.collect(), self.accepted.collect(), self.refused.collect()].concat()
    }
}
