//! A whole Millstream on loopback, each program its own process where a test wants to kill it.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    api::Api,
    media::Clip,
    process::{Process, binary},
    publisher,
};

/// Time for something to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// The price in tests: 0.02 units a GiB.
pub const PRICE_PER_GIB: u32 = 20_000;

/// What `millstream up --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// `rtmp://…/live`.
    pub rtmp: String,
    /// The tracker's URL.
    pub tracker: String,
    /// The origin's URL.
    pub origin: String,
    /// The demo's page.
    pub watch: String,
    /// The edges inside.
    pub edges: Vec<ReadyEdge>,
    /// For the API.
    pub admin_token: String,
    /// Ops listeners.
    pub ops: ReadyOps,
}

/// Ops listeners that are not an edge's.
#[derive(Debug, Clone, Deserialize)]
pub struct ReadyOps {
    /// The tracker's.
    pub tracker: String,
    /// The packager's.
    pub packager: String,
}

/// One edge of it.
#[derive(Debug, Clone, Deserialize)]
pub struct ReadyEdge {
    /// Its key.
    pub id: String,
    /// Its UDP address.
    pub udp: String,
    /// Its ops listener.
    pub ops: String,
}

/// A running `millstream up` and what a test added to it.
#[derive(Debug)]
pub struct Stack {
    /// What it said.
    pub ready: Ready,
    /// The tracker's API.
    pub api: Api,
    /// The program.
    pub process: Process,
    folder: TempDir,
}

impl Stack {
    /// Starts `millstream up` with as many edges inside.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn up(edges: u32) -> anyhow::Result<Self> {
        Self::with(edges, &[])
    }

    /// The same with more flags.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn with(edges: u32, flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(binary("millstream")?);
        command
            .args(["up", "--json", "--edges", &edges.to_string(), "--data"])
            .arg(folder.path().join("data"));
        for port in ["--rtmp-port", "--http-port", "--origin-port", "--edge-port", "--ops-port"] {
            command.args([port, "0"]);
        }
        command.args(flags).env("RUST_LOG", "info");
        let mut process = Process::start("millstream up", &mut command, &folder.path().join("up.log"))?;
        let ready: Ready = serde_json::from_str(&process.line()?).context("the line of `up --json`")?;
        let api = Api::new(&ready.tracker, &ready.admin_token)?;
        Ok(Self { ready, api, process, folder })
    }

    /// The test's folder, for logs and dumps.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Makes a funded stream; gives its stream key.
    ///
    /// # Errors
    /// When the tracker refuses.
    pub fn create(&self, stream: &str) -> anyhow::Result<Created> {
        self.api.post("/v1/accounts/show/fund", &json!({ "amount": 1_000_000_000, "transfer": stream }))?;
        let wanted = json!({ "id": stream, "account": "show", "price_per_gib": PRICE_PER_GIB });
        Ok(serde_json::from_value(self.api.post("/v1/streams", &wanted)?)?)
    }

    /// Makes a stream and publishes `clip` to it; returns when the stream can be watched.
    ///
    /// # Errors
    /// When it does not go live.
    pub fn publish(&self, stream: &str, clip: &Clip) -> anyhow::Result<(Process, Created)> {
        let created = self.create(stream)?;
        let publisher = self.push(&created, clip)?;
        self.live(stream)?;
        Ok((publisher, created))
    }

    /// Publishes `clip` to a stream made before.
    ///
    /// # Errors
    /// When ffmpeg cannot be started.
    pub fn push(&self, created: &Created, clip: &Clip) -> anyhow::Result<Process> {
        let url = format!("{}/{}", self.ready.rtmp, created.stream_key);
        publisher::push(clip, &url, self.folder.path())
    }

    /// Waits until a stream is live and has renditions.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn live(&self, stream: &str) -> anyhow::Result<()> {
        self.api.wait("/v1/overview", START, |overview| {
            let line = overview["streams"].as_array()?.iter().find(|line| line["id"] == stream)?;
            let live = line["state"] == "live" && !line["renditions"].as_array()?.is_empty();
            live.then_some(())
        })
    }

    /// Starts an edge as a program of its own; returns when the tracker knows it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn edge(&self, name: &str) -> anyhow::Result<Process> {
        let before = self.edges_known()?;
        let data = self.folder.path().join(name);
        let mut command = Command::new(binary("millstream-edge")?);
        command.args(["--set", "listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0", "--set"]);
        command.arg(format!("data={}", data.display()));
        command.args(["--set", &format!("tracker={}", self.ready.tracker)]).env("RUST_LOG", "info");
        let log = self.folder.path().join(format!("{name}.log"));
        let process = Process::start(name, &mut command, &log)?;
        self.api
            .wait("/v1/edges", START, |edges| (edges["edges"].as_array()?.len() > before).then_some(()))?;
        Ok(process)
    }

    /// How many edges the tracker knows.
    ///
    /// # Errors
    /// When the tracker does not answer.
    pub fn edges_known(&self) -> anyhow::Result<usize> {
        Ok(self.api.get("/v1/edges")?["edges"].as_array().map_or(0, Vec::len))
    }

    /// What the packager has sent of all its streams.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn packager_status(&self) -> anyhow::Result<PackagerStatus> {
        let status = Api::new(&self.ready.ops.packager, "")?.get("/v1/status")?;
        let streams = status["streams"].as_array().context("streams")?;
        let sum = |field: &str| streams.iter().filter_map(|stream| stream[field].as_u64()).sum::<u64>();
        let feeds_bytes = sum("feed_bytes");
        Ok(PackagerStatus { viewers_bytes: sum("sent_bytes") - feeds_bytes, feeds_bytes })
    }

    /// Waits until the tracker knows as many edges.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn edges(&self, count: usize) -> anyhow::Result<()> {
        self.api.wait("/v1/edges", START, |edges| (edges["edges"].as_array()?.len() == count).then_some(()))
    }
}

/// A stream just made.
#[derive(Debug, Clone, Deserialize)]
pub struct Created {
    /// The stream.
    pub id: String,
    /// Its key.
    pub stream_key: String,
    /// Its root's public key.
    pub root_public_key: String,
}

/// What the packager counts.
#[derive(Debug, Clone, Copy)]
pub struct PackagerStatus {
    /// Media bytes to viewers by HTTP.
    pub viewers_bytes: u64,
    /// Bytes of feeds to edges.
    pub feeds_bytes: u64,
}
