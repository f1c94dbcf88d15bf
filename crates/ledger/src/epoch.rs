//! Epochs: hours of earnings, and when each can be paid out.

use std::fmt;

use millstream_model::{Micros, WallTime};

use crate::limits::{EPOCH_MS, GRACE_MS, HOLD_MS};

/// An hour of the book, counted from 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Where an epoch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It runs (or has not begun).
    Open,
    /// It is over and still takes late vouchers.
    Grace,
    /// Its sums are final; they are held so that people can object.
    Held,
    /// It can be paid out.
    Payable,
}

impl Epoch {
    /// The epoch that `at` lies in.
    #[must_use]
    pub const fn of(at: WallTime) -> Self {
        Self(at.0 / EPOCH_MS)
    }

    /// Its first millisecond.
    #[must_use]
    pub const fn start(self) -> WallTime {
        WallTime(self.0.saturating_mul(EPOCH_MS))
    }

    /// The first millisecond after it.
    #[must_use]
    pub const fn end(self) -> WallTime {
        self.start().plus_millis(EPOCH_MS)
    }

    /// When its sums become final.
    #[must_use]
    pub const fn sealed_at(self) -> WallTime {
        self.end().plus_millis(GRACE_MS)
    }

    /// When it can be paid out.
    #[must_use]
    pub const fn payable_at(self) -> WallTime {
        self.sealed_at().plus_millis(HOLD_MS)
    }

    /// Where it stands at `now`.
    #[must_use]
    pub fn state(self, now: WallTime) -> State {
        if now < self.end() {
            State::Open
        } else if now < self.sealed_at() {
            State::Grace
        } else if now < self.payable_at() {
            State::Held
        } else {
            State::Payable
        }
    }

    /// The oldest epoch that still takes earnings at `now`.
    #[must_use]
    pub const fn oldest_unsealed(now: WallTime) -> Self {
        Self(now.0.saturating_sub(GRACE_MS) / EPOCH_MS)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was earned, and for what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Earned {
    /// Money.
    pub micros: Micros,
    /// Payable bytes.
    pub bytes: u64,
    /// Segments of which at least one payable piece was delivered. As the viewers tell; nothing is paid by it.
    pub segments: u64,
}

impl Earned {
    /// Both together; sums that leave their range stay at its end (the book, which pays, is checked instead).
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self {
            micros: Micros(self.micros.0.saturating_add(more.micros.0)),
            bytes: self.bytes.saturating_add(more.bytes),
            segments: self.segments.saturating_add(more.segments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::VOUCHER_LATE_MS;

    #[test]
    fn an_epoch_opens_waits_is_held_and_paid() {
        let epoch = Epoch::of(WallTime(EPOCH_MS * 7 + 5));
        assert_eq!(epoch, Epoch(7));
        assert_eq!(epoch.state(WallTime(EPOCH_MS * 8 - 1)), State::Open);
        assert_eq!(epoch.state(WallTime(EPOCH_MS * 8)), State::Grace);
        assert_eq!(epoch.state(WallTime(EPOCH_MS * 8 + GRACE_MS - 1)), State::Grace);
        assert_eq!(epoch.state(WallTime(EPOCH_MS * 8 + GRACE_MS)), State::Held);
        assert_eq!(epoch.state(epoch.payable_at()), State::Payable);
    }

    #[test]
    fn the_latest_voucher_finds_the_epoch_of_its_grant_open() {
        for expires in [EPOCH_MS * 3 - 1, EPOCH_MS * 3, EPOCH_MS * 3 + 1] {
            let now = WallTime(expires + VOUCHER_LATE_MS);
            assert!(Epoch::of(WallTime(expires)) >= Epoch::oldest_unsealed(now));
        }
        let now = WallTime(EPOCH_MS * 4);
        assert!(Epoch::oldest_unsealed(now).state(now) < State::Held);
        let before = Epoch(Epoch::oldest_unsealed(now).0 - 1);
        assert_eq!(before.state(now), State::Held);
    }
}
