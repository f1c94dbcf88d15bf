//! Chunks that the peer has not acknowledged for good: a ring indexed by TSN. Every chunk is touched a constant number
//! of times in its life, whatever the peer's acknowledgements look like.
//!
//! What is lost is found by time, as in RACK (RFC 8985 §6): when something sent later has arrived, whatever was sent
//! long enough before it has not. `order` holds the transmissions by time, so that only the lost and the gone are
//! looked at.

use std::{collections::VecDeque, time::Duration};

use millstream_model::Instant;

use super::queue::{Cut, Key, MESSAGE_CHARGE};
use crate::congestion::Rate;

mod arrivals;

/// Chunks in flight at most. A SACK names what it has beyond its cumulative TSN by 16 bits (RFC 9260 §3.3.4); half of
/// that leaves the peer room, and is 18 MB.
pub(crate) const CHUNKS_MAX: usize = 16 * 1024;

/// Acknowledgements beyond a gap that say it is one (RFC 8985 §6.2, step 4), where no reordering was seen.
const DUPLICATES_MIN: u32 = 3;

/// The reordering window grows to so many quarters of a round trip (RFC 8985 §6.2) when losses turn out to be none…
const REORDER_QUARTERS_MAX: u32 = 16;

/// … and shrinks again after so many losses that were ones.
const REORDER_PERSIST: u32 = 16;

/// Gap blocks from which on a SACK may have left some out: dcSCTP names 20 at most, others what a packet has room for.
/// What lies beyond its last block is then not judged.
const BLOCKS_TRUSTED: usize = 20;

/// A chunk on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) cut: Cut,
    /// I-DATA's number within its message.
    pub(crate) fsn: u32,
    pub(crate) transmissions: u32,
    state: State,
    sent: Instant,
    at_sending: Snapshot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flying,
    /// Taken for lost; waits to be sent again.
    Lost,
    /// The peer has it beyond a gap. It may take that back (RFC 9260 §6.2), so the bytes are kept.
    Held,
    /// Given up (RFC 3758).
    Abandoned,
}

/// The connection's counters when a chunk left (draft-ietf-ccwg-bbr §4.1.2).
#[derive(Debug, Clone, Copy, Default)]
struct Snapshot {
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    in_flight: u64,
    lost: u64,
    is_app_limited: bool,
}

/// What one acknowledgement brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Bytes acknowledged for the first time, chunk headers included.
    pub(crate) bytes: u64,
    /// The cumulative TSN moved.
    pub(crate) is_cumulative: bool,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) rate: Option<Rate>,
    pub(crate) is_spurious: bool,
}

/// What was taken for lost at one time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses {
    pub(crate) bytes: u64,
    pub(crate) newest_sent: Instant,
    pub(crate) in_flight_then: u64,
    pub(crate) lost_since: u64,
    /// When to look again, if something may be lost by then.
    pub(crate) again_at: Option<Instant>,
}

/// All chunks in flight.
#[derive(Debug)]
pub(crate) struct Flight {
    /// TSN of the first in the ring; the one after the last that the peer has acknowledged cumulatively.
    first: u64,
    ring: VecDeque<Chunk>,
    /// Transmissions by time; those that a later one of the same chunk or an acknowledgement has outdated are passed over.
    order: VecDeque<(u64, Instant)>,
    lost: VecDeque<u64>,
    /// Runs beyond the cumulative TSN that the peer holds, each from first to last, sorted and apart.
    held: Vec<(u64, u64)>,
    scratch: Vec<(u64, u64)>,
    /// The gap blocks that `held` was made of last, as they came.
    seen: Vec<u8>,
    /// Bytes of a chunk's header.
    header: u64,
    flying: u64,
    flying_window: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    lost_bytes: u64,
    /// `delivered` at which the present want of data is over.
    app_limited_until: u64,
    /// The newest transmission that has arrived.
    newest: Option<(Instant, u64)>,
    newest_round_trip: Duration,
    beyond: u32,
    /// The last TSN that the newest acknowledgement says something of.
    named_until: u64,
    highest_acknowledged: u64,
    is_reordering: bool,
    reorder_quarters: u32,
    reorder_persist: u32,
    /// No second widening of the window before this much is acknowledged.
    widened_until: u64,
}

