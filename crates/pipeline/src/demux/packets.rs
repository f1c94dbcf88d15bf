//! Cuts bytes into packets of a transport stream (ISO/IEC 13818-1 §2.4.3), and bounds what they make a demuxer hold.
//!
//! A demuxer gathers a frame until the next one begins, however long that takes, for each of 8192 packet ids. Here it
//! is counted what each has open, before the demuxer sees it. What is not a packet never gets further than here.

use std::collections::HashMap;

use super::Error;

/// Bytes of a packet.
pub(super) const PACKET_BYTES: usize = 188;

/// A packet's first byte.
pub(super) const SYNC: u8 = 0x47;

/// Bytes of packets that belong to something that has begun and not ended, in all: a keyframe of the greatest length
/// there may be (8 MiB), and as much for what is beside it.
pub(super) const OPEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Says that a payload begins something new; in a packet's second byte.
const BEGINS: u8 = 0x40;

/// Makes whole packets of bytes.
#[derive(Debug, Default)]
pub(super) struct Packets {
    /// The beginning of a packet.
    rest: Vec<u8>,
    /// A packet ended where the rest begins.
    in_line: bool,
    /// Bytes open, by packet id.
    open: HashMap<u16, usize>,
    open_bytes: usize,
}

impl Packets {
    /// Takes bytes in and gives out the whole packets that are there now. What lies between packets is left out.
    pub(super) fn handle(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.rest.extend_from_slice(bytes);
        let mut whole = Vec::with_capacity(self.rest.len());
        let mut at = 0;
        while let Some(left) = self.rest.get(at..).filter(|left| !left.is_empty()) {
            if left.first() != Some(&SYNC) {
                self.in_line = false;
                at += 1;
                continue;
            }
            let Some(packet) = left.get(..PACKET_BYTES) else { break };
            if !self.in_line {
                // The same byte stands in media too: it is a packet's first when the next packet begins after it.
                match left.get(PACKET_BYTES) {
                    None => break,
                    Some(&SYNC) => self.in_line = true,
                    Some(_) => {
                        at += 1;
                        continue;
                    }
                }
            }
            whole.extend_from_slice(packet);
            at += PACKET_BYTES;
        }
        self.rest.drain(..at);
        for packet in whole.chunks_exact(PACKET_BYTES) {
            self.count(packet);
        }
        if self.open_bytes > OPEN_BYTES_MAX {
            return Err(Error::Endless);
        }
        Ok(whole)
    }

    fn count(&mut self, packet: &[u8]) {
        let [_, high, low, ..] = *packet else { return };
        let id = u16::from_be_bytes([high & 0x1f, low]);
        let open = self.open.entry(id).or_default();
        if high & BEGINS != 0 {
            self.open_bytes -= *open;
            *open = 0;
        }
        *open += PACKET_BYTES;
        self.open_bytes += PACKET_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u8, begins: bool, filled: u8) -> Vec<u8> {
        let mut packet = vec![filled; PACKET_BYTES];
        packet[..4].copy_from_slice(&[SYNC, if begins { BEGINS } else { 0 }, id, 0x10]);
        packet
    }

    #[test]
    fn packets_come_out_whole_however_they_were_cut_and_garbage_does_not() {
        let stream = [packet(1, true, 1), packet(1, false, 2), packet(2, true, 3)].concat();
        for cut in 1..stream.len() {
            let mut packets = Packets::default();
            let mut out = packets.handle(&[0, SYNC, 0, 0]).unwrap();
            for piece in stream.chunks(cut) {
                out.extend(packets.handle(piece).unwrap());
            }
            assert_eq!(out, stream, "cut at {cut}");
        }
        assert_eq!(Packets::default().handle(&vec![0; 100_000]).unwrap(), []);
    }

    #[test]
    fn what_never_ends_is_refused_before_it_fills_memory() {
        let mut packets = Packets::default();
        let endless = packet(7, false, 0).repeat(1000);
        let taken = (0..).take_while(|_| packets.handle(&endless).is_ok()).count();
        assert!((80..90).contains(&taken), "{taken}");
        // The same in frames that end is no matter.
        let mut packets = Packets::default();
        let frame = [packet(7, true, 0), packet(7, false, 0).repeat(999)].concat();
        assert!((0..200).all(|_| packets.handle(&frame).is_ok()));
    }

    #[test]
    fn all_packet_ids_together_are_bounded() {
        let mut packets = Packets::default();
        let row: Vec<u8> = (0..=255).flat_map(|id| packet(id, false, 0)).collect();
        let taken = (0..).take_while(|_| packets.handle(&row).is_ok()).count();
        assert!(taken < 360, "{taken}");
    }
}
