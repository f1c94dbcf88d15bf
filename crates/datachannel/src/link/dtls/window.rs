//! Which sequence numbers have been seen, so that no record is taken twice (RFC 6347 §4.1.2.6). Pure.

const WORDS: usize = 16;

/// Sequence numbers remembered below the newest. RFC 6347 asks for 64; a sender with segmentation offload emits
/// sixty datagrams at once, and several such trains may overtake each other.
pub(super) const WIDTH: u64 = 64 * (WORDS as u64 - 1);

/// A window over sequence numbers. Call [`Window::is_new`] before a record is authenticated and [`Window::mark`] after.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// One above the newest number marked.
    end: u64,
    /// A bit for each number, in the word of its number modulo the words; a word is cleared when the newest number
    /// enters it, so that one word of the ring is always partly of the future.
    seen: [u64; WORDS],
}

impl Window {
    /// Whether `number` has not been marked, and is not so old that this is forgotten.
    pub(super) fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            return true;
        }
        self.end - number <= WIDTH && self.seen[word(number)] & bit(number) == 0
    }

    /// One above the newest number marked.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Remembers `number`, which must be authentic: one forged number far ahead would close the window to all others.
    pub(super) fn mark(&mut self, number: u64) {
        if number >= self.end {
            let (newest, last) = (number / 64, self.end.saturating_sub(1) / 64);
            let first = if self.end == 0 { 0 } else { last + 1 };
            for entered in first.max(newest.saturating_sub(WORDS as u64 - 1))..=newest {
                self.seen[word(entered * 64)] = 0;
            }
            self.end = number + 1;
        }
        if self.end - number <= WIDTH {
            self.seen[word(number)] |= bit(number);
        }
    }
}

fn word(number: u64) -> usize {
    usize::try_from(number / 64 % WORDS as u64).unwrap_or_default()
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_new_once_and_not_when_it_is_old() {
        let mut window = Window::default();
        for number in [0, 5, 3, 2_000] {
            assert!(window.is_new(number), "{number}");
            window.mark(number);
            assert!(!window.is_new(number), "{number}");
        }
        assert!(!window.is_new(4), "too old to know");
        assert!(window.is_new(2_001 - WIDTH));
        assert!(!window.is_new(2_000 - WIDTH));
    }

    proptest! {
        /// A set of everything ever marked says the same.
        #[test]
        fn the_window_agrees_with_a_set(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..3_000), 1..400),
        ) {
            let (mut window, mut set, mut newest) = (Window::default(), BTreeSet::new(), 0_u64);
            for (is_ahead, offset) in steps {
                // Mostly near the newest number, on both sides.
                let number = if is_ahead { newest + offset % 200 } else { newest.saturating_sub(offset % 1_200) };
                let is_remembered = set.last().is_none_or(|last| last + 1 - number.min(*last) <= WIDTH);
                prop_assert_eq!(window.is_new(number), is_remembered && !set.contains(&number), "{}", number);
                if window.is_new(number) {
                    window.mark(number);
                    set.insert(number);
                    newest = newest.max(number);
                }
            }
        }
    }
}
