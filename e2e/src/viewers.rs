//! Headless viewers, as their own process: their processor time is theirs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::process::{Process, binary};

/// Runs so far, so that each has a log of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// What `millstream view --report json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// How many viewers.
    pub viewers: u32,
    /// Milliseconds to the first frame.
    pub startup_ms: Quantiles,
    /// Standstills.
    pub stalls: Stalls,
    /// Milliseconds behind live.
    pub latency_ms: Quantiles,
    /// Milliseconds from a part's last frame until it was whole, while all watched.
    pub parts_ms: Percentiles,
    /// By source.
    pub bytes: Bytes,
    /// By verdict.
    pub pieces: Pieces,
    /// By verdict.
    pub vouchers: Vouchers,
    /// Of the viewers' process.
    pub cpu_seconds: f64,
}

/// Median and 95th percentile.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// The 95th percentile.
    pub p95: u64,
}

/// Of how many; median, 99th percentile, the longest (2,000 at most).
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: i64,
    /// The 99th percentile.
    pub p99: i64,
    /// The longest.
    pub max: i64,
}

/// Standstills of 200 ms or more.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Stalls {
    /// How many.
    pub count: u64,
    /// Milliseconds in all.
    pub ms: u64,
}

/// Verified media bytes.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Bytes {
    /// From edges.
    pub edge: u64,
    /// From other viewers.
    pub peer: u64,
    /// From the origin.
    pub origin: u64,
}

/// Pieces.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Pieces {
    /// True ones.
    pub verified: u64,
    /// False ones.
    pub rejected: u64,
}

/// Vouchers.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Vouchers {
    /// Signed.
    pub signed: u64,
    /// Booked.
    pub accepted: u64,
}

/// How to watch.
#[derive(Debug, Clone)]
pub struct Watch {
    /// The tracker's URL.
    pub tracker: String,
    /// The stream.
    pub stream: String,
    /// How many.
    pub viewers: u32,
    /// How long, in seconds.
    pub seconds: u32,
    /// Where the first viewer's media goes.
    pub dump: Option<PathBuf>,
    /// More flags.
    pub flags: Vec<String>,
}

impl Watch {
    /// One viewer for `seconds`.
    #[must_use]
    pub fn new(tracker: &str, stream: &str, seconds: u32) -> Self {
        Self {
            tracker: tracker.to_owned(),
            stream: stream.to_owned(),
            viewers: 1,
            seconds,
            dump: None,
            flags: Vec::new(),
        }
    }

    /// Starts to watch.
    ///
    /// # Errors
    /// When the viewers cannot be started.
    pub fn start(&self, logs: &Path) -> anyhow::Result<Watching> {
        let mut command = Command::new(binary("millstream")?);
        command.args(["view", "--report", "json", "--tracker", &self.tracker, "--stream", &self.stream]);
        command.args(["--viewers", &self.viewers.to_string(), "--seconds", &self.seconds.to_string()]);
        command.args(&self.flags);
        if let Some(dump) = &self.dump {
            command.arg("--dump").arg(dump);
        }
        let log = logs.join(format!("viewers-{}.log", STARTED.fetch_add(1, Relaxed) + 1));
        Ok(Watching(Process::start("viewers", &mut command, &log)?))
    }
}

/// Viewers that watch.
#[derive(Debug)]
pub struct Watching(Process);

impl Watching {
    /// Waits until they have watched for their time.
    ///
    /// # Errors
    /// When they failed.
    pub fn report(&mut self) -> anyhow::Result<Report> {
        let text = self.0.finish()?;
        serde_json::from_str(&text).with_context(|| format!("the viewers' report: {text}"))
    }

    /// Their process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// True while they watch.
    pub fn is_running(&mut self) -> bool {
        self.0.is_running()
    }

    /// What they wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.log_text()
    }
}
