//! `millstream up`: tracker, packager and edges in one process, in the one right order.

use std::{
    future::Future,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use millstream_edge::Edge;
use millstream_packager::Packager;
use millstream_service::{Secret, Tasks, stop::Signals, tasks::Lost};
use millstream_tracker::Tracker;
use serde::Serialize;
use tokio::sync::watch;

use crate::{api::Api, demo};

/// The account that pays for the demo, and its fund: 1,000 units, some 50 TB at the demo's price.
const DEMO_ACCOUNT: &str = "demo";
const DEMO_FUND: i64 = 1_000_000_000;

/// The demo's price: 0.02 units a GiB, what a small CDN takes.
const DEMO_PRICE_PER_GIB: u32 = 20_000;

/// Time for everything to drain.
const GRACE: Duration = Duration::from_secs(10);

/// Run tracker, packager and edges in one process.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream up --demo
  millstream up --data /srv/millstream --listen 0.0.0.0 --public-host media.example.org
  millstream up --demo --json --rtmp-port 0 --http-port 0 --origin-port 0 --edge-port 0 --ops-port 0")]
pub(crate) struct Args {
    /// Folder for keys, the book and vouchers.
    #[arg(long, default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// Creates the stream `demo` with funds, and publishes a test picture to it.
    #[arg(long)]
    demo: bool,
    /// One line of JSON when everything is ready, and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// How many edges.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=64))]
    edges: u16,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    listen: IpAddr,
    /// Name or address that viewers reach this machine by; the listening address when it is left out.
    #[arg(long, value_name = "HOST")]
    public_host: Option<String>,
    /// Port for publishers (RTMP). 0 takes a free one, here and below.
    #[arg(long, default_value_t = 1935, value_name = "PORT")]
    rtmp_port: u16,
    /// Port for viewers, the API and the pages.
    #[arg(long, visible_alias = "tracker-port", default_value_t = 8080, value_name = "PORT")]
    http_port: u16,
    /// Port for media by HTTP.
    #[arg(long, default_value_t = 8081, value_name = "PORT")]
    origin_port: u16,
    /// UDP port of the first edge; the others follow.
    #[arg(long, default_value_t = 4443, value_name = "PORT")]
    edge_port: u16,
    /// Ops port of the tracker; packager and edges follow. On loopback.
    #[arg(long, default_value_t = 9100, value_name = "PORT")]
    ops_port: u16,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    rtmp: String,
    tracker: String,
    origin: String,
    watch: String,
    edges: Vec<ReadyEdge>,
    admin_token: String,
    ops: ReadyOps,
}

/// Ops listeners that are not an edge's.
#[derive(Debug, Serialize)]
struct ReadyOps {
    tracker: String,
    packager: String,
}

#[derive(Debug, Serialize)]
struct ReadyEdge {
    id: String,
    udp: String,
    ops: String,
}

/// A program of this process, and how it is told to stop.
struct Running {
    name: &'static str,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), Lost>>,
}

impl Running {
    fn start<F, W>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) -> W,
        W: Future<Output = Result<(), Lost>> + Send + 'static,
    {
        let (stop, mut stopping) = watch::channel(false);
        let stopped = async move {
            // An error means that whoever would say it is gone: then it is time as well.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        Self { name, stop, task: tokio::spawn(run(Box::pin(stopped))) }
    }

    async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = outcome(self.task.await) {
            tracing::error!(program = self.name, "{error:#}");
        }
    }
}

/// Waits until one of the programs has ended by itself, and says why.
async fn lost(running: &mut Vec<Running>) -> anyhow::Error {
    std::future::poll_fn(|context| {
        let ended = |program: &mut Running| match Pin::new(&mut program.task).poll(context) {
            Poll::Ready(ended) => Some((program.name, ended)),
            Poll::Pending => None,
        };
        let Some((at, (name, ended))) =
            running.iter_mut().map(ended).enumerate().find_map(|(at, ended)| Some((at, ended?)))
        else {
            return Poll::Pending;
        };
        running.remove(at);
        let why = outcome(ended).err().unwrap_or_else(|| anyhow::anyhow!("it was not told to"));
        Poll::Ready(why.context(format!("the {name} has ended")))
    })
    .await
}

fn outcome(ended: Result<Result<(), Lost>, tokio::task::JoinError>) -> anyhow::Result<()> {
    Ok(ended??)
}

