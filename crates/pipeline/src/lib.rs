//! The one place of the product that knows GStreamer: decode, scale, encode, demux, thumbnails.
//!
//! A shell: it holds GStreamer's pipelines and threads, and hands out samples and pictures. What never belongs here:
//! HTTP, settings, signing, what a stream is; and no sample of a passthrough stream comes by, so a packager that
//! only passes through never starts GStreamer.

pub mod demux;
pub mod ladder;

use std::sync::OnceLock;

use thiserror::Error;

/// GStreamer did not start, and will not in this process.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("GStreamer does not start: {0}; on Debian, `scripts/setup-debian run` installs what it needs")]
pub struct Absent(String);

/// Starts GStreamer, once in a process. Everything here calls it before anything else; calling it again costs
/// nothing and says the same.
///
/// # Errors
/// [`Absent`] when it does not start.
pub fn init() -> Result<(), Absent> {
    static STARTED: OnceLock<Result<(), Absent>> = OnceLock::new();
    STARTED.get_or_init(|| gst::init().map_err(|error| Absent(error.to_string()))).clone()
}

#[cfg(test)]
mod tests {
    #[test]
    fn gstreamer_starts_however_often_it_is_asked() {
        assert_eq!(super::init(), Ok(()));
        assert_eq!(super::init(), Ok(()));
    }
}
