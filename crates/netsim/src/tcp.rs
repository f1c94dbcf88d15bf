//! A TCP that sends without end: CUBIC or Reno, with selective acknowledgements, packet by packet.
//!
//! A reference to share a bottleneck with, and no more: what was lost is sent again as a new packet, which is the same
//! to the bottleneck. Losses are known by three later arrivals (RFC 6675), one reduction answers for a flight, and
//! nothing is paced.

use std::{collections::VecDeque, time::Duration};

use millstream_model::Instant;

use self::{cubic::Cubic, hystart::HyStart};
use crate::{Packet, Sender};

mod cubic;
mod hystart;

/// RFC 6928.
const INITIAL_PACKETS: f64 = 10.0;
/// Arrivals of later packets that make one a loss.
const LATER_ARRIVALS: u64 = 3;
/// RFC 6298 §2.4 says a second, every stack says this.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// How the window grows after slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// A packet a round trip, halved by a loss (RFC 5681).
    Reno,
    /// By the time since the last loss (RFC 9438), cut to 70 % by a loss.
    Cubic,
}

/// A sender.
#[derive(Debug)]
pub struct Tcp {
    packet_bytes: u64,
    /// In packets.
    window: f64,
    threshold: f64,
    cubic: Option<Cubic>,
    hystart: Option<HyStart>,
    /// What is in flight, from `first` on.
    sent: VecDeque<Option<Instant>>,
    first: u64,
    in_flight: u64,
    highest: Option<u64>,
    /// Losses before this packet have been answered for.
    recovery: u64,
    smoothed: Option<(Duration, Duration)>,
    timeout_at: Option<Instant>,
    backoff: u32,
}

impl Tcp {
    /// A sender of packets of `packet_bytes` on the wire; HyStart++ (RFC 9406) ends slow start before it overflows.
    #[must_use]
    pub fn new(packet_bytes: u64, growth: Growth, has_hystart: bool) -> Self {
        Self {
            packet_bytes,
            window: INITIAL_PACKETS,
            threshold: f64::INFINITY,
            cubic: (growth == Growth::Cubic).then(Cubic::new),
            hystart: has_hystart.then(HyStart::new),
            sent: VecDeque::new(),
            first: 0,
            in_flight: 0,
            highest: None,
            recovery: 0,
            smoothed: None,
            timeout_at: None,
            backoff: 0,
        }
    }

    fn next_id(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    fn timeout(&self) -> Duration {
        let timeout =
            self.smoothed.map_or(Duration::from_secs(1), |(smoothed, spread)| smoothed + 4 * spread);
        timeout.max(TIMEOUT_MIN) * 2u32.pow(self.backoff.min(6))
    }

    fn take(&mut self, id: u64) -> Option<Instant> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(index)?.take()?;
        self.in_flight -= 1;
        Some(sent)
    }

    fn measure(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((smoothed, spread)) => {
                ((smoothed * 7 + sample) / 8, (spread * 3 + smoothed.abs_diff(sample)) / 4)
            }
        });
    }

    fn grow(&mut self, now: Instant, packets: f64) {
        if self.window < self.threshold {
            self.window += packets / self.hystart.as_ref().map_or(1.0, HyStart::brake);
        } else if let Some(cubic) = &mut self.cubic {
            let smoothed = self.smoothed.map_or(Duration::ZERO, |(smoothed, _)| smoothed);
            self.window = cubic.grow(now, smoothed, self.window, packets);
        } else {
            self.window += packets / self.window;
        }
    }

    fn reduce(&mut self, now: Instant) {
        self.recovery = self.next_id();
        let kept = match &mut self.cubic {
            Some(cubic) => cubic.reduce(now, self.window),
            None => self.window / 2.0,
        };
        self.window = kept.max(2.0);
        self.threshold = self.window;
    }

    fn detect(&mut self, now: Instant) {
        let Some(highest) = self.highest else { return };
        while self.first + LATER_ARRIVALS <= highest {
            let Some(front) = self.sent.pop_front() else { return };
            let id = self.first;
            self.first += 1;
            if front.is_some() {
                self.in_flight -= 1;
                if id >= self.recovery {
                    self.reduce(now);
                }
            }
        }
    }
}

impl Sender for Tcp {
    fn poll(&mut self, now: Instant) -> Option<Packet> {
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.reduce(now);
            self.window = 1.0;
            self.backoff += 1;
            self.first = self.next_id();
            self.sent.clear();
            self.in_flight = 0;
            self.timeout_at = None;
        }
        #[expect(clippy::cast_precision_loss, reason = "packets in flight are few")]
        let in_flight = self.in_flight as f64;
        if in_flight + 1.0 > self.window {
            return None;
        }
        let id = self.next_id();
        self.sent.push_back(Some(now));
        self.in_flight += 1;
        self.timeout_at.get_or_insert(now + self.timeout());
        Some(Packet { id, bytes: self.packet_bytes })
    }

    fn wake(&self) -> Option<Instant> {
        if self.next_id() == 0 { Some(Instant(0)) } else { self.timeout_at }
    }

    fn acknowledged(&mut self, now: Instant, ids: &[u64]) {
        let mut packets = 0.0;
        // A window that is not full has not been tried.
        #[expect(clippy::cast_precision_loss, reason = "packets in flight are few")]
        let is_used = self.in_flight as f64 + 2.0 >= self.window;
        for &id in ids {
            let Some(sent) = self.take(id) else { continue };
            packets += 1.0;
            self.highest = self.highest.max(Some(id));
            let sample = now.since(sent);
            self.measure(sample);
            let is_slow_start = self.window < self.threshold;
            let next = self.next_id();
            if let Some(hystart) = &mut self.hystart
                && is_slow_start
                && hystart.is_over(id, next, sample)
            {
                self.threshold = self.window;
            }
        }
        self.detect(now);
        if packets > 0.0 {
            self.backoff = 0;
            let is_recovering = self.highest.is_some_and(|highest| highest < self.recovery);
            if is_used && !is_recovering {
                self.grow(now, packets);
            }
            self.timeout_at = (self.in_flight > 0).then(|| now + self.timeout());
        }
    }
}
