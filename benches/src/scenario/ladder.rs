//! What a ladder costs: our packager beside ffmpeg, at the same time, from the same file, with the same settings of x264.

use std::process::Command;

use anyhow::{Context as _, ensure};
use millstream_e2e::{
    api::Api,
    process::Process,
    program::{PACKAGER, Program},
    publisher,
    time::go_on,
};
use serde_json::Value;

use super::Bench;
use crate::{clips::FULL, cost, sheet::Sheet};

const WINDOW_SECONDS: u32 = 40;

/// Until encoders run and their buffers are full.
const SETTLE_SECONDS: u32 = 6;

/// The rungs: width, lines, kbit/s.
const RUNGS: [(u32, u32, u32); 3] = [(1_280, 720, 2_800), (854, 480, 1_300), (640, 360, 730)];

const KEY: &str = "bench-ladder-0123456789";

const OURS: &str = "packager: 1080p30 passed through, 720p, 480p, 360p";
const FFMPEG: &str = "ffmpeg: decode, 720p, 480p, 360p, nothing written";

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    FULL.file()?;
    bench.each_run(|| side_by_side(bench, sheet))?;
    sheet.beside(OURS, FFMPEG);
    sheet.remark(format!(
        "One stream of 5 Mbit/s 1080p30 with two B-frames, from the same file at its own pace; {} s; processor time of the \
         whole process. Both decode with one thread of libavcodec and encode with libx264, veryfast, zerolatency, one \
         thread a rung, a keyframe each 2 s, the rates held within a second. Ours takes the stream by RTMP, passes it \
         through, cuts, hashes and signs all four renditions; ffmpeg scales by its usual filter and throws away what it \
         made.",
        bench.seconds(WINDOW_SECONDS).as_secs()
    ));
    Ok(())
}

fn side_by_side(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let steps: Vec<String> = RUNGS.iter().map(|(_, lines, kbps)| format!("{lines}p@{kbps}k")).collect();
    let local = format!("[{{ stream = \"show\", key = \"{KEY}\" }}]");
    let steps = steps.join(",");
    let settings =
        [("local", local.as_str()), ("renditions.default", &steps), ("renditions.cpu_cores_max", "64.0")];
    let packager = Program::start(PACKAGER, "packager", folder.path(), &settings)?;
    let url = format!("rtmp://{}/live/{KEY}", packager.said("rtmp")?);
    let mut publisher = publisher::push_to_all(&FULL, &[url], folder.path())?;
    let mut ffmpeg = encode(folder.path())?;
    let ops = Api::new(packager.ops(), "")?;
    let there = |status: &Value| {
        let renditions = status["streams"][0]["renditions"].as_array()?;
        (renditions.iter().filter(|one| one["segment"].is_u64()).count() == RUNGS.len() + 2).then_some(())
    };
    ops.wait("/v1/status", bench.seconds(30), there).context("the ladder's renditions")?;
    go_on(bench.seconds(SETTLE_SECONDS));
    let window = bench.seconds(WINDOW_SECONDS);
    let programs: [(&str, &Process); 2] = [(OURS, &packager.process), (FFMPEG, &ffmpeg)];
    let cpu = |(_, process): &(&str, &Process)| cost::cpu_seconds(process.id());
    let before = programs.iter().map(cpu).collect::<Result<Vec<_>, _>>()?;
    go_on(window);
    for (program, before) in programs.iter().zip(before) {
        sheet.note(program.0, "cores", (cpu(program)? - before) / window.as_secs_f64());
    }
    let dropped = String::from_utf8(ops.bytes("/metrics")?)?;
    let dropped = dropped
        .lines()
        .find_map(|line| line.strip_prefix("millstream_packager_ladder_pictures_dropped_total "))
        .context("no count of pictures that were left out")?
        .trim()
        .parse()?;
    sheet.note(&format!("{OURS}, pictures left out"), "", dropped);
    ensure!(publisher.is_running(), "the publisher ended: {}", publisher.log());
    ensure!(ffmpeg.is_running(), "ffmpeg ended: {}", ffmpeg.log());
    Ok(())
}

/// The same ladder by ffmpeg.
fn encode(folder: &std::path::Path) -> anyhow::Result<Process> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-threads", "1", "-re", "-stream_loop", "-1", "-i"]).arg(FULL.file()?);
    let names: String = RUNGS.iter().map(|(_, lines, _)| format!("[s{lines}]")).collect();
    let scaled: Vec<String> =
        RUNGS.iter().map(|(width, lines, _)| format!("[s{lines}]scale={width}:{lines}[o{lines}]")).collect();
    let filter = format!("[0:v]split={}{names};{}", RUNGS.len(), scaled.join(";"));
    command.args(["-filter_complex", &filter]);
    for (_, lines, kbps) in RUNGS {
        let (rate, map) = (format!("{kbps}k"), format!("[o{lines}]"));
        command.args(["-map", &map, "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency"]);
        command.args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate, "-threads", "1"]);
        command.args(["-x264-params", "scenecut=0:keyint=60:min-keyint=60", "-f", "null", "-"]);
    }
    Process::start("ffmpeg-ladder", &mut command, &folder.join("ffmpeg-ladder.log"))
}
