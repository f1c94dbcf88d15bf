//! What a connection costs: CPU-seconds per gigabyte, time to open, memory per idle connection. Linux only.
//!
//! ```text
//! cargo run --release -p millstream-datachannel --example throughput -- send 2000
//! cargo run --release -p millstream-datachannel --example throughput -- open 200
//! cargo run --release -p millstream-datachannel --example throughput -- idle 1000
//! ```
//!
//! `send` and `idle` run the viewers in a process of their own, so that each side is measured alone; the edge prints.

use std::{
    env, io,
    io::{BufRead as _, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use millstream_datachannel::{Address, Certificate, Channel, Connection, Listener, dial, listen};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A piece with its header.
const MESSAGE_BYTES: usize = 65_600;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["send", megabytes] => send(megabytes.parse()?).await,
        ["open", count] => open(count.parse()?).await,
        ["idle", count] => idle(count.parse()?).await,
        ["viewer", count, port, ufrag, password, fingerprint] => {
            let address = Address {
                socket: format!("127.0.0.1:{port}").parse()?,
                ufrag: ufrag.to_owned(),
                password: password.to_owned(),
                fingerprint: fingerprint.parse()?,
            };
            viewers(&address, count.parse()?).await
        }
        _ => Err("send <megabytes> | open <times> | idle <connections>".into()),
    }
}

async fn send(megabytes: usize) -> Outcome<()> {
    let mut listener = listener(1)?;
    let viewer = viewer(&listener, 1)?;
    let connection = listener.accept().await.ok_or("no connection")?;
    let piece = Bytes::from(vec![7; MESSAGE_BYTES]);
    let (start, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
    let theirs = cpu_seconds(viewer.0.id())?;
    let mut sent = 0;
    while sent < megabytes * 1_000_000 {
        connection.send(Channel::Pieces, piece.clone()).await?;
        sent += MESSAGE_BYTES;
    }
    while connection.buffered(Channel::Pieces) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let gigabytes = f64::from(u32::try_from(sent / 1_000)?) / 1e6;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{gigabytes:.2} GB in {seconds:.2} s: {:.0} MB/s, edge {:.2} CPU-s/GB, viewer {:.2} CPU-s/GB, {:?}",
        gigabytes * 1e3 / seconds,
        (cpu_seconds(std::process::id())? - cpu) / gigabytes,
        (cpu_seconds(viewer.0.id())? - theirs) / gigabytes,
        connection.stats(),
    );
    Ok(())
}

async fn open(count: usize) -> Outcome<()> {
    let mut listener = listener(count)?;
    let address = listener.address().clone();
    let certificate = Certificate::generate()?;
    let mut times = Vec::new();
    let cpu = cpu_seconds(std::process::id())?;
    for _ in 0..count {
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let start = Instant::now();
        let (viewer, edge) = tokio::join!(dial(&address, config), listener.accept());
        times.push(start.elapsed());
        drop((viewer?, edge));
    }
    times.sort();
    let per_cent = |n: usize| times.get((count * n / 100).min(count - 1)).copied().unwrap_or_default();
    println!(
        "open: p50 {:?}, p95 {:?}; both sides {:.2} CPU-ms",
        per_cent(50),
        per_cent(95),
        (cpu_seconds(std::process::id())? - cpu) * 1e3 / f64::from(u32::try_from(count)?),
    );
    Ok(())
}

async fn idle(count: usize) -> Outcome<()> {
    let mut listener = listener(count)?;
    let empty = resident_kib(std::process::id())?;
    let viewer = viewer(&listener, count)?;
    let mut connections = Vec::new();
    let their_empty = resident_kib(viewer.0.id())?;
    while connections.len() < count {
        connections.push(listener.accept().await.ok_or("no connection")?);
    }
    let opened = resident_kib(std::process::id())?;
    let theirs = resident_kib(viewer.0.id())?;
    let cpu = cpu_seconds(std::process::id())?;
    let watch = Duration::from_secs(10);
    tokio::time::sleep(watch).await;
    let cpu = (cpu_seconds(std::process::id())? - cpu) / watch.as_secs_f64();
    let each = |kib: u64| kib / u64::try_from(count).unwrap_or(1);
    println!(
        "{count} idle: edge {} KiB each, viewer {} KiB each; edge {cpu:.3} cores",
        each(opened - empty),
        each(theirs.saturating_sub(their_empty)),
    );
    Ok(())
}

async fn viewers(address: &Address, count: usize) -> Outcome<()> {
    let certificate = Certificate::generate()?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let connection = dial(address, config).await?;
        tasks.spawn(drain(connection));
    }
    tasks.join_all().await;
    Ok(())
}

async fn drain(connection: Connection) {
    while connection.recv().await.is_some() {}
}

fn listener(connections: usize) -> Outcome<Listener> {
    let mut config = listen::Config::new("127.0.0.1:0".parse()?, Certificate::generate()?)?;
    config.connections_max = connections.max(16);
    config.prefix_burst = u32::try_from(connections)?.max(16);
    config.prefix_per_second = 1_000;
    Ok(Listener::bind(config)?)
}

/// A process of viewers, ended with this one.
struct Viewers(Child);

impl Drop for Viewers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn viewer(listener: &Listener, count: usize) -> Outcome<Viewers> {
    let address = listener.address();
    let child = Command::new(env::current_exe()?)
        .arg("viewer")
        .args([count.to_string(), address.socket.port().to_string()])
        .args([&address.ufrag, &address.password, &address.fingerprint.to_string()])
        .stdin(Stdio::null())
        .spawn()?;
    io::stdout().flush()?;
    Ok(Viewers(child))
}

/// User and system time of a process so far (proc(5), fields 14 and 15, in hundredths).
fn cpu_seconds(process: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

fn resident_kib(process: u32) -> Outcome<u64> {
    let status = std::fs::File::open(format!("/proc/{process}/status"))?;
    for line in io::BufReader::new(status).lines() {
        if let Some(value) = line?.strip_prefix("VmRSS:") {
            return Ok(value.trim().trim_end_matches(" kB").parse()?);
        }
    }
    Err("VmRSS".into())
}
