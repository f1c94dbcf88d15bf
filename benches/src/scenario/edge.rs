//! What a whole edge costs that serves viewers at a stream's own pace: lane, credit, vouchers, tracker and feed
//! included.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use millstream_e2e::{program::Program, stack::Stack, time::go_on, viewers::Watch};
use serde_json::json;

use super::{Bench, EdgeStatus, gigabytes};
use crate::{
    clips::{FULL, SMALL},
    cost,
    sheet::Sheet,
};

const NATIVE_VIEWERS: u32 = 20;
const PAGES: u32 = 3;
const WINDOW_SECONDS: u32 = 20;

/// Until viewers have taken what they begin with.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let window = bench.seconds(WINDOW_SECONDS);
    bench.each_run(|| {
        let apart = Stack::apart()?;
        let stack = &apart.stack;
        let edge = stack.edge("edge")?;
        let (full, _) = stack.publish("full", &FULL)?;

        let seconds = u32::try_from((SETTLE + window).as_secs())? + 4;
        let mut watch = Watch::new(&stack.ready.tracker, "full", seconds);
        watch.viewers = NATIVE_VIEWERS;
        let mut watching = watch.start(bench.folder.path())?;
        let (cost, sent) = measure(&edge, NATIVE_VIEWERS, window).with_context(|| watching.log())?;
        let report = watching.report()?;
        ensure!(report.bytes.edge > report.bytes.origin, "the edge did not serve them: {report:?}");
        let taken = gigabytes(report.bytes.edge + report.bytes.origin);
        sheet.note("edge, to native viewers", "CPU-s/GB", cost / gigabytes(sent));
        sheet.note("native viewer", "CPU-s/GB", report.cpu_seconds / taken);
        sheet.note("edge, per native viewer", "% of a core", percent(cost, NATIVE_VIEWERS, window));
        sheet.note("stalls of native viewers", "count", report.stalls.count as f64);

        drop(full);
        let (_small, _) = stack.publish("small", &SMALL)?;
        let page = format!("{}/watch/small", stack.ready.tracker);
        let argument = json!({ "url": page, "pages": PAGES, "seconds": seconds });
        let pages = bench.browse("audience.mjs", &argument)?;
        let (cost, sent) = measure(&edge, PAGES, window)?;
        let said = pages.finish()?;
        ensure!(said["modes"] == json!(["swarm"]), "the pages did not play in the swarm: {said}");
        sheet.note("edge, to Chromium", "CPU-s/GB", cost / gigabytes(sent));
        sheet.note("edge, per page in Chromium", "% of a core", percent(cost, PAGES, window));
        sheet.note("stalls in Chromium", "count", said["stalls"].as_f64().unwrap_or(f64::NAN));
        Ok(())
    })?;
    sheet.beside("edge, to Chromium", "edge, to native viewers");
    sheet.remark(format!(
        "One edge as a process of its own; {NATIVE_VIEWERS} native viewers in one process, then {PAGES} watch pages that \
         play in one Chromium, each at the stream's own pace (5 Mbit/s of 1080p, 3.9 Mbit/s of 360p; a part every 250 ms). {} s of each, after everybody \
         has started. All that the edge does is in its cost: the feed, verification, vouchers, talk with the tracker. \
         Bytes are the media bytes that it sent.",
        window.as_secs()
    ));
    Ok(())
}

/// Processor time and bytes that an edge sends to so many viewers in `window`.
fn measure(edge: &Program, viewers: u32, window: Duration) -> anyhow::Result<(f64, u64)> {
    EdgeStatus::wait_viewers(edge, u64::from(viewers))?;
    go_on(SETTLE);
    let (before, cpu) = (EdgeStatus::of(edge)?, cost::cpu_seconds(edge.process.id())?);
    go_on(window);
    let (after, cpu_after) = (EdgeStatus::of(edge)?, cost::cpu_seconds(edge.process.id())?);
    let sent = after.sent_bytes - before.sent_bytes;
    ensure!(after.viewers == u64::from(viewers), "{} of {viewers} viewers are left", after.viewers);
    ensure!(sent > 0, "the edge sends nothing");
    Ok((cpu_after - cpu, sent))
}

fn percent(cpu_seconds: f64, viewers: u32, window: Duration) -> f64 {
    cpu_seconds * 100.0 / window.as_secs_f64() / f64::from(viewers)
}
