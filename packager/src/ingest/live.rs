//! Which streams have a publisher: one each.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use millstream_model::StreamId;

/// The streams that are live here.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    streams: Arc<Mutex<HashSet<StreamId>>>,
}

/// The right to publish a stream; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    stream: StreamId,
    live: Live,
}

impl Live {
    /// The stream's slot, unless somebody has it.
    pub(super) fn claim(&self, stream: &StreamId) -> Option<Slot> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(stream.clone()).then(|| Slot { stream: stream.clone(), live: self.clone() })
    }

    /// How many streams are live.
    pub(super) fn count(&self) -> usize {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Slot {
    /// The stream it is for.
    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.live.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_one_publisher_at_a_time() {
        let live = Live::default();
        let stream = StreamId::new("demo").unwrap();
        let slot = live.claim(&stream);
        assert!(slot.is_some() && live.claim(&stream).is_none());
        assert!(live.claim(&StreamId::new("other").unwrap()).is_some());
        drop(slot);
        assert!(live.claim(&stream).is_some());
        assert_eq!(live.count(), 0);
    }
}
