//! The program `millstream-packager`: flags, settings, logs, signals around a [`Packager`].

use clap::Parser;
use millstream_service::{config, stop::Signals, telemetry};

use crate::{config::Config, packager::Packager};

/// RTMP in, signed low-latency HLS out.
#[derive(Debug, Parser)]
#[command(name = "millstream-packager", version)]
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
    let settings: Config = config::load("packager", &arguments.flags)?;
    if arguments.flags.print_config {
        print(&config::print(&settings)?);
        return Ok(());
    }
    telemetry::init(&settings.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut signals = Signals::install()?;
        let packager = Packager::load(settings).await?;
        packager
            .run(async move {
                let signal = signals.next().await;
                tracing::info!(signal, "draining");
            })
            .await?;
        tracing::info!("stopped");
        Ok(())
    })
}

fn print(text: &str) {
    use std::io::Write as _;
    // Whoever reads may have had enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
