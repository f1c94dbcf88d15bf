//! The two ends of a bare data channel, each as a process of its own, so that the cost of sending is told apart from
//! the cost of receiving. Nothing of Millstream's protocol is in it: pieces of zeros as fast as they are taken.

use std::{
    io::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Subcommand;
use millstream_datachannel::{Address, Certificate, Channel, Connection, Listener, dial, listen};
use millstream_e2e::process::Process;
use serde_json::{Value, json};

use crate::{cost, scenario::Bench};

/// A piece with its header.
const MESSAGE_BYTES: usize = 65_600;

/// What is sent: one for all connections, so that it is not taken for what a connection holds.
static PIECE: [u8; MESSAGE_BYTES] = [0; MESSAGE_BYTES];

/// What one end does.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum End {
    /// Listens, says where, and sends whoever asks as many bytes as he asks for.
    Source,
    /// Asks for so many bytes, takes them, and says how long that took.
    Sink { address: String, bytes: u64 },
    /// Connects so many times, one after the other, and says how many milliseconds each took.
    Dial { address: String, times: u32 },
    /// Connects so many times, says so, and holds on to them all.
    Hold { address: String, connections: u32 },
}

/// Plays one end until it is done, or for ever.
pub(crate) fn play(end: &End) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match end {
            End::Source => source().await,
            End::Sink { address, bytes } => sink(&parse(address)?, *bytes).await,
            End::Dial { address, times } => dial_often(&parse(address)?, *times).await,
            End::Hold { address, connections } => hold(&parse(address)?, *connections).await,
        }
    })
}

/// A source as a process, and what it says of its address.
pub(crate) fn start_source(bench: &Bench) -> anyhow::Result<(Process, Value)> {
    let mut source = start(bench, &["source"])?;
    let address = serde_json::from_str(&source.line()?)?;
    Ok((source, address))
}

/// This program as a process that plays one end.
pub(crate) fn start(bench: &Bench, arguments: &[&str]) -> anyhow::Result<Process> {
    let name = arguments.first().context("an end")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("end").args(arguments);
    Process::start(name, &mut command, &bench.folder.path().join(format!("{name}.log")))
}

async fn source() -> anyhow::Result<()> {
    let mut config = listen::Config::new("127.0.0.1:0".parse()?, Certificate::generate()?)?;
    // All come from one address here.
    (config.prefix_burst, config.prefix_per_second) = (10_000, 10_000);
    let mut listener = Listener::bind(config)?;
    let address = listener.address();
    say(&json!({
        "ip": address.socket.ip().to_string(),
        "port": address.socket.port(),
        "ufrag": address.ufrag,
        "password": address.password,
        "fingerprint": address.fingerprint.to_string(),
        "sdp_fingerprint": colons(address.fingerprint.as_bytes()),
    }))?;
    let mut connections = tokio::task::JoinSet::new();
    while let Some(connection) = listener.accept().await {
        connections.spawn(serve(connection));
        while connections.try_join_next().is_some() {}
    }
    bail!("the listener failed")
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

async fn sink(address: &Address, bytes: u64) -> anyhow::Result<()> {
    let connection = dial(address, dial::Config::default()).await?;
    let began = Instant::now();
    connection.send(Channel::Control, bytes.to_string().into()).await?;
    for _ in 0..messages(bytes) {
        connection.recv().await.context("the source went away")?;
    }
    let seconds = began.elapsed().as_secs_f64();
    say(&json!({ "seconds": seconds, "cpu_seconds": cost::cpu_seconds(std::process::id())? }))
}

async fn dial_often(address: &Address, times: u32) -> anyhow::Result<()> {
    let certificate = Certificate::generate()?;
    let mut open_ms = Vec::new();
    for _ in 0..times {
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let began = Instant::now();
        let connection = dial(address, config).await?;
        open_ms.push(began.elapsed().as_secs_f64() * 1e3);
        connection.close();
    }
    say(&json!({ "open_ms": open_ms }))
}

async fn hold(address: &Address, connections: u32) -> anyhow::Result<()> {
    let certificate = Certificate::generate()?;
    let mut held = Vec::new();
    for _ in 0..connections {
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        held.push(dial(address, config).await?);
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

fn parse(address: &str) -> anyhow::Result<Address> {
    let said: Value = serde_json::from_str(address)?;
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
        let address = parse(&said.to_string()).unwrap();
        assert_eq!((address.socket.port(), address.fingerprint.as_bytes()), (9, &[7; 32]));
        assert!(parse("{}").is_err());
        assert_eq!(colons(&[0, 171]), "00:AB");
    }
}
