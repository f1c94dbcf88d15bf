//! Several senders share one bottleneck; their acknowledgements come back over a path of their own.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use millstream_model::Instant;

use crate::{Counts, Path, Traits, path::Payload};

/// Someone who sends as much as congestion allows (or as they have).
pub trait Sender {
    /// The next packet that leaves now. Asked until there is none.
    fn poll(&mut self, now: Instant) -> Option<Packet>;

    /// When to ask again, though nothing was acknowledged: for timers and pacing.
    fn wake(&self) -> Option<Instant>;

    /// Packets have arrived; `ids` as [`Packet::id`] named them, in the order of their arrival.
    fn acknowledged(&mut self, now: Instant, ids: &[u64]);
}

/// A packet, without what is in it. One that is sent again has a new number.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Counts the sender's packets from zero, without gaps.
    pub id: u64,
    /// On the wire.
    pub bytes: u64,
}

/// How a receiver acknowledges.
#[derive(Debug, Clone, Copy)]
pub enum Acknowledging {
    /// Each packet at once.
    Each,
    /// Each second packet, or after 40 ms (RFC 1122 §4.2.3.2).
    Second,
    /// All that came within this time, together.
    Bunched(Duration),
}

/// One sender's place at the bottleneck.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// When it begins.
    pub starts: Instant,
    /// From its receiver back to it: with [`Traits::delay`] its round trip.
    pub back: Duration,
    /// How its receiver acknowledges.
    pub acknowledging: Acknowledging,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Bytes that arrived, of each sender, in each [`Dumbbell::BUCKET`] of time.
    pub arrived: Vec<Vec<u64>>,
    /// The longest wait before the bottleneck in each bucket, in microseconds.
    pub waits: Vec<u32>,
    /// What became of the packets.
    pub counts: Counts,
}

impl Outcome {
    /// Bytes a second that `sender` got through between two times.
    #[must_use]
    pub fn rate(&self, sender: usize, from: Duration, to: Duration) -> f64 {
        let bucket = Dumbbell::BUCKET.as_secs_f64();
        let index = |time: Duration| time.as_millis() / Dumbbell::BUCKET.as_millis();
        let (from, to) = (index(from), index(to));
        let buckets = self.arrived[sender].iter().zip(0u128..).filter(|(_, at)| (from..to).contains(at));
        let (bytes, count) = buckets.fold((0u64, 0u32), |(sum, count), (bytes, _)| (sum + bytes, count + 1));
        #[expect(clippy::cast_precision_loss, reason = "a rate for a table")]
        let bytes = bytes as f64;
        bytes / (f64::from(count.max(1)) * bucket)
    }
}

/// Senders, a bottleneck, receivers.
pub struct Dumbbell<'a> {
    now: Instant,
    path: Path<Token>,
    sides: Vec<Side<'a>>,
    outcome: Outcome,
}

struct Side<'a> {
    seat: Seat,
    sender: Box<dyn Sender + 'a>,
    /// Arrived and not acknowledged yet, and when they must be.
    held: Vec<u64>,
    due: Option<Instant>,
    back: VecDeque<(Instant, Vec<u64>)>,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    side: usize,
    packet: Packet,
}

impl Payload for Token {
    fn wire_bytes(&self) -> u64 {
        self.packet.bytes
    }
}

/// A delayed acknowledgement waits no longer.
const DELAYED: Duration = Duration::from_millis(40);

impl<'a> Dumbbell<'a> {
    /// What [`Outcome`] sums over.
    pub const BUCKET: Duration = Duration::from_millis(100);

    /// A bottleneck without senders.
    #[must_use]
    pub fn new(traits: Traits, seed: u64) -> Self {
        let outcome = Outcome { arrived: Vec::new(), waits: Vec::new(), counts: Counts::default() };
        Self { now: Instant(0), path: Path::new(traits, seed), sides: Vec::new(), outcome }
    }

    /// Adds a sender.
    pub fn seat(&mut self, seat: Seat, sender: impl Sender + 'a) {
        let sender = Box::new(sender);
        self.sides.push(Side { seat, sender, held: Vec::new(), due: None, back: VecDeque::new() });
        self.outcome.arrived.push(Vec::new());
    }

    /// Changes the bottleneck, now.
    pub fn change(&mut self, change: impl FnOnce(&mut Traits)) {
        self.path.change(self.now, change);
    }

    /// Goes on until `end`, measured from the beginning.
    pub fn run(&mut self, end: Duration) {
        let end = Instant(0) + end;
        let mut wakes = BinaryHeap::new();
        while self.now < end {
            self.turn();
            wakes.clear();
            wakes.extend(self.path.next().map(Reverse));
            for side in &self.sides {
                wakes.extend(side.due.map(Reverse));
                wakes.extend(side.back.front().map(|(at, _)| Reverse(*at)));
                wakes.extend(side.sender.wake().map(|wake| Reverse(wake.max(side.seat.starts))));
            }
            let next = wakes.peek().map_or(end, |Reverse(next)| *next);
            // A sender that asks for the past is asked a tick later: time must go on.
            self.now = next.max(self.now + Duration::from_micros(1)).min(end);
        }
    }

    /// What has come of it so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome { counts: self.path.counts().clone(), ..self.outcome.clone() }
    }

    fn turn(&mut self) {
        let now = self.now;
        let bucket =
            usize::try_from(now.since(Instant(0)).as_millis() / Self::BUCKET.as_millis()).unwrap_or(0);
        while let Some(token) = self.path.receive(now) {
            grow(&mut self.outcome.arrived[token.side], bucket);
            self.outcome.arrived[token.side][bucket] += token.packet.bytes;
            self.sides[token.side].arrived(now, token.packet.id);
        }
        grow(&mut self.outcome.waits, bucket);
        let wait = self.path.waiting(now);
        self.outcome.waits[bucket] = self.outcome.waits[bucket].max(wait);
        for (index, side) in self.sides.iter_mut().enumerate() {
            if side.due.is_some_and(|due| due <= now) {
                side.acknowledge(now);
            }
            while side.back.front().is_some_and(|(at, _)| *at <= now) {
                if let Some((_, ids)) = side.back.pop_front() {
                    side.sender.acknowledged(now, &ids);
                }
            }
            if now < side.seat.starts {
                continue;
            }
            while let Some(packet) = side.sender.poll(now) {
                self.path.send(now, Token { side: index, packet });
            }
        }
    }
}

impl Side<'_> {
    fn arrived(&mut self, now: Instant, id: u64) {
        self.held.push(id);
        match self.seat.acknowledging {
            Acknowledging::Each => self.acknowledge(now),
            Acknowledging::Second if self.held.len() >= 2 => self.acknowledge(now),
            Acknowledging::Second => self.due = Some(now + DELAYED),
            Acknowledging::Bunched(time) => self.due = Some(self.due.unwrap_or(now + time)),
        }
    }

    fn acknowledge(&mut self, now: Instant) {
        self.due = None;
        self.back.push_back((now + self.seat.back, std::mem::take(&mut self.held)));
    }
}

fn grow<T: Clone + Default>(buckets: &mut Vec<T>, last: usize) {
    if buckets.len() <= last {
        buckets.resize(last + 1, T::default());
    }
}
