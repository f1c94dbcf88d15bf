//! A whole Millstream on loopback: in one process, or each program on its own where a test wants to kill it.

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::Context as _;
use millstream_packager::Addresses;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    api::Api,
    ladder::{Own, Twins},
    line::Door,
    media::Clip,
    origin::Origin,
    process::{Process, binary},
    program::{EDGE, PACKAGER, Program, TRACKER},
    publisher,
};

/// Time for something to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// Time for an edge to come back to a tracker that was away for long: it tries every 15 to 45 s.
const COMEBACK: Duration = Duration::from_secs(60);

/// The admin token where each program is its own.
const TOKEN: &str = "token-of-the-test";

/// Seconds of media that a stream has before a test watches it: viewers want to begin three seconds behind live, at
/// a keyframe, and a stall says more about those than about ones that live from hand to mouth.
const DEPTH: Duration = Duration::from_millis(5_500);

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

/// A running Millstream and what a test added to it.
#[derive(Debug)]
pub struct Stack {
    /// Where everything is.
    pub ready: Ready,
    /// The tracker's API.
    pub api: Api,
    /// `millstream up`, where all is one process.
    pub process: Option<Process>,
    folder: TempDir,
}

/// A tracker and a packager, each a process of its own. Edges are added with [`Stack::edge`].
#[derive(Debug)]
pub struct Apart {
    /// The tracker.
    pub tracker: Program,
    /// The packager.
    pub packager: Program,
    /// What is the same however it runs.
    pub stack: Stack,
}

