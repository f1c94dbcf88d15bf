//! What acknowledgements tell of chunks in flight (RFC 9260 §6.2.1, §3.3.4): which have arrived, and with that how long
//! a round trip took and what the path delivered meanwhile.

use std::time::Duration;

use millstream_model::Instant;

use super::{BLOCKS_TRUSTED, Flight, Progress, Snapshot, State};
use crate::{congestion::Rate, send::queue::Key};

impl Flight {
    /// Takes an acknowledgement: everything up to `cumulative`, and beyond it the gap blocks as they came (RFC 9260
    /// §3.3.4), sorted and apart. `release` hears what leaves the ring, and whether the peer has it: else it was given up.
    pub(crate) fn acknowledge(
        &mut self,
        cumulative: u64,
        gaps: &[u8],
        lowest: Duration,
        now: Instant,
        release: &mut dyn FnMut(Key, usize, bool),
    ) -> Progress {
        let mut progress = Progress::default();
        let mut newest: Option<(u64, Snapshot, Instant)> = None;
        let delivered_before = self.delivered;
        if cumulative >= self.first {
            progress.is_cumulative = true;
            while self.first <= cumulative {
                if self.ring.is_empty() {
                    break;
                }
                self.arrive(self.first, lowest, now, &mut progress, &mut newest);
                if let Some(chunk) = self.ring.pop_front() {
                    self.first += 1;
                    release(chunk.cut.key, chunk.cut.length as usize, chunk.state == State::Held);
                }
            }
            self.held.retain_mut(|(start, end)| {
                *start = (*start).max(cumulative + 1);
                *start <= *end
            });
            self.seen.clear();
        }
        if gaps != self.seen.as_slice() {
            self.take_gaps(cumulative, gaps, lowest, now, &mut progress, &mut newest);
            self.seen.clear();
            self.seen.extend_from_slice(gaps);
        }
        let is_trusted = gaps.len() < 4 * BLOCKS_TRUSTED;
        self.named_until =
            if is_trusted { u64::MAX } else { self.held.last().map_or(cumulative, |run| run.1) };
        progress.bytes = self.delivered - delivered_before;
        if progress.bytes > 0 {
            self.delivered_at = now;
        }
        if let Some((_, snapshot, sent)) = newest {
            progress.rate = self.rate(&snapshot, sent, now);
        }
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        if self.ring.is_empty() {
            self.rest();
        }
        progress
    }

    /// Marks what the gap blocks tell and `held` does not know yet: a walk over both, not over the chunks in them.
    fn take_gaps(
        &mut self,
        cumulative: u64,
        gaps: &[u8],
        lowest: Duration,
        now: Instant,
        progress: &mut Progress,
        newest: &mut Option<(u64, Snapshot, Instant)>,
    ) {
        let known = std::mem::take(&mut self.held);
        let mut merged = std::mem::take(&mut self.scratch);
        merged.clear();
        let mut before = known.iter().copied().peekable();
        let last = self.next().saturating_sub(1);
        for block in gaps.chunks_exact(4) {
            let [a, b, c, d] = block.try_into().unwrap_or([0; 4]);
            let start = (cumulative + u64::from(u16::from_be_bytes([a, b]))).max(self.first);
            let end = (cumulative + u64::from(u16::from_be_bytes([c, d]))).min(last);
            if start > end {
                continue;
            }
            while let Some(run) = before.next_if(|run| run.1 < start) {
                join(&mut merged, run);
            }
            let mut at = start;
            while let Some(run) = before.peek().copied().filter(|run| run.0 <= end) {
                for tsn in at..run.0.min(end + 1) {
                    self.arrive(tsn, lowest, now, progress, newest);
                }
                at = at.max(run.1 + 1);
                if run.1 > end {
                    break;
                }
                join(&mut merged, run);
                before.next();
            }
            for tsn in at..=end {
                self.arrive(tsn, lowest, now, progress, newest);
            }
            join(&mut merged, (start, end));
        }
        before.for_each(|run| join(&mut merged, run));
        self.scratch = known;
        self.held = merged;
        self.beyond = u32::try_from(self.held.iter().map(|(start, end)| end - start + 1).sum::<u64>())
            .unwrap_or(u32::MAX);
    }

    /// A chunk is with the peer.
    fn arrive(
        &mut self,
        tsn: u64,
        lowest: Duration,
        now: Instant,
        progress: &mut Progress,
        newest: &mut Option<(u64, Snapshot, Instant)>,
    ) {
        let Some(chunk) = self.chunk(tsn).copied() else { return };
        match chunk.state {
            // What was given up stays so, whatever the peer says to have: it may never have left, and must not leave when
            // the peer takes its word back.
            State::Held | State::Abandoned => return,
            State::Flying => self.land(&chunk),
            State::Lost => {}
        }
        self.set(tsn, State::Held);
        self.delivered += u64::from(chunk.cut.length) + self.header;
        let elapsed = now.since(chunk.sent);
        if chunk.state == State::Lost {
            // It was on its way all the time. Its round trip is not told from what is in the ring.
            progress.is_spurious = true;
        }
        let is_once = chunk.transmissions == 1;
        // Sent again a moment ago, acknowledged sooner than the path can: that was the first copy (RFC 8985 §6.2, 2).
        if !is_once && elapsed < lowest {
            progress.is_spurious = true;
            return;
        }
        if is_once {
            if tsn < self.highest_acknowledged {
                self.is_reordering = true;
            }
            self.highest_acknowledged = self.highest_acknowledged.max(tsn);
        }
        if chunk.state == State::Flying {
            if self.newest.is_none_or(|known| (chunk.sent, tsn) > known) {
                self.newest = Some((chunk.sent, tsn));
                self.newest_round_trip = elapsed;
            }
            if newest.as_ref().is_none_or(|(known, _, sent)| (*sent, *known) < (chunk.sent, tsn)) {
                *newest = Some((tsn, chunk.at_sending, chunk.sent));
                if is_once {
                    progress.round_trip = Some(elapsed);
                }
            }
        }
    }

    fn rate(&mut self, snapshot: &Snapshot, sent: Instant, now: Instant) -> Option<Rate> {
        let sending = sent.since(snapshot.first_sent);
        let acknowledging = now.since(snapshot.delivered_at);
        self.first_sent = sent;
        let interval = sending.max(acknowledging);
        (!interval.is_zero()).then(|| Rate {
            delivered: self.delivered - snapshot.delivered,
            interval,
            delivered_before: snapshot.delivered,
            lost: self.lost_bytes - snapshot.lost,
            in_flight: snapshot.in_flight,
            is_app_limited: snapshot.is_app_limited,
        })
    }
}

/// Appends a run to sorted ones, joined with the last where they touch.
fn join(runs: &mut Vec<(u64, u64)>, run: (u64, u64)) {
    match runs.last_mut() {
        Some((_, end)) if run.0 <= *end + 1 => *end = (*end).max(run.1),
        _ => runs.push(run),
    }
}
