//! The command line.

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use millstream_service::telemetry;
use millstream_viewer::args::{Format, View};

use crate::up;

/// Peer-assisted live video: a whole Millstream on one machine, and the tools around it.
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    after_help = "Examples:
  millstream up --demo                     a tracker, a packager, two edges and a test picture to watch
  millstream up --data /srv/millstream     the same for your own streams, kept in a folder
  millstream view --tracker http://localhost:8080 --stream demo --viewers 20 --seconds 30"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged, to standard error: a level, or levels for some targets.
    #[arg(long, global = true, default_value = "info", value_name = "FILTER", env = "RUST_LOG")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run tracker, packager and edges in one process.
    Up(up::Args),
    /// Watch a stream without a screen, as one viewer or many, and report how it went.
    View(View),
}

/// Runs the command of the process's arguments.
pub(crate) fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init(&telemetry::Config { filter: cli.log, ..Default::default() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up::run(args).await,
            Command::View(view) => watch(&view).await,
        }
    })
}

async fn watch(view: &View) -> anyhow::Result<()> {
    let report = millstream_viewer::run(view.into()).await?;
    let text = match view.report {
        Format::Text => report.to_string(),
        Format::Json => serde_json::to_string(&report)?,
    };
    writeln!(std::io::stdout(), "{text}").context("writing the report")
}
