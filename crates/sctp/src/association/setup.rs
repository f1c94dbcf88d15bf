//! How an association begins (RFC 9260 §5): INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, also when both sides begin at once
//! and when one of them begins anew.

use millstream_model::Instant;

use super::{
    Association, EPOCH, Peer, Reply, State,
    cookie::{Cookie, Refusal},
};
use crate::{
    CloseReason, Event,
    receive::arrived::Arrived,
    wire::{Init, InitFields, Writer, cause},
};

/// Bytes of a cookie that we send back: a peer's own cost nothing, but must fit into a packet.
const COOKIE_BYTES_MAX: usize = 1_024;

impl Association {
    /// Nothing is kept of an INIT but its answer, which holds everything.
    pub(super) fn take_init(&mut self, init: &Init<'_>, now: Instant) {
        if init.tag == 0 || init.outbound == 0 || init.inbound == 0 {
            return;
        }
        let (tag, tsn, tie_tags) = match self.state {
            State::Over => return,
            State::ShutdownAckSent => return self.reply(Reply::ShutdownAck),
            // The same tag and TSN as in our own INIT (RFC 9260 §5.2.1).
            State::Closed | State::CookieWait | State::CookieEchoed => {
                (self.local.tag, self.local.first_tsn, (0, 0))
            }
            // The peer may have begun anew (RFC 9260 §5.2.2).
            _ => {
                self.local.restarts = self.local.restarts.wrapping_add(1);
                let (tag, tsn) = self.local.key.tag(self.local.restarts);
                (tag, tsn, (self.local.tag, self.peer.map_or(0, |peer| peer.tag)))
            }
        };
        let cookie = Cookie {
            local_tag: tag,
            local_tsn: tsn,
            peer_tag: init.tag,
            peer_tsn: init.tsn,
            peer_window: init.window,
            peer_outbound: init.outbound,
            peer_inbound: init.inbound,
            interleaves: init.supports_interleaving() && self.config.interleaving,
            resets: init.supports_reset(),
            forwards: init.supports_forward_tsn(),
            zero_checksum: init.zero_checksum(),
            tie_tags,
            made: now,
        };
        let fields = InitFields { unrecognised: init.unrecognised(), ..self.fields(tag, tsn) };
        let sealed = cookie.seal(&self.local.key);
        self.reply_packet(init.tag, |writer| writer.init(&fields, Some(&sealed), true));
    }

    pub(super) fn take_init_ack(&mut self, init: &Init<'_>, now: Instant) {
        if self.state != State::CookieWait {
            return;
        }
        let Some(cookie) = init.cookie().filter(|cookie| cookie.len() <= COOKIE_BYTES_MAX) else {
            return self.abort_for("an INIT ACK without a usable cookie", cause::MISSING_PARAMETER, &[]);
        };
        if init.tag == 0 || init.outbound == 0 || init.inbound == 0 {
            return self.abort_for("an INIT ACK with zeros", cause::INVALID_PARAMETER, &[]);
        }
        self.local.cookie = cookie.to_vec();
        let peer = Peer {
            tag: init.tag,
            streams: init.inbound,
            interleaves: init.supports_interleaving() && self.config.interleaving,
            resets: init.supports_reset(),
            forwards: init.supports_forward_tsn(),
            zero_checksum: init.zero_checksum(),
        };
        self.meet(peer, init.tsn, init.window);
        self.state = State::CookieEchoed;
        self.measure_attempt(now);
        self.attempt(Reply::CookieEcho, now);
    }

    /// A peer has kept our cookie and brings it back. Says whether to go on with its packet.
    pub(super) fn take_cookie(&mut self, bytes: &[u8], tag: u32, now: Instant) -> bool {
        let cookie = match Cookie::open(bytes, &self.local.key, now) {
            Ok(cookie) if cookie.local_tag == tag => cookie,
            Err(Refusal::Stale(late)) if self.peer.is_none_or(|peer| tag != peer.tag) => {
                let micros = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
                // Under the tag that the peer knows itself by, if only we knew it: it will ask again.
                self.reply_packet(tag, |writer| writer.error(cause::STALE_COOKIE, &micros.to_be_bytes()));
                return false;
            }
            _ => return false,
        };
        let peer = Peer {
            tag: cookie.peer_tag,
            streams: cookie.peer_inbound,
            interleaves: cookie.interleaves,
            resets: cookie.resets,
            forwards: cookie.forwards,
            zero_checksum: cookie.zero_checksum,
        };
        let is_ours = cookie.local_tag == self.local.tag;
        let is_theirs = self.peer.is_some_and(|known| known.tag == peer.tag);
        match self.state {
            State::Closed | State::CookieWait | State::CookieEchoed if is_ours => {
                // Action B or D of RFC 9260 §5.2.4: what the cookie says holds.
                self.meet(peer, cookie.peer_tsn, cookie.peer_window);
                self.open(now);
            }
            State::Over | State::Closed | State::CookieWait | State::CookieEchoed => return false,
            // Action D: our COOKIE ACK was lost.
            _ if is_ours && is_theirs => {}
            // Action A: it has begun anew. Whoever owns this association must begin anew, too.
            _ if !is_ours && !is_theirs && Some(cookie.tie_tags) == self.tags() => {
                self.over(CloseReason::Restarted);
                self.replies.clear();
                self.reply_packet(peer.tag, |writer| writer.abort(cause::OUT_OF_RESOURCE, &[]));
                return false;
            }
            // Action C, or nothing that the table knows.
            _ => return false,
        }
        self.reply(Reply::CookieAck);
        true
    }

    pub(super) fn take_cookie_ack(&mut self, now: Instant) {
        if self.state == State::CookieEchoed {
            self.measure_attempt(now);
            self.open(now);
        }
    }

    /// What was sent once is a measure of the round trip (RFC 9260 §6.3.1).
    fn measure_attempt(&mut self, now: Instant) {
        self.round_trip.recover();
        if self.timers.attempts == 1 {
            self.round_trip.measure(now.since(self.timers.attempted), now);
        }
    }

    pub(super) fn write_init(&self, writer: &mut Writer<'_>) {
        writer.init(&self.fields(self.local.tag, self.local.first_tsn), None, false);
    }

    fn fields(&self, tag: u32, tsn: u32) -> InitFields<'static> {
        InitFields {
            tag,
            window: self.config.receive_window_bytes,
            outbound: self.config.streams,
            inbound: self.config.streams,
            tsn,
            supports_interleaving: self.config.interleaving,
            supports_reset: true,
            supports_forward_tsn: true,
            zero_checksum: self.config.zero_checksum,
            ..InitFields::default()
        }
    }

    /// Takes over what the peer says of itself.
    fn meet(&mut self, peer: Peer, tsn: u32, window: u32) {
        self.peer = Some(peer);
        self.peer_window = u64::from(window);
        self.arrived = Arrived::new(EPOCH + u64::from(tsn));
        self.queue.set_interleaving(peer.interleaves);
        self.flight.set_header(self.data_header_bytes() as u64);
        self.resets.meet(tsn);
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.timers.attempt = None;
        self.round_trip.recover();
        self.local.cookie = Vec::new();
        self.replies.retain(|reply| !matches!(reply, Reply::Init | Reply::CookieEcho));
        self.timers.heartbeat = self.config.heartbeat_interval.map(|interval| now + interval);
        self.events.push_back(Event::Open);
    }

    fn tags(&self) -> Option<(u32, u32)> {
        self.peer.map(|peer| (self.local.tag, peer.tag))
    }
}
