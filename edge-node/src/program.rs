//! The program `millstream-edge`: flags, settings, logs, signals around an [`Edge`](crate::Edge).

use std::io::Write as _;

use clap::Parser;
use millstream_service::{config, stop::Signals, telemetry};

use crate::{Config, Edge};

/// Takes a rendition's feed once, verifies it and passes it on over data channels; earns.
#[derive(Debug, Parser)]
#[command(
    name = "millstream-edge",
    version,
    after_help = "Examples:
  millstream-edge --print-config > edge.toml
  millstream-edge --set tracker=https://tracker.example --set public=[\"203.0.113.7:4443\"]
  MILLSTREAM_EDGE_TRACKER=http://localhost:8080 millstream-edge --set data=/var/lib/millstream/edge"
)]
struct Arguments {
    #[command(flatten)]
    flags: config::Flags,
}

/// Runs the program with the process's arguments.
///
/// # Errors
/// When it cannot start, and when it cannot go on; the text says what to do.
pub fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings: Config = config::load("edge", &arguments.flags)?;
    if arguments.flags.print_config {
        // Whoever reads may have had enough.
        let _ = std::io::stdout().write_all(config::print(&settings)?.as_bytes());
        return Ok(());
    }
    telemetry::init(&settings.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut signals = Signals::install()?;
        let edge = Edge::load(settings).await?;
        edge.run(async move {
            let signal = signals.next().await;
            tracing::info!(signal, "draining");
        })
        .await?;
        tracing::info!("stopped");
        Ok(())
    })
}
