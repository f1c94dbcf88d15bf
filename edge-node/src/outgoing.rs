//! The last look at a piece before it leaves: a place for tests and experiments to build an edge of their own
//! around this library. The product passes every piece on as it is, and has no setting that says otherwise.

use bytes::Bytes;
use millstream_model::{RenditionId, SessionId, StreamId};

/// A piece on its way to a viewer.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// The viewer's session.
    pub session: SessionId,
    /// The stream.
    pub stream: &'a StreamId,
    /// The rendition.
    pub rendition: RenditionId,
    /// The record's number.
    pub number: u64,
    /// The piece's index in its part.
    pub index: u32,
    /// The encoded frame; its last bytes are the media. It is shared by all viewers.
    pub message: &'a Bytes,
}

/// Decides what leaves in a piece's place.
pub trait Outgoing: Send + Sync {
    /// The frame to send.
    fn piece(&self, leaving: &Leaving<'_>) -> Bytes;
}

/// What the product does: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsItIs;

impl Outgoing for AsItIs {
    fn piece(&self, leaving: &Leaving<'_>) -> Bytes {
        leaving.message.clone()
    }
}
