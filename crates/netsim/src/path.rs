//! One direction of a network path: a bottleneck with a drop-tail queue, then a delay, and accidents on the way.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use millstream_model::Instant;

use crate::Chance;

/// What a path can carry.
pub trait Payload {
    /// How long it is on the wire, in bytes.
    fn wire_bytes(&self) -> u64;

    /// Flips a bit of it, which one is up to `draw`. What has no bits stays as it is.
    fn corrupt(&mut self, _draw: u64) {}

    /// A second one, where duplication is asked for.
    fn duplicate(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

impl Payload for Vec<u8> {
    fn wire_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn corrupt(&mut self, draw: u64) {
        let bits = self.len() as u64 * 8;
        let Some(bit) = draw.checked_rem(bits) else { return };
        if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| self.get_mut(at)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// Losses that come together (Gilbert and Elliott): the path is good or bad, and changes with each packet by chance.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    /// Of a million packets on a good path, those that turn it bad.
    pub to_bad_per_million: u32,
    /// Of a million packets on a bad path, those that turn it good.
    pub to_good_per_million: u32,
    /// Of a million packets on a bad path, those that are lost.
    pub loss_per_million: u32,
}

/// Packets that are overtaken.
#[derive(Debug, Clone, Copy)]
pub struct Reorder {
    /// How many of a million.
    pub per_million: u32,
    /// How much longer they take.
    pub by: Duration,
}

/// What a path is like.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// Bytes a second that pass; none lets everything through at once.
    pub rate: Option<u64>,
    /// From the bottleneck to the other end.
    pub delay: Duration,
    /// Bytes that wait before the bottleneck at most; a packet that does not fit is dropped.
    pub queue_bytes: u64,
    /// Of a million packets, those lost by accident, after the bottleneck.
    pub loss_per_million: u32,
    /// Losses that come together.
    pub burst: Option<Burst>,
    /// A packet takes up to so much longer; order is kept.
    pub jitter: Duration,
    /// Packets that are overtaken.
    pub reorder: Option<Reorder>,
    /// Of a million packets, those that arrive twice.
    pub duplicate_per_million: u32,
    /// Of a million packets, those that arrive with a bit flipped.
    pub corrupt_per_million: u32,
    /// Longer packets vanish.
    pub packet_bytes_max: u64,
}

impl Default for Traits {
    /// Neither rate nor delay nor accidents.
    fn default() -> Self {
        Self {
            rate: None,
            delay: Duration::ZERO,
            queue_bytes: u64::MAX,
            loss_per_million: 0,
            burst: None,
            jitter: Duration::ZERO,
            reorder: None,
            duplicate_per_million: 0,
            corrupt_per_million: 0,
            packet_bytes_max: u64::MAX,
        }
    }
}

impl Traits {
    /// A bottleneck of `rate` bytes a second with a queue that takes `queue` to drain.
    #[must_use]
    pub fn bottleneck(rate: u64, delay: Duration, queue: Duration) -> Self {
        let queue_bytes = u128::from(rate) * queue.as_micros() / 1_000_000;
        Self {
            rate: Some(rate),
            delay,
            queue_bytes: u64::try_from(queue_bytes).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }
}

/// What became of the packets.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Packets that went in.
    pub sent: u64,
    /// Packets that came out, duplicates among them.
    pub delivered: u64,
    /// Bytes that came out.
    pub delivered_bytes: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// Bytes that found the queue full.
    pub dropped_bytes: u64,
    /// Packets lost by accident, or too long.
    pub lost: u64,
    /// How long each packet waited before the bottleneck, in microseconds.
    pub queued_micros: Vec<u32>,
}

/// One direction of a path.
#[derive(Debug)]
pub struct Path<P> {
    traits: Traits,
    chance: Chance,
    is_bad: bool,
    queue: VecDeque<Queued<P>>,
    queued_bytes: u64,
    /// When the first of the queue has passed the bottleneck.
    head_passes_at: Instant,
    flying: BinaryHeap<Flying<P>>,
    order: u64,
    last_arrival: Instant,
    counts: Counts,
}

#[derive(Debug)]
struct Queued<P> {
    packet: P,
    since: Instant,
}

#[derive(Debug)]
struct Flying<P> {
    at: Instant,
    order: u64,
    packet: P,
}

impl<P: Payload> Path<P> {
    /// A path with `traits`, whose accidents are decided by `seed`.
    #[must_use]
    pub fn new(traits: Traits, seed: u64) -> Self {
        Self {
            traits,
            chance: Chance::new(seed),
            is_bad: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            head_passes_at: Instant(0),
            flying: BinaryHeap::new(),
            order: 0,
            last_arrival: Instant(0),
            counts: Counts::default(),
        }
    }

    /// Changes what the path is like. A packet on its way goes on as before.
    pub fn change(&mut self, now: Instant, change: impl FnOnce(&mut Traits)) {
        self.advance(now);
        change(&mut self.traits);
    }

    /// What became of the packets so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes that wait before the bottleneck.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// How long a packet would wait that went in now, in microseconds.
    pub fn waiting(&mut self, now: Instant) -> u32 {
        self.advance(now);
        let Some(rate) = self.traits.rate else { return 0 };
        u32::try_from(passing(self.queued_bytes, rate).as_micros()).unwrap_or(u32::MAX)
    }

    /// A packet goes in.
    pub fn send(&mut self, now: Instant, packet: P) {
        self.advance(now);
        self.counts.sent += 1;
        let bytes = packet.wire_bytes();
        if bytes > self.traits.packet_bytes_max {
            self.counts.lost += 1;
            return;
        }
        let Some(rate) = self.traits.rate else {
            self.depart(now, packet);
            return;
        };
        if self.queued_bytes.saturating_add(bytes) > self.traits.queue_bytes.max(bytes) {
            self.counts.dropped += 1;
            self.counts.dropped_bytes += bytes;
            return;
        }
        if self.queue.is_empty() {
            self.head_passes_at = now + passing(bytes, rate);
        }
        self.queued_bytes += bytes;
        self.queue.push_back(Queued { packet, since: now });
    }

    /// When something happens next; none when nothing is on its way.
    pub fn next(&self) -> Option<Instant> {
        let passes = (!self.queue.is_empty()).then_some(self.head_passes_at);
        let arrives = self.flying.peek().map(|flying| flying.at);
        match (passes, arrives) {
            (Some(passes), Some(arrives)) => Some(passes.min(arrives)),
            (passes, arrives) => passes.or(arrives),
        }
    }

    /// The next packet that has come out by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<P> {
        self.advance(now);
        if self.flying.peek()?.at > now {
            return None;
        }
        let packet = self.flying.pop()?.packet;
        self.counts.delivered += 1;
        self.counts.delivered_bytes += packet.wire_bytes();
        Some(packet)
    }

    fn advance(&mut self, now: Instant) {
        while self.head_passes_at <= now {
            let Some(Queued { packet, since }) = self.queue.pop_front() else { return };
            let passed = self.head_passes_at;
            let bytes = packet.wire_bytes();
            self.queued_bytes -= bytes;
            let rate = self.traits.rate.unwrap_or(u64::MAX);
            let waited = passed.since(since).saturating_sub(passing(bytes, rate)).as_micros();
            self.counts.queued_micros.push(u32::try_from(waited).unwrap_or(u32::MAX));
            if let Some(next) = self.queue.front() {
                self.head_passes_at = passed + passing(next.packet.wire_bytes(), rate);
            }
            self.depart(passed, packet);
        }
    }

    fn depart(&mut self, now: Instant, mut packet: P) {
        if self.is_lost() {
            self.counts.lost += 1;
            return;
        }
        if self.chance.happens(self.traits.corrupt_per_million) {
            packet.corrupt(self.chance.draw());
        }
        if self.chance.happens(self.traits.duplicate_per_million)
            && let Some(second) = packet.duplicate()
        {
            self.fly(now, second);
        }
        self.fly(now, packet);
    }

    fn fly(&mut self, now: Instant, packet: P) {
        let jitter = u64::try_from(self.traits.jitter.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.chance.below(jitter));
        let mut at = (now + self.traits.delay + jitter).max(self.last_arrival);
        match self.traits.reorder {
            Some(reorder) if self.chance.happens(reorder.per_million) => at = at + reorder.by,
            _ => self.last_arrival = at,
        }
        self.order += 1;
        self.flying.push(Flying { at, order: self.order, packet });
    }

    fn is_lost(&mut self) -> bool {
        if let Some(burst) = self.traits.burst {
            let turns = if self.is_bad { burst.to_good_per_million } else { burst.to_bad_per_million };
            self.is_bad ^= self.chance.happens(turns);
            if self.is_bad && self.chance.happens(burst.loss_per_million) {
                return true;
            }
        }
        self.chance.happens(self.traits.loss_per_million)
    }
}

/// How long `bytes` take through a bottleneck of `rate` bytes a second, rounded up to what the clock can tell.
fn passing(bytes: u64, rate: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000).div_ceil(rate.max(1)))
}

impl<P> PartialEq for Flying<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<P> Eq for Flying<P> {}

impl<P> PartialOrd for Flying<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Flying<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap's greatest is the first to arrive.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
