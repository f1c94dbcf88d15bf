//! What a screen would show: a playhead over the parts that have arrived, pure.
//!
//! It begins a set latency behind live at a part where a decoder can start, in all renditions at once, plays at the
//! wall's speed, stands still where the next part of any rendition is missing, and goes on when it is there. Where the
//! show itself has a gap (a publisher went and came back), it goes on behind the gap. A standstill of [`STALL_MS`] or
//! more after the start is a stall.

use std::time::Duration;

use millstream_model::{Instant, WallTime};

/// Shortest standstill that counts as a stall, in milliseconds: what a viewer notices.
pub const STALL_MS: u64 = 200;

/// Milliseconds of media that end a standstill: less would stand still again at once.
const RESUME_MS: u64 = 250;

/// Milliseconds of media that are waited for behind a gap: with less, every late part would be another standstill.
const REFILL_MS: u64 = 1_000;

/// Milliseconds between two parts that are no gap: rounded clocks, frames that differ in length.
const SEAM_MS: u64 = 100;

/// Stretches of media that are remembered of a track. They end at gaps, and those behind the playhead go.
const STRETCHES_MAX: usize = 16;

/// A part that can be played: when it shows and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Program date time of its first sample.
    pub at: WallTime,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// Media without a gap: where it begins and ends, in program date time (milliseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    begin: u64,
    end: u64,
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

/// A standstill that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// When it went on.
    pub until: Instant,
    /// How long it stood still, in milliseconds.
    pub ms: u64,
}

/// The playhead over one or two tracks.
#[derive(Debug)]
pub struct Player {
    /// The media of each track, oldest first.
    tracks: Vec<Vec<Stretch>>,
    state: State,
    stalls: u64,
    stalled_ms: u64,
    last_stall: Option<Stall>,
    started: Option<Instant>,
}

impl Player {
    /// A player of `tracks` tracks, at least one.
    #[must_use]
    pub fn new(tracks: usize) -> Self {
        Self {
            tracks: vec![Vec::new(); tracks.max(1)],
            state: State::Waiting,
            stalls: 0,
            stalled_ms: 0,
            last_stall: None,
            started: None,
        }
    }

    /// The next part of a track, in order, is there.
    pub fn add(&mut self, track: usize, slot: Slot, now: Instant) {
        self.tick(now);
        let (begin, end) = (slot.at.0, slot.at.0 + slot.duration_ms);
        if let Some(track) = self.tracks.get_mut(track) {
            match track.last_mut() {
                Some(last) if begin <= last.end + SEAM_MS => last.end = last.end.max(end),
                _ => track.push(Stretch { begin, end }),
            }
            if track.len() > STRETCHES_MAX {
                track.remove(0);
            }
        }
        self.tick(now);
    }

    /// Moves the playhead to `now`.
    pub fn tick(&mut self, now: Instant) {
        if self.state == State::Waiting
            && let Some(first) = self.playable_from(0)
        {
            self.state = State::Playing { since: now, from: first.begin };
            self.started = Some(now);
        }
        if let State::Playing { since, from } = self.state {
            let end = self.end_of(from);
            if from + now.millis_since(since) >= end {
                // It stopped when the media ended, which may be before this tick.
                let stopped = since + Duration::from_millis(end - from);
                self.state = State::Still { since: stopped.min(now), at: end };
                self.forget_before(end);
            }
        }
        if let State::Still { since, at } = self.state
            && let Some(next) = self.playable_from(at)
        {
            let from = next.begin.max(at);
            let enough = if from > at { REFILL_MS } else { RESUME_MS };
            if next.end >= from + enough {
                let still = now.millis_since(since);
                if still >= STALL_MS {
                    self.stalls += 1;
                    self.stalled_ms += still;
                    self.last_stall = Some(Stall { until: now, ms: still });
                }
                self.state = State::Playing { since: now, from };
            }
        }
    }

    /// The first stretch that all tracks cover and that does not end before `at` is over.
    fn playable_from(&self, at: u64) -> Option<Stretch> {
        let (first, others) = self.tracks.split_first()?;
        let shared = |mut stretch: Stretch, track: &Vec<Stretch>| {
            let touches = |other: &&Stretch| other.begin < stretch.end && other.end > stretch.begin.max(at);
            let other = track.iter().find(touches)?;
            stretch.begin = stretch.begin.max(other.begin);
            stretch.end = stretch.end.min(other.end);
            Some(stretch)
        };
        first
            .iter()
            .filter(|stretch| stretch.end > at)
            .find_map(|stretch| others.iter().try_fold(*stretch, shared))
            .filter(|stretch| stretch.end > at)
    }

    /// Where the media that the playhead is in ends.
    fn end_of(&self, at: u64) -> u64 {
        self.playable_from(at).filter(|stretch| stretch.begin <= at).map_or(at, |stretch| stretch.end)
    }

    fn forget_before(&mut self, at: u64) {
        for track in &mut self.tracks {
            let newest = track.len().saturating_sub(1);
            let old = track.iter().take(newest).take_while(|stretch| stretch.end <= at).count();
            track.drain(..old);
        }
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
        self.playhead(now).map_or(0, |at| self.end_of(at.0) - at.0)
    }

    /// When the playhead reaches the end of what is there, if it moves.
    #[must_use]
    pub fn runs_dry(&self) -> Option<Instant> {
        let State::Playing { since, from } = self.state else { return None };
        Some(since + Duration::from_millis(self.end_of(from) - from))
    }

    /// When the first frame could be shown.
    #[must_use]
    pub const fn started(&self) -> Option<Instant> {
        self.started
    }

    /// The last standstill that is over.
    #[must_use]
    pub const fn last_stall(&self) -> Option<Stall> {
        self.last_stall
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
    fn behind_a_gap_in_the_show_it_plays_on_at_once_and_not_through_the_gap() {
        let mut player = Player::new(2);
        player.add(0, slot(10_000), ms(0));
        player.add(1, slot(10_010), ms(0));
        player.tick(ms(5_000));
        // Four seconds and a half of the show are missing.
        for part in 0..4 {
            player.add(0, slot(15_000 + part * 250), ms(5_500 + part * 250));
            assert_eq!(player.playhead(ms(5_500 + part * 250)), Some(WallTime(10_250)));
            player.add(1, slot(15_020 + part * 250), ms(5_510 + part * 250));
        }
        assert_eq!(player.playhead(ms(6_260)), Some(WallTime(10_250)), "980 ms are not enough yet");
        player.add(0, slot(16_000), ms(6_500));
        player.add(1, slot(16_020), ms(6_510));
        assert_eq!(player.last_stall(), Some(Stall { until: ms(6_500), ms: 6_260 }));
        assert_eq!(player.playhead(ms(6_610)), Some(WallTime(15_130)));
        assert_eq!(player.buffer_ms(ms(6_610)), 1_120);
        assert_eq!(player.runs_dry(), Some(ms(6_500 + 1_230)));
    }

    #[test]
    fn a_gap_whose_other_side_is_there_already_is_no_stall() {
        let mut player = Player::new(1);
        player.add(0, slot(10_000), ms(0));
        for part in 0..4 {
            player.add(0, slot(20_000 + part * 250), ms(10));
        }
        player.tick(ms(250));
        assert_eq!(player.playhead(ms(300)), Some(WallTime(20_050)));
        assert_eq!(player.stalled(ms(300)), (0, 0));
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
