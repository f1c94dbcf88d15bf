//! The command line of `millstream view`.

use std::{path::PathBuf, time::Duration};

use millstream_model::{PublicKey, StreamId};
use millstream_service::trust;

use crate::run::Config;

/// Watch a stream without a screen, as one viewer or many, and report how it went.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  millstream view --tracker http://localhost:8080 --stream demo
  millstream view --tracker http://localhost:8080 --stream demo --viewers 20 --seconds 30 --report json
  millstream view --tracker http://localhost:8080 --stream demo --seconds 10 --dump demo   # demo.video.mp4, …")]
pub struct View {
    /// The tracker's URL (http, https, ws or wss).
    #[arg(long, value_name = "URL")]
    pub tracker: String,
    /// The stream to watch.
    #[arg(long, value_name = "ID")]
    pub stream: StreamId,
    /// How many viewers.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub viewers: u32,
    /// How long each watches, in seconds.
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// How the report is written, on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub report: Format,
    /// Writes the first viewer's media as played: FILE.<rendition>.mp4 (init segment and parts).
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
    /// The stream's root key, base64url. Without it the tracker's word is taken.
    #[arg(long, value_name = "KEY")]
    pub verify_key: Option<PublicKey>,
    /// Where tickets are had, for streams that are not open: each viewer gets URL?stream=ID&key=SESSION-KEY, and the
    /// answer's text is its ticket, as for `ticket-url` of <millstream-player>.
    #[arg(long, value_name = "URL")]
    pub ticket_url: Option<reqwest::Url>,
    /// Certificates (PEM) of authorities believed besides the system's, for a tracker with a private one.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// No data channels: everything by HTTP, verified all the same.
    #[arg(long)]
    pub http_only: bool,
    /// Milliseconds behind live.
    #[arg(long, default_value_t = 3_000, value_name = "MS", value_parser = clap::value_parser!(u32).range(500..=60_000))]
    pub latency: u32,
    /// Milliseconds over which the viewers join.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub spread: u32,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One line of JSON.
    Json,
}

impl From<&View> for Config {
    fn from(view: &View) -> Self {
        Self {
            tracker: view.tracker.clone(),
            stream: view.stream.clone(),
            viewers: view.viewers,
            duration: Duration::from_secs(u64::from(view.seconds)),
            spread: Duration::from_millis(u64::from(view.spread)),
            root: view.verify_key,
            ticket_url: view.ticket_url.clone(),
            trust: trust::Config { ca_file: view.ca_file.clone().unwrap_or_default() },
            data_channels: !view.http_only,
            latency_ms: view.latency,
            dump: view.dump.clone(),
        }
    }
}
