//! What keeping counts, as Prometheus sees it: `millstream_packager_keep_…`.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::Keeper;
use crate::metrics::Gauges;

/// What is counted where it happens.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Bytes of media stored.
    pub(crate) stored_bytes: IntCounter,
    /// Segments stored.
    pub(crate) stored: IntCounter,
    /// Segments that were given up, or are damaged.
    pub(crate) lost: IntCounter,
    /// Calls of the store that failed, by what was to be done.
    pub(crate) errors: IntCounterVec,
    /// Bytes read from the store to be served.
    pub(crate) read_bytes: IntCounter,
    /// Recordings that were finished.
    pub(crate) ready: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, about: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("millstream_packager_keep_{name}"), about)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let errors = Opts::new("millstream_packager_keep_errors_total", "Calls of the store that failed");
        let errors = IntCounterVec::new(errors, &["call"])?;
        registry.register(Box::new(errors.clone()))?;
        Ok(Self {
            stored_bytes: counter("stored_bytes_total", "Bytes of media stored")?,
            stored: counter("stored_segments_total", "Segments stored")?,
            lost: counter("lost_segments_total", "Segments that recordings lost")?,
            errors,
            read_bytes: counter("read_bytes_total", "Bytes read from the store to be served")?,
            ready: counter("recordings_ready_total", "Recordings that were finished")?,
        })
    }
}

/// Registers what is read when somebody asks.
pub(crate) fn gauges(registry: &Registry, keeper: &Arc<Keeper>) -> prometheus::Result<()> {
    let gauges = [
        ("keep_backlog_bytes", "Bytes of recordings that wait for the store"),
        ("keep_recordings_open", "Recordings that are not finished"),
    ];
    let keeper = Arc::downgrade(keeper);
    Gauges::register(registry, &gauges, move || {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        keeper
            .upgrade()
            .map_or(vec![0, 0], |keeper| vec![number(keeper.backlog_bytes()), number(keeper.open())])
    })
}
