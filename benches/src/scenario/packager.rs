//! What taking in a stream costs: our packager beside nginx-rtmp, at the same time, from the same file by the same
//! publisher.

use std::time::Duration;

use anyhow::ensure;
use millstream_e2e::{process::Process, publisher, stack::Stack, time::go_on};

use super::Bench;
use crate::{clips::FULL, cost, peer, sheet::Sheet};

/// Streams at a time, a row of the table each.
const CROWDS: [u32; 3] = [1, 10, 100];

/// Where so many push, all the others' processor time is needed for publishers: the relay is left out.
const RELAYED_MAX: u32 = 10;

const WINDOW_SECONDS: u32 = 30;

/// Until everybody has written a segment and playlists are as long as they will be asked for.
const SETTLE: Duration = Duration::from_secs(8);

const OURS: &str = "packager: signed LL-HLS in memory";
const HLS: &str = "nginx-rtmp: HLS into files";
const RELAY: &str = "nginx-rtmp: relay, no HLS";

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let window = bench.seconds(WINDOW_SECONDS);
    FULL.file()?;
    bench.each_run(|| {
        for streams in CROWDS {
            bench.progress(&format!("{streams} streams"));
            side_by_side(streams, window, sheet)?;
        }
        Ok(())
    })?;
    for streams in CROWDS {
        sheet.beside(&row(streams, OURS), &row(streams, HLS));
        sheet.beside(&row(streams, RELAY), &row(streams, HLS));
    }
    sheet.remark(format!(
        "Streams of 5 Mbit/s 1080p30 to all servers at the same time, each pushed by one ffmpeg with `-c copy` to every \
         server, no viewers; {} s; processor time divided by the number of streams. Ours cuts parts of 250 ms and \
         segments of 2 s as CMAF, hashes and signs them, and keeps a minute in memory; nginx writes MPEG-TS segments of \
         2 s to disk (the kernel's writing back is nobody's), with its usual chunk size (4,096). Memory is resident, \
         each program itself included, a stream; the window is the media that came by then, which ours keeps in memory \
         and nginx on disk.",
        window.as_secs()
    ));
    Ok(())
}

fn row(streams: u32, server: &str) -> String {
    format!("{streams} × {server}")
}

fn side_by_side(streams: u32, window: Duration, sheet: &mut Sheet) -> anyhow::Result<()> {
    let apart = Stack::apart()?;
    let (stack, folder) = (&apart.stack, apart.stack.folder());
    let unpacked = peer::unpacked()?;
    let hls = peer::Nginx::start(&unpacked, folder, "nginx-hls", true)?;
    let relay = (streams <= RELAYED_MAX)
        .then(|| peer::Nginx::start(&unpacked, folder, "nginx-relay", false))
        .transpose()?;
    let names: Vec<String> = (1..=streams).map(|number| format!("show-{number}")).collect();
    let mut publishers = Vec::new();
    for name in &names {
        let ours = format!("{}/{}", stack.ready.rtmp, stack.create(name)?.stream_key);
        let mut urls = vec![ours, hls.url(name)];
        urls.extend(relay.as_ref().map(|relay| relay.url(name)));
        publishers.push(publisher::push_to_all(&FULL, &urls, folder)?);
    }
    for name in &names {
        stack.live(name)?;
    }
    go_on(SETTLE);
    let mut servers = vec![(OURS, &apart.packager.process), (HLS, &hls.process)];
    servers.extend(relay.as_ref().map(|relay| (RELAY, &relay.process)));
    let cpu = |process: &Process| cost::cpu_seconds(process.id());
    let before = servers.iter().map(|(_, process)| cpu(process)).collect::<Result<Vec<_>, _>>()?;
    go_on(window);
    for ((name, process), before) in servers.iter().zip(before) {
        let share = (cpu(process)? - before) * 100.0 / window.as_secs_f64() / f64::from(streams);
        sheet.note(&row(streams, name), "% of a core", share);
    }
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0 / f64::from(streams);
    for (name, process) in servers {
        sheet.note(&format!("{}, memory", row(streams, name)), "MiB", mib(process.resident_bytes()?));
    }
    let window_bytes = stack.packager_status()?.window_bytes;
    sheet.note(&format!("{}, window", row(streams, OURS)), "MiB", mib(window_bytes));
    for (number, publisher) in publishers.iter_mut().enumerate() {
        ensure!(publisher.is_running(), "publisher {number} ended: {}", publisher.log());
    }
    for name in &names {
        ensure!(hls.has_segments(name), "nginx wrote no segment");
    }
    Ok(())
}
