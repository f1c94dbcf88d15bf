//! A packager over half an hour whose publisher goes and comes back all the time: what it keeps, and whether its
//! playlists stay as they must be.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use millstream_e2e::{process::Process, stack::Stack, time::go_on};

use super::Bench;
use crate::{clips::COMMON, sheet::Sheet};

const STREAM: &str = "show";
const RENDITIONS: [&str; 2] = ["video", "audio"];

/// How long it lasts, and from when on its memory is looked at: windows are full and the allocator is warm by then.
const TIME: Duration = Duration::from_mins(30);
const WARM: Duration = Duration::from_mins(5);
const SHORT: Duration = Duration::from_secs(40);
const SHORT_WARM: Duration = Duration::from_secs(20);

/// How long each publisher stays.
const STAY: Duration = Duration::from_secs(20);
const SHORT_STAY: Duration = Duration::from_secs(8);

/// How often the playlists are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Readings of the memory that the figure is the lowest of: one may fall on a keyframe.
const READINGS: usize = 15;

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (time, warm, stay) = if bench.short { (SHORT, SHORT_WARM, SHORT_STAY) } else { (TIME, WARM, STAY) };
    COMMON.file()?;
    let apart = Stack::apart()?;
    let (stack, packager) = (&apart.stack, &apart.packager.process);
    let created = stack.create(STREAM)?;
    let mut publisher = stack.push(&created, &COMMON)?;
    stack.live(STREAM)?;
    let origin = stack.origin(STREAM)?;
    let began = Instant::now();
    let (mut publishers, mut looks) = (1_u32, 0_u32);
    let mut early = None;
    while began.elapsed() < time {
        let came = Instant::now();
        while came.elapsed() < stay {
            origin.follows_the_rules(&RENDITIONS).context("a playlist broke a rule")?;
            looks += 1;
            go_on(LOOK_EVERY);
        }
        if early.is_none() && began.elapsed() >= warm {
            early = Some(Held::by(packager)?);
        }
        ensure!(publisher.is_running(), "publisher {publishers} ended: {}", publisher.log());
        // By turns with a goodbye and without one.
        if publishers.is_multiple_of(2) {
            publisher.kill();
        } else {
            publisher.stop()?;
        }
        publisher = stack.push(&created, &COMMON)?;
        publishers += 1;
        bench.progress(&format!("  publisher {publishers}, {:.1} MiB", Held::by(packager)?.mib));
    }
    let early = early.context("it ended before it was warm")?;
    let late = Held::by(packager)?;
    sheet.note("resident, early", "MiB", early.mib);
    sheet.note("resident, at the end", "MiB", late.mib);
    sheet.note("more at the end", "MiB", late.mib - early.mib);
    sheet.note("threads, more at the end", "count", late.threads - early.threads);
    sheet.note("open files, more at the end", "count", late.files - early.files);
    sheet.note("publishers", "count", f64::from(publishers));
    sheet.note("playlists checked", "count", f64::from(looks) * RENDITIONS.len() as f64);
    sheet.remark(format!(
        "One run of {} min. One stream of 3 Mbit/s whose publisher (ffmpeg) stays {} s, ends by turns with a goodbye and \
         by SIGKILL, and is followed by another at once. Early is after {} min. Playlists of both renditions are held to \
         RFC 8216bis and to each other every second (`crates/playlist/src/check.rs`); one broken rule ends the run. \
         Memory is the lowest of {READINGS} readings a tenth of a second apart.",
        time.as_secs() / 60,
        stay.as_secs(),
        warm.as_secs() / 60,
    ));
    Ok(())
}

/// What a process holds.
struct Held {
    mib: f64,
    threads: f64,
    files: f64,
}

impl Held {
    fn by(process: &Process) -> anyhow::Result<Self> {
        let count = |what: &str| -> anyhow::Result<f64> {
            let entries = fs::read_dir(format!("/proc/{}/{what}", process.id()))?;
            Ok(f64::from(u32::try_from(entries.count())?))
        };
        let mut lowest = u64::MAX;
        for _ in 0..READINGS {
            lowest = lowest.min(process.resident_bytes()?);
            go_on(Duration::from_millis(100));
        }
        Ok(Self { mib: lowest as f64 / 1_048_576.0, threads: count("task")?, files: count("fd")? })
    }
}
