//! All streams together: believing frames, opening and closing feeds, staying within the bound.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    time::Duration,
};

use bytes::Bytes;
use millstream_model::{Instant, PART_BYTES_MAX, PublicKey, RenditionId, StreamId, WallTime};
use millstream_wire::{
    chain::{Accepted, Chain, Refused},
    frame::Frame,
    media::{Catalog, Record},
    sign::Signed,
};
use thiserror::Error;

use crate::shelf::{Feed, Filled, Lookup, Part, Shelf};

/// The smallest useful memory: two parts of the largest size, so that one can be passed on while the next arrives.
pub const BYTES_MIN: u64 = 2 * PART_BYTES_MAX as u64;

/// How much the cache may hold, and how long it keeps what nobody wants.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of records and pieces over all streams. At least [`BYTES_MIN`] is used.
    pub bytes_max: u64,
    /// Parts per rendition: two minutes of 250 ms parts by default, far beyond any live window.
    pub parts_max: usize,
    /// Streams known at the same time.
    pub streams_max: usize,
    /// How long a feed stays open after its last viewer: a page that reloads finds it warm.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 512 << 20, parts_max: 480, streams_max: 256, linger: Duration::from_secs(15) }
    }
}

/// What the cache is told.
#[derive(Debug)]
pub enum Input {
    /// The tracker says which root key stands behind a stream.
    Known {
        /// The stream.
        stream: StreamId,
        /// Its root key.
        root: PublicKey,
    },
    /// A viewer of the stream has come.
    Enter(StreamId),
    /// A viewer of the stream has gone.
    Exit(StreamId),
    /// A viewer wants a rendition.
    Want {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        rendition: RenditionId,
    },
    /// A viewer that wanted a rendition no longer does.
    Leave {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        rendition: RenditionId,
    },
    /// The origin's description of a stream or the feed of a rendition says something.
    Frame {
        /// The stream.
        stream: StreamId,
        /// The feed's rendition; none for the stream's description.
        feed: Option<RenditionId>,
        /// The frame.
        frame: Box<Frame>,
    },
}

/// What the cache wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Fetch delegation and catalog of a stream.
    Describe(StreamId),
    /// Open a feed.
    Open {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        rendition: RenditionId,
        /// Its name in the catalog.
        name: String,
    },
    /// Close a feed.
    Close {
        /// The stream.
        stream: StreamId,
        /// The rendition.
        rendition: RenditionId,
    },
    /// The stream has something new: a description, a record or a piece.
    Changed(StreamId),
    /// The stream is no longer known, or its root is another: its viewers have to go.
    Forgotten(StreamId),
    /// What the origin sent is not believed.
    Bad {
        /// The stream.
        stream: StreamId,
        /// The feed that it came by.
        feed: Option<RenditionId>,
        /// Why.
        why: Bad,
    },
}

/// Why a frame from an origin is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Bad {
    /// A signed object does not hold.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A piece is not what its record says.
    #[error("a piece does not fit its record")]
    Piece,
    /// A record or piece of another rendition than the feed's.
    #[error("it is of another rendition than the feed")]
    Rendition,
    /// A frame that an origin has no cause to send.
    #[error("the frame has no place in a feed")]
    Frame,
}

/// What describes a stream, as encoded frames to pass on.
#[derive(Debug, Clone)]
pub struct Described {
    /// [`Frame::Delegation`].
    pub delegation: Bytes,
    /// [`Frame::Catalog`].
    pub catalog: Bytes,
    /// Goes up whenever either changes.
    pub revision: u64,
}

/// Counts for people and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes held.
    pub bytes: u64,
    /// Parts held.
    pub parts: u64,
    /// Streams known.
    pub streams: u64,
    /// Feeds open.
    pub feeds: u64,
    /// Media bytes that were verified and stored since the start.
    pub stored_bytes: u64,
    /// Pieces that were verified and stored since the start.
    pub stored_pieces: u64,
    /// Pieces that did not fit their record.
    pub bad_pieces: u64,
    /// Signed objects that were not believed.
    pub refused: u64,
    /// Parts forgotten to stay within the bound.
    pub evicted: u64,
}

#[derive(Debug)]
struct Stream {
    chain: Chain,
    described: Option<Described>,
    shelves: BTreeMap<RenditionId, Shelf>,
    viewers: u32,
    used: Instant,
}

