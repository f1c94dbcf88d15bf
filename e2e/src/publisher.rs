//! A real publisher: ffmpeg pushes a file over and over, at its own pace, without encoding.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{media::Clip, process::Process};

/// Publishers so far, so that each has a log of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Starts to push `clip` to `url`, an RTMP URL with the stream key.
///
/// # Errors
/// When the clip cannot be made or ffmpeg cannot be started.
pub fn push(clip: &Clip, url: &str, logs: &Path) -> anyhow::Result<Process> {
    push_to_all(clip, &[url.to_owned()], logs)
}

/// Starts to push `clip` to all `urls` at once, the same frames at the same time.
///
/// # Errors
/// As [`push`].
pub fn push_to_all(clip: &Clip, urls: &[String], logs: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(clip.pusher());
    command.args(["-v", "warning", "-re", "-stream_loop", "-1", "-i"]).arg(clip.file()?);
    for url in urls {
        command.args(["-c", "copy", "-f", "flv", url]);
    }
    let log = logs.join(format!("publisher-{}.log", STARTED.fetch_add(1, Relaxed) + 1));
    Process::start("ffmpeg", &mut command, &log)
}
