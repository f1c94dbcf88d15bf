//! The ends of connections, each as a process of its own, so that the cost of sending is told apart from the cost of
//! receiving. Those of a bare data channel know nothing of Millstream's protocol: pieces of zeros as fast as they are
//! taken. Those of an audience do.

use std::{
    io::Write as _,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use millstream_datachannel::{Address, Certificate, Channel, Connection, Listener, dial, listen};
use millstream_e2e::{namespace::Namespace, process::Process};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{baseline, cost, scenario::Bench};

mod audience;
mod offered;

/// A piece with its header.
const MESSAGE_BYTES: usize = 65_600;

/// What is sent: one for all connections, so that it is not taken for what a connection holds.
static PIECE: [u8; MESSAGE_BYTES] = [0; MESSAGE_BYTES];

/// More than anybody takes in a measurement.
const WITHOUT_END: u64 = 1 << 40;

/// Whose transport sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sender {
    /// `millstream-datachannel`.
    Ours,
    /// The crate `webrtc`, at both ends.
    Webrtc,
    /// `rtc-dtls` and `rtc-sctp`, as our first transport had them.
    RtcSctp,
}

impl Sender {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::RtcSctp, Self::Webrtc];

    /// What tables call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Webrtc => "webrtc",
            Self::RtcSctp => "rtc-sctp",
        }
    }
}

/// What one end does.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum End {
    /// Listens, says where, and sends whoever asks as many bytes as he asks for.
    Source {
        #[arg(long, value_enum, default_value_t = Sender::Ours)]
        sender: Sender,
        #[arg(long, default_value = "127.0.0.1")]
        ip: IpAddr,
        /// Bytes that wait for the network or an acknowledgement at most.
        #[arg(long, default_value_t = 512 * 1024)]
        send_bytes: usize,
    },
    /// Asks for so many bytes, takes them, and says how long that took.
    Sink { address: String, bytes: u64 },
    /// Takes all that comes for so long, with a window of so many bytes; says what came after the first part of it.
    Meter { address: String, window: u32, warm_up_ms: u64, ms: u64 },
    /// Connects so many times, one after the other, and says how many milliseconds each took.
    Dial { address: String, times: u32 },
    /// Connects so many times, says so, and holds on to them all.
    Hold { address: String, connections: u32 },
    /// So many receivers watch a live stream: who have come one by one in `spread_ms` say so, and `settle_ms` later count
    /// for `window_ms`.
    Audience { tracker: String, stream: String, viewers: u32, spread_ms: u64, settle_ms: u64, window_ms: u64 },
}

/// Plays one end until it is done, or for ever.
pub(crate) fn play(end: &End) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match end {
            End::Source { sender, ip, send_bytes } => source(*sender, *ip, *send_bytes).await,
            End::Sink { address, bytes } => sink(&read(address)?, *bytes).await,
            End::Meter { address, window, warm_up_ms, ms } => {
                let [warm_up, time] = [*warm_up_ms, *ms].map(Duration::from_millis);
                meter(&read(address)?, *window, warm_up, time).await
            }
            End::Dial { address, times } => dial_often(&read(address)?, *times).await,
            End::Hold { address, connections } => hold(&read(address)?, *connections).await,
            End::Audience { tracker, stream, viewers, spread_ms, settle_ms, window_ms } => {
                let [spread, settle, window] =
                    [*spread_ms, *settle_ms, *window_ms].map(Duration::from_millis);
                let show = audience::Show { tracker, stream, viewers: *viewers, spread, settle, window };
                audience::watch(&show).await
            }
        }
    })
}

/// A source as a process, and what it says of its address.
pub(crate) fn start_source(bench: &Bench) -> anyhow::Result<(Process, Value)> {
    start_source_with(bench, None, &[])
}

/// The same, somewhere else and otherwise.
pub(crate) fn start_source_with(
    bench: &Bench,
    space: Option<&Namespace>,
    options: &[&str],
) -> anyhow::Result<(Process, Value)> {
    let mut source = start_in(bench, space, &[&["source"], options].concat())?;
    let address = serde_json::from_str(&source.line()?)?;
    Ok((source, address))
}

/// This program as a process that plays one end.
pub(crate) fn start(bench: &Bench, arguments: &[&str]) -> anyhow::Result<Process> {
    start_in(bench, None, arguments)
}

fn start_in(bench: &Bench, space: Option<&Namespace>, arguments: &[&str]) -> anyhow::Result<Process> {
    let name = arguments.first().context("an end")?;
    let own = std::env::current_exe()?;
    let mut command = space.map_or_else(|| Command::new(&own), |space| space.command(&own));
    command.arg("end").args(arguments);
    Process::start(name, &mut command, &bench.folder.path().join(format!("{name}.log")))
}

async fn source(sender: Sender, ip: IpAddr, send_bytes: usize) -> anyhow::Result<()> {
    match sender {
        Sender::Ours => {}
        Sender::Webrtc => return offered::source(ip, send_bytes).await,
        Sender::RtcSctp => {
            return baseline::serve((ip, 0).into(), Bytes::from_static(&PIECE), send_bytes, tell).await;
        }
    }
    let mut config = listen::Config::new((ip, 0).into(), Certificate::generate()?)?;
    // All come from one address here.
    (config.prefix_burst, config.prefix_per_second) = (10_000, 10_000);
    config.send_bytes_max = send_bytes;
    let mut listener = Listener::bind(config)?;
    tell(listener.address())?;
    let mut connections = tokio::task::JoinSet::new();
    while let Some(connection) = listener.accept().await {
        connections.spawn(serve(connection));
        while connections.try_join_next().is_some() {}
    }
    bail!("the listener failed")
}

