//! HyStart++ (RFC 9406): slow start slows down when the round trip grows, and ends when it goes on growing.

use std::time::Duration;

const SAMPLES: u32 = 8;
const RISE_MIN: Duration = Duration::from_millis(4);
const RISE_MAX: Duration = Duration::from_millis(16);
const RISE_DIVISOR: u32 = 8;
/// By which growth is divided once the round trip has grown (`CSS_GROWTH_DIVISOR`).
const BRAKE: f64 = 4.0;
/// For so many rounds (`CSS_ROUNDS`).
const BRAKE_ROUNDS: u32 = 5;

#[derive(Debug)]
pub(super) struct HyStart {
    round_ends: u64,
    last: Option<Duration>,
    current: Option<Duration>,
    samples: u32,
    /// What the round trip was when the brake was put on, and rounds since.
    braking: Option<(Duration, u32)>,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self { round_ends: 0, last: None, current: None, samples: 0, braking: None }
    }

    pub(super) fn brake(&self) -> f64 {
        if self.braking.is_some() { BRAKE } else { 1.0 }
    }

    /// Takes in a round trip of packet `id`, when `next` is the next to be sent. True when slow start is over.
    pub(super) fn is_over(&mut self, id: u64, next: u64, sample: Duration) -> bool {
        if id >= self.round_ends {
            self.round_ends = next;
            self.last = self.current.take();
            self.samples = 0;
            if let Some((_, rounds)) = &mut self.braking {
                *rounds += 1;
                if *rounds >= BRAKE_ROUNDS {
                    return true;
                }
            }
        }
        let current = self.current.map_or(sample, |current| current.min(sample));
        self.current = Some(current);
        self.samples += 1;
        let Some(last) = self.last else { return false };
        if self.samples < SAMPLES {
            return false;
        }
        let rise = (last / RISE_DIVISOR).clamp(RISE_MIN, RISE_MAX);
        match self.braking {
            None if current >= last + rise => self.braking = Some((current, 0)),
            Some((at, _)) if current < at => self.braking = None,
            None | Some(_) => {}
        }
        false
    }
}
