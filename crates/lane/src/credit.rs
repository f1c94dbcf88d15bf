//! What a viewer owes: bytes sent against bytes vouched for, over the lane's whole life.
//!
//! A lane outlives its connections, and may outlive the edge's process. So this is the part that the program keeps
//! between connections; it is made anew from the last voucher on disk when nothing else is left.

use millstream_wire::session::Voucher;

use crate::limits::{LOSS_SHARE, UNPAID_GRACE, UNPAID_SHARE, WINDOW_GROWTH, WINDOW_MAX, WINDOW_MIN};

/// The cumulative figures of a voucher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// Bytes to be paid.
    pub payable: u64,
    /// Bytes that arrived.
    pub received: u64,
    /// Segments with a payable piece.
    pub segments: u64,
}

impl From<&Voucher> for Claim {
    fn from(voucher: &Voucher) -> Self {
        Self { payable: voucher.payable, received: voucher.received, segments: voucher.segments }
    }
}

/// What becomes of a claim, before its signature is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It says more than the last one, and may be true.
    Higher,
    /// It says nothing new.
    Old,
    /// It takes back what was vouched for.
    Shrunk,
    /// It claims more than was sent.
    Unsent,
    /// It claims more than the grant's cap.
    OverCap,
}

/// A lane's account with its viewer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credit {
    sent: u64,
    acknowledged: Claim,
    /// Where this edge's own memory begins: nothing below it earns history or counts as unpaid.
    base: Claim,
    /// Bytes lost with connections that broke, forgiven.
    forgiven: u64,
    /// How much was sent before is not known: the next voucher says it.
    forgotten: bool,
}

impl Credit {
    /// A lane that begins.
    #[must_use]
    pub fn fresh() -> Self {
        Self::default()
    }

    /// A lane that began before this edge can remember; with its last claim, if that was kept.
    #[must_use]
    pub fn forgotten(last: Option<Claim>) -> Self {
        let base = last.unwrap_or_default();
        Self { sent: base.received, acknowledged: base, base, forgiven: 0, forgotten: true }
    }

    /// Media bytes sent over the lane's life.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// What the viewer has vouched for.
    #[must_use]
    pub const fn acknowledged(&self) -> Claim {
        self.acknowledged
    }

    /// How much may be outstanding.
    #[must_use]
    pub fn window(&self) -> u64 {
        let history = self.acknowledged.payable.saturating_sub(self.base.payable);
        (WINDOW_MIN + history / WINDOW_GROWTH).min(WINDOW_MAX)
    }

