//! How often a publisher changes what it sends: each change is a catalog that everybody has to be told of.

use std::{collections::VecDeque, time::Duration};

use millstream_model::Instant;
use millstream_wire::chain::CATALOGS_MAX;

/// Changes within [`CHANGES_WITHIN`] at most. Below what receivers remember ([`CATALOGS_MAX`]), so that the catalogs
/// that correct a rate find a place, too.
pub(super) const CHANGES_MAX: usize = CATALOGS_MAX - 2;

/// The usual window's span.
pub(super) const CHANGES_WITHIN: Duration = Duration::from_secs(60);

/// The changes of the last [`CHANGES_WITHIN`].
#[derive(Debug, Default)]
pub(super) struct Changes {
    times: VecDeque<Instant>,
    too_many: bool,
}

impl Changes {
    pub(super) fn note(&mut self, now: Instant) {
        while self.times.front().is_some_and(|first| now.since(*first) >= CHANGES_WITHIN) {
            self.times.pop_front();
        }
        self.too_many = self.times.len() >= CHANGES_MAX;
        if !self.too_many {
            self.times.push_back(now);
        }
    }

    /// Since the last question. Whoever comes back without a change is welcome.
    pub(super) fn are_too_many(&mut self) -> bool {
        std::mem::take(&mut self.too_many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_changes_are_fine_and_no_more_than_that() {
        let mut changes = Changes::default();
        let mut refused = 0;
        for second in 0..600 {
            changes.note(Instant(0) + Duration::from_secs(second));
            refused += u32::from(changes.are_too_many());
            assert!(changes.times.len() <= CHANGES_MAX);
        }
        assert_eq!(refused, 600 - 10 * u32::try_from(CHANGES_MAX).unwrap());
        // As an encoder does whose owner changes a setting now and then.
        for minute in 11..60 {
            changes.note(Instant(0) + Duration::from_secs(minute * 60));
            assert!(!changes.are_too_many());
        }
    }
}
