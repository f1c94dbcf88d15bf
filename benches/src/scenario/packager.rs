//! What taking in a stream costs: our packager beside nginx-rtmp, at the same time, from the same file by the same
//! publisher.

use std::time::Duration;

use anyhow::ensure;
use millstream_e2e::{process::Process, publisher, stack::Stack, time::go_on};

use super::Bench;
use crate::{clips::FULL, cost, peer, sheet::Sheet};

const STREAMS: u32 = 4;
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
        let apart = Stack::apart()?;
        let (stack, folder) = (&apart.stack, apart.stack.folder());
        let unpacked = peer::unpacked()?;
        let hls = peer::Nginx::start(&unpacked, folder, "nginx-hls", true)?;
        let relay = peer::Nginx::start(&unpacked, folder, "nginx-relay", false)?;
        let mut publishers = Vec::new();
        for number in 1..=STREAMS {
            let name = format!("show-{number}");
            let ours = format!("{}/{}", stack.ready.rtmp, stack.create(&name)?.stream_key);
            for url in [ours, hls.url(&name), relay.url(&name)] {
                publishers.push(publisher::push(&FULL, &url, folder)?);
            }
        }
        for number in 1..=STREAMS {
            stack.live(&format!("show-{number}"))?;
        }
        go_on(SETTLE);
        let servers = [(OURS, &apart.packager.process), (HLS, &hls.process), (RELAY, &relay.process)];
        let cpu = |process: &Process| cost::cpu_seconds(process.id());
        let before = servers.iter().map(|(_, process)| cpu(process)).collect::<Result<Vec<_>, _>>()?;
        go_on(window);
        for ((name, process), before) in servers.iter().zip(before) {
            let share = (cpu(process)? - before) * 100.0 / window.as_secs_f64() / f64::from(STREAMS);
            sheet.note(name, "% of a core", share);
        }
        for (name, process) in servers {
            let mib = process.resident_bytes()? as f64 / 1_048_576.0 / f64::from(STREAMS);
            sheet.note(&format!("memory, {name}"), "MiB", mib);
        }
        for (number, publisher) in publishers.iter_mut().enumerate() {
            ensure!(publisher.is_running(), "publisher {number} ended: {}", publisher.log());
        }
        for number in 1..=STREAMS {
            ensure!(hls.has_segments(&format!("show-{number}")), "nginx wrote no segment");
        }
        Ok(())
    })?;
    sheet.beside(OURS, HLS);
    sheet.beside(RELAY, HLS);
    sheet.remark(format!(
        "{STREAMS} streams of 5 Mbit/s 1080p30 to each of the three at the same time, every one pushed by an ffmpeg of its \
         own with `-c copy` from the same file, no viewers; {} s; divided by {STREAMS}. Ours cuts parts of 250 ms and \
         segments of 2 s as CMAF, hashes and signs them, and keeps a minute in memory; nginx writes MPEG-TS segments of \
         2 s to disk (the kernel's writing back is nobody's); memory is resident, each program \
         itself included, with as much of our minute of media as has come by then.",
        window.as_secs()
    ));
    Ok(())
}
