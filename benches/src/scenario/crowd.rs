//! How many viewers of one live stream a whole edge serves with one core, and what each number of them costs.

use std::{
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use millstream_e2e::{process::Process, program::Program, publisher, stack::Stack, time::go_on};
use millstream_wire::media::Record;
use serde_json::Value;

use super::{Bench, EdgeStatus, gigabytes};
use crate::{
    clips::COMMON,
    cost, curve, ends,
    figures::quantile,
    sheet::Sheet,
    tap::{self, Tap},
};

const STREAM: &str = "show";
const RENDITION: &str = "video";

/// How many watch, step by step; the steps end when parts come too late.
const STEPS: [u32; 9] = [1, 50, 100, 200, 400, 600, 800, 1_000, 1_200];

/// Parts that come later than this after a single viewer would have had them are of no use to a viewer near live.
const P99_MS_MAX: f64 = 100.0;

/// New connections that an edge lets in from one address each second (16), with room for their handshakes.
const JOINS_PER_SECOND: u32 = 14;

/// What is measured, once everybody has settled.
const WINDOW_SECONDS: u32 = 15;
const SETTLE: Duration = Duration::from_secs(6);

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let window = bench.seconds(WINDOW_SECONDS);
    let steps: Vec<u32> = STEPS.iter().map(|viewers| bench.count(*viewers)).collect();
    bench.each_run(|| {
        let mut alone = None;
        for viewers in &steps {
            let step = step(bench, *viewers, window).with_context(|| format!("{viewers} viewers"))?;
            let name = |what: &str| format!("{viewers} viewers: {what}");
            sheet.note(&name("edge"), "% of its core", step.edge);
            sheet.note(&name("edge, per viewer"), "% of a core", step.edge / f64::from(*viewers));
            sheet.note(&name("edge"), "CPU-s/GB", step.per_gigabyte);
            sheet.note(&name("all viewers"), "% of a core", step.watching);
            sheet.note(&name("last frame to whole part, p50"), "ms", step.p50_ms);
            sheet.note(&name("last frame to whole part, p99"), "ms", step.p99_ms);
            sheet.note(&name("edge, memory per viewer"), "KiB", step.kib);
            bench.progress(&format!("    {viewers} viewers: {step:?}"));
            if step.p99_ms - *alone.get_or_insert(step.p50_ms) > P99_MS_MAX {
                break;
            }
        }
        Ok(())
    })?;
    let line = |what: &str, unit: &str| -> Vec<(f64, f64)> {
        let median = |viewers: &u32| sheet.median_in(&format!("{viewers} viewers: {what}"), unit);
        steps.iter().filter_map(|viewers| Some((f64::from(*viewers), median(viewers)?))).collect()
    };
    let (cost, late) = (line("edge", "% of its core"), line("last frame to whole part, p99", "ms"));
    bench.plot(
        "bench-crowd-cost.svg",
        &curve::draw("What viewers of 3 Mbit/s cost an edge", "viewers", "% of its core", &cost),
    )?;
    bench.plot(
        "bench-crowd-delay.svg",
        &curve::draw("Last frame to whole part, p99", "viewers", "ms", &late),
    )?;
    sheet.remark(format!(
        "One edge, held to one processor (its transport has one thread); receivers of one 3 Mbit/s stream (720p30, a part \
         every 250 ms) in one process with one thread, which join, take what is pushed and vouch for it, and verify \
         nothing; tracker, packager and publisher beside them. The receivers \
         run behind all others (nice 10) on the other processor and on what is left of the first. The processor time is \
         each process's own, over {} s in which all watch; memory is what the edge took more than before the first came, \
         its cache left out. A part's delay is from when its last frame was received (at a tap right before the packager) \
         until a receiver had it whole: packager, feed and edge are in it, and the one frame (33 ms) that the packager \
         waits for to know that a part is over. The steps end where p99 is {} ms later than a single receiver's median.",
        window.as_secs(),
        P99_MS_MAX
    ));
    Ok(())
}

/// How it went with so many viewers.
#[derive(Debug)]
struct Step {
    edge: f64,
    per_gigabyte: f64,
    watching: f64,
    p50_ms: f64,
    p99_ms: f64,
    kib: f64,
}