/// A tracker as a process of its own, and a packager with two renditions in this one.
#[derive(Debug)]
pub struct Laddered {
    /// What is the same however it runs.
    pub stack: Stack,
    /// The packager.
    pub packager: Own,
    /// The tracker.
    pub tracker: Program,
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
        command.args(flags);
        let mut process = Process::start("millstream up", &mut command, &folder.path().join("up.log"))?;
        let ready: Ready = serde_json::from_str(&process.line()?).context("the line of `up --json`")?;
        let api = Api::new(&ready.tracker, &ready.admin_token)?;
        Ok(Self { ready, api, process: Some(process), folder })
    }

    /// Starts a tracker and a packager, each as a process of its own.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn apart() -> anyhow::Result<Apart> {
        Self::apart_at(Ipv4Addr::LOCALHOST)
    }

    /// The same at another address of this machine.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn apart_at(ip: Ipv4Addr) -> anyhow::Result<Apart> {
        let folder = tempfile::tempdir()?;
        let free = format!("{ip}:0");
        // Viewers and publishers of a test or a bench come from one address, however many they are.
        let many = MANY.to_string();
        let settings =
            [("admin_token", TOKEN), ("listen", &free), ("admission.sessions_per_address", many.as_str())];
        let tracker = Program::start(TRACKER, "tracker", folder.path(), &settings)?;
        let url = tracker.said("url")?.to_owned();
        let settings = [
            ("tracker.url", url.as_str()),
            ("tracker.token", TOKEN),
            ("rtmp.listen", &free),
            ("origin.listen", &free),
            ("streams_max", &many),
            ("rtmp.waiting_per_address_max", &many),
        ];
        let packager = Program::start(PACKAGER, "packager", folder.path(), &settings)?;
        let addresses = [packager.said("rtmp")?, packager.said("origin")?, packager.ops()];
        let stack = Self::around(&tracker, folder, addresses.map(str::to_owned))?;
        Ok(Apart { tracker, packager, stack })
    }

    /// Starts a tracker as a process of its own, and a packager with two renditions in this one, whose origin viewers
    /// find at `door`.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn with_ladder(high: &Clip, low: &Clip, door: &Door) -> anyhow::Result<Laddered> {
        let twins = Twins::of(high, low)?;
        let folder = tempfile::tempdir()?;
        let tracker = Program::start(TRACKER, "tracker", folder.path(), &[("admin_token", TOKEN)])?;
        let public = format!("http://{}", door.address);
        let packager =
            Own::start(&twins, (tracker.said("url")?, TOKEN), public, &folder.path().join("packager"))?;
        let Addresses { rtmp, origin, ops, .. } = packager.addresses;
        door.leads_to(origin);
        let addresses = [rtmp.to_string(), format!("http://{origin}"), format!("http://{ops}")];
        let stack = Self::around(&tracker, folder, addresses)?;
        Ok(Laddered { stack, packager, tracker })
    }

    fn around(tracker: &Program, folder: TempDir, packager: [String; 3]) -> anyhow::Result<Self> {
        let url = tracker.said("url")?.to_owned();
        let [rtmp, origin, ops] = packager;
        let ready = Ready {
            rtmp: format!("rtmp://{rtmp}/live"),
            origin,
            watch: format!("{url}/watch/demo"),
            edges: Vec::new(),
            admin_token: TOKEN.to_owned(),
            ops: ReadyOps { tracker: tracker.ops().to_owned(), packager: ops },
            tracker: url,
        };
        let api = Api::new(&ready.tracker, TOKEN)?;
        Ok(Self { ready, api, process: None, folder })
    }

    /// The test's folder, for logs and dumps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
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
        publisher::push(clip, &url, self.folder())
    }

    /// Waits until a stream is live, and deep enough that viewers find what they want to begin with.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn live(&self, stream: &str) -> anyhow::Result<()> {
        let origin = self.origin(stream)?;
        for rendition in self.on_air(stream)? {
            origin.wait(&rendition, START, |playlist| playlist.whole_micros() >= micros(DEPTH))?;
        }
        Ok(())
    }

    /// Waits until a stream is live; gives its renditions' names.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn on_air(&self, stream: &str) -> anyhow::Result<Vec<String>> {
        self.api.wait("/v1/overview", START, |overview| {
            let line = overview["streams"].as_array()?.iter().find(|line| line["id"] == stream)?;
            let names: Vec<String> = serde_json::from_value(line["renditions"].clone()).ok()?;
            (line["state"] == "live" && !names.is_empty()).then_some(names)
        })
    }

    /// What the origin serves of a stream.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn origin(&self, stream: &str) -> anyhow::Result<Origin> {
        Origin::new(&self.ready.origin, stream)
    }

    /// Starts an edge as a program of its own; returns when the tracker knows it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn edge(&self, name: &str) -> anyhow::Result<Program> {
        self.edge_with(name, &[])
    }

    /// The same at the end of a line.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn edge_behind(&self, name: &str, door: &Door) -> anyhow::Result<Program> {
        let public = format!("[\"{}\"]", door.address);
        let edge = self.edge_with(name, &[("public", &public)])?;
        door.leads_to(edge.said("udp")?.parse()?);
        Ok(edge)
    }

    /// The same with more settings.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn edge_with(&self, name: &str, more: &[(&str, &str)]) -> anyhow::Result<Program> {
        // Viewers that a test has left need no five seconds to find other edges.
        let mut settings = vec![("tracker", self.ready.tracker.as_str()), ("drain_ms", "1000")];
        settings.extend(more);
        let edge = Program::start(EDGE, name, self.folder.path(), &settings)?;
        self.knows(edge.said("edge")?)?;
        Ok(edge)
    }

    /// Waits until the tracker knows an edge.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn knows(&self, edge: &str) -> anyhow::Result<()> {
        self.api.wait("/v1/edges", COMEBACK, |edges| {
            edges["edges"].as_array()?.iter().any(|line| line["id"] == edge).then_some(())
        })
    }

    /// The viewers' sessions, in order.
    ///
    /// # Errors
    /// When the tracker does not answer.
    pub fn sessions(&self) -> anyhow::Result<Vec<String>> {
        let all = self.api.get("/v1/sessions")?;
        let lines = all["sessions"].as_array().context("sessions")?;
        let mut ids: Vec<String> =
            lines.iter().filter_map(|line| Some(line["id"].as_str()?.to_owned())).collect();
        ids.sort();
        Ok(ids)
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
        Ok(PackagerStatus {
            published_bytes: sum("published_bytes"),
            viewers_bytes: sum("sent_bytes") - feeds_bytes,
            feeds_bytes,
            feeds: sum("feeds"),
            window_bytes: sum("window_bytes"),
        })
    }

    /// Waits until the tracker knows as many edges.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn edges(&self, count: usize) -> anyhow::Result<()> {
        self.api.wait("/v1/edges", START, |edges| (edges["edges"].as_array()?.len() == count).then_some(()))
    }
}

/// Sessions of one address.
const MANY: u32 = 10_000;

/// A stream just made.
#[derive(Debug, Clone, Deserialize)]
pub struct Created {
    /// The stream.
    pub id: String,
    /// Where to publish, as the tracker says.
    pub rtmp_url: String,
    /// Its key.
    pub stream_key: String,
    /// Its root's public key.
    pub root_public_key: String,
}

/// What the packager counts.
#[derive(Debug, Clone, Copy)]
pub struct PackagerStatus {
    /// Media bytes published, all renditions together.
    pub published_bytes: u64,
    /// Media bytes to viewers by HTTP.
    pub viewers_bytes: u64,
    /// Bytes of feeds to edges.
    pub feeds_bytes: u64,
    /// Feeds open now.
    pub feeds: u64,
    /// Bytes of media in memory.
    pub window_bytes: u64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
