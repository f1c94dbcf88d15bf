//! From a publisher's samples to parts: a place for programs of one's own around this library to make more
//! renditions of a stream than its publisher sends. The product cuts what it gets, and has no setting that says
//! otherwise.

use millstream_model::{StreamId, WallTime};
use millstream_segmenter::{Config, Input, Output, Segmenter};

/// Cuts one show. Speaks the segmenter's grammar: handle an input, then poll until nothing comes.
///
/// [`Output::Tracks`] lists all renditions, those with pictures from the highest rate down. The publisher's own are
/// [`millstream_segmenter::VIDEO`] and [`millstream_segmenter::AUDIO`]; others have other numbers, and their parts
/// the same places in segments and time as those of the publisher's own.
pub trait Pipeline: Send {
    /// Takes in what the publisher did.
    fn handle(&mut self, input: Input, now: WallTime);
    /// What came of it, until there is nothing.
    fn poll(&mut self) -> Option<Output>;
}

/// Begins a pipeline for each show.
pub trait Pipelines: Send + Sync {
    /// One for `stream`, whose numbers go on as `config` says.
    fn begin(&self, stream: &StreamId, config: Config) -> Box<dyn Pipeline>;
}

/// What the product does: one segmenter, and nothing beside it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Straight;

impl Pipelines for Straight {
    fn begin(&self, _stream: &StreamId, config: Config) -> Box<dyn Pipeline> {
        Box::new(Segmenter::new(config))
    }
}

impl Pipeline for Segmenter {
    fn handle(&mut self, input: Input, now: WallTime) {
        Self::handle(self, input, now);
    }

    fn poll(&mut self) -> Option<Output> {
        Self::poll(self)
    }
}
