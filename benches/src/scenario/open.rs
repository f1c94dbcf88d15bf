//! How long it takes until data channels are open: STUN, DTLS and SCTP, without signalling.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Bench;
use crate::{ends, figures::quantile, sheet::Sheet};

const NATIVE_TIMES: u32 = 300;
const CHROMIUM_TIMES: u32 = 60;

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    bench.each_run(|| {
        let (_source, address) = ends::start_source(bench)?;
        let times = bench.count(NATIVE_TIMES).to_string();
        let mut dial = ends::start(bench, &["dial", &address.to_string(), &times])?;
        note(sheet, "native viewer", &serde_json::from_str(&dial.finish()?)?)?;
        let argument = json!({ "edge": address, "times": bench.count(CHROMIUM_TIMES) });
        note(sheet, "Chromium", &bench.browse("channel.mjs", &argument)?.finish()?)
    })?;
    sheet.remark(format!(
        "Loopback, one after the other: {} times by our own client with a certificate made before, {} times in one page. \
         In the page from `new RTCPeerConnection` to both channels open, its certificate, offer and answer included; a \
         page's first connection, slower, is one of them.",
        bench.count(NATIVE_TIMES),
        bench.count(CHROMIUM_TIMES)
    ));
    Ok(())
}

fn note(sheet: &mut Sheet, who: &str, said: &Value) -> anyhow::Result<()> {
    let times: Vec<f64> = serde_json::from_value(said["open_ms"].clone()).context("times to open")?;
    for percent in [50, 95] {
        let time = quantile(&times, percent).context("nothing was opened")?;
        sheet.note(&format!("{who}, p{percent}"), "ms", time);
    }
    Ok(())
}
