//! What the peer has: acknowledgements, losses, timeouts. Acknowledgements are kept until everything that came with
//! them is in, because the newest tells all: a peer that sends one a packet costs little more than one that sends a few.

use std::time::Duration;

use millstream_model::Instant;

use super::{Association, Probe, Reply};
use crate::{
    CloseReason,
    congestion::{Acknowledged, Lost},
    wire::{Sack, cause, serial},
};

/// Slack of a probe of the tail, for timers and wake-ups of both sides.
const PROBE_SLACK: Duration = Duration::from_millis(2);

/// The newest acknowledgement, its gap blocks apart in `Association::gaps`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    cumulative: u64,
    window: u32,
    duplicates: usize,
}

impl Association {
    pub(super) fn take_sack(&mut self, sack: &Sack<'_>) {
        if self.peer.is_none() {
            return;
        }
        let cumulative = serial::unwrap(self.flight.first(), sack.cumulative);
        if cumulative >= self.flight.next() {
            return self.violated("an acknowledgement of what was never sent");
        }
        let known = self.pending.map(|pending| pending.cumulative);
        // An older one that was overtaken (RFC 9260 §6.2.1 i) tells nothing.
        if cumulative + 1 < self.flight.first() || known.is_some_and(|known| cumulative < known) {
            return;
        }
        let duplicates = self.pending.map_or(0, |pending| pending.duplicates) + sack.duplicates();
        self.pending = Some(Pending { cumulative, window: sack.window, duplicates });
        self.gaps.clear();
        self.gaps.extend_from_slice(sack.gap_bytes());
    }

    /// SHUTDOWN acknowledges, too.
    pub(super) fn take_cumulative(&mut self, cumulative: u32) {
        let cumulative = serial::unwrap(self.flight.first(), cumulative);
        if cumulative >= self.flight.first() && cumulative < self.flight.next() {
            let window = u32::try_from(self.peer_window).unwrap_or(u32::MAX);
            self.pending = Some(Pending { cumulative, window, duplicates: 0 });
            self.gaps.clear();
        }
    }

    /// Draws the consequences of what has come in.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(Pending { cumulative, window, duplicates }) = self.pending.take() else { return };
        let in_flight_before = self.flight.flying();
        let Self { flight, queue, gaps, round_trip, stats, .. } = self;
        let progress =
            flight.acknowledge(cumulative, gaps, round_trip.lowest(), now, &mut |key, bytes, is_held| {
                stats.bytes_acknowledged += if is_held { bytes as u64 } else { 0 };
                queue.release(key, bytes);
            });
        // Less than a packet is as good as closed.
        let packet = self.search.current() as u64;
        let was_closed = std::mem::replace(&mut self.peer_window, u64::from(window)) < packet;
        let is_closed = u64::from(window) < packet;
        if !is_closed {
            (self.window_probes, self.probes_window, self.timers.window) = (0, false, None);
        }
        // More than a probe or two was sent before it closed, and is on its way.
        if was_closed && !is_closed && self.flight.flying() <= 2 * packet {
            // What probed the closed window was most likely dropped: no need to wait for its timer.
            self.flight.lose_all();
            self.round_trip.recover();
            self.timers.timeout = None;
        }
        if let Some(sample) = progress.round_trip {
            self.round_trip.measure(sample, now);
        }
        if duplicates > 0 && self.stats.retransmits > 0 {
            self.flight.was_spurious();
        }
        if progress.is_spurious {
            if self.round_trip.backoff() > 0 {
                // The timeout was too early (RFC 5682): the rest is on its way, too.
                self.flight.recall();
            }
            self.flight.was_spurious();
            self.controller.spurious(now);
        }
        self.detect_losses(now);
        if progress.bytes > 0 {
            // One that was taken says that the next may be, whatever the window says: it may be closed by parts of the very
            // message that goes on.
            self.window_probes = 0;
            let acknowledged = Acknowledged {
                now,
                bytes: progress.bytes,
                delivered: self.flight.delivered(),
                in_flight_before,
                in_flight: self.flight.flying(),
                round_trip: progress.round_trip,
                rate: progress.rate,
            };
            self.controller.acknowledged(&acknowledged);
            self.round_trip.recover();
            self.probe = Probe::Idle;
            self.timers.timeout = None;
        }
        // Whoever acknowledges, even nothing new, has received data.
        self.search.passed();
        self.search.progressed(progress.bytes);
        self.forward.any &= !self.flight.is_empty();
        if self.flight.is_empty() && self.queue.is_empty() {
            self.queue.rest();
            self.gaps = Vec::new();
        }
        self.arm(now);
        self.settle_resets();
        self.settle_shutdown(now);
    }

    pub(super) fn detect_losses(&mut self, now: Instant) {
        let smoothed = self.round_trip.smoothed().unwrap_or_default();
        let losses = self.flight.detect(smoothed, self.round_trip.lowest(), now);
        self.timers.reorder = losses.again_at;
        if losses.bytes > 0 {
            self.controller.lost(&Lost {
                now,
                bytes: losses.bytes,
                newest_sent: losses.newest_sent,
                in_flight_then: losses.in_flight_then,
                lost_since: losses.lost_since,
                in_flight: self.flight.flying(),
            });
        }
    }

    /// Nothing came for a whole timeout.
    pub(super) fn time_out(&mut self, now: Instant) {
        self.timers.timeout = None;
        if self.flight.is_empty() {
            return;
        }
        self.stats.timeouts += 1;
        // A window that is closed is the peer's will and says nothing about the path.
        let is_path = self.peer_window >= self.search.current() as u64;
        if self.search.is_raised() {
            // To learn whether the path is gone, or only too narrow for what is in flight.
            self.search.timed_out();
            self.reply(Reply::Heartbeat);
        }
        if is_path && self.config.timeouts_max.is_some_and(|most| self.round_trip.backoff() >= most) {
            return self.over(CloseReason::Unanswered);
        }
        self.flight.lose_all();
        self.pacer.forgive();
        if is_path {
            self.controller.timed_out(now);
        }
        self.round_trip.back_off();
        self.probe = Probe::Idle;
        self.timers.probe = None;
        self.timers.reorder = None;
        self.forward.is_due = self.forward.any;
        self.timers.timeout = Some(now + self.round_trip.timeout());
    }

    pub(super) fn take_heartbeat_ack(&mut self, content: &[u8], now: Instant) {
        if self.search.answered(content, now) {
            self.adopt_packet_bytes();
        } else if *content == self.search.content(0) && self.search.is_black_hole() {
            self.over(CloseReason::Narrowed);
            self.abort_peer(cause::USER_ABORT, &[]);
        }
    }

    /// Sets the timers that wait for an acknowledgement, for what is in flight now.
    pub(super) fn arm(&mut self, now: Instant) {
        if self.flight.is_empty() {
            (self.timers.timeout, self.timers.probe, self.timers.reorder) = (None, None, None);
            self.probe = Probe::Idle;
            return;
        }
        if self.timers.timeout.is_none() {
            self.timers.timeout = Some(now + self.round_trip.timeout());
        }
        // RFC 8985 §7.2: two round trips after the last sign of either side, once. The peer's delay of acknowledgements is
        // not added: the last chunk of a burst has asked for one at once (RFC 7053).
        let is_calm = self.probe == Probe::Idle && self.round_trip.backoff() == 0 && self.flight.flying() > 0;
        self.timers.probe = self.round_trip.smoothed().filter(|_| is_calm).map(|smoothed| {
            let wait = smoothed * 2 + PROBE_SLACK;
            (now + wait).min(self.timers.timeout.unwrap_or(now + wait))
        });
    }
}
