//! Our transport beside others', all in one run: what sending costs, what a path with delay and loss lets through, how
//! many round trips opening takes, and what a viewer that is merely connected holds.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use millstream_e2e::{namespace::Namespace, process::Process};
use serde_json::{Value, json};

use super::{Bench, gigabytes, said};
use crate::{
    cost,
    ends::{self, Sender},
    figures::{median, written},
    path::{Nature, Path},
    plot::{self, Group},
    sheet::Sheet,
};

/// Enough for a hundredth of a second, the kernel's clock, to be nothing.
const NATIVE_BYTES: u64 = 1_000_000_000;
const CHROMIUM_BYTES: u64 = 200_000_000;
const FIREFOX_BYTES: u64 = 100_000_000;

const PATH_BITS: u64 = 100_000_000;
const QUEUE: Duration = Duration::from_millis(50);

/// Round trip in milliseconds, and datagrams of a million that are lost.
const PATHS: [(u64, u32); 4] = [(20, 0), (20, 5_000), (80, 0), (80, 10_000)];

/// Firefox's, in a namespace: ICE takes the address that leads outside.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

const WARM_UP: Duration = Duration::from_secs(2);
const GOODPUT_SECONDS: u32 = 10;

/// Neither window nor buffer bounds what is measured: more than the longest path and its queue hold.
const PATH_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

const OPEN_ROUND_TRIP: Duration = Duration::from_millis(50);
const NATIVE_OPENS: u32 = 20;
const CHROMIUM_OPENS: u32 = 20;

/// `webrtc` takes a socket and most of a second for each.
const IDLE: u32 = 200;
const IDLE_WEBRTC: u32 = 40;

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let space = Namespace::with_address(ADDRESS);
    if let Err(error) = &space {
        bench.progress(&format!("  without Firefox, which needs a network namespace: {error:#}"));
    }
    let space = space.ok();
    let mut run = 0;
    bench.each_run(|| {
        run += 1;
        let (rate, round_trip) = Path::gauge(path(20, 0, run))?;
        sheet.note("the path alone, raw UDP", "MB/s", rate / 1e6);
        sheet.note("the path of 20 ms, one datagram there and back", "ms", round_trip.as_secs_f64() * 1e3);
        for sender in Sender::ALL {
            let mut notes = Notes { bench, sheet, sender };
            for client in CLIENTS {
                if client.name != "to Firefox" || space.is_some() {
                    notes.note(client.name, "CPU-s/GB", || cost(bench, sender, &client, space.as_ref()));
                }
            }
            for (round_trip_ms, lost_per_million) in PATHS {
                let nature = path(round_trip_ms, lost_per_million, run);
                let what = path_name(round_trip_ms, lost_per_million);
                notes.note(&what, "MB/s", || goodput(bench, sender, nature));
            }
            notes.note(OPEN_NATIVE, "round trips", || opens(bench, sender, run, open_native));
            notes.note(OPEN_CHROMIUM, "round trips", || opens(bench, sender, run, open_chromium));
            notes.note(MEMORY, "KiB", || idle_kib(bench, sender));
        }
        Ok(())
    })?;
    for sender in [Sender::Ours, Sender::Webrtc] {
        for what in measured() {
            sheet.beside(&line(sender, &what), &line(Sender::RtcSctp, &what));
        }
    }
    remark(bench, sheet);
    plots(bench, sheet)
}

/// Who takes what a sender sends as fast as it is taken.
#[derive(Debug, Clone, Copy)]
struct Client {
    name: &'static str,
    /// None for a native one.
    browser: Option<&'static str>,
    bytes: u64,
}

const CLIENTS: [Client; 3] = [
    Client { name: "to a native receiver", browser: None, bytes: NATIVE_BYTES },
    Client { name: "to Chromium", browser: Some("chromium"), bytes: CHROMIUM_BYTES },
    Client { name: "to Firefox", browser: Some("firefox"), bytes: FIREFOX_BYTES },
];
const OPEN_NATIVE: &str = "open, native";
const OPEN_CHROMIUM: &str = "open, Chromium";
const MEMORY: &str = "idle viewer";

/// A sender's figures on their way to the sheet.
struct Notes<'a> {
    bench: &'a Bench,
    sheet: &'a mut Sheet,
    sender: Sender,
}

