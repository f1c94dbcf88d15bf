//! What leaves: answers first, then what was lost, then what is new; as much in a packet as fits.

use std::time::Duration;

use millstream_model::Instant;

use super::{Association, Forward, Probe, Reply, State, receiving::wire, reset::REQUEST_STREAMS_MAX};
use crate::{
    congestion::Sent,
    send::queue::{Key, Limit, MESSAGE_CHARGE},
    wire::{COMMON_HEADER_BYTES, Data, Sequence, Writer},
};

/// Payload of a chunk at least, where a message is cut to fill the rest of a packet.
const CUT_BYTES_MIN: usize = 64;

/// A chunk's header beside its content (RFC 9260 §3.2), and a parameter's.
const TLV_BYTES: usize = 4;

impl Association {
    /// Appends the next packet that may leave now to `out`, which may hold others already. Says whether there was one;
    /// drain it until there is none.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        self.settle(now);
        if self.write_own(out) || self.write_mtu_probe(now, out) {
            return true;
        }
        let Some(peer) = self.peer.filter(|_| self.state != State::Over) else { return false };
        let room = self.search.current();
        let mut writer = Writer::begin(out, self.config.port, self.config.port, peer.tag);
        self.write_replies(&mut writer, room);
        if self.state != State::Closed {
            let has_data = self.is_sending() && self.may_send(now);
            let is_telling = self.arrived.is_due(now) || (has_data && self.arrived.is_pending());
            // What has no place beside the rest leaves with the next packet.
            let has_told = !is_telling || has_place(&writer, self.sack_bytes(room), room);
            if is_telling && has_told {
                self.write_sack(&mut writer);
            }
            self.write_forward(&mut writer, room);
            let streams = REQUEST_STREAMS_MAX.min(usize::from(self.config.streams));
            if has_place(&writer, RESET_BYTES + STREAM_BYTES * streams, room) {
                self.write_reset(&mut writer, now);
            }
            if has_data && has_told {
                self.write_data(&mut writer, room, now);
                if writer.is_empty() {
                    // All that was to be sent again was given up instead: that is to be said now.
                    self.write_forward(&mut writer, room);
                }
            }
        }
        if writer.is_empty() {
            writer.cancel();
            self.note_want(now);
            return false;
        }
        writer.finish(!peer.zero_checksum);
        true
    }

    /// Packets that go alone: INIT, COOKIE ECHO, what was written before, and the HEARTBEAT that asks whether short
    /// packets pass where long ones do not.
    fn write_own(&mut self, out: &mut Vec<u8>) -> bool {
        let is_own = |reply: &Reply| {
            matches!(reply, Reply::Packet(_) | Reply::Init | Reply::CookieEcho | Reply::Heartbeat)
        };
        let Some(at) = self.replies.iter().position(is_own) else { return false };
        let port = self.config.port;
        match self.replies.remove(at) {
            Some(Reply::Packet(packet)) => out.extend_from_slice(&packet),
            Some(Reply::Init) => {
                let mut writer = Writer::begin(out, port, port, 0);
                self.write_init(&mut writer);
                writer.finish(true);
            }
            Some(Reply::Heartbeat) => {
                let tag = self.peer.map_or(0, |peer| peer.tag);
                let mut writer = Writer::begin(out, port, port, tag);
                writer.heartbeat(&self.search.content(0));
                writer.finish(true);
            }
            _ => {
                let tag = self.peer.map_or(0, |peer| peer.tag);
                let mut writer = Writer::begin(out, port, port, tag);
                writer.cookie_echo(&self.local.cookie);
                writer.finish(true);
            }
        }
        true
    }

    /// A padded HEARTBEAT that finds out whether longer packets pass (RFC 8899, RFC 4820).
    fn write_mtu_probe(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let Some(peer) = self.peer.filter(|_| self.state == State::Open) else { return false };
        let Some(bytes) = self.search.poll_probe(now, self.round_trip.timeout()) else { return false };
        let mut writer = Writer::begin(out, self.config.port, self.config.port, peer.tag);
        writer.heartbeat(&self.search.content(bytes));
        writer.pad(bytes.saturating_sub(writer.len()));
        writer.finish(!peer.zero_checksum);
        true
    }

    fn write_replies(&mut self, writer: &mut Writer<'_>, room: usize) {
        while let Some(reply) = self.replies.front() {
            let bytes = match reply {
                Reply::HeartbeatAck(content) | Reply::Unrecognised(content) => content.len() + 2 * TLV_BYTES,
                _ => 5 * TLV_BYTES,
            };
            if !writer.is_empty() && writer.len() + bytes > room {
                return;
            }
            match self.replies.pop_front() {
                Some(Reply::CookieAck) => writer.cookie_ack(),
                Some(Reply::HeartbeatAck(content)) => writer.heartbeat_ack(&content),
                Some(Reply::Unrecognised(whole)) => {
                    writer.error(crate::wire::cause::UNRECOGNISED_CHUNK, &whole);
                }
                Some(Reply::Shutdown) => writer.shutdown(wire(self.arrived.cumulative())),
                Some(Reply::ShutdownAck) => writer.shutdown_ack(),
                _ => {}
            }
        }
    }

    /// Bytes of the SACK that is next; it leaves gaps out that a packet of its own has no room for.
    fn sack_bytes(&self, room: usize) -> usize {
        let entries = self.arrived.gaps().count() + self.arrived.duplicates().len();
        (SACK_BYTES + 4 * entries).min(room)
    }

    /// Tells the peer what was given up (RFC 3758 §3.5). What `room` has no place for waits for the next packet.
    fn write_forward(&mut self, writer: &mut Writer<'_>, room: usize) {
        let Forward { any, is_due, told } = self.forward;
        if !any {
            return;
        }
        let advanced = self.flight.advanced().filter(|tsn| is_due || *tsn > told);
        let Some((tsn, skipped)) = advanced.map(|tsn| self.skipped(tsn)) else { return };
        let bytes = 2 * TLV_BYTES + SKIPPED_BYTES * skipped.len();
        if (tsn <= told && !is_due) || !has_place(writer, bytes, room) {
            return;
        }
        self.forward.told = tsn;
        self.forward.is_due = false;
        if self.interleaves() {
            writer.i_forward_tsn(wire(tsn), skipped);
        } else {
            writer.forward_tsn(
                wire(tsn),
                skipped.into_iter().map(|(stream, _, sequence)| (stream, short(sequence))),
            );
        }
    }

    /// The newest message of each stream that was given up, as stream, whether unordered, and number: up to `tsn`, or as
    /// far as one chunk has entries, and up to which TSN that is. The rest follows when this much is acknowledged.
    fn skipped(&self, tsn: u64) -> (u64, Vec<(u16, bool, u32)>) {
        let interleaves = self.interleaves();
        let mut newest: Vec<(u16, bool, u32)> = Vec::new();
        let mut reached = self.flight.first();
        for entry in self.flight.abandoned_to(tsn).filter_map(|key| self.queue.entry(key)) {
            // FORWARD-TSN has no entries for unordered ones: their TSNs tell all.
            if interleaves || !entry.is_unordered {
                let place = (entry.stream, entry.is_unordered);
                match newest.iter().position(|known| (known.0, known.1) == place) {
                    Some(at) => newest[at].2 = entry.sequence,
                    None if newest.len() == SKIPPED_MAX => return (reached, newest),
                    None => newest.push((place.0, place.1, entry.sequence)),
                }
            }
            reached = reached.max(entry.span.0);
        }
        (tsn, newest)
    }

    const fn is_sending(&self) -> bool {
        matches!(self.state, State::Open | State::ShutdownPending | State::ShutdownReceived)
    }

    /// Whether a packet with data may leave now: something is there, and window and pace let it.
    fn may_send(&mut self, now: Instant) -> bool {
        if self.flight.next_lost().is_none() && !self.has_new(now) {
            self.timers.pace = None;
            if self.probe == Probe::Wanted && self.flight.probe().is_none() {
                self.probe = Probe::Idle;
            }
            return self.flight.next_lost().is_some();
        }
        if self.probe == Probe::Wanted {
            return true;
        }
        if !self.has_window() {
            self.timers.pace = None;
            return false;
        }
        let pace = self.controller.pace();
        let allows = self.pacer.allows(pace, now);
        self.timers.pace = (!allows).then(|| self.pacer.next(pace));
        allows
    }

    /// There is a new chunk, and the peer has room for it.
    fn has_new(&mut self, now: Instant) -> bool {
        while let Some(key) = self.queue.expired(now).filter(|key| self.may_abandon(*key)) {
            self.abandon(key, now);
            self.settle_shutdown(now);
        }
        let room = self.search.current() - COMMON_HEADER_BYTES - self.data_header_bytes();
        let Some(bytes) = self.queue.peek(room) else { return false };
        // A closed window is asked now and then by one chunk (RFC 9260 §6.1 A): the word that it has opened may be lost.
        let bytes = bytes as u64 + MESSAGE_CHARGE as u64;
        let has_room = self.flight.flying_window() + bytes <= self.peer_window;
        if !has_room && self.flight.is_empty() && !self.probes_window {
            let is_taken = self.window_probes == 0 && self.stats.bytes_acknowledged > 0;
            let round_trip = self.round_trip.smoothed().filter(|_| is_taken);
            let pause = round_trip.map_or_else(
                || self.round_trip.pause(self.window_probes),
                |round_trip| round_trip.max(PROBE_PAUSE_MIN),
            );
            self.timers.window.get_or_insert(now + pause);
        }
        (has_room || self.probes_window) && !self.flight.is_full()
    }

    fn has_window(&self) -> bool {
        let packet = self.search.current() as u64;
        self.flight.flying() + packet <= self.controller.window() || self.flight.flying() == 0
    }

    fn write_data(&mut self, writer: &mut Writer<'_>, packet: usize, now: Instant) {
        let header = self.data_header_bytes();
        let before = self.flight.flying();
        loop {
            let room = packet.saturating_sub(writer.len());
            if let Some(tsn) = self.flight.next_lost() {
                let Some(chunk) = self.flight.chunk(tsn).copied() else { break };
                if self.give_up(chunk.cut.key, chunk.transmissions, now) {
                    continue;
                }
                let bytes = header + (chunk.cut.length as usize).next_multiple_of(4);
                // One that is longer than packets are now leaves all the same, and may be cut by the network.
                if bytes > room && !writer.is_empty() {
                    break;
                }
                self.flight.resend(tsn, now);
                self.stats.retransmits += 1;
                self.write_chunk(writer, tsn);
            } else {
                let payload = room.saturating_sub(header) & !3;
                let Some(whole) = self.queue.peek(usize::MAX) else { break };
                if payload < whole.min(CUT_BYTES_MIN) || !self.has_new(now) {
                    break;
                }
                let Some(cut) = self.queue.cut(payload) else { break };
                let tsn = self.flight.next();
                let Some(entry) = self.queue.entry_mut(cut.key) else { break };
                let fsn = entry.chunks;
                entry.chunks += 1;
                entry.span = (entry.span.0.min(tsn), tsn);
                self.flight.send(cut, fsn, now);
                if std::mem::take(&mut self.probes_window) {
                    self.window_probes += 1;
                }
                self.stats.bytes_sent += u64::from(cut.length);
                self.write_chunk(writer, tsn);
            }
            self.stats.chunks_sent += 1;
        }
        let bytes = self.flight.flying() - before.min(self.flight.flying());
        if bytes == 0 {
            return;
        }
        self.pacer.sent(bytes, self.controller.pace(), now);
        self.controller.sent(&Sent { now, bytes, in_flight: self.flight.flying() });
        if self.probe == Probe::Wanted {
            self.probe = Probe::Sent;
        }
        self.arm(now);
    }

    fn write_chunk(&self, writer: &mut Writer<'_>, tsn: u64) {
        let Some(chunk) = self.flight.chunk(tsn) else { return };
        let Some(entry) = self.queue.entry(chunk.cut.key) else { return };
        let start = chunk.cut.offset as usize;
        let payload = entry.bytes.get(start..start + chunk.cut.length as usize).unwrap_or_default();
        let sequence = if self.interleaves() {
            Sequence::Mid { mid: entry.sequence, fsn: chunk.fsn }
        } else {
            Sequence::Ssn(short(entry.sequence))
        };
        writer.data(&Data {
            tsn: wire(tsn),
            stream: entry.stream,
            ppi: entry.ppi,
            begins: chunk.cut.begins,
            ends: chunk.cut.ends,
            is_unordered: entry.is_unordered,
            // The end of a burst wants to be answered at once, and so does what probes for it, or asks a closed window
            // (RFC 7053).
            is_immediate: self.probe == Probe::Wanted
                || self.queue.waiting() == 0
                || self.peer_window < self.search.current() as u64,
            sequence,
            payload,
        });
    }

    /// Gives a message up when it has been tried as often or as long as it wants, and the peer can be told.
    fn give_up(&mut self, key: Key, transmissions: u32, now: Instant) -> bool {
        let Some(entry) = self.queue.entry(key) else { return false };
        let is_over = match entry.limit {
            Limit::Never => false,
            Limit::Transmissions(limit) => transmissions >= limit,
            Limit::At(at) => at <= now,
        };
        if !is_over || !self.may_abandon(key) {
            return false;
        }
        self.abandon(key, now);
        true
    }

    /// What the peer knows nothing of may be given up in silence.
    fn may_abandon(&self, key: Key) -> bool {
        self.peer.is_some_and(|peer| peer.forwards) || !self.queue.has_begun(key)
    }

    fn abandon(&mut self, key: Key, now: Instant) {
        let has_begun = self.queue.has_begun(key);
        let Some(mut span) = self.queue.entry(key).map(|entry| entry.span) else { return };
        if let Some(rest) = self.queue.abandon(key) {
            span.1 = self.flight.next();
            self.flight.send_never(rest, now);
        }
        if has_begun {
            self.flight.abandon(key, span);
            self.forward.any = true;
            self.arm(now);
        }
    }

    /// Notes that there is less to send than might leave, or less that the peer has room for.
    fn note_want(&mut self, now: Instant) {
        if self.has_window() && self.flight.next_lost().is_none() && !self.has_new(now) {
            self.flight.limited_by_application();
        }
    }
}

/// Between chunks that ask a closed window and are taken, at least.
const PROBE_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Entries of a FORWARD-TSN: what the smallest packet has room for beside a SACK.
const SKIPPED_MAX: usize = 64;

/// Bytes of an entry of I-FORWARD-TSN (RFC 8260 §2.3.1); one of FORWARD-TSN has half as many.
const SKIPPED_BYTES: usize = 8;

/// Bytes of a SACK without blocks (RFC 9260 §3.3.4).
const SACK_BYTES: usize = 16;

/// Bytes of a RE-CONFIG that resets streams (RFC 6525 §4.1), without them, beside those with the answers that may wait.
const RESET_BYTES: usize = 20 + 4 * 16;

/// Bytes of a stream in it.
const STREAM_BYTES: usize = 2;

/// A packet has place for so many bytes more, or nothing in it that could leave without them.
fn has_place(writer: &Writer<'_>, bytes: usize, room: usize) -> bool {
    writer.is_empty() || writer.len() + bytes <= room
}

/// DATA's numbers have 16 bits.
fn short(sequence: u32) -> u16 {
    u16::try_from(sequence & 0xFFFF).unwrap_or(0)
}
