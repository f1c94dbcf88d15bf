//! How busy the machine was: a stall on a machine that had no time says little about the program.

use std::fmt;

/// Microseconds that tasks of this machine waited for a processor, since it started (`/proc/pressure/cpu`).
#[derive(Debug, Clone, Copy)]
pub struct Pressure {
    waited_us: u64,
    since: std::time::Instant,
}

impl Pressure {
    /// Begins to measure.
    #[must_use]
    pub fn begin() -> Self {
        Self { waited_us: waited(), since: std::time::Instant::now() }
    }

    /// The share of time since the beginning in which somebody waited for a processor, in percent.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let passed = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        waited().saturating_sub(self.waited_us) * 100 / passed
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu pressure {} %", self.percent())
    }
}

fn waited() -> u64 {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total =
        text.lines().find(|line| line.starts_with("some")).and_then(|line| line.split("total=").nth(1));
    total.and_then(|total| total.trim().parse().ok()).unwrap_or(0)
}