/// Runs until a signal, then drains: what came up last goes down first, so that edges can still bring their vouchers.
/// What came up is drained too when the rest does not, when one of the programs cannot go on (whoever watches over this
/// process begins it anew), and when the signal comes before all is up.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    let mut running = Vec::new();
    let own = Tasks::new();
    let started = tokio::select! {
        started = start(&args, &mut running, &own) => started.and_then(|ready| announce(&ready, &args).map(|()| None)),
        signal = signals.next() => Ok(Some(signal)),
    };
    let outcome = match started {
        Ok(Some(signal)) => Ok(signal),
        Ok(None) => tokio::select! {
            signal = signals.next() => Ok(signal),
            lost = lost(&mut running) => Err(lost),
        },
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(signal) => tracing::info!(signal, "draining; again to end at once"),
        Err(error) => tracing::error!("draining: {error:#}"),
    }
    let drained = async {
        own.shutdown(GRACE).await;
        while let Some(program) = running.pop() {
            program.stop().await;
        }
    };
    tokio::select! {
        () = drained => {}
        _ = signals.next() => tracing::warn!("ended at once, without the drain"),
    }
    outcome.map(|_| ())
}

/// Brings everything up, in the one right order.
async fn start(args: &Args, running: &mut Vec<Running>, own: &Tasks) -> anyhow::Result<Ready> {
    let host = args.public_host.clone().unwrap_or_else(|| host_of(args.listen));
    let public_ip = public_ip(args).await?;

    let rtmp_port = rtmp_port(args)?;

    let tracker = tracker_config(args, &host, rtmp_port);
    let tracker = Tracker::load(tracker).await.context("the tracker does not start")?;
    let (tracker_at, token) = (tracker.addresses().clone(), tracker.admin_token().clone());
    let inside = inside_url(tracker_at.http);
    running.push(Running::start("tracker", |stopped| tracker.run(stopped)));

    let packager = packager_config(args, &host, rtmp_port, (&inside, &token));
    let packager = Packager::load(packager).await.context("the packager does not start")?;
    let packager_at = packager.addresses().clone();
    running.push(Running::start("packager", |stopped| packager.run(stopped)));

    let mut edges = Vec::new();
    for index in 0..args.edges {
        let edge = Edge::load(edge_config(args, index, &inside, public_ip));
        let edge = edge.await.with_context(|| format!("edge {index} does not start"))?;
        edges.push(ReadyEdge {
            id: edge.addresses().id.to_string(),
            udp: edge.addresses().udp.to_string(),
            ops: format!("http://{}", edge.addresses().ops),
        });
        running.push(Running::start("edge", |stopped| edge.run(stopped)));
    }

    let rtmp = format!("rtmp://{host}:{}/live", packager_at.rtmp.port());
    if args.demo {
        let publish_to = format!("rtmp://{}/live", at_loopback(packager_at.rtmp));
        start_demo(&Api::new(&inside, token.expose())?, &publish_to, own).await?;
    }
    Ok(Ready {
        ready: true,
        rtmp,
        tracker: tracker_at.url.clone(),
        origin: packager_at.origin_url.clone(),
        watch: format!("{}/watch/demo", tracker_at.url),
        edges,
        admin_token: token.expose().clone(),
        ops: ReadyOps {
            tracker: format!("http://{}", tracker_at.ops),
            packager: format!("http://{}", packager_at.ops),
        },
    })
}

/// The tracker tells broadcasters where to publish before there is anything to publish to: a port that the system chooses is
/// chosen first.
fn rtmp_port(args: &Args) -> anyhow::Result<u16> {
    if args.rtmp_port != 0 {
        return Ok(args.rtmp_port);
    }
    let free = std::net::TcpListener::bind((args.listen, 0)).context("no free port for RTMP")?;
    Ok(free.local_addr()?.port())
}

fn tracker_config(args: &Args, host: &str, rtmp_port: u16) -> millstream_tracker::Config {
    millstream_tracker::Config {
        listen: SocketAddr::new(args.listen, args.http_port),
        data: args.data.join("tracker"),
        public_url: public_url(args, host, args.http_port),
        rtmp_url: format!("rtmp://{host}:{rtmp_port}/live"),
        ops: ops(args.ops_port, 0),
        ..Default::default()
    }
}