impl Flight {
    pub(crate) fn new(first: u64, now: Instant) -> Self {
        Self {
            first,
            ring: VecDeque::new(),
            order: VecDeque::new(),
            lost: VecDeque::new(),
            held: Vec::new(),
            scratch: Vec::new(),
            seen: Vec::new(),
            header: 0,
            flying: 0,
            flying_window: 0,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            lost_bytes: 0,
            app_limited_until: 0,
            newest: None,
            newest_round_trip: Duration::ZERO,
            beyond: 0,
            named_until: u64::MAX,
            highest_acknowledged: first.saturating_sub(1),
            is_reordering: false,
            reorder_quarters: 1,
            reorder_persist: REORDER_PERSIST,
            widened_until: 0,
        }
    }

    pub(crate) const fn set_header(&mut self, bytes: u64) {
        self.header = bytes;
    }

    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// The TSN that the next new chunk gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ring.len() >= CHUNKS_MAX
    }

    /// Bytes in flight, headers included: neither acknowledged nor taken for lost.
    pub(crate) const fn flying(&self) -> u64 {
        self.flying
    }

    /// What of the peer's window they fill: payload, and for each message what keeping it costs the peer.
    pub(crate) const fn flying_window(&self) -> u64 {
        self.flying_window
    }

    /// Bytes acknowledged in all, headers included.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn chunk(&self, tsn: u64) -> Option<&Chunk> {
        self.ring.get(usize::try_from(tsn.checked_sub(self.first)?).ok()?)
    }

    /// There is less to send than might leave: rates measured until what now flies has arrived say little.
    pub(crate) fn limited_by_application(&mut self) {
        self.app_limited_until = (self.delivered + self.flying).max(1);
    }

    /// A new chunk leaves; it gets the TSN [`Flight::next`].
    pub(crate) fn send(&mut self, cut: Cut, fsn: u32, now: Instant) {
        let tsn = self.next();
        let chunk = Chunk {
            cut,
            fsn,
            transmissions: 0,
            state: State::Lost,
            sent: now,
            at_sending: Snapshot::default(),
        };
        self.ring.push_back(chunk);
        self.fly(tsn, now);
    }

    /// The next chunk to be sent again.
    pub(crate) fn next_lost(&mut self) -> Option<u64> {
        while let Some(&tsn) = self.lost.front() {
            if self.chunk(tsn).is_some_and(|chunk| chunk.state == State::Lost) {
                return Some(tsn);
            }
            self.lost.pop_front();
        }
        None
    }

    /// The chunk of [`Flight::next_lost`] leaves again.
    pub(crate) fn resend(&mut self, tsn: u64, now: Instant) {
        if self.lost.front() == Some(&tsn) {
            self.lost.pop_front();
        }
        self.fly(tsn, now);
    }

    /// The last chunk that the peer has not, for a probe of the tail (RFC 8985 §7.3): it counts as lost.
    pub(crate) fn probe(&mut self) -> Option<u64> {
        let back = self.ring.iter().rposition(|chunk| chunk.state == State::Flying)?;
        let tsn = self.first + back as u64;
        if let Some(chunk) = self.chunk(tsn).copied() {
            // No loss yet: it only has to leave once more.
            self.land(&chunk);
            self.set(tsn, State::Lost);
            self.lost.push_front(tsn);
        }
        Some(tsn)
    }

    /// Takes for lost what was sent long enough before something that has arrived (RFC 8985 §6.2, step 5).
    pub(crate) fn detect(&mut self, smoothed: Duration, lowest: Duration, now: Instant) -> Losses {
        let mut losses = Losses::default();
        let Some((newest, newest_tsn)) = self.newest else { return losses };
        let window = self.reorder_window(smoothed, lowest);
        while let Some(&(tsn, sent)) = self.order.front() {
            let is_current =
                self.chunk(tsn).is_some_and(|chunk| chunk.state == State::Flying && chunk.sent == sent);
            if is_current {
                if (sent, tsn) >= (newest, newest_tsn) || tsn > self.named_until {
                    break;
                }
                let due = sent + self.newest_round_trip + window;
                if due > now {
                    losses.again_at = Some(due);
                    break;
                }
                self.lose(tsn);
                if let Some(chunk) = self.chunk(tsn) {
                    losses.bytes += u64::from(chunk.cut.length) + self.header;
                    losses.newest_sent = chunk.sent;
                    losses.in_flight_then = chunk.at_sending.in_flight;
                    losses.lost_since = self.lost_bytes - chunk.at_sending.lost;
                }
            }
            self.order.pop_front();
        }
        if losses.bytes > 0 {
            self.reorder_persist = self.reorder_persist.saturating_sub(1);
            if self.reorder_persist == 0 {
                self.reorder_quarters = 1;
            }
        }
        losses
    }

    /// Nothing came for a whole timeout: all that the peer has not acknowledged for good is sent again, also what it
    /// said to hold, which it may have dropped (RFC 9260 §6.3.3, §6.2).
    pub(crate) fn lose_all(&mut self) -> u64 {
        let mut bytes = 0;
        for tsn in self.first..self.next() {
            match self.chunk(tsn).map(|chunk| chunk.state) {
                Some(State::Flying) => {
                    bytes += self.chunk(tsn).map_or(0, |chunk| u64::from(chunk.cut.length)) + self.header;
                    self.lose(tsn);
                }
                Some(State::Held) if self.flying == 0 && self.lost.is_empty() => self.set(tsn, State::Lost),
                _ => {}
            }
        }
        self.lost.clear();
        self.order.clear();
        let Self { ring, lost, first, .. } = self;
        let all = ring.iter().zip(*first..).filter(|(chunk, _)| chunk.state == State::Lost);
        lost.extend(all.map(|(_, tsn)| tsn));
        self.held.clear();
        self.seen.clear();
        for (chunk, tsn) in self.ring.iter().zip(self.first..) {
            if chunk.state == State::Held {
                match self.held.last_mut() {
                    Some((_, end)) if *end + 1 == tsn => *end = tsn,
                    _ => self.held.push((tsn, tsn)),
                }
            }
        }
        bytes
    }

    /// The peer says that it got chunks twice (RFC 9260 §3.3.4): some that counted as lost had only been late.
    pub(crate) fn was_spurious(&mut self) {
        if self.delivered >= self.widened_until {
            self.reorder_quarters = (self.reorder_quarters + 1).min(REORDER_QUARTERS_MAX);
            self.widened_until = self.delivered + self.flying + 1;
            self.is_reordering = true;
        }
        self.reorder_persist = REORDER_PERSIST;
    }

    /// The end of a message that was given up: it gets the TSN [`Flight::next`] and never leaves, but what it stands for
    /// is passed over with the rest (RFC 3758 §3.5).
    pub(crate) fn send_never(&mut self, cut: Cut, now: Instant) {
        self.ring.push_back(Chunk {
            cut,
            fsn: 0,
            transmissions: 0,
            state: State::Abandoned,
            sent: now,
            at_sending: Snapshot::default(),
        });
    }

    /// What was taken for lost by [`Flight::lose_all`] and has not been sent again is on its way after all.
    pub(crate) fn recall(&mut self) {
        for tsn in std::mem::take(&mut self.lost) {
            let Some(chunk) = self.chunk(tsn).copied().filter(|chunk| chunk.state == State::Lost) else {
                continue;
            };
            self.set(tsn, State::Flying);
            self.flying += u64::from(chunk.cut.length) + self.header;
            self.flying_window += weight(&chunk.cut);
        }
        let flying = self.ring.iter().zip(self.first..).filter(|(chunk, _)| chunk.state == State::Flying);
        let mut order: Vec<(u64, Instant)> = flying.map(|(chunk, tsn)| (tsn, chunk.sent)).collect();
        order.sort_by_key(|(tsn, sent)| (*sent, *tsn));
        self.order = order.into();
    }

    /// Gives up every chunk of a message, whose TSNs lie in `span`, that the peer does not have.
    pub(crate) fn abandon(&mut self, key: Key, span: (u64, u64)) {
        for tsn in span.0.max(self.first)..=span.1 {
            let Some(chunk) = self.chunk(tsn).copied() else { continue };
            if chunk.cut.key == key && matches!(chunk.state, State::Flying | State::Lost) {
                if chunk.state == State::Flying {
                    self.land(&chunk);
                }
                self.set(tsn, State::Abandoned);
            }
        }
    }

    /// The last TSN up to which everything is acknowledged or given up (RFC 3758 §3.5), when something was given up.
    pub(crate) fn advanced(&self) -> Option<u64> {
        let is_over = |chunk: &Chunk| matches!(chunk.state, State::Abandoned | State::Held);
        let count = self.ring.iter().take_while(|chunk| is_over(chunk)).count();
        let any = self.ring.iter().take(count).any(|chunk| chunk.state == State::Abandoned);
        any.then(|| self.first + count as u64 - 1)
    }

    /// Messages given up among the chunks up to `tsn`.
    pub(crate) fn abandoned_to(&self, tsn: u64) -> impl Iterator<Item = Key> + '_ {
        let chunks = self.ring.iter().zip(self.first..).take_while(move |(_, at)| *at <= tsn);
        chunks.filter(|(chunk, _)| chunk.state == State::Abandoned).map(|(chunk, _)| chunk.cut.key)
    }

    fn fly(&mut self, tsn: u64, now: Instant) {
        if self.flying == 0 {
            // After silence, the time without anything in flight is no time of sending.
            self.first_sent = now;
            self.delivered_at = now;
        }
        let bytes = self.chunk(tsn).map_or(0, |chunk| u64::from(chunk.cut.length));
        self.flying += bytes + self.header;
        self.flying_window += self.chunk(tsn).map_or(0, |chunk| weight(&chunk.cut));
        let snapshot = Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            in_flight: self.flying,
            lost: self.lost_bytes,
            is_app_limited: self.app_limited_until > 0,
        };
        let at = usize::try_from(tsn.saturating_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(chunk) = self.ring.get_mut(at) {
            chunk.transmissions += 1;
            chunk.state = State::Flying;
            chunk.sent = now;
            chunk.at_sending = snapshot;
        }
        self.order.push_back((tsn, now));
    }

    fn land(&mut self, chunk: &Chunk) {
        self.flying -= u64::from(chunk.cut.length) + self.header;
        self.flying_window -= weight(&chunk.cut);
    }

    fn lose(&mut self, tsn: u64) {
        let Some(chunk) = self.chunk(tsn).copied() else { return };
        self.land(&chunk);
        self.lost_bytes += u64::from(chunk.cut.length) + self.header;
        self.set(tsn, State::Lost);
        self.lost.push_back(tsn);
    }

    fn set(&mut self, tsn: u64, state: State) {
        let at = usize::try_from(tsn.saturating_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(chunk) = self.ring.get_mut(at) {
            chunk.state = state;
        }
    }

    fn reorder_window(&mut self, smoothed: Duration, lowest: Duration) -> Duration {
        if !self.is_reordering && self.beyond >= DUPLICATES_MIN {
            return Duration::ZERO;
        }
        // Where packets do overtake each other, the shortest round trip may be far shorter than what they differ by.
        let base = if self.is_reordering { lowest.max(smoothed / 4) } else { lowest };
        (base * self.reorder_quarters / 4).min(smoothed)
    }

    /// Nothing is in flight: lets go of memory that a burst took.
    fn rest(&mut self) {
        self.order.clear();
        self.lost.clear();
        self.beyond = 0;
        if self.ring.capacity() > IDLE_CHUNKS {
            self.ring.shrink_to(IDLE_CHUNKS);
            self.order.shrink_to(IDLE_CHUNKS);
            self.lost.shrink_to(IDLE_CHUNKS);
            self.held = Vec::new();
            self.scratch = Vec::new();
            self.seen = Vec::new();
        }
    }
}

/// Places that an idle ring keeps.
const IDLE_CHUNKS: usize = 8;

/// What a chunk fills of the peer's window. Peers charge for each message on top of its bytes, as we do.
fn weight(cut: &Cut) -> u64 {
    u64::from(cut.length) + if cut.begins { MESSAGE_CHARGE as u64 } else { 0 }
}
