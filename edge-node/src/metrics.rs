//! What Prometheus sees: everything begins with `millstream_edge_`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The edge's counters and gauges. Clones share their content.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) viewers: IntGauge,
    pub(crate) viewers_total: IntCounter,
    pub(crate) sent_bytes: IntCounter,
    pub(crate) sent_pieces: IntCounterVec,
    pub(crate) sent_records: IntCounter,
    pub(crate) dropped_parts: IntCounter,
    pub(crate) missing: IntCounter,
    pub(crate) blocked: IntCounter,
    pub(crate) refused: IntCounterVec,
    pub(crate) left: IntCounterVec,
    pub(crate) reached: IntCounterVec,
    pub(crate) vouchers: IntCounter,
    pub(crate) vouchers_open: IntGauge,
    pub(crate) receipts: IntCounter,
    pub(crate) vouchers_rejected: IntCounter,
    pub(crate) earned: IntGauge,
    pub(crate) tracker_connected: IntGauge,
    pub(crate) feeds: IntGauge,
    pub(crate) feed_requests: IntCounter,
    pub(crate) feed_bytes: IntCounter,
    pub(crate) feed_failures: IntCounterVec,
    pub(crate) cache_bytes: IntGauge,
    pub(crate) cache_parts: IntGauge,
    pub(crate) evicted_parts: IntGauge,
    pub(crate) streams: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, about: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::with_opts(opts(name, about))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, about: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::with_opts(opts(name, about))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, about: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(opts(name, about), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        Ok(Self {
            viewers: gauge("viewers", "Viewers connected")?,
            viewers_total: counter("viewers_total", "Viewers whose hello was good")?,
            sent_bytes: counter("sent_bytes_total", "Media bytes sent to viewers")?,
            sent_pieces: counters("sent_pieces_total", "Pieces sent to viewers", "why")?,
            sent_records: counter("sent_records_total", "Records sent to viewers")?,
            dropped_parts: counter("dropped_parts_total", "Parts not pushed because a viewer was too slow")?,
            missing: counter("missing_total", "Requests that could not be answered")?,
            blocked: counter("blocked_total", "Times a lane stood at its window or cap")?,
            refused: counters("refused_total", "Lanes that the edge ended, by reason", "reason")?,
            left: counters("left_total", "Lanes that the viewer ended with a reason", "reason")?,
            reached: counters(
                "reached_total",
                "Viewers that an edge behind NAT sent checks, by outcome",
                "outcome",
            )?,
            vouchers: counter("vouchers_total", "Vouchers accepted from viewers")?,
            vouchers_open: gauge("vouchers_open", "Lanes whose latest voucher has no receipt yet")?,
            receipts: counter("receipts_total", "Receipts from the tracker")?,
            vouchers_rejected: counter("vouchers_rejected_total", "Vouchers the tracker did not accept")?,
            earned: gauge("earned_micros", "Earned since the data folder was made, in millionths")?,
            tracker_connected: gauge("tracker_connected", "1 while registered with the tracker")?,
            feeds: gauge("feeds", "Feeds open")?,
            feed_requests: counter("feed_requests_total", "Feeds asked for")?,
            feed_bytes: counter("feed_bytes_total", "Bytes of feeds received")?,
            feed_failures: counters("feed_failures_total", "Feeds that ended, by cause", "cause")?,
            cache_bytes: gauge("cache_bytes", "Bytes of records and pieces in memory")?,
            cache_parts: gauge("cache_parts", "Parts in memory")?,
            evicted_parts: gauge("evicted_parts", "Parts forgotten to stay within the bound")?,
            streams: gauge("streams", "Streams known")?,
        })
    }
}

fn opts(name: &str, about: &str) -> Opts {
    Opts::new(format!("millstream_edge_{name}"), about)
}

/// A count for a gauge.
pub(crate) fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
