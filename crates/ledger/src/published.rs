//! What of a live stream exists, over time: the bound on what anybody can honestly have watched.

use std::collections::VecDeque;

use millstream_model::WallTime;
use millstream_wire::tracker::Published;

use crate::limits::{PUBLISHED_STEP_MS, WINDOW_MS_MAX};

/// A live stream's published bytes: the total now, and the totals of the last [`WINDOW_MS_MAX`].
///
/// Times are those of the tracker's clock at which reports came, not the packager's: a packager whose clock is wrong
/// must not cost edges their pay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    stored: Stored,
    /// (when, total), oldest first, at least [`PUBLISHED_STEP_MS`] apart, none older than [`WINDOW_MS_MAX`].
    points: VecDeque<(WallTime, u64)>,
}

/// The part of a history that survives a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Bytes counted before the packager's counter last began anew.
    pub offset: u64,
    /// The packager's last counter.
    pub bytes: u64,
    /// The packager's own time of it.
    pub at: WallTime,
    /// The total before the oldest point of the window.
    pub before: u64,
}

impl History {
    /// What is known after a restart.
    #[must_use]
    pub const fn restored(stored: Stored) -> Self {
        Self { stored, points: VecDeque::new() }
    }

    /// The part to store.
    #[must_use]
    pub const fn stored(&self) -> Stored {
        self.stored
    }

    /// Bytes published since the stream began, over all restarts of its packager.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.stored.offset.saturating_add(self.stored.bytes)
    }

    /// The total that somebody who joins at `joined` counts from: at the start of the window that he can still fetch.
    /// While nothing is published the window stays where it is, as the origin's does.
    #[must_use]
    pub fn base(&self, joined: WallTime, window_ms: u64) -> u64 {
        let newest = self.points.back().map_or(joined, |(at, _)| joined.min(*at));
        self.total_at(WallTime(newest.0.saturating_sub(window_ms)))
    }

    /// Bytes that had been published at `time`, which is not longer ago than [`WINDOW_MS_MAX`]. Where the history
    /// has a hole (after a restart), the total before the hole, which favours the edges.
    fn total_at(&self, time: WallTime) -> u64 {
        let later = self.points.partition_point(|(at, _)| *at <= time);
        match later.checked_sub(1).and_then(|last| self.points.get(last)) {
            Some((_, total)) => *total,
            None => self.stored.before,
        }
    }

    /// Takes a report. `true` when the packager's counter began anew (which must be stored at once).
    pub(crate) fn report(&mut self, published: Published, now: WallTime) -> bool {
        let Stored { offset, bytes, at, .. } = self.stored;
        let restarted = published.bytes < bytes;
        if restarted && published.at <= at {
            // An older report that came late.
            return false;
        }
        if restarted {
            self.stored.offset = offset.saturating_add(bytes);
        }
        let grew = published.bytes > bytes || restarted;
        self.stored.bytes = published.bytes;
        self.stored.at = published.at;
        if grew {
            self.note(now);
        }
        restarted
    }

    fn note(&mut self, now: WallTime) {
        let total = self.total();
        // A point keeps its first total (and nothing is noted while a wall clock that was set back catches up): a
        // total that is a little old favours the edges.
        if self.points.back().is_none_or(|(at, _)| now.millis_since(*at) >= PUBLISHED_STEP_MS) {
            self.points.push_back((now, total));
        }
        while let Some((at, total)) = self.points.front().copied() {
            // The newest point at or before the window's start is what `total_at` needs.
            if now.millis_since(at) <= WINDOW_MS_MAX {
                break;
            }
            self.stored.before = total;
            self.points.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(history: &mut History, at: u64, bytes: u64, now: u64) -> bool {
        history.report(Published { at: WallTime(at), bytes }, WallTime(now))
    }

    #[test]
    fn the_total_at_a_time_is_the_last_one_reported_before_it() {
        let mut history = History::default();
        for second in 1..=10 {
            report(&mut history, second * 1_000, second * 100, second * 1_000);
        }
        assert_eq!(history.total(), 1_000);
        assert_eq!(history.total_at(WallTime(0)), 0);
        assert_eq!(history.total_at(WallTime(4_999)), 400);
        assert_eq!(history.total_at(WallTime(5_000)), 500);
    }

    #[test]
    fn a_packager_that_starts_again_counts_on() {
        let mut history = History::default();
        assert!(!report(&mut history, 1_000, 500, 1_000));
        assert!(report(&mut history, 2_000, 20, 2_000));
        assert!(!report(&mut history, 3_000, 60, 3_000));
        assert_eq!(history.total(), 560);
    }

    #[test]
    fn a_report_that_comes_late_is_not_taken_for_a_new_start() {
        let mut history = History::default();
        report(&mut history, 2_000, 500, 2_000);
        assert!(!report(&mut history, 1_000, 300, 2_100));
        assert_eq!(history.total(), 500);
    }

    #[test]
    fn a_wrong_packager_clock_changes_nothing() {
        let mut history = History::default();
        report(&mut history, 9_000_000, 100, 1_000);
        report(&mut history, 5, 200, 2_000);
        assert_eq!(history.total(), 200, "the counter grew, so the report is newer, whatever its clock says");
        assert_eq!(history.total_at(WallTime(1_500)), 100);
    }

    #[test]
    fn the_history_is_bounded_and_knows_its_whole_window() {
        let mut history = History::default();
        for tick in 0..100_000_u64 {
            report(&mut history, tick * 100, tick, tick * 100);
        }
        let most = usize::try_from(WINDOW_MS_MAX / PUBLISHED_STEP_MS).unwrap() + 2;
        assert!(history.points.len() <= most, "{}", history.points.len());
        let now = 99_999 * 100;
        let then = history.total_at(WallTime(now - WINDOW_MS_MAX));
        let exact = (now - WINDOW_MS_MAX) / 100;
        assert!(then <= exact && then + 20 >= exact, "{then} {exact}");
    }

    #[test]
    fn while_nothing_is_published_the_window_stays() {
        let mut history = History::default();
        for second in 1..=100 {
            report(&mut history, second * 1_000, second * 10, second * 1_000);
        }
        let silent = 5_000_000;
        report(&mut history, silent, 1_000, silent);
        assert_eq!(history.base(WallTime(silent), 60_000), 400);
        assert_eq!(history.base(WallTime(90_000), 60_000), 300);
    }

    #[test]
    fn after_a_restart_the_hole_favours_the_edges() {
        let mut history = History::default();
        for second in 0..2_000_u64 {
            report(&mut history, second * 1_000, second * 10, second * 1_000);
        }
        let mut again = History::restored(history.stored());
        assert_eq!(again.total(), history.total());
        report(&mut again, 2_100_000, 21_000, 2_100_000);
        assert_eq!(again.total(), 21_000);
        assert!(again.total_at(WallTime(2_099_000)) <= history.total());
    }
}
