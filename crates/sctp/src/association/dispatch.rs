//! Packets that come: which chunk may come in which of them (RFC 9260 §8.5), and who takes it.

use millstream_model::Instant;

use super::{Association, HEARTBEAT_BYTES_MAX, Reply, State, receiving};
use crate::{
    CloseReason,
    wire::{Chunk, Malformed, Packet, cause},
};

impl Association {
    /// Takes a packet from the peer. What is not for this association, or not well formed, changes nothing.
    pub fn handle(&mut self, packet: &[u8], now: Instant) {
        if self.state == State::Over {
            return self.dismiss(packet);
        }
        // The packets that begin an association bear a checksum whatever is agreed on (RFC 9653 §5.2).
        let Ok(packet) = Packet::parse(packet, self.config.zero_checksum) else { return };
        if packet.source_port != self.config.port || packet.destination_port != self.config.port {
            return;
        }
        let (mut data, mut is_first) = (receiving::Seen::default(), true);
        for chunk in packet.chunks() {
            match chunk {
                Ok(chunk) => {
                    if !self.admit(&packet, &chunk, is_first) || !self.take(&packet, chunk, &mut data, now) {
                        break;
                    }
                }
                Err(Malformed::EmptyData { tsn }) if packet.tag == self.local.tag => {
                    self.abort_for("a chunk without payload", cause::NO_USER_DATA, &tsn.to_be_bytes());
                }
                Err(_) => {}
            }
            if self.state == State::Over {
                return;
            }
            is_first = false;
        }
        if data.any {
            self.arrived.packet(data.is_urgent, now);
        }
    }

    /// Whether a chunk may come in a packet with this tag (RFC 9260 §8.5).
    fn admit(&mut self, packet: &Packet<'_>, chunk: &Chunk<'_>, is_first: bool) -> bool {
        let (ours, theirs) = (self.local.tag, self.peer.map(|peer| peer.tag));
        match chunk {
            Chunk::Init(_) => packet.tag == 0 && is_first,
            Chunk::Abort { is_reflected, .. } | Chunk::ShutdownComplete { is_reflected } => {
                if *is_reflected {
                    Some(packet.tag) == theirs
                } else {
                    packet.tag == ours
                }
            }
            // Its cookie says which tag it must bear.
            Chunk::CookieEcho(_) => is_first,
            // A peer that began anew does not know our tag, and asks what we are doing (RFC 9260 §8.5.1 E).
            Chunk::ShutdownAck if matches!(self.state, State::CookieWait | State::CookieEchoed) => true,
            _ => packet.tag == ours,
        }
    }

    /// Does what a chunk asks. Says whether to go on with its packet.
    fn take(
        &mut self,
        packet: &Packet<'_>,
        chunk: Chunk<'_>,
        seen: &mut receiving::Seen,
        now: Instant,
    ) -> bool {
        match chunk {
            Chunk::Data(data) => return self.take_data(&data, seen),
            Chunk::Sack(sack) => self.take_sack(&sack),
            Chunk::ForwardTsn(forward) => self.take_forward_tsn(&forward),
            Chunk::Init(init) => self.take_init(&init, now),
            Chunk::InitAck(init) => self.take_init_ack(&init, now),
            Chunk::CookieEcho(cookie) => return self.take_cookie(cookie, packet.tag, now),
            Chunk::CookieAck => self.take_cookie_ack(now),
            Chunk::Heartbeat(content) => {
                if content.len() <= HEARTBEAT_BYTES_MAX && self.peer.is_some() {
                    self.reply(Reply::HeartbeatAck(content.to_vec()));
                }
            }
            Chunk::HeartbeatAck(content) => self.take_heartbeat_ack(content, now),
            Chunk::Reconfig(reconfig) => self.take_reconfig(&reconfig, now),
            Chunk::Abort { .. } => self.over(CloseReason::Aborted),
            Chunk::Error { cause } => {
                if cause.is_some_and(|cause| cause.code == cause::STALE_COOKIE)
                    && self.state == State::CookieEchoed
                {
                    self.state = State::CookieWait;
                    self.attempt(Reply::Init, now);
                }
            }
            Chunk::Shutdown(cumulative) => self.take_shutdown(cumulative, now),
            Chunk::ShutdownAck => self.take_shutdown_ack(packet.tag),
            Chunk::ShutdownComplete { .. } => {
                if self.state == State::ShutdownAckSent {
                    self.is_orderly = true;
                    self.over(CloseReason::Peer);
                }
            }
            Chunk::Pad => {}
            Chunk::Unknown(unknown) => {
                // One at a time: the report is longer than the chunk.
                let is_reporting = self.replies.iter().any(|reply| matches!(reply, Reply::Unrecognised(_)));
                let is_short = unknown.whole.len() <= HEARTBEAT_BYTES_MAX;
                if unknown.is_report() && self.peer.is_some() && is_short && !is_reporting {
                    self.reply(Reply::Unrecognised(unknown.whole.to_vec()));
                }
                return !unknown.is_stop();
            }
        }
        true
    }
}
