//! The smallest program: everything a real one does, in order. Also what `tests/process.rs` starts and stops.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use millstream_service::{
    Tasks, config, ops,
    stop::{Cause, Signals},
    telemetry,
};

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    flags: config::Flags,
}

millstream_service::settings! {
    /// The smallest program's settings.
    struct Smallest {
        /// Milliseconds that tasks have to finish.
        grace_ms: u64 = 10_000,
        /// Whether a task ignores the drain.
        stubborn: bool = false,
        /// Whether a vital task ends at once.
        doomed: bool = false,
        /// What is logged, and how.
        log: telemetry::Config = telemetry::Config::default(),
        /// Health, metrics and status.
        ops: ops::Config = ops::Config::default(),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("smallest: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let flags = Arguments::parse().flags;
    let settings: Smallest = config::load("smallest", &flags)?;
    if flags.print_config {
        print!("{}", config::print(&settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init(&settings.log)?;
    let signals = Signals::install()?;
    let tasks = Tasks::new();
    let ops = ops::Listener::bind(&settings.ops, "smallest", env!("CARGO_PKG_VERSION")).await?;
    if settings.stubborn {
        tasks.spawn("stubborn", std::future::pending());
    }
    if settings.doomed {
        tasks.spawn_vital("doomed", async {});
    }
    println!("{}", ops.serve(&tasks));
    let stopped = signals.stop(tasks, Duration::from_millis(settings.grace_ms)).await;
    Ok(match stopped.cause {
        Cause::Signal(_) => ExitCode::SUCCESS,
        Cause::Lost(_) => ExitCode::FAILURE,
    })
}
