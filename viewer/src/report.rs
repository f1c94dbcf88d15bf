//! How it went: the figures of a run, as JSON and as text.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    delays::{Delays, Percentiles},
    viewer::Outcome,
};

/// All viewers of a run together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// How many viewers.
    pub viewers: u32,
    /// How long each watched.
    pub seconds: u64,
    /// Milliseconds from start to the first frame that could be shown, of the viewers that got one.
    pub startup_ms: Quantiles,
    /// Standstills of 200 ms or more after the start.
    pub stalls: Stalls,
    /// Milliseconds between the program date time at the playhead and now, at the end.
    pub latency_ms: Quantiles,
    /// Milliseconds from a part's last frame, by the packager's clock, until the part was whole here, by this machine's:
    /// true where it is one machine, or both clocks are. Of the pictures' parts that came while all viewers watched.
    pub parts_ms: Percentiles,
    /// Verified media bytes by source; each byte counts once.
    pub bytes: Bytes,
    /// Pieces by verdict.
    pub pieces: Pieces,
    /// Vouchers.
    pub vouchers: Vouchers,
    /// Processor time of this whole process.
    pub cpu_seconds: f64,
}

/// Median and 95th percentile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 95th percentile.
    pub p95: u64,
}

/// Standstills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stalls {
    /// How many.
    pub count: u64,
    /// Milliseconds in all.
    pub ms: u64,
}

/// Bytes by source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// By data channel from edges.
    pub edge: u64,
    /// From other viewers.
    pub peer: u64,
    /// By HTTP from the origin.
    pub origin: u64,
}

/// Pieces by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pieces {
    /// They matched their hash.
    pub verified: u64,
    /// They did not.
    pub rejected: u64,
}

/// Vouchers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Vouchers {
    /// Signed by the viewers.
    pub signed: u64,
    /// Booked by the tracker.
    pub accepted: u64,
}

impl Report {
    pub(crate) fn of(outcomes: &[Outcome], watched: Duration) -> Self {
        let sum = |figure: fn(&Outcome) -> u64| outcomes.iter().map(figure).sum();
        Self {
            viewers: u32::try_from(outcomes.len()).unwrap_or(u32::MAX),
            seconds: watched.as_secs(),
            startup_ms: Quantiles::of(outcomes.iter().filter_map(|outcome| outcome.startup_ms)),
            stalls: Stalls { count: sum(|o| o.stalls), ms: sum(|o| o.stalled_ms) },
            latency_ms: Quantiles::of(outcomes.iter().filter_map(|outcome| outcome.latency_ms)),
            parts_ms: {
                let mut all = Delays::default();
                outcomes.iter().for_each(|outcome| all.merge(&outcome.delays));
                all.percentiles()
            },
            bytes: Bytes {
                edge: sum(|o| o.stats.edge_bytes),
                peer: sum(|o| o.stats.peer_bytes),
                origin: sum(|o| o.stats.origin_bytes),
            },
            pieces: Pieces {
                verified: sum(|o| o.stats.pieces_verified),
                rejected: sum(|o| o.stats.pieces_rejected),
            },
            vouchers: Vouchers {
                signed: sum(|o| o.stats.vouchers_signed),
                accepted: sum(|o| o.stats.vouchers_accepted),
            },
            cpu_seconds: cpu_seconds(),
        }
    }
}

impl Quantiles {
    fn of(values: impl Iterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        let at = |percent: usize| {
            // Nearest rank.
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(0)
        };
        Self { p50: at(50), p95: at(95) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (self.bytes.edge + self.bytes.peer + self.bytes.origin).max(1);
        let share = |bytes: u64| bytes * 100 / all;
        writeln!(f, "viewers   {} for {} s", self.viewers, self.seconds)?;
        writeln!(f, "start     {} ms median, {} ms p95", self.startup_ms.p50, self.startup_ms.p95)?;
        writeln!(f, "latency   {} ms median, {} ms p95", self.latency_ms.p50, self.latency_ms.p95)?;
        if self.parts_ms.count > 0 {
            let Percentiles { p50, p99, .. } = self.parts_ms;
            writeln!(
                f,
                "parts     {p50} ms median, {p99} ms p99, from the last frame by the packager's clock"
            )?;
        }
        writeln!(f, "stalls    {}, {} ms in all", self.stalls.count, self.stalls.ms)?;
        writeln!(
            f,
            "bytes     {} from edges ({} %), {} from peers ({} %), {} from the origin ({} %)",
            self.bytes.edge,
            share(self.bytes.edge),
            self.bytes.peer,
            share(self.bytes.peer),
            self.bytes.origin,
            share(self.bytes.origin),
        )?;
        writeln!(f, "pieces    {} verified, {} rejected", self.pieces.verified, self.pieces.rejected)?;
        writeln!(f, "vouchers  {} signed, {} accepted", self.vouchers.signed, self.vouchers.accepted)?;
        write!(f, "cpu       {:.2} s", self.cpu_seconds)
    }
}

/// User and system time of this process so far, from `/proc/self/stat` (proc(5)); 0 where there is none.
fn cpu_seconds() -> f64 {
    /// Ticks a second: the kernel's USER_HZ, 100 on every Linux that is not exotic.
    const USER_HZ: f64 = 100.0;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // The second field is in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / USER_HZ
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        assert_eq!(Quantiles::of(std::iter::empty()), Quantiles { p50: 0, p95: 0 });
        assert_eq!(Quantiles::of([7].into_iter()), Quantiles { p50: 7, p95: 7 });
        assert_eq!(Quantiles::of((1..=100).rev()), Quantiles { p50: 50, p95: 95 });
    }

    #[test]
    fn the_report_has_the_promised_shape() {
        let json = serde_json::to_value(Report::default()).unwrap();
        let promised = serde_json::json!({
            "viewers": 0, "seconds": 0, "startup_ms": {"p50": 0, "p95": 0}, "stalls": {"count": 0, "ms": 0},
            "latency_ms": {"p50": 0, "p95": 0}, "parts_ms": {"count": 0, "p50": 0, "p99": 0, "max": 0},
            "bytes": {"edge": 0, "peer": 0, "origin": 0},
            "pieces": {"verified": 0, "rejected": 0}, "vouchers": {"signed": 0, "accepted": 0},
            "cpu_seconds": 0.0
        });
        assert_eq!(json, promised);
    }
}