impl Notes<'_> {
    /// A figure that cannot be had is told and costs the others nothing.
    fn note(&mut self, what: &str, unit: &'static str, measure: impl FnOnce() -> anyhow::Result<f64>) {
        let what = line(self.sender, what);
        match measure() {
            Ok(value) => {
                self.bench.progress(&format!("    {what}: {} {unit}", written(value)));
                self.sheet.note(&what, unit, value);
            }
            Err(error) => {
                self.bench.progress(&format!("    {what} FAILED: {error:#}"));
                self.sheet.remark(format!("Not measured in one run: {what}."));
            }
        }
    }
}

fn measured() -> Vec<String> {
    let paths = PATHS.map(|(round_trip, lost)| path_name(round_trip, lost));
    let others = CLIENTS
        .map(|client| client.name)
        .into_iter()
        .chain([OPEN_NATIVE, OPEN_CHROMIUM, MEMORY])
        .map(str::to_owned);
    paths.into_iter().chain(others).collect()
}

fn line(sender: Sender, what: &str) -> String {
    format!("{}, {what}", sender.name())
}

fn path_name(round_trip_ms: u64, lost_per_million: u32) -> String {
    format!("{round_trip_ms} ms, {} % lost", f64::from(lost_per_million) / 1e4)
}

fn path(round_trip_ms: u64, lost_per_million: u32, seed: u64) -> Nature {
    let round_trip = Duration::from_millis(round_trip_ms);
    Nature { bits_per_second: PATH_BITS, round_trip, queue: QUEUE, lost_per_million, seed }
}

fn source(
    bench: &Bench,
    sender: Sender,
    space: Option<&Namespace>,
    options: &[&str],
) -> anyhow::Result<(Process, Value)> {
    ends::start_source_with(bench, space, &[&["--sender", sender.name()], options].concat())
}

/// Processor time of a gigabyte that a client takes as fast as it can, on loopback.
fn cost(bench: &Bench, sender: Sender, client: &Client, space: Option<&Namespace>) -> anyhow::Result<f64> {
    let bytes = ends::carried(client.bytes / if bench.short { 20 } else { 1 });
    let space = space.filter(|_| client.browser == Some("firefox"));
    let ip = space.map_or_else(|| "127.0.0.1".to_owned(), |_| ADDRESS.to_string());
    let (source, address) = source(bench, sender, space, &["--ip", &ip])?;
    let before = cost::cpu_seconds(source.id())?;
    match client.browser {
        None => said(&mut ends::start(bench, &["sink", &address.to_string(), &bytes.to_string()])?)?,
        Some(browser) => {
            bench.channel(space, &json!({ "edge": address, "bytes": bytes, "browser": browser }))?
        }
    };
    Ok((cost::cpu_seconds(source.id())? - before) / gigabytes(bytes))
}

/// Bytes a second that arrive over a path.
fn goodput(bench: &Bench, sender: Sender, nature: Nature) -> anyhow::Result<f64> {
    let window = PATH_WINDOW_BYTES.to_string();
    let (_source, address) = source(bench, sender, None, &["--send-bytes", &window])?;
    let path = Path::start(nature)?;
    let address = over(&path, address)?.to_string();
    let (warm_up, time) = (WARM_UP.as_millis().to_string(), bench.seconds(GOODPUT_SECONDS));
    let time = time.as_millis().to_string();
    let mut meter = ends::start(bench, &["meter", &address, &window, &warm_up, &time])?;
    let said = said(&mut meter)?;
    bench.progress(&format!("      {:?}", path.carried()));
    said["bytes_per_second"].as_f64().map(|bytes| bytes / 1e6).context("what came a second")
}

/// A source's address when it is reached over a path.
fn over(path: &Path, mut address: Value) -> anyhow::Result<Value> {
    if address["signal"].is_string() {
        // Its sockets are known to whoever is connecting.
        address["via"] = path.near.to_string().into();
        return Ok(address);
    }
    let ip = address["ip"].as_str().context("an address")?;
    path.leads_to(format!("{ip}:{}", address["port"]).parse()?);
    (address["ip"], address["port"]) = (path.near.ip().to_string().into(), path.near.port().into());
    Ok(address)
}