fn packager_config(
    args: &Args,
    host: &str,
    rtmp_port: u16,
    (tracker, token): (&str, &Secret<String>),
) -> millstream_packager::Config {
    let mut config = millstream_packager::Config {
        data: args.data.join("packager"),
        ops: ops(args.ops_port, 1),
        ..Default::default()
    };
    config.tracker.url = tracker.to_owned();
    config.tracker.token = token.clone();
    config.rtmp.listen = SocketAddr::new(args.listen, rtmp_port);
    config.origin.listen = SocketAddr::new(args.listen, args.origin_port);
    config.origin.public_url = public_url(args, host, args.origin_port);
    config
}

fn edge_config(args: &Args, index: u16, tracker: &str, public: Option<IpAddr>) -> millstream_edge::Config {
    let port = if args.edge_port == 0 { 0 } else { args.edge_port.saturating_add(index) };
    millstream_edge::Config {
        listen: SocketAddr::new(args.listen, port),
        // With a free port chosen by the system there is nothing to advertise yet: the edge takes its own address.
        public: public.filter(|_| port != 0).map(|ip| SocketAddr::new(ip, port)).into_iter().collect(),
        data: args.data.join(format!("edge-{index}")),
        tracker: tracker.to_owned(),
        ops: ops(args.ops_port, 2 + index),
        ..Default::default()
    }
}

/// The address that viewers reach edges by: a data channel wants an address and no name.
async fn public_ip(args: &Args) -> anyhow::Result<Option<IpAddr>> {
    let Some(host) = &args.public_host else { return Ok(None) };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let mut found = tokio::net::lookup_host((name, 0)).await.with_context(|| {
        format!("--public-host {host} has no address: edges need one that viewers can reach")
    })?;
    Ok(found.next().map(|address| address.ip()))
}

/// With a free port chosen by the system nobody knows the URL beforehand: the program makes it from what it got.
fn public_url(args: &Args, host: &str, port: u16) -> String {
    if args.public_host.is_some() && port != 0 { format!("http://{host}:{port}") } else { String::new() }
}

fn ops(first: u16, index: u16) -> millstream_service::ops::Config {
    let port = if first == 0 { 0 } else { first.saturating_add(index) };
    millstream_service::ops::Config { listen: SocketAddr::from(([127, 0, 0, 1], port)) }
}

fn host_of(listen: IpAddr) -> String {
    match listen {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

/// How the programs of this process reach each other.
fn inside_url(address: SocketAddr) -> String {
    format!("http://{}", at_loopback(address))
}

fn at_loopback(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port())
    } else {
        address
    }
}

/// Makes the stream `demo` anew, with funds, and publishes to it.
async fn start_demo(api: &Api, rtmp: &str, tasks: &Tasks) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    api.fund(DEMO_ACCOUNT, DEMO_FUND, &format!("demo-{now}")).await?;
    // A key is shown once: only a stream made now can be published to.
    api.remove("demo").await?;
    let wanted = serde_json::json!({
        "id": "demo", "account": DEMO_ACCOUNT, "price_per_gib": DEMO_PRICE_PER_GIB,
    });
    let created = api.create(&wanted).await?;
    demo::publish(format!("{rtmp}/{}", created.stream_key), tasks)
}

fn announce(ready: &Ready, args: &Args) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(ready)?)?;
        return Ok(out.flush()?);
    }
    writeln!(out, "\n  Millstream is up.\n")?;
    if args.demo {
        writeln!(out, "  watch     {}", ready.watch)?;
    }
    writeln!(out, "  overview  {}", ready.tracker)?;
    writeln!(out, "  publish   {}/<stream key>", ready.rtmp)?;
    writeln!(out, "  origin    {}", ready.origin)?;
    for edge in &ready.edges {
        writeln!(out, "  edge      {} (udp {})", edge.ops, edge.udp)?;
    }
    writeln!(out, "  API       {}/v1/openapi.json, token in {}", ready.tracker, token_file(args))?;
    writeln!(out, "\n  Ctrl-C drains and stops.\n")?;
    Ok(out.flush()?)
}

fn token_file(args: &Args) -> String {
    args.data.join("tracker/admin.token").display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_cannot_go_on_ends_the_others() {
        let stays = Running::start("edge", |stopped| async move {
            stopped.await;
            Ok(())
        });
        let ends = Running::start("tracker", |_| async { Err(Lost("book".into())) });
        let mut running = vec![stays, ends];
        let why = format!("{:#}", lost(&mut running).await);
        assert!(why.contains("tracker") && why.contains("book"), "{why}");
        assert_eq!(running.len(), 1);
        running.pop().expect("the edge").stop().await;
    }
}
