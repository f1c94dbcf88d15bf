//! How many bytes may be sent to an address that nobody has proved to receive at: QUIC's rule (RFC 9000 §8.1), so that
//! whoever writes another's address into its datagrams gains nothing. Pure.

/// Bytes sent for each byte received, at most.
const FACTOR: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Budget {
    /// Bytes that may still be sent.
    left: usize,
    is_proven: bool,
}

impl Budget {
    /// For an address that we have chosen ourselves.
    pub(super) const fn unbounded() -> Self {
        Self { left: 0, is_proven: true }
    }

    /// Whether an answer of `sent` bytes is allowed for `received` bytes.
    pub(super) const fn allows(received: usize, sent: usize) -> bool {
        sent <= received.saturating_mul(FACTOR)
    }

    pub(super) const fn received(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes.saturating_mul(FACTOR));
    }

    /// Says whether `bytes` may be sent now, and takes that they are.
    pub(super) const fn take(&mut self, bytes: usize) -> bool {
        if self.is_proven {
            return true;
        }
        let is_allowed = bytes <= self.left;
        if is_allowed {
            self.left -= bytes;
        }
        is_allowed
    }

    /// The peer receives what is sent to it.
    pub(super) const fn prove(&mut self) {
        self.is_proven = true;
    }

    pub(super) const fn is_proven(&self) -> bool {
        self.is_proven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_what_came_may_leave_until_the_address_is_proved() {
        let mut budget = Budget::default();
        assert!(!budget.take(1));
        budget.received(10);
        assert!(budget.take(20) && !budget.take(11) && budget.take(10) && !budget.take(1));
        budget.received(1);
        assert!(budget.take(3));
        assert!(!budget.is_proven());
        budget.prove();
        assert!(budget.is_proven() && budget.take(usize::MAX) && budget.take(usize::MAX));
        assert!(Budget::unbounded().take(1));
        assert!(Budget::allows(10, 30) && !Budget::allows(10, 31));
    }
}
