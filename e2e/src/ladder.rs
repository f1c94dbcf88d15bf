//! A packager with two renditions of the pictures, built around the product's library: its publisher pushes one
//! encoding, and for each frame of it the same frame of another encoding is at hand.
//!
//! The product signs what its publisher sends. Everything behind that, catalog, playlists, feeds, edges and players,
//! knows renditions in groups, and is shown here to.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millstream_model::{RenditionId, StreamId, WallTime};
use millstream_packager::{
    Addresses, Config, Packager,
    pipeline::{Pipeline, Pipelines},
};
use millstream_segmenter::{
    self as segmenter, Input, Output, Sample, Segmenter, TrackConfig, TrackKind, VIDEO,
};
use millstream_service::{Secret, ops};
use tokio::sync::oneshot;

use crate::{flv, media::Clip};

/// The second rendition of the pictures.
pub const LOW: RenditionId = RenditionId(2);

/// The two renditions' names.
pub const NAMES: [&str; 2] = ["video", "video-2"];

/// Each frame of one clip and what it is in another.
#[derive(Debug)]
pub struct Twins {
    config: Bytes,
    frames: HashMap<Bytes, Bytes>,
}

impl Twins {
    /// The frames of `high`, which is published, and those of `low`.
    ///
    /// # Errors
    /// When a clip cannot be made, or the two are not the same frames.
    pub fn of(high: &Clip, low: &Clip) -> anyhow::Result<Arc<Self>> {
        let (high, low) = (flv::pictures(&high.file()?)?, flv::pictures(&low.file()?)?);
        ensure!(
            high.frames.len() == low.frames.len(),
            "{} and {} frames",
            high.frames.len(),
            low.frames.len()
        );
        let mut frames = HashMap::new();
        for (own, twin) in high.frames.iter().zip(&low.frames) {
            ensure!(own.time == twin.time && own.keyframe == twin.keyframe, "{own:?} is not {twin:?}");
            let before = frames.insert(own.data.clone(), twin.data.clone());
            ensure!(before.is_none(), "two frames are the same: which is meant cannot be told");
        }
        Ok(Arc::new(Self { config: low.config, frames }))
    }

    /// The same input, of the other encoding. What has no twin is left out.
    fn input(&self, input: &Input) -> Option<Input> {
        match input {
            Input::Config(TrackConfig::H264(_)) => {
                Some(Input::Config(TrackConfig::H264(self.config.clone())))
            }
            Input::Sample(sample) if sample.track == TrackKind::Video => {
                let data = self.frames.get(&sample.data)?.clone();
                Some(Input::Sample(Sample { data, ..sample.clone() }))
            }
            other => Some(other.clone()),
        }
    }
}

/// Begins a pipeline with two segmenters for each show.
struct Ladder(Arc<Twins>);

impl Pipelines for Ladder {
    fn begin(&self, _stream: &StreamId, config: segmenter::Config) -> Box<dyn Pipeline> {
        let segmenters = [Segmenter::new(config), Segmenter::new(config)];
        Box::new(Rungs { twins: Arc::clone(&self.0), segmenters, out: VecDeque::new() })
    }
}

/// Two segmenters in step: they are given the same frames of the same times, so they cut at the same places.
struct Rungs {
    twins: Arc<Twins>,
    segmenters: [Segmenter; 2],
    out: VecDeque<Output>,
}

impl Pipeline for Rungs {
    fn handle(&mut self, input: Input, now: WallTime) {
        let [high, low] = &mut self.segmenters;
        if let Some(twin) = self.twins.input(&input) {
            low.handle(twin, now);
        }
        high.handle(input, now);
        let mut second: VecDeque<Output> = std::iter::from_fn(|| low.poll()).filter_map(of_low).collect();
        while let Some(output) = high.poll() {
            // What describes the parts stands before them, in both.
            if let Output::Tracks(mut tracks) = output {
                if let Some(Output::Tracks(more)) = second.pop_front() {
                    tracks.extend(more);
                }
                self.out.push_back(Output::Tracks(tracks));
            } else {
                self.out.push_back(output);
            }
        }
        self.out.extend(second);
    }

    fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}

/// Of the second segmenter only the pictures count: the sound is the same.
fn of_low(output: Output) -> Option<Output> {
    match output {
        Output::Tracks(mut tracks) => {
            tracks.retain(|track| track.rendition == VIDEO);
            tracks.iter_mut().for_each(|track| track.rendition = LOW);
            Some(Output::Tracks(tracks))
        }
        Output::Part(part) if part.rendition == VIDEO => {
            Some(Output::Part(segmenter::Part { rendition: LOW, ..part }))
        }
        _ => None,
    }
}

/// A packager of one's own, in this process.
#[derive(Debug)]
pub struct Own {
    /// Where it is.
    pub addresses: Addresses,
    /// Gone with this value, and the packager with them.
    _stop: oneshot::Sender<()>,
    _runtime: tokio::runtime::Runtime,
}

impl Own {
    /// Starts it at a tracker; viewers and edges are told that its origin is at `public`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(
        twins: &Arc<Twins>,
        tracker: (&str, &str),
        public: String,
        data: &Path,
    ) -> anyhow::Result<Self> {
        let local: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config =
            Config { data: data.to_path_buf(), ops: ops::Config { listen: local }, ..Config::default() };
        (config.tracker.url, config.tracker.token) =
            (tracker.0.to_owned(), Secret::new(tracker.1.to_owned()));
        (config.rtmp.listen, config.origin.listen) = (local, local);
        config.origin.public_url = public;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let pipelines = Arc::new(Ladder(Arc::clone(twins)));
        let packager =
            runtime.block_on(Packager::load_with(config, pipelines)).context("a packager of our own")?;
        let addresses = packager.addresses().clone();
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(async move { packager.run(async move { drop(stopped.await) }).await });
        Ok(Self { addresses, _stop: stop, _runtime: runtime })
    }
}
