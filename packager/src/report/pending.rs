//! What the tracker is to know of the streams here and does not know yet.
//!
//! Pure. Counts are cumulative, so of each counter the newest is all there is to tell, however long the tracker was
//! away; that of a show that is over is kept until it was taken, and outlives the program ([`Left`]).

use std::collections::{BTreeMap, VecDeque};

use millstream_model::StreamId;
use millstream_wire::{
    media::Catalog,
    sign::Signed,
    tracker::{Published, REPORT_BYTES_MAX, RUNS_MAX, Reported, State, StreamReport},
};
use serde::{Deserialize, Serialize};

/// Bytes of one report's lines: half of what a tracker takes, so that the longest catalog fits with its line.
const LINES_BYTES_MAX: usize = REPORT_BYTES_MAX / 2;

/// What it never goes below, however little a tracker seems to take: dozens of lines without catalogs.
const LINES_BYTES_MIN: usize = 8 * 1024;

/// Streams that are over and whose counts were not taken, at most: what a tracker's outage of days leaves.
const OVER_MAX: usize = 512;

/// One stream as it is now.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) stream: StreamId,
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) catalog: Option<Signed<Catalog>>,
    pub(super) published: Published,
}

/// Counts that were not taken, as they are kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    streams: BTreeMap<StreamId, LeftOf>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LeftOf {
    generation: u32,
    published: Vec<Published>,
}

/// What the tracker does not know yet.
#[derive(Debug)]
pub(super) struct Pending {
    streams: BTreeMap<StreamId, Known>,
    /// Streams that this round has still to tell.
    due: VecDeque<StreamId>,
    lines_bytes_max: usize,
}

#[derive(Debug)]
struct Known {
    generation: u32,
    state: State,
    /// Its counter goes on; else the stream is not here any more.
    is_here: bool,
    catalog: Option<Signed<Catalog>>,
    /// The catalog that the tracker has.
    told: Option<(u32, u32)>,
    /// At most [`RUNS_MAX`], the newest last.
    counters: Vec<Counter>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    now: Published,
    /// What the tracker has of it.
    taken: u64,
}

impl Left {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

impl Pending {
    /// With what an earlier run of the program left.
    pub(super) fn new(left: Left) -> Self {
        let known = |left: LeftOf| Known {
            generation: left.generation,
            state: State::Ended,
            is_here: false,
            catalog: None,
            told: None,
            counters: left
                .published
                .into_iter()
                .take(RUNS_MAX)
                .map(|now| Counter { now, taken: 0 })
                .collect(),
        };
        let streams = left.streams.into_iter().take(OVER_MAX).map(|(id, left)| (id, known(left))).collect();
        Self { streams, due: VecDeque::new(), lines_bytes_max: LINES_BYTES_MAX }
    }

    /// Begins a round: these are the streams here.
    pub(super) fn see(&mut self, seen: Vec<Seen>) {
        for known in self.streams.values_mut() {
            known.is_here = false;
        }
        for seen in seen {
            let known = self.streams.entry(seen.stream).or_insert_with(|| Known {
                generation: seen.generation,
                state: seen.state,
                is_here: true,
                catalog: None,
                told: None,
                counters: Vec::new(),
            });
            known.is_here = true;
            (known.generation, known.state, known.catalog) = (seen.generation, seen.state, seen.catalog);
            known.count(seen.published);
        }
        for known in self.streams.values_mut().filter(|known| !known.is_here) {
            (known.state, known.catalog) = (State::Ended, None);
        }
        self.forget();
        self.due = self.streams.keys().cloned().collect();
    }

    /// The lines of the round's next report; none when all is told.
    pub(super) fn next(&mut self) -> Vec<StreamReport> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while let Some(id) = self.due.front() {
            if let Some(known) = self.streams.get(id) {
                let line = known.line(id);
                let cost = serde_json::to_vec(&line).map_or(0, |text| text.len() + 1);
                if !lines.is_empty() && bytes + cost > self.lines_bytes_max {
                    break;
                }
                bytes += cost;
                lines.push(line);
            }
            self.due.pop_front();
        }
        lines
    }

