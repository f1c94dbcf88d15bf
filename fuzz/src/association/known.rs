//! What somebody knows who hears every packet of one end: enough to answer in the other's name.

use std::collections::BTreeMap;

use millstream_sctp::wire::{Chunk, Packet, Reset, Sequence, serial};

#[derive(Debug, Default)]
pub(super) struct Known {
    /// What packets to it must bear.
    pub(super) tag: u32,
    /// The TSN of its next chunk.
    pub(super) next_tsn: u32,
    /// Up to which TSN it has all.
    pub(super) cumulative: u32,
    /// The window that it told last.
    pub(super) next_window: Option<u32>,
    /// The cookie that it gave last.
    pub(super) cookie: Vec<u8>,
    pub(super) heartbeat: Vec<u8>,
    /// The number of its next stream reset.
    pub(super) request: u32,
    /// It speaks I-DATA.
    pub(super) interleaves: bool,
    /// The next message of each stream, and whether unordered; and the next chunk of it.
    sequences: BTreeMap<(u16, bool), (u32, u32)>,
}

impl Known {
    pub(super) fn learn(&mut self, packet: &[u8]) {
        let Ok(packet) = Packet::parse(packet, true) else { return };
        for chunk in packet.chunks().filter_map(Result::ok) {
            match chunk {
                Chunk::Init(init) | Chunk::InitAck(init) => {
                    (self.tag, self.next_tsn, self.request) = (init.tag, init.tsn, init.tsn);
                    self.interleaves = init.supports_interleaving();
                    if let Some(cookie) = init.cookie() {
                        self.cookie = cookie.to_vec();
                    }
                }
                Chunk::Data(data) => {
                    self.pass(data.tsn);
                    let (message, part) = match data.sequence {
                        Sequence::Ssn(ssn) => (u32::from(ssn), 0),
                        Sequence::Mid { mid, fsn } => (mid, fsn),
                    };
                    let next = if data.ends {
                        (message.wrapping_add(1), 0)
                    } else {
                        (message, part.wrapping_add(1))
                    };
                    self.sequences.insert((data.stream, data.is_unordered), next);
                }
                Chunk::ForwardTsn(forward) => self.pass(forward.cumulative),
                Chunk::Sack(sack) => {
                    (self.cumulative, self.next_window) = (sack.cumulative, Some(sack.window));
                }
                Chunk::Heartbeat(content) => self.heartbeat = content.to_vec(),
                Chunk::Reconfig(reconfig) => {
                    for reset in reconfig.parameters() {
                        if let Reset::Outgoing { request, .. } | Reset::Unsupported { request } = reset {
                            self.request = request.wrapping_add(1);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Message and chunk that come next on a stream.
    pub(super) fn sequence(&self, stream: u16, is_unordered: bool) -> (u32, u32) {
        self.sequences.get(&(stream, is_unordered)).copied().unwrap_or_default()
    }

    fn pass(&mut self, tsn: u32) {
        if !serial::is_after(self.next_tsn, tsn) {
            self.next_tsn = tsn.wrapping_add(1);
        }
    }
}
