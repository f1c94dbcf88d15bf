//! What the packager counts, as Prometheus sees it: `millstream_packager_…`.

use std::sync::Arc;

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// What is counted where it happens.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Parts signed.
    pub parts: IntCounter,
    /// Their bytes.
    pub part_bytes: IntCounter,
    /// Parts that could not be signed.
    pub unsigned: IntCounter,
    /// Complaints of the segmenter about publishers, by kind.
    pub complaints: IntCounterVec,
    /// Publishers cut off for more than their stream's policy allows, by limit.
    pub limits: IntCounterVec,
    /// HTTP answers by kind of resource and status.
    pub answers: IntCounterVec,
    /// Bytes of HTTP bodies by kind of resource.
    pub sent_bytes: IntCounterVec,
    /// Times a feed was too slow and skipped.
    pub feed_gaps: IntCounter,
    /// Reports that the tracker did not take.
    pub reports_failed: IntCounter,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let counter = |name: &str, about: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("millstream_packager_{name}"), about)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let by = |name: &str, about: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counters =
                IntCounterVec::new(Opts::new(format!("millstream_packager_{name}"), about), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        Ok(Arc::new(Self {
            parts: counter("parts_total", "Parts signed")?,
            part_bytes: counter("part_bytes_total", "Bytes of parts signed")?,
            unsigned: counter("parts_unsigned_total", "Parts that could not be signed")?,
            complaints: by("complaints_total", "Complaints about publishers' media", &["kind"])?,
            limits: by("limits_total", "Publishers over a limit of their stream", &["limit"])?,
            answers: by("http_answers_total", "HTTP answers", &["resource", "status"])?,
            sent_bytes: by("http_sent_bytes_total", "Bytes of HTTP bodies", &["resource"])?,
            feed_gaps: counter("feed_gaps_total", "Times a feed fell behind and skipped")?,
            reports_failed: counter("reports_failed_total", "Reports that the tracker did not take")?,
        }))
    }
}

/// Gauges that are read when somebody asks.
pub struct Gauges<F> {
    gauges: Vec<IntGauge>,
    read: F,
}

impl<F: Fn() -> Vec<i64> + Send + Sync + 'static> Gauges<F> {
    /// Registers gauges by name and help text; `read` gives their values in the same order.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry, gauges: &[(&str, &str)], read: F) -> prometheus::Result<()> {
        let gauges = gauges
            .iter()
            .map(|(name, about)| IntGauge::new(format!("millstream_packager_{name}"), *about))
            .collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Self { gauges, read }))
    }
}

impl<F: Fn() -> Vec<i64> + Send + Sync> Collector for Gauges<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (gauge, value) in self.gauges.iter().zip((self.read)()) {
            gauge.set(value);
        }
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}
