//! Samples in; CMAF parts and segments out, cut in decode time.
//!
//! A pure core for the packager: it takes what an ingest hands over and the wall's time, and gives tracks (init
//! segments and what a catalog says of them) and parts. Feed it with [`Segmenter::handle`] and drain
//! [`Segmenter::poll`] after each call until it is empty. What never belongs here: sockets, clocks, signing,
//! playlists, storage.
//!
//! A sample's way: it waits in `hold` until the stream can start; `timeline`, the only place that knows time, says
//! where in the stream it lies; `video` and `audio` give it a duration and see to gaps; `cut` decides which part
//! and segment it ends up in; `cmaf` writes the boxes, and `press` puts them out. `cadence` chooses part targets,
//! `roster` remembers what tracks were put out, `codec` reads decoder configurations. `follow` cuts other encodings of
//! the same pictures where these were cut.
#![forbid(unsafe_code)]

mod audio;
mod cadence;
mod cmaf;
pub mod codec;
mod cut;
mod follow;
mod gop;
mod hold;
mod output;
mod press;
mod roster;
mod sample;
mod segmenter;
mod timeline;
mod track;
mod video;

pub use follow::{Coded, Follow, Follower, ROUNDING_TICKS, describe};
pub use output::{AUDIO, Complaint, Media, Output, Part, Picture, TARGET_DURATION_MS, Track, VIDEO};
pub use sample::{Sample, TrackConfig, TrackKind};
pub use segmenter::{Config, Input, NextSegment, SAMPLE_BYTES_MAX, Segmenter};