/// How many round trips of a path it takes to open, by `open`, which says how long it took each time.
fn opens(
    bench: &Bench,
    sender: Sender,
    seed: u64,
    open: fn(&Bench, &Value) -> anyhow::Result<Value>,
) -> anyhow::Result<f64> {
    let (_source, address) = source(bench, sender, None, &[])?;
    let path = Path::start(Nature { round_trip: OPEN_ROUND_TRIP, ..path(0, 0, seed) })?;
    let said = open(bench, &over(&path, address)?)?;
    let times: Vec<f64> = serde_json::from_value(said["open_ms"].clone()).context("times to open")?;
    let middle = median(&times).context("nothing was opened")?;
    Ok(middle / (OPEN_ROUND_TRIP.as_secs_f64() * 1e3))
}

fn open_native(bench: &Bench, address: &Value) -> anyhow::Result<Value> {
    let times = bench.count(NATIVE_OPENS).to_string();
    said(&mut ends::start(bench, &["dial", &address.to_string(), &times])?)
}

fn open_chromium(bench: &Bench, address: &Value) -> anyhow::Result<Value> {
    bench.channel(None, &json!({ "edge": address, "times": bench.count(CHROMIUM_OPENS) }))
}

fn idle_kib(bench: &Bench, sender: Sender) -> anyhow::Result<f64> {
    let viewers = bench.count(if sender == Sender::Webrtc { IDLE_WEBRTC } else { IDLE });
    let (source, address) = source(bench, sender, None, &[])?;
    let address = address.to_string();
    // What the first connection makes for all others is not counted.
    let mut first = ends::start(bench, &["hold", &address, "1"])?;
    first.line()?;
    let before = source.resident_bytes()?;
    let mut holder = ends::start(bench, &["hold", &address, &viewers.to_string()])?;
    holder.line()?;
    let grown = source.resident_bytes()?.saturating_sub(before);
    holder.kill();
    first.kill();
    Ok(grown as f64 / 1_024.0 / f64::from(viewers))
}

fn remark(bench: &Bench, sheet: &mut Sheet) {
    sheet.remark(format!(
        "Ours: `millstream-datachannel`. `rtc-sctp`: `rtc-dtls` and `rtc-sctp` 0.21.1 as our first transport drove them \
         (`benches/src/baseline`), without the hop between threads. `webrtc`: the crate `webrtc` 0.21.1 with its own \
         sockets at both ends, offer and answer by loopback; the others' native receiver is our own client. Sender \
         and receiver are processes of their own, on one core's thread each but for ours, whose listener has a thread \
         beside that of who sends. CPU-s/GB: the sender's, messages of 65,600 bytes on one unordered channel, as fast \
         as they are taken on loopback; opening is in it. Paths: {} Mbit/s of datagrams (IP and UDP headers not \
         counted) each way, drop-tail queues of {} ms, random loss on both ways (data and acknowledgements) from a \
         seed for each run; one native viewer, what arrives in {} s after {} s, windows and buffers of 4 MiB. The path \
         runs on threads of the measuring process. Open: over a path of {} ms, from start to both channels open, the \
         median of {} native and {} Chromium connections; key, offer and answer are in it. Idle viewer: growth of the \
         sender's resident memory over {} viewers ({} of `webrtc`).",
        PATH_BITS / 1_000_000,
        QUEUE.as_millis(),
        bench.seconds(GOODPUT_SECONDS).as_secs(),
        WARM_UP.as_secs(),
        OPEN_ROUND_TRIP.as_millis(),
        bench.count(NATIVE_OPENS),
        bench.count(CHROMIUM_OPENS),
        bench.count(IDLE),
        bench.count(IDLE_WEBRTC),
    ));
}

fn plots(bench: &Bench, sheet: &Sheet) -> anyhow::Result<()> {
    let names = Sender::ALL.map(Sender::name);
    let group = |what: &str| Group {
        name: what.to_owned(),
        values: Sender::ALL.iter().map(|sender| sheet.median(&line(*sender, what))).collect(),
    };
    let costs = CLIENTS.map(|client| group(client.name));
    bench.plot("bench-cost.svg", &plot::bars("Sending a gigabyte", "CPU-seconds", &names, &costs))?;
    let rates = PATHS.map(|(round_trip, lost)| group(&path_name(round_trip, lost)));
    let title = format!("One viewer on {} Mbit/s", PATH_BITS / 1_000_000);
    bench.plot("bench-goodput.svg", &plot::bars(&title, "MB/s", &names, &rates))
}