    /// The tracker has these lines.
    pub(super) fn taken(&mut self, lines: &[StreamReport], reported: &Reported) {
        for line in lines {
            let Some(known) = self.streams.get_mut(&line.stream) else { continue };
            if let Some(catalog) = &line.catalog {
                known.told = Some(place(catalog));
            }
            for published in &line.published {
                for counter in known.counters.iter_mut().filter(|counter| counter.now.run == published.run) {
                    counter.taken = published.bytes;
                }
            }
            known.drop_taken();
        }
        for wanted in &reported.wanted {
            if let Some(known) = self.streams.get_mut(wanted) {
                known.told = None;
            }
        }
        self.forget();
    }

    /// The tracker says that these lines are too long: they come again in shorter reports, and what is too long alone
    /// comes without its catalog.
    pub(super) fn too_long(&mut self, lines: &[StreamReport]) {
        if let [alone] = lines {
            let Some(known) = self.streams.get_mut(&alone.stream) else { return };
            if let Some(catalog) = &alone.catalog {
                known.told = Some(place(catalog));
                self.due.push_front(alone.stream.clone());
            }
            return;
        }
        self.lines_bytes_max = (self.lines_bytes_max / 2).max(LINES_BYTES_MIN);
        if self.lines_bytes_max == LINES_BYTES_MIN {
            for line in lines {
                if let (Some(known), Some(catalog)) = (self.streams.get_mut(&line.stream), &line.catalog) {
                    known.told = Some(place(catalog));
                }
            }
        }
        for line in lines.iter().rev() {
            self.due.push_front(line.stream.clone());
        }
    }

    /// What has to be kept for a tracker that takes it later.
    pub(super) fn left(&self) -> Left {
        let untaken = |known: &Known| LeftOf {
            generation: known.generation,
            published: known.counters.iter().filter(|c| !c.is_taken()).map(|c| c.now).collect(),
        };
        let streams = self.streams.iter().map(|(id, known)| (id.clone(), untaken(known)));
        Left { streams: streams.filter(|(_, left)| !left.published.is_empty()).collect() }
    }

    /// Forgets streams that are over and told, and the least of those that are over and too many.
    fn forget(&mut self) {
        self.streams.retain(|_, known| known.is_here || !known.counters.is_empty());
        while self.streams.values().filter(|known| !known.is_here).count() > OVER_MAX {
            let over = self.streams.iter().filter(|(_, known)| !known.is_here);
            let Some(least) = over.min_by_key(|(_, known)| known.untaken()).map(|(id, _)| id.clone()) else {
                return;
            };
            tracing::warn!(stream = %least, "what was published is forgotten before a tracker took it");
            self.streams.remove(&least);
        }
    }
}

impl Known {
    fn count(&mut self, now: Published) {
        if now.bytes == 0 {
            return;
        }
        if let Some(counter) = self.counters.last_mut().filter(|counter| counter.now.run == now.run) {
            counter.now = now;
            return;
        }
        self.counters.push(Counter { now, taken: 0 });
        self.drop_taken();
        if self.counters.len() > RUNS_MAX {
            let least = (0..RUNS_MAX).min_by_key(|index| self.counters[*index].untaken()).unwrap_or(0);
            tracing::warn!("what an earlier show published is forgotten before a tracker took it");
            self.counters.remove(least);
        }
    }

    /// A counter that goes on is told again and again; one that is over, until it was taken.
    fn drop_taken(&mut self) {
        let goes_on = self.counters.last().filter(|_| self.is_here).map(|counter| counter.now.run);
        self.counters.retain(|counter| !counter.is_taken() || Some(counter.now.run) == goes_on);
    }

    fn line(&self, id: &StreamId) -> StreamReport {
        let catalog = self.catalog.clone();
        StreamReport {
            stream: id.clone(),
            generation: self.generation,
            state: self.state,
            catalog: catalog.filter(|catalog| Some(place(catalog)) != self.told),
            published: self.counters.iter().map(|counter| counter.now).collect(),
        }
    }

    fn untaken(&self) -> u64 {
        self.counters.iter().fold(0, |sum, counter| sum.saturating_add(counter.untaken()))
    }
}

impl Counter {
    const fn is_taken(&self) -> bool {
        self.taken >= self.now.bytes
    }

    const fn untaken(&self) -> u64 {
        self.now.bytes.saturating_sub(self.taken)
    }
}

fn place(catalog: &Signed<Catalog>) -> (u32, u32) {
    let catalog = catalog.unverified();
    (catalog.generation, catalog.version)
}

#[cfg(test)]
mod tests;
