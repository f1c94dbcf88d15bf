//! What a screen would show: a playhead over the parts that have arrived, pure.
//!
//! It begins a set latency behind live at a part where a decoder can start, in all renditions at once, plays at the
//! wall's speed, stands still where the next part of any rendition is missing, and goes on when it is there. A
//! standstill of [`STALL_MS`] or more after the start is a stall.

use millstream_model::{Instant, WallTime};

/// Shortest standstill that counts as a stall, in milliseconds: what a viewer notices.
pub const STALL_MS: u64 = 200;

/// Milliseconds of media that end a standstill: less would stand still again at once.
const RESUME_MS: u64 = 250;

/// A part that can be played: when it shows and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Program date time of its first sample.
    pub at: WallTime,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// What the playhead does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was shown yet.
    Waiting,
    /// Since this moment, from this media time.
    Playing { since: Instant, from: u64 },
    /// Since this moment, at this media time.
    Still { since: Instant, at: u64 },
}

/// The playhead over one or two tracks.
#[derive(Debug)]
pub struct Player {
    /// Where each track's media begins and ends, in program date time (milliseconds). `None` before its first part.
    tracks: Vec<Option<(u64, u64)>>,
    state: State,
    stalls: u64,
    stalled_ms: u64,
    started: Option<Instant>,
}

impl Player {
    /// A player of `tracks` tracks, at least one.
    #[must_use]
    pub fn new(tracks: usize) -> Self {
        Self {
            tracks: vec![None; tracks.max(1)],
            state: State::Waiting,
            stalls: 0,
            stalled_ms: 0,
            started: None,
        }
    }

    /// The next part of a track, in order, is there.
    pub fn add(&mut self, track: usize, slot: Slot, now: Instant) {
        self.tick(now);
        let end = slot.at.0 + slot.duration_ms;
        if let Some(track) = self.tracks.get_mut(track) {
            *track = Some(track.map_or((slot.at.0, end), |(begin, old)| (begin, end.max(old))));
        }
        self.tick(now);
    }

    /// Moves the playhead to `now`.
    pub fn tick(&mut self, now: Instant) {
        let Some((begin, end)) = self.playable() else { return };
        match self.state {
            State::Waiting => {
                if end > begin {
                    self.state = State::Playing { since: now, from: begin };
                    self.started = Some(now);
                }
            }
            State::Playing { since, from } => {
                let at = from + now.millis_since(since);
                if at >= end {
                    // It stopped when the media ended, which may be before this tick.
                    let stopped = since + std::time::Duration::from_millis(end.saturating_sub(from));
                    self.state = State::Still { since: stopped.min(now), at: end };
                }
            }
            State::Still { since, at } => {
                if end >= at + RESUME_MS {
                    let still = now.millis_since(since);
                    if still >= STALL_MS {
                        self.stalls += 1;
                        self.stalled_ms += still;
                    }
                    self.state = State::Playing { since: now, from: at };
                }
            }
        }
    }

    /// The span that all tracks cover.
    fn playable(&self) -> Option<(u64, u64)> {
        let mut span: Option<(u64, u64)> = None;
        for track in &self.tracks {
            let (begin, end) = (*track)?;
            span = Some(span.map_or((begin, end), |(b, e)| (b.max(begin), e.min(end))));
        }
        span
    }

    /// Program date time at the playhead.
    #[must_use]
    pub fn playhead(&self, now: Instant) -> Option<WallTime> {
        match self.state {
            State::Waiting => None,
            State::Playing { since, from } => Some(WallTime(from + now.millis_since(since))),
            State::Still { at, .. } => Some(WallTime(at)),
        }
    }

    /// Milliseconds of media ahead of the playhead.
    #[must_use]
    pub fn buffer_ms(&self, now: Instant) -> u64 {
        let end = self.playable().map_or(0, |(_, end)| end);
        self.playhead(now).map_or(0, |at| end.saturating_sub(at.0))
    }

    /// When the playhead reaches the end of what is there, if it moves.
    #[must_use]
    pub fn runs_dry(&self) -> Option<Instant> {
        let State::Playing { since, from } = self.state else { return None };
        let (_, end) = self.playable()?;
        Some(since + std::time::Duration::from_millis(end.saturating_sub(from)))
    }

    /// When the first frame could be shown.
    #[must_use]
    pub const fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Stalls and milliseconds stalled until `now`, one that still lasts included.
    #[must_use]
    pub fn stalled(&self, now: Instant) -> (u64, u64) {
        match self.state {
            State::Still { since, .. } if now.millis_since(since) >= STALL_MS => {
                (self.stalls + 1, self.stalled_ms + now.millis_since(since))
            }
            _ => (self.stalls, self.stalled_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(at: u64) -> Slot {
        Slot { at: WallTime(at), duration_ms: 250 }
    }

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn it_starts_when_every_track_has_media() {
        let mut player = Player::new(2);
        player.add(0, slot(10_000), ms(0));
        assert_eq!(player.started(), None);
        player.add(1, slot(10_020), ms(30));
        assert_eq!(player.started(), Some(ms(30)));
        assert_eq!(player.playhead(ms(130)), Some(WallTime(10_120)));
    }

    #[test]
    fn a_late_part_is_a_stall_of_the_time_it_was_late() {
        let mut player = Player::new(1);
        player.add(0, slot(10_000), ms(0));
        player.add(0, slot(10_250), ms(1_000));
        assert_eq!(player.stalled(ms(1_000)), (1, 750));
        assert_eq!(player.playhead(ms(1_100)), Some(WallTime(10_350)));
    }

    #[test]
    fn a_short_standstill_is_none() {
        let mut player = Player::new(1);
        player.add(0, slot(10_000), ms(0));
        player.add(0, slot(10_250), ms(400));
        assert_eq!(player.stalled(ms(400)), (0, 0));
    }

    #[test]
    fn a_stall_that_lasts_counts_already() {
        let mut player = Player::new(1);
        player.add(0, slot(10_000), ms(0));
        player.tick(ms(5_000));
        assert_eq!(player.stalled(ms(5_000)), (1, 4_750));
    }
}
