//! Which TSNs have come, and when the peer is to be told (RFC 9260 §6.2).

use std::{collections::VecDeque, time::Duration};

use millstream_model::Instant;

/// Runs beyond a gap that are remembered. What would make one more is as if lost. A SACK has room for some 280 of them
/// and names the lowest; the others are named when those have been joined.
const RUNS_MAX: usize = 1_024;

/// TSNs beyond the cumulative one that are taken: what a SACK can name (16 bits, RFC 9260 §3.3.4), halved.
const SPAN_MAX: u64 = 32_768;

/// Duplicates that one SACK names. They only tell the sender that it was too quick.
const DUPLICATES_MAX: usize = 16;

/// Packets with data that one acknowledgement stands for (RFC 9260 §6.2).
const PACKETS_PER_SACK: u32 = 2;

/// Longest wait of an acknowledgement for a second packet. RFC 9260 §6.2 allows 500 ms and suggests 200; the sender of
/// a lone packet waits for this before it can measure or let go of anything.
const DELAY: Duration = Duration::from_millis(25);

/// What a TSN is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate,
    /// Too far ahead, or one gap too many: as if it had been lost.
    Refused,
}

/// The record of arrivals.
#[derive(Debug)]
pub(crate) struct Arrived {
    cumulative: u64,
    /// From first to last, sorted, apart, all beyond `cumulative + 1`.
    runs: VecDeque<(u64, u64)>,
    duplicates: Vec<u32>,
    packets: u32,
    is_due: bool,
    due_at: Option<Instant>,
}

impl Arrived {
    /// The peer's first TSN will be `first`.
    pub(crate) const fn new(first: u64) -> Self {
        Self {
            cumulative: first - 1,
            runs: VecDeque::new(),
            duplicates: Vec::new(),
            packets: 0,
            is_due: false,
            due_at: None,
        }
    }

