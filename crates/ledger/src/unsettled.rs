//! How many lanes each edge has that are not settled, by stream: asked at every lookup of an edge, too often to count
//! all sessions.

use std::collections::BTreeMap;

use millstream_model::{EdgeId, StreamId};

/// Counts without a zero among them. Bounded as the lanes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unsettled(BTreeMap<EdgeId, BTreeMap<StreamId, usize>>);

impl Unsettled {
    pub(crate) fn add(&mut self, edge: EdgeId, stream: &StreamId) {
        *self.0.entry(edge).or_default().entry(stream.clone()).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, edge: EdgeId, stream: &StreamId) {
        let Some(streams) = self.0.get_mut(&edge) else { return };
        match streams.get_mut(stream) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(streams.remove(stream)),
        }
        if streams.is_empty() {
            self.0.remove(&edge);
        }
    }

    pub(crate) fn of(&self, edge: EdgeId) -> usize {
        self.0.get(&edge).map_or(0, |streams| streams.values().sum())
    }

    pub(crate) fn of_stream(&self, edge: EdgeId, stream: &StreamId) -> usize {
        self.0.get(&edge).and_then(|streams| streams.get(stream)).copied().unwrap_or(0)
    }
}
