//! Two SCTP associations in virtual time. The bytes say what happens: what is sent, lost, late, heard twice, left
//! unread, closed; and what somebody says who has both peers' keys and means no good.
//!
//! What must hold, whoever speaks:
//! - nothing panics, and draining comes to its end, with no timer left that is due;
//! - every packet that leaves is well formed and no longer than allowed;
//! - what a receiver holds stays within its window and a message, what a sender holds within its bound, and who holds
//!   nothing counts nothing;
//! - an association opens once at most and ends once, and nothing happens after its end.
//!
//! And as long as nothing was forged:
//! - every message comes as it was sent, once at most, ordered ones in order;
//! - nobody breaks the protocol, and who is told of a reset has been told all that was sent before it;
//! - once the path is whole again, every reliable message comes, and all room and window is given back.

mod end;
mod forger;
mod known;

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use millstream_model::Instant;
use millstream_sctp::{CloseReason, Config, Congestion, Event, Outgoing, Reliability};

use crate::script::Script;
use end::End;
use known::Known;

const MS: Duration = Duration::from_millis(1);

/// Packets in all, then the script is over: an input shall take milliseconds.
const PACKETS_MAX: usize = 10_000;

/// Packets that are kept to be said again.
const SAID_MAX: usize = 32;

/// Bytes of all messages sent: of more nothing else can be learned.
const SENT_BYTES_MAX: usize = 1 << 20;

/// How long a whole path is given until all is delivered: timers are 3 s at most, and a small window is asked often.
const SETTLING: Duration = Duration::from_secs(300);

/// Packets that a pair may still need then; a storm is not settling.
const SETTLING_PACKETS_MAX: usize = 60_000;

/// Times in a row that something is due or arrives, and nothing leaves.
const VAIN_TURNS_MAX: usize = 1_000;

pub(crate) fn association(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(&mut script);
    while script.goes_on() && world.packets < PACKETS_MAX {
        world.step(&mut script);
    }
    if world.is_honest && !world.is_alone {
        world.settle();
    } else {
        world.run(SETTLING);
        world.ends.iter_mut().for_each(End::read_all);
    }
}

struct Flying {
    due: Instant,
    bytes: Vec<u8>,
}

struct World {
    now: Instant,
    ends: [End; 2],
    /// What each end has sent and is on its way.
    wires: [VecDeque<Flying>; 2],
    /// What each end has said of late.
    said: [VecDeque<Vec<u8>>; 2],
    latency: Duration,
    /// For each end, which of its next eight packets are lost.
    losses: [u8; 2],
    /// Longer packets vanish.
    path_bytes: usize,
    known: [Known; 2],
    /// The second end is only what the script says in its name.
    is_alone: bool,
    /// Nothing was forged.
    is_honest: bool,
    packets: usize,
}

/// Windows, with the longest message that goes with them.
const WINDOWS: [(u32, usize); 4] =
    [(256 << 10, 65_600), (72 << 10, 65_600), (16 << 10, 9_000), (4 << 10, 2_000)];

/// Bytes of the longest packets that pass; those that every path carries always do.
const PATHS: [usize; 4] = [usize::MAX, 1_434, 1_300, 1_160];

