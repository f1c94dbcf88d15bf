//! A peer whose packets are written by hand, chunk by chunk: it can say what no association of ours would.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_model::Instant;
use millstream_sctp::{
    Association, CloseReason, Config, Event, Outgoing, Reliability,
    wire::{Chunk, Data, InitFields, Packet, Sequence, Writer},
};

use crate::world::entropy;

pub(crate) const PORT: u16 = 5000;
/// What packets to the forger bear.
pub(crate) const OUR_TAG: u32 = 0x1234_5678;
/// The forger's first TSN.
pub(crate) const FIRST_TSN: u32 = 1_000;

/// An association and its forged peer.
pub(crate) struct Forged {
    pub(crate) association: Association,
    pub(crate) now: Instant,
    /// What packets to the association bear.
    pub(crate) tag: u32,
    /// The association's first TSN.
    pub(crate) their_tsn: u32,
    pub(crate) tsn: u32,
    pub(crate) cookie: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

/// An INIT that speaks every extension.
pub(crate) fn all() -> InitFields<'static> {
    InitFields {
        tag: OUR_TAG,
        window: 1 << 20,
        outbound: 16,
        inbound: 16,
        tsn: FIRST_TSN,
        supports_interleaving: true,
        supports_reset: true,
        supports_forward_tsn: true,
        ..InitFields::default()
    }
}

/// One that speaks none.
pub(crate) fn plain() -> InitFields<'static> {
    InitFields { supports_interleaving: false, supports_reset: false, supports_forward_tsn: false, ..all() }
}

pub(crate) fn packet(tag: u32, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&mut out, PORT, PORT, tag);
    write(&mut writer);
    writer.finish(true);
    out
}

/// The chunks of a packet, by what `pick` makes of them.
pub(crate) fn chunks<T>(bytes: &[u8], mut pick: impl FnMut(&Chunk<'_>) -> Option<T>) -> Vec<T> {
    let packet = Packet::parse(bytes, true).unwrap();
    packet.chunks().filter_map(|chunk| pick(&chunk.unwrap())).collect()
}

/// A fragment in DATA.
pub(crate) fn data(tsn: u32, stream: u16, ssn: u16, begins: bool, ends: bool, payload: &[u8]) -> Data<'_> {
    Data {
        tsn,
        stream,
        ppi: 53,
        begins,
        ends,
        is_unordered: false,
        is_immediate: false,
        sequence: Sequence::Ssn(ssn),
        payload,
    }
}

impl Forged {
    /// Has said INIT and got a cookie.
    pub(crate) fn greeted(config: &Config, fields: &InitFields<'_>) -> Self {
        let now = Instant::from_millis(1_000);
        let association = Association::new(Arc::new(config.clone()), entropy(3, 3), now);
        let mut forged = Self {
            association,
            now,
            tag: 0,
            their_tsn: 0,
            tsn: FIRST_TSN,
            cookie: Vec::new(),
            events: Vec::new(),
        };
        let answers = forged.say(|writer| writer.init(fields, None, false));
        let found = answers.iter().flat_map(|answer| {
            chunks(answer, |chunk| match chunk {
                Chunk::InitAck(init) => Some((init.tag, init.tsn, init.cookie().unwrap().to_vec())),
                _ => None,
            })
        });
        (forged.tag, forged.their_tsn, forged.cookie) = found.last().expect("an INIT ACK");
        forged
    }

    /// Both are open.
    pub(crate) fn opened(config: &Config, fields: &InitFields<'_>) -> Self {
        let mut forged = Self::greeted(config, fields);
        let cookie = forged.cookie.clone();
        forged.say(|writer| writer.cookie_echo(&cookie));
        assert!(forged.association.is_open());
        forged
    }

    /// Says one packet, and gives the answers that come at once.
    pub(crate) fn say(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Vec<Vec<u8>> {
        let packet = packet(self.tag, write);
        self.hand(&packet)
    }

    /// The same with bytes as they are.
    pub(crate) fn hand(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.association.handle(packet, self.now);
        self.answers()
    }

    /// A fragment with the next TSN.
    pub(crate) fn say_data(
        &mut self,
        stream: u16,
        ssn: u16,
        begins: bool,
        ends: bool,
        payload: &[u8],
    ) -> Vec<Vec<u8>> {
        let tsn = self.tsn;
        self.tsn = self.tsn.wrapping_add(1);
        self.say(|writer| writer.data(&data(tsn, stream, ssn, begins, ends, payload)))
    }

    pub(crate) fn answers(&mut self) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        let mut packet = Vec::new();
        while let Some(event) = self.association.poll_event() {
            self.events.push(event);
        }
        while self.association.poll_transmit(self.now, &mut packet) {
            answers.push(std::mem::take(&mut packet));
        }
        answers
    }

    /// Lets time go by, and gives what it says meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        let mut said = self.answers();
        while let Some(due) = self.association.next_timeout(self.now).filter(|due| *due <= end) {
            self.now = due.max(self.now + Duration::from_micros(1));
            self.association.handle_timeout(self.now);
            said.extend(self.answers());
        }
        self.now = end;
        said
    }

    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(*reason),
            _ => None,
        })
    }

    /// Makes the association send.
    pub(crate) fn send(&mut self, bytes: usize) -> Vec<Vec<u8>> {
        let bytes = Bytes::from(vec![1; bytes]);
        let message =
            Outgoing { stream: 1, ppi: 53, bytes, is_unordered: false, reliability: Reliability::Reliable };
        self.association.send(message, self.now).unwrap();
        self.answers()
    }
}

/// TSNs of the data in packets.
pub(crate) fn tsns(packets: &[Vec<u8>]) -> Vec<u32> {
    let tsn = |chunk: &Chunk<'_>| if let Chunk::Data(data) = chunk { Some(data.tsn) } else { None };
    packets.iter().flat_map(|packet| chunks(packet, tsn)).collect()
}
