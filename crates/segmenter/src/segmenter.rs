//! The segmenter itself.

use millstream_model::WallTime;

use crate::{
    output::Output,
    sample::{Sample, TrackConfig},
};

/// Bytes of one sample at most: half of what a part may have, a keyframe of 8K video.
pub const SAMPLE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a stream's numbers go on. The default is a new stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// The media sequence number of the first segment of each rendition.
    pub next_segment: NextSegment,
    /// The discontinuity sequence number of the first part.
    pub next_discontinuity: u32,
    /// The stream's media time at its first keyframe, in milliseconds. Not before the end of what was put out under
    /// the numbers before these.
    pub media_start_ms: u64,
}

/// The media sequence number of the next segment, by rendition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextSegment {
    /// Of [`crate::VIDEO`].
    pub video: u64,
    /// Of [`crate::AUDIO`].
    pub audio: u64,
}

/// What happens to a segmenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A track's decoder configuration (an RTMP sequence header). Repeating it changes nothing.
    Config(TrackConfig),
    /// A coded frame.
    Sample(Sample),
    /// The publisher left; it or another may come back, which its next configuration or sample says. What is whole
    /// is put out.
    Gone,
    /// The stream ends for good.
    End,
}

/// Turns a publisher's samples into parts. See the crate's head.
#[derive(Debug)]
pub struct Segmenter {
    config: Config,
}

impl Segmenter {
    /// A segmenter before its first publisher.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes what happened at `wall`. Drain [`Self::poll`] after each call.
    pub fn handle(&mut self, input: Input, wall: WallTime) {
        let _ = (input, wall, self.config);
    }

    /// The next output; `None` when there is none until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }
}
