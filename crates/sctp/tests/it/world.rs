//! Two associations and the two directions of a path between them, in virtual time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_model::Instant;
use millstream_netsim::{Path, Traits};
use millstream_sctp::{
    Association, CloseReason, Config, Entropy, Event, Message, Outgoing, Reliability, SendError,
};

/// One side and what has come of it.
pub(crate) struct End {
    pub(crate) association: Association,
    pub(crate) received: Vec<Message>,
    pub(crate) received_bytes: u64,
    /// When the last message came.
    pub(crate) last_at: Instant,
    pub(crate) events: Vec<Event>,
    /// Messages are left with the association.
    pub(crate) is_reading: bool,
    /// Messages are counted and not kept.
    pub(crate) keeps: bool,
    pub(crate) packets: u64,
}

/// The pair.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) ends: [End; 2],
    /// From the first to the second, and back.
    pub(crate) paths: [Path<Vec<u8>>; 2],
}

impl World {
    pub(crate) fn new(traits: Traits, seed: u64) -> Self {
        Self::with(&Config::default(), &Config::default(), traits, seed)
    }

    pub(crate) fn with(first: &Config, second: &Config, traits: Traits, seed: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let end = |config: &Config, salt: u8| {
            let mut entropy = [salt; 32];
            entropy[..8]
                .copy_from_slice(&(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + u64::from(salt)).to_be_bytes());
            End {
                association: Association::new(Arc::new(config.clone()), Entropy(entropy), now),
                received: Vec::new(),
                received_bytes: 0,
                last_at: now,
                events: Vec::new(),
                is_reading: true,
                keeps: true,
                packets: 0,
            }
        };
        Self {
            now,
            ends: [end(first, 1), end(second, 2)],
            paths: [Path::new(traits, seed), Path::new(traits, seed ^ 0xABCD)],
        }
    }

    /// Both open; the first has begun.
    pub(crate) fn opened(traits: Traits, seed: u64) -> Self {
        let mut world = Self::new(traits, seed);
        world.open();
        world
    }

    pub(crate) fn open(&mut self) {
        self.ends[0].association.connect(self.now);
        assert!(self.run_until(Duration::from_secs(60), |world| world.is_open()), "it does not open");
    }

    pub(crate) fn is_open(&self) -> bool {
        self.ends.iter().all(|end| end.association.is_open())
    }

    pub(crate) fn send(
        &mut self,
        from: usize,
        stream: u16,
        bytes: Bytes,
        is_unordered: bool,
    ) -> Result<(), SendError> {
        let outgoing = Outgoing { stream, ppi: 53, bytes, is_unordered, reliability: Reliability::Reliable };
        self.ends[from].association.send(outgoing, self.now)
    }

    pub(crate) fn closed(&self, end: usize) -> Option<CloseReason> {
        self.ends[end].events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(*reason),
            _ => None,
        })
    }

    /// Runs until `done`, or for so long. Says whether it is done.
    pub(crate) fn run_until(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            self.turn();
            if done(self) {
                return true;
            }
            self.turn();
            let Some(next) = self.next().filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            assert!(next >= self.now, "time goes backwards");
            self.now = if next > self.now { next } else { self.now + Duration::from_micros(1) };
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// All that happens at this time.
    fn turn(&mut self) {
        for at in 0..2 {
            let [to, from] = if at == 0 { [0, 1] } else { [1, 0] };
            while let Some(packet) = self.paths[from].receive(self.now) {
                self.ends[to].association.handle(&packet, self.now);
            }
            let end = &mut self.ends[to];
            if end.association.next_timeout(self.now).is_some_and(|due| due <= self.now) {
                end.association.handle_timeout(self.now);
            }
            while end.is_reading
                && let Some(message) = end.association.recv()
            {
                end.received_bytes += message.bytes.len() as u64;
                end.last_at = self.now;
                if end.keeps {
                    end.received.push(message);
                }
            }
            while let Some(event) = end.association.poll_event() {
                end.events.push(event);
            }
            let mut packet = Vec::new();
            while end.association.poll_transmit(self.now, &mut packet) {
                end.packets += 1;
                self.paths[to].send(self.now, std::mem::take(&mut packet));
            }
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let now = self.now;
        let timers = self.ends.iter_mut().filter_map(|end| end.association.next_timeout(now));
        timers.chain(self.paths.iter().filter_map(Path::next)).min()
    }
}
