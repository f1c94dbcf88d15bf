//! What a bare data channel costs its sender: no lane, no cache, no verification, one connection.

use anyhow::Context as _;
use serde_json::json;

use super::{Bench, gigabytes};
use crate::{cost, ends, sheet::Sheet};

const NATIVE_BYTES: u64 = 2_000_000_000;
const CHROMIUM_BYTES: u64 = 300_000_000;

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let share = if bench.short { 20 } else { 1 };
    bench.each_run(|| {
        let (source, address) = ends::start_source(bench)?;
        let bytes = NATIVE_BYTES / share;
        let before = cost::cpu_seconds(source.id())?;
        let mut sink = ends::start(bench, &["sink", &address.to_string(), &bytes.to_string()])?;
        let said: serde_json::Value = serde_json::from_str(&sink.finish()?)?;
        let cost = cost::cpu_seconds(source.id())? - before;
        let sent = gigabytes(ends::carried(bytes));
        let number = |field: &str| said[field].as_f64().context("the sink's figures");
        sheet.note("sender, to a native receiver", "CPU-s/GB", cost / sent);
        sheet.note("native receiver", "CPU-s/GB", number("cpu_seconds")? / sent);
        sheet.note("rate to a native receiver", "MB/s", sent * 1e3 / number("seconds")?);

        let bytes = CHROMIUM_BYTES / share;
        let before = cost::cpu_seconds(source.id())?;
        let argument = json!({ "edge": address, "bytes": ends::carried(bytes) });
        let said = bench.browse("channel.mjs", &argument)?.finish()?;
        let cost = cost::cpu_seconds(source.id())? - before;
        let sent = gigabytes(ends::carried(bytes));
        let seconds = said["seconds"].as_f64().context("the page's time")?;
        sheet.note("sender, to Chromium", "CPU-s/GB", cost / sent);
        sheet.note("rate to Chromium", "MB/s", sent * 1e3 / seconds);
        Ok(())
    })?;
    sheet.beside("sender, to Chromium", "sender, to a native receiver");
    sheet.remark(
        "One unordered data channel on loopback, messages of 65,600 bytes, nothing else on it; sender and receiver are \
         processes of their own, and the receiver takes data as fast as it can. The time of opening the connection is \
         in the sender's cost and not in the rate.",
    );
    Ok(())
}