fn step(bench: &Bench, viewers: u32, window: Duration) -> anyhow::Result<Step> {
    let apart = Stack::apart()?;
    let stack = &apart.stack;
    let viewers_max = (viewers + 10).to_string();
    // The tracker gives an edge as many viewers as its line carries; loopback carries them all.
    let settings = [("cores", "1"), ("viewers_max", viewers_max.as_str()), ("capacity", "10000000000")];
    let edge = stack.edge_with("edge", &settings)?;
    hold_to_one_processor(&edge)?;
    let created = stack.create(STREAM)?;
    let tap = Tap::start(apart.packager.said("rtmp")?.parse()?)?;
    let url = format!("rtmp://{}/live/{}", tap.address, created.stream_key);
    let _publisher = publisher::push(&COMMON, &url, stack.folder())?;
    stack.live(STREAM)?;
    let (resident, cached) = (edge.process.resident_bytes()?, EdgeStatus::of(&edge)?.cache_bytes);

    let joining = Duration::from_secs(u64::from(viewers / JOINS_PER_SECOND));
    let millis = |time: Duration| time.as_millis().to_string();
    let (spread, settle, counted) = (millis(joining), millis(SETTLE), millis(window));
    let asked = ["audience", &stack.ready.tracker, STREAM, &viewers.to_string(), &spread, &settle, &counted];
    let mut audience = ends::start(bench, &asked)?;
    run_behind(&audience)?;
    audience.line()?;
    go_on(SETTLE);
    let cpu = [cost::cpu_seconds(edge.process.id())?, cost::cpu_seconds(audience.id())?];
    let before = EdgeStatus::of(&edge)?;
    let report: Value = serde_json::from_str(&audience.line()?)?;
    let after = EdgeStatus::of(&edge)?;
    let spent = [cost::cpu_seconds(edge.process.id())? - cpu[0], cost::cpu_seconds(audience.id())? - cpu[1]];
    let sent = after.sent_bytes - before.sent_bytes;
    let grown = edge.process.resident_bytes()?.saturating_sub(resident) as f64;
    let cache = after.cache_bytes.saturating_sub(cached) as f64;
    let clock = packagers_clock(stack, &tap)?;
    let late = |percentile: &str| -> anyhow::Result<f64> {
        Ok(report[percentile].as_f64().context("an audience counts parts")? - clock)
    };
    let percent = |seconds: f64| seconds * 100.0 / window.as_secs_f64();
    Ok(Step {
        edge: percent(spent[0]),
        per_gigabyte: spent[0] / gigabytes(sent),
        watching: percent(spent[1]),
        p50_ms: late("p50_ms")?,
        p99_ms: late("p99_ms")?,
        kib: (grown - cache).max(0.0) / 1_024.0 / f64::from(viewers),
    })
}

/// How much later a part's last frame was at the tap than the packager's clock says, in milliseconds: that clock was set
/// when the first frame came, and a publisher sends its first ones faster.
fn packagers_clock(stack: &Stack, tap: &Tap) -> anyhow::Result<f64> {
    let (catalog, records) = stack.origin(STREAM)?.records(RENDITION)?;
    let rendition = catalog.renditions.iter().find(|rendition| rendition.name == RENDITION);
    let ticks = f64::from(rendition.context("no video in the catalog")?.timescale) / 1e3;
    let (frames, now) = (tap.frames(), (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?));
    let ahead = |record: &Record| {
        let length = f64::from(record.duration) / ticks;
        let (last, _) = tap::arrivals(&frames, record.media_time.0 as f64 / ticks + length)?;
        let arrived = now.1.as_secs_f64() * 1e3 - tap::millis_between(last, now.0);
        Some(arrived - record.program_date_time.0 as f64 - length)
    };
    let all: Vec<f64> = records.iter().filter_map(ahead).collect();
    quantile(&all, 50).context("no part was seen at the tap")
}

/// Lets everything else go first, the edge above all.
fn run_behind(process: &Process) -> anyhow::Result<()> {
    let set = Command::new("renice").args(["-n", "10", "-p", &process.id().to_string()]).output();
    ensure!(set.context("renice (bsdutils)")?.status.success(), "renice failed");
    Ok(())
}

/// All threads of a program on the first processor. Those that it starts later inherit it.
fn hold_to_one_processor(program: &Program) -> anyhow::Result<()> {
    let id = program.process.id().to_string();
    let held = Command::new("taskset")
        .args(["-a", "-p", "-c", "0", &id])
        .output()
        .context("taskset (util-linux)")?;
    ensure!(held.status.success(), "taskset: {}", String::from_utf8_lossy(&held.stderr));
    Ok(())
}