impl Stream {
    fn is_idle(&self) -> bool {
        self.viewers == 0 && self.shelves.values().all(|shelf| shelf.viewers == 0 && !shelf.is_open())
    }
}

/// The cache of one edge.
#[derive(Debug)]
pub struct Cache {
    limits: Limits,
    streams: BTreeMap<StreamId, Stream>,
    /// All parts in the order in which they came.
    order: BTreeMap<u64, (StreamId, RenditionId, u64)>,
    arrivals: u64,
    stats: Stats,
    outputs: VecDeque<Output>,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { bytes_max: limits.bytes_max.max(BYTES_MIN), ..limits };
        Self {
            limits,
            streams: BTreeMap::new(),
            order: BTreeMap::new(),
            arrivals: 0,
            stats: Stats::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input. Drain [`Cache::poll`] afterwards.
    pub fn handle(&mut self, input: Input, now: Instant, wall: WallTime) {
        match input {
            Input::Known { stream, root } => self.know(stream, root, now),
            Input::Enter(stream) => self.enter(&stream, now),
            Input::Exit(stream) => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    known.viewers = known.viewers.saturating_sub(1);
                    known.used = now;
                }
            }
            Input::Want { stream, rendition } => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    let shelf = known.shelves.entry(rendition).or_insert_with(Shelf::new);
                    shelf.viewers = shelf.viewers.saturating_add(1);
                    self.open_feeds(&stream);
                }
            }
            Input::Leave { stream, rendition } => self.leave(&stream, rendition, now),
            Input::Frame { stream, feed, frame } => self.frame(&stream, feed, &frame, wall),
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Cache::handle_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let shelves = self.streams.values().flat_map(|stream| stream.shelves.values());
        shelves
            .filter_map(|shelf| match shelf.feed {
                Feed::Lingering(until) => Some(until),
                Feed::Open | Feed::Closed => None,
            })
            .min()
    }

    /// Closes the feeds that nobody has wanted for long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (stream, known) in &mut self.streams {
            known.shelves.retain(|rendition, shelf| {
                let over = matches!(shelf.feed, Feed::Lingering(until) if until <= now);
                if over {
                    gone.extend(shelf.clear());
                    self.outputs.push_back(Output::Close { stream: stream.clone(), rendition: *rendition });
                }
                !over
            });
        }
        self.release(gone);
    }

    /// Whether the stream's root is known.
    #[must_use]
    pub fn knows(&self, stream: &StreamId) -> bool {
        self.streams.contains_key(stream)
    }

    /// What describes the stream, once the origin has said so.
    #[must_use]
    pub fn described(&self, stream: &StreamId) -> Option<&Described> {
        self.streams.get(stream)?.described.as_ref()
    }

    /// The newest catalog.
    #[must_use]
    pub fn catalog(&self, stream: &StreamId) -> Option<&Catalog> {
        self.streams.get(stream)?.chain.catalog()
    }

    /// The first part at or after `from`; without a number, the first of the newest segment.
    #[must_use]
    pub fn record(&self, stream: &StreamId, rendition: RenditionId, from: Option<u64>) -> Option<&Part> {
        self.shelf(stream, rendition)?.record(from)
    }

    /// A piece.
    #[must_use]
    pub fn piece(&self, stream: &StreamId, rendition: RenditionId, number: u64, index: u32) -> Lookup {
        self.shelf(stream, rendition).map_or(Lookup::Absent, |shelf| shelf.piece(number, index))
    }

    /// The first record that a feed should bring, after a break or at its start; none for the newest segment's first.
    #[must_use]
    pub fn resume(&self, stream: &StreamId, rendition: RenditionId) -> Option<u64> {
        self.shelf(stream, rendition)?.resume()
    }

    /// Streams with an open feed.
    pub fn warm(&self) -> impl Iterator<Item = &StreamId> {
        let warm = |stream: &Stream| stream.shelves.values().any(Shelf::is_open);
        self.streams.iter().filter(move |(_, stream)| warm(stream)).map(|(id, _)| id)
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let open = |stream: &Stream| stream.shelves.values().filter(|shelf| shelf.is_open()).count();
        Stats {
            parts: self.order.len() as u64,
            streams: self.streams.len() as u64,
            feeds: self.streams.values().map(|stream| open(stream) as u64).sum(),
            ..self.stats
        }
    }

    fn shelf(&self, stream: &StreamId, rendition: RenditionId) -> Option<&Shelf> {
        self.streams.get(stream)?.shelves.get(&rendition)
    }

    fn know(&mut self, stream: StreamId, root: PublicKey, now: Instant) {
        if let Some(known) = self.streams.get(&stream) {
            if known.chain.root() == root {
                return;
            }
            // The stream was made anew under its old name: nothing of the old one holds.
            self.forget(&stream);
        }
        if self.streams.len() >= self.limits.streams_max {
            let idle = self.streams.iter().filter(|(_, stream)| stream.is_idle());
            match idle.min_by_key(|(_, stream)| stream.used).map(|(id, _)| id.clone()) {
                Some(id) => self.forget(&id),
                None => return,
            }
        }
        let chain = Chain::new(stream.clone(), root);
        let known = Stream { chain, described: None, shelves: BTreeMap::new(), viewers: 0, used: now };
        self.streams.insert(stream, known);
    }

    fn forget(&mut self, stream: &StreamId) {
        let Some(mut known) = self.streams.remove(stream) else { return };
        let mut gone = Vec::new();
        for (rendition, shelf) in &mut known.shelves {
            gone.extend(shelf.clear());
            if shelf.is_open() {
                self.outputs.push_back(Output::Close { stream: stream.clone(), rendition: *rendition });
            }
        }
        self.release(gone);
        self.outputs.push_back(Output::Forgotten(stream.clone()));
    }

    fn enter(&mut self, stream: &StreamId, now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        known.viewers = known.viewers.saturating_add(1);
        known.used = now;
        // Also when it is described already: while nobody watched, nobody told us what changed.
        if known.viewers == 1 {
            self.outputs.push_back(Output::Describe(stream.clone()));
        }
    }

    fn leave(&mut self, stream: &StreamId, rendition: RenditionId, now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let Entry::Occupied(mut entry) = known.shelves.entry(rendition) else { return };
        let shelf = entry.get_mut();
        shelf.viewers = shelf.viewers.saturating_sub(1);
        if shelf.viewers > 0 {
            return;
        }
        if shelf.is_open() {
            shelf.feed = Feed::Lingering(now + self.limits.linger);
        } else {
            entry.remove();
        }
    }

    /// Opens the feeds that are wanted and that the catalog describes.
    fn open_feeds(&mut self, stream: &StreamId) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let Some(catalog) = known.chain.catalog() else { return };
        for (rendition, shelf) in &mut known.shelves {
            if shelf.viewers == 0 || shelf.feed == Feed::Open {
                continue;
            }
            if matches!(shelf.feed, Feed::Lingering(_)) {
                shelf.feed = Feed::Open;
            } else if let Some(described) = catalog.rendition(*rendition) {
                shelf.feed = Feed::Open;
                self.outputs.push_back(Output::Open {
                    stream: stream.clone(),
                    rendition: *rendition,
                    name: described.name.clone(),
                });
            }
        }
    }

    fn frame(&mut self, stream: &StreamId, feed: Option<RenditionId>, frame: &Frame, wall: WallTime) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let fate = match frame {
            Frame::Delegation(signed) => match known.chain.accept_delegation(signed, wall) {
                Ok(Accepted::New) => self.describe(stream),
                Ok(Accepted::Known | Accepted::Old) => Ok(()),
                Err(refused) => Err(Bad::Refused(refused)),
            },
            Frame::Catalog(signed) => match known.chain.accept_catalog(signed) {
                Ok(Accepted::New) => self.describe(stream),
                Ok(Accepted::Known | Accepted::Old) => Ok(()),
                Err(refused) => Err(Bad::Refused(refused)),
            },
            // The description lists records whose pieces nobody has asked for: the feeds bring them again.
            Frame::Record(_) if feed.is_none() => Ok(()),
            Frame::Record(signed) => self.record_arrived(stream, feed, signed),
            Frame::Piece { .. } => self.piece_arrived(stream, feed, frame),
            // A hole shows in the numbers of what follows; the rest is about the connection.
            Frame::Gap { .. } | Frame::Goaway { .. } | Frame::Ping(_) => Ok(()),
            _ => Err(Bad::Frame),
        };
        if let Err(why) = fate {
            match why {
                Bad::Piece => self.stats.bad_pieces += 1,
                Bad::Refused(_) | Bad::Rendition | Bad::Frame => self.stats.refused += 1,
            }
            self.outputs.push_back(Output::Bad { stream: stream.clone(), feed, why });
        }
    }

    fn describe(&mut self, stream: &StreamId) -> Result<(), Bad> {
        let Some(known) = self.streams.get_mut(stream) else { return Ok(()) };
        let chain = &known.chain;
        let (Some(delegation), Some(catalog)) = (chain.delegation_bytes(), chain.catalog_bytes()) else {
            // A new delegation alone: what the viewers have stays true until its catalog comes.
            return Ok(());
        };
        let revision = known.described.as_ref().map_or(1, |described| described.revision + 1);
        let frame = |signed: Result<Frame, _>| signed.map(|frame| frame.encode());
        let delegation = frame(Signed::decode(delegation.clone()).map(Frame::Delegation));
        let catalog = frame(Signed::decode(catalog.clone()).map(Frame::Catalog));
        let malformed =
            |error| Bad::Refused(Refused::Signature(millstream_wire::sign::Error::Malformed(error)));
        known.described = Some(Described {
            delegation: delegation.map_err(malformed)?,
            catalog: catalog.map_err(malformed)?,
            revision,
        });
        self.outputs.push_back(Output::Changed(stream.clone()));
        self.open_feeds(stream);
        Ok(())
    }

    fn record_arrived(
        &mut self,
        stream: &StreamId,
        feed: Option<RenditionId>,
        signed: &Signed<Record>,
    ) -> Result<(), Bad> {
        let Some(known) = self.streams.get_mut(stream) else { return Ok(()) };
        let record = signed.unverified();
        let (rendition, number) = (record.rendition, record.number);
        if feed != Some(rendition) {
            return Err(Bad::Rendition);
        }
        if known.chain.accept_record(signed)? == Accepted::Old {
            return Ok(());
        }
        let Some(shelf) = known.shelves.get_mut(&rendition).filter(|shelf| shelf.is_open()) else {
            return Ok(());
        };
        let full = shelf.parts.len() >= self.limits.parts_max;
        let below = shelf.parts.first_key_value().is_some_and(|(first, _)| number < *first);
        if shelf.parts.contains_key(&number) || full && below {
            return Ok(());
        }
        self.arrivals += 1;
        let part = Part::new(signed.clone(), self.arrivals);
        self.stats.bytes += part.cost;
        shelf.parts.insert(number, part);
        self.order.insert(self.arrivals, (stream.clone(), rendition, number));
        if full && let Some((_, part)) = shelf.parts.pop_first() {
            self.stats.evicted += 1;
            self.release([(part.order, part.cost)]);
        }
        self.evict();
        self.outputs.push_back(Output::Changed(stream.clone()));
        Ok(())
    }

    fn piece_arrived(
        &mut self,
        stream: &StreamId,
        feed: Option<RenditionId>,
        frame: &Frame,
    ) -> Result<(), Bad> {
        let Frame::Piece { rendition, data, .. } = frame else { return Err(Bad::Frame) };
        if feed != Some(*rendition) {
            return Err(Bad::Rendition);
        }
        let bytes = data.len() as u64;
        let shelf = self.streams.get_mut(stream).and_then(|known| known.shelves.get_mut(rendition));
        match shelf.map_or(Filled::Stray, |shelf| shelf.fill(frame)) {
            Filled::New(cost) => {
                self.stats.bytes += cost;
                self.stats.stored_bytes += bytes;
                self.stats.stored_pieces += 1;
                self.evict();
                self.outputs.push_back(Output::Changed(stream.clone()));
                Ok(())
            }
            Filled::Known | Filled::Stray => Ok(()),
            Filled::Bad => Err(Bad::Piece),
        }
    }

    /// Forgets the oldest parts of all streams until the rest fits.
    fn evict(&mut self) {
        while self.stats.bytes > self.limits.bytes_max {
            let Some((order, (stream, rendition, number))) = self.order.pop_first() else { return };
            let shelf = self.streams.get_mut(&stream).and_then(|known| known.shelves.get_mut(&rendition));
            if let Some(part) = shelf.and_then(|shelf| shelf.parts.remove(&number)) {
                self.stats.evicted += 1;
                self.release([(order, part.cost)]);
            }
        }
    }

    fn release(&mut self, parts: impl IntoIterator<Item = (u64, u64)>) {
        for (order, cost) in parts {
            self.order.remove(&order);
            self.stats.bytes = self.stats.bytes.saturating_sub(cost);
        }
    }
}
