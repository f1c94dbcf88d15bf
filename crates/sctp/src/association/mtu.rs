//! How long packets may be (RFC 8899): starts with what every path carries and probes for more, by HEARTBEATs padded to
//! the length in question (RFC 4820). Pure.
//!
//! A packet that is too long is dropped without a word on many paths, so only an answer counts. Probes carry no data:
//! losing one costs nothing.

use std::time::Duration;

use millstream_model::Instant;

/// Tries of one length before it counts as too long (MAX_PROBES, RFC 8899 §5.1.2).
const TRIES: u32 = 3;

/// The search ends when what is left to gain is less.
const STEP_BYTES: usize = 32;

/// Bytes acknowledged before probing begins: who says little gains nothing by longer packets.
const BYTES_BEFORE: u64 = 64 * 1024;

/// A search that has ended begins anew after so long (PMTU_RAISE_TIMER, RFC 8899 §5.1.1).
const RAISE: Duration = Duration::from_secs(600);

/// So many times in a row a short HEARTBEAT was answered, and the long packets that left with it were not: the path does
/// not carry them any more.
const BLACK_HOLE: u32 = 3;

/// What our HEARTBEATs begin with; behind it the length they probe.
const MAGIC: [u8; 4] = *b"mtu?";

/// The search for one path.
#[derive(Debug)]
pub(super) struct Search {
    base: usize,
    wanted: usize,
    /// The longest that has passed.
    current: usize,
    /// The longest that may still pass.
    longest: usize,
    /// What is wanted has been tried: halves come next.
    is_narrowing: bool,
    /// The length in question, and how often it was tried.
    probe: Option<(usize, u32)>,
    /// When the probe counts as lost, or a search that has ended begins anew.
    due: Option<Instant>,
    acknowledged: u64,
    is_stopped: bool,
    /// A HEARTBEAT left with long packets after a timeout; it was answered.
    is_asked: bool,
    is_answered: bool,
    strikes: u32,
}

impl Search {
    /// Lengths of SCTP packets, rounded down to whole words.
    pub(super) const fn new(base: usize, wanted: usize) -> Self {
        let (base, wanted) = (base & !3, wanted & !3);
        Self {
            base,
            wanted,
            current: base,
            longest: wanted,
            is_narrowing: false,
            probe: None,
            due: None,
            acknowledged: 0,
            is_asked: false,
            is_answered: false,
            strikes: 0,
            is_stopped: wanted <= base,
        }
    }

    /// Bytes of the longest packet that may leave.
    pub(super) const fn current(&self) -> usize {
        self.current
    }

    pub(super) const fn next_timeout(&self) -> Option<Instant> {
        if self.is_stopped { None } else { self.due }
    }

    pub(super) const fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// The peer has acknowledged so many bytes more.
    pub(super) const fn progressed(&mut self, bytes: u64) {
        self.acknowledged = self.acknowledged.saturating_add(bytes);
    }

    /// The length of a probe that is to leave now. It counts as lost after `timeout`.
    pub(super) fn poll_probe(&mut self, now: Instant, timeout: Duration) -> Option<usize> {
        if self.is_stopped || self.acknowledged < BYTES_BEFORE || self.due.is_some() {
            return None;
        }
        let (bytes, tries) = self.probe.unwrap_or_else(|| (self.choose(), 0));
        self.probe = Some((bytes, tries + 1));
        self.due = Some(now + timeout);
        Some(bytes)
    }

    /// A probe was not answered in time, or it is time to begin anew.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.due = None;
        match self.probe {
            Some((bytes, tries)) if tries >= TRIES => {
                self.longest = bytes.saturating_sub(4);
                self.is_narrowing = true;
                self.probe = None;
                self.rest_if_done(now);
            }
            Some(_) => {}
            None => (self.longest, self.is_narrowing) = (self.wanted, false),
        }
    }

    /// A HEARTBEAT ACK came with this content. Says whether it was for the probe.
    pub(super) fn answered(&mut self, content: &[u8], now: Instant) -> bool {
        let Some((bytes, _)) = self.probe.filter(|(bytes, _)| *content == self.content(*bytes)) else {
            return false;
        };
        self.current = bytes;
        self.probe = None;
        self.due = None;
        self.rest_if_done(now);
        true
    }

    /// Packets are longer than what every path carries.
    pub(super) const fn is_raised(&self) -> bool {
        self.current > self.base
    }

    /// Nothing came for a whole timeout; a HEARTBEAT leaves now with what is sent again.
    pub(super) fn timed_out(&mut self) {
        let is_strike = self.is_asked && self.is_answered;
        self.strikes = if is_strike { self.strikes + 1 } else { 0 };
        (self.is_asked, self.is_answered) = (true, false);
    }

    /// Data has passed, long packets among it.
    pub(super) const fn passed(&mut self) {
        (self.is_asked, self.is_answered, self.strikes) = (false, false, 0);
    }

    /// The short HEARTBEAT was answered. Says whether that, with what went before, can only mean a narrower path.
    pub(super) const fn is_black_hole(&mut self) -> bool {
        self.is_answered = self.is_asked;
        self.is_answered && self.strikes + 1 >= BLACK_HOLE && self.is_raised()
    }

    /// What a HEARTBEAT carries that probes this length; 0 probes nothing.
    pub(super) fn content(&self, bytes: usize) -> [u8; 8] {
        let [a, b, c, d] = MAGIC;
        let [e, f, g, h] = u32::try_from(bytes).unwrap_or(0).to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// What is wanted first, because most paths carry it; then halves.
    const fn choose(&self) -> usize {
        if self.is_narrowing {
            usize::midpoint(self.current, self.longest).next_multiple_of(4)
        } else {
            self.longest
        }
    }

    fn rest_if_done(&mut self, now: Instant) {
        if self.current == self.wanted {
            self.stop();
        } else if self.longest < self.current + STEP_BYTES {
            self.due = Some(now + RAISE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// Searches on a path that carries packets of `path` bytes; gives what is found and how many probes it took.
    fn search(path: usize) -> (usize, usize) {
        let mut search = Search::new(1_160, 1_434);
        search.progressed(BYTES_BEFORE);
        let (mut now, mut probes) = (Instant(0), 0);
        while now < Instant::from_millis(100_000) {
            if let Some(bytes) = search.poll_probe(now, TIMEOUT) {
                probes += 1;
                if bytes <= path {
                    assert!(search.answered(&search.content(bytes), now));
                    continue;
                }
            }
            let Some(at) = search.next_timeout() else { break };
            now = at;
            search.handle_timeout(now);
        }
        (search.current(), probes)
    }

    #[test]
    fn a_path_that_carries_what_is_wanted_takes_one_probe() {
        assert_eq!(search(1_500), (1_432, 1));
    }

    #[test]
    fn others_are_found_by_halving() {
        for path in (1_160..1_432).step_by(4) {
            let (found, probes) = search(path);
            assert!(found <= path && found + STEP_BYTES >= path, "{found} on a path of {path}");
            assert!(probes <= 6 * 3, "{probes} probes");
        }
    }

    #[test]
    fn a_forged_answer_changes_nothing() {
        let mut search = Search::new(1_160, 1_434);
        assert_eq!(search.poll_probe(Instant(0), TIMEOUT), None, "nothing was sent yet");
        search.progressed(BYTES_BEFORE);
        assert_eq!(search.poll_probe(Instant(0), TIMEOUT), Some(1_432));
        assert!(!search.answered(b"mtu?", Instant(0)));
        assert!(!search.answered(&search.content(60_000), Instant(0)));
        assert_eq!(search.current(), 1_160);
    }
}