    pub(crate) const fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// What `tsn` would be.
    pub(crate) fn judge(&self, tsn: u64) -> Verdict {
        if tsn <= self.cumulative {
            return Verdict::Duplicate;
        }
        if tsn == self.cumulative + 1 {
            return Verdict::New;
        }
        if tsn - self.cumulative > SPAN_MAX {
            return Verdict::Refused;
        }
        if self.runs.back().is_none_or(|run| run.1 + 1 < tsn) {
            return if self.runs.len() < RUNS_MAX { Verdict::New } else { Verdict::Refused };
        }
        let after = self.runs.partition_point(|run| run.1 < tsn);
        let is_inside = self.runs.get(after).is_some_and(|run| run.0 <= tsn);
        let touches =
            after.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|run| run.1 + 1 == tsn)
                || self.runs.get(after).is_some_and(|run| run.0 == tsn + 1);
        match (is_inside, touches || self.runs.len() < RUNS_MAX) {
            (true, _) => Verdict::Duplicate,
            (false, true) => Verdict::New,
            (false, false) => Verdict::Refused,
        }
    }

    /// Notes a TSN that [`Arrived::judge`] called new.
    pub(crate) fn insert(&mut self, tsn: u64) {
        if tsn == self.cumulative + 1 {
            self.cumulative = tsn;
            if let Some(run) = self.runs.front().copied().filter(|run| run.0 == tsn + 1) {
                self.cumulative = run.1;
                self.runs.pop_front();
            }
            return;
        }
        let after = self.runs.partition_point(|run| run.1 < tsn);
        let joins_before = after.checked_sub(1).filter(|at| self.runs[*at].1 + 1 == tsn);
        let joins_after = self.runs.get(after).is_some_and(|run| run.0 == tsn + 1);
        match (joins_before, joins_after) {
            (Some(before), true) => {
                self.runs[before].1 = self.runs[after].1;
                self.runs.remove(after);
            }
            (Some(before), false) => self.runs[before].1 = tsn,
            (None, true) => self.runs[after].0 = tsn,
            (None, false) => self.runs.insert(after, (tsn, tsn)),
        }
    }

    /// A TSN came that we had.
    pub(crate) fn repeat(&mut self, tsn: u32) {
        if self.duplicates.len() < DUPLICATES_MAX {
            self.duplicates.push(tsn);
        }
        self.is_due = true;
    }

    /// The sender gives up everything up to `tsn` (RFC 3758 §3.6).
    pub(crate) fn skip_to(&mut self, tsn: u64) {
        if tsn <= self.cumulative {
            return;
        }
        self.cumulative = tsn;
        while let Some(run) = self.runs.front().copied().filter(|run| run.0 <= self.cumulative + 1) {
            self.cumulative = self.cumulative.max(run.1);
            self.runs.pop_front();
        }
        self.is_due = true;
    }

    pub(crate) fn has_gaps(&self) -> bool {
        !self.runs.is_empty()
    }

    /// A packet with data is through; `is_urgent` when something of it asks for an answer at once.
    pub(crate) fn packet(&mut self, is_urgent: bool, now: Instant) {
        self.packets += 1;
        self.is_due |= is_urgent || self.packets >= PACKETS_PER_SACK || self.has_gaps();
        if !self.is_due {
            self.due_at.get_or_insert(now + DELAY);
        }
    }

    /// Has the peer told as soon as possible.
    pub(crate) const fn hurry(&mut self) {
        self.is_due = true;
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.is_due || self.due_at.is_some_and(|at| at <= now)
    }

    /// Something came that no acknowledgement has told.
    pub(crate) const fn is_pending(&self) -> bool {
        self.is_due || self.due_at.is_some()
    }

    pub(crate) const fn next_timeout(&self) -> Option<Instant> {
        self.due_at
    }

    /// The gap blocks of a SACK, relative to the cumulative TSN.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let offset = |tsn: u64| u16::try_from(tsn - self.cumulative).unwrap_or(u16::MAX);
        self.runs.iter().map(move |run| (offset(run.0), offset(run.1)))
    }

    pub(crate) fn duplicates(&self) -> &[u32] {
        &self.duplicates
    }

    /// A SACK has told everything.
    pub(crate) fn told(&mut self) {
        self.duplicates.clear();
        self.packets = 0;
        self.is_due = false;
        self.due_at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_says_what_a_set_would(offsets in proptest::collection::vec(1_u64..400, 1..600)) {
            let first = (1 << 32) + 5;
            let (mut arrived, mut model) = (Arrived::new(first), BTreeSet::new());
            for offset in offsets {
                let tsn = first + offset - 1;
                match arrived.judge(tsn) {
                    Verdict::New => {
                        prop_assert!(model.insert(tsn));
                        arrived.insert(tsn);
                    }
                    Verdict::Duplicate => prop_assert!(model.contains(&tsn)),
                    Verdict::Refused => prop_assert!(arrived.runs.len() == RUNS_MAX),
                }
                let cumulative = (first..).find(|tsn| !model.contains(tsn)).unwrap() - 1;
                prop_assert_eq!(arrived.cumulative(), cumulative);
                let told: BTreeSet<u64> = arrived
                    .gaps()
                    .flat_map(|(start, end)| cumulative + u64::from(start)..=cumulative + u64::from(end))
                    .collect();
                prop_assert!(told.iter().eq(model.range(cumulative + 1..)));
                let blocks: Vec<_> = arrived.gaps().collect();
                prop_assert!(blocks.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", blocks);
            }
        }
    }

    #[test]
    fn gaps_are_bounded() {
        let mut arrived = Arrived::new(1);
        for tsn in (3..10_000).step_by(2) {
            if arrived.judge(tsn) == Verdict::New {
                arrived.insert(tsn);
            }
        }
        assert_eq!(arrived.gaps().count(), RUNS_MAX);
        assert_eq!(arrived.judge(SPAN_MAX + 2), Verdict::Refused);
        assert_eq!(arrived.judge(1), Verdict::New, "what fills the gap is always taken");
    }

    #[test]
    fn a_second_packet_is_acknowledged_at_once_and_a_lone_one_soon() {
        let mut arrived = Arrived::new(1);
        let now = Instant::from_millis(1_000);
        arrived.insert(1);
        arrived.packet(false, now);
        assert!(!arrived.is_due(now) && arrived.is_due(now + DELAY));
        arrived.insert(2);
        arrived.packet(false, now);
        assert!(arrived.is_due(now));
        arrived.told();
        assert!(!arrived.is_pending());
        arrived.insert(4);
        arrived.packet(false, now);
        assert!(arrived.is_due(now), "a gap");
    }

    #[test]
    fn what_is_given_up_is_passed_over() {
        let mut arrived = Arrived::new(1);
        for tsn in [3, 4, 6] {
            arrived.insert(tsn);
        }
        arrived.skip_to(2);
        assert_eq!((arrived.cumulative(), arrived.gaps().collect::<Vec<_>>()), (4, vec![(2, 2)]));
        arrived.skip_to(5);
        assert_eq!((arrived.cumulative(), arrived.has_gaps()), (6, false));
    }
}
