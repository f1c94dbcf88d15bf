//! A feed: one rendition's records and pieces, as they come, in one long answer.
//!
//! A feed holds no queue. It has a place in the window, and takes the next part from there when its connection has
//! room: so a slow reader costs no memory but the part it is at. One that is too far behind skips to the newest
//! segment and says so; one that falls behind again soon is closed.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use millstream_model::{Instant, PIECE_BYTES, RenditionId};
use millstream_service::tasks::Drain;
use millstream_wire::{
    frame::{Frame, Reason, write_framed},
    media::{Catalog, Delegation, Record},
    sign::Signed,
    tracker::State,
};
use tokio::{sync::watch, time::timeout};

use super::{START_SEGMENTS, body::Body};
use crate::{
    clock::Clock,
    metrics::Metrics,
    stream::{Inner, Stream},
    window::{Held, Window},
};

/// A feed that has nothing to say pings, so that both sides notice when the other is gone.
const PING_EVERY: Duration = Duration::from_secs(2);

/// Falling behind again so soon after a skip means that the reader cannot keep up.
const SKIP_AGAIN: Duration = Duration::from_secs(10);

/// What a drained feed's reader is told it has to find another origin.
const GOAWAY_MS: u32 = 1_000;

/// A feed's place among a stream's.
pub(super) struct Seat {
    stream: Arc<Stream>,
}

impl Seat {
    /// A place, unless there are `max` feeds already.
    pub(super) fn take(stream: &Arc<Stream>, max: usize) -> Option<Self> {
        let seat = Self { stream: Arc::clone(stream) };
        // Given back by `drop` when there were too many.
        (stream.feeds.fetch_add(1, Relaxed) < max).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stream.feeds.fetch_sub(1, Relaxed);
    }
}

pub(super) struct Feed {
    seat: Seat,
    rendition: RenditionId,
    /// The next record to send; `None` before the first look: where receivers begin.
    next: Option<u64>,
    behind_bytes_max: u64,
    clock: Clock,
    drain: Drain,
    metrics: Arc<Metrics>,
    changes: watch::Receiver<u64>,
    delegation: Option<Signed<Delegation>>,
    /// Generation and version of the newest catalog sent.
    catalog: (u32, u32),
    skipped_at: Option<Instant>,
    /// What is to be sent before anything else.
    ready: VecDeque<Bytes>,
    over: bool,
}

/// What a look at the stream finds.
enum Next {
    /// Something was made ready.
    Ready,
    /// Nothing yet.
    Wait,
    /// Nothing ever.
    Over,
}

impl Feed {
    pub(super) fn new(
        seat: Seat,
        rendition: RenditionId,
        from: u64,
        behind_bytes_max: u64,
        clock: Clock,
        drain: Drain,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            changes: seat.stream.changes(),
            seat,
            rendition,
            next: (from > 0).then_some(from),
            behind_bytes_max,
            clock,
            drain,
            metrics,
            delegation: None,
            catalog: (0, 0),
            skipped_at: None,
            ready: VecDeque::new(),
            over: false,
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::feed(futures_util::stream::unfold(self, |mut feed| async move {
            let bytes = feed.step().await?;
            Some((bytes, feed))
        }))
    }

