//! What waits for one webhook: what goes out next, when it is tried again, and what is given up.
//!
//! Pure. One event is on its way at a time, so a receiver gets them in the order in which they happened; each comes
//! until it is taken, so one may come twice. A receiver that is away finds the newest when it comes back: the oldest
//! are dropped when too many wait, and each that has waited for too long. What is missing is told with the next that
//! goes out.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use millstream_model::Instant;

use super::event::Event;

/// After the first failure; doubled by each further one.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest pause between two tries that we choose: a receiver that is up again hears of it within so long.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The longest pause that a receiver may ask for.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(600);

/// How often a receiver may say that it does not like an event before it is dropped: one that it can never take must
/// not keep the others from it. Half a minute of tries, as long as a restart or a wrong route takes.
const REFUSALS_MAX: u32 = 6;

/// What one queue holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Events.
    pub(super) waiting_max: usize,
    /// For how long.
    pub(super) keep: Duration,
}

/// What happens to it.
#[derive(Debug)]
pub(super) enum Input {
    /// There is an event.
    Told(Arc<Event>),
    /// What became of the delivery on its way.
    Answered(Answer),
    /// The time of [`Queue::deadline`] has come.
    Tick,
    /// The program ends: what waits is tried once more.
    Close,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver has it.
    Taken,
    /// The receiver is not there, or not well; it may have said for how long.
    Failed { pause: Option<Duration> },
    /// The receiver does not like it.
    Refused,
    /// The receiver wants none of them any more.
    Unwanted,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Delivery {
    pub(super) event: Arc<Event>,
    /// Events that the receiver did not get before this one.
    pub(super) missed: u64,
}

/// One webhook's queue.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    waiting: VecDeque<Waiting>,
    /// The first of them is on its way.
    sending: bool,
    /// In a row.
    failures: u32,
    /// Not before this.
    due: Instant,
    now: Instant,
    /// Dropped, and not told yet.
    missed: u64,
    dropped: u64,
    state: State,
    chance: u64,
}

#[derive(Debug)]
struct Waiting {
    event: Arc<Event>,
    since: Instant,
    refusals: u32,
    /// What it says is missing, once it was sent: it says the same each time.
    missed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    /// The receiver wants nothing.
    Shut,
}

impl Queue {
    /// An empty one. `seed` spreads its retries.
    pub(super) fn new(bounds: Bounds, seed: u64) -> Self {
        let bounds = Bounds { waiting_max: bounds.waiting_max.max(1), ..bounds };
        Self {
            bounds,
            waiting: VecDeque::new(),
            sending: false,
            failures: 0,
            due: Instant(0),
            now: Instant(0),
            missed: 0,
            dropped: 0,
            state: State::Open,
            chance: seed,
        }
    }

    /// Takes in what happened.
    pub(super) fn handle(&mut self, input: Input, now: Instant) {
        self.now = now;
        match input {
            Input::Told(event) => self.told(event),
            Input::Answered(answer) => self.answered(answer),
            Input::Close if self.state == State::Open => {
                self.state = State::Closing;
                self.due = now;
            }
            Input::Tick | Input::Close => {}
        }
        self.forget_old();
    }

    /// What to send now. Nothing more until it was [`Input::Answered`].
    pub(super) fn poll(&mut self) -> Option<Delivery> {
        if self.sending || self.now < self.due {
            return None;
        }
        let missed = self.missed;
        let first = self.waiting.front_mut()?;
        self.sending = true;
        Some(Delivery { event: Arc::clone(&first.event), missed: *first.missed.get_or_insert(missed) })
    }

    /// When to look again, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.sending && !self.waiting.is_empty()).then_some(self.due)
    }

    /// Nothing will ever go out any more.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Shut || (self.state == State::Closing && self.waiting.is_empty())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Events dropped since the last question.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn told(&mut self, event: Arc<Event>) {
        if self.state == State::Shut {
            return self.drop_events(1);
        }
        if self.waiting.len() >= self.bounds.waiting_max {
            // Not the one that is on its way: it may be taken.
            let oldest = usize::from(self.sending);
            if self.waiting.remove(oldest).is_none() {
                return self.drop_events(1);
            }
            self.drop_events(1);
        }
        self.waiting.push_back(Waiting { event, since: self.now, refusals: 0, missed: None });
    }

    fn answered(&mut self, answer: Answer) {
        self.sending = false;
        match answer {
            Answer::Taken => {
                let told = self.waiting.pop_front().and_then(|taken| taken.missed).unwrap_or(0);
                self.missed = self.missed.saturating_sub(told);
                (self.failures, self.due) = (0, self.now);
            }
            Answer::Unwanted => {
                self.state = State::Shut;
                self.give_up();
            }
            Answer::Failed { .. } | Answer::Refused if self.state == State::Closing => self.give_up(),
            Answer::Failed { pause } => self.fail(pause),
            Answer::Refused => {
                self.fail(None);
                if let Some(first) = self.waiting.front_mut() {
                    first.refusals += 1;
                    if first.refusals >= REFUSALS_MAX {
                        self.waiting.pop_front();
                        self.drop_events(1);
                        // The next may be to its liking.
                        (self.failures, self.due) = (0, self.now);
                    }
                }
            }
        }
    }

    fn fail(&mut self, pause: Option<Duration>) {
        let doublings = self.failures.min(16);
        let usual = RETRY_AFTER.saturating_mul(1 << doublings).min(RETRY_AFTER_MAX);
        // Half of it by chance, so that all who failed together do not come back together.
        let half = u64::try_from(usual.as_micros() / 2).unwrap_or(u64::MAX);
        let jittered = Duration::from_micros(half + self.draw() % half.max(1));
        self.failures = self.failures.saturating_add(1);
        self.due = self.now + jittered.max(pause.unwrap_or_default().min(ASKED_PAUSE_MAX));
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.chance;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn forget_old(&mut self) {
        let first = usize::from(self.sending);
        while self.waiting.get(first).is_some_and(|old| self.now.since(old.since) >= self.bounds.keep) {
            self.waiting.remove(first);
            self.drop_events(1);
        }
    }

    fn give_up(&mut self) {
        let left = self.waiting.len();
        self.waiting.clear();
        self.drop_events(left as u64);
    }

    fn drop_events(&mut self, count: u64) {
        self.missed = self.missed.saturating_add(count);
        self.dropped = self.dropped.saturating_add(count);
    }
}

#[cfg(test)]
mod tests;