    /// Bytes sent and neither acknowledged nor forgiven.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.sent.saturating_sub(self.acknowledged.received).saturating_sub(self.forgiven)
    }

    /// The lane goes on over a new connection. What was on its way over the old one is lost; as much as its history
    /// covers is forgiven, so that a viewer that moves between networks is not starved, and one that never signs
    /// gains nothing.
    pub fn reconnect(&mut self) {
        let history = self.acknowledged.received.saturating_sub(self.base.received);
        let allowed = (history / LOSS_SHARE).saturating_sub(self.forgiven);
        self.forgiven += self.outstanding().min(allowed);
    }

    /// Whether `bytes` more may be sent within the window.
    pub(crate) fn window_allows(&self, bytes: u64) -> bool {
        self.outstanding().saturating_add(bytes) <= self.window()
    }

    /// Whether `bytes` more could all be payable within `cap`.
    pub(crate) fn cap_allows(&self, bytes: u64, cap: u64) -> bool {
        let at_most = self.acknowledged.payable.saturating_add(self.outstanding()).saturating_add(bytes);
        at_most <= cap
    }

    pub(crate) fn send(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
    }

    pub(crate) fn judge(&self, claim: Claim, cap: u64) -> Judged {
        let known = self.acknowledged;
        let lower = claim.payable < known.payable
            || claim.received < known.received
            || claim.segments < known.segments;
        let higher = claim.payable > known.payable
            || claim.received > known.received
            || claim.segments > known.segments;
        match (lower, higher) {
            (_, false) => Judged::Old,
            (true, true) => Judged::Shrunk,
            (false, true) if claim.received > self.sent && !self.forgotten => Judged::Unsent,
            (false, true) if claim.payable > cap => Judged::OverCap,
            (false, true) => Judged::Higher,
        }
    }

    /// Takes a claim that was judged [`Judged::Higher`] and is signed.
    pub(crate) fn acknowledge(&mut self, claim: Claim) {
        if self.forgotten {
            self.forgotten = false;
            if claim.received > self.sent {
                self.sent = claim.received;
            }
            self.base = claim;
        }
        self.acknowledged = claim;
    }

    /// Whether too much of what arrived was used by nobody.
    pub(crate) fn is_unpaid(&self) -> bool {
        let received = self.acknowledged.received.saturating_sub(self.base.received);
        let payable = self.acknowledged.payable.saturating_sub(self.base.payable);
        let unpaid = received.saturating_sub(payable);
        unpaid > UNPAID_GRACE && unpaid > received / UNPAID_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn claim(payable: u64, received: u64) -> Claim {
        Claim { payable, received, segments: 0 }
    }

    fn sent(bytes: u64) -> Credit {
        let mut credit = Credit::fresh();
        credit.send(bytes);
        credit
    }

    #[test]
    fn the_window_rises_with_what_was_vouched_for_and_ends_at_its_maximum() {
        let mut credit = sent(100 * MIB);
        assert_eq!(credit.window(), WINDOW_MIN);
        credit.acknowledge(claim(8 * MIB, 8 * MIB));
        assert_eq!(credit.window(), 4 * MIB);
        credit.acknowledge(claim(100 * MIB, 100 * MIB));
        assert_eq!(credit.window(), WINDOW_MAX);
    }

    #[test]
    fn a_viewer_that_never_signs_gains_nothing_by_coming_back() {
        let mut credit = sent(WINDOW_MIN);
        for _ in 0..10 {
            credit.reconnect();
            assert!(!credit.window_allows(1));
        }
    }

    #[test]
    fn what_a_broken_connection_lost_is_forgiven_up_to_a_share() {
        let mut credit = sent(34 * MIB);
        credit.acknowledge(claim(32 * MIB, 32 * MIB));
        assert_eq!(credit.outstanding(), 2 * MIB);
        credit.reconnect();
        assert_eq!(credit.outstanding(), 0);
        credit.send(2 * MIB);
        credit.reconnect();
        assert_eq!(credit.outstanding(), 2 * MIB, "the share is used up");
    }

    #[test]
    fn claims_are_judged_before_their_signature() {
        let mut credit = sent(10 * MIB);
        credit.acknowledge(claim(4 * MIB, 5 * MIB));
        let cap = 8 * MIB;
        assert_eq!(credit.judge(claim(4 * MIB, 5 * MIB), cap), Judged::Old);
        assert_eq!(credit.judge(claim(MIB, MIB), cap), Judged::Old);
        assert_eq!(credit.judge(claim(3 * MIB, 6 * MIB), cap), Judged::Shrunk);
        assert_eq!(credit.judge(claim(5 * MIB, 4 * MIB), cap), Judged::Shrunk);
        assert_eq!(credit.judge(claim(6 * MIB, 10 * MIB + 1), cap), Judged::Unsent);
        assert_eq!(credit.judge(claim(cap + 1, 9 * MIB), cap), Judged::OverCap);
        assert_eq!(credit.judge(claim(6 * MIB, 10 * MIB), cap), Judged::Higher);
    }

    #[test]
    fn the_cap_counts_what_could_still_be_claimed() {
        let mut credit = sent(10 * MIB);
        credit.acknowledge(claim(4 * MIB, 8 * MIB));
        assert!(credit.cap_allows(MIB, 7 * MIB));
        assert!(!credit.cap_allows(MIB + 1, 7 * MIB));
    }

    #[test]
    fn an_edge_that_forgot_believes_the_next_voucher_once() {
        let mut credit = Credit::forgotten(Some(claim(9 * MIB, 9 * MIB)));
        credit.send(MIB);
        let cap = u64::MAX;
        assert_eq!(credit.judge(claim(MIB, MIB), cap), Judged::Old, "the one on disk was higher");
        assert_eq!(credit.judge(claim(50 * MIB, 50 * MIB), cap), Judged::Higher);
        credit.acknowledge(claim(50 * MIB, 50 * MIB));
        assert_eq!(credit.outstanding(), 0);
        assert_eq!(credit.window(), WINDOW_MIN, "a claim about the past is no history");
        assert_eq!(credit.judge(claim(50 * MIB, 50 * MIB + 1), cap), Judged::Unsent);
        assert!(!credit.is_unpaid());
    }

    #[test]
    fn an_unpaid_share_over_five_percent_counts_after_a_mebibyte() {
        let mut credit = sent(1_000 * MIB);
        credit.acknowledge(claim(0, MIB));
        assert!(!credit.is_unpaid());
        credit.acknowledge(claim(0, MIB + 1));
        assert!(credit.is_unpaid());
        credit.acknowledge(claim(95 * MIB, 100 * MIB));
        assert!(!credit.is_unpaid());
        credit.acknowledge(claim(95 * MIB, 101 * MIB));
        assert!(credit.is_unpaid());
    }
}
