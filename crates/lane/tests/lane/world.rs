//! One viewer, one lane, and a shelf whose pieces are as long as they should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use millstream_lane::{Admission, Channel, Credit, Found, Input, Lane, Local, Lookup, Output, Reach};
use millstream_model::{
    Fingerprint, Instant, Price, RenditionId, SessionId, StreamId, WallTime, piece_count, piece_len,
};
use millstream_wire::{
    frame::{Frame, PROTOCOL, Reason, Span, Subscription},
    session::{Grant, Hello, Voucher},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
};

pub(crate) const VIDEO: RenditionId = RenditionId(0);
pub(crate) const AUDIO: RenditionId = RenditionId(1);
pub(crate) const WALL: WallTime = WallTime(1_790_000_000_000);
pub(crate) const PEER: Fingerprint = Fingerprint([5; 32]);

pub(crate) fn tracker() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

pub(crate) fn edge() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

pub(crate) fn session_key() -> SessionSecret {
    SessionSecret::from_bytes(&[3; 32]).expect("a scalar")
}

pub(crate) fn grant() -> Grant {
    Grant {
        tracker: tracker().public(),
        session: SessionId([4; 16]),
        key: session_key().public(),
        stream: StreamId::new("demo").expect("a slug"),
        edge: edge().public(),
        price: Price(1_000_000),
        cap_bytes: 1 << 30,
        serial: 1,
        issued: WALL,
        expires: WALL.plus_millis(120_000),
    }
}

pub(crate) fn signed(grant: &Grant) -> Signed<Grant> {
    Signed::new(grant.clone(), Context::None, &tracker())
}

pub(crate) fn hello() -> Hello {
    Hello { session: SessionId([4; 16]), edge: edge().public(), fingerprint: PEER }
}

pub(crate) fn hello_frame(grant: &Grant, hello: &Hello) -> Frame {
    Frame::Hello {
        protocol: PROTOCOL,
        grant: signed(grant),
        hello: Signed::new(hello.clone(), Context::None, &session_key()),
    }
}

pub(crate) fn voucher(payable: u64, received: u64) -> Voucher {
    Voucher {
        tracker: tracker().public(),
        session: SessionId([4; 16]),
        edge: edge().public(),
        stream: StreamId::new("demo").expect("a slug"),
        payable,
        received,
        segments: 0,
        rendition: VIDEO,
        number: 0,
    }
}

pub(crate) fn voucher_frame(voucher: &Voucher) -> Frame {
    Frame::Voucher(Signed::new(voucher.clone(), Context::None, &session_key()))
}

/// Parts by rendition and number: their size, and which pieces are not there (yet).
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) parts: BTreeMap<(RenditionId, u64), u32>,
    pub(crate) coming: BTreeSet<(RenditionId, u64, u32)>,
    pub(crate) absent: BTreeSet<(RenditionId, u64, u32)>,
    /// The first number of the newest segment.
    pub(crate) start: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) lane: Lane,
    pub(crate) shelf: Shelf,
    pub(crate) now: Instant,
    pub(crate) wall: WallTime,
    /// Everything that the lane had sent and done, oldest first.
    pub(crate) frames: Vec<Frame>,
    pub(crate) brought: Vec<Signed<Voucher>>,
    pub(crate) closed: Option<(Reason, String, bool)>,
    pub(crate) outputs: Vec<Output>,
    /// After so many pieces the transport is full.
    pub(crate) room: Option<usize>,
    pub(crate) credit: Credit,
}

impl World {
    /// A connection on which nothing was said.
    pub(crate) fn silent() -> Self {
        let local = Local { edge: edge().public(), tracker: tracker().public(), peer: PEER };
        let now = Instant::from_millis(1_000_000);
        Self {
            lane: Lane::new(local, Reach::Since(Instant(0)), now, WALL),
            shelf: Shelf::default(),
            now,
            wall: WALL,
            frames: Vec::new(),
            brought: Vec::new(),
            closed: None,
            outputs: Vec::new(),
            room: None,
            credit: Credit::fresh(),
        }
    }

    /// An open lane of a viewer with this grant.
    pub(crate) fn open(grant: &Grant) -> Self {
        let mut world = Self::silent();
        world.say(&hello_frame(grant, &hello()));
        assert!(matches!(world.frames[..], [Frame::Welcome { .. }, Frame::Ping(0), Frame::Ping(1)]));
        world.frames.clear();
        world
    }

    pub(crate) fn say(&mut self, frame: &Frame) {
        self.handle(Input::Message(frame.encode()));
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.lane.handle(input, self.now, self.wall);
        self.drain();
    }

