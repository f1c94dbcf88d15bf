//! What the segmenter's tests share: a synthetic publisher, and the rules that every output must keep.
#![allow(dead_code, reason = "every test program uses its own selection")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so and stop")]

pub(crate) mod flv;
pub(crate) mod publisher;
pub(crate) mod rules;

use millstream_model::{RenditionId, WallTime};
use millstream_segmenter::{Complaint, Config, Input, Output, Part, Segmenter, Track};

/// A segmenter and everything it has put out.
pub(crate) struct World {
    pub(crate) segmenter: Segmenter,
    pub(crate) outputs: Vec<Output>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self { segmenter: Segmenter::new(config), outputs: Vec::new() }
    }

    /// A segmenter that gives its pictures, too.
    pub(crate) fn with_pictures() -> Self {
        Self { segmenter: Segmenter::new(Config::default()).with_pictures(), outputs: Vec::new() }
    }

    pub(crate) fn handle(&mut self, input: Input, wall: WallTime) {
        self.segmenter.handle(input, wall);
        while let Some(output) = self.segmenter.poll() {
            self.outputs.push(output);
        }
    }

    pub(crate) fn handle_all(&mut self, inputs: impl IntoIterator<Item = (Input, WallTime)>) {
        for (input, wall) in inputs {
            self.handle(input, wall);
        }
    }

    pub(crate) fn tracks(&self) -> Vec<&Vec<Track>> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Tracks(tracks) => Some(tracks),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn parts(&self, rendition: RenditionId) -> Vec<&Part> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Part(part) if part.rendition == rendition => Some(part),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Complaint(complaint) => Some(complaint.clone()),
                _ => None,
            })
            .collect()
    }

    /// Durations of the segments of a rendition, in ticks.
    pub(crate) fn segments(&self, rendition: RenditionId) -> Vec<u64> {
        let mut durations: Vec<u64> = Vec::new();
        for part in self.parts(rendition) {
            if part.first {
                durations.push(0);
            }
            *durations.last_mut().unwrap() += u64::from(part.duration);
        }
        durations
    }

    /// Panics when a rule is broken.
    pub(crate) fn check(&self) {
        rules::check(&self.outputs);
    }
}
