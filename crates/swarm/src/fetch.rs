//! HTTP requests under way, and those that wait for another attempt.

use alloc::vec::Vec;

use millstream_model::{Instant, Map, RenditionId};

use crate::{limits::FETCHES_MAX, port::FetchId};

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Delegation, catalog and the newest records.
    Start,
    /// Records that no edge brings.
    Records {
        /// Of which rendition.
        rendition: RenditionId,
    },
    /// Pieces of a part.
    Pieces {
        /// The rendition.
        rendition: RenditionId,
        /// The record's number.
        number: u64,
        /// The first piece.
        first: u32,
        /// How many.
        count: u32,
    },
}

impl Purpose {
    /// The rendition whose records it fetches.
    pub(crate) fn records_of(&self) -> Option<RenditionId> {
        if let Self::Records { rendition } = self { Some(*rendition) } else { None }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pub(crate) purpose: Purpose,
    pub(crate) since: Instant,
}

/// All requests.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    next: u32,
    running: Map<FetchId, Fetch>,
    /// Failures in a row, by purpose, and when to try again.
    failed: Map<(u8, u8, u64), (u32, Instant)>,
}

impl Fetches {
    /// A number for a new request, or `None` when enough are under way. Record requests wait for what does not
    /// exist yet, so they do not take places from media.
    pub(crate) fn begin(&mut self, purpose: Purpose, now: Instant) -> Option<FetchId> {
        let waiting = matches!(purpose, Purpose::Records { .. });
        if !waiting && self.full() {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        let id = FetchId(self.next);
        self.running.insert(id, Fetch { purpose, since: now });
        Some(id)
    }

    pub(crate) fn end(&mut self, id: FetchId) -> Option<Fetch> {
        self.running.remove(&id)
    }

    /// Ends the requests for pieces of a part; gives their numbers.
    pub(crate) fn stop(&mut self, id: RenditionId, part: u64) -> Vec<FetchId> {
        let of = |purpose: &Purpose| matches!(purpose, Purpose::Pieces { rendition, number, .. } if *rendition == id && *number == part);
        let running: Vec<FetchId> =
            self.running.iter().filter(|(_, fetch)| of(&fetch.purpose)).map(|(fetch, _)| *fetch).collect();
        for fetch in &running {
            self.running.remove(fetch);
        }
        running
    }

    /// No other request for media can begin before one ends.
    pub(crate) fn full(&self) -> bool {
        self.running.values().filter(|fetch| fetch.purpose.records_of().is_none()).count() >= FETCHES_MAX
    }

    /// Counts a failure; returns how many there were in a row.
    pub(crate) fn fail(&mut self, purpose: &Purpose, again: impl Fn(u32) -> Instant) -> u32 {
        let entry = self.failed.or_insert_with(key(purpose), || (0, Instant(0)));
        entry.0 += 1;
        entry.1 = again(entry.0);
        entry.0
    }

    pub(crate) fn succeed(&mut self, purpose: &Purpose) {
        self.failed.remove(&key(purpose));
    }

    /// When this may be tried (again).
    pub(crate) fn ready_at(&self, purpose: &Purpose) -> Instant {
        self.failed.get(&key(purpose)).map_or(Instant(0), |(_, at)| *at)
    }

    pub(crate) fn is_running(&self, wanted: &Purpose) -> bool {
        self.running.values().any(|fetch| fetch.purpose == *wanted)
    }

    /// Forgets failures of parts that are over.
    pub(crate) fn prune(&mut self, now: Instant) {
        self.failed.retain(|_, (_, at)| now.millis_since(*at) < 30_000);
    }
}

fn key(purpose: &Purpose) -> (u8, u8, u64) {
    match purpose {
        Purpose::Start => (0, 0, 0),
        Purpose::Records { rendition } => (1, rendition.0, 0),
        Purpose::Pieces { rendition, number, .. } => (2, rendition.0, *number),
    }
}