    /// Time passes; what is due is done in order.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.lane.deadline().filter(|at| *at <= end) {
            self.pass(at.max(self.now));
            self.lane.handle_timeout(self.now, self.wall);
            self.drain();
        }
        self.pass(end);
    }

    fn pass(&mut self, to: Instant) {
        self.wall = self.wall.plus_millis(to.millis_since(self.now));
        self.now = to;
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.lane.poll() {
            assert!(self.closed.is_none(), "after the last output: {output:?}");
            match &output {
                Output::Send { channel, message } => {
                    let frame = Frame::decode(message.clone()).expect("sound").expect("known");
                    let piece = matches!(frame, Frame::Piece { .. });
                    assert_eq!(*channel == Channel::Pieces, piece);
                    self.frames.push(frame);
                    if piece && let Some(room) = self.room {
                        self.room = Some(room.saturating_sub(1));
                        if room == 0 {
                            self.answer(Input::Busy);
                        }
                    }
                }
                Output::Open(_) => {
                    let (delegation, catalog) = (Frame::Ping(0).encode(), Frame::Ping(1).encode());
                    self.answer(Input::Admitted(Box::new(Admission { credit: self.credit, grant: None })));
                    self.answer(Input::Described { delegation, catalog });
                }
                Output::Record { rendition, from } => {
                    let found = self.record(*rendition, *from);
                    self.answer(Input::Record(found));
                }
                Output::Piece { rendition, number, index } => {
                    let found = self.piece(*rendition, *number, *index);
                    self.answer(Input::Piece(found));
                }
                Output::Bring(voucher) => self.brought.push((**voucher).clone()),
                Output::Close { reason, text, by_viewer } => {
                    self.closed = Some((*reason, text.clone(), *by_viewer));
                }
                Output::Subscribe { .. } | Output::Renewed(_) => {}
            }
            self.outputs.push(output);
        }
    }

    fn answer(&mut self, input: Input) {
        self.lane.handle(input, self.now, self.wall);
    }

    fn record(&self, rendition: RenditionId, from: Option<u64>) -> Option<Found> {
        let from = from.unwrap_or(self.shelf.start);
        let mut after = self.shelf.parts.range((rendition, from)..=(rendition, u64::MAX));
        // A request stands for the record: it carries the same numbers and needs no signature here.
        let frame = |number| Frame::Request(Span { rendition, number, first: 0, count: 1 });
        after.next().map(|((_, number), size)| Found {
            number: *number,
            message: frame(*number).encode(),
            size: *size,
        })
    }

    fn piece(&self, rendition: RenditionId, number: u64, index: u32) -> Lookup {
        let key = (rendition, number, index);
        if self.shelf.coming.contains(&key) {
            return Lookup::Coming;
        }
        let Some(size) = self.shelf.parts.get(&(rendition, number)) else { return Lookup::Absent };
        let bytes = piece_len(*size, index);
        if bytes == 0 || self.shelf.absent.contains(&key) {
            return Lookup::Absent;
        }
        let data = Bytes::from(vec![7; bytes as usize]);
        Lookup::Here { message: Frame::Piece { rendition, number, index, data }.encode(), bytes }
    }

    /// A part arrives.
    pub(crate) fn part(&mut self, rendition: RenditionId, number: u64, size: u32) {
        self.shelf.parts.insert((rendition, number), size);
        self.handle(Input::Changed);
    }

    pub(crate) fn subscribe(&mut self, rendition: RenditionId, want: Subscription, from: u64) {
        self.say(&Frame::Subscribe { rendition, want, from });
    }

    pub(crate) fn request(&mut self, rendition: RenditionId, number: u64, first: u32, count: u32) {
        self.say(&Frame::Request(Span { rendition, number, first, count }));
    }

    /// Numbers of the records sent so far, in order.
    pub(crate) fn records(&self, of: RenditionId) -> Vec<u64> {
        let number = |frame: &Frame| match frame {
            Frame::Request(span) if span.rendition == of => Some(span.number),
            _ => None,
        };
        self.frames.iter().filter_map(number).collect()
    }

    /// Numbers and indexes of the pieces sent so far, in order.
    pub(crate) fn pieces(&self) -> Vec<(u64, u32)> {
        let piece = |frame: &Frame| match frame {
            Frame::Piece { number, index, .. } => Some((*number, *index)),
            _ => None,
        };
        self.frames.iter().filter_map(piece).collect()
    }

    pub(crate) fn missing(&self) -> Vec<(u64, u32, u32)> {
        let missing = |frame: &Frame| match frame {
            Frame::Missing(span) => Some((span.number, span.first, span.count)),
            _ => None,
        };
        self.frames.iter().filter_map(missing).collect()
    }

    /// Media bytes sent so far.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |frame: &Frame| if let Frame::Piece { data, .. } = frame { data.len() as u64 } else { 0 };
        self.frames.iter().map(bytes).sum()
    }

    /// The lane is closed by the edge, with this reason, and said so to the viewer before.
    pub(crate) fn refused(&self, reason: Reason) -> &str {
        let (why, text, by_viewer) = self.closed.as_ref().expect("closed");
        assert!(!by_viewer);
        assert_eq!(*why, reason, "{text}");
        let said = Frame::Refuse { reason, text: text.clone() };
        assert_eq!(self.frames.last(), Some(&said));
        text
    }
}

/// Pieces of a part of this size.
pub(crate) fn pieces_of(number: u64, size: u32) -> Vec<(u64, u32)> {
    (0..piece_count(size)).map(|index| (number, index)).collect()
}
