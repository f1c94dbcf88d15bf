//! The reference: slow start and congestion avoidance of RFC 9260 §7.2, one reduction a round trip.
//!
//! A window that grows by what was acknowledged (Appropriate Byte Counting, RFC 3465) and halves on loss: on a lossy
//! path far too slow for video, which is why [`super::Bbr`] is the default. Here to be compared with, and to be the
//! safe choice where a path does not fit the model.

use std::time::Duration;

use millstream_model::Instant;

use super::{Acknowledged, Controller, Lost, Sent};

/// Packets that may leave before anything is known of the path. RFC 9260 §7.2.1 allows 4,404 bytes; ten packets are
/// what every TCP of today starts with (RFC 6928).
pub(super) const INITIAL_PACKETS: u64 = 10;

/// Packets that the threshold keeps after a loss (RFC 9260 §7.2.3).
const THRESHOLD_PACKETS_MIN: u64 = 4;

/// Packets by which one acknowledgement opens the window in slow start at most: a peer that acknowledges rarely must
/// not make us send a burst (L of RFC 3465 §2.2; RFC 9260 §7.2.1 has one, but acknowledges every second packet).
const SLOW_START_PACKETS: u64 = 8;

/// What a smoothed round trip weighs old against new (RFC 9260 §6.3.1: alpha is 1/8).
const SMOOTHING: u32 = 8;

/// A window that halves.
#[derive(Debug, Clone)]
pub struct NewReno {
    packet_bytes: u64,
    window: u64,
    threshold: u64,
    /// Acknowledged since the window grew last, in congestion avoidance.
    partial_bytes_acked: u64,
    /// Chunks sent before this are of the flight that has been answered for.
    reduced_at: Option<Instant>,
    /// Window and threshold before the last reduction.
    before: Option<(u64, u64)>,
    round_trip: Option<Duration>,
}

impl NewReno {
    /// A controller for an association whose largest packet has room for `packet_bytes` bytes of DATA chunks.
    #[must_use]
    pub fn new(packet_bytes: u64) -> Self {
        Self {
            packet_bytes: packet_bytes.max(1),
            window: INITIAL_PACKETS * packet_bytes.max(1),
            threshold: u64::MAX,
            partial_bytes_acked: 0,
            reduced_at: None,
            before: None,
            round_trip: None,
        }
    }

    fn reduce(&mut self, window: u64, now: Instant) {
        self.before = Some((self.window, self.threshold));
        self.threshold = (self.window / 2).max(THRESHOLD_PACKETS_MIN * self.packet_bytes);
        self.window = window.max(self.packet_bytes);
        self.partial_bytes_acked = 0;
        self.reduced_at = Some(now);
    }
}

impl Controller for NewReno {
    fn sent(&mut self, _sent: &Sent) {}

    fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        if let Some(sample) = acknowledged.round_trip {
            self.round_trip = Some(
                self.round_trip.map_or(sample, |smoothed| (smoothed * (SMOOTHING - 1) + sample) / SMOOTHING),
            );
        }
        // A window that is not used says nothing about the path (RFC 9260 §7.2.1). Pacing and packets that are not
        // full leave a little of it over.
        let spare = (SLOW_START_PACKETS * self.packet_bytes).min(self.window / 2);
        let is_used = acknowledged.in_flight_before + spare >= self.window;
        if !is_used {
            self.partial_bytes_acked = 0;
            return;
        }
        if self.window < self.threshold {
            self.window += acknowledged.bytes.min(SLOW_START_PACKETS * self.packet_bytes);
        } else {
            self.partial_bytes_acked += acknowledged.bytes;
            if self.partial_bytes_acked >= self.window {
                self.partial_bytes_acked -= self.window;
                self.window += self.packet_bytes;
            }
        }
    }

    fn lost(&mut self, lost: &Lost) {
        if self.reduced_at.is_some_and(|at| lost.newest_sent < at) {
            return;
        }
        let half = (self.window / 2).max(THRESHOLD_PACKETS_MIN * self.packet_bytes);
        self.reduce(half, lost.now);
    }

    fn timed_out(&mut self, now: Instant) {
        self.reduce(self.packet_bytes, now);
    }

    fn spurious(&mut self, _now: Instant) {
        if let Some((window, threshold)) = self.before.take() {
            self.window = self.window.max(window);
            self.threshold = self.threshold.max(threshold);
        }
    }

    fn set_packet_bytes(&mut self, bytes: u64) {
        self.packet_bytes = bytes.max(1);
        self.window = self.window.max(self.packet_bytes);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pace(&self) -> Option<u64> {
        // Spread over the round trip, with enough to spare that the window stays the limit: in slow start it doubles.
        let micros = u64::try_from(self.round_trip?.as_micros()).unwrap_or(u64::MAX).max(1);
        let percent = if self.window < self.threshold { 200 } else { 125 };
        Some(self.window.saturating_mul(percent * 10_000) / micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1_200;

    fn acknowledged(bytes: u64, in_flight_before: u64) -> Acknowledged {
        Acknowledged {
            now: Instant(0),
            bytes,
            delivered: bytes,
            in_flight_before,
            in_flight: in_flight_before - bytes,
            round_trip: Some(Duration::from_millis(20)),
            rate: None,
        }
    }

    fn lost(now_ms: u64, sent_ms: u64) -> Lost {
        Lost {
            now: Instant::from_millis(now_ms),
            bytes: PACKET,
            newest_sent: Instant::from_millis(sent_ms),
            in_flight_then: 10 * PACKET,
            lost_since: PACKET,
            in_flight: 9 * PACKET,
        }
    }

    #[test]
    fn slow_start_grows_by_what_was_acknowledged() {
        let mut reno = NewReno::new(PACKET);
        assert_eq!(reno.window(), 12_000);
        reno.acknowledged(&acknowledged(2 * PACKET, 10 * PACKET));
        assert_eq!(reno.window(), 14_400);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = NewReno::new(PACKET);
        reno.acknowledged(&acknowledged(PACKET, PACKET));
        assert_eq!(reno.window(), 12_000);
    }

    #[test]
    fn one_flight_costs_half_the_window_once() {
        let mut reno = NewReno::new(PACKET);
        reno.lost(&lost(20, 10));
        reno.lost(&lost(21, 19));
        assert_eq!(reno.window(), 6_000);
        reno.lost(&lost(41, 20));
        assert_eq!(reno.window(), 4_800);
    }

    #[test]
    fn after_a_loss_a_window_of_acknowledgements_earns_one_packet() {
        let mut reno = NewReno::new(PACKET);
        reno.lost(&lost(20, 10));
        for _ in 0..4 {
            reno.acknowledged(&acknowledged(PACKET, 5 * PACKET));
        }
        assert_eq!(reno.window(), 6_000);
        reno.acknowledged(&acknowledged(PACKET, 5 * PACKET));
        assert_eq!(reno.window(), 7_200);
    }

    #[test]
    fn what_was_only_late_gives_the_window_back() {
        let mut reno = NewReno::new(PACKET);
        reno.timed_out(Instant::from_millis(1_000));
        assert_eq!(reno.window(), PACKET);
        reno.spurious(Instant::from_millis(1_100));
        assert_eq!(reno.window(), 12_000);
    }
}
