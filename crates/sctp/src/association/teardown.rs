//! How an association ends: in order, when everything has arrived (RFC 9260 §9.2), or at once (§9.1).

use millstream_model::Instant;

use super::{Association, Reply, State};
use crate::{
    CloseReason,
    wire::{Chunk, Packet, cause},
};

/// Packets that are answered when it is over: the answers may be lost, and whoever goes on after so many is deaf.
const FAREWELLS_MAX: u32 = 16;

impl Association {
    /// Ends it when the peer has everything. Takes no more messages; [`crate::Event::Closed`] follows.
    pub fn shutdown(&mut self, now: Instant) {
        match self.state {
            State::Open => {
                self.state = State::ShutdownPending;
                self.settle_shutdown(now);
            }
            State::Closed | State::CookieWait | State::CookieEchoed => self.abort(),
            _ => {}
        }
    }

    /// Ends it at once and tells the peer.
    pub fn abort(&mut self) {
        if self.state != State::Over {
            self.over(CloseReason::Local);
            self.replies.clear();
            self.abort_peer(cause::USER_ABORT, &[]);
        }
    }

    pub(super) fn abort_peer(&mut self, cause: u16, value: &[u8]) {
        if let Some(peer) = self.peer {
            self.reply_packet(peer.tag, |writer| writer.abort(cause, value));
        }
    }

    /// Tells a peer that goes on with what is over (RFC 9260 §8.4), a few times.
    pub(super) fn dismiss(&mut self, packet: &[u8]) {
        let Ok(packet) = Packet::parse(packet, self.config.zero_checksum) else { return };
        if packet.tag != self.local.tag || self.farewells >= FAREWELLS_MAX {
            return;
        }
        let Some(peer) = self.peer else { return };
        match packet.chunks().next() {
            Some(Ok(Chunk::Abort { .. } | Chunk::ShutdownComplete { .. })) | None => return,
            Some(Ok(Chunk::ShutdownAck)) => {
                self.reply_packet(peer.tag, |writer| writer.shutdown_complete(false));
            }
            // What was still on its way when it ended in order.
            Some(_) if self.is_orderly => return,
            Some(_) => self.reply_packet(peer.tag, |writer| writer.abort(cause::USER_ABORT, &[])),
        }
        self.farewells += 1;
    }

    /// Goes on with the end when nothing is underway any more.
    pub(super) fn settle_shutdown(&mut self, now: Instant) {
        if !self.queue.is_empty() || !self.flight.is_empty() {
            return;
        }
        match self.state {
            State::ShutdownPending => {
                self.state = State::ShutdownSent;
                self.attempt(Reply::Shutdown, now);
            }
            State::ShutdownReceived => {
                self.state = State::ShutdownAckSent;
                self.attempt(Reply::ShutdownAck, now);
            }
            _ => {}
        }
    }

    pub(super) fn take_shutdown(&mut self, cumulative: u32, now: Instant) {
        self.take_cumulative(cumulative);
        match self.state {
            State::Open | State::ShutdownPending => {
                self.state = State::ShutdownReceived;
                self.settle(now);
                self.settle_shutdown(now);
            }
            // Both sides at once (RFC 9260 §9.2).
            State::ShutdownSent => {
                self.state = State::ShutdownAckSent;
                self.attempt(Reply::ShutdownAck, now);
            }
            State::ShutdownReceived => {
                self.settle(now);
                self.settle_shutdown(now);
            }
            _ => {}
        }
    }

    pub(super) fn take_shutdown_ack(&mut self, tag: u32) {
        match self.state {
            State::ShutdownSent | State::ShutdownAckSent => {
                self.is_orderly = true;
                self.over(CloseReason::Local);
                self.replies.clear();
                if let Some(peer) = self.peer {
                    self.reply_packet(peer.tag, |writer| writer.shutdown_complete(false));
                }
            }
            // The peer ends an association that we know nothing of (RFC 9260 §8.5.1 E).
            State::CookieWait | State::CookieEchoed => {
                self.reply_packet(tag, |writer| writer.shutdown_complete(true));
            }
            _ => {}
        }
    }
}
