//! What is measured, a scenario a room. Each fills one sheet, run by run.

mod crowd;
mod edge;
mod ladder;
mod memory;
mod open;
mod packager;
mod part;
mod senders;
mod soak;
mod start;
mod transport;
mod work;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use millstream_e2e::{api::Api, browser, namespace::Namespace, process::Process, program::Program};
use serde_json::Value;
use tempfile::TempDir;

use crate::sheet::Sheet;

/// Everything there is to measure, in the order in which it is told. What takes half an hour is run when it is named.
pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "transport", what: "Bare data channel, as fast as it is taken", run: transport::run },
    Scenario { name: "senders", what: "Three senders of a data channel, side by side", run: senders::run },
    Scenario { name: "edge", what: "Edge that serves viewers at the stream's pace", run: edge::run },
    Scenario { name: "crowd", what: "Viewers of a live stream on one core of an edge", run: crowd::run },
    Scenario { name: "memory", what: "Memory of the edge per connected viewer", run: memory::run },
    Scenario { name: "open", what: "Time to open a data channel", run: open::run },
    Scenario {
        name: "packager",
        what: "Packager beside nginx-rtmp, per 5 Mbit/s stream",
        run: packager::run,
    },
    Scenario { name: "ladder", what: "Ladder of a 1080p30 stream beside ffmpeg", run: ladder::run },
    Scenario { name: "part", what: "Last frame of a part to the part at the edge", run: part::run },
    Scenario { name: "start", what: "First frame and distance to live in Chromium", run: start::run },
    Scenario { name: "work", what: "Pieces, records and vouchers by themselves", run: work::run },
    Scenario { name: LONG, what: "Half an hour of a publisher that goes and comes", run: soak::run },
];

/// What is run only when it is named.
pub(crate) const LONG: &str = "soak";

/// One thing to measure.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// Its table's title.
    pub(crate) what: &'static str,
    /// Fills the sheet.
    pub(crate) run: fn(&Bench, &mut Sheet) -> anyhow::Result<()>,
}

/// How everything is measured.
#[derive(Debug)]
pub(crate) struct Bench {
    /// How often.
    pub(crate) runs: u32,
    /// Shorter, to see that it works.
    pub(crate) short: bool,
    /// For logs and what is made meanwhile.
    pub(crate) folder: TempDir,
    /// Where plots are kept, if they are.
    plots: Option<PathBuf>,
    began: Instant,
}

impl Bench {
    pub(crate) fn new(runs: u32, short: bool, plots: Option<PathBuf>) -> anyhow::Result<Self> {
        let usual = || (!short).then(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/transport"));
        let plots = plots.or_else(usual);
        Ok(Self { runs, short, folder: tempfile::tempdir()?, plots, began: Instant::now() })
    }

    /// Keeps a plot.
    fn plot(&self, name: &str, svg: &str) -> anyhow::Result<()> {
        if let Some(folder) = &self.plots {
            std::fs::create_dir_all(folder)?;
            std::fs::write(folder.join(name), svg)?;
        }
        Ok(())
    }

    /// Tells whoever waits where we are.
    pub(crate) fn progress(&self, text: &str) {
        eprintln!("[{:>4} s] {text}", self.began.elapsed().as_secs());
    }

    /// One run after the other.
    fn each_run(&self, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        for number in 1..=self.runs {
            self.progress(&format!("  run {number} of {}", self.runs));
            run()?;
        }
        Ok(())
    }

    /// So many seconds, or a few where only the way is tried.
    fn seconds(&self, full: u32) -> Duration {
        Duration::from_secs(u64::from(if self.short { full.min(5) } else { full }))
    }

    /// So many of something, or a tenth.
    fn count(&self, full: u32) -> u32 {
        if self.short { (full / 10).max(1) } else { full }
    }

    /// Starts a script of `benches/browser`.
    fn browse(&self, script: &str, argument: &Value) -> anyhow::Result<browser::Script> {
        browser::start_in(&scripts(), script, argument, self.folder.path())
    }

    /// Has a page take what `argument` says of `channel.mjs`, in a network namespace or none, and says what it said.
    fn channel(&self, space: Option<&Namespace>, argument: &Value) -> anyhow::Result<Value> {
        let mut command = space.map_or_else(|| Command::new("node"), |space| space.command("node"));
        command.current_dir(scripts()).arg("channel.mjs").arg(argument.to_string());
        let log = self.folder.path().join("channel.mjs.log");
        said(&mut Process::start("channel.mjs", &mut command, &log)?)
    }
}

/// Longer than what one process measures takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a process said when it has ended, which it must in time.
fn said(process: &mut Process) -> anyhow::Result<Value> {
    let status = process.ended(PATIENCE)?;
    let text = process.finish()?;
    serde_json::from_str(text.trim_end()).with_context(|| format!("{status}, after {text:?}"))
}

/// What an edge says of itself.
#[derive(Debug, Clone, Copy)]
struct EdgeStatus {
    viewers: u64,
    sent_bytes: u64,
    cache_bytes: u64,
}

impl EdgeStatus {
    fn of(edge: &Program) -> anyhow::Result<Self> {
        let status = Api::new(edge.ops(), "")?.get("/v1/status")?;
        let number = |value: &Value| value.as_u64().with_context(|| format!("no such number in {status}"));
        Ok(Self {
            viewers: number(&status["viewers"])?,
            sent_bytes: number(&status["sent_bytes"])?,
            cache_bytes: number(&status["cache"]["bytes"])?,
        })
    }

    /// Waits until so many viewers are there.
    fn wait_viewers(edge: &Program, viewers: u64) -> anyhow::Result<()> {
        let patience = Duration::from_secs(60);
        let judge = |status: &Value| (status["viewers"].as_u64()? == viewers).then_some(());
        if let Err(error) = Api::new(edge.ops(), "")?.wait("/v1/status", patience, judge) {
            bail!("{viewers} viewers do not come: {error:#}");
        }
        Ok(())
    }
}

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("browser")
}

/// Gigabytes (10⁹).
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}
