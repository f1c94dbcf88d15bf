//! Pieces that came before their record: kept a moment, never believed.

use alloc::{collections::VecDeque, vec::Vec};

use bytes::Bytes;
use millstream_model::{EdgeId, RenditionId};

use crate::limits::EARLY_PIECES_MAX;

/// A piece whose record is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Early {
    pub(crate) edge: EdgeId,
    pub(crate) rendition: RenditionId,
    pub(crate) number: u64,
    pub(crate) index: u32,
    pub(crate) data: Bytes,
}

/// The newest [`EARLY_PIECES_MAX`] of them.
#[derive(Debug, Default)]
pub(crate) struct EarlyPieces(VecDeque<Early>);

impl EarlyPieces {
    pub(crate) fn keep(&mut self, piece: Early) {
        if self.0.len() >= EARLY_PIECES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(piece);
    }

    /// Those of one part.
    pub(crate) fn take(&mut self, rendition: RenditionId, number: u64) -> Vec<Early> {
        let (hit, rest): (VecDeque<_>, VecDeque<_>) =
            self.0.drain(..).partition(|piece| piece.rendition == rendition && piece.number == number);
        self.0 = rest;
        Vec::from(hit)
    }
}
