//! The pictures of an FLV file, as `ffmpeg -c copy` pushes them.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;

/// The file's header, and the size of no tag before the first.
const HEADER_BYTES: usize = 13;

const TAG_BYTES: usize = 11;

const VIDEO_TAG: u8 = 9;

const H264: u8 = 7;

/// A file's pictures.
#[derive(Debug)]
pub struct Pictures {
    /// The decoder's configuration.
    pub config: Bytes,
    /// The frames, in the file's order.
    pub frames: Vec<Frame>,
}

/// A coded frame.
#[derive(Debug)]
pub struct Frame {
    /// Decode time in milliseconds, and what presentation adds to it.
    pub time: (u32, i32),
    /// A decoder can start here.
    pub keyframe: bool,
    /// Its bytes.
    pub data: Bytes,
}

/// Reads a file of H.264.
///
/// # Errors
/// When it is none.
pub fn pictures(file: &Path) -> anyhow::Result<Pictures> {
    let all = Bytes::from(std::fs::read(file).with_context(|| file.display().to_string())?);
    let mut rest = all.get(HEADER_BYTES..).map(|tags| all.slice_ref(tags)).context("no FLV file")?;
    let (mut config, mut frames) = (None, Vec::new());
    while rest.len() > TAG_BYTES {
        let head = rest.split_to(TAG_BYTES);
        let size = usize::try_from(u32::from_be_bytes([0, head[1], head[2], head[3]]))?;
        ensure!(rest.len() >= size + 4, "a tag is cut short");
        let body = rest.split_to(size);
        let _size_again = rest.split_to(4);
        if head[0] != VIDEO_TAG || body.len() < 5 {
            continue;
        }
        ensure!(body[0] & 0x0f == H264, "no H.264");
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        // 24 bits, signed.
        let offset = i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8;
        match body[1] {
            0 => config = Some(body.slice(5..)),
            1 => frames.push(Frame {
                time: (time, offset),
                keyframe: body[0] >> 4 == 1,
                data: body.slice(5..),
            }),
            2 => {}
            other => bail!("a packet of type {other}"),
        }
    }
    Ok(Pictures { config: config.context("no configuration")?, frames })
}
