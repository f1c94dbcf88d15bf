//! From a publisher's samples to parts: what a stream's life needs of whatever makes them. The product has two:
//! [`Straight`], which cuts what it gets, and [`crate::renditions`], which makes lower renditions of it too; programs
//! around this library may have others.

use std::sync::Arc;

use millstream_model::{BitRate, RenditionId, StreamId, WallTime};
use millstream_segmenter::{Config, Input, Output, Segmenter};
use prometheus::Registry;
use tokio::sync::Notify;

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

    /// Told when [`Self::poll`] may have something though nothing was handled.
    fn wake(&self) -> Option<Arc<Notify>> {
        None
    }

    /// Whether more will come, without being asked, of what was handled before a publisher left.
    fn is_settling(&self) -> bool {
        false
    }

    /// Does without what has not come yet of a publisher that left.
    fn settle(&mut self) {}

    /// What else is to be said, until there is nothing.
    fn remark(&mut self) -> Option<Remark> {
        None
    }

    /// The rate that a rendition was made for, where that is known.
    fn rate(&self, _rendition: RenditionId) -> Option<BitRate> {
        None
    }
}

/// What a pipeline has to say beside its outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Something is not as somebody wanted it, and the stream goes on.
    Lack {
        /// What is wrong.
        message: String,
        /// What would be right.
        advice: String,
    },
    /// The publisher has to go.
    Refuse {
        /// Why.
        reason: String,
    },
}

/// Begins a pipeline for each show.
pub trait Pipelines: Send + Sync {
    /// One for `stream`, whose numbers go on as `config` says.
    fn begin(&self, stream: &StreamId, config: Config) -> Box<dyn Pipeline>;

    /// Puts what they count where it is read.
    ///
    /// # Errors
    /// When a name is taken.
    fn register(&self, _registry: &Registry) -> prometheus::Result<()> {
        Ok(())
    }
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
