//! One timer for each link, in a wheel: setting one, moving one and taking one back cost the same however many there
//! are. Pure: time is an argument.
//!
//! A spoke is a millisecond, which is as fine as the system's timers are. What is due beyond the rim is put on it, and
//! looked at once more then.

use std::time::{Duration, Instant};

/// Milliseconds around the wheel: more than the consent timeout, which every link waits for, so that next to nothing
/// goes round twice.
const SPOKES: usize = 16_384;

const NONE: u32 = u32::MAX;

/// Timers by the index of their link.
pub(super) struct Wheel {
    origin: Instant,
    /// The first millisecond that has not been looked through.
    cursor: u64,
    /// First timer of each spoke.
    heads: Vec<u32>,
    /// Which spokes have any, a bit each.
    taken: Vec<u64>,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    before: u32,
    after: u32,
    /// The spoke it is on.
    spoke: u32,
}

const FREE: Node = Node { before: NONE, after: NONE, spoke: NONE };

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            cursor: 0,
            heads: vec![NONE; SPOKES],
            taken: vec![0; SPOKES / 64],
            nodes: Vec::new(),
        }
    }

    /// Sets the timer of `index`, or moves it.
    pub(super) fn set(&mut self, index: u32, at: Instant) {
        let spoke = self.spoke_of(at);
        let place = index as usize;
        if self.nodes.len() <= place {
            self.nodes.resize(place + 1, FREE);
        }
        if self.nodes[place].spoke == spoke {
            return;
        }
        self.unset(index);
        let head = std::mem::replace(&mut self.heads[spoke as usize], index);
        self.taken[spoke as usize / 64] |= 1 << (spoke % 64);
        if let Some(second) = self.nodes.get_mut(head as usize) {
            second.before = index;
        }
        self.nodes[place] = Node { before: NONE, after: head, spoke };
    }

    /// Takes the timer of `index` back, if it is set.
    pub(super) fn unset(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize).filter(|node| node.spoke != NONE) else { return };
        let Node { before, after, spoke } = std::mem::replace(node, FREE);
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.after = after,
            None => self.heads[spoke as usize] = after,
        }
        if let Some(node) = self.nodes.get_mut(after as usize) {
            node.before = before;
        }
        if self.heads[spoke as usize] == NONE {
            self.taken[spoke as usize / 64] &= !(1 << (spoke % 64));
        }
    }

    /// A link whose timer has run down; it is unset.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        let last = millis(now.saturating_duration_since(self.origin));
        while self.cursor <= last {
            let Some(ahead) = self.ahead() else {
                self.cursor = last + 1;
                return None;
            };
            if self.cursor + ahead > last {
                self.cursor = last + 1;
                return None;
            }
            self.cursor += ahead;
            let index = self.heads[spoke(self.cursor) as usize];
            if index != NONE {
                self.unset(index);
                return Some(index);
            }
        }
        None
    }

    /// When the next timer runs down.
    pub(super) fn next(&self) -> Option<Instant> {
        let ahead = self.ahead()?;
        Some(self.origin + Duration::from_millis(self.cursor + ahead))
    }

    /// Milliseconds from the cursor to the next spoke with a timer.
    fn ahead(&self) -> Option<u64> {
        let start = spoke(self.cursor);
        let (word, bit) = (start as usize / 64, start % 64);
        let words = self.taken.len();
        // The first word is looked at twice: behind the cursor at first, before it at last.
        for step in 0..=words {
            let at = (word + step) % words;
            let mask = match step {
                0 => u64::MAX << bit,
                _ if step == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let found = self.taken[at] & mask;
            if found != 0 {
                let spoke = u64::try_from(at * 64).unwrap_or(0) + u64::from(found.trailing_zeros());
                return Some((spoke + SPOKES as u64 - u64::from(start)) % SPOKES as u64);
            }
        }
        None
    }

    /// Never before the cursor, never beyond the rim.
    fn spoke_of(&self, at: Instant) -> u32 {
        let due = at.saturating_duration_since(self.origin).as_micros().div_ceil(1_000);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        spoke(due.clamp(self.cursor, self.cursor + SPOKES as u64 - 1))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn spoke(millis: u64) -> u32 {
    u32::try_from(millis % SPOKES as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn timers_run_down_in_time_and_not_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.set(3, start + 5 * MS);
        wheel.set(1, start + 5 * MS);
        wheel.set(2, start + 9 * MS + MS / 2);
        assert_eq!(wheel.next(), Some(start + 5 * MS));
        assert_eq!(wheel.pop(start + 4 * MS), None);
        let mut due = [wheel.pop(start + 5 * MS).unwrap(), wheel.pop(start + 5 * MS).unwrap()];
        due.sort_unstable();
        assert_eq!((due, wheel.pop(start + 9 * MS)), ([1, 3], None));
        assert_eq!(wheel.next(), Some(start + 10 * MS), "rounded up");
        assert_eq!(wheel.pop(start + 10 * MS), Some(2));
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_is_beyond_the_rim_is_looked_at_there() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.set(0, start + Duration::from_secs(3_600));
        let rim = wheel.next().unwrap();
        assert!(rim > start + Duration::from_secs(16) && rim < start + Duration::from_secs(17));
        assert_eq!(wheel.pop(rim), Some(0));
    }

    proptest! {
        #[test]
        fn it_does_what_a_sorted_map_would(
            steps in proptest::collection::vec((0_u32..20, 0_u64..30_000, 0_u64..40), 1..400)
        ) {
            let start = Instant::now();
            let (mut wheel, mut model) = (Wheel::new(start), BTreeMap::new());
            let mut now = 0;
            for (index, after, pass) in steps {
                let at = now + after.min(16_000);
                wheel.set(index, start + Duration::from_millis(at));
                model.insert(index, at);
                if after % 7 == 0 {
                    wheel.unset(index);
                    model.remove(&index);
                }
                now += pass * pass;
                let mut popped: Vec<u32> = std::iter::from_fn(|| wheel.pop(start + Duration::from_millis(now))).collect();
                popped.sort_unstable();
                let due: Vec<u32> = model.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
                prop_assert_eq!(&popped, &due);
                model.retain(|_, at| *at > now);
                let next = model.values().min().map(|at| start + Duration::from_millis(*at));
                prop_assert_eq!(wheel.next(), next);
            }
        }
    }
}
