//! A real publisher: ffmpeg pushes a file over and over, at its own pace, without encoding.

use std::{path::Path, process::Command};

use crate::{media::Clip, process::Process};

/// Starts to push `clip` to `url`, an RTMP URL with the stream key.
///
/// # Errors
/// When the clip cannot be made or ffmpeg cannot be started.
pub fn push(clip: &Clip, url: &str, logs: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "warning", "-re", "-stream_loop", "-1", "-i"])
        .arg(clip.file()?)
        .args(["-c", "copy", "-f", "flv", url]);
    Process::start("ffmpeg", &mut command, &logs.join("publisher.log"))
}
