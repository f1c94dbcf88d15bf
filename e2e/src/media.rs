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
    /// How it is coded.
    pub codecs: Codecs,
}

/// What a clip is coded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codecs {
    /// H.264 and AAC.
    Usual,
    /// AV1 and Opus, which go by enhanced RTMP.
    Free,
}

/// 1 Mbit/s, keyframes every two seconds, two B-frames as OBS and x264 use by default.
pub const PLAIN: Clip = Clip {
    name: "plain-1",
    size: (640, 360),
    bitrate: 900_000,
    gop: 60,
    b_frames: 2,
    seconds: 40,
    codecs: Codecs::Usual,
};

/// The same with a keyframe every eight seconds only.
pub const LONG_GOP: Clip = Clip {
    name: "long-gop-1",
    size: (640, 360),
    bitrate: 900_000,
    gop: 240,
    b_frames: 0,
    seconds: 40,
    codecs: Codecs::Usual,
};

/// Two encodings of the same frames: without B-frames, which each would place as it likes.
pub const HIGH: Clip = Clip {
    name: "high-1",
    size: (640, 360),
    bitrate: 900_000,
    gop: 60,
    b_frames: 0,
    seconds: 40,
    codecs: Codecs::Usual,
};

/// The other of them, in a quarter of the bytes.
pub const LOW: Clip = Clip { name: "low-1", size: (320, 180), bitrate: 220_000, ..HIGH };

/// AV1 and Opus. (An encoder that works in real time sees to bitrates: what is asked for is a hint.)
pub const FREE: Clip = Clip { name: "free-1", codecs: Codecs::Free, ..PLAIN };

impl Clip {
    /// The file, encoded now if it was not before.
    ///
    /// # Errors
    /// When ffmpeg is missing or fails.
    pub fn file(&self) -> anyhow::Result<PathBuf> {
        let folder = binaries()?.join("e2e-media");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.{}", self.name, self.container()));
        if !file.exists() {
            self.encode(&file)?;
        }
        Ok(file)
    }

    /// The program that can push it: enhanced RTMP wants a newer ffmpeg than Debian's.
    #[must_use]
    pub fn pusher(&self) -> PathBuf {
        match self.codecs {
            Codecs::Usual => PathBuf::from("ffmpeg"),
            Codecs::Free => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ffmpeg-8/ffmpeg"),
        }
    }

    const fn container(&self) -> &'static str {
        match self.codecs {
            Codecs::Usual => "flv",
            Codecs::Free => "mkv",
        }
    }

    fn encode(&self, file: &Path) -> anyhow::Result<()> {
        let unfinished = file.with_extension(format!("{}.{}", std::process::id(), self.container()));
        let (width, height) = self.size;
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=size={width}x{height}:rate=30:duration={}", self.seconds))
            .args(["-f", "lavfi", "-i"])
            .arg(format!("sine=frequency=440:sample_rate=48000:duration={}", self.seconds))
            .args(self.coding())
            .arg(&unfinished)
            .status()
            .context("ffmpeg is missing: scripts/setup-debian test installs it")?;
        ensure!(status.success(), "ffmpeg failed: {status}");
        fs::rename(unfinished, file)?;
        Ok(())
    }

    fn coding(&self) -> Vec<String> {
        let (bitrate, gop) = (self.bitrate, self.gop);
        let coding = match self.codecs {
            Codecs::Usual => format!(
                "-c:v libx264 -preset veryfast -pix_fmt yuv420p -sc_threshold 0 -b:v {bitrate} -maxrate {bitrate} \
                 -bufsize {bitrate} -g {gop} -keyint_min {gop} -bf {} -c:a aac -b:a 96k -ac 2 -f flv",
                self.b_frames
            ),
            Codecs::Free => format!(
                "-c:v libsvtav1 -preset 10 -pix_fmt yuv420p -b:v {bitrate} -g {gop} -c:a libopus -b:a 96k -ac 2"
            ),
        };
        coding.split_whitespace().map(str::to_owned).collect()
    }
}
