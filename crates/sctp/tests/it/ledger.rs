//! What one end has sent, chunk by chunk, and what the path did to it: what was lost, and what was sent again for
//! nothing.

use std::collections::HashMap;

use millstream_model::Instant;
use millstream_netsim::Payload;
use millstream_sctp::wire::{Chunk, Packet};

/// A packet that is known again when it arrives.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    id: usize,
    is_corrupt: bool,
}

impl Payload for Datagram {
    fn wire_bytes(&self) -> u64 {
        self.bytes.wire_bytes()
    }

    fn corrupt(&mut self, draw: u64) {
        self.bytes.corrupt(draw);
        self.is_corrupt = true;
    }

    fn duplicate(&self) -> Option<Self> {
        Some(Self { bytes: self.bytes.clone(), id: self.id, is_corrupt: self.is_corrupt })
    }
}

/// A chunk on its way, once for each time it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) tsn: u32,
    pub(crate) at: Instant,
    pub(crate) arrived_at: Option<Instant>,
}

/// A chunk that was sent again though it was not lost.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "printed by tests that fail")]
pub(crate) struct Needless {
    /// The sending that arrived, or will.
    pub(crate) first: Sending,
    pub(crate) again_at: Instant,
}

/// All chunks of one end.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Where each packet's chunks begin in `sendings`.
    packets: Vec<usize>,
    sendings: Vec<Sending>,
    /// Of all packets.
    pub(crate) bytes: u64,
}

impl Ledger {
    pub(crate) fn sent(&mut self, bytes: Vec<u8>, now: Instant) -> Datagram {
        let id = self.packets.len();
        self.packets.push(self.sendings.len());
        self.bytes += bytes.len() as u64;
        if let Ok(packet) = Packet::parse(&bytes, true) {
            for chunk in packet.chunks() {
                if let Chunk::Data(data) = chunk.expect("what we send is well formed") {
                    self.sendings.push(Sending { tsn: data.tsn, at: now, arrived_at: None });
                }
            }
        }
        Datagram { bytes, id, is_corrupt: false }
    }

    pub(crate) fn arrived(&mut self, datagram: &Datagram, now: Instant) {
        if datagram.is_corrupt {
            return;
        }
        let start = self.packets[datagram.id];
        let end = self.packets.get(datagram.id + 1).copied().unwrap_or(self.sendings.len());
        for sending in &mut self.sendings[start..end] {
            sending.arrived_at.get_or_insert(now);
        }
    }

    /// The end begins anew: what it sent before is counted no more.
    pub(crate) fn forget(&mut self) {
        for sending in &mut self.sendings {
            sending.arrived_at.get_or_insert(sending.at);
        }
    }

    /// Chunks that did not arrive, each as often as it did not. What is still on its way counts, too.
    pub(crate) fn lost(&self) -> usize {
        self.sendings.iter().filter(|sending| sending.arrived_at.is_none()).count()
    }

    /// Chunks sent, each as often as it was.
    pub(crate) fn sent_chunks(&self) -> usize {
        self.sendings.len()
    }

    /// Of a packet that has any, rounded up.
    pub(crate) fn chunks_a_packet(&self) -> usize {
        let ends = self.packets.iter().skip(1).copied().chain([self.sendings.len()]);
        let full = self.packets.iter().zip(ends).filter(|(start, end)| *start < end).count();
        self.sendings.len().div_ceil(full.max(1))
    }

    /// Chunks sent again, each as often as it was.
    pub(crate) fn again(&self) -> usize {
        let mut seen = HashMap::new();
        self.sendings.iter().filter(|sending| seen.insert(sending.tsn, ()).is_some()).count()
    }

    /// Chunks sent again while an earlier sending had arrived or was going to.
    pub(crate) fn needless(&self) -> Vec<Needless> {
        let mut arriving: HashMap<u32, Sending> = HashMap::new();
        let mut needless = Vec::new();
        for sending in &self.sendings {
            if let Some(first) = arriving.get(&sending.tsn) {
                needless.push(Needless { first: *first, again_at: sending.at });
            } else if sending.arrived_at.is_some() {
                arriving.insert(sending.tsn, *sending);
            }
        }
        needless
    }
}
