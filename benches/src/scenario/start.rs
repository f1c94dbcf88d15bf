//! How soon a page shows a picture and how far behind live it plays: the player on the swarm beside plain hls.js on the
//! same origin, turn by turn in the same Chromium.

use anyhow::{Context as _, ensure};
use millstream_e2e::stack::Stack;
use serde_json::{Value, json};

use super::Bench;
use crate::{clips::SMALL, sheet::Sheet};

/// A browser's start varies more than anything else here.
const ROUNDS_MIN: u32 = 7;

const SWARM: &str = "player on the swarm";
const PLAIN: &str = "plain hls.js";

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let rounds = if bench.short { 1 } else { bench.runs.max(ROUNDS_MIN) };
    let apart = Stack::apart()?;
    let stack = &apart.stack;
    let _edges = [stack.edge("edge-1")?, stack.edge("edge-2")?];
    let (_publisher, created) = stack.publish("show", &SMALL)?;
    let argument = json!({
        "tracker": stack.ready.tracker,
        "origin": stack.ready.origin,
        "stream": "show",
        "verifyKey": created.root_public_key,
        "rounds": rounds,
        "settle": if bench.short { 4 } else { 8 },
        "seconds": if bench.short { 2 } else { 6 },
    });
    let said = bench.browse("first-frame.mjs", &argument)?.finish()?;
    for round in said["rounds"].as_array().context("rounds")? {
        ensure!(round["swarm"]["mode"] == "swarm", "it did not play in the swarm: {round}");
        ensure!(round["swarm"]["edge_bytes"].as_u64() > Some(0), "edges sent nothing: {round}");
        for (who, seen) in [(SWARM, &round["swarm"]), (PLAIN, &round["plain"])] {
            let number = |field: &str| seen[field].as_f64().with_context(|| format!("no {field} in {round}"));
            sheet.note(&format!("first frame, {who}"), "ms", number("frame_ms")?);
            sheet.note(&format!("it plays, {who}"), "ms", number("plays_ms")?);
            sheet.note(&format!("behind live, {who}"), "ms", number("latency_ms")?);
            sheet.note(&format!("stood still, {who}"), "ms", number("stood_ms")?);
        }
    }
    for what in ["first frame", "it plays", "behind live"] {
        sheet.beside(&format!("{what}, {SWARM}"), &format!("{what}, {PLAIN}"));
    }
    ensure!(said["errors"] == Value::Array(Vec::new()), "the pages complained: {said}");
    sheet.remark(
        "Two pages that differ in the player alone, from the same server, each time in a new context (no cache) of one \
         Chromium, the order changing from round to round, after one round that is not counted. From the page's \
         navigation to the first frame presented (`requestVideoFrameCallback`), scripts included; it plays when the \
         playhead has moved by 100 ms. Behind live: now minus the program date time at the playhead, the median from 8 s \
         to 14 s. The player keeps its default target (3 s); hls.js has its default settings and takes what the playlist \
         says (low-latency mode, PART-HOLD-BACK). Stood still: time after the first 100 ms, up to the end, in which the \
         playhead did not move. 360p at 3.9 Mbit/s on loopback.",
    );
    Ok(())
}
