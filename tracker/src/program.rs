//! The program `millstream-tracker`: flags, settings, logs, signals around a [`Tracker`](crate::Tracker).

use std::io::Write as _;

use clap::Parser;
use millstream_service::{config, stop::Signals, telemetry};

use crate::{Config, Tracker};

/// Finds edges for viewers, and keeps the book.
#[derive(Debug, Parser)]
#[command(
    name = "millstream-tracker",
    version,
    after_help = "Examples:
  millstream-tracker --print-config > tracker.toml
  millstream-tracker --config tracker.toml
  millstream-tracker --set listen=127.0.0.1:8080 --set data=/var/lib/millstream/tracker"
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
    let settings: Config = config::load("tracker", &arguments.flags)?;
    if arguments.flags.print_config {
        // Whoever reads may have had enough.
        let _ = std::io::stdout().write_all(config::print(&settings)?.as_bytes());
        return Ok(());
    }
    telemetry::init(&settings.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut signals = Signals::install()?;
        let tracker = Tracker::load(settings).await?;
        if let Some(token) = tracker.fresh_admin_token() {
            // The one time it is shown; it is kept, for its owner alone to read, in the data folder.
            let mut out = std::io::stdout();
            let _ = writeln!(out, "admin token (shown once, kept in admin.token): {}", token.expose());
        }
        tracker
            .run(async move {
                let signal = signals.next().await;
                tracing::info!(signal, "draining");
            })
            .await?;
        tracing::info!("stopped");
        Ok(())
    })
}