fn tell(address: &Address) -> anyhow::Result<()> {
    say(&json!({
        "ip": address.socket.ip().to_string(),
        "port": address.socket.port(),
        "ufrag": address.ufrag,
        "password": address.password,
        "fingerprint": address.fingerprint.to_string(),
        "sdp_fingerprint": colons(address.fingerprint.as_bytes()),
    }))
}

async fn serve(connection: Connection) {
    while let Some(message) = connection.recv().await {
        let wanted = std::str::from_utf8(&message.bytes).ok().and_then(|text| text.parse::<u64>().ok());
        for _ in 0..messages(wanted.unwrap_or(0)) {
            if connection.send(Channel::Pieces, Bytes::from_static(&PIECE)).await.is_err() {
                return;
            }
        }
    }
}

/// Whoever takes, by the transport that the source's address is of.
enum Viewer {
    Dialled(Connection),
    Offered(Box<offered::Peer>),
}

impl Viewer {
    async fn connect(address: &Value, certificate: &Certificate, window: u32) -> anyhow::Result<Self> {
        if address["signal"].is_string() {
            return Ok(Self::Offered(Box::new(offered::Peer::connect(address, window).await?)));
        }
        let config = dial::Config {
            certificate: Some(certificate.clone()),
            receive_window_bytes: window,
            ..dial::Config::default()
        };
        Ok(Self::Dialled(dial(&parse(address)?, config).await?))
    }

    async fn ask(&self, bytes: u64) -> anyhow::Result<()> {
        match self {
            Self::Dialled(connection) => {
                Ok(connection.send(Channel::Control, bytes.to_string().into()).await?)
            }
            Self::Offered(peer) => peer.ask(bytes).await,
        }
    }

    async fn recv(&self) -> Option<Bytes> {
        match self {
            Self::Dialled(connection) => Some(connection.recv().await?.bytes),
            Self::Offered(peer) => peer.recv().await,
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Dialled(connection) => connection.close(),
            Self::Offered(peer) => peer.close().await?,
        }
        Ok(())
    }
}

/// The receive window where nobody asks for another.
const WINDOW_BYTES: u32 = 1024 * 1024;

async fn sink(address: &Value, bytes: u64) -> anyhow::Result<()> {
    let viewer = Viewer::connect(address, &Certificate::generate()?, WINDOW_BYTES).await?;
    let began = Instant::now();
    viewer.ask(bytes).await?;
    for _ in 0..messages(bytes) {
        viewer.recv().await.context("the source went away")?;
    }
    let seconds = began.elapsed().as_secs_f64();
    say(&json!({ "seconds": seconds, "cpu_seconds": cost::cpu_seconds(std::process::id())? }))
}

async fn meter(address: &Value, window: u32, warm_up: Duration, time: Duration) -> anyhow::Result<()> {
    let viewer = Viewer::connect(address, &Certificate::generate()?, window).await?;
    let began = Instant::now();
    viewer.ask(WITHOUT_END).await?;
    let mut bytes = 0;
    loop {
        let left = (warm_up + time).saturating_sub(began.elapsed());
        // Waits because nothing may come.
        let Ok(message) = timeout(left, viewer.recv()).await else { break };
        let length = message.context("the source went away")?.len();
        if began.elapsed() >= warm_up {
            bytes += length;
        }
    }
    say(&json!({ "bytes_per_second": bytes as f64 / time.as_secs_f64() }))
}

async fn dial_often(address: &Value, times: u32) -> anyhow::Result<()> {
    let certificate = Certificate::generate()?;
    let mut open_ms = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        let viewer = Viewer::connect(address, &certificate, WINDOW_BYTES).await?;
        open_ms.push(began.elapsed().as_secs_f64() * 1e3);
        viewer.close().await?;
    }
    say(&json!({ "open_ms": open_ms }))
}

async fn hold(address: &Value, connections: u32) -> anyhow::Result<()> {
    let certificate = Certificate::generate()?;
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(Viewer::connect(address, &certificate, WINDOW_BYTES).await?);
    }
    say(&json!({ "held": held.len() }))?;
    // Whoever started this ends it.
    let mut ticks = tokio::time::interval(Duration::from_secs(60));
    loop {
        ticks.tick().await;
    }
}

/// Messages that carry so many bytes.
const fn messages(bytes: u64) -> u64 {
    bytes.div_ceil(MESSAGE_BYTES as u64)
}

/// Bytes that arrive when so many are asked for.
pub(crate) const fn carried(bytes: u64) -> u64 {
    messages(bytes) * MESSAGE_BYTES as u64
}

fn read(address: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(address)?)
}

fn parse(said: &Value) -> anyhow::Result<Address> {
    let text = |field: &str| said[field].as_str().with_context(|| format!("the address has no {field}"));
    Ok(Address {
        socket: format!("{}:{}", text("ip")?, said["port"]).parse()?,
        ufrag: text("ufrag")?.to_owned(),
        password: text("password")?.to_owned(),
        fingerprint: text("fingerprint")?.parse()?,
    })
}

/// As it stands in an SDP.
fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn say(value: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_in_whole_messages() {
        assert_eq!((carried(0), carried(1), carried(65_600), carried(65_601)), (0, 65_600, 65_600, 131_200));
    }

    #[test]
    fn an_address_is_read_as_it_was_said() {
        let said = json!({ "ip": "127.0.0.1", "port": 9, "ufrag": "ufrag", "password": "p".repeat(24),
            "fingerprint": millstream_model::Fingerprint([7; 32]).to_string() });
        let address = parse(&said).unwrap();
        assert_eq!((address.socket.port(), address.fingerprint.as_bytes()), (9, &[7; 32]));
        assert!(parse(&json!({})).is_err());
        assert_eq!(colons(&[0, 171]), "00:AB");
    }
}
