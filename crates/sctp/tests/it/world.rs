//! Two associations and the two directions of a path between them, in virtual time.
//!
//! Holds for every test on it what must hold at any time: every packet is well formed and no longer than allowed, and
//! whoever was drained has no timer that is due.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_model::Instant;
use millstream_netsim::{Path, Traits};
use millstream_sctp::{
    Association, CloseReason, Config, Entropy, Event, Message, Outgoing, Reliability, SendError, wire::Packet,
};

use crate::ledger::{Datagram, Ledger};

/// Whether a packet of the end named is dropped before the path.
pub(crate) type Tap = Box<dyn FnMut(usize, Instant, &[u8]) -> bool>;

/// One side and what has come of it.
pub(crate) struct End {
    pub(crate) association: Association,
    pub(crate) config: Arc<Config>,
    pub(crate) received: Vec<Message>,
    pub(crate) received_bytes: u64,
    /// When the last message came.
    pub(crate) last_at: Instant,
    pub(crate) events: Vec<Event>,
    /// Messages are left with the association when not.
    pub(crate) is_reading: bool,
    /// Messages are counted and not kept when not.
    pub(crate) keeps: bool,
    pub(crate) packets: u64,
    /// When the last packet left.
    pub(crate) sent_at: Instant,
    /// Since when data waits and no packet left.
    pub(crate) waiting_since: Option<Instant>,
    /// Longest time for which data waited and no packet left.
    pub(crate) silence_max: Duration,
    /// What this end has sent and what became of it.
    pub(crate) ledger: Ledger,
}

/// The pair.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) ends: [End; 2],
    /// From the first to the second, and back.
    pub(crate) paths: [Path<Datagram>; 2],
    pub(crate) tap: Option<Tap>,
    /// Timers go off at multiples of this, as those of a timer wheel do.
    pub(crate) grain: Duration,
    /// When something is to be done from outside.
    pub(crate) alarm: Option<Instant>,
    is_traced: bool,
}

/// Bytes that nobody guesses, from a seed.
pub(crate) fn entropy(seed: u64, salt: u8) -> Entropy {
    let mut entropy = [salt; 32];
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(salt));
    entropy[..8].copy_from_slice(&mixed.to_be_bytes());
    Entropy(entropy)
}

impl World {
    pub(crate) fn new(traits: Traits, seed: u64) -> Self {
        Self::with(&Config::default(), &Config::default(), traits, seed)
    }

    pub(crate) fn with(first: &Config, second: &Config, traits: Traits, seed: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let end = |config: &Config, salt: u8| {
            let config = Arc::new(config.clone());
            End {
                association: Association::new(config.clone(), entropy(seed, salt), now),
                config,
                received: Vec::new(),
                received_bytes: 0,
                last_at: now,
                events: Vec::new(),
                is_reading: true,
                keeps: true,
                packets: 0,
                sent_at: now,
                waiting_since: None,
                silence_max: Duration::ZERO,
                ledger: Ledger::default(),
            }
        };
        Self {
            now,
            ends: [end(first, 1), end(second, 2)],
            paths: [Path::new(traits, seed), Path::new(traits, seed ^ 0xABCD)],
            tap: None,
            grain: Duration::ZERO,
            alarm: None,
            is_traced: std::env::var_os("SCTP_TRACE").is_some(),
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

    /// Both have everything that was sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.ends.iter().all(|end| end.association.is_drained())
    }

    /// Runs until `done`, or for so long. Says whether it is done.
    pub(crate) fn run_until(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            self.turn();
            if done(self) {
                return true;
            }
            let is_busy = self.turn();
            let soon = is_busy.then(|| self.now + Duration::from_micros(1));
            let Some(next) = self.next().into_iter().chain(soon).min().filter(|next| *next <= end) else {
                self.now = end;
                return done(self);
            };
            assert!(next >= self.now, "time goes backwards");
            self.now = if next > self.now { next } else { self.now + Duration::from_micros(1) };
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// All that happens at this time. Says whether anything did.
    pub(crate) fn turn(&mut self) -> bool {
        let mut is_busy = false;
        for at in 0..2 {
            while let Some(datagram) = self.paths[1 - at].receive(self.now) {
                self.ends[1 - at].ledger.arrived(&datagram, self.now);
                if self.is_traced {
                    println!("{:>10} >{at} {}", self.now.0, crate::trace::line(&datagram.bytes));
                }
                self.ends[at].association.handle(&datagram.bytes, self.now);
                is_busy = true;
            }
            is_busy |= self.drain(at);
        }
        is_busy
    }

    /// The end's timers, messages, events and packets. Says whether there were packets.
    fn drain(&mut self, at: usize) -> bool {
        let now = self.now;
        let end = &mut self.ends[at];
        if let Some(since) = end.waiting_since {
            end.silence_max = end.silence_max.max(now.since(since));
        }
        if end.association.next_timeout(now).is_some_and(|due| due <= now) {
            end.association.handle_timeout(now);
        }
        while end.is_reading
            && let Some(message) = end.association.recv()
        {
            end.received_bytes += message.bytes.len() as u64;
            end.last_at = now;
            if end.keeps {
                end.received.push(message);
            }
        }
        while let Some(event) = end.association.poll_event() {
            end.events.push(event);
        }
        let (mut packet, before) = (Vec::new(), end.packets);
        while end.association.poll_transmit(now, &mut packet) {
            let longest = end.config.packet_bytes_max.max(end.config.packet_bytes_min);
            assert!(packet.len() <= longest, "a packet of {} bytes where {longest} go", packet.len());
            assert!(Packet::parse(&packet, true).is_ok(), "a packet with a wrong checksum");
            end.packets += 1;
            end.sent_at = now;
            let is_lost = self.tap.as_mut().is_some_and(|tap| tap(at, now, &packet));
            if self.is_traced {
                let fate = if is_lost { " (dropped)" } else { "" };
                println!("{:>10} {at}> {}{fate}", now.0, crate::trace::line(&packet));
            }
            let datagram = end.ledger.sent(std::mem::take(&mut packet), now);
            if !is_lost {
                self.paths[at].send(now, datagram);
            }
        }
        let is_waiting = end.association.is_open() && !end.association.is_drained();
        end.waiting_since = is_waiting.then(|| end.sent_at.max(end.waiting_since.unwrap_or(now)));
        assert!(packet.is_empty(), "bytes without a packet");
        let due = end.association.next_timeout(now);
        assert!(due.is_none_or(|due| due > now), "a timer is due after all was done: {due:?} at {now:?}");
        end.packets > before
    }

    fn next(&mut self) -> Option<Instant> {
        let (now, grain) = (self.now, u64::try_from(self.grain.as_micros()).unwrap().max(1));
        let timers = self.ends.iter_mut().filter_map(|end| end.association.next_timeout(now));
        let timers = timers.map(|at| Instant(at.0.next_multiple_of(grain)));
        let alarm = self.alarm.filter(|at| *at > now);
        timers.chain(self.paths.iter().filter_map(Path::next)).chain(alarm).min()
    }
}