fn config(script: &mut Script<'_>) -> Config {
    let [size, ways] = [script.byte(), script.byte()];
    let (receive_window_bytes, message_bytes_max) = WINDOWS[usize::from(size & 3)];
    let bit = |at: u8| ways >> at & 1 == 1;
    Config {
        receive_window_bytes,
        message_bytes_max,
        streams: [16, 4, 300, 1][usize::from(size >> 2 & 3)],
        send_bytes_max: [256 << 10, 64 << 10, 1 << 20, 10_000][usize::from(size >> 4 & 3)],
        packet_bytes_max: [1_160, 1_434, 8_900, 1_163][usize::from(size >> 6)],
        interleaving: !bit(0),
        zero_checksum: ways >> 1 & 3 != 3,
        congestion: if bit(3) { Congestion::NewReno } else { Congestion::Bbr },
        round_trip_hint: bit(4).then_some(20 * MS),
        heartbeat_interval: bit(5).then_some(5_000 * MS),
        timeouts_max: (ways >> 6 == 3).then_some(4),
        ..Config::default()
    }
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let ways = script.byte();
        let now = Instant::from_millis(1_000);
        let ends = [1, 2].map(|salt| End::new(Arc::new(config(script)), salt, ways & 2 != 0, now));
        let mut world = Self {
            now,
            ends,
            wires: Default::default(),
            said: Default::default(),
            latency: 10 * MS,
            losses: [0; 2],
            path_bytes: PATHS[usize::from(ways >> 4 & 3)],
            known: Default::default(),
            is_alone: ways & 1 != 0,
            is_honest: true,
            packets: 0,
        };
        if world.is_alone {
            (world.known[1].tag, world.known[1].next_tsn) = (0x0102_0304, 77);
            world.is_honest = false;
        }
        if ways & 4 == 0 {
            world.open();
        }
        world
    }

    /// As most begin: without mishap.
    fn open(&mut self) {
        if self.is_alone {
            return forger::greet(self);
        }
        self.ends[0].association.connect(self.now);
        self.run(100 * MS);
        assert!(self.ends.iter().all(|end| end.association.is_open()), "a whole path, and it does not open");
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() & 31 {
            0..=3 => self.run(MS * u32::from(script.byte())),
            4 => self.run(Duration::from_secs(u64::from(script.byte() & 63))),
            5..=7 => {
                let [flags, stream] = [script.byte(), script.byte()];
                let length = usize::from(script.half());
                self.send(flags, u16::from(stream), length);
            }
            8 => {
                let [flags, count, length] = [script.byte(), script.byte(), script.byte()];
                for number in 0..u16::from(count) {
                    self.send(flags, number % 3 + 1, usize::from(length));
                }
            }
            9 => {
                let [end, stream] = [script.byte() & 1, script.byte()];
                self.ends[usize::from(end)].reset(u16::from(stream));
            }
            10 => {
                let byte = script.byte();
                let now = self.now;
                let end = &mut self.ends[usize::from(byte & 1)];
                if byte >> 4 == 15 { end.abort() } else { end.shutdown(now) }
            }
            11 => self.losses[usize::from(script.byte() & 1)] = script.byte(),
            12 => self.delay(script),
            13 => {
                let byte = script.byte();
                self.ends[usize::from(byte & 1)].is_reading = byte & 2 == 0;
            }
            14 => self.touch(script),
            15 => self.latency = MS * (1 + u32::from(script.byte())),
            16 => self.repeat(script),
            17..=27 => return forger::forge(self, script),
            _ => return forger::alter(self, script),
        }
        self.turn();
    }

    fn send(&mut self, flags: u8, stream: u16, length: usize) {
        let from = usize::from(flags & 1);
        let (longest, streams) =
            (self.ends[1 - from].config.message_bytes_max, self.ends[1 - from].config.streams);
        // What the other takes is known when it is open; before, owners must know.
        if !self.ends[from].association.is_open() && stream >= streams {
            return;
        }
        let sent = &self.ends[from].sent;
        let number = u32::try_from(sent.len()).unwrap();
        let bytes = message(number, length % (longest + 1));
        if self.ends[from].sent_bytes + bytes.len() > SENT_BYTES_MAX {
            return;
        }
        let reliability = match flags >> 2 & 3 {
            2 => Reliability::Retransmissions(u32::from(flags >> 6)),
            3 => Reliability::Lifetime(50 * MS * u32::from(flags >> 4)),
            _ => Reliability::Reliable,
        };
        let is_unordered = flags & 2 != 0;
        self.ends[from].send(Outgoing { stream, ppi: number, bytes, is_unordered, reliability }, self.now);
    }

    /// A packet on its way comes later than those behind it, or once more.
    fn delay(&mut self, script: &mut Script<'_>) {
        let wire = &mut self.wires[usize::from(script.byte() & 1)];
        let (at, how) = (script.index(wire.len()), script.byte());
        let by = 4 * MS * u32::from(how & 0x7f);
        if let Some(flying) = wire.get_mut(at) {
            let late = Flying { due: flying.due + by, bytes: flying.bytes.clone() };
            if how & 0x80 == 0 { *flying = late } else { wire.push_back(late) }
        }
    }

    /// A packet of the past comes once more.
    fn repeat(&mut self, script: &mut Script<'_>) {
        let from = usize::from(script.byte() & 1);
        let at = script.index(self.said[from].len());
        if let Some(bytes) = self.said[from].get(at).cloned() {
            self.hand(1 - from, &bytes);
        }
    }

    fn touch(&mut self, script: &mut Script<'_>) {
        let [byte, stream] = [script.byte(), script.byte()];
        let association = &mut self.ends[usize::from(byte & 1)].association;
        match byte >> 1 & 3 {
            0 => association.connect(self.now),
            1 => association.nudge(self.now),
            2 => self.path_bytes = PATHS[usize::from(stream & 3)],
            _ => association.set_priority(u16::from(stream & 3), byte),
        }
    }

    fn hand(&mut self, to: usize, packet: &[u8]) {
        if !(self.is_alone && to == 1) {
            self.ends[to].association.handle(packet, self.now);
        }
    }

    /// All that happens now.
    fn turn(&mut self) {
        for at in 0..2 {
            let mut later = VecDeque::new();
            for flying in std::mem::take(&mut self.wires[1 - at]) {
                if flying.due <= self.now {
                    self.hand(at, &flying.bytes);
                } else {
                    later.push_back(flying);
                }
            }
            self.wires[1 - at] = later;
            if self.is_alone && at == 1 {
                continue;
            }
            for packet in self.ends[at].drain(self.now) {
                self.put(at, packet);
            }
            self.hear(at);
        }
    }

    fn put(&mut self, from: usize, bytes: Vec<u8>) {
        self.packets += 1;
        self.known[from].learn(&bytes);
        if self.said[from].len() == SAID_MAX {
            self.said[from].pop_front();
        }
        self.said[from].push_back(bytes.clone());
        let is_lost = self.losses[from] & 1 == 1 || bytes.len() > self.path_bytes;
        self.losses[from] >>= 1;
        if !is_lost && !self.is_alone {
            self.wires[from].push_back(Flying { due: self.now + self.latency, bytes });
        }
    }

    /// What came of it at one end, where nothing was forged.
    fn hear(&mut self, at: usize) {
        let [first, second] = &mut self.ends;
        let (end, other) = if at == 0 { (first, second) } else { (second, first) };
        let messages = std::mem::take(&mut end.inbox);
        let events = std::mem::take(&mut end.events);
        if !self.is_honest {
            return;
        }
        for message in &messages {
            other.has_arrived(message);
        }
        for event in events {
            match event {
                Event::PeerReset { stream } if end.is_reading => other.was_reset(stream),
                Event::Closed(CloseReason::Violation(what)) => panic!("an honest peer broke it: {what}"),
                Event::Closed(CloseReason::Restarted) => panic!("nobody began anew"),
                Event::Closed(CloseReason::Aborted) => {
                    assert!(other.closed.is_some(), "aborted by who goes on");
                }
                Event::Closed(CloseReason::Peer) => {
                    assert!(other.was_shut, "shut down by who has not");
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let (mut budget, mut vain) = (SETTLING_PACKETS_MAX, 0);
        loop {
            let before = self.packets;
            self.turn();
            budget = budget.saturating_sub(self.packets - before);
            vain = if self.packets == before { vain + 1 } else { 0 };
            assert!(
                vain < VAIN_TURNS_MAX,
                "timers go off, and nothing comes of it: {:?}",
                self.ends[0].association
            );
            // A forger may well make somebody speak for ever.
            assert!(budget > 0 || !self.is_honest, "a storm of packets");
            let Some(next) = self.next().filter(|next| *next <= end && budget > 0) else { break };
            assert!(next > self.now, "time stands still");
            self.now = next;
        }
        self.now = end;
    }

    fn next(&mut self) -> Option<Instant> {
        let now = self.now;
        let count = if self.is_alone { 1 } else { 2 };
        let timers = self.ends[..count].iter_mut().filter_map(|end| end.association.next_timeout(now));
        let flying = self.wires.iter().flatten().map(|flying| flying.due);
        timers.chain(flying).min()
    }

    /// The path is whole again, everybody reads: everything must come to its end.
    fn settle(&mut self) {
        self.losses = [0; 2];
        self.latency = 10 * MS;
        for end in &mut self.ends {
            end.is_reading = true;
        }
        self.ends[0].association.connect(self.now);
        self.run(SETTLING);
        if !self.ends.iter().all(End::is_in_order) {
            return;
        }
        self.ends.iter().for_each(End::has_delivered_all);
        let is_open = self.ends.iter().all(|end| end.closed.is_none());
        assert!(is_open || self.ends.iter().all(|end| end.closed.is_some()), "one goes on without the other");
        if is_open {
            self.ends.iter_mut().for_each(End::has_all_back);
            self.is_quiet_and_wide();
        }
    }

    /// Two messages more and the windows are as wide as they were at first.
    fn is_quiet_and_wide(&mut self) {
        for from in 0..2 {
            let number = u32::try_from(self.ends[from].sent.len()).unwrap();
            // Not on a stream that a reset has taken away.
            let stream = (0..300).find(|stream| !self.ends[from].is_reset(*stream));
            let Some(stream) = stream else { return };
            let reliability = Reliability::Reliable;
            let last =
                Outgoing { stream, ppi: number, bytes: message(number, 1), is_unordered: true, reliability };
            self.ends[from].send(last, self.now);
        }
        self.run(10_000 * MS);
        for (end, known) in self.ends.iter().zip(&self.known) {
            end.has_delivered_all();
            if known.next_window.is_some() {
                assert_eq!(
                    known.next_window,
                    Some(end.config.receive_window_bytes),
                    "window is lost for good"
                );
            }
        }
    }
}

/// Messages are cut from this, each at its own place.
static TAPE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..TAPE_BYTES).map(|_| draw()).collect()
});

/// Twice the longest message.
const TAPE_BYTES: usize = 2 * 65_600;

/// A message that is not soon taken for another.
fn message(number: u32, length: usize) -> Bytes {
    let at = number as usize * 61 % (TAPE_BYTES - length);
    TAPE.slice(at..at + length)
}
