//! An edge's cache, and feeds that say anything.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use millstream_cache::{BYTES_MIN, Cache, Input, Limits, Lookup, Output};
use millstream_model::{Instant, RenditionId, StreamId};
use millstream_wire::{frame::Frame, sign::Signer as _};

use crate::script::Script;

#[allow(dead_code, reason = "the cache's own tests use the rest")]
#[allow(clippy::cast_possible_truncation, reason = "made-up media of known size")]
#[path = "../../crates/cache/tests/cache/broadcast.rs"]
mod broadcast;

use broadcast::{AUDIO, Broadcast, VIDEO, WALL};

/// Steps of one run: each record is a real signature.
const STEPS_MAX: usize = 80;

/// Parts kept per rendition: few, so that they are forgotten.
const PARTS_MAX: usize = 12;

pub(crate) fn cache(data: &[u8]) {
    let mut script = Script::new(data);
    let mut run = Run::new();
    for _ in 0..STEPS_MAX {
        if !script.goes_on() {
            break;
        }
        run.step(&mut script);
        run.drain();
        run.check();
    }
}

struct Run {
    cache: Cache,
    broadcast: Broadcast,
    stream: StreamId,
    now: Instant,
    /// Everything true that was said.
    frames: Vec<Frame>,
    signed: HashMap<(RenditionId, u64, u32), Bytes>,
    feeds: BTreeSet<RenditionId>,
}

impl Run {
    fn new() -> Self {
        let broadcast = Broadcast::new("demo");
        let mut run = Self {
            cache: Cache::new(Limits { bytes_max: 0, parts_max: PARTS_MAX, ..Limits::default() }),
            stream: broadcast.stream.clone(),
            now: Instant(0),
            frames: vec![broadcast.delegation(), broadcast.catalog()],
            signed: HashMap::new(),
            feeds: BTreeSet::new(),
            broadcast,
        };
        run.handle(Input::Known { stream: run.stream.clone(), root: run.broadcast.root.public() });
        run
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let stream = self.stream.clone();
        let rendition = |script: &mut Script<'_>| if script.flag() { AUDIO } else { VIDEO };
        match script.byte() % 32 {
            0 | 1 => self.handle(Input::Enter(stream)),
            2 => self.handle(Input::Exit(stream)),
            3 | 4 => self.handle(Input::Want { stream, rendition: rendition(script) }),
            5 => self.handle(Input::Leave { stream, rendition: rendition(script) }),
            6..=13 => {
                let (rendition, size) = (rendition(script), script.byte());
                let size = if size < 200 { u32::from(size) * 9 + 1 } else { u32::from(size - 199) * 37_000 };
                let (record, pieces) = self.broadcast.part(rendition, size);
                // Now and then it comes later, or never, or in another order.
                let late = script.seldom();
                for frame in std::iter::once(record).chain(pieces) {
                    if let Frame::Piece { rendition, number, index, data } = &frame {
                        self.signed.insert((*rendition, *number, *index), data.clone());
                    }
                    if !late {
                        self.frame(Some(rendition), frame.clone());
                    }
                    self.frames.push(frame);
                }
            }
            14..=25 => {
                let frame = self.frames[script.index(self.frames.len())].clone();
                let feed = match &frame {
                    Frame::Record(record) => Some(record.unverified().rendition),
                    Frame::Piece { rendition, .. } => Some(*rendition),
                    _ => None,
                };
                let feed = if script.seldom() { Some(RenditionId(7)) } else { feed };
                if script.flag() {
                    self.frame(feed, frame);
                } else {
                    let mut bytes = frame.encode().to_vec();
                    let at = script.index(bytes.len());
                    bytes[at] ^= 1 << (script.byte() % 8);
                    self.message(feed, bytes.into());
                }
            }
            26 | 27 => {
                let feed = [None, Some(VIDEO), Some(AUDIO), Some(RenditionId(9))][script.index(4)];
                self.message(feed, Bytes::copy_from_slice(script.bytes()));
            }
            28 => {
                self.broadcast.restart();
                for frame in [self.broadcast.delegation(), self.broadcast.catalog()] {
                    self.frames.push(frame.clone());
                    self.frame(None, frame);
                }
            }
            _ => {
                self.now = self.now + Duration::from_millis(u64::from(script.half() / 2));
                self.cache.handle_timeout(self.now);
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.cache.handle(input, self.now, WALL);
    }

    fn frame(&mut self, feed: Option<RenditionId>, frame: Frame) {
        self.handle(Input::Frame { stream: self.stream.clone(), feed, frame: Box::new(frame) });
    }

    fn message(&mut self, feed: Option<RenditionId>, message: Bytes) {
        if let Ok(Some(frame)) = Frame::decode(message) {
            self.frame(feed, frame);
        }
    }

    /// One flight: a feed is never opened twice, nor closed when it is not open.
    fn drain(&mut self) {
        while let Some(output) = self.cache.poll() {
            match output {
                Output::Open { rendition, .. } => assert!(self.feeds.insert(rendition)),
                Output::Close { rendition, .. } => assert!(self.feeds.remove(&rendition)),
                _ => {}
            }
        }
    }

    fn check(&self) {
        let stats = self.cache.stats();
        assert!(stats.bytes <= BYTES_MIN);
        assert_eq!(stats.feeds, self.feeds.len() as u64);
        let (mut parts, mut held) = (0, 0);
        for rendition in [VIDEO, AUDIO] {
            let mut from = Some(0);
            while let Some(part) =
                from.and_then(|from| self.cache.record(&self.stream, rendition, Some(from)))
            {
                parts += 1;
                held += part.message().len() as u64 * 2 - 1;
                let number = part.record().number;
                for index in 0..u32::try_from(part.record().pieces.len()).unwrap() {
                    if let Lookup::Here(piece) = self.cache.piece(&self.stream, rendition, number, index) {
                        assert_eq!(&piece.data(), &self.signed[&(rendition, number, index)], "never signed");
                        held += piece.message().len() as u64;
                    }
                }
                from = number.checked_add(1);
            }
        }
        assert!(parts <= 2 * PARTS_MAX as u64);
        assert_eq!((stats.parts, stats.bytes), (parts, held), "the books agree");
    }
}