    async fn step(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.over {
                return None;
            }
            if self.drain.has_begun() {
                self.over = true;
                self.say(&Frame::Goaway { reason: Reason::Shutdown, within_ms: GOAWAY_MS });
                continue;
            }
            self.changes.mark_unchanged();
            let stream = Arc::clone(&self.seat.stream);
            match stream.look(|inner| self.look(inner)) {
                Next::Ready => {}
                Next::Over => self.over = true,
                Next::Wait => {
                    let drain = self.drain.clone();
                    tokio::select! {
                        changed = timeout(PING_EVERY, self.changes.changed()) => match changed {
                            Ok(Ok(())) => {}
                            Ok(Err(_)) => self.over = true,
                            Err(_) => self.say(&Frame::Ping(self.clock.now().0)),
                        },
                        () = drain.begun() => {}
                    }
                }
            }
        }
    }

    /// Makes ready what comes next: at most one part.
    fn look(&mut self, inner: &Inner) -> Next {
        let generation = inner.permission.delegation.unverified().generation;
        let current = |held: &&Held| held.record.unverified().generation == generation;
        let Some(newest) = inner.window.parts(self.rendition).next_back().filter(current) else {
            return self.nothing(inner);
        };
        let newest = newest.record.unverified();
        let next = self.next.unwrap_or_else(|| self.beginning(&inner.window, newest));
        self.next = Some(next);
        if next > newest.number {
            return self.nothing(inner);
        }
        let behind = inner.window.parts_from(self.rendition, next).filter(current);
        let mut held = None;
        let mut bytes = 0;
        for part in behind {
            bytes += part.data.len() as u64;
            held = held.or(Some(part));
        }
        let Some(mut held) = held else { return self.nothing(inner) };
        if bytes > self.behind_bytes_max {
            self.metrics.feed_gaps.inc();
            let now = self.clock.now();
            if self.skipped_at.is_some_and(|before| now.since(before) < SKIP_AGAIN) {
                tracing::info!(stream = %self.seat.stream.id(), bytes, "a feed stays behind and is closed");
                return Next::Over;
            }
            self.skipped_at = Some(now);
            // To the newest segment's beginning, if it is not too much, too; else to the newest part.
            let target = newest.number.saturating_sub(u64::from(newest.part));
            let open: u64 =
                inner.window.parts_from(self.rendition, target).map(|part| part.data.len() as u64).sum();
            let target = if open > self.behind_bytes_max { newest.number } else { target };
            if let Some(part) = inner.window.parts_from(self.rendition, target.max(next)).next() {
                held = part;
            }
        }
        self.describe(inner, held);
        let number = held.record.unverified().number;
        if number > next {
            self.say(&Frame::Gap { rendition: self.rendition, from: next, next: number });
        }
        self.part(held);
        self.next = number.checked_add(1);
        Next::Ready
    }

    /// Where a feed begins that goes on from nowhere: where receivers do, if that is not too much for a reader.
    fn beginning(&self, window: &Window, newest: &Record) -> u64 {
        let records = window.newest_records(Some(self.rendition), START_SEGMENTS);
        let first = records.last().map(|record| record.unverified().number);
        let bytes =
            |from| window.parts_from(self.rendition, from).map(|part| part.data.len() as u64).sum::<u64>();
        let begins = first.filter(|from| bytes(*from) <= self.behind_bytes_max);
        begins.unwrap_or_else(|| newest.number.saturating_sub(u64::from(newest.part)))
    }

    /// Nothing to send of the rendition; perhaps of the stream.
    fn nothing(&mut self, inner: &Inner) -> Next {
        if inner.state != State::Ended {
            return Next::Wait;
        }
        if let Some(catalog) = inner.window.newest_catalog() {
            self.delegate(inner);
            self.catalog(catalog);
        }
        self.over = true;
        Next::Ready
    }

    fn describe(&mut self, inner: &Inner, held: &Held) {
        self.delegate(inner);
        let named = held.record.unverified().catalog;
        for catalog in inner.catalogs_in_force() {
            let version = catalog.unverified().version;
            if version >= named || version > self.catalog.1 {
                self.catalog(catalog);
            }
        }
    }

    fn delegate(&mut self, inner: &Inner) {
        let delegation = &inner.permission.delegation;
        if self.delegation.as_ref() != Some(delegation) {
            self.say(&Frame::Delegation(delegation.clone()));
            self.delegation = Some(delegation.clone());
        }
    }

    fn catalog(&mut self, catalog: &Signed<Catalog>) {
        let place = (catalog.unverified().generation, catalog.unverified().version);
        if place > self.catalog {
            self.say(&Frame::Catalog(catalog.clone()));
            self.catalog = place;
        }
    }

    fn part(&mut self, held: &Held) {
        let record = held.record.unverified();
        self.say(&Frame::Record(held.record.clone()));
        let piece_bytes = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX);
        let mut rest = held.data.clone();
        for index in 0..u32::try_from(record.pieces.len()).unwrap_or(u32::MAX) {
            let data = rest.split_to(rest.len().min(piece_bytes));
            // The piece's own bytes are not copied: they follow what stands before them in a frame.
            let empty =
                Frame::Piece { rendition: self.rendition, number: record.number, index, data: Bytes::new() };
            let before = empty.encode();
            let length = u32::try_from(before.len() + data.len()).unwrap_or(u32::MAX);
            let mut head = BytesMut::with_capacity(4 + before.len());
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&before);
            self.ready.push_back(head.freeze());
            self.ready.push_back(data);
        }
    }

    fn say(&mut self, frame: &Frame) {
        let mut body = BytesMut::new();
        write_framed(&frame.encode(), &mut body);
        self.ready.push_back(body.freeze());
    }
}
