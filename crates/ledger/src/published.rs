//! What of a live stream exists, over time: the bound on what anybody can honestly have watched.

use std::collections::VecDeque;

use millstream_model::WallTime;
use millstream_wire::tracker::{Published, RUNS_MAX};

use crate::limits::{PUBLISHED_STEP_MS, WINDOW_MS_MAX};

/// A live stream's published bytes: the total now, and the totals of the last [`WINDOW_MS_MAX`].
///
/// Each of a stream's packagers counts from zero whenever it begins, and gives the count a name of its own: the total
/// is the sum of what was last heard of each name. So a count told late, twice or after its successor's adds what it
/// has and nothing else.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Bytes of all counters that are not in `runs` any more.
    pub offset: u64,
    /// The counters that grew last, at most [`RUNS_MAX`], the newest last.
    pub runs: Vec<Published>,
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
    pub const fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Bytes published since the stream began, over all restarts of its packager.
    #[must_use]
    pub fn total(&self) -> u64 {
        let runs = self.stored.runs.iter();
        runs.fold(self.stored.offset, |total, run| total.saturating_add(run.bytes))
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

    /// Takes a report. `true` when it must be stored at once: nobody may repeat it.
    pub(crate) fn report(&mut self, published: Published, now: WallTime) -> bool {
        let runs = &mut self.stored.runs;
        let known = runs.iter().position(|run| run.run == published.run);
        let is_newest = known.is_some_and(|known| known + 1 == runs.len());
        match known {
            // Told before, or an older report that came late.
            Some(known) if published.bytes <= runs[known].bytes => return false,
            Some(known) => drop(runs.remove(known)),
            None => {}
        }
        runs.push(published);
        if runs.len() > RUNS_MAX {
            let oldest = runs.remove(0);
            self.stored.offset = self.stored.offset.saturating_add(oldest.bytes);
        }
        self.note(now);
        !is_newest
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
    use millstream_model::SessionId;

    use super::*;

    fn count(history: &mut History, run: u8, bytes: u64, now: u64) -> bool {
        history.report(Published { run: SessionId([run; 16]), bytes }, WallTime(now))
    }

    fn report(history: &mut History, bytes: u64, now: u64) -> bool {
        count(history, 1, bytes, now)
    }

    #[test]
    fn the_total_at_a_time_is_the_last_one_reported_before_it() {
        let mut history = History::default();
        for second in 1..=10 {
            report(&mut history, second * 100, second * 1_000);
        }
        assert_eq!(history.total(), 1_000);
        assert_eq!(history.total_at(WallTime(0)), 0);
        assert_eq!(history.total_at(WallTime(4_999)), 400);
        assert_eq!(history.total_at(WallTime(5_000)), 500);
    }

    #[test]
    fn a_packager_that_starts_again_counts_on() {
        let mut history = History::default();
        assert!(count(&mut history, 1, 500, 1_000), "a new counter is stored at once");
        assert!(!count(&mut history, 1, 600, 1_500));
        // More than the one before had when the tracker first hears of it, and less: neither says anything.
        assert!(count(&mut history, 2, 700, 2_000));
        assert!(count(&mut history, 3, 20, 3_000));
        assert!(!count(&mut history, 3, 60, 4_000));
        assert_eq!(history.total(), 600 + 700 + 60);
    }

    #[test]
    fn a_count_told_late_or_twice_adds_what_it_has_and_nothing_else() {
        let mut history = History::default();
        report(&mut history, 500, 1_000);
        assert!(!report(&mut history, 300, 1_100), "it is older than what is known");
        assert!(!report(&mut history, 500, 1_200));
        count(&mut history, 2, 100, 2_000);
        assert!(count(&mut history, 1, 520, 3_000), "nobody repeats the end of a counter that is over");
        assert!(!count(&mut history, 1, 520, 4_000));
        assert!(!count(&mut history, 2, 100, 5_000));
        assert_eq!(history.total(), 620);
    }

    #[test]
    fn counters_are_bounded_and_none_is_forgotten() {
        let mut history = History::default();
        for run in 0..200 {
            count(&mut history, run, 1_000, u64::from(run) * 1_000);
            assert!(history.stored().runs.len() <= RUNS_MAX);
        }
        assert_eq!(history.total(), 200_000);
    }

    #[test]
    fn the_history_is_bounded_and_knows_its_whole_window() {
        let mut history = History::default();
        for tick in 0..100_000_u64 {
            report(&mut history, tick, tick * 100);
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
            report(&mut history, second * 10, second * 1_000);
        }
        let silent = 5_000_000;
        report(&mut history, 1_000, silent);
        assert_eq!(history.base(WallTime(silent), 60_000), 400);
        assert_eq!(history.base(WallTime(90_000), 60_000), 300);
    }

    #[test]
    fn after_a_restart_the_hole_favours_the_edges() {
        let mut history = History::default();
        for second in 0..2_000_u64 {
            report(&mut history, second * 10, second * 1_000);
        }
        let mut again = History::restored(history.stored().clone());
        assert_eq!(again.total(), history.total());
        report(&mut again, 21_000, 2_100_000);
        assert_eq!(again.total(), 21_000);
        assert!(again.total_at(WallTime(2_099_000)) <= history.total());
    }
}
