//! Media files to publish, encoded once and kept: a test must not fight its own encoder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::process::binaries;

/// A file to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clip {
    /// Its name among the kept files: change it with anything below.
    pub name: &'static str,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Bits a second of video.
    pub bitrate: u32,
    /// Frames from one keyframe to the next, at 30 a second.
    pub gop: u32,
    /// B-frames in a row.
    pub b_frames: u32,
    /// Seconds.
    pub seconds: u32,
}

/// 1 Mbit/s, keyframes every two seconds, two B-frames as OBS and x264 use by default.
pub const PLAIN: Clip =
    Clip { name: "plain-1", size: (640, 360), bitrate: 900_000, gop: 60, b_frames: 2, seconds: 40 };

/// The same with a keyframe every eight seconds only.
pub const LONG_GOP: Clip =
    Clip { name: "long-gop-1", size: (640, 360), bitrate: 900_000, gop: 240, b_frames: 0, seconds: 40 };

/// Two encodings of the same frames: without B-frames, which each would place as it likes.
pub const HIGH: Clip =
    Clip { name: "high-1", size: (640, 360), bitrate: 900_000, gop: 60, b_frames: 0, seconds: 40 };

/// The other of them, in a quarter of the bytes.
pub const LOW: Clip = Clip { name: "low-1", size: (320, 180), bitrate: 220_000, ..HIGH };

impl Clip {
    /// The file, encoded now if it was not before.
    ///
    /// # Errors
    /// When ffmpeg is missing or fails.
    pub fn file(&self) -> anyhow::Result<PathBuf> {
        let folder = binaries()?.join("e2e-media");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.flv", self.name));
        if !file.exists() {
            self.encode(&file)?;
        }
        Ok(file)
    }

    fn encode(&self, file: &Path) -> anyhow::Result<()> {
        let unfinished = file.with_extension(format!("{}.flv", std::process::id()));
        let (width, height) = self.size;
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=size={width}x{height}:rate=30:duration={}", self.seconds))
            .args(["-f", "lavfi", "-i"])
            .arg(format!("sine=frequency=440:sample_rate=48000:duration={}", self.seconds))
            .args(["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-sc_threshold", "0"])
            .args(["-b:v", &self.bitrate.to_string(), "-maxrate", &self.bitrate.to_string()])
            .args(["-bufsize", &self.bitrate.to_string(), "-g", &self.gop.to_string()])
            .args(["-keyint_min", &self.gop.to_string(), "-bf", &self.b_frames.to_string()])
            .args(["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-f", "flv"])
            .arg(&unfinished)
            .status()
            .context("ffmpeg is missing: scripts/setup-debian test installs it")?;
        ensure!(status.success(), "ffmpeg failed: {status}");
        fs::rename(unfinished, file)?;
        Ok(())
    }
}
