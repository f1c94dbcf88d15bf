//! Payload that comes: what is taken, what is refused, and the window that the peer is told (RFC 9260 §6.2).

use super::{Association, Reply, State};
use crate::{
    receive::{arrived::Verdict, assembly::Assembly},
    wire::{COMMON_HEADER_BYTES, Data, ForwardTsn, Sequence, Writer, serial},
};

/// What the DATA chunks of one packet were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) any: bool,
    /// The peer is to be told at once.
    pub(super) is_urgent: bool,
}

impl Association {
    /// Says whether to go on with the packet.
    pub(super) fn take_data(&mut self, data: &Data<'_>, seen: &mut Seen) -> bool {
        let is_receiving = matches!(
            self.state,
            State::CookieEchoed | State::Open | State::ShutdownPending | State::ShutdownSent
        );
        if !is_receiving || self.peer.is_none() {
            return false;
        }
        if matches!(data.sequence, Sequence::Mid { .. }) != self.interleaves() {
            self.violated("DATA where I-DATA was agreed on, or the other way round");
            return false;
        }
        if data.stream >= self.config.streams {
            self.violated("a stream beyond the negotiated number");
            return false;
        }
        seen.any = true;
        // After SHUTDOWN everything is answered at once (RFC 9260 §9.2).
        seen.is_urgent |= data.is_immediate || self.state == State::ShutdownSent;
        if self.state == State::ShutdownSent {
            self.timers.attempts = 1;
            if !self.replies.iter().any(|reply| matches!(reply, Reply::Shutdown)) {
                self.reply(Reply::Shutdown);
            }
        }
        let tsn = serial::unwrap(self.arrived.cumulative(), data.tsn);
        match self.arrived.judge(tsn) {
            Verdict::Refused => seen.is_urgent = true,
            Verdict::Duplicate => {
                self.stats.duplicates += 1;
                self.arrived.repeat(data.tsn);
            }
            Verdict::New if !self.has_room(tsn, data.payload) => seen.is_urgent = true,
            Verdict::New => {
                let had_gaps = self.arrived.has_gaps();
                self.arrived.insert(tsn);
                self.stats.bytes_received += data.payload.len() as u64;
                // One that fills a gap lets the sender go on.
                seen.is_urgent |= had_gaps;
                if let Err(violation) = self.assembly.insert(tsn, data) {
                    self.violated(violation.0);
                    return false;
                }
                self.settle_resets();
            }
        }
        true
    }

    pub(super) fn take_forward_tsn(&mut self, forward: &ForwardTsn<'_>) {
        if self.peer.is_none() || forward.is_interleaved != self.interleaves() {
            return;
        }
        let cumulative = serial::unwrap(self.arrived.cumulative(), forward.cumulative);
        // A peer that jumps further than it may have sent to us is wrong or worse.
        if cumulative.saturating_sub(self.arrived.cumulative()) > u64::from(u16::MAX) {
            return self.violated("a FORWARD-TSN beyond what can have been sent");
        }
        self.arrived.hurry();
        if cumulative <= self.arrived.cumulative() {
            // Old news, perhaps from before a stream began anew.
            return;
        }
        self.arrived.skip_to(cumulative);
        // Further than was asked for when what had come beyond joins it: whatever of that is not in a message by now has
        // lost its beginning, and no later FORWARD-TSN is news.
        self.assembly.skip_to(self.arrived.cumulative());
        for skipped in forward.skipped() {
            if skipped.stream >= self.config.streams {
                continue;
            }
            match skipped.sequence {
                Sequence::Ssn(ssn) => {
                    self.assembly.skip_message(skipped.stream, false, u32::from(ssn), false);
                }
                Sequence::Mid { mid, .. } => {
                    self.assembly.skip_message(skipped.stream, skipped.is_unordered, mid, true);
                }
            }
        }
        self.settle_resets();
    }

    /// The application has taken something: a window that was all but closed is told when it is half open again, so
    /// that the peer does not have to ask.
    pub(super) fn update_window(&mut self) {
        let window = self.window();
        let was_small = self.told_window < self.config.receive_window_bytes / 4;
        if was_small && window >= self.config.receive_window_bytes / 2 && self.peer.is_some() {
            self.arrived.hurry();
        }
    }

    pub(super) fn write_sack(&mut self, writer: &mut Writer<'_>) {
        let window = self.window();
        self.told_window = window;
        let cumulative = wire(self.arrived.cumulative());
        let room = self.search.current().saturating_sub(COMMON_HEADER_BYTES + 16) / 4;
        let duplicates = self.arrived.duplicates();
        let gaps = room.saturating_sub(duplicates.len());
        writer.sack(cumulative, window, self.arrived.gaps().take(gaps), duplicates);
        self.arrived.told();
    }

    fn window(&self) -> u32 {
        let held = u32::try_from(self.assembly.held()).unwrap_or(u32::MAX);
        self.config.receive_window_bytes.saturating_sub(held)
    }

    /// What is taken beyond the window, so that a message can come to its end whatever else is held: one message, while
    /// what waits to be read is not more than that. Reading opens the window then.
    fn slack(&self) -> usize {
        let most = self.config.message_bytes_max;
        if self.assembly.ready_bytes() <= most { most } else { 0 }
    }

    /// What fills the first gap is taken beyond the window by one message: else fragments that wait for it could keep
    /// the window closed for ever.
    fn has_room(&self, tsn: u64, payload: &[u8]) -> bool {
        let window = usize::try_from(self.config.receive_window_bytes).unwrap_or(usize::MAX);
        let is_next = tsn == self.arrived.cumulative() + 1;
        let slack = if is_next { self.slack() } else { 0 };
        self.assembly.held() + Assembly::cost(payload) <= window + slack
    }
}

/// A number of ours as the wire has it.
pub(super) fn wire(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}
