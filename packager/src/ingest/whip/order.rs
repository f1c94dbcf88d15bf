//! Puts the packets of a track in line again, and waits for those that are sent again: not for ever, and not in any number.
//!
//! What never belongs here: what is in the packets.

use std::{collections::BTreeMap, time::Duration};

use millstream_model::Instant;

/// How long others wait for one that is missing: it is asked for five times, 105 ms apart.
pub(super) const WAIT: Duration = Duration::from_millis(550);

/// Packets that wait at most, of up to 2 KiB each: more than half a second of 20 Mbit/s. With more, the wait is over.
const WAITING_MAX: usize = 1_024;

/// A packet in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InLine<T> {
    pub(super) packet: T,
    /// Packets before it never came.
    pub(super) after_loss: bool,
}

/// One track's line.
#[derive(Debug)]
pub(super) struct Order<T> {
    next: Option<u64>,
    waiting: BTreeMap<u64, T>,
    /// Since when something is missing.
    missing_since: Option<Instant>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { next: None, waiting: BTreeMap::new(), missing_since: None }
    }
}

impl<T> Order<T> {
    /// Takes a packet by its number, which never wraps. What comes twice or too late is left out.
    pub(super) fn handle(&mut self, number: u64, packet: T) {
        if number >= *self.next.get_or_insert(number) {
            self.waiting.entry(number).or_insert(packet);
        }
    }

    /// The next packet, if it is there or nobody waits any longer for those before it.
    pub(super) fn poll(&mut self, now: Instant) -> Option<InLine<T>> {
        let next = self.next?;
        let Some(first) = self.waiting.first_entry() else {
            self.missing_since = None;
            return None;
        };
        let number = *first.key();
        let after_loss = number != next;
        if after_loss {
            let since = *self.missing_since.get_or_insert(now);
            if now.since(since) < WAIT && self.waiting.len() <= WAITING_MAX {
                return None;
            }
        }
        let packet = self.waiting.pop_first()?.1;
        self.missing_since = None;
        self.next = Some(number.saturating_add(1));
        Some(InLine { packet, after_loss })
    }

    /// When to poll again, though nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.missing_since.map(|since| since + WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(order: &mut Order<u64>, now: Instant) -> Vec<(u64, bool)> {
        std::iter::from_fn(|| order.poll(now)).map(|line| (line.packet, line.after_loss)).collect()
    }

    fn taking(numbers: &[u64]) -> Order<u64> {
        let mut order = Order::default();
        for &number in numbers {
            order.handle(number, number);
        }
        order
    }

    #[test]
    fn what_overtook_waits_and_what_comes_twice_or_late_is_left_out() {
        let mut order = taking(&[10, 12, 11, 11, 9]);
        assert_eq!(all(&mut order, Instant(0)), [(10, false), (11, false), (12, false)]);
        order.handle(11, 11);
        assert_eq!(all(&mut order, Instant(0)), []);
    }

    #[test]
    fn what_never_comes_is_waited_for_so_long_and_no_longer() {
        let mut order = taking(&[1, 3]);
        let start = Instant(5_000_000);
        assert_eq!(all(&mut order, start), [(1, false)]);
        assert_eq!(order.deadline(), Some(start + WAIT));
        assert_eq!(all(&mut order, start + WAIT / 2), []);
        assert_eq!(all(&mut order, start + WAIT), [(3, true)]);
        assert_eq!(order.deadline(), None);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut order = taking(&[0]);
        assert_eq!(all(&mut order, Instant(0)), [(0, false)]);
        for number in 0..=WAITING_MAX as u64 {
            assert_eq!(order.poll(Instant(0)), None);
            order.handle(number + 2, number + 2);
        }
        assert_eq!(order.poll(Instant(0)), Some(InLine { packet: 2, after_loss: true }));
    }
}
