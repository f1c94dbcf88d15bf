//! What is published while something is measured.

use millstream_e2e::media::{Clip, Codecs};

/// 5 Mbit/s of 1080p30 with two B-frames, sound included: the stream that packagers are compared by.
pub(crate) const FULL: Clip = Clip {
    name: "bench-full-1",
    size: (1_920, 1_080),
    bitrate: 4_904_000,
    gop: 60,
    b_frames: 2,
    seconds: 60,
    codecs: Codecs::Usual,
};

/// The same without B-frames.
pub(crate) const STRAIGHT: Clip = Clip { name: "bench-straight-1", b_frames: 0, ..FULL };

/// What one viewer of a common live stream takes: 3 Mbit/s, sound included.
pub(crate) const COMMON: Clip =
    Clip { name: "bench-common-1", size: (1_280, 720), bitrate: 2_904_000, ..FULL };

/// 360p, which a browser decodes by the way: what its encoder makes of it is 3.9 Mbit/s.
pub(crate) const SMALL: Clip = Clip { name: "bench-small-1", size: (640, 360), ..FULL };

/// Hardly more than its sound: what viewers hold while almost nothing is sent.
pub(crate) const QUIET: Clip = Clip { name: "bench-quiet-1", size: (160, 90), bitrate: 40_000, ..FULL };
