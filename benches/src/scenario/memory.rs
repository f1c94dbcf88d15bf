//! What a connected viewer takes of an edge's memory.

use std::time::Duration;

use anyhow::Context as _;
use millstream_e2e::{media::Clip, stack::Stack, time::go_on, viewers::Watch};

use super::{Bench, EdgeStatus};
use crate::{
    clips::{FULL, QUIET},
    ends,
    sheet::Sheet,
};

const BARE: u32 = 500;
const QUIET_VIEWERS: u32 = 200;
const WATCHING_VIEWERS: u32 = 50;
const SECONDS: u32 = 12;

/// Until the one viewer before has the edge fetch the stream and settle.
const SETTLE: Duration = Duration::from_secs(6);

const SAMPLE: Duration = Duration::from_millis(500);

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (bare, quiet, watching) =
        (bench.count(BARE), bench.count(QUIET_VIEWERS), bench.count(WATCHING_VIEWERS));
    bench.each_run(|| {
        sheet.note("bare connection, idle", "KiB", bare_kib(bench, bare)?);
        let kib = viewers_kib(bench, &QUIET, quiet)?;
        sheet.note("viewer of an all but silent stream", "KiB", kib);
        let kib = viewers_kib(bench, &FULL, watching)?;
        sheet.note("viewer of 5 Mbit/s", "KiB", kib);
        Ok(())
    })?;
    sheet.remark(format!(
        "Resident memory of the process that serves, with {bare} bare connections (no lane), {quiet} viewers of a stream \
         of 0.14 Mbit/s (a lane, subscriptions, a voucher now and then), {watching} viewers of 5 Mbit/s; less what it \
         held before they came (with one viewer already there), less what its media cache grew meanwhile, divided by \
         their number. The highest of the samples counts, so data on its way is in it.",
    ));
    Ok(())
}

fn bare_kib(bench: &Bench, connections: u32) -> anyhow::Result<f64> {
    let (source, address) = ends::start_source(bench)?;
    let before = source.resident_bytes()?;
    let mut holder = ends::start(bench, &["hold", &address.to_string(), &connections.to_string()])?;
    // It says so when it has them all.
    holder.line()?;
    let after = source.resident_bytes()?;
    holder.kill();
    Ok(kib_each(before, after, connections))
}

fn viewers_kib(bench: &Bench, clip: &Clip, viewers: u32) -> anyhow::Result<f64> {
    let apart = Stack::apart()?;
    let stack = &apart.stack;
    let edge = stack.edge("edge")?;
    let (_publisher, _) = stack.publish("show", clip)?;
    let time = bench.seconds(SECONDS);
    let seconds = u32::try_from((time + SETTLE).as_secs())? + 10;
    let first = Watch::new(&stack.ready.tracker, "show", seconds + 10).start(bench.folder.path())?;
    EdgeStatus::wait_viewers(&edge, 1).with_context(|| first.log())?;
    go_on(SETTLE);
    let (before, cached) = (edge.process.resident_bytes()?, EdgeStatus::of(&edge)?.cache_bytes);

    let mut watch = Watch::new(&stack.ready.tracker, "show", seconds);
    watch.viewers = viewers;
    // An edge lets in so many new connections a second from one address.
    watch.flags = vec!["--spread".to_owned(), "4000".to_owned()];
    let others = watch.start(bench.folder.path())?;
    EdgeStatus::wait_viewers(&edge, u64::from(viewers) + 1).with_context(|| others.log())?;
    let mut highest = 0;
    let samples = time.as_millis() / SAMPLE.as_millis();
    for _ in 0..samples {
        go_on(SAMPLE);
        let grown = EdgeStatus::of(&edge)?.cache_bytes.saturating_sub(cached);
        highest = highest.max(edge.process.resident_bytes()?.saturating_sub(grown));
    }
    drop((first, others));
    (highest > 0).then(|| kib_each(before, highest, viewers)).context("no sample")
}

fn kib_each(before: u64, after: u64, count: u32) -> f64 {
    after.saturating_sub(before) as f64 / 1_024.0 / f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_shared_by_all_and_never_below_zero() {
        assert_eq!(kib_each(1_000, 1_000 + 10 * 2_048, 10), 2.0);
        assert_eq!(kib_each(2_000, 1_000, 10), 0.0);
    }
}
